//! One run: steps, looks and checkpoints, from a recipe.
//!
//! Everything is f32: weights, gradients and moments; products are as exact as the recipe says, and those of looks are of the
//! highest precision. What a step does depends on the recipe, the step's number, the weights and the processor's features
//! alone, so a run that was stopped and resumed on one machine leaves the bits of one that was not.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinkscope_anatomy::error::AnatomyError;
use sinkscope_model::architecture::Architecture;
use sinkscope_model::data::TokenBatch;
use sinkscope_model::parameters::{StoredTensor, in_memory};

use crate::checkpoint::{Checkpoints, NamedTensor, Resume, Snapshot};
use crate::data::{Batch, IGNORED, Source};
use crate::error::LabError;
use crate::export;
use crate::measure::derived;
use crate::metrics::Metrics;
use crate::network::{Loss, Network, Workspace, initialise};
use crate::optimizer::{AdamW, BadGradient};
use crate::recipe::Recipe;
use crate::resumption;
use crate::watch::{Watched, look};

/// A run under way.
#[derive(Debug)]
pub struct Trainer {
    recipe: Recipe,
    source: Source,
    network: Network<f32>,
    workspace: Workspace<f32>,
    optimizer: AdamW<f32>,
    held_out: TokenBatch,
    state: State,
}

/// What the next step depends on, beside weights and moments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct State {
    recipe: Recipe,
    /// As [`Recipe::variants`] gave them to the program that began the run.
    #[serde(default)]
    variants: BTreeMap<String, u32>,
    /// SHA-256 of the data.
    data: String,
    step: u64,
    /// The step of the last look.
    looked: Option<u64>,
    /// Of the training losses since then.
    loss_sum: f64,
    loss_steps: u64,
    /// The least held-out loss of a saved look.
    best: Option<f64>,
    /// The last step, which the next look tells of.
    last: Option<StepReport>,
}

/// What one step did.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StepReport {
    /// Steps done, this one included.
    pub step: u64,
    /// Mean loss over the counted targets of its batch, in nats, before the step.
    pub loss: f64,
    /// Length of the gradient before it was shortened.
    pub gradient_norm: f64,
    /// Learning rate.
    pub learning_rate: f64,
}

/// Where a run came to something that is no number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Diverged {
    /// The step, from 0: so many were done before.
    pub step: u64,
    /// What is no number, and what it is instead.
    pub what: String,
}

/// A line of `metrics.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Look {
    /// Steps done before it.
    pub step: u64,
    /// What is the same whenever the run is repeated.
    #[serde(flatten)]
    pub record: Record,
    /// What is not.
    pub timing: Timing,
}

/// What a look at the model showed, and what the steps before it did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Record {
    /// Tokens trained on so far.
    pub tokens: u64,
    /// Mean training loss over the steps since the last record; `None` before the first step.
    pub loss: Option<f64>,
    /// Of the last step.
    pub gradient_norm: Option<f64>,
    /// Of the last step.
    pub learning_rate: Option<f64>,
    /// The look.
    #[serde(flatten)]
    pub watched: Watched,
}

/// How fast a run is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Timing {
    /// Of the steps since the look before; `None` if there were none.
    pub tokens_per_second: Option<f64>,
    /// Since this process began to train.
    pub seconds: f64,
}

