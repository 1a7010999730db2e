//! An examination: what is asked for, the passes it takes, and how they become one result.
//!
//! [`examine`] does all of it. The first pass finds spikes and sinks and shows the text; what compares spike tokens with
//! others takes a second look at a sample ([`crate::sample`]); the census and the probe are runs of their own.
//! [`AnatomyTaps`] are the taps of the first pass for whoever drives one.

use std::collections::BTreeSet;
use std::time::Instant;

use sinkscope_model::pass::{ErasedTap, Pass, PassReport};
use sinkscope_model::{Model, ModelError};
use sinkscope_sources::data::TokenBatch;

use crate::census::{CensusRequest, Walk, census};
use crate::definitions::{SINK_EPSILON, SINK_HEAD_SHARE, SPIKE_RATIO};
use crate::error::AnatomyError;
use crate::pictures::{Pictures, picture};
use crate::probe::{Calibration, probe};
use crate::results::{Anatomy, SampleSize, Silu, Stage};
use crate::sample::amplifier::AmplifierTap;
use crate::sample::embedding::{is_delimiter, self_sinking};
use crate::sample::geometry::{GeometryTap, HeadVectors, Known};
use crate::sample::normalisation::NormalisationTap;
use crate::sample::{Kinds, Sample};
use crate::sinks::SinkDefinition;

pub use crate::taps::{AnatomyTaps, Finished, ModelSize, SecondLook};

/// What to examine, and with which thresholds. The default is everything with those of [`crate::definitions`].
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "parts that are asked for independently")]
pub struct AnatomyRequest {
    /// The life cycle of the largest channels.
    pub lifecycle: bool,
    /// Spike tokens and stages.
    pub spikes: bool,
    /// Attention sinks.
    pub sinks: bool,
    /// Negative log-likelihood and perplexity.
    pub nll: bool,
    /// The text itself, token by token.
    pub tokens: bool,
    /// The amplifier at work.
    pub silu: bool,
    /// What normalisation makes of spikes.
    pub normalisation: bool,
    /// The geometry of heads, and tokens that attend to themselves.
    pub geometry: bool,
    /// The census.
    pub census: Option<CensusScope>,
    /// The vocabulary at position 0.
    pub probe: bool,
    /// Of whose queries and keys pictures are wanted, with the geometry.
    pub pictures: Pictures,
    /// R.
    pub spike_ratio: f64,
    /// The threshold on alpha.
    pub epsilon: f64,
    /// The sink ratio's variant.
    pub definition: SinkDefinition,
    /// Of the bootstrap.
    pub seed: u64,
}

impl AnatomyRequest {
    /// Nothing, with the thresholds of [`crate::definitions`].
    pub fn nothing() -> Self {
        Self {
            lifecycle: false,
            spikes: false,
            sinks: false,
            nll: false,
            tokens: false,
            silu: false,
            normalisation: false,
            geometry: false,
            census: None,
            pictures: Pictures::None,
            ..Self::default()
        }
    }
}

/// Which blocks a census counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CensusScope {
    /// The step-up and step-down blocks.
    Steps,
    /// Every block, with a prediction.
    All,
}

impl Default for AnatomyRequest {
    fn default() -> Self {
        Self {
            lifecycle: true,
            spikes: true,
            sinks: true,
            nll: true,
            tokens: true,
            silu: true,
            normalisation: true,
            geometry: true,
            census: Some(CensusScope::Steps),
            probe: false,
            pictures: Pictures::Extremes,
            spike_ratio: SPIKE_RATIO,
            epsilon: SINK_EPSILON,
            definition: SinkDefinition::Paper,
            seed: 0,
        }
    }
}

/// Around an examination.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// Bytes for activations and weights.
    pub memory: u64,
    /// The text of a token id, empty if there is no tokeniser.
    pub text: &'a dyn Fn(u32) -> String,
    /// Told how far it is.
    pub progress: &'a (dyn Fn(Progress) + Sync),
}

/// How far an examination is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Something begins.
    Stage(&'static str),
    /// So many steps of it are done, of so many.
    Steps(u64, u64),
}

