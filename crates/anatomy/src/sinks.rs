//! Attention sinks: which heads put their attention on one early key (eq. 27-28; the variants are in
//! [`crate::definitions`]).
//!
//! [`SinkTap`] adds up the attention each key received over the chunks of a sequence and reduces it to a few numbers
//! per head when the sequence is through. All named variants come out of the same pass. Told to, it also counts the heads
//! in which each token sinks, under one of them.
//!
//! # Memory
//!
//! 40 bytes per sequence, layer and head, heads x T/2 sums for the sequence under way, a sum per layer and bin of
//! positions, and 2 bytes per token if heads are counted.

use std::collections::BTreeMap;
use std::ops::Range;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinkscope_model::tap::{Event, EventData, Place, Point, Tap};

use crate::bootstrap::intervals_of_means;
use crate::positions::PositionSums;
use crate::received::Received;
use crate::results::{OtherDefinition, Sinks};
use crate::sink_tokens::SinkTokens;
use crate::wide;

/// The named variants of the sink ratio.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SinkDefinition {
    /// Divide by T, maximum over the first half of the keys (eq. 27-28).
    #[default]
    Paper,
    /// Divide by the number of queries that see the key, key 0 only (Gu et al. 2025).
    Gu,
    /// Divide as `Gu`, maximum as `Paper`.
    GuMax,
}

impl SinkDefinition {
    /// Every variant.
    pub const ALL: [Self; 3] = [Self::Paper, Self::Gu, Self::GuMax];

    /// The keys of a sequence of T tokens that can sink.
    fn keys(self, seq_len: usize) -> Range<usize> {
        match self {
            Self::Paper | Self::GuMax => 0..seq_len / 2,
            Self::Gu => 0..1,
        }
    }

    /// `alpha_k` of a key, given the attention that it received from all queries.
    fn alpha(self, received: f64, key: usize, seq_len: usize) -> f64 {
        match self {
            Self::Paper => received / seq_len as f64,
            Self::Gu | Self::GuMax => received / (seq_len as f64 - key as f64),
        }
    }

    /// Its name in results and requests.
    pub fn name(self) -> &'static str {
        match self {
            Self::Paper => "paper",
            Self::Gu => "gu",
            Self::GuMax => "gu-max",
        }
    }
}

impl FromStr for SinkDefinition {
    type Err = UnknownSinkDefinition;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|definition| definition.name() == name);
        found.ok_or_else(|| UnknownSinkDefinition { name: name.to_owned() })
    }
}

/// No definition of the sink ratio has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown definition of the sink ratio `{name}`: choose {}", choices())]
pub struct UnknownSinkDefinition {
    /// The name.
    pub name: String,
}

fn choices() -> String {
    let [first, second, third] = SinkDefinition::ALL.map(|definition| format!("`{}`", definition.name()));
    format!("{first}, {second} or {third}")
}

/// What is kept of one head in one sequence.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct HeadScan {
    /// Largest `alpha_k` under `paper`.
    paper: f64,
    /// Largest under `gu-max`.
    gu_max: f64,
    /// alpha at position 0, the same under all: that of `gu`.
    first: f64,
    /// Mean entropy of a query's attention.
    entropy: f64,
    /// Mean weight of a query on itself.
    to_self: f64,
}

impl HeadScan {
    fn max_alpha(&self, definition: SinkDefinition) -> f64 {
        match definition {
            SinkDefinition::Paper => self.paper,
            SinkDefinition::Gu => self.first,
            SinkDefinition::GuMax => self.gu_max,
        }
    }
}

/// Measures attention sinks in every attention block.
#[derive(Debug, Clone)]
pub struct SinkTap {
    layers: usize,
    heads: usize,
    seq_len: usize,
    /// sequences x layers x heads.
    scans: Vec<HeadScan>,
    under_way: SequenceSums,
    positions: PositionSums,
    tokens: Option<CountedTokens>,
}

/// In how many heads each token sinks.
#[derive(Debug, Clone)]
struct CountedTokens {
    definition: SinkDefinition,
    epsilon: f64,
    /// sequences x tracked keys.
    heads: Vec<u32>,
}

/// Sums over the chunks of the sequence under way in one block.
#[derive(Debug, Clone)]
struct SequenceSums {
    /// heads x tracked keys.
    received: Received,
    entropy: Vec<f64>,
    to_self: Vec<f64>,
}

/// One chunk of query rows, per head.
#[derive(Debug)]
pub struct ChunkSums {
    /// heads x tracked keys.
    received: Received<f32>,
    entropy: Vec<f64>,
    to_self: Vec<f64>,
    /// By bin of positions, over heads.
    positions: Received,
}

