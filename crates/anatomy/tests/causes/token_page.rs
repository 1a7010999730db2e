//! The text itself, with attention in full.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sinkscope_anatomy::examination::{AnatomyRequest, Surroundings, examine};
use sinkscope_anatomy::token_page::TokenPage;
use sinkscope_model::tap::Point;
use sinkscope_sources::data::TokenBatch;

use crate::geometry::Full;
use crate::recorded::{Recorded, batch, model};

fn page(family: &str, batch: &TokenBatch) -> TokenPage {
    let request = AnatomyRequest { tokens: true, ..AnatomyRequest::nothing() };
    let around = Surroundings { memory: 1 << 30, text: &|id| format!("<{id}>"), progress: &|_| {} };
    let anatomy = examine(&model(family), batch, &request, around).expect("an examination").anatomy;
    assert!(anatomy.sinks.is_none() && anatomy.spikes.is_none(), "not asked for");
    anatomy.tokens.expect("asked for")
}

/// Block, channel and value of the largest magnitude after block 0, the first of equals.
fn naive_largest(recorded: &Recorded, token: usize) -> (usize, usize, f64) {
    let mut best = (1, 0, 0.0_f64);
    for block in 1..=recorded.model.architecture().blocks() {
        for (channel, value) in recorded.row(Point::Residual, block, token).into_iter().enumerate() {
            if value.abs() > best.2.abs() {
                best = (block, channel, value);
            }
        }
    }
    best
}

fn check(family: &str, sequences: usize, seq_len: usize, shape: (usize, usize)) {
    let batch = batch(sequences, seq_len);
    let recorded = Recorded::of(family, batch.clone());
    let page = page(family, &batch);
    let a = recorded.model.architecture();
    let (layers, heads) = (a.layer_count(), a.most_heads());
    assert_eq!((page.sequences, page.positions, page.layers, page.heads), (shape.0, shape.1, layers, heads));
    assert_eq!(page.tokens.len(), shape.0 * shape.1, "{family}");
    let places = (0..shape.0).flat_map(|sequence| (0..shape.1).map(move |position| (sequence, position)));
    for (token, (sequence, position)) in page.tokens.iter().zip(places) {
        assert_eq!((token.sequence, token.position), (sequence, position));
        let index = sequence * seq_len + position;
        assert_eq!((token.id, &token.text), (batch.tokens[index], &format!("<{}>", batch.tokens[index])));
        let (block, channel, value) = naive_largest(&recorded, index);
        assert_eq!((token.block, token.channel, f64::from(token.largest)), (block, channel, value), "{family}");
    }
    let bytes = STANDARD.decode(&page.received).expect("base64");
    assert_eq!(bytes.len(), page.tokens.len() * layers * heads);
    for sequence in 0..shape.0 {
        for (layer, head) in (0..layers).flat_map(|layer| (0..heads).map(move |head| (layer, head))) {
            let full = Full::new(&recorded, layer, head, sequence);
            for position in 0..shape.1 {
                let alpha = full.weights.iter().map(|row| row[position]).sum::<f64>() / seq_len as f64;
                let byte = bytes[((sequence * shape.1 + position) * layers + layer) * heads + head];
                let off = 255.0 * alpha.sqrt() - f64::from(byte);
                assert!(off.abs() < 0.501, "{family}: {sequence}, {position}, {layer}.{head}: {byte} for {alpha}");
                // Half a step of q, as the doc has it: alpha is off by at most sqrt(alpha) / 255 and a little.
                let decoded = (f64::from(byte) / 255.0).powi(2);
                assert!((decoded - alpha).abs() < alpha.sqrt() / 250.0 + 1e-5);
            }
        }
    }
}

#[test]
fn is_that_of_full_attention() {
    // Sequences of two chunks, all on the page.
    for family in ["llama", "gemma2", "gpt-neox"] {
        check(family, 2, 301, (2, 301));
    }
    // The last sequence finds no room.
    check("qwen3", 4, 301, (3, 301));
    // A sequence that is cut: what queries beyond the page give counts.
    check("llama", 1, 1201, (1, 1024));
}

#[test]
fn bytes_of_a_sequence_add_up_to_its_attention() {
    let page = page("mistral", &batch(1, 13));
    let bytes = STANDARD.decode(&page.received).expect("base64");
    for head in 0..page.layers * page.heads {
        let alpha = bytes.iter().skip(head).step_by(page.layers * page.heads);
        // Every query gives 1, all of them together T, of which alpha is a T-th.
        let sum: f64 = alpha.map(|&q| (f64::from(q) / 255.0).powi(2)).sum();
        assert!((sum - 1.0).abs() < 0.02, "{sum}");
    }
}
