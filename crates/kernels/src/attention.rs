//! Causal attention in tiles, with the scan (eq. 6-11, 27).
//!
//! The queries of the heads that share a key-value head are stacked into one tile of a few dozen rows, and their scores
//! against *all* visible keys are formed at once: a panel of `tile x keys` that stays in the second-level cache for
//! ordinary lengths and never becomes T x T. With whole rows at hand the softmax is exact and in one sweep per row,
//! and what a tap wants (attention received by each key, log-sum-exp, weight on itself and on the first position,
//! entropy) falls out of the same sweep; nothing is recomputed.

use crate::Float;
use crate::activation::soft_cap;
use crate::matmul::{Matrix, MatrixMut, matmul, matmul_add};
use crate::simd::{add_scaled, dispatch, exp_shifted, maximum};

/// Most query positions in one tile: matrix products on fewer rows waste the packing of keys and values.
const TILE_ROWS: usize = 64;
/// Scores in a panel before its rows are cut: 640 KiB of f32, so that panel and packed keys share a 1 MiB cache.
const PANEL_SCORES: usize = 160 * 1024;
/// Fewest query positions in one tile.
const MIN_TILE_ROWS: usize = 8;

/// What the attention of one key-value head looks like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HeadGroup<F> {
    /// Query heads that share this key-value head.
    pub queries_per_key: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Factor on the scores, usually `1 / sqrt(head_dim)`.
    pub scale: F,
    /// Bound on the scores: `cap * tanh(score / cap)`.
    pub soft_cap: Option<F>,
    /// A query sees itself and the `window - 1` positions before it.
    pub window: Option<usize>,
}

/// Where one head group's values lie in a row-major matrix of several heads.
#[derive(Debug, Clone, Copy)]
pub struct Strided<'a, F> {
    /// From the group's first value of the first row on.
    pub data: &'a [F],
    /// Distance between rows.
    pub row_stride: usize,
}

/// Pairs that do not meet, beside those that causality and windows keep apart. A query always sees itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct Mask<'a> {
    /// By position: whether later queries do not see the key there. Empty hides none.
    pub hidden: &'a [bool],
    /// By position: whether the query there sees only itself. Empty leaves all as they are.
    pub alone: &'a [bool],
}

impl Mask<'_> {
    fn is_empty(&self) -> bool {
        self.hidden.is_empty() && self.alone.is_empty()
    }

    /// Whether the query at `position` sees the key at `key`, if nothing else keeps them apart.
    fn meet(&self, position: usize, key: usize) -> bool {
        let marked = |marks: &[bool], at: usize| marks.get(at).copied().unwrap_or(false);
        key == position || !(marked(self.hidden, key) || marked(self.alone, position))
    }
}

/// The first keys of a sequence, which stay in sight when a window has left them behind.
#[derive(Debug, Clone, Copy)]
pub struct Sinks<'a, F> {
    /// How many.
    pub count: usize,
    /// The queries that meet them then: as `queries` of [`attend`], perhaps rotated to another position.
    pub queries: Strided<'a, F>,
}

/// The scan of a run of query rows of one head group. Lengths are per query head, heads in order.
#[derive(Debug, Clone, Default)]
pub struct Scan<F> {
    /// queries_per_key x keys: attention received by each key from these queries in total.
    pub received: Vec<F>,
    /// queries_per_key x rows: log of the sum of exponentials of the scores.
    pub log_sum_exp: Vec<F>,
    /// queries_per_key x rows: weight of each query on itself.
    pub to_self: Vec<F>,
    /// queries_per_key x rows: weight of each query on position 0.
    pub to_first: Vec<F>,
    /// queries_per_key x rows: entropy of each query's weights, in nats.
    pub entropy: Vec<F>,
}

impl<F: Float> Scan<F> {
    fn new(group: usize, rows: usize, keys: usize) -> Self {
        let per_row = || vec![F::ZERO; group * rows];
        Self {
            received: vec![F::ZERO; group * keys],
            log_sum_exp: per_row(),
            to_self: per_row(),
            to_first: per_row(),
            entropy: per_row(),
        }
    }
}

