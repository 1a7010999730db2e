//! The census: what every feed-forward block could do to every channel, from the weights alone (section 2, eq. 16-22).
//!
//! A block is decoded once, its gamma folded in, and dropped; what stays are the norms of all channels and the spectra of
//! a few. Then a sample of the vocabulary is walked through the model to see which triggers first tokens can reach.

pub mod norms;
pub mod prediction;
pub mod quadratic;
pub mod spectrum;
pub mod steering;
pub mod units;

use std::time::Instant;

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinkscope_model::{Model, ModelError};

use self::norms::Norms;
use self::prediction::{Prediction, cosines, predict};
use self::quadratic::QuadraticForm;
use self::steering::{FirstTokens, Steering, Trigger};
use self::units::{HiddenUnit, UnitRows};
use crate::definitions::{SHARED_TRIGGER_SHARE, TOP_CHANNELS};
use crate::error::AnatomyError;
use crate::median::median;

/// What to take a census of.
#[derive(Debug, Clone, PartialEq)]
pub struct CensusRequest {
    /// Channels whose spectra are wanted in every block, beside those of largest norm.
    pub channels: Vec<usize>,
    /// All eigenvalues instead of the leading ones.
    pub full: bool,
    /// Feed-forward blocks; all if `None`.
    pub blocks: Option<Vec<usize>>,
    /// The token that texts begin with, if it is always the same; a sample of the vocabulary stands for first tokens otherwise.
    pub first: Option<u32>,
    /// What first tokens are walked to.
    pub walk: Walk,
    /// Of the sample and of the iterations' start.
    pub seed: u64,
}

/// What first tokens are walked to, through the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Walk {
    /// Every trigger, to predict where a spike will be; then once more to that trigger.
    Predict,
    /// The trigger of a channel in one of the blocks counted.
    To {
        /// Feed-forward block.
        block: usize,
        /// Channel, one of those asked for.
        channel: usize,
    },
    /// None.
    Nowhere,
}

/// What the weights say of spikes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Census {
    /// What the quadratic form is in this model; see [`quadratic`].
    pub coefficient: Option<f64>,
    /// Every block asked for; none if the nonlinearity has no quadratic term.
    pub blocks: Vec<BlockCensus>,
    /// Of the channels of largest norm in each block, and of those asked for.
    pub spectra: Vec<Spectrum>,
    /// Cosines between the triggers of one block's channels.
    pub shared_trigger: Vec<SharedTrigger>,
    /// Cosines between the triggers of the channel that is predicted to spike, in all blocks.
    pub across_blocks: Option<AcrossBlocks>,
    /// How attention turns first tokens towards the trigger of the predicted spike.
    pub steering: Option<Steering>,
    /// Where the spikes will be, if that was asked.
    pub prediction: Option<Prediction>,
    /// What it took; in an output file it is under `timing`.
    #[serde(skip)]
    pub timing: CensusTiming,
}

/// The norms of a block.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BlockCensus {
    /// Feed-forward block.
    pub block: usize,
    /// `||U_k||_F` of every channel.
    pub frobenius: Vec<f64>,
    /// `||S_k||_F` of every channel.
    pub symmetric: Vec<f64>,
    /// Median of `frobenius`.
    pub median: f64,
    /// The channels of largest norm.
    pub top: Vec<ChannelNorm>,
}

/// A channel's norm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ChannelNorm {
    /// Channel.
    pub channel: usize,
    /// `||U_k||_F`.
    pub frobenius: f64,
}

/// The spectrum of one S_k.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Spectrum {
    /// Feed-forward block.
    pub block: usize,
    /// Channel.
    pub channel: usize,
    /// `||U_k||_F`.
    pub frobenius: f64,
    /// Signed, by magnitude.
    pub eigenvalues: Vec<f64>,
    /// Largest `||S v - l v|| / |l_1|` of the leading pairs.
    pub residual: f64,
    /// `|l_1| / |l_2|`; `None` if there is no second one.
    pub dominance: Option<f64>,
    /// The hidden units that make the channel.
    pub units: Vec<HiddenUnit>,
    /// s*, of length 1; in `triggers.parquet`.
    #[serde(skip)]
    pub trigger: Vec<f64>,
}

/// Cosines between triggers of one block.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SharedTrigger {
    /// Feed-forward block.
    pub block: usize,
    /// Channels, of largest norm first.
    pub channels: Vec<usize>,
    /// Absolute cosine of each pair.
    pub cosines: Vec<Vec<f64>>,
}

/// Cosines between triggers of one channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AcrossBlocks {
    /// Channel.
    pub channel: usize,
    /// Feed-forward blocks.
    pub blocks: Vec<usize>,
    /// Absolute cosine of each pair.
    pub cosines: Vec<Vec<f64>>,
}

/// Seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct CensusTiming {
    /// Decoding weights.
    pub decode: f64,
    /// Norms of all channels.
    pub norms: f64,
    /// Spectra.
    pub spectra: f64,
    /// Walks through the model.
    pub steering: f64,
}

/// Takes the census of a model on the current threads; `progress(done, total)` counts blocks.
///
/// # Errors
/// If a channel or block asked for does not exist, or a weight is not finite.
pub fn census(model: &Model, request: &CensusRequest, progress: &dyn Fn(u64, u64)) -> Result<Census, AnatomyError> {
    let blocks = checked_blocks(model, request)?;
    let dense = model.architecture().layers().find_map(|layer| layer.feed_forward.dense());
    let mut census = Census {
        coefficient: dense.and_then(|dense| quadratic::coefficient(dense.gated, dense.activation)),
        blocks: vec![],
        spectra: vec![],
        shared_trigger: vec![],
        across_blocks: None,
        steering: None,
        prediction: None,
        timing: CensusTiming::default(),
    };
    let steps = blocks.len() as u64 + 1;
    for (index, &block) in blocks.iter().enumerate() {
        if let Some(form) = census.form(model, block)? {
            census.add_block(block, &form, request)?;
        }
        progress(index as u64 + 1, steps);
    }
    match request.walk {
        Walk::Predict => census.predict(model, &blocks, request)?,
        Walk::To { block, channel } => census.steer(model, block, channel, request)?,
        Walk::Nowhere => {}
    }
    progress(steps, steps);
    Ok(census)
}

fn checked_blocks(model: &Model, request: &CensusRequest) -> Result<Vec<usize>, ModelError> {
    let a = model.architecture();
    if let Some(channel) = request.channels.iter().find(|&&channel| channel >= a.d_model) {
        return Err(ModelError::Request(format!("channel {channel} does not exist: there are {}, from 0", a.d_model)));
    }
    let blocks = request.blocks.clone().unwrap_or_else(|| (2..=a.blocks()).step_by(2).collect());
    match blocks.iter().find(|&&block| block == 0 || block > a.blocks() || !block.is_multiple_of(2)) {
        None => Ok(blocks),
        Some(block) => Err(ModelError::Request(format!(
            "block {block} is not a feed-forward block: those are the even ones from 2 to {}",
            a.blocks()
        ))),
    }
}

impl Census {
    /// Decodes a block; `None` if its nonlinearity has no quadratic term.
    fn form(&mut self, model: &Model, block: usize) -> Result<Option<QuadraticForm>, ModelError> {
        if self.coefficient.is_none() {
            return Ok(None);
        }
        let start = Instant::now();
        let form = QuadraticForm::new(&model.feed_forward_block(block / 2 - 1)?);
        self.timing.decode += start.elapsed().as_secs_f64();
        Ok(form)
    }

    /// Norms of all channels, spectra of the largest and of those asked for.
    fn add_block(&mut self, block: usize, form: &QuadraticForm, request: &CensusRequest) -> Result<(), ModelError> {
        let start = Instant::now();
        let Norms { frobenius, symmetric } = norms::norms(form);
        if frobenius.iter().chain(&symmetric).any(|norm| !norm.is_finite()) {
            let reason =
                format!("the norms of block {block} are beyond what numbers can hold: its weights are too large");
            return Err(ModelError::Request(reason));
        }
        self.timing.norms += start.elapsed().as_secs_f64();
        let mut order: Vec<usize> = (0..form.d_model).collect();
        order.sort_by(|&a, &b| frobenius[b].total_cmp(&frobenius[a]));
        let top: Vec<usize> = order.into_iter().take(TOP_CHANNELS).collect();
        let mut channels = top.clone();
        channels.extend(request.channels.iter().filter(|channel| !top.contains(channel)));
        self.blocks.push(BlockCensus {
            block,
            median: median(&frobenius),
            top: top.into_iter().map(|channel| ChannelNorm { channel, frobenius: frobenius[channel] }).collect(),
            frobenius,
            symmetric,
        });
        let first = self.spectra.len();
        self.add_spectra(block, form, &channels, request);
        let spectra: Vec<&Spectrum> = self.spectra[first..].iter().collect();
        self.shared_trigger.push(SharedTrigger { block, channels, cosines: cosines(&spectra) });
        Ok(())
    }

