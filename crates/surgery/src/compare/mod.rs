//! One run of the untouched model, and one for every operation, from the first layer that it changes.
//!
//! Where the spikes are is known only after the whole depth. So the untouched model runs first; then, once for all
//! operations, its first blocks again, to keep the residual where operations begin and the rows whose means they need;
//! then every operation runs from there on. Layers that an operation does not reach are not computed again.

mod beforehand;
mod scores;
mod sweep;
mod trial;

use std::time::Instant;

use sinkscope_anatomy::error::AnatomyError;
use sinkscope_anatomy::examination::{AnatomyRequest, AnatomyTaps, Finished, ModelSize, Progress, Surroundings};
use sinkscope_anatomy::results::Stage;
use sinkscope_anatomy::sinks::SinkDefinition;
use sinkscope_anatomy::tokens::Tokens;
use sinkscope_anatomy::wide::mean;
use sinkscope_model::Model;
use sinkscope_model::pass::{ErasedTap, Pass, PassReport};
use sinkscope_sources::data::TokenBatch;

use self::scores::finite;
use self::sweep::sweeps;
use self::trial::Known;
pub use self::trial::{Shown, Trial};
use crate::advice::advice;
use crate::divergence::{DivergenceTap, ReferenceTap};
use crate::error::SurgeryError;
use crate::operation::{Kind, Operation};
use crate::plan::{self, Plan, Planner, channels_of};
use crate::positions::ByPosition;
use crate::quantise::MagnitudeTap;
use crate::results::{Baseline, Comparison, PositionNll, SpikePlace, Variant};
use crate::seen::Seen;
use crate::tokens;

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
    /// Whether advice is tried before it is given, at the cost of a pass each.
    pub trials: bool,
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
    model.require_head("the comparison of operations")?;
    let planner = Planner::new(model, batch, request);
    // What is wrong without a look at the model is said before the work.
    for operation in &request.operations {
        planner.check(operation)?;
    }
    let steps: Vec<Operation> = request.operations.iter().flat_map(Operation::steps).collect();
    let mut run = Run { model, batch, request, around, passes: Vec::new(), positions: Vec::new(), deltas: Vec::new() };
    let mut magnitudes =
        steps.iter().any(|step| matches!(step.kind, Kind::Quantise { .. })).then(MagnitudeTap::default);
    // A quarter of the memory: operations need some too.
    let mut predictions = ReferenceTap::new(model, batch, around.memory / 4);
    let mut taps: Vec<&mut dyn ErasedTap> = vec![&mut predictions];
    taps.extend(magnitudes.as_mut().map(|tap| tap as &mut dyn ErasedTap));
    let untouched = run.examine(batch, &mut taps)?;
    let reference = predictions.finish(model)?;
    run.add_positions(None, untouched.seen.nll.predictions(), &run.unmoved());
    let shown = untouched.shown();
    let mut plans: Vec<Plan> =
        steps.iter().map(|operation| planner.plan(operation, shown)).collect::<Result<_, _>>()?;
    let kept = run.keep(&mut plans)?;
    if let Some(calibration) = &request.calibration {
        run.calibrate(calibration, &planner, (&steps, &mut plans))?;
    }
    if let Some(magnitudes) = magnitudes {
        run.look_at_inputs(magnitudes, shown.stage, &mut plans)?;
    }
    let known = Known { untouched: &untouched, kept: &kept, reference: &reference };
    let variants = plans
        .iter()
        .zip(&steps)
        .map(|(plan, operation)| run.variant(operation, plan, &known))
        .collect::<Result<Vec<_>, _>>()?;
    let (trials, tried) = if request.trials {
        run.exemptions(&planner, (&steps, &plans), &variants, &known)?
    } else {
        (Vec::new(), Vec::new())
    };
    let predicted = run.beyond(model.architecture().registers, untouched.seen.nll.predictions());
    let nll = mean(predicted.iter().copied()).unwrap_or(0.0);
    let comparison = Comparison {
        baseline: Baseline {
            perplexity: finite(Some(nll.exp())),
            nll,
            tokens: predicted.len(),
            sequences: batch.sequences,
            sink_ratio: run.sink_ratio(&untouched.seen),
            largest: untouched.seen.largest(),
        },
        sink_tokens: untouched.seen.sinks.sink_tokens(),
        spike: shown.stage.map(|stage| SpikePlace {
            block: stage.whole_after(),
            channels: channels_of(stage),
            tokens: stage.tokens.len(),
        }),
        advice: Vec::new(),
        sweeps: sweeps(&request.operations, &variants, batch.seq_len),
        smoothing: run.smoothing(&steps),
        variants,
        trials,
        by_position: ByPosition::of(&run.positions, batch.seq_len),
        positions: run.positions,
    };
    let comparison = Comparison { advice: advice(&comparison, &steps, &tried), ..comparison };
    Ok(Compared { comparison, first: untouched.report, passes: run.passes })
}

