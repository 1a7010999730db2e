//! One run of the untouched model, and one for every operation, from the first layer that it changes.
//!
//! Where the spikes are is known only after the whole depth. So the untouched model runs first; then, once for all
//! operations, its first blocks again, to keep the residual where operations begin and the rows whose means they need;
//! then every operation runs from there on. Layers that an operation does not reach are not computed again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use sinkscope_anatomy::bootstrap::intervals_of_means;
use sinkscope_anatomy::examination::{AnatomyRequest, AnatomyTaps, Finished, ModelSize, Progress, Surroundings};
use sinkscope_anatomy::results::Stage;
use sinkscope_anatomy::sinks::{SinkDefinition, SinkTap};
use sinkscope_model::Model;
use sinkscope_model::data::TokenBatch;
use sinkscope_model::pass::{ErasedTap, Pass, PassReport};
use sinkscope_model::tap::Point;

use crate::edits::{Change, RowEdit};
use crate::error::SurgeryError;
use crate::operation::{Kind, Operation, SpikeChange, Tokens, ValueChange};
use crate::results::{Baseline, Comparison, SpikePlace, Variant};
use crate::taps::{KeepTap, LargestTap, NllTap, RowsTap};
use crate::tokens::{self, Changed};

/// What to compare.
#[derive(Debug, Clone)]
pub struct Request {
    /// What to do to the model.
    pub operations: Vec<Operation>,
    /// R.
    pub spike_ratio: f64,
    /// The threshold on alpha.
    pub epsilon: f64,
    /// Of intervals and random tokens.
    pub seed: u64,
    /// The beginning-of-sequence token, if there is one.
    pub bos: Option<u32>,
    /// Tokens of another text, for means.
    pub calibration: Option<TokenBatch>,
}

/// A comparison and what it took.
#[derive(Debug)]
pub struct Compared {
    /// The result.
    pub comparison: Comparison,
    /// The untouched model's pass.
    pub first: PassReport,
    /// What each pass was for, and its seconds.
    pub passes: Vec<(String, f64)>,
}

/// Compares every operation with the untouched model on `batch`, on the current threads.
///
/// # Errors
/// If an operation makes no sense for this model and batch, or the model cannot be run or examined.
pub fn compare(
    model: &Model,
    batch: &TokenBatch,
    request: &Request,
    around: Surroundings<'_>,
) -> Result<Compared, SurgeryError> {
    let mut run = Run { model, batch, request, around, passes: Vec::new() };
    // What is wrong without a look at the model is said before the work.
    for operation in &request.operations {
        run.check(operation)?;
    }
    let untouched = run.examine(batch)?;
    let plans: Vec<Plan> =
        request.operations.iter().map(|operation| run.plan(operation, &untouched)).collect::<Result<_, _>>()?;
    let kept = run.keep(&plans)?;
    let variants = plans
        .into_iter()
        .zip(&request.operations)
        .enumerate()
        .map(|(index, (plan, operation))| run.variant(operation, &plan, kept.rows.get(&index), &kept, &untouched))
        .collect::<Result<_, _>>()?;
    let nll = mean(&untouched.nll);
    let comparison = Comparison {
        baseline: Baseline {
            perplexity: nll.exp(),
            nll,
            tokens: untouched.nll.len(),
            sink_ratio: run.sink_ratio(&untouched.sinks),
            largest: f64::from(untouched.largest[1..].iter().copied().fold(0.0, f32::max)),
        },
        spike: untouched.stage.as_ref().map(|stage| SpikePlace {
            block: block_of(stage),
            channels: channels_of(stage),
            tokens: stage.tokens.len(),
        }),
        variants,
    };
    Ok(Compared { comparison, first: untouched.report, passes: run.passes })
}

/// A comparison under way.
struct Run<'a> {
    model: &'a Model,
    batch: &'a TokenBatch,
    request: &'a Request,
    around: Surroundings<'a>,
    passes: Vec<(String, f64)>,
}

/// What the untouched model shows of a batch.
struct Untouched {
    stage: Option<Stage>,
    sinks: SinkTap,
    largest: Vec<f32>,
    nll: Vec<f32>,
    report: PassReport,
}

/// What an operation comes down to.
enum Plan {
    /// Other tokens.
    Tokens(Changed),
    /// Rows that change.
    Rows(RowPlan),
}

impl Plan {
    fn rows(&self) -> Option<&RowPlan> {
        match self {
            Self::Rows(plan) => Some(plan),
            Self::Tokens(_) => None,
        }
    }
}

