//! The census of whole models: tiny random ones of several families.

use std::path::Path;

use sinkscope_anatomy::census::steering::{Trigger, steering};
use sinkscope_anatomy::census::{Census, CensusRequest, Walk, census};
use sinkscope_model::Model;
use sinkscope_model::architecture::NormKind;
use sinkscope_model::pass::{Continuations, Step};

const REQUEST: CensusRequest =
    CensusRequest { channels: vec![], full: false, blocks: None, first: None, walk: Walk::Predict, seed: 0 };

fn model(family: &str) -> Model {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/fixtures/families").join(family);
    Model::open(folder.to_str().expect("UTF-8")).expect("a fixture")
}

fn take(model: &Model, request: &CensusRequest) -> Census {
    census(model, request, &|_, _| {}).expect("a census")
}

#[test]
fn every_block_and_channel_is_counted() {
    for family in ["llama", "gemma2", "olmo2", "gpt2", "gpt-neox"] {
        let model = model(family);
        let a = model.architecture();
        let found = take(&model, &REQUEST);
        let blocks: Vec<usize> = found.blocks.iter().map(|block| block.block).collect();
        assert_eq!(blocks, (2..=a.blocks()).step_by(2).collect::<Vec<_>>(), "{family}");
        for block in &found.blocks {
            assert_eq!((block.frobenius.len(), block.symmetric.len()), (a.d_model, a.d_model));
            let largest = block.frobenius.iter().copied().fold(0.0, f64::max);
            assert_eq!(block.frobenius[block.top[0].channel], largest);
            for (channel, symmetric) in block.symmetric.iter().enumerate() {
                assert!(*symmetric <= block.frobenius[channel] * (1.0 + 1e-6), "{family}: a part exceeds the whole");
            }
            for top in &block.top {
                let spectrum = found.spectrum(block.block, top.channel).expect("a spectrum");
                let squares: f64 = spectrum.eigenvalues.iter().map(|value| value * value).sum();
                assert!(squares.sqrt() <= block.symmetric[top.channel] * (1.0 + 1e-5), "{family}");
                assert!(spectrum.residual < 1e-4, "{family}: {}", spectrum.residual);
            }
        }
        assert_eq!(found.coefficient == Some(1.0), a.layer(0).feed_forward.dense().is_some_and(|dense| dense.gated));
    }
}

#[test]
fn named_channels_and_full_spectra() {
    let model = model("llama");
    let request = CensusRequest { channels: vec![3, 9], full: true, blocks: Some(vec![4]), ..REQUEST };
    let found = take(&model, &request);
    assert_eq!(found.blocks.len(), 1);
    for channel in [3, 9] {
        let spectrum = found.spectrum(4, channel).expect("asked for");
        assert_eq!(spectrum.eigenvalues.len(), model.architecture().d_model);
        let squares: f64 = spectrum.eigenvalues.iter().map(|value| value * value).sum();
        assert!((squares.sqrt() / found.blocks[0].symmetric[channel] - 1.0).abs() < 1e-5);
        assert!(found.spectrum(2, channel).is_none());
    }
    let refused = |request: &CensusRequest| census(&model, request, &|_, _| {}).expect_err("refused").to_string();
    assert!(refused(&CensusRequest { channels: vec![16], ..REQUEST }).contains("channel 16 does not exist"));
    assert!(
        refused(&CensusRequest { blocks: Some(vec![3]), ..REQUEST }).contains("block 3 is not a feed-forward block")
    );
}

#[test]
fn threads_change_no_bit() {
    let model = model("gemma3");
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        let mut found = pool.install(|| take(&model, &REQUEST));
        found.timing = sinkscope_anatomy::census::CensusTiming::default();
        found
    };
    let one = run(1);
    for threads in [2, 4] {
        assert_eq!(run(threads), one);
    }
}

