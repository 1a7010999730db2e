//! Gradients of attention, tile by tile: the weights are recomputed from the log-sum-exp (Dao 2023), never kept.
//!
//! With weights P, `dP = d_out V^T` and `D = sum(d_out * out)` of a row, softmax has `dS = P (dP - D)`, a sigmoid
//! `dS = dP P (1 - P)`; then `dV = P^T d_out`, `dQ = scale dS K`, `dK = scale dS^T Q`. Tiles are those of the forward: the
//! heads of a group stacked, against the keys that some query of the tile sees.

use super::scratch::with_scratch;
use super::{Extras, HeadGroup, Operands, QueryTile, Strided, StridedMut, Weighting};
use super::{fill_ramp, first_multiplied, first_visible, gather, rows_of, scatter, subtract_distances, tile_rows};
use crate::activation::sigmoid;
use crate::matmul::{Matrix, MatrixMut, PackedRight, Right, matmul};
use crate::simd::{add_scaled, dispatch, dot, map_pairs};
use crate::{Buffer, Float};

/// What the forward saw and gave, of one head group and a whole sequence.
#[derive(Debug, Clone, Copy)]
pub struct Forward<'a, F> {
    /// From position 0 on.
    pub operands: Operands<'a, F>,
    /// rows x (queries_per_key * head_dim).
    pub out: Strided<'a, F>,
    /// queries_per_key x rows, as the scan has it. Sigmoids do not need it.
    pub log_sum_exp: &'a [F],
}

/// Where the gradients go. What is there is overwritten, but for that of the entry's value, which is added to.
#[derive(Debug)]
pub struct Gradients<'a, F> {
    /// rows x (queries_per_key * head_dim).
    pub queries: StridedMut<'a, F>,
    /// rows x head_dim.
    pub keys: StridedMut<'a, F>,
    /// rows x head_dim.
    pub values: StridedMut<'a, F>,
    /// Those of the entry that is no key; may be left out if nobody wants them.
    pub entry: Option<EntryGradients<'a, F>>,
}

/// Gradients of an [`Entry`](super::Entry).
#[derive(Debug)]
pub struct EntryGradients<'a, F> {
    /// rows x queries_per_key: of its scores, overwritten.
    pub scores: StridedMut<'a, F>,
    /// head_dim: of its value, added to.
    pub value: Option<&'a mut [F]>,
}

/// What one call fills and the next one finds.
#[derive(Default)]
struct BackwardScratch<F: Float> {
    /// rows x head_dim.
    keys: PackedRight<F>,
    /// head_dim x rows.
    turned_keys: PackedRight<F>,
    turned_values: PackedRight<F>,
    queries: Buffer<F>,
    d_out: Buffer<F>,
    /// Scores, then weights.
    weights: Buffer<F>,
    /// Gradients of the weights, then of the scores.
    d_scores: Buffer<F>,
    /// Slope of the soft cap at each score of a row.
    cap_slopes: Vec<F>,
    d_queries: Buffer<F>,
    ramp: Vec<F>,
}