    fn add_spectra(&mut self, block: usize, form: &QuadraticForm, channels: &[usize], request: &CensusRequest) {
        let start = Instant::now();
        let rows = UnitRows::new(form);
        let norms = self.blocks.iter().find(|census| census.block == block).map(|census| &census.frobenius);
        let spectra: Vec<Spectrum> = channels
            .par_iter()
            .with_max_len(1)
            .map(|&channel| {
                let full = if request.full { spectrum::full(form, channel) } else { None };
                let eigen = full.unwrap_or_else(|| spectrum::leading(form, channel, request.seed));
                let dominance = match eigen.eigenvalues[..] {
                    [first, second, ..] if second != 0.0 => Some((first / second).abs()),
                    _ => None,
                };
                Spectrum {
                    block,
                    channel,
                    frobenius: norms.map_or(0.0, |norms| norms[channel]),
                    eigenvalues: eigen.eigenvalues,
                    residual: eigen.residual,
                    dominance,
                    units: rows.of_channel(form, channel),
                    trigger: eigen.trigger,
                }
            })
            .collect();
        self.spectra.extend(spectra);
        self.timing.spectra += start.elapsed().as_secs_f64();
    }

    /// Walks first tokens to the triggers and says what will happen. The channel that is predicted to spike is then
    /// followed through every block, whatever its norm there.
    fn predict(&mut self, model: &Model, blocks: &[usize], request: &CensusRequest) -> Result<(), AnatomyError> {
        let start = Instant::now();
        let tokens = FirstTokens::new(model, request);
        let spectra_before = self.timing.spectra + self.timing.decode;
        let reached = steering::reach(model, &tokens, &self.triggers())?;
        let prediction = self.prediction.insert(predict(&self.spectra, &reached));
        let Some(peak) = prediction.peak.clone() else { return Ok(()) };
        let missing: Vec<usize> =
            blocks.iter().copied().filter(|&block| self.spectrum(block, peak.channel).is_none()).collect();
        for block in missing {
            if let Some(form) = self.form(model, block)? {
                self.add_spectra(block, &form, &[peak.channel], request);
            }
        }
        let reached = steering::reach(model, &tokens, &self.triggers())?;
        let mut prediction = predict(&self.spectra, &reached);
        let mut of_channel: Vec<&Spectrum> =
            self.spectra.iter().filter(|spectrum| spectrum.channel == peak.channel).collect();
        of_channel.sort_by_key(|spectrum| spectrum.block);
        self.across_blocks = Some(AcrossBlocks {
            channel: peak.channel,
            blocks: of_channel.iter().map(|spectrum| spectrum.block).collect(),
            cosines: cosines(&of_channel),
        });
        if let Some(trigger) = self.spectrum(peak.block, peak.channel).map(Spectrum::as_trigger) {
            self.steering = Some(steering::steering(model, tokens.first(), &trigger)?);
            if let Some(form) = self.form(model, peak.block)? {
                prediction.channels = sharing_channels(&form, &trigger);
            }
        }
        self.prediction = Some(prediction);
        // What was decoded and decomposed on the way is counted there.
        let spectra = self.timing.spectra + self.timing.decode - spectra_before;
        self.timing.steering = start.elapsed().as_secs_f64() - spectra;
        Ok(())
    }

    fn steer(
        &mut self,
        model: &Model,
        block: usize,
        channel: usize,
        request: &CensusRequest,
    ) -> Result<(), AnatomyError> {
        let start = Instant::now();
        if let Some(trigger) = self.spectrum(block, channel).map(Spectrum::as_trigger) {
            let tokens = FirstTokens::new(model, request);
            self.steering = Some(steering::steering(model, tokens.first(), &trigger)?);
        }
        self.timing.steering = start.elapsed().as_secs_f64();
        Ok(())
    }

    fn triggers(&self) -> Vec<Trigger> {
        self.spectra.iter().map(Spectrum::as_trigger).collect()
    }

    /// The spectrum of a channel in a block, if it was taken.
    pub fn spectrum(&self, block: usize, channel: usize) -> Option<&Spectrum> {
        self.spectra.iter().find(|spectrum| (spectrum.block, spectrum.channel) == (block, channel))
    }
}

/// The channels that the trigger of one of them moves most: `|s*^T S_k s*|`, largest first, down to a share of the
/// largest.
fn sharing_channels(form: &QuadraticForm, trigger: &Trigger) -> Vec<usize> {
    let s: Vec<f32> = trigger.direction.iter().map(|&entry| entry as f32).collect();
    let outputs = form.outputs(&s);
    let mut order: Vec<usize> = (0..form.d_model).collect();
    order.sort_by(|&a, &b| outputs[b].abs().total_cmp(&outputs[a].abs()));
    let least = SHARED_TRIGGER_SHARE * f64::from(outputs[order[0]].abs());
    order.retain(|&channel| f64::from(outputs[channel].abs()) >= least);
    order
}

impl Spectrum {
    fn as_trigger(&self) -> Trigger {
        Trigger { block: self.block, channel: self.channel, direction: self.trigger.clone() }
    }
}

#[cfg(test)]
mod tests;
