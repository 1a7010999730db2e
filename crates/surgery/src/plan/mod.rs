//! What an operation comes down to: for this model, this batch, and where the untouched model's spikes are.

mod check;
mod chosen;
mod place;

use std::collections::BTreeMap;

use sinkscope_anatomy::results::Stage;
use sinkscope_model::Model;
use sinkscope_model::edit::Edit;
use sinkscope_model::pass::Window;
use sinkscope_model::tap::Point;
use sinkscope_sources::data::TokenBatch;

pub(crate) use self::chosen::marked;
use self::chosen::needed;
use self::place::attention;
pub(crate) use self::place::last;
use crate::compare::Request;
use crate::edits::{Change, MaskEdit, RowEdit};
use crate::error::SurgeryError;
use crate::operation::{Kind, Operation, Place, SpikeChange, ValueChange, WhichLayers, WhichTokens};
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

    /// The layers that wait for what smoothing or fixed scales are calibrated with, if they do.
    pub fn smoothing(&self) -> Option<&QuantisedLayers> {
        match self {
            Self::Quantised { layers, .. } if layers.scheme.calibrates() && layers.maxima.is_none() => Some(layers),
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
pub struct Landmarks<'a> {
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

impl<'a> Planner<'a> {
    /// Of a request to compare.
    pub fn new(model: &'a Model, batch: &'a TokenBatch, request: &Request) -> Self {
        Self { model, batch, bos: request.bos, seed: request.seed, calibrated: request.calibration.is_some() }
    }
}

impl Planner<'_> {
    /// Plans an operation that was checked; `seen` is what the untouched model shows of the batch.
    ///
    /// # Errors
    /// [`SurgeryError::Operation`] if it is to be done where there is nothing.
    pub fn plan(&self, operation: &Operation, seen: Landmarks<'_>) -> Result<Plan, SurgeryError> {
        if let Some(changed) = self.changed(operation)? {
            return Ok(Plan::Tokens(changed));
        }
        let rows = |point, blocks, tokens, channels, change| {
            let edit = RowEdit { point, blocks, seq_len: self.batch.seq_len, tokens, channels, change };
            if matches!(edit.change, Change::Replace(_)) { Edited::ToMeans(edit) } else { Edited::Rows(edit) }
        };
        let means = || Change::Replace(BTreeMap::new());
        let (edited, first) = match &operation.kind {
            Kind::Spikes { change, places, tokens, channels } => {
                let blocks = match places {
                    Some(places) => self.blocks(operation, places, last)?,
                    None => vec![needed(operation, seen.stage, "block")?.whole_after()],
                };
                let channels = match channels {
                    Some(channels) => channels.iter().collect(),
                    None => channels_of(needed(operation, seen.stage, "channels")?),
                };
                let change = match change {
                    SpikeChange::Zero => Change::Scale(0.0),
                    SpikeChange::Scale(factor) => Change::Scale(*factor),
                    SpikeChange::ZeroRescale => Change::ZeroRescale,
                    SpikeChange::Mean => means(),
                };
                let tokens = self.tokens(operation, tokens, seen)?;
                let first = blocks[0];
                (rows(Point::Residual, blocks, tokens, Some(channels), change), first)
            }
            Kind::SkipBlock { places, tokens } => {
                let blocks = self.blocks(operation, places, last)?;
                let tokens = self.tokens(operation, tokens, seen)?;
                let first = blocks[0];
                (rows(Point::Output, blocks, tokens, None, Change::Scale(0.0)), first - 1)
            }
            Kind::SkipHead { layer, head, tokens } => {
                let width = self.model.architecture().attention(*layer).value_dim;
                let channels = (head * width..(head + 1) * width).collect();
                let tokens = self.tokens(operation, tokens, seen)?;
                let block = 2 * layer + 1;
                (rows(Point::Heads, vec![block], tokens, Some(channels), Change::Scale(0.0)), block - 1)
            }
            Kind::Value { change, places, tokens } => {
                let change = match change {
                    ValueChange::Zero => Change::Scale(0.0),
                    ValueChange::Mean => means(),
                };
                let tokens = self.tokens(operation, tokens, seen)?;
                let blocks = self.attention_blocks(operation, places.as_deref())?;
                let first = blocks[0];
                (rows(Point::Value, blocks, tokens, None, change), first - 1)
            }
            Kind::Apart { apart, places, tokens } => {
                let blocks = self.attention_blocks(operation, places.as_deref())?;
                let first = blocks[0];
                let tokens = self.tokens(operation, tokens, seen)?;
                let edit = MaskEdit { blocks, seq_len: self.batch.seq_len, tokens, apart: *apart };
                (Edited::Mask(edit), first - 1)
            }
            Kind::Window(window) => return Ok(Plan::Window(*window)),
            Kind::Quantise { scheme, layers, kept } => {
                return self.plan_layers(operation, *scheme, layers, kept.as_ref(), seen);
            }
            Kind::Cache { keys, values, places, kept } => {
                let kept = match kept {
                    Some(kept) => self.tokens(operation, kept, seen)?,
                    None => vec![false; self.batch.tokens.len()],
                };
                let blocks = self.attention_blocks(operation, places.as_deref())?;
                let start = blocks[0] - 1;
                let kv_heads =
                    self.model.architecture().layers().map(|layer| layer.mixer.attention().kv_heads).collect();
                let (keys, values, seq_len) = (*keys, *values, self.batch.seq_len);
                let cache = CacheEdit { keys, values, kv_heads, blocks, seq_len, kept };
                return Ok(Plan::Cache { cache, start });
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
        layers: &WhichLayers,
        kept: Option<&WhichTokens>,
        seen: Landmarks<'_>,
    ) -> Result<Plan, SurgeryError> {
        let spikes = match (kept, seen.stage) {
            (Some(kept), _) => self.tokens(operation, kept, seen)?,
            (None, Some(stage)) => marked(stage, self.batch),
            (None, None) => vec![false; self.batch.tokens.len()],
        };
        if scheme.calibrates() && !self.calibrated && self.batch.sequences < 2 {
            let what = if scheme.smooth { "smoothing" } else { "scales fixed" };
            let reason = format!(
                "{what} by other sequences needs at least two; give more sequences, or a calibration text (--calibration)"
            );
            return Err(wrong(operation, reason));
        }
        let chosen = self.layers(operation, layers)?;
        let start = chosen.keys().next().map_or(0, |(block, _)| (block - 1) / 2 * 2);
        let layers = QuantisedLayers::new(scheme, chosen, self.batch.seq_len, spikes, kept.is_some());
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

    /// The attention blocks of places, ascending; all if there are none.
    fn attention_blocks(&self, operation: &Operation, places: Option<&[Place]>) -> Result<Vec<usize>, SurgeryError> {
        let last = self.model.architecture().blocks() - 1;
        let Some(places) = places else { return Ok((1..=last).step_by(2).collect()) };
        let blocks = self.blocks(operation, places, attention)?;
        match blocks.iter().find(|block| block.is_multiple_of(2)) {
            Some(block) => {
                let reason = format!("block {block} is no attention block: those are the odd ones up to {last}");
                Err(wrong(operation, reason))
            }
            None => Ok(blocks),
        }
    }
}

fn wrong(operation: &Operation, reason: String) -> SurgeryError {
    SurgeryError::Operation { operation: operation.typed.clone(), reason }
}

/// The channels that spike.
pub fn channels_of(stage: &Stage) -> Vec<usize> {
    stage.channels.iter().map(|channel| channel.channel).collect()
}