/// What an examination gives.
#[derive(Debug, Clone, PartialEq)]
pub struct Examined {
    /// What was measured.
    pub anatomy: Anatomy,
    /// The first pass; `None` if nothing asked for one.
    pub first: Option<PassReport>,
    /// Every part by name, in seconds.
    pub passes: Vec<(&'static str, f64)>,
}

/// Examines a model on a text, on the current threads.
///
/// # Errors
/// If the request does not fit the model or a token id lies beyond the vocabulary, a weight is not finite, or a residual
/// comes out infinite or undefined.
pub fn examine(
    model: &Model,
    batch: &TokenBatch,
    request: &AnatomyRequest,
    around: Surroundings<'_>,
) -> Result<Examined, AnatomyError> {
    let a = model.architecture();
    let missing = |&&(layer, head): &&(usize, usize)| layer >= a.layer_count() || head >= a.attention(layer).heads;
    if let Pictures::Of(heads) = &request.pictures
        && let Some((layer, head)) = heads.iter().find(missing)
    {
        let reason = format!(
            "head {layer}.{head} does not exist: there are {} layers of {} heads, from 0",
            a.layer_count(),
            a.most_heads()
        );
        return Err(ModelError::Request(reason).into());
    }
    let mut run = Examiner { model, batch, request, around, passes: Vec::new() };
    let (mut anatomy, first) = run.first_pass()?;
    if request.silu || request.normalisation || request.geometry {
        run.second_look(&mut anatomy)?;
    }
    run.census(&mut anatomy)?;
    run.probe(&mut anatomy)?;
    // What was only measured for the sake of something else.
    let Anatomy { lifecycle, spikes, sinks, regularities, fp16, .. } = &mut anatomy;
    *fp16 = fp16.take().filter(|_| request.lifecycle || request.spikes);
    *lifecycle = lifecycle.take().filter(|_| request.lifecycle);
    *spikes = spikes.take().filter(|_| request.spikes);
    *regularities = regularities.take().filter(|_| request.spikes);
    *sinks = sinks.take().filter(|_| request.sinks);
    Ok(Examined { anatomy, first, passes: run.passes })
}

/// An examination under way.
struct Examiner<'a> {
    model: &'a Model,
    batch: &'a TokenBatch,
    request: &'a AnatomyRequest,
    around: Surroundings<'a>,
    passes: Vec<(&'static str, f64)>,
}

impl Examiner<'_> {
    fn begin(&self, what: &'static str) -> Instant {
        (self.around.progress)(Progress::Stage(what));
        Instant::now()
    }

    /// Spikes, sinks and predictions, and once more if the stages ask for a second look.
    fn first_pass(&mut self) -> Result<(Anatomy, Option<PassReport>), AnatomyError> {
        let request = self.request;
        let stages = request.lifecycle
            || request.spikes
            || request.silu
            || request.normalisation
            || request.geometry
            || request.probe
            || request.census == Some(CensusScope::Steps);
        let wanted = AnatomyRequest {
            lifecycle: stages,
            spikes: stages,
            sinks: request.sinks || request.geometry,
            ..request.clone()
        };
        if !(stages || wanted.sinks || wanted.nll || wanted.tokens) {
            return Ok((Anatomy::default(), None));
        }
        let start = self.begin("examining");
        let report = |done, total| (self.around.progress)(Progress::Steps(done, total));
        let pass = Pass::new(self.model, self.around.memory).with_progress(&report);
        let mut taps = AnatomyTaps::new(&wanted, ModelSize::of(self.model), self.batch);
        let first = pass.run(self.batch, &mut taps.active())?;
        let finished = taps.finish(self.batch, self.around.text)?;
        self.passes.push(("examination", start.elapsed().as_secs_f64()));
        let anatomy = match finished {
            Finished::Complete(anatomy) => *anatomy,
            Finished::SecondLook(mut look) => {
                let start = self.begin("a second look at the stages");
                pass.run(self.batch, &mut [&mut look.tap])?;
                let anatomy = look.finish(self.batch, self.around.text);
                self.passes.push(("stages", start.elapsed().as_secs_f64()));
                anatomy
            }
        };
        Ok((anatomy, Some(first)))
    }

