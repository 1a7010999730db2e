//! Where the spikes will be, said from the weights alone, and how right that is.
//!
//! Four rankings of the block-and-channel pairs whose spectra are known:
//!
//! | name | score |
//! |---|---|
//! | `norm` | `||U_k||_F` |
//! | `eigenvalue` | `|l*|`, the leading eigenvalue of S_k |
//! | `attention-alone` | `|l*|` times the mean of `(s* . x)^2` over first tokens that only attention has moved |
//! | `walk` | `|l*|` times the mean of `(s* . x)^2` over first tokens that the whole model has moved |
//!
//! The last one is the prediction: a spike is expected where the output it says is at least [`SPIKE_RATIO`] times the
//! typical largest magnitude of the residual that the block reads, and the largest such output names the channel and the
//! peak block. What is said is the block's output before any output norm, which may still take it away.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Spectrum;
use super::steering::{Reach, Reached};
use crate::definitions::{SPIKE_RATIO, STEP_SHARE};
use crate::results::Stage;
use crate::wide::dot_f64;

/// What the weights say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Prediction {
    /// The block and channel of the largest output, with that output, sign kept.
    pub peak: Option<RankedPair>,
    /// Blocks that will inject the spike, ascending.
    pub step_up: Vec<usize>,
    /// Blocks that will remove it, ascending.
    pub step_down: Vec<usize>,
    /// Channels that will spike, strongest first.
    pub channels: Vec<usize>,
    /// Each ranking, best first.
    pub rankings: Vec<Ranking>,
}

/// Pairs of block and channel by one score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Ranking {
    /// Name of the score.
    pub name: String,
    /// Its largest, largest first.
    pub pairs: Vec<RankedPair>,
}

/// A pair and its score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RankedPair {
    /// Feed-forward block.
    pub block: usize,
    /// Channel.
    pub channel: usize,
    /// The score.
    pub score: f64,
}

/// How right a prediction is about a measured stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PredictionScore {
    /// Share of the measured feed-forward step-up and step-down blocks among as many best blocks of each ranking
    /// (precision at k), by ranking.
    pub step_blocks: Vec<NamedScore>,
    /// Share of the measured spike channels among as many predicted ones.
    pub channels: Option<f64>,
}

/// A share by name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NamedScore {
    /// Name of the ranking.
    pub name: String,
    /// Number of blocks measured.
    pub k: usize,
    /// Share of them found.
    pub precision: f64,
}

/// Ranks the spectra and reads the prediction off, but for the channels, which take a look at the peak's block.
pub fn predict(spectra: &[Spectrum], reached: &Reached) -> Prediction {
    let leading = |spectrum: &Spectrum| spectrum.eigenvalues.first().copied().unwrap_or(0.0);
    let output = |reach: &Reach, spectrum: &Spectrum| {
        reach.get(&(spectrum.block, spectrum.channel)).map_or(0.0, |square| leading(spectrum) * square)
    };
    let rankings = vec![
        rank("norm", spectra, |spectrum| spectrum.frobenius),
        rank("eigenvalue", spectra, |spectrum| leading(spectrum).abs()),
        rank("attention-alone", spectra, |spectrum| output(&reached.attention_alone, spectrum).abs()),
        rank("walk", spectra, |spectrum| output(&reached.walk, spectrum).abs()),
    ];
    let output = |spectrum: &Spectrum| output(&reached.walk, spectrum);
    let mut prediction = Prediction { peak: None, step_up: vec![], step_down: vec![], channels: vec![], rankings };
    // What stands out from the residual that it is added to. After the peak that is the spike itself.
    let typical = |spectrum: &Spectrum| reached.typical.get(&spectrum.block).copied().unwrap_or(f64::INFINITY);
    let spikes = spectra.iter().filter(|spectrum| output(spectrum).abs() >= SPIKE_RATIO * typical(spectrum));
    let Some(peak) = spikes.max_by(|a, b| output(a).abs().total_cmp(&output(b).abs())) else { return prediction };
    let share = |spectrum: &Spectrum| output(spectrum) / output(peak);
    let mut of_channel: Vec<&Spectrum> = spectra.iter().filter(|spectrum| spectrum.channel == peak.channel).collect();
    of_channel.sort_by_key(|spectrum| spectrum.block);
    let up = of_channel.iter().filter(|s| s.block <= peak.block && share(s) >= STEP_SHARE);
    prediction.step_up = up.map(|spectrum| spectrum.block).collect();
    let down = of_channel.iter().filter(|s| s.block > peak.block && share(s) <= -STEP_SHARE);
    prediction.step_down = down.map(|spectrum| spectrum.block).collect();
    prediction.peak = Some(RankedPair { block: peak.block, channel: peak.channel, score: output(peak) });
    prediction
}

fn rank(name: &str, spectra: &[Spectrum], score: impl Fn(&Spectrum) -> f64) -> Ranking {
    let pair =
        |spectrum: &Spectrum| RankedPair { block: spectrum.block, channel: spectrum.channel, score: score(spectrum) };
    let mut pairs: Vec<RankedPair> = spectra.iter().map(pair).collect();
    pairs.sort_by(|a, b| b.score.total_cmp(&a.score));
    Ranking { name: name.to_owned(), pairs }
}

impl Prediction {
    /// Compares with a measured stage.
    pub fn score(&self, stage: &Stage) -> PredictionScore {
        let measured: Vec<usize> = stage.step_up.iter().chain(&stage.step_down).copied().collect();
        let feed_forward: Vec<usize> = measured.into_iter().filter(|block| block.is_multiple_of(2)).collect();
        let precision = |ranking: &Ranking| {
            let mut best: Vec<usize> = Vec::new();
            for pair in &ranking.pairs {
                if best.len() < feed_forward.len() && !best.contains(&pair.block) {
                    best.push(pair.block);
                }
            }
            let found = best.iter().filter(|block| feed_forward.contains(block)).count();
            let k = feed_forward.len();
            NamedScore { name: ranking.name.clone(), k, precision: found as f64 / k.max(1) as f64 }
        };
        let spike_channels: Vec<usize> = stage.channels.iter().map(|channel| channel.channel).collect();
        let best = self.channels.iter().take(spike_channels.len());
        let found = best.filter(|channel| spike_channels.contains(channel)).count();
        PredictionScore {
            step_blocks: if feed_forward.is_empty() { vec![] } else { self.rankings.iter().map(precision).collect() },
            channels: (!spike_channels.is_empty()).then(|| found as f64 / spike_channels.len() as f64),
        }
    }
}

/// Absolute cosines between the triggers of spectra, pair by pair.
pub(super) fn cosines(spectra: &[&Spectrum]) -> Vec<Vec<f64>> {
    let cosine = |a: &Spectrum, b: &Spectrum| dot_f64(&a.trigger, &b.trigger).abs();
    spectra.iter().map(|a| spectra.iter().map(|b| cosine(a, b)).collect()).collect()
}