/// Attention of `rows` query rows, at positions `first_position ..` of a sequence, to the keys at positions
/// `0 .. first_position + rows`. Gives the scan if `scan`.
///
/// # Shapes
/// `queries`, `out`: rows x (queries_per_key * head_dim), strided; `keys`, `values`: (first_position + rows) x head_dim,
/// strided.
pub fn attend<F: Float>(
    group: &HeadGroup<F>,
    rows: usize,
    first_position: usize,
    queries: Strided<'_, F>,
    keys: Strided<'_, F>,
    values: Strided<'_, F>,
    out: (&mut [F], usize),
    mask: Mask<'_>,
    sinks: Option<Sinks<'_, F>>,
    scan: bool,
) -> Option<Scan<F>> {
    let key_count = first_position + rows;
    let mut scan = scan.then(|| Scan::new(group.queries_per_key, rows, key_count));
    let first_key = first_visible(group, first_position);
    let mut scratch = Scratch { keys: keys_by_dimension(group, keys, first_key, key_count), ..Scratch::default() };
    // Those that the last query's window has left behind: no other query's has left more.
    let far = sinks.map_or(0, |sinks| sinks.count.min(first_visible(group, key_count - 1)));
    if far > 0 {
        scratch.sink_keys = keys_by_dimension(group, keys, 0, far);
    }
    let (out, out_stride) = out;
    let mut row = 0;
    while row < rows {
        let position = first_position + row;
        let tile_rows = tile_rows(group, position).min(rows - row);
        let tile = Tile { row, rows: tile_rows, position, rows_in_scan: rows, first_key, keys_in_scan: key_count };
        gather(&mut scratch.queries, group, &tile, queries);
        scratch.out.resize(group.queries_per_key * tile.rows * group.head_dim, F::ZERO);
        if let Some(sinks) = sinks.filter(|_| far > 0) {
            gather(&mut scratch.sink_queries, group, &tile, sinks.queries);
        }
        attend_tile(group, &tile, &mut scratch, values, mask, scan.as_mut());
        scratch.scatter(group, &tile, out, out_stride);
        row += tile_rows;
    }
    scan
}

/// Rows of the tile that begins at `position`: a function of shapes alone.
fn tile_rows<F>(group: &HeadGroup<F>, position: usize) -> usize {
    let visible = group.window.unwrap_or(usize::MAX).min(position + TILE_ROWS) + TILE_ROWS;
    (PANEL_SCORES / (group.queries_per_key * visible) / MIN_TILE_ROWS * MIN_TILE_ROWS).clamp(MIN_TILE_ROWS, TILE_ROWS)
}

/// A run of query positions, all heads of the group.
struct Tile {
    /// First row within the call.
    row: usize,
    /// Number of positions.
    rows: usize,
    /// Position in the sequence of the first.
    position: usize,
    rows_in_scan: usize,
    /// First key of the gathered ones.
    first_key: usize,
    keys_in_scan: usize,
}

/// The first key that the query at `position` sees.
fn first_visible<F>(group: &HeadGroup<F>, position: usize) -> usize {
    group.window.map_or(0, |window| (position + 1).saturating_sub(window))
}

/// Keys `from .. to`, one dimension of the head after the other: the layout that products pack without a transposition,
/// made once for all tiles. head_dim x (to - from).
fn keys_by_dimension<F: Float>(group: &HeadGroup<F>, keys: Strided<'_, F>, from: usize, to: usize) -> Vec<F> {
    let count = to - from;
    let mut gathered = vec![F::ZERO; group.head_dim * count];
    for (block_index, block) in gathered.chunks_mut(KEYS_BY_DIMENSION * count).enumerate() {
        let first = block_index * KEYS_BY_DIMENSION;
        let dimensions = block.len() / count;
        for key in 0..count {
            let at = (from + key) * keys.row_stride + first;
            for (dimension, &value) in keys.data[at..at + dimensions].iter().enumerate() {
                block[dimension * count + key] = value;
            }
        }
    }
    gathered
}

/// Dimensions gathered together: a cache line of f32.
const KEYS_BY_DIMENSION: usize = 16;

struct Scratch<F> {
    /// head_dim x visible keys of the whole call.
    keys: Vec<F>,
    /// head_dim x keys that windows leave behind and that stay in sight.
    sink_keys: Vec<F>,
    queries: Vec<F>,
    sink_queries: Vec<F>,
    /// Far sinks, then the keys from the first visible one on.
    scores: Vec<F>,
    sink_scores: Vec<F>,
    /// The scores of a row that a mask or a window leaves.
    met: Vec<F>,
    out: Vec<F>,
}

impl<F> Default for Scratch<F> {
    fn default() -> Self {
        Self {
            keys: Vec::new(),
            sink_keys: Vec::new(),
            queries: Vec::new(),
            sink_queries: Vec::new(),
            scores: Vec::new(),
            sink_scores: Vec::new(),
            met: Vec::new(),
            out: Vec::new(),
        }
    }
}

impl<F: Float> Scratch<F> {
    fn scatter(&self, group: &HeadGroup<F>, tile: &Tile, out: &mut [F], out_stride: usize) {
        let width = group.head_dim;
        for (stacked, values) in self.out.chunks_exact(width).enumerate() {
            let (head, row) = (stacked / tile.rows, tile.row + stacked % tile.rows);
            let at = row * out_stride + head * width;
            out[at..at + width].copy_from_slice(values);
        }
    }
}

/// Stacks the heads' queries, scaled: (head, row) x head_dim.
fn gather<F: Float>(stacked: &mut Vec<F>, group: &HeadGroup<F>, tile: &Tile, queries: Strided<'_, F>) {
    let width = group.head_dim;
    stacked.clear();
    for head in 0..group.queries_per_key {
        for row in tile.row..tile.row + tile.rows {
            let at = row * queries.row_stride + head * width;
            stacked.extend(queries.data[at..at + width].iter().map(|&q| q * group.scale));
        }
    }
}