    /// What compares spike tokens with others, on a sample.
    fn second_look(&mut self, anatomy: &mut Anatomy) -> Result<(), AnatomyError> {
        let start = self.begin("a second look at a sample");
        let request = self.request;
        let sample = Sample::new(self.model, self.batch);
        let shape = (sample.batch.sequences, sample.batch.seq_len);
        let stages: &[Stage] = anatomy.spikes.as_ref().map_or(&[], |spikes| &spikes.stages);
        let kinds: Vec<Kinds> = stages.iter().map(|stage| sample.kinds(Some(stage), stages)).collect();
        let strongest = sample.kinds(stages.first(), stages);
        let mut amplifier = request.silu.then(|| AmplifierTap::new(self.model, stages, &kinds, &sample)).transpose()?;
        let mut normalisation =
            request.normalisation.then(|| NormalisationTap::new(self.model, &strongest)).transpose()?;
        let sinks = anatomy.sinks.as_ref().map_or_else(Vec::new, |sinks| {
            let is_sink = |layer: &Vec<f64>| layer.iter().map(|share| *share >= SINK_HEAD_SHARE).collect();
            sinks.head_ratio.iter().map(is_sink).collect()
        });
        let tokens = anatomy.sinks.as_ref().and_then(|sinks| sinks.tokens.as_ref());
        let sink_key = |&sequence: &usize| tokens.map_or(0, |tokens| tokens.most(sequence, (shape.1 / 2).max(1)));
        let sink_keys = sample.sequences.iter().map(sink_key).collect();
        let mut geometry = request.geometry.then(|| {
            let kept = request.pictures.heads(anatomy.sinks.as_ref());
            let known = Known { kinds: strongest.clone(), sinks, sink_keys };
            GeometryTap::new(self.model.architecture(), shape, known, kept)
        });
        let mut active: Vec<&mut dyn ErasedTap> = Vec::new();
        active.extend(amplifier.as_mut().map(|tap| tap as &mut dyn ErasedTap));
        active.extend(normalisation.as_mut().map(|tap| tap as &mut dyn ErasedTap));
        active.extend(geometry.as_mut().map(|tap| tap as &mut dyn ErasedTap));
        let report = |done, total| (self.around.progress)(Progress::Steps(done, total));
        // The sample is small and these taps want it whole.
        Pass::new(self.model, u64::MAX).with_progress(&report).run(&sample.batch, &mut active)?;
        let last_step = stages.first().and_then(|stage| stage.step_up.last()).copied().unwrap_or(0);
        anatomy.silu = amplifier.map(|tap| Silu { blocks: tap.finish() });
        anatomy.normalisation = normalisation.map(NormalisationTap::finish);
        let mut vectors = Vec::new();
        if let Some(tap) = geometry {
            let (geometry, mut to_self, kept) = tap.finish();
            to_self.truncate((last_step.max(2) - 1) / 2 + 1);
            let delimiter = |id| is_delimiter(&(self.around.text)(id));
            anatomy.geometry = Some(geometry);
            anatomy.self_sinking = Some(self_sinking(self.model, &sample.batch, &strongest, &delimiter, &to_self)?);
            vectors = kept;
        }
        let spike_tokens = strongest.spike.iter().filter(|spike| **spike).count();
        anatomy.sample = Some(SampleSize { sequences: shape.0, seq_len: shape.1, spike_tokens });
        self.passes.push(("sample", start.elapsed().as_secs_f64()));
        if !vectors.is_empty() {
            let start = self.begin("pictures");
            let most = request.pictures.most_vectors();
            let drawn = |head: &HeadVectors| picture(head, &sample, &strongest, most, request.seed);
            anatomy.pictures = vectors.iter().filter_map(drawn).collect();
            self.passes.push(("pictures", start.elapsed().as_secs_f64()));
        }
        Ok(())
    }

    fn census(&mut self, anatomy: &mut Anatomy) -> Result<(), AnatomyError> {
        let Some(scope) = self.request.census else { return Ok(()) };
        let start = self.begin("census");
        let stages: &[Stage] = anatomy.spikes.as_ref().map_or(&[], |spikes| &spikes.stages);
        let steps = stages.iter().flat_map(|stage| stage.step_up.iter().chain(&stage.step_down));
        let steps: BTreeSet<usize> = steps.copied().filter(|block| block.is_multiple_of(2)).collect();
        // The strongest stage's first amplifier.
        let amplifier = stages.first().and_then(|stage| {
            let block = stage.step_up.iter().copied().find(|block| block.is_multiple_of(2))?;
            Some(Walk::To { block, channel: stage.channel })
        });
        let mut first_tokens = self.batch.tokens.iter().step_by(self.batch.seq_len);
        let first = first_tokens.next().copied();
        let wanted = CensusRequest {
            first: first.filter(|first| self.batch.sequences > 1 && first_tokens.all(|other| other == first)),
            walk: if scope == CensusScope::All { Walk::Predict } else { amplifier.unwrap_or(Walk::Nowhere) },
            channels: stages.iter().map(|stage| stage.channel).collect::<BTreeSet<_>>().into_iter().collect(),
            full: false,
            blocks: (scope == CensusScope::Steps).then(|| steps.into_iter().collect()),
            seed: self.request.seed,
        };
        let census = census(self.model, &wanted, &|done, total| (self.around.progress)(Progress::Steps(done, total)))?;
        anatomy.prediction_score = match scope {
            CensusScope::All => census.prediction.as_ref().zip(stages.first()).map(|(told, stage)| told.score(stage)),
            CensusScope::Steps => None,
        };
        anatomy.census = Some(census);
        self.passes.push(("census", start.elapsed().as_secs_f64()));
        Ok(())
    }

    fn probe(&mut self, anatomy: &mut Anatomy) -> Result<(), AnatomyError> {
        if !self.request.probe {
            return Ok(());
        }
        let start = self.begin("probing the vocabulary");
        let calibration = anatomy.spikes.as_ref().zip(anatomy.lifecycle.as_ref());
        let calibration = calibration.and_then(|(spikes, lifecycle)| Calibration::new(spikes, lifecycle));
        let report = |done, total| (self.around.progress)(Progress::Steps(done, total));
        let (memory, text) = (self.around.memory, self.around.text);
        let registers = &self.batch.tokens[..self.model.architecture().registers];
        anatomy.probe = Some(probe(self.model, calibration.as_ref(), registers, memory, text, &report)?);
        self.passes.push(("probe", start.elapsed().as_secs_f64()));
        Ok(())
    }
}