/// Random weights amplify nothing.
#[test]
fn random_weights_are_predicted_no_spike() {
    for family in ["llama", "qwen3", "gemma3", "olmo2", "gpt2", "gpt-neox"] {
        let found = take(&model(family), &REQUEST);
        let prediction = found.prediction.as_ref().expect("asked for");
        assert!(prediction.peak.is_none(), "{family}: {:?}", prediction.peak);
        assert!(prediction.step_up.is_empty() && prediction.channels.is_empty() && found.steering.is_none());
    }
}

/// Against what the model itself computes, token by token.
#[test]
fn steering_is_what_tokens_at_position_0_do() {
    for family in ["llama", "qwen2", "gpt-neox-sequential"] {
        let model = model(family);
        let d = model.architecture().d_model;
        let ids: Vec<u32> = (0..model.architecture().vocabulary as u32).collect();
        // Orthogonal to the mean direction, so that a LayerNorm's centring does not change cosines.
        let mut direction: Vec<f64> = (1..=d).map(|i| (i * i) as f64).collect();
        let mean = direction.iter().sum::<f64>() / d as f64;
        for entry in &mut direction {
            *entry -= mean;
        }
        let length = direction.iter().map(|entry| entry * entry).sum::<f64>().sqrt();
        for entry in &mut direction {
            *entry /= length;
        }
        let trigger = Trigger { block: 4, channel: 0, direction: direction.clone() };
        let found = steering(&model, &ids, &trigger).expect("a walk");

        let mut residuals = Vec::new();
        let mut keep = |step: &Step<'_>| residuals.push(step.residual.to_vec());
        Continuations::new(&model, &[], u64::MAX).run(&ids, 3, &mut keep).expect("a walk");
        let layer_norm = model.architecture().norm == NormKind::LayerNorm;
        let cosine = |row: &[f32]| {
            let mean = if layer_norm { row.iter().sum::<f32>() / d as f32 } else { 0.0 };
            let row: Vec<f64> = row.iter().map(|value| f64::from(value - mean)).collect();
            let along: f64 = row.iter().zip(&direction).map(|(value, s)| value * s).sum();
            along / row.iter().map(|value| value * value).sum::<f64>().sqrt()
        };
        let mean_absolute =
            |residual: &[f32]| residual.chunks_exact(d).map(|row| cosine(row).abs()).sum::<f64>() / ids.len() as f64;
        assert_eq!(found.layers.len(), 2);
        let expected = [mean_absolute(&residuals[0]), mean_absolute(&residuals[1]), mean_absolute(&residuals[2])];
        let ours = [
            found.embedding,
            found.layers[0].after_attention,
            found.layers[0].after_feed_forward.expect("not the trigger's layer"),
        ];
        assert!(ours.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{family}: {ours:?} {expected:?}");
        assert!((found.layers[1].after_attention - mean_absolute(&residuals[3])).abs() < 1e-6);
        assert_eq!(found.layers[1].after_feed_forward, None);
        // Before any feed-forward block both walks are one.
        assert!((found.layers[0].attention_alone - found.layers[0].after_attention).abs() < 1e-6);

        // Heads and the bias of W_O together are what the block adds.
        let bias = model.attention_block::<f32>(1).expect("a block").output.bias;
        let bias = bias.map_or(0.0, |bias| along(&bias, &direction));
        let heads: f64 = found.layers[1].heads.iter().sum();
        let rows = residuals.iter().map(|residual| residual.chunks_exact(d).collect::<Vec<_>>()).collect::<Vec<_>>();
        let added: f64 = (0..ids.len())
            .map(|token| {
                let (before, after) = (rows[2][token], rows[3][token]);
                let sign = if along(after, &direction) < 0.0 { -1.0 } else { 1.0 };
                let length = before.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
                sign * (along(after, &direction) - along(before, &direction) - bias) / length
            })
            .sum::<f64>()
            / ids.len() as f64;
        assert!((heads - added).abs() < 1e-5, "{family}: {heads} {added}");
    }
}

fn along(row: &[f32], direction: &[f64]) -> f64 {
    row.iter().zip(direction).map(|(value, s)| f64::from(*value) * s).sum()
}
