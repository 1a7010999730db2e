//! One run: steps, looks and checkpoints, from a recipe.
//!
//! Everything is f32: weights, gradients and moments; products are as exact as the recipe says, and those of looks are of the
//! highest precision. What a step does depends on the recipe, the step's number, the weights and the processor's features
//! alone, so a run that was stopped and resumed on one machine leaves the bits of one that was not.

mod kept;
mod report;

use std::path::Path;
use std::time::Instant;

use sinkscope_anatomy::error::AnatomyError;
use sinkscope_model::parameters::in_memory;
use sinkscope_sources::data::TokenBatch;

use self::kept::State;
pub use self::report::{Diverged, Ended, Event, Look, Record, StepReport, Timing};
use crate::checkpoint::{Checkpoints, Resume};
use crate::data::{Batch, Source};
use crate::error::LabError;
use crate::measure::derived;
use crate::metrics::Metrics;
use crate::network::{Loss, Network, Workspace, initialise};
use crate::optimizer::{AdamW, BadGradient};
use crate::recipe::Recipe;
use crate::watch::{HeldOut, Watched, look};

/// A run under way.
#[derive(Debug)]
pub struct Trainer {
    recipe: Recipe,
    source: Source,
    network: Network<f32>,
    workspace: Workspace<f32>,
    optimizer: AdamW<f32>,
    held_out: HeldOut,
    state: State,
}

impl Trainer {
    /// Weights and moments at the beginning; `source` is the recipe's.
    ///
    /// # Errors
    /// If the recipe contradicts itself or its data cannot be read.
    pub fn new(recipe: Recipe, source: Source) -> Result<Self, LabError> {
        let architecture = recipe.architecture(source.vocabulary())?;
        let parameters = initialise(&architecture, &recipe.model.initialisation, recipe.seed)?;
        let mut network = Network::new(architecture.clone(), parameters)?.with_precision(recipe.training.precision);
        let training = &recipe.training;
        let registers = architecture.registers;
        let workspace = network.workspace(training.sequences / training.accumulation, training.seq_len + registers);
        let lengths: Vec<usize> = network.parameters.values_mut().iter().map(|values| values.len()).collect();
        let inventory = network.parameters.inventory(&architecture);
        let optimizer = AdamW::new(&inventory, &lengths, &recipe.optimizer);
        let watch = recipe.watch;
        let held_out = |seq_len: usize| {
            let Batch { sequences, seq_len, inputs, .. } = source.held_out(watch.sequences, seq_len)?;
            Ok::<_, LabError>(TokenBatch { sequences, seq_len, tokens: inputs }.with_first(architecture.register_ids()))
        };
        let other_length = watch.detail && recipe.training.seq_len != watch.seq_len;
        let held_out = HeldOut {
            batch: held_out(watch.seq_len)?,
            detail: watch.detail,
            long: other_length.then(|| held_out(recipe.training.seq_len)).transpose()?,
        };
        let state = State {
            recipe: recipe.clone(),
            variants: recipe.variants(),
            data: source.identity().sha256.clone(),
            step: 0,
            looked: None,
            loss_sum: 0.0,
            loss_steps: 0,
            best: None,
            last: None,
        };
        Ok(Self { recipe, source, network, workspace, optimizer, held_out, state })
    }

    /// Where its tokens come from.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// One step of the optimiser.
    ///
    /// # Errors
    /// If data cannot be read; [`LabError::Diverged`] if the loss or the gradient is not finite. The weights are then those
    /// before.
    pub fn step(&mut self) -> Result<StepReport, LabError> {
        let training = self.recipe.training;
        let step = self.state.step;
        let mut batch = self.source.training(step, training.sequences, training.seq_len)?;
        batch.restrict(training.loss_from, training.loss_to.unwrap_or(training.seq_len));
        let batch = batch.after_registers(self.network.architecture());
        let loss = self.add_gradients(&batch)?;
        if !loss.mean().is_finite() {
            return Err(self.diverged(format!("the loss is {}", loss.mean())));
        }
        let learning_rate = self.recipe.optimizer.learning_rate_at(step, training.steps);
        let gradients = self.workspace.gradient.values_mut();
        let parameters = self.network.parameters.values_mut();
        let stepped = self.optimizer.step(parameters, gradients, &self.recipe.optimizer, learning_rate, step);
        let gradient_norm = match stepped {
            Ok(norm) => norm,
            Err(BadGradient { tensor, value }) => {
                let name = self.tensor(tensor);
                return Err(self.diverged(format!("the gradient of {name} holds {value:e}")));
            }
        };
        self.network.parameters.repack();
        self.state.step += 1;
        self.state.loss_sum += loss.mean();
        self.state.loss_steps += 1;
        Ok(StepReport { step: self.state.step, loss: loss.mean(), gradient_norm, learning_rate })
    }

