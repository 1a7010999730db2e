//! An examination built by hand, of a model that does not exist: 12 layers of 4 heads, two stages.

mod causes;
mod weights;

use std::collections::BTreeMap;

use sinkscope_anatomy::head_room::{Activation, ActivationKind, HeadRoom};
use sinkscope_anatomy::not_finite::{NonFiniteValue, NotFinite};
use sinkscope_anatomy::positions::AlphaByPosition;
use sinkscope_anatomy::results::{
    Anatomy, BlockKind, BlockLifecycle, LargestAt, Lifecycle, OtherDefinition, OutputLifecycle, ResidualLifecycle,
    Sinks, SpikeChannel, SpikeToken, Spikes, Stage, StageOutput, TopChannel,
};
use sinkscope_anatomy::token_page::{SCALE, ShownToken, TokenPage};
use sinkscope_report::envelope::{DataIdentity, Envelope, ModelIdentity, PassTiming, Timing, VERSION};
use sinkscope_surgery::positions::ByPosition;
use sinkscope_surgery::results::{
    Advice, Baseline, Comparison, LinearLayer, PerplexityAfter, PositionNll, SpikePlace, Sweep, SweepStep, Variant,
};

const LAYERS: usize = 12;
const HEADS: usize = 4;

/// With a token that would clear the screen.
pub const HOSTILE: &str = "\u{1b}[2J,\"\n";

fn top(channel: usize, value: f32, token: &str) -> TopChannel {
    TopChannel { channel, value, sequence: 1, position: 0, token: token.to_owned() }
}

fn block(block: usize) -> BlockLifecycle {
    let largest = match block {
        0 => 1.25,
        1..6 => 8.5 + block as f64,
        6..20 => 12_000.0 - block as f64,
        _ => 90.0,
    };
    let top = |scale: f32| vec![top(7, -largest as f32 * scale, HOSTILE), top(3, 1.5 * scale, "é語"), top(1, 0.1, "")];
    BlockLifecycle {
        block,
        kind: match block {
            0 => BlockKind::Embedding,
            _ if block % 2 == 1 => BlockKind::Attention,
            _ => BlockKind::FeedForward,
        },
        residual: ResidualLifecycle {
            top: top(1.0),
            largest_mean: largest,
            typical_token_largest: 0.75 + block as f64,
            median_abs: 0.08,
            spike_tokens: if (6..20).contains(&block) { 3 } else { 0 },
            massive_tokens: 2,
        },
        output: (block > 0).then(|| OutputLifecycle { top: top(0.5) }),
    }
}

fn token(sequence: usize, position: usize, text: &str) -> SpikeToken {
    SpikeToken { sequence, position, id: 40 + text.len() as u32, text: text.to_owned(), value: -11_990.5 }
}

pub fn stage() -> Stage {
    let channel = |channel, mean, ratio_variation| SpikeChannel { channel, mean, ratio_variation, share: 1.0 };
    Stage {
        channel: 7,
        first_block: 6,
        last_block: 19,
        step_up: vec![6],
        step_down: vec![20, 22],
        outputs: vec![StageOutput { block: 6, mean: -11_990.0 }, StageOutput { block: 20, mean: 9_000.5 }],
        peak_block: 6,
        peak: -11_994.0,
        channels: vec![channel(7, -11_994.0, 0.0), channel(3, 1_002.25, 0.01)],
        tokens: vec![token(0, 0, "The"), token(1, 0, HOSTILE), token(1, 5, "The")],
        share_at_position_0: 1.0,
        rate_elsewhere: 0.004,
        elsewhere: causes::elsewhere(),
    }
}

fn weaker_stage() -> Stage {
    Stage {
        channel: 3,
        first_block: 10,
        last_block: 11,
        step_up: vec![],
        step_down: vec![],
        outputs: vec![],
        peak_block: 10,
        peak: 85.5,
        channels: vec![SpikeChannel { channel: 3, mean: 85.5, ratio_variation: 0.0, share: 1.0 }],
        tokens: vec![token(1, 9, "")],
        share_at_position_0: 0.0,
        rate_elsewhere: 0.001,
        elsewhere: vec![],
    }
}

