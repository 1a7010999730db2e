//! A model: an architecture and the weights of a checkpoint, a layer at a time.

use std::collections::BTreeSet;
use std::ops::Range;

use sinkscope_kernels::Float;
use sinkscope_kernels::matmul::Precision;

use crate::architecture::{Architecture, NormKind};
use crate::assembly::{self, ByRole};
use crate::blocks::{AttentionBlock, FeedForwardBlock, Norm};
use crate::error::ModelError;
use crate::families::{Identified, Role, Slot, any_matches, identify, inventory, matches};
use crate::linear::Linear;
use crate::weights::Weights;
use sinkscope_sources::checkpoint::Checkpoint;

/// A checkpoint understood: every weight the architecture needs is there, in the right shape. What gives weights decodes them,
/// and fails if a value is not finite.
#[derive(Debug)]
pub struct Model {
    architecture: Architecture,
    weights: Weights,
    has_head: bool,
    passed: Vec<String>,
}

/// How a length of sequences suits a model's positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LengthFit {
    /// The model was made for it.
    Within,
    /// The position encoding extends that far, but the model was made for fewer positions.
    Beyond {
        /// Positions it was made for.
        max_positions: usize,
    },
}

#[expect(clippy::missing_errors_doc, reason = "said above, once for all that decode")]
impl Model {
    /// Opens the model that `name` stands for: a GGUF file, a Hugging Face directory or a hub id.
    ///
    /// # Errors
    /// If the checkpoint cannot be read, its family or a setting of it is not supported, or a tensor is missing or has
    /// another shape. Values are looked at when they are decoded.
    pub fn open(name: &str) -> Result<Self, ModelError> {
        Self::from_checkpoint(Checkpoint::open(name)?)
    }

    /// Understands an open checkpoint.
    ///
    /// # Errors
    /// As [`Model::open`].
    pub fn from_checkpoint(checkpoint: Checkpoint) -> Result<Self, ModelError> {
        Self::from_checkpoint_allowing(checkpoint, &[])
    }

    /// The same, but settings and tensors whose names are of one of these patterns may be unknown: the model is computed as if
    /// they were not there. In a pattern `*` stands for anything.
    ///
    /// # Errors
    /// As [`Model::open`].
    pub fn from_checkpoint_allowing(checkpoint: Checkpoint, allowed: &[String]) -> Result<Self, ModelError> {
        let Identified { architecture, naming, has_head, leftovers, passed } = identify(&checkpoint, allowed)?;
        let weights = Weights::new(checkpoint, naming);
        let mut model = Self { architecture, weights, has_head, passed };
        model.check()?;
        model.settle(&leftovers, allowed)?;
        Ok(model)
    }

    /// Every weight in its place.
    fn check(&self) -> Result<(), ModelError> {
        let a = &self.architecture;
        self.inventory().try_for_each(|slot| self.weights.check(slot.role, slot.layer, slot.inputs, a))
    }

    /// Every weight that the model has.
    fn inventory(&self) -> impl Iterator<Item = Slot> {
        inventory(&self.architecture).into_iter().filter(|slot| self.has_head || slot.role != Role::Head)
    }

    /// The names of the tensors that hold the weights.
    fn used(&self) -> BTreeSet<String> {
        let a = &self.architecture;
        self.inventory().flat_map(|slot| self.weights.tensors_of(slot.role, slot.layer, a)).collect()
    }

    pub(crate) fn weights(&self) -> &Weights {
        &self.weights
    }

    /// Every weight that the model has, with its layer and the name of the tensor that holds it.
    pub(crate) fn named_weights(&self) -> impl Iterator<Item = (Role, usize, String)> {
        self.inventory()
            .map(|Slot { role, layer, .. }| (role, layer, self.weights.name(role, layer, &self.architecture)))
    }

    /// Every tensor has a place, or is known to be left over, or the user lets it pass.
    fn settle(&mut self, leftovers: &[&str], allowed: &[String]) -> Result<(), ModelError> {
        let used = self.used();
        let checkpoint = self.weights.checkpoint();
        // What an index promises and no file holds is a loss only if something would read it.
        let head = self.weights.tensors_of(Role::Head, 0, &self.architecture);
        let without_loss = |name: &str| head.iter().any(|head| head == name) && !checkpoint.has(name) && self.has_head;
        let (mut passed, mut unused) = (Vec::new(), Vec::new());
        for name in checkpoint.names().filter(|name| !used.contains(*name) && !without_loss(name)) {
            if any_matches(leftovers, name) {
                continue;
            }
            if any_matches(allowed, name) {
                passed.push(name.to_owned());
            } else {
                unused.push(name.to_owned());
            }
        }
        if !unused.is_empty() {
            let (path, family) = (checkpoint.path().to_owned(), self.architecture.family.clone());
            return Err(ModelError::UnusedTensors { path, family, tensors: unused });
        }
        self.passed.extend(passed);
        Ok(())
    }

    /// The settings and tensors that are unknown and that the user lets pass.
    pub fn passed(&self) -> &[String] {
        &self.passed
    }

    /// Whether something was let pass by this pattern.
    pub fn let_pass(&self, pattern: &str) -> bool {
        self.passed.iter().any(|name| matches(pattern, name))
    }

    /// Whether the model has an output head: one of its own, or the embedding.
    pub fn has_head(&self) -> bool {
        self.has_head
    }

