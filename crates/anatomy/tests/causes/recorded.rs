//! A tiny model, a batch, and everything a pass over it shows.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sinkscope_anatomy::results::{SpikeChannel, SpikeToken, Stage};
use sinkscope_anatomy::sample::Kinds;
use sinkscope_model::Model;
use sinkscope_model::architecture::{NormKind, ResidualLayout};
use sinkscope_model::blocks::Norm;
use sinkscope_model::pass::{ErasedTap, Pass};
use sinkscope_model::tap::{Event, EventData, Place, Point, Tap};
use sinkscope_sources::data::TokenBatch;

pub const SEQUENCES: usize = 3;
pub const SEQ_LEN: usize = 13;

pub struct Recorded {
    pub model: Model,
    pub batch: TokenBatch,
    recorder: Recorder,
}

#[derive(Default)]
struct Recorder {
    values: BTreeMap<(Point, usize), Vec<f32>>,
}

pub fn fixture(family: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/fixtures/families").join(family)
}

pub fn model(family: &str) -> Model {
    Model::open(fixture(family).to_str().expect("UTF-8")).expect("a fixture")
}

pub fn batch(sequences: usize, seq_len: usize) -> TokenBatch {
    let id = |index: usize| ((index * index + 7 * index / 3 + 5) % 32) as u32;
    TokenBatch { tokens: (0..sequences * seq_len).map(id).collect(), sequences, seq_len }
}

/// A stage of channel 3 and two more, of block 2, that goes out at block 4; its tokens are the first of every sequence and
/// one more.
pub fn stage() -> Stage {
    let channel = |channel| SpikeChannel { channel, mean: 1.0, ratio_variation: 0.0, share: 1.0 };
    let token = |sequence, position| SpikeToken { sequence, position, id: 0, text: String::new(), value: 1.0 };
    Stage {
        channel: 3,
        first_block: 2,
        last_block: 3,
        step_up: vec![1, 2],
        step_down: vec![4],
        outputs: vec![],
        peak_block: 2,
        peak: 1.0,
        channels: vec![channel(7), channel(3), channel(0)],
        tokens: vec![token(0, 0), token(1, 0), token(1, 5), token(2, 0)],
        share_at_position_0: 1.0,
        rate_elsewhere: 1.0 / 36.0,
        elsewhere: vec![],
    }
}

/// What each token of the batch is beside those of the stage; some are another stage's.
pub fn kinds() -> Kinds {
    let stage = stage();
    let spikes = |token: usize| {
        stage.tokens.iter().any(|spike| (spike.sequence, spike.position) == (token / SEQ_LEN, token % SEQ_LEN))
    };
    let tokens = 0..SEQUENCES * SEQ_LEN;
    Kinds {
        spike: tokens.clone().map(spikes).collect(),
        other: tokens.map(|token| !spikes(token) && token % 5 != 4).collect(),
    }
}

impl Recorded {
    pub fn new(family: &str) -> Self {
        Self::of(family, batch(SEQUENCES, SEQ_LEN))
    }

    pub fn of(family: &str, batch: TokenBatch) -> Self {
        let mut recorded = Self { model: model(family), batch, recorder: Recorder::default() };
        let mut recorder = Recorder::default();
        recorded.run(&mut recorder);
        recorded.recorder = recorder;
        recorded
    }

    /// A pass of one group.
    pub fn run(&self, tap: &mut dyn ErasedTap) {
        Pass::new(&self.model, u64::MAX).run(&self.batch, &mut [tap]).expect("a pass");
    }

    pub fn tokens(&self) -> usize {
        self.batch.tokens.len()
    }

    /// A token's row.
    pub fn row(&self, point: Point, block: usize, token: usize) -> Vec<f64> {
        let values = &self.recorder.values[&(point, block)];
        let width = values.len() / self.tokens();
        values[token * width..][..width].iter().map(|&value| f64::from(value)).collect()
    }

    /// A head's part of a token's row.
    pub fn head_row(&self, point: Point, layer: usize, head: usize, token: usize) -> Vec<f64> {
        let width = self.model.architecture().attention(0).head_dim;
        self.row(point, 2 * layer + 1, token)[head * width..][..width].to_vec()
    }

    /// The residual that a block reads.
    pub fn read_by(&self, block: usize, token: usize) -> Vec<f64> {
        let parallel = self.model.architecture().layer(0).residual == ResidualLayout::Parallel;
        let before = if parallel { (block - 1) / 2 * 2 } else { block - 1 };
        self.row(Point::Residual, before, token)
    }

    /// Normalised by definition, with scale and bias if there are any.
    pub fn normalised(&self, x: &[f64], weights: Option<&Norm<f64>>) -> Vec<f64> {
        let a = self.model.architecture();
        let centre = if a.norm == NormKind::LayerNorm { super::mean(x) } else { 0.0 };
        let square = x.iter().map(|value| (value - centre).powi(2)).sum::<f64>() / x.len() as f64;
        let scale = (square + a.norm_epsilon).sqrt();
        let value = |channel: usize| {
            let plain = (x[channel] - centre) / scale;
            weights.map_or(plain, |norm| {
                plain * norm.gamma[channel] + norm.beta.as_ref().map_or(0.0, |beta| beta[channel])
            })
        };
        (0..x.len()).map(value).collect()
    }
}

impl Tap for Recorder {
    type Partial = Vec<f32>;

    fn wants(&self, point: Point, block: usize) -> bool {
        let hidden = [Point::Residual, Point::UnrotatedKey, Point::Query, Point::Key, Point::Value];
        hidden.contains(&point) && (point == Point::Residual || block % 2 == 1)
    }

    fn observe(&self, event: &Event<'_>) -> Vec<f32> {
        match event.data {
            EventData::Rows(rows) => rows.to_vec(),
            _ => Vec::new(),
        }
    }

    fn merge(&mut self, point: Point, place: &Place, rows: Vec<f32>) {
        // Chunks come in order, sequence after sequence, in a pass of one group.
        self.values.entry((point, place.block)).or_default().extend(rows);
    }
}
