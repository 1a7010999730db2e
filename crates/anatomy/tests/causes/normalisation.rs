//! What normalisation makes of spikes.

use sinkscope_anatomy::sample::normalisation::{NormalisationTap, Sparsity};
use sinkscope_model::architecture::ResidualLayout;
use sinkscope_model::blocks::Norm;
use sinkscope_model::tap::Point;

use crate::recorded::{Recorded, kinds};
use crate::{close, close_within, dot, mean, norm};

fn naive(rows: &[Vec<f64>]) -> Sparsity {
    let energy = |row: &Vec<f64>| {
        let mut squares: Vec<f64> = row.iter().map(|value| value * value).collect();
        squares.sort_by(|a, b| b.total_cmp(a));
        squares[..3].iter().sum::<f64>() / squares.iter().sum::<f64>()
    };
    let mut cosines = Vec::new();
    for (index, a) in rows.iter().enumerate() {
        cosines.extend(rows[..index].iter().map(|b| dot(a, b) / (norm(a) * norm(b))));
    }
    Sparsity {
        top3_energy: mean(&rows.iter().map(energy).collect::<Vec<_>>()),
        cosine_mean: Some(mean(&cosines)),
        cosine_min: cosines.into_iter().min_by(f64::total_cmp),
    }
}

fn check(what: &str, ours: Sparsity, expected: Sparsity) {
    close(what, ours.top3_energy, expected.top3_energy);
    close_within(what, ours.cosine_mean.expect("pairs"), expected.cosine_mean.expect("pairs"), 1.0);
    close_within(what, ours.cosine_min.expect("pairs"), expected.cosine_min.expect("pairs"), 1.0);
}

/// The norm that reads the residual after a block.
fn reader(recorded: &Recorded, block: usize) -> Option<Norm<f64>> {
    let model = &recorded.model;
    let a = model.architecture();
    if block == a.blocks() {
        return model.final_norm().expect("finite");
    }
    if a.layer(0).residual == ResidualLayout::Parallel && block % 2 == 1 {
        return None;
    }
    if (block + 1) % 2 == 1 {
        model.attention_block(block / 2).expect("finite").input_norm
    } else {
        model.feed_forward_block(block / 2).expect("finite").input_norm
    }
}

#[test]
fn is_its_definition_block_by_block() {
    for family in ["llama", "gemma2", "olmo2", "gpt2", "gpt-neox"] {
        let recorded = Recorded::new(family);
        let kinds = kinds();
        let mut tap = NormalisationTap::new(&recorded.model, &kinds).expect("finite");
        recorded.run(&mut tap);
        let found = tap.finish();
        let a = recorded.model.architecture();
        assert_eq!(found.blocks.len(), a.blocks() + 1);
        for (block, found) in found.blocks.iter().enumerate() {
            assert_eq!((found.block, found.bound), (block, (a.d_model as f64).sqrt()));
            let reader = reader(&recorded, block);
            for (spike, ours) in [(true, &found.spike), (false, &found.other)] {
                let what = &format!("{family}, block {block}, {spike}");
                let ours = ours.as_ref().expect("tokens of both kinds");
                let tokens: Vec<usize> = (0..recorded.tokens()).filter(|&token| kinds.of(spike)[token]).collect();
                assert_eq!(ours.tokens, tokens.len());
                let rows = |weights: Option<&Norm<f64>>| -> Vec<Vec<f64>> {
                    let residual = |&token: &usize| recorded.row(Point::Residual, block, token);
                    tokens.iter().map(|token| recorded.normalised(&residual(token), weights)).collect()
                };
                let plain = rows(None);
                let largest = plain.iter().flatten().fold(0.0_f64, |largest, value| largest.max(value.abs()));
                close(what, ours.largest, largest);
                assert!(ours.largest <= found.bound);
                check(what, ours.plain, naive(&plain));
                assert_eq!(ours.with_gamma.is_some(), reader.is_some(), "{what}");
                if let Some((ours, reader)) = ours.with_gamma.zip(reader.as_ref()) {
                    check(what, ours, naive(&rows(Some(reader))));
                }
            }
        }
    }
}