/// Gradients of [`attend`](super::attend) over a whole sequence. `group`, its precision
/// included, and `extras` are the forward's; there can be no sinks in sight of windows.
///
/// # Shapes
/// `d_out`: rows x (queries_per_key * head_dim), strided.
pub fn attend_backward<F: Float>(
    group: &HeadGroup<F>,
    forward: &Forward<'_, F>,
    d_out: Strided<'_, F>,
    extras: &Extras<'_, F>,
    gradients: &mut Gradients<'_, F>,
) {
    let Operands { rows, first_position, queries, keys, values } = forward.operands;
    assert_eq!(first_position, 0, "attend_backward: part of a sequence has no backward");
    assert!(extras.sinks.is_none(), "attend_backward: sinks in sight of windows have no backward");
    let width = group.head_dim;
    for StridedMut { data, row_stride } in [&mut gradients.keys, &mut gradients.values] {
        for row in 0..rows {
            data[row * *row_stride..][..width].fill(F::ZERO);
        }
    }
    with_scratch(|scratch: &mut BackwardScratch<F>| {
        for packed in [&mut scratch.keys, &mut scratch.turned_keys, &mut scratch.turned_values] {
            packed.set_precision(group.precision);
        }
        let keys = rows_of(group, keys, 0, rows);
        scratch.keys.pack(keys);
        scratch.turned_keys.pack(keys.transposed());
        scratch.turned_values.pack(rows_of(group, values, 0, rows).transposed());
        scratch.cap_slopes.resize(if group.soft_cap.is_some() { rows } else { 0 }, F::ZERO);
        fill_ramp(&mut scratch.ramp, if extras.slopes.is_empty() { 0 } else { rows });
        let mut row = 0;
        while row < rows {
            let tile_rows = tile_rows(group, row).min(rows - row);
            let tile =
                QueryTile { row, rows: tile_rows, position: row, rows_in_scan: rows, first_key: 0, keys_in_scan: rows };
            gather(&mut scratch.queries, group, &tile, queries, group.scale);
            gather(&mut scratch.d_out, group, &tile, d_out, F::ONE);
            let low = first_multiplied(group, &tile);
            let visible = row + tile_rows - low;
            let stacked = group.queries_per_key * tile_rows;

            matmul(
                MatrixMut::new(scratch.weights.fit(stacked * visible), stacked, visible),
                Matrix::new(&scratch.queries, stacked, width),
                scratch.turned_keys.part(0..width, low..low + visible),
            );
            matmul(
                MatrixMut::new(scratch.d_scores.fit(stacked * visible), stacked, visible),
                Matrix::new(&scratch.d_out, stacked, width),
                scratch.turned_values.part(0..width, low..low + visible),
            );
            let in_tile = TileBackward { group, tile: &tile, low, visible, forward, extras };
            dispatch(
                #[inline(always)]
                || {
                    for index in 0..stacked {
                        in_tile.row(index, scratch, gradients);
                    }
                },
            );
            let (weights, d_scores) =
                (Matrix::new(&scratch.weights, stacked, visible), Matrix::new(&scratch.d_scores, stacked, visible));
            let into = |to: &mut StridedMut<'_, F>, left: Matrix<'_, F>, right: &[F]| {
                let data = &mut to.data[low * to.row_stride..];
                let out = MatrixMut::strided(data, visible, width, to.row_stride).accumulating(true);
                matmul(out, left.transposed(), Right::Plain(Matrix::new(right, stacked, width), group.precision));
            };
            into(&mut gradients.values, weights, &scratch.d_out);
            into(&mut gradients.keys, d_scores, &scratch.queries);
            matmul(
                MatrixMut::new(scratch.d_queries.fit(stacked * width), stacked, width),
                d_scores,
                scratch.keys.part(low..low + visible, 0..width),
            );
            scatter(&scratch.d_queries, group, &tile, &mut gradients.queries, group.scale);
            row += tile_rows;
        }
    });
}

/// What the rows of a tile go backward by.
struct TileBackward<'a, F> {
    group: &'a HeadGroup<F>,
    tile: &'a QueryTile,
    /// The first key that the tile was multiplied by.
    low: usize,
    /// How many there are.
    visible: usize,
    forward: &'a Forward<'a, F>,
    extras: &'a Extras<'a, F>,
}

