//! Values that are not finite: where the first of them stands, so that no figure is computed around it.
//!
//! What is not finite in the residual stays so to the end of the model, whatever is added to it. A log-likelihood can still
//! be infinite or undefined where every residual is finite.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinkscope_model::pass::Step;
use sinkscope_model::tap::{Event, EventData, Place, Point, Tap};

use crate::error::AnatomyError;
use crate::magnitude::{largest_magnitude, largest_of_row};
use crate::tokens::Tokens;

/// The first value that is not finite: of the earliest block, of its earliest token the lowest channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NotFinite {
    /// The block after which the residual holds it, 0 for the embedding; `2 L + 1`, the output head, of a token's
    /// log-likelihood.
    pub block: usize,
    /// Channel; `None` of a log-likelihood.
    pub channel: Option<usize>,
    /// Sequence.
    pub sequence: usize,
    /// Position; of a log-likelihood, that of the predicted token.
    pub position: usize,
    /// Token id.
    pub id: u32,
    /// Token text (empty if no tokeniser is at hand).
    pub text: String,
    /// What it is.
    pub value: NonFiniteValue,
}

/// A value that is no number one can compute with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NonFiniteValue {
    /// Too large for f32, of either sign.
    Infinite,
    /// Undefined.
    Nan,
}

impl fmt::Display for NotFinite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { block, sequence, position, id, .. } = self;
        let value = match self.value {
            NonFiniteValue::Infinite => "infinite",
            NonFiniteValue::Nan => "undefined (NaN)",
        };
        match self.channel {
            Some(channel) => {
                write!(f, "the residual after block {block} is {value} in channel {channel}, at token {id}")?;
            }
            None => write!(f, "the log-likelihood that the output head gives is {value}, of token {id}")?,
        }
        if !self.text.is_empty() {
            write!(f, " {:?}", self.text)?;
        }
        write!(f, " (sequence {sequence}, position {position})")
    }
}

/// Where such a value was found. The order is that of [`NotFinite`]: the least is the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    /// Block.
    pub block: usize,
    /// Sequence.
    pub sequence: usize,
    /// Position.
    pub position: usize,
    /// Channel, if it stands in a residual.
    pub channel: Option<usize>,
    /// Whether it is undefined, not infinite.
    pub nan: bool,
}

impl Found {
    /// The first value of rows x width that is not finite.
    pub fn in_rows(place: &Place, values: &[f32]) -> Option<Self> {
        let width = values.len() / place.rows.max(1);
        let mut rows = values.chunks_exact(width.max(1)).map(largest_of_row).enumerate();
        let (row, (value, channel)) = rows.find(|(_, (value, _))| !value.is_finite())?;
        let Place { block, sequence, position, .. } = *place;
        Some(Self { block, sequence, position: position + row, channel: Some(channel), nan: value.is_nan() })
    }

    /// The first log-likelihood that is not finite, of tokens from a position on.
    pub fn in_nll(head: usize, sequence: usize, position: usize, nll: &[f32]) -> Option<Self> {
        let at = nll.iter().position(|nll| !nll.is_finite())?;
        Some(Self { block: head, sequence, position: position + at, channel: None, nan: nll[at].is_nan() })
    }

    /// With its token.
    pub fn named(self, tokens: Tokens<'_>) -> NotFinite {
        let token = self.sequence * tokens.seq_len() + self.position;
        self.of_token(tokens.id(token), &|_| tokens.text(token))
    }

    fn of_token(self, id: u32, text: &dyn Fn(u32) -> String) -> NotFinite {
        let Self { block, sequence, position, channel, nan } = self;
        let value = if nan { NonFiniteValue::Nan } else { NonFiniteValue::Infinite };
        NotFinite { block, channel, sequence, position, id, text: text(id), value }
    }
}

/// The earlier of two, if there are any.
pub fn first(one: Option<Found>, other: Option<Found>) -> Option<Found> {
    one.into_iter().chain(other).min()
}