    /// The gradient of the mean loss of a batch, part by part.
    fn add_gradients(&mut self, batch: &Batch) -> Result<Loss, LabError> {
        let parts = self.recipe.training.accumulation;
        let weight = (batch.predicted().max(1) as f32).recip();
        let (sequences, len) = (batch.sequences / parts, batch.inputs.len() / parts);
        let mut loss = Loss::default();
        for (inputs, targets) in batch.inputs.chunks(len).zip(batch.targets.chunks(len)) {
            let part = Batch { sequences, seq_len: batch.seq_len, inputs: inputs.to_vec(), targets: targets.to_vec() };
            let of_part = self.network.add_gradient(&part, weight, &mut self.workspace)?;
            loss.sum += of_part.sum;
            loss.count += of_part.count;
        }
        Ok(loss)
    }

    fn diverged(&self, what: String) -> LabError {
        LabError::Diverged(Diverged { step: self.state.step, what })
    }

    /// The name of a tensor by its place.
    fn tensor(&mut self, at: usize) -> String {
        let architecture = self.network.architecture().clone();
        let inventory = self.network.parameters.inventory(&architecture);
        inventory.into_iter().nth(at).map(|info| info.name).unwrap_or_default()
    }

    /// Looks at the model as it is.
    ///
    /// # Errors
    /// [`LabError::Diverged`] if a weight, a moment of the optimiser, an activation or the loss is not finite.
    pub fn look(&mut self) -> Result<Watched, LabError> {
        let architecture = self.network.architecture().clone();
        let bad = |values: &[f32]| !values.iter().all(|value| value.is_finite());
        let weights = self.network.parameters.values_mut().into_iter().position(|values| bad(values));
        let moments = (self.optimizer.mean.iter().zip(&self.optimizer.square)).position(|(a, b)| bad(a) || bad(b));
        if let Some(at) = weights {
            let name = self.tensor(at);
            return Err(self.diverged(format!("{name} is not finite")));
        }
        if let Some(at) = moments {
            let name = self.tensor(at);
            return Err(self.diverged(format!("the optimiser's state of {name} is not finite")));
        }
        let model = in_memory("the model in training", &architecture, &mut self.network.parameters)?;
        let watched = look(&model, &self.held_out, self.recipe.seed).map_err(|error| match error {
            AnatomyError::Model(error) => LabError::Model(error),
            other => self.diverged(other.to_string()),
        })?;
        for (what, value) in [("the loss", watched.nll), ("the largest activation", watched.spike)] {
            if !value.is_finite() {
                return Err(self.diverged(format!("{what} is {value} on held-out sequences")));
            }
        }
        Ok(watched)
    }

