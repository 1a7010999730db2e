//! What a comparison looks at while a model runs.

use std::collections::BTreeMap;

use sinkscope_anatomy::received::Received;
use sinkscope_model::tap::{BlockView, Event, EventData, Place, Point, Tap};

/// The attention that every token receives.
#[derive(Debug, Clone, PartialEq)]
pub struct ReceivedTap {
    seq_len: usize,
    /// layers x tokens of the batch: mean over heads and over the queries that come after a token or are it.
    received: Received,
}

impl ReceivedTap {
    /// For a model of `layers` layers and a batch of `sequences` sequences of `seq_len` tokens.
    pub fn new(layers: usize, sequences: usize, seq_len: usize) -> Self {
        Self { seq_len, received: Received::new(layers, sequences * seq_len) }
    }

    /// Takes what another tap saw of the first layers of the same batch.
    pub fn adopt_layers(&mut self, other: &Self, layers: usize) {
        self.received.adopt(&other.received, 0..layers);
    }

    /// Mean over the tokens marked and over layers; `None` if none is marked.
    pub fn mean(&self, tokens: &[bool]) -> Option<f64> {
        let marked = tokens.iter().filter(|token| **token).count();
        let of = |layer: &[f64]| -> f64 {
            layer.iter().zip(tokens).filter(|(_, marked)| **marked).map(|(received, _)| received).sum()
        };
        (marked > 0).then(|| self.received.rows().map(of).sum::<f64>() / (marked * self.received.rows().len()) as f64)
    }
}

impl Tap for ReceivedTap {
    type Partial = Received;

    fn wants(&self, point: Point, _block: usize) -> bool {
        point == Point::Attention
    }

    fn observe(&self, event: &Event<'_>) -> Received {
        let EventData::Attention(scan) = event.data else { return Received::default() };
        let queries = |key: usize| (self.seq_len - key) as f64;
        Received::over_heads(&scan, scan.keys, |head, key| f64::from(head[key]) / (queries(key) * scan.heads as f64))
    }

    fn merge(&mut self, _point: Point, place: &Place, partial: Received) {
        self.received.add((place.block - 1) / 2, place.sequence * self.seq_len, &partial);
    }
}

/// Keeps the whole residual after some blocks.
#[derive(Debug, Clone, Default)]
pub struct KeepTap {
    /// By block: tokens x d_model.
    pub residuals: BTreeMap<usize, Vec<f32>>,
}

impl KeepTap {
    /// Of these blocks.
    pub fn new(blocks: impl IntoIterator<Item = usize>) -> Self {
        Self { residuals: blocks.into_iter().map(|block| (block, Vec::new())).collect() }
    }
}

impl Tap for KeepTap {
    type Partial = ();

    fn wants(&self, point: Point, block: usize) -> bool {
        point == Point::BlockDone && self.residuals.contains_key(&block)
    }

    fn observe(&self, _event: &Event<'_>) {}

    fn merge(&mut self, _point: Point, _place: &Place, (): ()) {}

    fn block_done(&mut self, view: &BlockView<'_>) {
        // Groups come in order.
        if let Some(residual) = self.residuals.get_mut(&view.block) {
            residual.extend_from_slice(view.residual);
        }
    }
}

/// Keeps the rows of some tokens at one point of some blocks.
#[derive(Debug, Clone)]
pub struct RowsTap {
    point: Point,
    seq_len: usize,
    /// By token of the batch.
    tokens: Vec<bool>,
    /// By block, by token: its row.
    pub rows: BTreeMap<usize, BTreeMap<usize, Vec<f32>>>,
}

impl RowsTap {
    /// Of the tokens marked, in sequences of `seq_len`.
    pub fn new(point: Point, blocks: impl IntoIterator<Item = usize>, seq_len: usize, tokens: Vec<bool>) -> Self {
        let rows = blocks.into_iter().map(|block| (block, BTreeMap::new())).collect();
        Self { point, seq_len, tokens, rows }
    }

    fn first(&self, place: &Place) -> usize {
        place.sequence * self.seq_len + place.position
    }

    /// For every sequence, the mean row over the tokens of all other sequences; over all tokens if `of_others` is not
    /// asked for. `None` for a sequence without any such token.
    pub fn means(&self, block: usize, sequences: usize, of_others: bool) -> Vec<Option<Vec<f32>>> {
        let Some(rows) = self.rows.get(&block) else { return vec![None; sequences] };
        let mut all = Sum::default();
        let mut own: BTreeMap<usize, Sum> = BTreeMap::new();
        for (token, row) in rows {
            all.add(row);
            own.entry(token / self.seq_len).or_default().add(row);
        }
        let none = Sum::default();
        let mean = |sequence: usize| all.mean_without(own.get(&sequence).filter(|_| of_others).unwrap_or(&none));
        (0..sequences).map(mean).collect()
    }
}

/// A sum of rows.
#[derive(Debug, Default)]
struct Sum {
    sum: Vec<f64>,
    count: usize,
}

impl Sum {
    fn add(&mut self, row: &[f32]) {
        self.sum.resize(row.len(), 0.0);
        self.sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value));
        self.count += 1;
    }

    /// The mean of the rows that are not among `own`; `None` if there are none.
    fn mean_without(&self, own: &Self) -> Option<Vec<f32>> {
        let count = (self.count - own.count) as f64;
        let part = own.sum.iter().copied().chain(std::iter::repeat(0.0));
        (count > 0.0).then(|| self.sum.iter().zip(part).map(|(sum, own)| ((sum - own) / count) as f32).collect())
    }
}

impl Tap for RowsTap {
    type Partial = Vec<(usize, Vec<f32>)>;

    fn wants(&self, point: Point, block: usize) -> bool {
        point == self.point && self.rows.contains_key(&block)
    }

    fn observe(&self, event: &Event<'_>) -> Self::Partial {
        let EventData::Rows(rows) = event.data else { return Vec::new() };
        let width = rows.len() / event.place.rows;
        let first = self.first(&event.place);
        rows.chunks_exact(width)
            .enumerate()
            .filter(|(row, _)| self.tokens[first + row])
            .map(|(row, values)| (first + row, values.to_vec()))
            .collect()
    }

    fn merge(&mut self, _point: Point, place: &Place, partial: Self::Partial) {
        if let Some(rows) = self.rows.get_mut(&place.block) {
            rows.extend(partial);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_leave_the_sequence_itself_out() {
        let mut tap = RowsTap::new(Point::Residual, [4], 10, vec![true; 30]);
        for (token, value) in [(0, 1.0), (3, 3.0), (10, 10.0)] {
            tap.rows.entry(4).or_default().insert(token, vec![value, -value]);
        }
        let row = |value: f32| Some(vec![value, -value]);
        assert_eq!(tap.means(4, 3, true), [row(10.0), row(2.0), row(14.0 / 3.0)]);
        assert_eq!(tap.means(4, 2, false), [row(14.0 / 3.0), row(14.0 / 3.0)]);
        assert_eq!(tap.means(6, 2, true), [None, None]);
    }
}
