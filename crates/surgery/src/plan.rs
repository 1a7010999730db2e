//! What an operation comes down to: for this model, this batch, and where the untouched model's spikes are.

use std::collections::BTreeMap;

use sinkscope_anatomy::definitions::SINK_TOKEN_SHARE;
use sinkscope_anatomy::results::Stage;
use sinkscope_kernels::quantise::Grid;
use sinkscope_model::Model;
use sinkscope_model::architecture::NormPlacement;
use sinkscope_model::edit::Edit;
use sinkscope_model::pass::Window;
use sinkscope_model::tap::Point;
use sinkscope_sources::data::TokenBatch;

use crate::edits::{Change, MaskEdit, RowEdit};
use crate::error::SurgeryError;
use crate::operation::{Kind, Operation, SpikeChange, Tokens, ValueChange};
use crate::quantise::{CacheEdit, QuantisedLayers, Scheme};
use crate::tokens::{self, Changed};

/// One operation, planned.
#[derive(Debug)]
pub enum Plan {
    /// Other tokens, from the embedding on.
    Tokens(Changed),
    /// Narrower attention.
    Window(Window),
    /// The same tokens, changed on their way.
    Edited {
        /// How.
        edited: Edited,
        /// The even block after which everything is as it was.
        start: usize,
    },
    /// Linear layers quantised.
    Quantised {
        /// How.
        layers: Box<QuantisedLayers>,
        /// The even block after which everything is as it was.
        start: usize,
    },
    /// Entries of the cache quantised.
    Cache {
        /// How.
        cache: CacheEdit,
        /// The even block after which everything is as it was.
        start: usize,
    },
}

/// What changes on the way.
#[derive(Debug)]
pub enum Edited {
    /// Rows.
    Rows(RowEdit),
    /// Rows, to means that are not known yet: the edit's change is to be filled in.
    ToMeans(RowEdit),
    /// Who sees whom.
    Mask(MaskEdit),
}

impl Edited {
    /// For a pass.
    pub fn edit(&self) -> &dyn Edit {
        match self {
            Self::Rows(edit) | Self::ToMeans(edit) => edit,
            Self::Mask(edit) => edit,
        }
    }

    /// By token of the batch, whether it is one that the operation is done to.
    pub fn tokens(&self) -> &[bool] {
        match self {
            Self::Rows(edit) | Self::ToMeans(edit) => &edit.tokens,
            Self::Mask(edit) => &edit.tokens,
        }
    }
}

impl Plan {
    /// The edit that waits for means, if it is one.
    pub fn waiting(&self) -> Option<&RowEdit> {
        match self {
            Self::Edited { edited: Edited::ToMeans(edit), .. } => Some(edit),
            _ => None,
        }
    }

    /// The layers that wait for what smoothing is calibrated with, if they do.
    pub fn smoothing(&self) -> Option<&QuantisedLayers> {
        match self {
            Self::Quantised { layers, .. } if layers.scheme.smooth && layers.maxima.is_none() => Some(layers),
            _ => None,
        }
    }

    /// Tokens that stay as they are; `None` if none was to.
    pub fn kept_tokens(&self) -> Option<usize> {
        match self {
            Self::Quantised { layers, .. } => layers.keeps_spikes.then(|| layers.kept_tokens()),
            Self::Cache { cache, .. } => Some(cache.kept_tokens()).filter(|kept| *kept > 0),
            _ => None,
        }
    }

    /// The even block after which everything is as it was.
    pub fn start(&self) -> usize {
        match self {
            Self::Tokens(_) | Self::Window(_) => 0,
            Self::Edited { start, .. } | Self::Quantised { start, .. } | Self::Cache { start, .. } => *start,
        }
    }
}

/// What the untouched model shows of a batch: the tokens that operations are done to unless they name others.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// The strongest stage.
    pub stage: Option<&'a Stage>,
    /// By token, whether it sinks.
    pub sinks: &'a [bool],
}