/// A spike of the last block alone.
fn late() -> Stage {
    Stage {
        channel: 11,
        first_block: 24,
        last_block: 24,
        step_up: vec![24],
        outputs: vec![StageOutput { block: 24, mean: 610.25 }],
        peak_block: 24,
        peak: 612.5,
        channels: vec![SpikeChannel { channel: 11, mean: 612.5, ratio_variation: 0.0, share: 1.0 }],
        ..weaker_stage()
    }
}

/// Of a model whose largest activation is this, in the residual after block 6.
pub fn fp16(largest: f32) -> HeadRoom {
    let activation = Activation {
        of: ActivationKind::Residual,
        block: 6,
        channel: 7,
        sequence: 1,
        position: 0,
        id: 43,
        text: HOSTILE.to_owned(),
        value: -largest,
    };
    HeadRoom {
        limit: 65_504.0,
        factor: Some(65_504.0 / f64::from(largest)),
        overflow: Some(activation.clone()).filter(|_| largest > 65_504.0),
        largest: Some(activation),
    }
}

pub fn sinks() -> Sinks {
    let grid = |scale: f64| -> Vec<Vec<f64>> {
        (0..LAYERS).map(|layer| (0..HEADS).map(|head| scale * (layer + head) as f64 / 15.0).collect()).collect()
    };
    let by_layer: Vec<f64> = (0..LAYERS).map(|layer| layer as f64 / 11.0).collect();
    let other = |ratio| OtherDefinition {
        ratio,
        ratio_ci95: Some([ratio - 0.02, ratio + 0.02]),
        mean_max_alpha: 0.45,
        by_layer: by_layer.clone(),
        heads: grid(0.95),
    };
    Sinks {
        definition: "paper".into(),
        epsilon: 0.3,
        ratio: 0.7993,
        ratio_ci95: Some([0.781, 0.8125]),
        mean_max_alpha: 0.4321,
        mean_max_alpha_ci95: Some([0.43, 0.44]),
        by_layer_ci95: Some(by_layer.iter().map(|ratio| [ratio * 0.9, *ratio]).collect()),
        heads_ci95: Some(
            grid(1.0).into_iter().map(|row| row.into_iter().map(|a| [a - 0.01, a + 0.01]).collect()).collect(),
        ),
        heads: grid(1.0),
        position_0: grid(0.9),
        head_ratio: grid(1.0),
        entropy: grid(2.0),
        to_self: grid(0.1),
        by_position: AlphaByPosition {
            first: vec![0, 1, 64],
            layers: (0..LAYERS).map(|layer| vec![0.125 * layer as f64, 0.25, 0.001]).collect(),
        },
        tokens: None,
        other_definitions: BTreeMap::from([("gu".into(), other(0.797)), ("gu-max".into(), other(0.8016))]),
        by_layer,
    }
}

/// Two sequences of two tokens; every byte of what they receive is 255, 0, 128, 64 over and over.
fn page() -> TokenPage {
    let token = |sequence, position, text: &str| ShownToken {
        sequence,
        position,
        id: 40 + text.len() as u32,
        text: text.to_owned(),
        largest: if position == 0 { -11_990.5 } else { 8.25 },
        block: 6,
        channel: 7,
    };
    TokenPage {
        sequences: 2,
        positions: 2,
        layers: LAYERS,
        heads: HEADS,
        tokens: vec![token(0, 0, "The"), token(0, 1, " cat"), token(1, 0, HOSTILE), token(1, 1, "")],
        received: "/wCAQP8AgED/AIBA".repeat(4 * LAYERS * HEADS / 12),
        scale: SCALE.to_owned(),
    }
}