/// How far a run is.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// A step was done.
    Step(&'a StepReport),
    /// The model was looked at, so many steps in.
    Look(u64, &'a Record),
    /// A checkpoint was written after so many steps.
    Saved(u64),
    /// A damaged checkpoint was passed over.
    Damaged(&'a LabError),
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Ended {
    /// All steps are done.
    Finished,
    /// It was asked to stop, and saved, after so many steps.
    Stopped(u64),
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
        let Batch { sequences, seq_len, inputs, .. } = source.held_out(recipe.watch.sequences, recipe.watch.seq_len)?;
        let held_out = TokenBatch { sequences, seq_len, tokens: inputs }.with_registers(&architecture);
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
        restrict(&mut batch, training.loss_from, training.loss_to.unwrap_or(training.seq_len));
        let batch = after_registers(batch, self.network.architecture());
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

    /// Takes weights, moments and state from the newest whole checkpoint, if there is one; gives its step.
    fn resume(&mut self, checkpoints: &Checkpoints, tell: &mut dyn FnMut(Event<'_>)) -> Result<Option<u64>, LabError> {
        let Some(loaded) = checkpoints.load::<State>()? else { return Ok(None) };
        for damaged in &loaded.damaged {
            tell(Event::Damaged(damaged));
        }
        let place = loaded.directory.display();
        let begun = &loaded.state.recipe;
        resumption::check(begun, &self.recipe, loaded.step)
            .map_err(|error| LabError::Request(format!("{place}: {error}")))?;
        same_meaning(&loaded.state.variants, &self.state.variants)
            .map_err(|reason| LabError::Request(format!("{place}: {reason}")))?;
        if loaded.state.data != self.state.data {
            return Err(LabError::Request(format!(
                "{place}: was begun on data whose SHA-256 is {}; that of {} is {}",
                loaded.state.data,
                self.source.identity().source,
                self.state.data
            )));
        }
        // Losses on other sequences cannot be compared.
        let (was, is) = (begun.watch, self.recipe.watch);
        let comparable = (was.sequences, was.seq_len) == (is.sequences, is.seq_len);
        let best = loaded.state.best.filter(|_| comparable);
        let find =
            |tensors: &'_ [NamedTensor<'static>], name: &str| tensors.iter().position(|tensor| tensor.name == name);
        let architecture = self.network.architecture().clone();
        self.network.parameters.set_tensors(&architecture, |name| {
            let tensor = &loaded.model[find(&loaded.model, name)?];
            Some((&tensor.shape[..], &tensor.values[..]))
        })?;
        let names = self.network.parameters.inventory(&architecture);
        for (which, moments) in [("mean", &mut self.optimizer.mean), ("square", &mut self.optimizer.square)] {
            for (moment, info) in moments.iter_mut().zip(&names) {
                let name = format!("{which}.{}", info.name);
                match find(&loaded.optimizer, &name).map(|at| &loaded.optimizer[at].values) {
                    Some(values) if values.len() == moment.len() => moment.copy_from_slice(values),
                    _ => return Err(LabError::Request(format!("{place}: the optimiser's tensor {name} is not there"))),
                }
            }
        }
        self.state = State { recipe: self.recipe.clone(), best, ..loaded.state };
        Ok(Some(self.state.step))
    }

    /// Writes a checkpoint; `nll` of a look just taken decides whether it is the best.
    fn save(&mut self, checkpoints: &mut Checkpoints, nll: Option<f64>) -> Result<(), LabError> {
        let best = nll.is_some_and(|nll| self.state.best.is_none_or(|best| nll < best));
        if best {
            self.state.best = nll;
        }
        let architecture = self.network.architecture().clone();
        let names = self.network.parameters.inventory(&architecture);
        let tensors = self.network.parameters.tensors(&architecture);
        let model: Vec<NamedTensor<'_>> = tensors
            .iter()
            .map(|StoredTensor { name, shape, values }| {
                NamedTensor::new(name.as_str(), shape.as_slice(), values.as_slice())
            })
            .collect();
        let mut optimizer = Vec::new();
        for (which, moments) in [("mean", &self.optimizer.mean), ("square", &self.optimizer.square)] {
            for (values, info) in moments.iter().zip(&names) {
                let name = format!("{which}.{}", info.name);
                optimizer.push(NamedTensor::new(name, vec![values.len()], values.as_slice()));
            }
        }
        let files = export::files(&architecture, &self.source, self.recipe.source().bos)?;
        let files: Vec<(&str, &[u8])> = files.iter().map(|(name, content)| (*name, &content[..])).collect();
        let snapshot =
            Snapshot { step: self.state.step, model: &model, optimizer: &optimizer, state: &self.state, files: &files };
        checkpoints.save(&snapshot, best)
    }
}

/// Whether choices meant to the program that began a run what they mean now; each without a number meant what it did first.
fn same_meaning(begun: &BTreeMap<String, u32>, now: &BTreeMap<String, u32>) -> Result<(), String> {
    let number = |choice: &str| begun.get(choice).copied().unwrap_or(1);
    match now.iter().find(|(choice, now)| number(choice) != **now) {
        None => Ok(()),
        Some((choice, now)) => Err(format!(
            "was begun when {choice} meant something else (variant {}, now {now}); begin another run",
            number(choice)
        )),
    }
}

/// Leaves only the targets of positions `from` to `to`, from 1, in the loss (Table 8).
pub(crate) fn restrict(batch: &mut Batch, from: usize, to: usize) {
    for (index, target) in batch.targets.iter_mut().enumerate() {
        let position = index % batch.seq_len + 1;
        if position < from || position > to {
            *target = IGNORED;
        }
    }
}

/// Puts registers before every sequence. They have no targets.
pub(crate) fn after_registers(batch: Batch, architecture: &Architecture) -> Batch {
    if architecture.registers == 0 {
        return batch;
    }
    let Batch { sequences, seq_len, inputs, targets } = batch;
    let of_registers = vec![IGNORED; architecture.registers];
    let targets = targets.chunks(seq_len).flat_map(|row| [&of_registers, row].concat()).collect();
    let TokenBatch { tokens, sequences, seq_len } =
        TokenBatch { tokens: inputs, sequences, seq_len }.with_registers(architecture);
    Batch { sequences, seq_len, inputs: tokens, targets }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe_file;

    #[test]
    fn registers_stand_first_and_only_chosen_positions_count() {
        let mut recipe: Recipe =
            recipe_file::parse(include_str!("../../../recipes/nano.toml"), Path::new("nano.toml")).expect("a recipe");
        recipe.model.registers = 2;
        let mut batch =
            Batch { sequences: 2, seq_len: 3, inputs: vec![1, 2, 3, 4, 5, 6], targets: vec![2, 3, 9, 5, 6, 9] };
        restrict(&mut batch, 1, 2);
        let batch = after_registers(batch, &recipe.architecture(10).expect("a model"));
        assert_eq!((batch.seq_len, &batch.inputs[..]), (5, &[10, 11, 1, 2, 3, 10, 11, 4, 5, 6][..]));
        let none = IGNORED;
        assert_eq!(batch.targets, [none, none, 2, 3, none, none, none, 5, 6, none]);
    }

    #[test]
    fn a_run_begun_when_a_choice_meant_something_else_is_not_resumed() {
        let numbers = |number: u32| BTreeMap::from([("post_norm".to_owned(), number)]);
        assert_eq!(same_meaning(&BTreeMap::new(), &BTreeMap::new()), Ok(()));
        assert_eq!(same_meaning(&numbers(2), &numbers(2)), Ok(()));
        for begun in [BTreeMap::new(), numbers(3)] {
            let reason = same_meaning(&begun, &numbers(2)).expect_err("another meaning");
            assert!(reason.contains("post_norm meant something else"), "{reason}");
        }
    }

    fn trainer() -> Trainer {
        let mut recipe: Recipe =
            recipe_file::parse(include_str!("../../../recipes/nano.toml"), Path::new("nano.toml")).expect("a recipe");
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
