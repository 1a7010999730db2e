//! From the values of a stage to its peak, its step-up and step-down blocks and its spike channels.

use crate::definitions::STEP_SHARE;
use crate::results::SpikeChannel;
use crate::spikes::outline::StageOutline;
use crate::wide::mean;

/// What was measured of a stage's tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct StageValues {
    /// The peak block, the values there and what they give.
    pub peak: Peak,
    /// For each block of the window, the mean over the tokens of its output in the stage's channel.
    pub outputs: Vec<f64>,
    /// The spike channels, largest first.
    pub channels: Vec<SpikeChannel>,
}

/// The block of a run where the mean over the tokens is largest.
#[derive(Debug, Clone, PartialEq)]
pub struct Peak {
    /// The block.
    pub block: usize,
    /// The mean there, sign kept.
    pub mean: f64,
    /// The tokens' values in the stage's channel there.
    pub values: Vec<f32>,
}

/// The peak of a run that starts at `first_block`: of equal means the earlier block.
pub fn peak(first_block: usize, columns: Vec<Vec<f32>>) -> Peak {
    let mut peak = Peak { block: first_block, mean: 0.0, values: Vec::new() };
    for (index, values) in columns.into_iter().enumerate() {
        let mean = mean(values.iter().copied()).unwrap_or(0.0);
        if index == 0 || mean.abs() > peak.mean.abs() {
            peak = Peak { block: first_block + index, mean, values };
        }
    }
    peak
}

/// Step-up and step-down blocks.
pub fn steps(outline: &StageOutline, values: &StageValues) -> (Vec<usize>, Vec<usize>) {
    let threshold = STEP_SHARE * values.peak.mean.abs();
    let (mut up, mut down) = (Vec::new(), Vec::new());
    for (block, &output) in (outline.first_block..=outline.window_end).zip(&values.outputs) {
        let with_peak = output.signum() == values.peak.mean.signum();
        if output.abs() < threshold || output == 0.0 {
            continue;
        }
        match (block <= values.peak.block, with_peak) {
            (true, true) => up.push(block),
            (false, false) => down.push(block),
            _ => {}
        }
    }
    (up, down)
}

/// Sums over a stage's tokens of what one channel shows at one block.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ChannelSums {
    tokens: usize,
    signed: f64,
    absolute: f64,
    ratios: usize,
    ratio: f64,
    ratio_squared: f64,
    reaching: usize,
}

impl ChannelSums {
    /// Takes in one token: its value in this channel and in the stage's channel; `threshold` is R `M_b`.
    pub fn add(&mut self, value: f32, in_stage_channel: f32, threshold: f64) {
        let value = f64::from(value);
        self.tokens += 1;
        self.reaching += usize::from(value.abs() >= threshold);
        self.signed += value;
        self.absolute += value.abs();
        if in_stage_channel != 0.0 {
            let ratio = value / f64::from(in_stage_channel);
            self.ratios += 1;
            self.ratio += ratio;
            self.ratio_squared += ratio * ratio;
        }
    }

    /// Mean of the magnitude.
    pub fn mean_magnitude(&self) -> f64 {
        if self.tokens == 0 { 0.0 } else { self.absolute / self.tokens as f64 }
    }

    /// Standard deviation of the ratio to the stage's channel, over its mean's magnitude.
    fn ratio_variation(&self) -> f64 {
        let count = self.ratios.max(1) as f64;
        let mean = self.ratio / count;
        let variance = (self.ratio_squared / count - mean * mean).max(0.0);
        if variance == 0.0 { 0.0 } else { variance.sqrt() / mean.abs() }
    }
}

/// The channels whose mean magnitude is at least `threshold`, largest first, of equals the lower channel.
pub fn spike_channels(sums: impl IntoIterator<Item = (usize, ChannelSums)>, threshold: f64) -> Vec<SpikeChannel> {
    let mut channels: Vec<(usize, ChannelSums)> = sums
        .into_iter()
        .filter(|(_, sums)| sums.mean_magnitude() > 0.0 && sums.mean_magnitude() >= threshold)
        .collect();
    channels.sort_by(|a, b| b.1.mean_magnitude().total_cmp(&a.1.mean_magnitude()).then(a.0.cmp(&b.0)));
    channels
        .into_iter()
        .map(|(channel, sums)| SpikeChannel {
            channel,
            mean: sums.signed / sums.tokens as f64,
            ratio_variation: sums.ratio_variation(),
            share: sums.reaching as f64 / sums.tokens as f64,
        })
        .collect()
}