pub fn anatomy() -> Anatomy {
    Anatomy {
        lifecycle: Some(Lifecycle {
            blocks: (0..=2 * LAYERS).map(block).collect(),
            step_up: vec![6],
            step_down: vec![20, 22],
        }),
        spikes: Some(Spikes {
            ratio: 5.0,
            largest: 12_345.5,
            largest_at: Some(LargestAt { block: 6, channel: 7, sequence: 1, position: 0 }),
            massive: 2,
            stages: vec![stage(), weaker_stage()],
            channels: vec![7, 3],
            last_block: vec![late()],
        }),
        fp16: Some(fp16(12_345.5)),
        sinks: Some(sinks()),
        perplexity: Some(21.75),
        nll: Some(3.079_614),
        predicted_tokens: Some(4032),
        tokens: Some(page()),
        regularities: Some(causes::regularities(true)),
        sample: Some(causes::sample(true)),
        silu: Some(causes::silu(true)),
        normalisation: Some(causes::normalisation(true)),
        geometry: Some(causes::geometry(true)),
        self_sinking: Some(causes::self_sinking(true)),
        census: Some(weights::census(true)),
        prediction_score: Some(weights::prediction_score()),
        probe: Some(weights::probe(true)),
        pictures: causes::pictures(),
    }
}

/// Nothing found: the spikes without a stage, the sinks of one sequence without a sink.
pub fn calm() -> Anatomy {
    let mut anatomy = anatomy();
    if let Some(lifecycle) = &mut anatomy.lifecycle {
        (lifecycle.step_up, lifecycle.step_down) = (vec![], vec![]);
    }
    if let Some(spikes) = &mut anatomy.spikes {
        (spikes.stages, spikes.channels, spikes.last_block) = (vec![], vec![], vec![]);
    }
    anatomy.fp16 = Some(fp16(70_000.0));
    if let Some(sinks) = &mut anatomy.sinks {
        (sinks.ratio, sinks.ratio_ci95, sinks.by_layer_ci95, sinks.heads_ci95) = (0.0, None, None, None);
        sinks.by_layer.fill(0.0);
        for other in sinks.other_definitions.values_mut() {
            other.ratio_ci95 = None;
        }
    }
    Anatomy {
        regularities: Some(causes::regularities(false)),
        sample: Some(causes::sample(false)),
        silu: Some(causes::silu(false)),
        normalisation: Some(causes::normalisation(false)),
        geometry: Some(causes::geometry(false)),
        self_sinking: Some(causes::self_sinking(false)),
        census: Some(weights::census(false)),
        prediction_score: None,
        probe: Some(weights::probe(false)),
        pictures: vec![],
        ..anatomy
    }
}

/// Nothing asked for.
pub fn nothing() -> Anatomy {
    Anatomy::default()
}

fn variant(name: &str, nll: Option<f64>, largest: Option<f64>) -> Variant {
    Variant {
        name: name.to_owned(),
        perplexity: nll.map(f64::exp),
        nll,
        delta_nll: nll.map(|nll| nll - 3.5),
        delta_ci95: nll.map(|nll| [nll - 3.625, nll - 3.375]),
        kl: nll.map(|nll| (nll - 3.0) / 2.0),
        kl_ci95: nll.map(|nll| [(nll - 3.25) / 2.0, (nll - 2.75) / 2.0]),
        top1_agreement: nll.map(|nll| 1.0 / nll),
        tokens: if nll.is_some() { 4032 } else { 0 },
        perplexity_after: largest.is_none().then_some(PerplexityAfter {
            position: 1024,
            value: 55.5,
            untouched: 22.25,
        }),
        sink_ratio: Some(0.611),
        largest,
        not_finite: None,
        changed_tokens: nll.map(|_| 65),
        received_before: nll.map(|_| 0.477),
        received: nll.map(|_| 0.0123),
        computed_after: 24,
        kept_tokens: None,
        linear_layers: Vec::new(),
    }
}