/// Holds candidates for one position to finite residuals; `text` gives the text of a token id.
///
/// # Errors
/// [`AnatomyError::NotFinite`] with the first candidate of the step whose residual is infinite or undefined.
pub fn check_step(
    step: &Step<'_>,
    candidates: &[u32],
    position: usize,
    text: &dyn Fn(u32) -> String,
) -> Result<(), AnatomyError> {
    if largest_magnitude(step.residual).is_finite() {
        return Ok(());
    }
    let place = Place { block: step.block, sequence: 0, position: 0, rows: step.candidates.len() };
    let Some(found) = Found::in_rows(&place, step.residual) else { return Ok(()) };
    let id = candidates[step.candidates.start + found.position];
    Err(AnatomyError::NotFinite(NotFinite { position, ..found.of_token(id, text) }))
}

/// Looks for the first value of the residual that is not finite, and for the largest magnitude after every block.
#[derive(Debug, Clone, PartialEq)]
pub struct FiniteTap {
    /// By block, from 0: the largest magnitude; NaN or infinite if a value is not finite, 0 where nothing was seen.
    pub largest: Vec<f32>,
    /// The first value that is not finite.
    pub not_finite: Option<Found>,
}

impl FiniteTap {
    /// For a model of `layers` layers.
    pub fn new(layers: usize) -> Self {
        Self { largest: vec![0.0; 2 * layers + 1], not_finite: None }
    }
}

impl Tap for FiniteTap {
    type Partial = (f32, Option<Found>);

    fn wants(&self, point: Point, block: usize) -> bool {
        point == Point::Residual && block < self.largest.len()
    }

    fn observe(&self, event: &Event<'_>) -> Self::Partial {
        let EventData::Rows(rows) = event.data else { return (0.0, None) };
        let largest = largest_magnitude(rows);
        (largest, if largest.is_finite() { None } else { Found::in_rows(&event.place, rows) })
    }

    fn merge(&mut self, _point: Point, place: &Place, (largest, found): Self::Partial) {
        let kept = &mut self.largest[place.block];
        *kept = largest_magnitude(&[*kept, largest]);
        self.not_finite = first(self.not_finite, found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_the_earliest_block_is_found_in_whatever_order_groups_come() {
        let mut tap = FiniteTap::new(2);
        let mut show = |block, sequence, rows: [f32; 6]| {
            let place = Place { block, sequence, position: 4, rows: 2 };
            let partial = tap.observe(&Event { point: Point::Residual, place, data: EventData::Rows(&rows) });
            tap.merge(Point::Residual, &place, partial);
        };
        show(0, 0, [1.0, -2.0, 0.5, 0.0, 0.0, 0.0]);
        show(3, 0, [1.0, 2.0, f32::NAN, 0.0, f32::INFINITY, 0.0]);
        show(2, 1, [9.0, 2.0, 3.0, 0.0, f32::NEG_INFINITY, f32::NAN]);
        show(4, 1, [f32::NAN; 6]);
        assert_eq!(tap.largest[..2], [2.0, 0.0]);
        assert!(tap.largest[2].is_nan() && tap.largest[4].is_nan());
        let found = Found { block: 2, sequence: 1, position: 5, channel: Some(1), nan: false };
        assert_eq!(tap.not_finite, Some(found));
    }

    #[test]
    fn a_message_names_block_channel_and_token() {
        let found = NotFinite {
            block: 3,
            channel: Some(17),
            sequence: 1,
            position: 5,
            id: 42,
            text: " the".into(),
            value: NonFiniteValue::Nan,
        };
        assert_eq!(
            found.to_string(),
            "the residual after block 3 is undefined (NaN) in channel 17, at token 42 \" the\" (sequence 1, position 5)"
        );
        let head = NotFinite { channel: None, text: String::new(), value: NonFiniteValue::Infinite, ..found };
        assert_eq!(
            head.to_string(),
            "the log-likelihood that the output head gives is infinite, of token 42 (sequence 1, position 5)"
        );
    }
}
