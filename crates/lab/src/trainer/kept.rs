//! What of a run outlives its process: a checkpoint written, and taken up again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sinkscope_model::parameters::StoredTensor;

use super::{Event, StepReport, Trainer};
use crate::checkpoint::{Checkpoints, Snapshot};
use crate::error::LabError;
use crate::export;
use crate::recipe::Recipe;
use crate::resumption;

/// What the next step depends on, beside weights and moments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) recipe: Recipe,
    /// As [`Recipe::variants`] gave them to the program that began the run.
    #[serde(default)]
    pub(super) variants: BTreeMap<String, u32>,
    /// SHA-256 of the data.
    pub(super) data: String,
    pub(super) step: u64,
    /// The step of the last look.
    pub(super) looked: Option<u64>,
    /// Of the training losses since then.
    pub(super) loss_sum: f64,
    pub(super) loss_steps: u64,
    /// The least held-out loss of a saved look.
    pub(super) best: Option<f64>,
    /// The last step, which the next look tells of.
    pub(super) last: Option<StepReport>,
}

impl Trainer {
    /// Takes weights, moments and state from the newest whole checkpoint, if there is one; gives its step.
    pub(super) fn resume(
        &mut self,
        checkpoints: &Checkpoints,
        tell: &mut dyn FnMut(Event<'_>),
    ) -> Result<Option<u64>, LabError> {
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
            |tensors: &'_ [StoredTensor<'static>], name: &str| tensors.iter().position(|tensor| tensor.name == name);
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
    pub(super) fn save(&mut self, checkpoints: &mut Checkpoints, nll: Option<f64>) -> Result<(), LabError> {
        let best = nll.is_some_and(|nll| self.state.best.is_none_or(|best| nll < best));
        if best {
            self.state.best = nll;
        }
        let architecture = self.network.architecture().clone();
        let names = self.network.parameters.inventory(&architecture);
        let model = self.network.parameters.tensors(&architecture);
        let mut optimizer = Vec::new();
        for (which, moments) in [("mean", &self.optimizer.mean), ("square", &self.optimizer.square)] {
            for (values, info) in moments.iter().zip(&names) {
                let name = format!("{which}.{}", info.name);
                optimizer.push(StoredTensor::new(name, vec![values.len()], values.as_slice()));
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