/// A comparison of operations: one that destroys, one whose tokens have no target in common, a hostile name, one that
/// quantises, and one after which nothing is finite.
pub fn comparison() -> Comparison {
    let layer = |block: usize, error: f64| LinearLayer {
        block,
        projection: "down".to_owned(),
        tensor: if block == 5 { HOSTILE.to_owned() } else { format!("blk.{block}.ffn_down") },
        weights: 1000 * block,
        largest_at_spikes: (block < 8).then_some(12_345.5),
        largest_elsewhere: 1.25,
        error: (block > 1).then_some(error),
        error_at_spikes: (block < 8).then_some(0.001),
        breaks: error > 0.5,
    };
    let quantised = Variant {
        kept_tokens: Some(65),
        linear_layers: (1..9).map(|block| layer(block, 0.125 * block as f64)).collect(),
        ..variant("quantize=w8a8-tensor+keep-spikes", Some(3.75), Some(20_000.0))
    };
    let broken = Variant {
        name: "scale-spikes=1e38".to_owned(),
        tokens: 4032,
        changed_tokens: Some(65),
        computed_after: 24,
        not_finite: Some(NotFinite {
            block: 24,
            channel: Some(507),
            sequence: 3,
            position: 0,
            id: 43,
            text: HOSTILE.to_owned(),
            value: NonFiniteValue::Infinite,
        }),
        ..Variant::default()
    };
    let broken_step = broken.clone();
    let advice = |about: &str, operation: &str, text: &str, figure| Advice {
        about: about.to_owned(),
        operation: operation.to_owned(),
        text: text.to_owned(),
        figure,
        unit: "nats a token".to_owned(),
        trials: usize::from(about == "exempt"),
    };
    let positions: Vec<PositionNll> =
        (1..3).map(|position| PositionNll { name: HOSTILE.to_owned(), position, nll: 3.5 }).collect();
    Comparison {
        sink_tokens: None,
        baseline: Baseline {
            perplexity: Some(33.115),
            nll: 3.5,
            tokens: 4032,
            sequences: 64,
            sink_ratio: 0.744,
            largest: 28_301.0,
        },
        spike: Some(SpikePlace { block: 24, channels: (0..10).collect(), tokens: 65 }),
        variants: vec![
            variant("zero-spikes", Some(12.75), Some(5_552.0)),
            variant("random-tokens", None, Some(27_974.0)),
            variant(HOSTILE, Some(3.375), None),
            quantised,
            broken,
            variant("cache=int4", Some(3.75), Some(28_000.0)),
            variant("cache=int4+keep=0", Some(3.5625), Some(28_000.0)),
            Variant { name: "cache=int4+keep=0-1".to_owned(), ..broken_step },
        ],
        trials: vec![variant("quantize=w8a8-tensor+keep-spikes+except=blk.8.ffn_down", Some(3.625), Some(20_000.0))],
        smoothing: Vec::new(),
        sweeps: vec![Sweep {
            name: "cache=int4+keep=0..2".to_owned(),
            steps: (0..3).map(|kept| SweepStep { kept, variant: 5 + kept }).collect(),
            enough: Some(1),
        }],
        advice: vec![
            advice("loss", "quantize=w8a8-tensor+keep-spikes", "expect +0.2500 nats a token", 0.25),
            advice(
                "layers",
                HOSTILE,
                "4 of 8 linear layers lose more than 50 % of their output; keep them in higher precision",
                4.0,
            ),
            advice(
                "exempt",
                "quantize=w8a8-tensor+keep-spikes+except=blk.8.ffn_down",
                "tried without 1 of 8 layers, 22.2 % of the quantised weights: +0.2500 nats a token become +0.1250",
                0.125,
            ),
        ],
        by_position: ByPosition::of(&positions, 4),
        positions,
    }
}

pub fn envelope<R>(results: R) -> Envelope<R, ()> {
    Envelope {
        sinkscope: VERSION.into(),
        command: vec!["sinkscope".into(), "anatomy".into(), "made-up.gguf".into()],
        model: Some(ModelIdentity {
            allowed_unknown: Vec::new(),
            name: "made-up\u{7}".into(),
            architecture: (),
            sha256: "ab".into(),
            parameters: 1_234_567,
        }),
        data: Some(DataIdentity {
            source: "the built-in text".into(),
            sha256: "cd".into(),
            sequences: 64,
            seq_len: 64,
            bos: false,
            special_tokens: 0,
            chat: None,
        }),
        definitions: BTreeMap::new(),
        timing: Timing {
            seconds: 3.25,
            passes: vec![PassTiming { name: "pass".into(), seconds: 3.0 }],
            tokens_per_second: Some(1365.3),
            fraction_of_bound: Some(0.6123),
            peak_rss_bytes: Some(432_013_312),
        },
        seed: Some(0),
        results,
    }
}
