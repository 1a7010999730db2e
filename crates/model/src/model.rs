//! A model: an architecture and the weights of a checkpoint, a layer at a time.

use std::ops::Range;

use sinkscope_kernels::Float;

use crate::architecture::{Architecture, NormKind, NormPlacement, PositionEncoding, QkNorm};
use crate::blocks::{AttentionBlock, FeedForwardBlock, Norm};
use crate::checkpoint::Checkpoint;
use crate::error::ModelError;
use crate::family::{Role, identify};
use crate::linear::Linear;
use crate::weights::Weights;

/// A checkpoint understood: every weight the architecture needs is there, in the right shape.
#[derive(Debug)]
pub struct Model {
    architecture: Architecture,
    weights: Weights,
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
        let identity = identify(&checkpoint)?;
        let model = Self { weights: Weights::new(checkpoint, identity.naming), architecture: identity.architecture };
        model.check()?;
        Ok(model)
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
        match a.position {
            _ if seq_len <= a.max_positions => Ok(LengthFit::Within),
            PositionEncoding::Rotary(_) => Ok(LengthFit::Beyond { max_positions: a.max_positions }),
            PositionEncoding::Learned => Err(ModelError::Request(format!(
                "sequences of {seq_len} tokens exceed the {} learned positions of {}; ask for at most that many",
                a.max_positions,
                self.checkpoint().name()
            ))),
        }
    }

    /// Every weight in its place.
    fn check(&self) -> Result<(), ModelError> {
        let a = &self.architecture;
        let d = a.d_model;
        let check = |role, layer, inputs| self.weights.check(role, layer, inputs, a);
        check(Role::Embedding, 0, d)?;
        check(Role::FinalNorm, 0, 1)?;
        if a.position == PositionEncoding::Learned {
            check(Role::Positions, 0, d)?;
        }
        if !a.tied_embeddings {
            check(Role::Head, 0, d)?;
        }
        for layer in 0..a.layers.len() {
            for role in [Role::Query, Role::Key, Role::Value, Role::Gate] {
                check(role, layer, d)?;
            }
            if a.feed_forward.gated {
                check(Role::Up, layer, d)?;
            }
            check(Role::AttentionOutput, layer, a.query_width())?;
            check(Role::Down, layer, a.d_ffn)?;
            for (norms, present) in [
                ([Role::AttentionInputNorm, Role::FeedForwardInputNorm], a.norm_placement != NormPlacement::Output),
                ([Role::AttentionOutputNorm, Role::FeedForwardOutputNorm], a.norm_placement != NormPlacement::Pre),
                ([Role::QueryNorm, Role::KeyNorm], a.qk_norm != QkNorm::None),
            ] {
                for role in norms.into_iter().filter(|_| present) {
                    check(role, layer, 1)?;
                }
            }
        }
        Ok(())
    }

    /// The embedding of one token id, before any scale. Length d_model.
    ///
    /// # Errors
    /// If a value is not finite.
    pub fn embedding<F: Float>(&self, id: u32) -> Result<Vec<F>, ModelError> {
        let id = id as usize;
        self.weights.rows(Role::Embedding, id..id + 1, self.architecture.d_model, &self.architecture)
    }

    /// Learned positions `0 .. count`, count x d_model; `None` if the model has none.
    ///
    /// # Errors
    /// If a value is not finite.
    pub fn positions<F: Float>(&self, count: usize) -> Result<Option<Vec<F>>, ModelError> {
        let a = &self.architecture;
        (a.position == PositionEncoding::Learned)
            .then(|| self.weights.rows(Role::Positions, 0..count, a.d_model, a))
            .transpose()
    }

    /// Outputs `ids` of the output head (of the embedding, if tied).
    ///
    /// # Errors
    /// If a value is not finite.
    pub fn head<F: Float>(&self, ids: Range<usize>) -> Result<Linear<F>, ModelError> {
        let a = &self.architecture;
        let role = if a.tied_embeddings { Role::Embedding } else { Role::Head };
        self.weights.outputs(role, ids, a.d_model, a)
    }

    /// The norm before the output head.
    ///
    /// # Errors
    /// If a value is not finite.
    pub fn final_norm<F: Float>(&self) -> Result<Norm<F>, ModelError> {
        self.norm(Role::FinalNorm, 0)
    }

    /// The norm that a block, from 1, applies to its input; `None` if it reads the residual as it is.
    ///
    /// # Errors
    /// If a value is not finite.
    pub fn input_norm<F: Float>(&self, block: usize) -> Result<Option<Norm<F>>, ModelError> {
        let role = if block.is_multiple_of(2) { Role::FeedForwardInputNorm } else { Role::AttentionInputNorm };
        self.optional_norm(self.architecture.norm_placement != NormPlacement::Output, role, (block - 1) / 2)
    }

    fn norm<F: Float>(&self, role: Role, layer: usize) -> Result<Norm<F>, ModelError> {
        let a = &self.architecture;
        let gamma: Vec<F> = self.weights.gamma(role, layer, a)?;
        let beta = match a.norm {
            NormKind::RmsNorm => None,
            NormKind::LayerNorm => {
                Some(self.weights.bias(role, layer, a)?.unwrap_or_else(|| vec![F::ZERO; gamma.len()]))
            }
        };
        Ok(Norm { gamma, beta, epsilon: F::from_f64(a.norm_epsilon) })
    }

    fn optional_norm<F: Float>(&self, present: bool, role: Role, layer: usize) -> Result<Option<Norm<F>>, ModelError> {
        present.then(|| self.norm(role, layer)).transpose()
    }

    /// Decodes the attention block of a layer.
    ///
    /// # Errors
    /// If a value is not finite.
    pub fn attention_block<F: Float>(&self, layer: usize) -> Result<AttentionBlock<F>, ModelError> {
        let a = &self.architecture;
        let linear = |role, inputs| self.weights.linear(role, layer, inputs, a);
        let qk = a.qk_norm != QkNorm::None;
        Ok(AttentionBlock {
            input_norm: self.optional_norm(
                a.norm_placement != NormPlacement::Output,
                Role::AttentionInputNorm,
                layer,
            )?,
            query: linear(Role::Query, a.d_model)?,
            key: linear(Role::Key, a.d_model)?,
            value: linear(Role::Value, a.d_model)?,
            query_norm: self.optional_norm(qk, Role::QueryNorm, layer)?,
            key_norm: self.optional_norm(qk, Role::KeyNorm, layer)?,
            output: linear(Role::AttentionOutput, a.query_width())?,
            output_norm: self.optional_norm(
                a.norm_placement != NormPlacement::Pre,
                Role::AttentionOutputNorm,
                layer,
            )?,
            group: a.head_group(layer),
            kv_heads: a.kv_heads,
        })
    }

    /// Decodes the feed-forward block of a layer.
    ///
    /// # Errors
    /// If a value is not finite.
    pub fn feed_forward_block<F: Float>(&self, layer: usize) -> Result<FeedForwardBlock<F>, ModelError> {
        let a = &self.architecture;
        let linear = |role, inputs| self.weights.linear(role, layer, inputs, a);
        Ok(FeedForwardBlock {
            input_norm: self.optional_norm(
                a.norm_placement != NormPlacement::Output,
                Role::FeedForwardInputNorm,
                layer,
            )?,
            gate: linear(Role::Gate, a.d_model)?,
            up: a.feed_forward.gated.then(|| linear(Role::Up, a.d_model)).transpose()?,
            down: linear(Role::Down, a.d_ffn)?,
            output_norm: self.optional_norm(
                a.norm_placement != NormPlacement::Pre,
                Role::FeedForwardOutputNorm,
                layer,
            )?,
            activation: a.feed_forward.activation,
        })
    }
}

#[cfg(test)]
mod parity;