impl<F: Float> TileBackward<'_, F> {
    /// One row: scores become weights, their gradients those of the scores.
    #[inline(always)]
    fn row(&self, index: usize, scratch: &mut BackwardScratch<F>, gradients: &mut Gradients<'_, F>) {
        let Self { group, tile, low, visible, forward, extras } = *self;
        let width = group.head_dim;
        let (head, row) = (index / tile.rows, tile.row + index % tile.rows);
        let first = first_visible(group, row) - low;
        let last = row - low;
        let panel = index * visible..(index + 1) * visible;
        let (weights, d_scores) = (&mut scratch.weights[panel.clone()], &mut scratch.d_scores[panel]);
        for unseen in [0..first, last + 1..visible] {
            weights[unseen.clone()].fill(F::ZERO);
            d_scores[unseen].fill(F::ZERO);
        }
        let (weights, d_scores) = (&mut weights[first..=last], &mut d_scores[first..=last]);
        let cap_slopes = scratch.cap_slopes.get_mut(..weights.len()).unwrap_or_default();
        if let Some(cap) = group.soft_cap {
            let inverse = F::ONE / cap;
            for (score, slope) in weights.iter_mut().zip(cap_slopes.iter_mut()) {
                let bounded = (*score * inverse).tanh();
                *score = cap * bounded;
                *slope = F::ONE - bounded * bounded;
            }
        }
        if let Some(&slope) = extras.slopes.get(head) {
            subtract_distances(weights, slope, &scratch.ramp, last - first);
        }
        let d_out = &scratch.d_out[index * width..(index + 1) * width];
        let log_sum_exp = match group.weighting {
            Weighting::Softmax => forward.log_sum_exp[head * tile.rows_in_scan + row],
            Weighting::Sigmoid { .. } => F::ZERO,
        };
        let valued = extras.entry.is_some_and(|entry| entry.value.is_some());
        // The score of the entry that is no key, and the gradient of its weight.
        let entry =
            extras.entry.map(|entry| (entry.score(row, head), entry.value.map_or(F::ZERO, |value| dot(d_out, value))));
        let hide_unmet = |values: &mut [F]| {
            if !extras.mask.is_empty() {
                for (at, value) in values.iter_mut().enumerate() {
                    *value = if extras.mask.meet(row, low + first + at) { *value } else { F::ZERO };
                }
            }
        };
        // D, for softmax.
        let mut along = F::ZERO;
        match group.weighting {
            Weighting::Softmax if group.precision.rounds::<F>() => {
                // Of what products gave, so that the gradients of a row's scores add up to 0 although they round.
                for weight in weights.iter_mut() {
                    *weight = (*weight - log_sum_exp).exp();
                }
                hide_unmet(weights);
                along = dot(weights, d_scores);
                if let Some((score, d_weight)) = entry {
                    along += (score - log_sum_exp).exp() * d_weight;
                }
                map_pairs(weights, d_scores, |p, d_weight| (p, p * (d_weight - along)));
            }
            Weighting::Softmax => {
                let at = row * forward.out.row_stride + head * width;
                along = dot(d_out, &forward.out.data[at..at + width]);
                map_pairs(weights, d_scores, |score, d_weight| {
                    let p = (score - log_sum_exp).exp();
                    (p, p * (d_weight - along))
                });
            }
            Weighting::Sigmoid { bias } => {
                map_pairs(weights, d_scores, |score, d_weight| {
                    let p = sigmoid(score + bias);
                    (p, d_weight * (p * (F::ONE - p)))
                });
            }
        }
        hide_unmet(weights);
        hide_unmet(d_scores);
        for (d_score, &slope) in d_scores.iter_mut().zip(cap_slopes.iter()) {
            *d_score *= slope;
        }
        if let (Some((score, d_weight)), Some(gradient)) = (entry, &mut gradients.entry) {
            let (weight, d_score) = match group.weighting {
                Weighting::Softmax => {
                    let p = (score - log_sum_exp).exp();
                    (p, p * (d_weight - along))
                }
                Weighting::Sigmoid { bias } => {
                    let p = sigmoid(score + bias);
                    (p, d_weight * p * (F::ONE - p))
                }
            };
            gradient.scores.data[row * gradient.scores.row_stride + head] = d_score;
            if let Some(d_value) = gradient.value.as_deref_mut().filter(|_| valued) {
                add_scaled(d_value, weight, d_out);
            }
        }
    }
}

#[cfg(test)]
mod tests;