impl SinkTap {
    /// For a model of `layers` layers with `heads` query heads each, and a batch of `sequences` sequences of `seq_len`
    /// tokens.
    pub fn new(layers: usize, heads: usize, sequences: usize, seq_len: usize) -> Self {
        Self {
            layers,
            heads,
            seq_len,
            scans: vec![HeadScan::default(); sequences * layers * heads],
            under_way: SequenceSums {
                received: Received::new(heads, tracked_keys(seq_len)),
                entropy: vec![0.0; heads],
                to_self: vec![0.0; heads],
            },
            positions: PositionSums::new(layers, seq_len),
            tokens: None,
        }
    }

    /// Also counts the heads in which each token sinks, under one definition and above `epsilon`.
    #[must_use]
    pub fn with_tokens(mut self, definition: SinkDefinition, epsilon: f64) -> Self {
        let sequences = self.scans.len().checked_div(self.layers * self.heads).unwrap_or(0);
        let heads = vec![0; sequences * tracked_keys(self.seq_len)];
        self.tokens = Some(CountedTokens { definition, epsilon, heads });
        self
    }

    /// Which tokens sink; `None` without [`Self::with_tokens`].
    pub fn sink_tokens(&self) -> Option<SinkTokens> {
        let counts = self.tokens.as_ref()?;
        Some(SinkTokens::new(counts.heads.clone(), tracked_keys(self.seq_len), self.seq_len, self.layers * self.heads))
    }

    /// Takes what another tap saw of some layers of the same batch: those that a pass left out because they are
    /// as they were. Heads in which a token sinks are not among it.
    pub fn adopt_layers(&mut self, other: &Self, layers: Range<usize>) {
        let width = self.layers * self.heads;
        let own = layers.start * self.heads..layers.end * self.heads;
        if width > 0 && self.scans.len() == other.scans.len() && self.seq_len == other.seq_len {
            self.positions.adopt_layers(&other.positions, layers);
            for (ours, theirs) in self.scans.chunks_exact_mut(width).zip(other.scans.chunks_exact(width)) {
                ours[own.clone()].copy_from_slice(&theirs[own.clone()]);
            }
        }
    }

    fn scan_of_head(&self, head: usize) -> HeadScan {
        let tokens = self.seq_len as f64;
        let received = self.under_way.received.row(head);
        let max_alpha = |definition: SinkDefinition| {
            let alpha = |key: usize| definition.alpha(received[key], key, self.seq_len);
            definition.keys(self.seq_len).map(alpha).fold(0.0, f64::max)
        };
        HeadScan {
            paper: max_alpha(SinkDefinition::Paper),
            gu_max: max_alpha(SinkDefinition::GuMax),
            first: received[0] / tokens,
            entropy: self.under_way.entropy[head] / tokens,
            to_self: self.under_way.to_self[head] / tokens,
        }
    }

    /// Counts the heads of the layer under way in which a token of the sequence sinks.
    fn count_heads(&mut self, sequence: usize) {
        let (seq_len, tracked) = (self.seq_len, tracked_keys(self.seq_len));
        let Some(CountedTokens { definition, epsilon, heads }) = &mut self.tokens else { return };
        let counts = &mut heads[sequence * tracked..][..tracked];
        for received in self.under_way.received.rows() {
            for key in definition.keys(seq_len) {
                counts[key] += u32::from(definition.alpha(received[key], key, seq_len) > *epsilon);
            }
        }
    }

    /// The result under `definition`, with heads above `epsilon` called sinks; intervals are drawn from `seed`.
    pub fn finish(&self, definition: SinkDefinition, epsilon: f64, seed: u64) -> Sinks {
        let (layers, heads) = (self.layers, self.heads);
        let sequences = self.scans.len().checked_div(layers * heads).unwrap_or(0);
        let head_count = layers * heads;
        let intervals = intervals_of_means(&self.table(definition, epsilon), sequences, seed);
        // The columns of `table`: for each definition its summary, then the heads of the chosen one.
        let summary = 2 + layers;
        let interval = |column: usize| intervals.as_ref().map(|intervals| intervals[column]);
        let mean_over_sequences = |value: &dyn Fn(&HeadScan) -> f64| -> Vec<Vec<f64>> {
            let mut sums = vec![0.0; head_count];
            for (index, scan) in self.scans.iter().enumerate() {
                sums[index % head_count] += value(scan);
            }
            sums.chunks(heads.max(1)).map(|layer| layer.iter().map(|sum| sum / sequences as f64).collect()).collect()
        };
        let variant = |variant: SinkDefinition, first_column: usize| {
            let head_ratio = mean_over_sequences(&|scan| indicator(scan, variant, epsilon));
            let heads = mean_over_sequences(&|scan| scan.max_alpha(variant));
            let other = OtherDefinition {
                ratio: mean(head_ratio.iter().flatten()),
                ratio_ci95: interval(first_column),
                mean_max_alpha: mean(heads.iter().flatten()),
                by_layer: head_ratio.iter().map(mean).collect(),
                heads,
            };
            (other, head_ratio)
        };

        let mut other_definitions = BTreeMap::new();
        let mut chosen_column = 0;
        for (index, other) in SinkDefinition::ALL.into_iter().enumerate() {
            if other == definition {
                chosen_column = index * summary;
            } else {
                other_definitions.insert(other.name().to_owned(), variant(other, index * summary).0);
            }
        }
        let (chosen, head_ratio) = variant(definition, chosen_column);
        let head_columns = SinkDefinition::ALL.len() * summary;
        Sinks {
            definition: definition.name().to_owned(),
            epsilon,
            ratio: chosen.ratio,
            ratio_ci95: chosen.ratio_ci95,
            mean_max_alpha: chosen.mean_max_alpha,
            mean_max_alpha_ci95: interval(chosen_column + 1),
            by_layer: chosen.by_layer,
            by_layer_ci95: intervals.as_ref().map(|all| all[chosen_column + 2..][..layers].to_vec()),
            heads: chosen.heads,
            heads_ci95: intervals
                .as_ref()
                .map(|all| all[head_columns..].chunks(heads.max(1)).map(<[_]>::to_vec).collect()),
            position_0: mean_over_sequences(&|scan| scan.first),
            head_ratio,
            entropy: mean_over_sequences(&|scan| scan.entropy),
            to_self: mean_over_sequences(&|scan| scan.to_self),
            by_position: self.positions.finish(sequences * heads),
            tokens: self.sink_tokens(),
            other_definitions,
        }
    }

