//! The largest magnitude of every channel of the linear layers' inputs, which smoothing is calibrated with.

use std::collections::BTreeMap;

use sinkscope_kernels::quantise::raise_column_magnitudes;
use sinkscope_model::tap::{Event, EventData, Place, Point, Tap};

/// The inputs of linear layers.
pub(super) const INPUTS: [Point; 3] = [Point::NormalisedInput, Point::Heads, Point::Hidden];

/// Keeps, for every channel, the largest magnitude in any sequence, and in any other than that one.
#[derive(Debug, Clone)]
pub struct MaximaTap {
    seq_len: usize,
    blocks: Vec<usize>,
    /// By token of the batch, whether it is left out; none is if empty.
    left_out: Vec<bool>,
    of_others: bool,
    tops: BTreeMap<(usize, Point), Vec<Top>>,
}

/// The two largest magnitudes of different sequences.
#[derive(Debug, Clone, Copy, Default)]
struct Top {
    first: f32,
    /// Whose it is, plus one.
    sequence: usize,
    second: f32,
}

impl MaximaTap {
    /// For these blocks, in sequences of `seq_len` tokens, some of them left out; `of_others`: whether a sequence's own
    /// tokens have no part in its maxima.
    pub fn new(blocks: Vec<usize>, seq_len: usize, left_out: Vec<bool>, of_others: bool) -> Self {
        Self { seq_len, blocks, left_out, of_others, tops: BTreeMap::new() }
    }

    /// Whether sequences have maxima of their own.
    pub fn of_others(&self) -> bool {
        self.of_others
    }

    /// By channel, the largest magnitude that counts for a sequence. Empty where nothing was seen.
    pub fn maxima(&self, block: usize, input: Point, sequence: usize) -> Vec<f32> {
        let tops = self.tops.get(&(block, input)).map(Vec::as_slice).unwrap_or_default();
        let own = |top: &Top| self.of_others && top.sequence == sequence + 1;
        tops.iter().map(|top| if own(top) { top.second } else { top.first }).collect()
    }
}

impl Tap for MaximaTap {
    type Partial = Vec<f32>;

    fn wants(&self, point: Point, block: usize) -> bool {
        INPUTS.contains(&point) && self.blocks.contains(&block)
    }

    fn observe(&self, event: &Event<'_>) -> Vec<f32> {
        let EventData::Rows(rows) = event.data else { return Vec::new() };
        let first = event.place.sequence * self.seq_len + event.place.position;
        let mut largest = vec![0.0; rows.len() / event.place.rows];
        let width = largest.len();
        for (row, values) in rows.chunks_exact(width).enumerate() {
            if !self.left_out.get(first + row).is_some_and(|left_out| *left_out) {
                raise_column_magnitudes(&mut largest, values);
            }
        }
        largest
    }

    fn merge(&mut self, point: Point, place: &Place, partial: Vec<f32>) {
        let tops = self.tops.entry((place.block, point)).or_insert_with(|| vec![Top::default(); partial.len()]);
        for (top, largest) in tops.iter_mut().zip(partial) {
            if top.sequence == place.sequence + 1 {
                top.first = top.first.max(largest);
            } else if largest > top.first {
                *top = Top { first: largest, sequence: place.sequence + 1, second: top.first };
            } else {
                top.second = top.second.max(largest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maxima_leave_the_sequence_itself_out() {
        let mut tap =
            MaximaTap::new(vec![3], 3, vec![false, false, true, false, false, false, false, false, false], true);
        let rows =
            [[1.0, -2.0, 90.0, 4.0, 0.5, -3.0], [0.1, 0.2, -5.0, 0.0, 0.0, 0.0], [-2.0, 6.0, 1.0, 1.0, 0.0, 6.0]];
        let mut other = MaximaTap { of_others: false, ..tap.clone() };
        for (sequence, rows) in rows.iter().enumerate() {
            let place = Place { block: 3, sequence, position: 0, rows: 3 };
            let event = Event { point: Point::Heads, place, data: EventData::Rows(rows) };
            for tap in [&mut tap, &mut other] {
                let partial = tap.observe(&event);
                tap.merge(Point::Heads, &place, partial);
            }
        }
        // The third token of the first sequence is left out.
        assert_eq!(tap.maxima(3, Point::Heads, 0), [5.0, 6.0]);
        assert_eq!(tap.maxima(3, Point::Heads, 1), [90.0, 6.0]);
        assert_eq!(tap.maxima(3, Point::Heads, 2), [90.0, 4.0]);
        assert_eq!(other.maxima(3, Point::Heads, 2), [90.0, 6.0]);
        assert!(tap.maxima(3, Point::Hidden, 0).is_empty());
    }
}
