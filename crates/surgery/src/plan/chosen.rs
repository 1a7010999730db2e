//! Which tokens of a batch an operation is done to.

use sinkscope_anatomy::definitions::{SINK_TOKEN_SHARE, in_percent};
use sinkscope_anatomy::results::Stage;
use sinkscope_sources::data::TokenBatch;

use super::{Landmarks, Planner, wrong};
use crate::error::SurgeryError;
use crate::operation::{Kind, Numbers, Operation, WhichTokens};

impl Planner<'_> {
    pub(super) fn tokens(
        &self,
        operation: &Operation,
        tokens: &WhichTokens,
        seen: Landmarks<'_>,
    ) -> Result<Vec<bool>, SurgeryError> {
        match tokens {
            WhichTokens::Spikes => Ok(marked(needed(operation, seen.stage, "tokens")?, self.batch)),
            WhichTokens::Sinks if !seen.sinks.contains(&true) => {
                let reason = format!(
                    "no token sinks in {} of the heads or more; name tokens with @position",
                    in_percent(SINK_TOKEN_SHARE)
                );
                Err(wrong(operation, reason))
            }
            WhichTokens::Sinks => Ok(seen.sinks.to_vec()),
            WhichTokens::Positions(positions) => Ok(at_positions(self.batch, positions)),
            WhichTokens::All => Ok(vec![true; self.batch.tokens.len()]),
        }
    }

    /// The tokens of another text that correspond to those an operation is done to.
    ///
    /// # Errors
    /// [`SurgeryError::Operation`] if there are none.
    pub fn corresponding(
        &self,
        operation: &Operation,
        other: &TokenBatch,
        seen: Landmarks<'_>,
    ) -> Result<Vec<bool>, SurgeryError> {
        let tokens = match &operation.kind {
            Kind::Spikes { tokens, .. } | Kind::Value { tokens, .. } => tokens,
            Kind::Quantise { kept: Some(kept), .. } => kept,
            Kind::Quantise { kept: None, .. } => return Ok(vec![false; other.tokens.len()]),
            _ => &WhichTokens::All,
        };
        match (tokens, seen.stage) {
            (WhichTokens::Sinks, _) if !seen.sinks.contains(&true) => {
                Err(wrong(operation, "no token of the calibration text sinks".to_owned()))
            }
            (WhichTokens::Sinks, _) => Ok(seen.sinks.to_vec()),
            (WhichTokens::Spikes, Some(stage)) => Ok(marked(stage, other)),
            (WhichTokens::Spikes, None) => Err(wrong(operation, "the calibration text shows no spikes".to_owned())),
            (WhichTokens::Positions(positions), _) if positions.largest() >= other.seq_len => {
                let reason = format!("the calibration text's sequences of {} tokens do not reach it", other.seq_len);
                Err(wrong(operation, reason))
            }
            (WhichTokens::Positions(positions), _) => Ok(at_positions(other, positions)),
            (WhichTokens::All, _) => Ok(vec![true; other.tokens.len()]),
        }
    }
}

/// The stage, for want of another place.
pub(super) fn needed<'s>(
    operation: &Operation,
    stage: Option<&'s Stage>,
    what: &str,
) -> Result<&'s Stage, SurgeryError> {
    stage.ok_or_else(|| {
        let places = match operation.kind {
            Kind::Spikes { .. } => "@block, @position and @channels",
            _ => "@position",
        };
        wrong(operation, format!("no spikes were found whose {what} could be taken; name {places}"))
    })
}

/// Whether each token of a batch is the stage's.
pub(crate) fn marked(stage: &Stage, batch: &TokenBatch) -> Vec<bool> {
    let mut marked = vec![false; batch.tokens.len()];
    for token in &stage.tokens {
        marked[token.sequence * batch.seq_len + token.position] = true;
    }
    marked
}

fn at_positions(batch: &TokenBatch, positions: &Numbers) -> Vec<bool> {
    (0..batch.tokens.len()).map(|token| positions.contains(token % batch.seq_len)).collect()
}
