//! Edits of the streamed pass: rows that change, and pairs that no longer meet.

use std::collections::BTreeMap;

use sinkscope_anatomy::wide::norm_f64;
use sinkscope_model::edit::{Edit, Mask};
use sinkscope_model::tap::{Place, Point};

use crate::operation::Apart;

/// What becomes of the chosen entries of a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A multiple of what they were; 0 makes them zero.
    Scale(f32),
    /// Zero, and the row as long as it was.
    ZeroRescale,
    /// Other values: by block and sequence, a row as wide as the point's. Where there is none, nothing changes.
    Replace(BTreeMap<usize, Vec<Option<Vec<f32>>>>),
}

/// Changes rows of some tokens at one point of some blocks.
#[derive(Debug, Clone)]
pub struct RowEdit {
    /// Where.
    pub point: Point,
    /// Which blocks.
    pub blocks: Vec<usize>,
    /// Tokens of a sequence.
    pub seq_len: usize,
    /// By token of the batch, whether it changes.
    pub tokens: Vec<bool>,
    /// Which entries; all if `None`.
    pub channels: Option<Vec<usize>>,
    /// How.
    pub change: Change,
}

impl RowEdit {
    fn change(&self, block: usize, sequence: usize, row: &mut [f32]) {
        match &self.change {
            Change::Scale(factor) => self.each(row, |_, value| *value *= factor),
            Change::ZeroRescale => {
                let before = norm_f64(row);
                self.each(row, |_, value| *value = 0.0);
                let after = norm_f64(row);
                // A row that is nothing but spike has no direction left to be rescaled along.
                if after > 0.0 {
                    for value in row.iter_mut() {
                        *value = (f64::from(*value) * (before / after)) as f32;
                    }
                }
            }
            Change::Replace(rows) => {
                let other = rows.get(&block).and_then(|sequences| sequences.get(sequence)?.as_ref());
                if let Some(other) = other {
                    self.each(row, |channel, value| *value = other[channel]);
                }
            }
        }
    }

    /// The chosen entries.
    fn each(&self, row: &mut [f32], change: impl Fn(usize, &mut f32)) {
        match &self.channels {
            None => row.iter_mut().enumerate().for_each(|(channel, value)| change(channel, value)),
            Some(channels) => {
                for &channel in channels {
                    change(channel, &mut row[channel]);
                }
            }
        }
    }
}

/// Keeps some tokens and all others apart.
#[derive(Debug, Clone)]
pub struct MaskEdit {
    /// Which attention blocks.
    pub blocks: Vec<usize>,
    /// Tokens of a sequence.
    pub seq_len: usize,
    /// By token of the batch, whether it is one of them.
    pub tokens: Vec<bool>,
    /// What they do not meet.
    pub apart: Apart,
}

impl Edit for MaskEdit {
    fn wants(&self, _point: Point, _block: usize) -> bool {
        false
    }

    fn apply(&self, _point: Point, _place: &Place, _values: &mut [f32]) {}

    fn mask(&self, block: usize, sequence: usize) -> Option<Mask<'_>> {
        let marked = &self.tokens[sequence * self.seq_len..][..self.seq_len];
        self.blocks.contains(&block).then_some(match self.apart {
            Apart::SelfOnly => Mask { alone: marked, hidden: &[] },
            Apart::Forbidden => Mask { hidden: marked, alone: &[] },
        })
    }
}

impl Edit for RowEdit {
    fn wants(&self, point: Point, block: usize) -> bool {
        point == self.point && self.blocks.contains(&block)
    }

    fn apply(&self, _point: Point, place: &Place, values: &mut [f32]) {
        let width = values.len() / place.rows;
        let first = place.sequence * self.seq_len + place.position;
        for (row, values) in values.chunks_exact_mut(width).enumerate() {
            if self.tokens[first + row] {
                self.change(place.block, place.sequence, values);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edit(change: Change, channels: Option<Vec<usize>>) -> Vec<f32> {
        let edit = RowEdit {
            point: Point::Residual,
            blocks: vec![2],
            seq_len: 2,
            tokens: vec![false, false, false, true],
            channels,
            change,
        };
        let mut values = vec![1.0, 2.0, 3.0, 0.0, 4.0, 2.0];
        edit.apply(Point::Residual, &Place { block: 2, sequence: 1, position: 0, rows: 2 }, &mut values);
        assert_eq!(values[..3], [1.0, 2.0, 3.0], "another token");
        values.split_off(3)
    }

    #[test]
    fn rows_change_where_they_should() {
        assert_eq!(edit(Change::Scale(0.0), Some(vec![1])), [0.0, 0.0, 2.0]);
        assert_eq!(edit(Change::Scale(-0.5), None), [0.0, -2.0, -1.0]);
        let rescaled = edit(Change::ZeroRescale, Some(vec![1]));
        assert_eq!(rescaled, [0.0, 0.0, 20.0_f32.sqrt()]);
        assert_eq!(edit(Change::ZeroRescale, Some(vec![1, 2])), [0.0; 3]);
        let rows = BTreeMap::from([(2, vec![None, Some(vec![7.0, 8.0, 9.0])])]);
        assert_eq!(edit(Change::Replace(rows), Some(vec![0, 2])), [7.0, 4.0, 9.0]);
        assert_eq!(edit(Change::Replace(BTreeMap::new()), None), [0.0, 4.0, 2.0]);
    }
}