    /// Runs to the end, or until asked to stop: records in `run/metrics.jsonl` and TensorBoard's files, checkpoints beside
    /// them. With `resume`, goes on from the newest whole checkpoint.
    ///
    /// # Errors
    /// If the directory cannot be used or holds another run, a file cannot be written, or the run diverges. Checkpoints
    /// written before stay.
    pub fn run(
        &mut self,
        run: &Path,
        resume: Resume,
        stop: &dyn Fn() -> bool,
        tell: &mut dyn FnMut(Event<'_>),
    ) -> Result<Ended, LabError> {
        let mut checkpoints = Checkpoints::open(run, resume)?;
        let resumed = self.resume(&checkpoints, tell)?;
        let mut metrics = Metrics::open(run, resumed)?;
        let steps = self.recipe.training.steps;
        let watch = self.recipe.watch;
        let start = Instant::now();
        let mut since = (Instant::now(), self.state.step);
        loop {
            let step = self.state.step;
            let saves = step == steps || step.is_multiple_of(watch.checkpoint_every);
            if stop() && step < steps {
                // What is saved takes the place of older checkpoints, so it is looked at first, if only for its being sound.
                if self.state.looked != Some(step) {
                    self.look()?;
                }
                metrics.sync()?;
                self.save(&mut checkpoints, None)?;
                tell(Event::Saved(step));
                return Ok(Ended::Stopped(step));
            }
            let mut nll = None;
            if self.state.looked != Some(step) && (saves || step.is_multiple_of(watch.every)) {
                let seconds = since.0.elapsed().as_secs_f64();
                let tokens = (step - since.1) as usize * self.tokens_per_step();
                let record = self.record()?;
                let timing = Timing {
                    tokens_per_second: (tokens > 0).then(|| tokens as f64 / seconds),
                    seconds: start.elapsed().as_secs_f64(),
                };
                metrics.record(step, &record, &timing)?;
                metrics.plot(step, &derived(&record.watched))?;
                tell(Event::Look(step, &record));
                since = (Instant::now(), step);
                nll = Some(record.watched.nll);
            }
            if step > 0 && saves && resumed != Some(step) {
                metrics.sync()?;
                self.save(&mut checkpoints, nll)?;
                tell(Event::Saved(step));
            }
            if step == steps {
                return Ok(Ended::Finished);
            }
            let report = self.step()?;
            tell(Event::Step(&report));
            self.state.last = Some(report);
        }
    }

    fn tokens_per_step(&self) -> usize {
        self.recipe.training.sequences * self.recipe.training.seq_len
    }

    /// Looks, and begins to sum up anew.
    fn record(&mut self) -> Result<Record, LabError> {
        let watched = self.look()?;
        let tokens_per_step = self.tokens_per_step() as u64;
        let state = &mut self.state;
        let last = state.last;
        let record = Record {
            tokens: state.step * tokens_per_step,
            loss: (state.loss_steps > 0).then(|| state.loss_sum / state.loss_steps as f64),
            gradient_norm: last.map(|last| last.gradient_norm),
            learning_rate: last.map(|last| last.learning_rate),
            watched,
        };
        state.looked = Some(state.step);
        (state.loss_sum, state.loss_steps) = (0.0, 0);
        Ok(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe_file;

    fn trainer() -> Trainer {
        let mut recipe: Recipe =
            recipe_file::parse(include_str!("../../../../recipes/nano.toml"), Path::new("nano.toml"))
                .expect("a recipe");
        (recipe.model.d_model, recipe.model.layers, recipe.training.sequences) = (16, 2, 2);
        let source = Source::open(&recipe.source()).expect("no files");
        Trainer::new(recipe, source).expect("it fits")
    }

    /// The place of a tensor among all.
    fn place(trainer: &mut Trainer, name: &str) -> usize {
        let architecture = trainer.network.architecture().clone();
        let inventory = trainer.network.parameters.inventory(&architecture);
        inventory.iter().position(|info| info.name == name).expect("a tensor")
    }

    fn all_weights(trainer: &mut Trainer) -> Vec<f32> {
        trainer.network.parameters.values_mut().into_iter().flat_map(|values| values.to_vec()).collect()
    }

    #[test]
    fn a_gradient_that_is_no_number_names_its_tensor_and_reaches_no_weight() {
        let mut trainer = trainer();
        trainer.step().expect("a step");
        let before = all_weights(&mut trainer);
        let name = "model.layers.1.mlp.down_proj.weight";
        let place = place(&mut trainer, name);
        trainer.workspace.gradient.values_mut()[place][5] = f32::NAN;
        let error = trainer.step().expect_err("no number").to_string();
        let said = format!("step 1: the gradient of {name} holds NaN: the run diverged");
        assert!(error.starts_with(&said), "{error}");
        assert!(before == all_weights(&mut trainer));
        assert_eq!(trainer.state.step, 1);
    }

    #[test]
    fn what_is_no_number_is_not_saved() {
        let mut trainer = trainer();
        let name = "model.layers.0.self_attn.q_proj.weight";
        let place = place(&mut trainer, name);
        trainer.optimizer.square[place][0] = f32::INFINITY;
        let error = trainer.look().expect_err("no number").to_string();
        assert!(error.contains(&format!("the optimiser's state of {name} is not finite")), "{error}");
        trainer.network.parameters.values_mut()[place][0] = f32::NAN;
        let error = trainer.look().expect_err("no number").to_string();
        assert!(error.contains(&format!("step 0: {name} is not finite")), "{error}");
    }
}
