//! What is wrong with an operation, said before work is done for it.

use sinkscope_model::architecture::NormPlacement;
use sinkscope_model::blocks::Projection;

use super::place::last;
use super::{Plan, Planner, wrong};
use crate::error::SurgeryError;
use crate::operation::{Kind, Numbers, Operation, WhichTokens};
use crate::quantise::{Activations, Chosen, Scheme, Weights};

impl Planner<'_> {
    /// What is wrong without a look at the spikes: blocks, positions and channels that do not exist, tokens that cannot be
    /// changed.
    ///
    /// # Errors
    /// [`SurgeryError::Operation`]; [`SurgeryError::Model`] if changed sequences are too long for the model.
    pub fn check(&self, operation: &Operation) -> Result<(), SurgeryError> {
        let a = self.model.architecture();
        let none = || (None, None);
        let (tokens, channels) = match &operation.kind {
            Kind::Spikes { places, tokens, channels, .. } => {
                self.blocks(operation, places.as_deref().unwrap_or_default(), last)?;
                (Some(tokens), channels.as_ref())
            }
            Kind::SkipBlock { places, tokens } => {
                // The embedding can be changed, but it is no block that could be left out.
                if self.blocks(operation, places, last)?.first() == Some(&0) {
                    return Err(wrong(operation, format!("block 0 does not exist: there are 1 to {}", a.blocks())));
                }
                (Some(tokens), None)
            }
            Kind::SkipHead { layer, head, tokens } => {
                let heads = if *layer < a.layer_count() { a.attention(*layer).heads } else { 0 };
                if *head >= heads {
                    let (layers, heads) = (a.layer_count(), a.most_heads());
                    let reason =
                        format!("head {layer}.{head} does not exist: there are {layers} layers of {heads} heads");
                    return Err(wrong(operation, reason));
                }
                (Some(tokens), None)
            }
            Kind::Value { places, tokens, .. } | Kind::Apart { places, tokens, .. } => {
                self.attention_blocks(operation, places.as_deref())?;
                (Some(tokens), None)
            }
            Kind::Window(_) if a.learned_positions => {
                let reason =
                    "positions inside a cache move, and this model learned a vector for each; windows need rotary ones";
                return Err(wrong(operation, reason.to_owned()));
            }
            Kind::Window(_) => none(),
            Kind::Quantise { .. } if a.any(|layer| layer.norm_placement == NormPlacement::SandwichQkInput) => {
                let reason = "values of this model read another input than its queries and keys do; layers that share one are \
                              quantised together";
                return Err(wrong(operation, reason.to_owned()));
            }
            Kind::Quantise { scheme, layers, kept } => {
                self.check_groups(operation, *scheme, &self.layers(operation, layers)?)?;
                (kept.as_ref(), None)
            }
            Kind::Cache { places, kept, .. } => {
                self.attention_blocks(operation, places.as_deref())?;
                (kept.as_ref(), None)
            }
            Kind::Tokens(_) => {
                let changed = self.changed(operation)?;
                self.model.check_length(changed.map_or(0, |changed| changed.batch.seq_len))?;
                none()
            }
        };
        let last_kept = operation.sweep.as_ref().and_then(|sweep| sweep.end().checked_sub(1));
        let position = match tokens {
            Some(WhichTokens::Positions(positions)) => Some(positions.largest()),
            _ => last_kept,
        };
        if let Some(position) = position.filter(|position| *position >= self.batch.seq_len) {
            let reason = format!("position {position} does not exist: sequences have {} tokens", self.batch.seq_len);
            return Err(wrong(operation, reason));
        }
        if let Some(channel) = channels.map(Numbers::largest).filter(|channel| *channel >= a.d_model) {
            let reason = format!("channel {channel} does not exist: there are {}, from 0", a.d_model);
            return Err(wrong(operation, reason));
        }
        Ok(())
    }

    /// Groups of inputs must be whole.
    fn check_groups(&self, operation: &Operation, scheme: Scheme, chosen: &Chosen) -> Result<(), SurgeryError> {
        let mut sizes: Vec<usize> = Vec::new();
        match scheme.weights {
            Some(Weights::Scaled { group: Some(group), .. }) => sizes.push(group),
            Some(Weights::Blocks(blocks)) => sizes.push(blocks.size()),
            _ => {}
        }
        if let Some(Activations::Blocks(blocks)) = scheme.activations {
            sizes.push(blocks.size());
        }
        if scheme.rotate {
            sizes.push(2);
        }
        let a = self.model.architecture();
        for &(block, projection) in chosen.keys() {
            let layer = a.layer((block - 1) / 2);
            let (inputs, what) = match projection {
                Projection::AttentionOutput => {
                    (layer.mixer.attention().output_width(), "inputs of the attention output")
                }
                Projection::Down => (layer.feed_forward.down_inputs(a.d_model), "inputs of the down projection"),
                _ => (a.d_model, "inputs of the first layers of a block"),
            };
            if let Some(group) = sizes.iter().find(|group| !inputs.is_multiple_of(**group)) {
                return Err(wrong(operation, format!("groups of {group} do not divide the {inputs} {what}")));
            }
        }
        Ok(())
    }

    pub(super) fn check_means(&self, operation: &Operation, plan: &Plan) -> Result<(), SurgeryError> {
        let Some(edit) = plan.waiting().filter(|_| !self.calibrated) else { return Ok(()) };
        let with = edit.tokens.chunks_exact(self.batch.seq_len).filter(|tokens| tokens.contains(&true)).count();
        if with >= 2 {
            return Ok(());
        }
        let reason = format!(
            "a mean over other sequences needs such tokens in at least two, and {with} of {} has them; give more sequences, \
             or a calibration text (--calibration)",
            self.batch.sequences
        );
        Err(wrong(operation, reason))
    }
}