/// A comparison under way.
struct Run<'a> {
    model: &'a Model,
    batch: &'a TokenBatch,
    request: &'a Request,
    around: Surroundings<'a>,
    passes: Vec<(String, f64)>,
    positions: Vec<PositionNll>,
    /// By run, what each sequence lost; `None` where nothing can be compared.
    deltas: Vec<Option<Vec<f64>>>,
}

/// What the untouched model shows of a batch.
struct Untouched {
    stage: Option<Stage>,
    /// By token, whether it sinks.
    sink_tokens: Vec<bool>,
    seen: Seen,
    report: PassReport,
}

impl Untouched {
    fn shown(&self) -> plan::Landmarks<'_> {
        plan::Landmarks { stage: self.stage.as_ref(), sinks: &self.sink_tokens }
    }
}

impl Run<'_> {
    fn begin(&self, what: &'static str) -> Instant {
        (self.around.progress)(Progress::Stage(what));
        Instant::now()
    }

    fn end(&mut self, what: &str, start: Instant) {
        self.passes.push((what.to_owned(), start.elapsed().as_secs_f64()));
    }

    fn pass(&self) -> Pass<'_> {
        Pass::new(self.model, self.around.memory)
    }

    /// Runs the untouched model on a batch, past more taps than a comparison needs.
    fn examine(&mut self, batch: &TokenBatch, more: &mut [&mut dyn ErasedTap]) -> Result<Untouched, SurgeryError> {
        let start = self.begin("examining the untouched model");
        let request = AnatomyRequest {
            spikes: true,
            spike_ratio: self.request.spike_ratio,
            seed: self.request.seed,
            ..AnatomyRequest::nothing()
        };
        let mut search = AnatomyTaps::new(&request, ModelSize::of(self.model), batch);
        let mut seen = Seen::new(self.model, batch);
        seen.sinks = seen.sinks.with_tokens(SinkDefinition::Paper, self.request.epsilon);
        let mut taps = seen.taps();
        taps.extend(search.residual.as_mut().map(|tap| tap as &mut dyn ErasedTap));
        for tap in more {
            taps.push(&mut **tap);
        }
        let progress = |done, total| (self.around.progress)(Progress::Steps(done, total));
        let pass = self.pass().with_progress(&progress);
        let report = pass.run(batch, &mut taps)?;
        let anatomy = match search.finish(batch, self.around.text)? {
            Finished::Complete(anatomy) => *anatomy,
            Finished::SecondLook(mut look) => {
                pass.run(batch, &mut [&mut look.tap])?;
                look.finish(batch, self.around.text)
            }
        };
        if let Some(found) = seen.not_finite() {
            return Err(AnatomyError::NotFinite(found.named(Tokens::new(batch, self.around.text))).into());
        }
        let stage = anatomy.spikes.and_then(|spikes| spikes.stages.into_iter().next());
        let sink_tokens = seen.sinks.sink_tokens().map_or_else(Vec::new, |tokens| tokens.marked());
        self.end("untouched", start);
        Ok(Untouched { stage, sink_tokens, seen, report })
    }

    fn variant(&mut self, operation: &Operation, plan: &Plan, known: &Known<'_>) -> Result<Variant, SurgeryError> {
        let untouched = &known.untouched.seen;
        let start = self.begin("operating");
        let (batch, pairs) = match plan {
            Plan::Tokens(changed) => {
                let registers = self.model.architecture().registers;
                (&changed.batch, tokens::common(self.batch.seq_len, registers, changed))
            }
            Plan::Edited { .. } | Plan::Window(_) | Plan::Quantised { .. } | Plan::Cache { .. } => {
                (self.batch, self.unmoved())
            }
        };
        let mut seen = Seen::new(self.model, batch);
        let progress = |done, total| (self.around.progress)(Progress::Steps(done, total));
        let mut pass = self.pass().with_progress(&progress);
        let mut computed_after = 0;
        pass = match plan {
            Plan::Tokens(_) => pass,
            Plan::Window(window) => pass.with_window(*window),
            Plan::Edited { edited, .. } => pass.with_edit(edited.edit()),
            Plan::Quantised { layers, .. } => pass.with_linears(&**layers),
            Plan::Cache { cache, .. } => pass.with_edit(cache),
        };
        if let Some(residual) = known.kept.residuals.get(&plan.start()) {
            pass = pass.starting_after(plan.start(), residual);
            seen.adopt(untouched, plan.start());
            computed_after = plan.start();
        }
        let mut divergence = (!pairs.is_empty()).then(|| DivergenceTap::new(known.reference, batch, &pairs));
        let mut taps = seen.taps();
        taps.extend(divergence.as_mut().map(|tap| tap as &mut dyn ErasedTap));
        pass.run(batch, &mut taps)?;
        let divergence = divergence.map(DivergenceTap::finish).transpose()?;
        let changed = match plan {
            Plan::Edited { edited, .. } => Some(edited.tokens()),
            _ => None,
        };
        let variant = Variant {
            name: operation.typed.clone(),
            tokens: self.batch.sequences * pairs.len(),
            changed_tokens: changed.map(|changed| changed.iter().filter(|changed| **changed).count()),
            computed_after,
            kept_tokens: plan.kept_tokens(),
            ..Variant::default()
        };
        if let Some(found) = seen.not_finite() {
            self.end(&operation.typed, start);
            self.deltas.push(None);
            return Ok(Variant { not_finite: Some(found.named(Tokens::new(batch, self.around.text))), ..variant });
        }
        self.add_positions(Some(&operation.typed), seen.nll.predictions(), &pairs);
        let apart = divergence.map(|rows| self.divergence(&rows));
        let scores = self.scores(untouched.nll.predictions(), seen.nll.predictions(), batch.seq_len - 1, &pairs);
        self.deltas.push(scores.as_ref().map(|scores| scores.deltas.clone()));
        self.end(&operation.typed, start);
        let received = |seen: &Seen| changed.and_then(|changed| seen.received.mean(changed));
        Ok(Variant {
            perplexity: finite(scores.as_ref().map(|scores| scores.nll.exp())),
            nll: finite(scores.as_ref().map(|scores| scores.nll)),
            delta_nll: finite(scores.as_ref().map(|scores| scores.delta)),
            delta_ci95: scores.as_ref().and_then(|scores| scores.interval),
            kl: finite(apart.as_ref().map(|apart| apart.kl)),
            kl_ci95: apart.as_ref().and_then(|apart| apart.interval),
            top1_agreement: apart.as_ref().map(|apart| apart.agreement),
            perplexity_after: match plan {
                Plan::Window(window) => {
                    self.after(window.width.saturating_mul(4), untouched.nll.predictions(), seen.nll.predictions())
                }
                _ => None,
            },
            sink_ratio: Some(self.sink_ratio(&seen)),
            largest: Some(seen.largest()),
            received_before: received(untouched),
            received: received(&seen),
            linear_layers: match plan {
                Plan::Quantised { layers, .. } => layers.layers(),
                _ => Vec::new(),
            },
            ..variant
        })
    }

    fn sink_ratio(&self, seen: &Seen) -> f64 {
        seen.sinks.finish(SinkDefinition::Paper, self.request.epsilon, self.request.seed).ratio
    }
}
