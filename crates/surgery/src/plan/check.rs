//! What is wrong with an operation, said before work is done for it.

use sinkscope_model::architecture::NormPlacement;

use super::{Plan, Planner, wrong};
use crate::error::SurgeryError;
use crate::operation::{Kind, Operation, WhichTokens};
use crate::quantise::Scheme;

impl Planner<'_> {
    /// What is wrong without a look at the spikes: blocks, positions and channels that do not exist, tokens that cannot be
    /// changed.
    ///
    /// # Errors
    /// [`SurgeryError::Operation`]; [`SurgeryError::Model`] if changed sequences are too long for the model.
    pub fn check(&self, operation: &Operation) -> Result<(), SurgeryError> {
        let a = self.model.architecture();
        let (block, tokens, channels) = match &operation.kind {
            Kind::Spikes { block, tokens, channels, .. } => (*block, *tokens, channels.as_deref().unwrap_or_default()),
            Kind::SkipBlock { block, tokens } => (Some(*block), *tokens, &[][..]),
            Kind::SkipHead { layer, head, tokens } => {
                let heads = if *layer < a.layer_count() { a.attention(*layer).heads } else { 0 };
                if *head >= heads {
                    let (layers, heads) = (a.layer_count(), a.most_heads());
                    let reason =
                        format!("head {layer}.{head} does not exist: there are {layers} layers of {heads} heads");
                    return Err(wrong(operation, reason));
                }
                (None, *tokens, &[][..])
            }
            Kind::Value { block, tokens, .. } | Kind::Apart { block, tokens, .. } => (*block, *tokens, &[][..]),
            Kind::Window(_) if a.learned_positions => {
                let reason =
                    "positions inside a cache move, and this model learned a vector for each; windows need rotary ones";
                return Err(wrong(operation, reason.to_owned()));
            }
            Kind::Window(_) => return Ok(()),
            Kind::Quantise { .. } if a.any(|layer| layer.norm_placement == NormPlacement::SandwichQkInput) => {
                let reason = "values of this model read another input than its queries and keys do; layers that share one are \
                              quantised together";
                return Err(wrong(operation, reason.to_owned()));
            }
            Kind::Quantise { scheme, block, kept } => {
                self.check_groups(operation, *scheme, *block)?;
                (*block, kept.unwrap_or(WhichTokens::Spikes), &[][..])
            }
            Kind::Cache { block, kept, .. } => (*block, kept.unwrap_or(WhichTokens::Spikes), &[][..]),
            Kind::Tokens(_) => {
                let changed = self.changed(operation)?;
                self.model.check_length(changed.map_or(0, |changed| changed.batch.seq_len))?;
                return Ok(());
            }
        };
        if let Some(block) = block {
            // The embedding can be changed, but it is no block that could be left out.
            let first = usize::from(matches!(operation.kind, Kind::SkipBlock { .. } | Kind::Quantise { .. }));
            if block < first || block > a.blocks() {
                return Err(wrong(
                    operation,
                    format!("block {block} does not exist: there are {first} to {}", a.blocks()),
                ));
            }
            let in_attention = matches!(operation.kind, Kind::Value { .. } | Kind::Apart { .. } | Kind::Cache { .. });
            if in_attention && block.is_multiple_of(2) {
                let last = a.blocks() - 1;
                let reason = format!("block {block} is no attention block: those are the odd ones up to {last}");
                return Err(wrong(operation, reason));
            }
        }
        if let WhichTokens::Position(position) = tokens
            && position >= self.batch.seq_len
        {
            let reason = format!("position {position} does not exist: sequences have {} tokens", self.batch.seq_len);
            return Err(wrong(operation, reason));
        }
        if let Some(channel) = channels.iter().find(|&&channel| channel >= a.d_model) {
            let reason = format!("channel {channel} does not exist: there are {}, from 0", a.d_model);
            return Err(wrong(operation, reason));
        }
        Ok(())
    }

    /// Groups of inputs must be whole.
    fn check_groups(&self, operation: &Operation, scheme: Scheme, block: Option<usize>) -> Result<(), SurgeryError> {
        let Some(group) = scheme.weights.and_then(|weights| weights.group) else { return Ok(()) };
        let a = self.model.architecture();
        let covers = |number: usize| block.is_none_or(|block| block == number);
        let mut inputs = vec![(a.d_model, "inputs of the first layers of a block")];
        for (index, layer) in a.layers().enumerate() {
            if covers(2 * index + 1) {
                inputs.push((layer.mixer.attention().output_width(), "inputs of the attention output"));
            }
            if let Some(dense) = layer.feed_forward.dense().filter(|_| covers(2 * index + 2)) {
                inputs.push((dense.hidden, "inputs of the down projection"));
            }
        }
        match inputs.iter().find(|(inputs, _)| !inputs.is_multiple_of(group)) {
            Some((inputs, what)) => {
                Err(wrong(operation, format!("groups of {group} do not divide the {inputs} {what}")))
            }
            None => Ok(()),
        }
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
