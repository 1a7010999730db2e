//! What explains the spikes and sinks of the model that does not exist. Of its calm sibling: the same, found nothing.

use sinkscope_anatomy::regularities::{Regularity, Threshold};
use sinkscope_anatomy::results::{Picture, PicturePoint, SampleSize, Silu, SpikingElsewhere};
use sinkscope_anatomy::sample::amplifier::{Amplifier, AmplifierPoint, AmplifierTokens};
use sinkscope_anatomy::sample::dimension::Dimension;
use sinkscope_anatomy::sample::embedding::{SelfSinking, SelfSinkingTokens};
use sinkscope_anatomy::sample::geometry::{Geometry, HeadGeometry, KeyDimensions};
use sinkscope_anatomy::sample::normalisation::{Normalisation, NormalisedBlock, NormalisedTokens, Sparsity};

use super::{HEADS, HOSTILE, LAYERS};

pub fn regularities(found: bool) -> Vec<Regularity> {
    let verdict = |name: &str, quantity: &str, threshold, value: f64, holds| Regularity {
        name: name.to_owned(),
        holds: found && holds,
        value: found.then_some(value),
        quantity: quantity.to_owned(),
        threshold,
    };
    vec![
        verdict(
            "only in intermediate layers",
            "what is left at the end of a long sentence about it, of the peak",
            Threshold::AtMost(0.1),
            0.156_25,
            false,
        ),
        verdict("which spike together", "share of tokens", Threshold::AtLeast(0.9), 0.95, true),
    ]
}

pub fn elsewhere() -> Vec<SpikingElsewhere> {
    let item = |id: u32, text: &str, spiking| SpikingElsewhere {
        id,
        text: text.to_owned(),
        occurrences: 100 + id as usize,
        spiking,
        first: spiking / 2,
        first_occurrence: spiking / 3,
        least_position: 4,
    };
    let rare = (3..9).map(|id| item(id, ".", 1));
    [item(40, HOSTILE, 12), item(41, "", 9), item(42, "The", 3)].into_iter().chain(rare).collect()
}

pub fn sample(found: bool) -> SampleSize {
    SampleSize { sequences: 8, seq_len: 64, spike_tokens: if found { 9 } else { 0 } }
}

pub fn silu(found: bool) -> Silu {
    let spike = AmplifierTokens {
        tokens: 9,
        cosine: 0.8321,
        norm_ratio: 0.7654,
        bilinear_error: Some(0.0134),
        output: -11_990.0,
        rank_one: Some(-12_100.0),
        rank_one_error: Some(0.0092),
        trigger_cosine: Some(0.596),
    };
    let other = AmplifierTokens {
        tokens: 503,
        cosine: 0.41,
        norm_ratio: 0.32,
        bilinear_error: Some(24.332),
        output: 0.0312,
        rank_one: Some(1.5),
        rank_one_error: Some(9.99),
        trigger_cosine: None,
    };
    let point = |position, spike, cosine: f64| AmplifierPoint {
        sequence: 1,
        position,
        spike,
        cosine,
        norm_ratio: cosine - 0.0625,
    };
    let block = |stage, block, eigenvalue, spike| Amplifier {
        stage,
        block,
        channel: 7,
        eigenvalue,
        spike,
        other: Some(other.clone()),
        points: vec![point(0, true, 0.8321), point(5, false, 0.41)],
    };
    Silu { blocks: if found { vec![block(1, 6, Some(-27.25), Some(spike)), block(2, 10, None, None)] } else { vec![] } }
}

pub fn normalisation(found: bool) -> Normalisation {
    let block = |block: usize| {
        let inside = found && (6..20).contains(&block);
        let tokens = |tokens, top3_energy, cosine: f64| NormalisedTokens {
            tokens,
            largest: 22.5,
            plain: Sparsity { top3_energy, cosine_mean: Some(cosine), cosine_min: Some(cosine - 0.01) },
            with_gamma: (block != 2 * LAYERS).then_some(Sparsity {
                top3_energy: top3_energy / 2.0,
                cosine_mean: Some(cosine - 0.002),
                cosine_min: None,
            }),
        };
        NormalisedBlock {
            block,
            bound: 24.0,
            spike: found.then(|| tokens(9, if inside { 0.9931 } else { 0.25 }, if inside { 0.99996 } else { 0.8638 })),
            other: Some(tokens(503, 0.031, 0.125)),
        }
    };
    Normalisation { blocks: (0..=2 * LAYERS).map(block).collect() }
}

pub fn geometry(found: bool) -> Geometry {
    let dimensions = |rank95: usize| {
        let dimension = Some(Dimension { participation_ratio: rank95 as f64 * 0.75, rank95 });
        KeyDimensions { uncentred: dimension, unrotated_uncentred: dimension, ..KeyDimensions::default() }
    };
    let head = |layer, head| HeadGeometry {
        layer,
        head,
        sink: found && layer > 2,
        sink_is_spike: if found { 0.9 } else { 0.0 },
        key_rank95_spike: found.then_some(1),
        key_rank95_other: Some(20 + head),
        key_dimension_spike: if found { dimensions(1) } else { KeyDimensions::default() },
        key_dimension_other: dimensions(20 + head),
        logit_gap: Some(layer as f64 - 2.0),
        logit_gap_deviation: Some(1.5),
        query_to_sink_key: Some(0.43),
        query_to_other_keys: Some(-0.02),
        key_norm_sink: 6.03,
        key_norm_other: 16.24,
        value_norm_sink: 1.61,
        value_norm_other: 7.47,
        distance: 22.6,
        distance_beside_sink: (layer > 0).then_some(12.2),
    };
    Geometry { heads: (0..LAYERS * HEADS).map(|index| head(index / HEADS, index % HEADS)).collect() }
}

pub fn self_sinking(found: bool) -> SelfSinking {
    let tokens = |tokens, to_self: f64| SelfSinkingTokens {
        tokens,
        embedding_gamma_cosine: (tokens > 9).then_some(0.25),
        post_norm_magnitude: (tokens > 9).then_some(4.5),
        to_self: (0..3).map(|layer| to_self / f64::from(layer + 1)).collect(),
    };
    SelfSinking {
        spike: found.then(|| tokens(2, 0.6)),
        delimiter: found.then(|| tokens(31, 0.4)),
        other: Some(tokens(472, 0.1)),
    }
}

pub fn pictures() -> Vec<Picture> {
    let point = |key, position| PicturePoint { key, sequence: 1, position, spike: position == 0, at: [1.5, -0.25] };
    vec![Picture { layer: 3, head: 2, points: vec![point(false, 0), point(true, 0), point(true, 1)] }]
}