/// Rows that change, as far as that can be said before other sequences' rows are seen.
struct RowPlan {
    edit: RowEdit,
    /// Whether rows are replaced by means.
    mean: bool,
    /// The even block after which everything is as it was.
    start: usize,
}

/// What the second look at the untouched model kept.
struct Kept {
    residuals: KeepTap,
    /// By operation, where it needs means.
    rows: BTreeMap<usize, Means>,
}

/// By block and sequence.
type Means = BTreeMap<usize, Vec<Option<Vec<f32>>>>;

impl Run<'_> {
    fn wrong(operation: &Operation, reason: impl Into<String>) -> SurgeryError {
        SurgeryError::Operation { operation: operation.typed.clone(), reason: reason.into() }
    }

    fn begin(&self, what: &'static str) -> Instant {
        (self.around.progress)(Progress::Stage(what));
        Instant::now()
    }

    /// Whether blocks, positions and channels exist.
    fn check(&self, operation: &Operation) -> Result<(), SurgeryError> {
        let a = self.model.architecture();
        let (block, tokens, channels) = match &operation.kind {
            Kind::Spikes { block, tokens, channels, .. } => (*block, *tokens, channels.as_deref().unwrap_or_default()),
            Kind::SkipBlock { block, tokens } => (Some(*block), *tokens, &[][..]),
            Kind::SinkValue { block, tokens, .. } => (*block, *tokens, &[][..]),
            Kind::Tokens(change) => {
                let vocabulary = a.vocabulary;
                let changed = tokens::change(self.batch, *change, self.request.bos, vocabulary, self.request.seed)
                    .map_err(|reason| Self::wrong(operation, reason))?;
                self.model.check_length(changed.batch.seq_len)?;
                return Ok(());
            }
        };
        if let Some(block) = block {
            // The embedding can be changed, but it is no block that could be left out.
            let first = usize::from(matches!(operation.kind, Kind::SkipBlock { .. }));
            if block < first || block > a.blocks() {
                return Err(Self::wrong(
                    operation,
                    format!("block {block} does not exist: there are {} to {}", first, a.blocks()),
                ));
            }
            if matches!(operation.kind, Kind::SinkValue { .. }) && block.is_multiple_of(2) {
                return Err(Self::wrong(
                    operation,
                    format!("block {block} has no values: attention blocks are the odd ones up to {}", a.blocks() - 1),
                ));
            }
        }
        if let Tokens::Position(position) = tokens
            && position >= self.batch.seq_len
        {
            let reason = format!("position {position} does not exist: sequences have {} tokens", self.batch.seq_len);
            return Err(Self::wrong(operation, reason));
        }
        if let Some(channel) = channels.iter().find(|&&channel| channel >= a.d_model) {
            return Err(Self::wrong(
                operation,
                format!("channel {channel} does not exist: there are {}, from 0", a.d_model),
            ));
        }
        Ok(())
    }

    /// Runs the untouched model on a batch.
    fn examine(&mut self, batch: &TokenBatch) -> Result<Untouched, SurgeryError> {
        let start = self.begin("examining the untouched model");
        let a = self.model.architecture();
        let request = AnatomyRequest {
            spikes: true,
            spike_ratio: self.request.spike_ratio,
            seed: self.request.seed,
            ..AnatomyRequest::nothing()
        };
        let mut taps = AnatomyTaps::new(&request, ModelSize::of(self.model), batch);
        let mut sinks = SinkTap::new(a.layers.len(), a.heads, batch.sequences, batch.seq_len);
        let (mut largest, mut nll) = (LargestTap::new(a.layers.len()), NllTap::new(a.layers.len()));
        let mut active: Vec<&mut dyn ErasedTap> = vec![&mut sinks, &mut largest, &mut nll];
        active.extend(taps.residual.as_mut().map(|tap| tap as &mut dyn ErasedTap));
        let progress = |done, total| (self.around.progress)(Progress::Steps(done, total));
        let pass = Pass::new(self.model, self.around.memory).with_progress(&progress);
        let report = pass.run(batch, &mut active)?;
        let anatomy = match taps.finish(batch, self.around.text)? {
            Finished::Complete(anatomy) => *anatomy,
            Finished::SecondLook(mut look) => {
                pass.run(batch, &mut [&mut look.tap])?;
                look.finish(batch, self.around.text)
            }
        };
        let stage = anatomy.spikes.and_then(|spikes| spikes.stages.into_iter().next());
        self.passes.push(("untouched".to_owned(), start.elapsed().as_secs_f64()));
        Ok(Untouched { stage, sinks, largest: largest.largest, nll: nll.nll, report })
    }

    fn plan(&self, operation: &Operation, untouched: &Untouched) -> Result<Plan, SurgeryError> {
        let stage = untouched.stage.as_ref();
        let needs_stage = |what: &str| {
            stage.ok_or_else(|| {
                let reason =
                    format!("no spikes were found whose {what} could be taken; name @block, @position and @channels");
                Self::wrong(operation, reason)
            })
        };
        let tokens = |tokens| -> Result<Vec<bool>, SurgeryError> {
            match tokens {
                Tokens::Spikes => Ok(marked(needs_stage("tokens")?, self.batch)),
                Tokens::Position(position) => {
                    Ok((0..self.batch.tokens.len()).map(|token| token % self.batch.seq_len == position).collect())
                }
                Tokens::All => Ok(vec![true; self.batch.tokens.len()]),
            }
        };
        let edit = |point, blocks, tokens, channels, change| RowEdit {
            point,
            blocks,
            seq_len: self.batch.seq_len,
            tokens,
            channels,
            change,
        };
        let later = || Change::Replace(BTreeMap::new());
        let (edit, mean, first) = match &operation.kind {
            Kind::Tokens(change) => {
                let a = self.model.architecture();
                return tokens::change(self.batch, *change, self.request.bos, a.vocabulary, self.request.seed)
                    .map(Plan::Tokens)
                    .map_err(|reason| Self::wrong(operation, reason));
            }
            Kind::Spikes { change, block, tokens: which, channels } => {
                let block = match block {
                    Some(block) => *block,
                    None => block_of(needs_stage("block")?),
                };
                let channels = match channels {
                    Some(channels) => channels.clone(),
                    None => channels_of(needs_stage("channels")?),
                };
                let change = match change {
                    SpikeChange::Zero => Change::Scale(0.0),
                    SpikeChange::Scale(factor) => Change::Scale(*factor),
                    SpikeChange::ZeroRescale => Change::ZeroRescale,
                    SpikeChange::Mean => later(),
                };
                (edit(Point::Residual, vec![block], tokens(*which)?, Some(channels), change), true, block)
            }
            Kind::SkipBlock { block, tokens: which } => {
                (edit(Point::Output, vec![*block], tokens(*which)?, None, Change::Scale(0.0)), false, block - 1)
            }
            Kind::SinkValue { change, block, tokens: which } => {
                let blocks = match block {
                    Some(block) => vec![*block],
                    None => (1..self.model.architecture().blocks()).step_by(2).collect(),
                };
                let change = match change {
                    ValueChange::Zero => Change::Scale(0.0),
                    ValueChange::Mean => later(),
                };
                (edit(Point::Value, blocks, tokens(*which)?, None, change), true, block.unwrap_or(1) - 1)
            }
        };
        let mean = mean && matches!(edit.change, Change::Replace(_));
        if mean && self.request.calibration.is_none() {
            let with = (0..self.batch.sequences)
                .filter(|sequence| edit.tokens[sequence * self.batch.seq_len..][..self.batch.seq_len].contains(&true))
                .count();
            if with < 2 {
                return Err(Self::wrong(
                    operation,
                    format!(
                        "a mean over other sequences needs such tokens in at least two, and {with} of {} has them; give more \
                         sequences, or a calibration text (--calibration)",
                        self.batch.sequences
                    ),
                ));
            }
        }
        // Only between layers can a pass be taken up.
        Ok(Plan::Rows(RowPlan { edit, mean, start: first / 2 * 2 }))
    }

    /// Once more through the first blocks: the residual where operations begin, as far as memory allows, and the rows whose
    /// means they need.
    fn keep(&mut self, plans: &[Plan]) -> Result<Kept, SurgeryError> {
        let starts: BTreeSet<usize> =
            plans.iter().filter_map(Plan::rows).map(|plan| plan.start).filter(|&at| at > 0).collect();
        let bytes = starts.len() * self.batch.tokens.len() * self.model.architecture().d_model * size_of::<f32>();
        let fits = (bytes as u64) <= self.around.memory / 2;
        let mut residuals = KeepTap::new(starts.into_iter().filter(|_| fits));
        let mut wanted: Vec<(usize, RowsTap)> = Vec::new();
        for (index, plan) in plans.iter().enumerate() {
            if let Some(RowPlan { edit, mean: true, .. }) = plan.rows()
                && self.request.calibration.is_none()
            {
                let blocks = edit.blocks.iter().copied();
                wanted.push((index, RowsTap::new(edit.point, blocks, self.batch.seq_len, edit.tokens.clone())));
            }
        }
        let last = residuals.residuals.keys().max().copied();
        let last = last.max(wanted.iter().filter_map(|(_, tap)| tap.rows.keys().max().copied()).max());
        if let Some(last) = last {
            let start = self.begin("the blocks before the operations");
            let mut taps: Vec<&mut dyn ErasedTap> = vec![&mut residuals];
            taps.extend(wanted.iter_mut().map(|(_, tap)| tap as &mut dyn ErasedTap));
            self.pass().ending_after(last.next_multiple_of(2)).run(self.batch, &mut taps)?;
            self.passes.push(("prefix".to_owned(), start.elapsed().as_secs_f64()));
        }
        let mut means: BTreeMap<usize, Means> =
            wanted.into_iter().map(|(index, tap)| (index, all_means(&tap, self.batch.sequences, true))).collect();
        if let Some(calibration) = &self.request.calibration
            && plans.iter().filter_map(Plan::rows).any(|plan| plan.mean)
        {
            means.extend(self.calibrate(calibration, plans)?);
        }
        Ok(Kept { residuals, rows: means })
    }

    /// Means over another text.
    fn calibrate(&mut self, calibration: &TokenBatch, plans: &[Plan]) -> Result<BTreeMap<usize, Means>, SurgeryError> {
        let stage = self.examine(calibration)?.stage;
        let mut wanted: Vec<(usize, RowsTap)> = Vec::new();
        for (index, (plan, operation)) in plans.iter().zip(&self.request.operations).enumerate() {
            let Plan::Rows(RowPlan { edit, mean: true, .. }) = plan else { continue };
            let tokens = match operation.kind {
                Kind::Spikes { tokens: Tokens::Spikes, .. } | Kind::SinkValue { tokens: Tokens::Spikes, .. } => {
                    let Some(stage) = &stage else {
                        return Err(Self::wrong(operation, "the calibration text shows no spikes to take a mean of"));
                    };
                    marked(stage, calibration)
                }
                Kind::Spikes { tokens: Tokens::Position(position), .. }
                | Kind::SinkValue { tokens: Tokens::Position(position), .. } => {
                    if position >= calibration.seq_len {
                        let reason = format!(
                            "the calibration text's sequences of {} tokens do not reach it",
                            calibration.seq_len
                        );
                        return Err(Self::wrong(operation, reason));
                    }
                    (0..calibration.tokens.len()).map(|token| token % calibration.seq_len == position).collect()
                }
                _ => vec![true; calibration.tokens.len()],
            };
            wanted.push((index, RowsTap::new(edit.point, edit.blocks.iter().copied(), calibration.seq_len, tokens)));
        }
        let start = self.begin("calibrating");
        let mut taps: Vec<&mut dyn ErasedTap> = wanted.iter_mut().map(|(_, tap)| tap as &mut dyn ErasedTap).collect();
        self.pass().run(calibration, &mut taps)?;
        self.passes.push(("calibration".to_owned(), start.elapsed().as_secs_f64()));
        Ok(wanted.into_iter().map(|(index, tap)| (index, all_means(&tap, self.batch.sequences, false))).collect())
    }

    fn pass(&self) -> Pass<'_> {
        Pass::new(self.model, self.around.memory)
    }

    fn variant(
        &mut self,
        operation: &Operation,
        plan: &Plan,
        means: Option<&Means>,
        kept: &Kept,
        untouched: &Untouched,
    ) -> Result<Variant, SurgeryError> {
        let start = self.begin("operating");
        let a = self.model.architecture();
        let layers = a.layers.len();
        let (mut largest, mut nll) = (LargestTap::new(layers), NllTap::new(layers));
        let (batch, edit, begin) = match plan {
            Plan::Tokens(changed) => (&changed.batch, None, None),
            Plan::Rows(rows) => {
                let mut edit = rows.edit.clone();
                if let Some(means) = means {
                    edit.change = Change::Replace(means.clone());
                }
                (self.batch, Some(edit), kept.residuals.residuals.get(&rows.start).map(|kept| (rows.start, kept)))
            }
        };
        let mut sinks = SinkTap::new(layers, a.heads, batch.sequences, batch.seq_len);
        let progress = |done, total| (self.around.progress)(Progress::Steps(done, total));
        let mut pass = self.pass().with_progress(&progress);
        if let Some(edit) = &edit {
            pass = pass.with_edit(edit);
        }
        let from = begin.map_or(0, |(block, _)| block);
        if let Some((block, residual)) = begin {
            pass = pass.starting_after(block, residual);
            sinks.adopt_layers(&untouched.sinks, 0..block / 2);
            largest.largest[..block].copy_from_slice(&untouched.largest[..block]);
        }
        pass.run(batch, &mut [&mut sinks, &mut largest, &mut nll])?;
        let largest = f64::from(largest.largest[1..].iter().copied().fold(0.0, f32::max));
        let pairs = match plan {
            Plan::Tokens(changed) => tokens::common(self.batch.seq_len, changed),
            Plan::Rows(_) => (0..self.batch.seq_len - 1).map(|at| (at, at)).collect(),
        };
        let scores = self.scores(&untouched.nll, &nll.nll, batch.seq_len - 1, &pairs);
        self.passes.push((operation.typed.clone(), start.elapsed().as_secs_f64()));
        let count = self.batch.sequences * pairs.len();
        let scored = (count > 0).then_some(&scores);
        Ok(Variant {
            name: operation.typed.clone(),
            perplexity: scored.map(|scores| scores.nll.exp()),
            nll: scored.map(|scores| scores.nll),
            delta_nll: scored.map(|scores| scores.delta),
            delta_ci95: scored.and_then(|scores| scores.interval),
            tokens: count,
            sink_ratio: self.sink_ratio(&sinks),
            largest: largest.is_finite().then_some(largest),
            changed_tokens: edit.map(|edit| edit.tokens.iter().filter(|changed| **changed).count()),
            computed_after: from,
        })
    }

    /// Over pairs of predictions of the same target, in every sequence.
    fn scores(&self, before: &[f32], after: &[f32], predicted_after: usize, pairs: &[(usize, usize)]) -> Scores {
        let predicted = self.batch.seq_len - 1;
        let count = pairs.len().max(1) as f64;
        let of = |nll: &[f32], at: usize| f64::from(nll[at]);
        let sequences: Vec<(f64, f64)> = (0..self.batch.sequences)
            .map(|sequence| {
                pairs.iter().fold((0.0, 0.0), |(nll, delta), &(i, j)| {
                    let theirs = of(after, sequence * predicted_after + j);
                    (nll + theirs / count, delta + (theirs - of(before, sequence * predicted + i)) / count)
                })
            })
            .collect();
        let deltas: Vec<f64> = sequences.iter().map(|sequence| sequence.1).collect();
        let number = sequences.len() as f64;
        Scores {
            nll: sequences.iter().map(|sequence| sequence.0).sum::<f64>() / number,
            delta: deltas.iter().sum::<f64>() / number,
            interval: intervals_of_means(&deltas, deltas.len(), self.request.seed).map(|intervals| intervals[0]),
        }
    }

    fn sink_ratio(&self, sinks: &SinkTap) -> f64 {
        sinks.finish(SinkDefinition::Paper, self.request.epsilon, self.request.seed).ratio
    }
}

struct Scores {
    nll: f64,
    delta: f64,
    interval: Option<[f64; 2]>,
}

fn all_means(tap: &RowsTap, sequences: usize, of_others: bool) -> Means {
    tap.rows.keys().map(|&block| (block, tap.means(block, sequences, of_others))).collect()
}

/// The block after which a spike is whole.
fn block_of(stage: &Stage) -> usize {
    stage.step_up.last().copied().unwrap_or(stage.peak_block)
}

fn channels_of(stage: &Stage) -> Vec<usize> {
    stage.channels.iter().map(|channel| channel.channel).collect()
}

/// Whether each token of a batch is the stage's.
fn marked(stage: &Stage, batch: &TokenBatch) -> Vec<bool> {
    let mut marked = vec![false; batch.tokens.len()];
    for token in &stage.tokens {
        marked[token.sequence * batch.seq_len + token.position] = true;
    }
    marked
}

fn mean(values: &[f32]) -> f64 {
    values.iter().map(|&value| f64::from(value)).sum::<f64>() / values.len().max(1) as f64
}