/// What plans depend on.
#[derive(Clone, Copy)]
pub struct Planner<'a> {
    /// The model.
    pub model: &'a Model,
    /// The tokens.
    pub batch: &'a TokenBatch,
    /// The beginning-of-sequence token, if there is one.
    pub bos: Option<u32>,
    /// Of random tokens.
    pub seed: u64,
    /// Whether means come from another text.
    pub calibrated: bool,
}

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
                (*block, kept.unwrap_or(Tokens::Spikes), &[][..])
            }
            Kind::Cache { block, kept, .. } => (*block, kept.unwrap_or(Tokens::Spikes), &[][..]),
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
        if let Tokens::Position(position) = tokens
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
        let mut inputs = vec![(a.d_model, "inputs of the first layers of a block")];
        for (index, layer) in a.layers().enumerate() {
            let covers = |number: usize| block.is_none_or(|block| block == number);
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

    /// Plans an operation that was checked; `seen` is what the untouched model shows of the batch.
    ///
    /// # Errors
    /// [`SurgeryError::Operation`] if it is to be done where there is nothing.
    pub fn plan(&self, operation: &Operation, seen: Seen<'_>) -> Result<Plan, SurgeryError> {
        if let Some(changed) = self.changed(operation)? {
            return Ok(Plan::Tokens(changed));
        }
        let rows = |point, blocks, tokens, channels, change| {
            let edit = RowEdit { point, blocks, seq_len: self.batch.seq_len, tokens, channels, change };
            if matches!(edit.change, Change::Replace(_)) { Edited::ToMeans(edit) } else { Edited::Rows(edit) }
        };
        let means = || Change::Replace(BTreeMap::new());
        let (edited, first) = match &operation.kind {
            Kind::Spikes { change, block, tokens, channels } => {
                let block = match block {
                    Some(block) => *block,
                    None => needed(operation, seen.stage, "block")?.whole_after(),
                };
                let channels = match channels {
                    Some(channels) => channels.clone(),
                    None => channels_of(needed(operation, seen.stage, "channels")?),
                };
                let change = match change {
                    SpikeChange::Zero => Change::Scale(0.0),
                    SpikeChange::Scale(factor) => Change::Scale(*factor),
                    SpikeChange::ZeroRescale => Change::ZeroRescale,
                    SpikeChange::Mean => means(),
                };
                let tokens = self.tokens(operation, *tokens, seen)?;
                (rows(Point::Residual, vec![block], tokens, Some(channels), change), block)
            }
            Kind::SkipBlock { block, tokens } => {
                let tokens = self.tokens(operation, *tokens, seen)?;
                (rows(Point::Output, vec![*block], tokens, None, Change::Scale(0.0)), block - 1)
            }
            Kind::Value { change, block, tokens } => {
                let change = match change {
                    ValueChange::Zero => Change::Scale(0.0),
                    ValueChange::Mean => means(),
                };
                let tokens = self.tokens(operation, *tokens, seen)?;
                (rows(Point::Value, self.attention_blocks(*block), tokens, None, change), block.unwrap_or(1) - 1)
            }
            Kind::Apart { apart, block, tokens } => {
                let edit = MaskEdit {
                    blocks: self.attention_blocks(*block),
                    seq_len: self.batch.seq_len,
                    tokens: self.tokens(operation, *tokens, seen)?,
                    apart: *apart,
                };
                (Edited::Mask(edit), block.unwrap_or(1) - 1)
            }
            Kind::Window(window) => return Ok(Plan::Window(*window)),
            Kind::Quantise { scheme, block, kept } => {
                return self.plan_layers(operation, *scheme, *block, *kept, seen);
            }
            Kind::Cache { bits, block, kept } => {
                let kept = match kept {
                    Some(kept) => self.tokens(operation, *kept, seen)?,
                    None => vec![false; self.batch.tokens.len()],
                };
                let blocks = self.attention_blocks(*block);
                let grid = Grid::Integer { bits: *bits };
                let kv_heads =
                    self.model.architecture().layers().map(|layer| layer.mixer.attention().kv_heads).collect();
                let cache = CacheEdit::new(grid, kv_heads, blocks, self.batch.seq_len, kept);
                return Ok(Plan::Cache { cache, start: block.unwrap_or(1) - 1 });
            }
            Kind::Tokens(_) => return Err(wrong(operation, "changes tokens".to_owned())),
        };
        // Only between layers can a pass be taken up.
        let plan = Plan::Edited { edited, start: first / 2 * 2 };
        self.check_means(operation, &plan)?;
        Ok(plan)
    }

    fn plan_layers(
        &self,
        operation: &Operation,
        scheme: Scheme,
        block: Option<usize>,
        kept: Option<Tokens>,
        seen: Seen<'_>,
    ) -> Result<Plan, SurgeryError> {
        let spikes = match (kept, seen.stage) {
            (Some(kept), _) => self.tokens(operation, kept, seen)?,
            (None, Some(stage)) => marked(stage, self.batch),
            (None, None) => vec![false; self.batch.tokens.len()],
        };
        if scheme.smooth && !self.calibrated && self.batch.sequences < 2 {
            let reason = "smoothing by other sequences needs at least two; give more sequences, or a calibration text \
                          (--calibration)";
            return Err(wrong(operation, reason.to_owned()));
        }
        let blocks = block.map_or_else(|| (1..=self.model.architecture().blocks()).collect(), |block| vec![block]);
        let start = (blocks[0] - 1) / 2 * 2;
        let layers = QuantisedLayers::new(scheme, blocks, self.batch.seq_len, spikes, kept.is_some());
        Ok(Plan::Quantised { layers: Box::new(layers), start })
    }

    /// The tokens of an operation that changes them.
    fn changed(&self, operation: &Operation) -> Result<Option<Changed>, SurgeryError> {
        let Kind::Tokens(change) = operation.kind else { return Ok(None) };
        let a = self.model.architecture();
        let text = self.batch.without_first(a.registers);
        let changed = tokens::change(&text, change, self.bos, a.vocabulary - a.registers, self.seed)
            .map_err(|reason| wrong(operation, reason))?;
        Ok(Some(Changed { batch: changed.batch.with_first(a.register_ids()), ..changed }))
    }

    fn attention_blocks(&self, block: Option<usize>) -> Vec<usize> {
        block.map_or_else(|| (1..self.model.architecture().blocks()).step_by(2).collect(), |block| vec![block])
    }

    fn tokens(&self, operation: &Operation, tokens: Tokens, seen: Seen<'_>) -> Result<Vec<bool>, SurgeryError> {
        match tokens {
            Tokens::Spikes => Ok(marked(needed(operation, seen.stage, "tokens")?, self.batch)),
            Tokens::Sinks if !seen.sinks.contains(&true) => {
                let reason = format!(
                    "no token sinks in {} % of the heads or more; name tokens with @position",
                    100.0 * SINK_TOKEN_SHARE
                );
                Err(wrong(operation, reason))
            }
            Tokens::Sinks => Ok(seen.sinks.to_vec()),
            Tokens::Position(position) => Ok(at_position(self.batch, position)),
            Tokens::All => Ok(vec![true; self.batch.tokens.len()]),
        }
    }

    fn check_means(&self, operation: &Operation, plan: &Plan) -> Result<(), SurgeryError> {
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

    /// The tokens of another text that correspond to those an operation is done to.
    ///
    /// # Errors
    /// [`SurgeryError::Operation`] if there are none.
    pub fn corresponding(
        &self,
        operation: &Operation,
        other: &TokenBatch,
        seen: Seen<'_>,
    ) -> Result<Vec<bool>, SurgeryError> {
        let tokens = match operation.kind {
            Kind::Spikes { tokens, .. } | Kind::Value { tokens, .. } => tokens,
            Kind::Quantise { kept: Some(kept), .. } => kept,
            Kind::Quantise { kept: None, .. } => return Ok(vec![false; other.tokens.len()]),
            _ => Tokens::All,
        };
        match (tokens, seen.stage) {
            (Tokens::Sinks, _) if !seen.sinks.contains(&true) => {
                Err(wrong(operation, "no token of the calibration text sinks".to_owned()))
            }
            (Tokens::Sinks, _) => Ok(seen.sinks.to_vec()),
            (Tokens::Spikes, Some(stage)) => Ok(marked(stage, other)),
            (Tokens::Spikes, None) => Err(wrong(operation, "the calibration text shows no spikes".to_owned())),
            (Tokens::Position(position), _) if position >= other.seq_len => {
                let reason = format!("the calibration text's sequences of {} tokens do not reach it", other.seq_len);
                Err(wrong(operation, reason))
            }
            (Tokens::Position(position), _) => Ok(at_position(other, position)),
            (Tokens::All, _) => Ok(vec![true; other.tokens.len()]),
        }
    }
}

fn wrong(operation: &Operation, reason: String) -> SurgeryError {
    SurgeryError::Operation { operation: operation.typed.clone(), reason }
}

/// The stage, for want of another place.
fn needed<'s>(operation: &Operation, stage: Option<&'s Stage>, what: &str) -> Result<&'s Stage, SurgeryError> {
    stage.ok_or_else(|| {
        let places = match operation.kind {
            Kind::Spikes { .. } => "@block, @position and @channels",
            _ => "@position",
        };
        wrong(operation, format!("no spikes were found whose {what} could be taken; name {places}"))
    })
}

/// The channels that spike.
pub fn channels_of(stage: &Stage) -> Vec<usize> {
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

fn at_position(batch: &TokenBatch, position: usize) -> Vec<bool> {
    (0..batch.tokens.len()).map(|token| token % batch.seq_len == position).collect()
}