    /// That the model has an output head.
    ///
    /// # Errors
    /// [`ModelError::Request`] if it has none, as models that embed or judge texts.
    pub fn require_head(&self, what: &str) -> Result<(), ModelError> {
        if self.has_head {
            return Ok(());
        }
        let head = self.weights.tensors_of(Role::Head, 0, &self.architecture);
        Err(ModelError::Request(format!(
            "{} has no output head (no tensor {}, and the embedding is none), which {what} needs",
            self.checkpoint().name(),
            head.first().map_or("of that name", String::as_str)
        )))
    }

    /// Number of stored values in the tensors that the model uses, each counted once.
    pub fn parameters(&self) -> u64 {
        let checkpoint = self.checkpoint();
        self.used().iter().filter_map(|name| checkpoint.tensor(name)).map(|tensor| tensor.len() as u64).sum()
    }

    /// The same model, whose products are of some precision.
    #[must_use]
    pub fn with_precision(mut self, precision: Precision) -> Self {
        self.weights.precision = precision;
        self
    }

    /// The shape and design choices.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// Where the weights come from.
    pub fn checkpoint(&self) -> &Checkpoint {
        self.weights.checkpoint()
    }

    /// Whether sequences of `seq_len` suit the model's positions.
    ///
    /// # Errors
    /// If positions are learned and there are fewer.
    pub fn check_length(&self, seq_len: usize) -> Result<LengthFit, ModelError> {
        let a = &self.architecture;
        match () {
            () if seq_len <= a.max_positions => Ok(LengthFit::Within),
            () if !a.has_parameters_by_position() => Ok(LengthFit::Beyond { max_positions: a.max_positions }),
            () => Err(ModelError::Request(format!(
                "sequences of {seq_len} tokens exceed the {} learned positions of {}; ask for at most that many",
                a.max_positions,
                self.checkpoint().name()
            ))),
        }
    }

    /// The embedding of one token id, before any scale. Length d_model.
    pub fn embedding<F: Float>(&self, id: u32) -> Result<Vec<F>, ModelError> {
        let row = id as usize..id as usize + 1;
        self.weights.rows(Role::Embedding, row, self.architecture.d_model, &self.architecture)
    }

    /// The embeddings of token ids, before any scale: ids x d_model.
    pub fn embeddings(&self, ids: &[u32]) -> Result<Vec<f32>, ModelError> {
        self.weights.rows_of(Role::Embedding, ids, self.architecture.d_model, &self.architecture)
    }

    /// Learned positions `0 .. count`, count x d_model; `None` if the model has none.
    pub fn positions<F: Float>(&self, count: usize) -> Result<Option<Vec<F>>, ModelError> {
        let a = &self.architecture;
        a.learned_positions.then(|| self.weights.rows(Role::Positions, 0..count, a.d_model, a)).transpose()
    }

    /// Outputs `ids` of the output head (of the embedding, if tied).
    ///
    /// # Errors
    /// If the model has none, or a value is not finite.
    pub fn head<F: Float>(&self, ids: Range<usize>) -> Result<Linear<F>, ModelError> {
        self.require_head("a prediction")?;
        let a = &self.architecture;
        let role = if a.tied_embeddings { Role::Embedding } else { Role::Head };
        self.weights.outputs(role, ids, a.d_model, a)
    }

    /// The norm before the output head; `None` if the last block's norm is the last.
    pub fn final_norm<F: Float>(&self) -> Result<Option<Norm<F>>, ModelError> {
        self.architecture.final_norm.then(|| self.norm(Role::FinalNorm, 0)).transpose()
    }

    /// The norm that a block, from 1, applies to its input; `None` if it reads the residual as it is.
    pub fn input_norm<F: Float>(&self, block: usize) -> Result<Option<Norm<F>>, ModelError> {
        assembly::input_norm(self, &self.architecture, block)
    }

    /// Decodes the attention block of a layer.
    pub fn attention_block<F: Float>(&self, layer: usize) -> Result<AttentionBlock<F>, ModelError> {
        assembly::attention(self, &self.architecture, layer, self.weights.precision)
    }

    /// Decodes the feed-forward block of a layer.
    pub fn feed_forward_block<F: Float>(&self, layer: usize) -> Result<FeedForwardBlock<F>, ModelError> {
        assembly::feed_forward(self, &self.architecture, layer)
    }
}

impl<F: Float> ByRole<F> for Model {
    fn linear(&self, role: Role, layer: usize, inputs: usize) -> Result<Linear<F>, ModelError> {
        self.weights.linear(role, layer, inputs, &self.architecture)
    }

    fn norm(&self, role: Role, layer: usize) -> Result<Norm<F>, ModelError> {
        let a = &self.architecture;
        let gamma: Vec<F> = self.weights.gamma(role, layer, a)?;
        let beta = match a.norm {
            NormKind::RmsNorm => None,
            NormKind::LayerNorm | NormKind::DynamicTanh => {
                Some(self.weights.bias(role, layer, a)?.unwrap_or_else(|| vec![F::ZERO; gamma.len()]))
            }
        };
        let alpha = (a.norm == NormKind::DynamicTanh).then(|| self.weights.alpha(role, layer, a)).transpose()?;
        Ok(Norm { gamma, beta, alpha, epsilon: F::from_f64(a.norm_epsilon) })
    }

    fn values(&self, role: Role, layer: usize) -> Result<Vec<F>, ModelError> {
        self.weights.values(role, layer, &self.architecture)
    }
}

#[cfg(test)]
mod parity;
