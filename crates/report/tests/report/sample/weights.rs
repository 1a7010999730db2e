//! The census and the probe of the model that does not exist. Of its calm sibling: the same, found nothing.

use sinkscope_anatomy::census::prediction::{NamedScore, Prediction, PredictionScore, RankedPair, Ranking};
use sinkscope_anatomy::census::steering::{Steering, SteeringLayer};
use sinkscope_anatomy::census::units::HiddenUnit;
use sinkscope_anatomy::census::{
    AcrossBlocks, BlockCensus, Census, CensusTiming, ChannelNorm, SharedTrigger, Spectrum,
};
use sinkscope_anatomy::probe::{Probe, ProbedItem, ProbedToken};

use super::{HEADS, HOSTILE, LAYERS};

const D_MODEL: usize = 10;

pub fn census(found: bool) -> Census {
    let feed_forward = || (2..=2 * LAYERS).step_by(2);
    let frobenius = |block: usize| -> Vec<f64> {
        (0..D_MODEL)
            .map(|channel| if channel == 7 { 6_000.0 / block as f64 } else { 2.0 + channel as f64 / 4.0 })
            .collect()
    };
    let block = |block: usize| {
        let norms = frobenius(block);
        let top = [7, 9, 8].map(|channel| ChannelNorm { channel, frobenius: norms[channel] });
        let symmetric = norms.iter().map(|norm| norm * 0.75).collect();
        BlockCensus { block, frobenius: norms, symmetric, median: 3.0, top: top.to_vec() }
    };
    let spectrum = |block: usize| Spectrum {
        block,
        channel: 7,
        frobenius: 6_000.0 / block as f64,
        eigenvalues: vec![-4_000.0 / block as f64, 12.5, -3.0],
        residual: 1e-9,
        dominance: (block > 2).then_some(320.0 / block as f64),
        units: vec![HiddenUnit { unit: 11, down: -0.5, gate_norm: 30.0, up_norm: 29.0, collinearity: -0.97 }],
        trigger: (0..D_MODEL).map(|input| f64::from(u8::from(input == 3))).collect(),
    };
    let pair = |block, channel, score| RankedPair { block, channel, score };
    Census {
        coefficient: Some(0.5),
        blocks: feed_forward().map(block).collect(),
        spectra: feed_forward().map(spectrum).collect(),
        shared_trigger: vec![SharedTrigger {
            block: 6,
            channels: vec![7, 3],
            cosines: vec![vec![1.0, 0.98], vec![0.98, 1.0]],
        }],
        across_blocks: found.then(|| AcrossBlocks {
            channel: 7,
            blocks: vec![6, 20],
            cosines: vec![vec![1.0, 0.4], vec![0.4, 1.0]],
        }),
        steering: found.then(|| Steering {
            block: 6,
            channel: 7,
            sample: 64,
            embedding: 0.026,
            layers: (0..3)
                .map(|layer| SteeringLayer {
                    layer,
                    after_attention: 0.1 * (layer + 1) as f64,
                    after_feed_forward: (layer < 2).then_some(0.346),
                    attention_alone: 0.05,
                    heads: (0..HEADS).map(|head| 0.02 * head as f64 - 0.03).collect(),
                })
                .collect(),
        }),
        prediction: Some(Prediction {
            peak: found.then(|| pair(6, 7, -12_100.0)),
            step_up: if found { vec![6] } else { vec![] },
            step_down: if found { vec![20, 22] } else { vec![] },
            channels: if found { vec![7, 3, 1, 9, 8, 2, 4, 5, 0] } else { vec![] },
            rankings: [("norm", 20), ("walk", 6)]
                .map(|(name, block)| Ranking {
                    name: String::from(name),
                    pairs: vec![pair(block, 7, 300.0), pair(6, 3, -1.5)],
                })
                .to_vec(),
        }),
        timing: CensusTiming::default(),
    }
}

pub fn prediction_score() -> PredictionScore {
    let score = |name: &str, precision| NamedScore { name: name.to_owned(), k: 3, precision };
    PredictionScore { step_blocks: vec![score("norm", 1.0 / 3.0), score("walk", 1.0)], channels: Some(0.8) }
}

pub fn probe(found: bool) -> Probe {
    let items: Vec<ProbedItem> = (0..20)
        .map(|id| ProbedItem {
            text: if id == 1 { HOSTILE.to_owned() } else { format!("word{id}") },
            value: if id == 1 { 4.25 } else { 11_000.0 + id as f32 },
            channel: if id == 1 { 2 } else { 7 },
            spikes: id != 1,
        })
        .collect();
    let token = |id: u32, text: &str, value| ProbedToken { id, text: text.to_owned(), value };
    Probe {
        block: found.then_some(6),
        threshold: found.then_some(360.25),
        typical_token_largest: found.then_some(18.0125),
        position: 0,
        vocabulary: 20_000,
        spiking: found.then_some(19_999),
        share: found.then_some(0.999_95),
        lowest: if found { vec![token(1, HOSTILE, 4.25), token(0, "", 11_000.0)] } else { vec![] },
        highest: if found { vec![token(19, "word19", 11_019.0), token(18, "word18", 11_018.0)] } else { vec![] },
        items: if found { items } else { vec![] },
    }
}