fn attend_tile<F: Float>(
    group: &HeadGroup<F>,
    tile: &Tile,
    scratch: &mut Scratch<F>,
    values: Strided<'_, F>,
    mask: Mask<'_>,
    mut scan: Option<&mut Scan<F>>,
) {
    let width = group.head_dim;
    let stacked = group.queries_per_key * tile.rows;
    // Keys `low .. low + visible` are all that any query of this tile may see, but for far sinks.
    let low = first_visible(group, tile.position);
    let visible = tile.position + tile.rows - low;
    let gathered = tile.keys_in_scan - tile.first_key;
    let values_from = &values.data[low * values.row_stride..];
    let far = scratch.sink_keys.len() / width;

    scratch.scores.resize(stacked * visible, F::ZERO);
    matmul(
        MatrixMut::new(&mut scratch.scores, stacked, visible),
        Matrix::new(&scratch.queries, stacked, width),
        Matrix::strided(&scratch.keys[low - tile.first_key..], width, visible, gathered, 1),
    );
    scratch.sink_scores.resize(stacked * far, F::ZERO);
    if far > 0 {
        matmul(
            MatrixMut::new(&mut scratch.sink_scores, stacked, far),
            Matrix::new(&scratch.sink_queries, stacked, width),
            Matrix::new(&scratch.sink_keys, width, far),
        );
    }
    dispatch(
        #[inline(always)]
        || {
            let mut sink_rows = scratch.sink_scores.chunks_exact_mut(far.max(1));
            for (index, scores) in scratch.scores.chunks_exact_mut(visible).enumerate() {
                let (head, row) = (index / tile.rows, index % tile.rows);
                let position = tile.position + row;
                let first = first_visible(group, position) - low;
                let last = position - low;
                scores[..first].fill(F::ZERO);
                scores[last + 1..].fill(F::ZERO);
                let seen = &mut scores[first..=last];
                // Sinks that this query's window has left behind.
                let (sinks, near) = sink_rows.next().unwrap_or_default().split_at_mut(far.min(low + first));
                near.fill(F::ZERO);
                if let Some(cap) = group.soft_cap {
                    soft_cap(seen, cap);
                    soft_cap(sinks, cap);
                }
                let (largest, (sum, weighted)) = if mask.is_empty() && sinks.is_empty() {
                    let largest = maximum(seen);
                    (largest, exp_shifted(seen, largest))
                } else {
                    let mut parts = [(0, &mut *sinks), (low + first, &mut *seen)];
                    exp_of_met(&mut parts, position, mask, &mut scratch.met)
                };
                let inverse = F::ONE / sum;
                for p in seen.iter_mut() {
                    *p *= inverse;
                }
                for p in sinks.iter_mut() {
                    *p *= inverse;
                }
                if let Some(scan) = scan.as_deref_mut() {
                    let at = head * tile.keys_in_scan;
                    add_scaled(&mut scan.received[at..at + sinks.len()], F::ONE, sinks);
                    let at = at + low + first;
                    add_scaled(&mut scan.received[at..at + seen.len()], F::ONE, seen);
                    let at = head * tile.rows_in_scan + tile.row + row;
                    let log_sum = sum.ln();
                    scan.log_sum_exp[at] = largest + log_sum;
                    scan.entropy[at] = log_sum - weighted * inverse;
                    scan.to_self[at] = seen[seen.len() - 1];
                    let first_key = if low + first == 0 { seen.first() } else { sinks.first() };
                    scan.to_first[at] = first_key.copied().unwrap_or(F::ZERO);
                }
            }
        },
    );
    matmul(
        MatrixMut::new(&mut scratch.out, stacked, width),
        Matrix::new(&scratch.scores, stacked, visible),
        Matrix::strided(values_from, visible, width, values.row_stride, 1),
    );
    if far > 0 {
        matmul_add(
            MatrixMut::new(&mut scratch.out, stacked, width),
            Matrix::new(&scratch.sink_scores, stacked, far),
            Matrix::strided(values.data, far, width, values.row_stride, 1),
        );
    }
}

/// The largest score of the keys that the query at `position` meets, and what [`exp_shifted`] makes of them; the others'
/// weights are 0. A part is the scores of keys one after the other, and the first of them.
#[inline(always)]
fn exp_of_met<F: Float>(
    parts: &mut [(usize, &mut [F])],
    position: usize,
    mask: Mask<'_>,
    met: &mut Vec<F>,
) -> (F, (F, F)) {
    met.clear();
    for (first, scores) in parts.iter() {
        let meeting = scores.iter().enumerate().filter(|(at, _)| mask.meet(position, first + at));
        met.extend(meeting.map(|(_, &score)| score));
    }
    let largest = maximum(met);
    let sums = exp_shifted(met, largest);
    let mut weights = met.iter();
    for (first, scores) in parts {
        for (at, score) in scores.iter_mut().enumerate() {
            let weight = if mask.meet(position, *first + at) { weights.next() } else { None };
            *score = weight.copied().unwrap_or(F::ZERO);
        }
    }
    (largest, sums)
}

#[cfg(test)]
mod tests;