    /// One row per sequence: for each definition its sink ratio, its mean max alpha and its ratio by layer; then max
    /// alpha of every head under `definition`.
    fn table(&self, definition: SinkDefinition, epsilon: f64) -> Vec<f64> {
        let mut table = Vec::new();
        for scans in self.scans.chunks((self.layers * self.heads).max(1)) {
            for variant in SinkDefinition::ALL {
                let sinks: Vec<f64> = scans.iter().map(|scan| indicator(scan, variant, epsilon)).collect();
                let max_alpha: Vec<f64> = scans.iter().map(|scan| scan.max_alpha(variant)).collect();
                table.extend([mean(&sinks), mean(&max_alpha)]);
                table.extend(sinks.chunks(self.heads.max(1)).map(mean));
            }
            table.extend(scans.iter().map(|scan| scan.max_alpha(definition)));
        }
        table
    }
}

/// Keys of which the sum is kept: those of the first half, and key 0 in any case.
fn tracked_keys(seq_len: usize) -> usize {
    (seq_len / 2).max(1)
}

fn indicator(scan: &HeadScan, definition: SinkDefinition, epsilon: f64) -> f64 {
    f64::from(u8::from(scan.max_alpha(definition) > epsilon))
}

/// 0 of no values, as of a model without layers.
fn mean<'a>(values: impl IntoIterator<Item = &'a f64>) -> f64 {
    wide::mean(values.into_iter().copied()).unwrap_or(0.0)
}

impl Tap for SinkTap {
    type Partial = Option<ChunkSums>;

    fn wants(&self, point: Point, block: usize) -> bool {
        point == Point::Attention && block % 2 == 1 && block < 2 * self.layers
    }

    fn observe(&self, event: &Event<'_>) -> Option<ChunkSums> {
        let EventData::Attention(scan) = event.data else { return None };
        let sum_rows = |values: &[f32]| -> Vec<f64> {
            values.chunks_exact(event.place.rows).map(|rows| rows.iter().copied().map(f64::from).sum()).collect()
        };
        let (entropy, to_self) = (sum_rows(scan.entropy), sum_rows(scan.to_self));
        let received = Received::by_head(&scan, tracked_keys(self.seq_len));
        Some(ChunkSums { received, entropy, to_self, positions: self.positions.of_chunk(&scan) })
    }

    fn merge(&mut self, _point: Point, place: &Place, partial: Option<ChunkSums>) {
        let Some(chunk) = partial else { return };
        let sums = &mut self.under_way;
        if place.position == 0 {
            sums.received.clear();
            sums.entropy.fill(0.0);
            sums.to_self.fill(0.0);
        }
        sums.received.add(0, 0, &chunk.received);
        add(&mut sums.entropy, chunk.entropy);
        add(&mut sums.to_self, chunk.to_self);
        self.positions.add((place.block - 1) / 2, &chunk.positions);
        if place.position + place.rows >= self.seq_len {
            let start = (place.sequence * self.layers + (place.block - 1) / 2) * self.heads;
            for head in 0..self.heads {
                self.scans[start + head] = self.scan_of_head(head);
            }
            self.count_heads(place.sequence);
        }
    }
}

fn add(sums: &mut [f64], values: impl IntoIterator<Item = f64>) {
    for (sum, value) in sums.iter_mut().zip(values) {
        *sum += value;
    }
}
