//! Causal attention in tiles, with the scan (eq. 6-11, 27).
//!
//! The queries of the heads that share a key-value head are stacked into one tile of a few dozen rows, and their scores
//! against *all* visible keys are formed at once: a panel of `tile x keys` that stays in the second-level cache for
//! ordinary lengths and never becomes T x T. With whole rows at hand the softmax is exact and in one sweep per row,
//! and what a tap wants (attention received by each key, log-sum-exp, weight on itself and on the first position,
//! entropy) falls out of the same sweep; nothing is recomputed.

use crate::activation::soft_cap;
use crate::matmul::{Matrix, MatrixMut, PackedRight, Precision, Right, matmul};
use crate::simd::{add_scaled, dispatch};
use crate::{Buffer, Float};

mod backward;
mod extras;
mod scratch;
mod weights;

use scratch::with_scratch;
use weights::{ScoreRow, weigh};

pub use backward::{EntryGradients, Forward, Gradients, attend_backward};
pub use extras::{Entry, Extras, Look, Mask, Sinks, Weighting};

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
    /// How scores become weights.
    pub weighting: Weighting<F>,
    /// How exact the products of queries, keys, weights and values are.
    pub precision: Precision,
}

/// Where one head group's values lie in a row-major matrix of several heads.
#[derive(Debug, Clone, Copy)]
pub struct Strided<'a, F> {
    /// From the group's first value of the first row on.
    pub data: &'a [F],
    /// Distance between rows.
    pub row_stride: usize,
}

/// The same in a writable matrix.
#[derive(Debug)]
pub struct StridedMut<'a, F> {
    /// From the group's first value of the first row on.
    pub data: &'a mut [F],
    /// Distance between rows.
    pub row_stride: usize,
}

/// Query rows of one head group, one after the other in a sequence, and all that they may see of it.
#[derive(Debug, Clone, Copy)]
pub struct Operands<'a, F> {
    /// Number of query rows.
    pub rows: usize,
    /// Position in the sequence of the first of them.
    pub first_position: usize,
    /// rows x (queries_per_key * head_dim).
    pub queries: Strided<'a, F>,
    /// (first_position + rows) x head_dim, from position 0 on.
    pub keys: Strided<'a, F>,
    /// As the keys.
    pub values: Strided<'a, F>,
}

/// The scan of a run of query rows of one head group. Lengths are per query head, heads in order. All but the log-sum-exp is
/// empty unless [`Look::Scan`] was asked for.
#[derive(Debug, Clone, Default)]
pub struct Scan<F> {
    /// queries_per_key x keys: attention received by each key from these queries in total.
    pub received: Vec<F>,
    /// queries_per_key x rows: log of the sum of exponentials of the scores, of an entry that is no key too; for sigmoids, log
    /// of the sum of weights.
    pub log_sum_exp: Vec<F>,
    /// queries_per_key x rows: what the weights of each query on all keys add up to.
    pub mass: Vec<F>,
    /// queries_per_key x rows: weight of each query on itself.
    pub to_self: Vec<F>,
    /// queries_per_key x rows: weight of each query on position 0.
    pub to_first: Vec<F>,
    /// queries_per_key x rows: entropy of each query's weights, in nats; normalised first for sigmoids, and with an entry that
    /// is no key as one more outcome.
    pub entropy: Vec<F>,
}

impl<F: Float> Scan<F> {
    fn new(look: Look, group: usize, rows: usize, keys: usize) -> Option<Self> {
        let of_length = |length: usize| vec![F::ZERO; group * length];
        let log_sum_exp = of_length(rows);
        match look {
            Look::Nothing => None,
            Look::LogSumExp => Some(Self { log_sum_exp, ..Self::default() }),
            Look::Scan => Some(Self {
                received: of_length(keys),
                log_sum_exp,
                mass: of_length(rows),
                to_self: of_length(rows),
                to_first: of_length(rows),
                entropy: of_length(rows),
            }),
        }
    }
}

/// Attention of query rows to the keys at their positions and before. Gives what `look` asks for.
///
/// # Shapes
/// `out`: rows x (queries_per_key * head_dim).
pub fn attend<F: Float>(
    group: &HeadGroup<F>,
    operands: &Operands<'_, F>,
    mut out: StridedMut<'_, F>,
    extras: &Extras<'_, F>,
    look: Look,
) -> Option<Scan<F>> {
    let Operands { rows, first_position, queries, keys, values } = *operands;
    let slopes = extras.slopes.len();
    assert!(slopes == 0 || slopes == group.queries_per_key, "attend: one slope for each query head");
    let key_count = first_position + rows;
    let mut scan = Scan::new(look, group.queries_per_key, rows, key_count);
    let first_key = first_visible(group, first_position);
    // Those that the last query's window has left behind: no other query's has left more.
    let far = extras.sinks.map_or(0, |sinks| sinks.count.min(first_visible(group, key_count - 1)));
    with_scratch(|scratch: &mut ForwardScratch<F>| {
        for packed in [&mut scratch.keys, &mut scratch.values, &mut scratch.sink_keys] {
            packed.set_precision(group.precision);
        }
        scratch.keys.pack(rows_of(group, keys, first_key, key_count).transposed());
        scratch.values.pack(rows_of(group, values, first_key, key_count));
        scratch.sink_keys.pack(rows_of(group, keys, 0, far).transposed());
        fill_ramp(&mut scratch.ramp, if slopes > 0 { key_count } else { 0 });
        let mut row = 0;
        while row < rows {
            let position = first_position + row;
            let tile_rows = tile_rows(group, position).min(rows - row);
            let tile =
                QueryTile { row, rows: tile_rows, position, rows_in_scan: rows, first_key, keys_in_scan: key_count };
            gather(&mut scratch.queries, group, &tile, queries, group.scale);
            scratch.out.fit(group.queries_per_key * tile.rows * group.head_dim);
            if let Some(sinks) = extras.sinks.filter(|_| far > 0) {
                gather(&mut scratch.sink_queries, group, &tile, sinks.queries, group.scale);
            }
            attend_tile(group, &tile, scratch, values, extras, scan.as_mut());
            scatter(&scratch.out, group, &tile, &mut out, F::ONE);
            row += tile_rows;
        }
    });
    scan
}

/// 0, 1, 2 ..
fn fill_ramp<F: Float>(ramp: &mut Vec<F>, count: usize) {
    ramp.clear();
    ramp.extend((0..count).map(|at| F::from_f64(at as f64)));
}

/// Takes from the scores of keys one after the other what ALiBi does: `slope * distance`, the first key `distance` away.
#[inline(always)]
fn subtract_distances<F: Float>(scores: &mut [F], slope: F, ramp: &[F], distance: usize) {
    let distance = F::from_f64(distance as f64);
    for (score, &at) in scores.iter_mut().zip(ramp) {
        *score = (at - distance).mul_add(slope, *score);
    }
}

/// Rows of the tile that begins at `position`: a function of shapes alone.
fn tile_rows<F>(group: &HeadGroup<F>, position: usize) -> usize {
    let visible = group.window.unwrap_or(usize::MAX).min(position + TILE_ROWS) + TILE_ROWS;
    (PANEL_SCORES / (group.queries_per_key * visible) / MIN_TILE_ROWS * MIN_TILE_ROWS).clamp(MIN_TILE_ROWS, TILE_ROWS)
}

/// A run of query positions, all heads of the group.
struct QueryTile {
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

/// The first of the keys that the tile is multiplied by: that which its first query sees, or one of the few before it, where
/// a panel of packed keys begins.
fn first_multiplied<F>(group: &HeadGroup<F>, tile: &QueryTile) -> usize {
    let behind = first_visible(group, tile.position) - tile.first_key;
    tile.first_key + behind / PackedRight::<F>::FIRST_COLUMN * PackedRight::<F>::FIRST_COLUMN
}

/// Keys (or values) `from .. to`: (to - from) x head_dim.
fn rows_of<'a, F: Float>(group: &HeadGroup<F>, rows: Strided<'a, F>, from: usize, to: usize) -> Matrix<'a, F> {
    Matrix::strided(&rows.data[from * rows.row_stride..], to - from, group.head_dim, rows.row_stride, 1)
}

/// What one call fills and the next one finds.
#[derive(Default)]
struct ForwardScratch<F: Float> {
    /// head_dim x visible keys of the whole call.
    keys: PackedRight<F>,
    /// Their values, keys x head_dim.
    values: PackedRight<F>,
    /// head_dim x keys that windows leave behind and that stay in sight.
    sink_keys: PackedRight<F>,
    queries: Buffer<F>,
    sink_queries: Buffer<F>,
    /// From the first multiplied key on.
    scores: Buffer<F>,
    sink_scores: Buffer<F>,
    /// The scores of a row that a mask or a window leaves.
    met: Vec<F>,
    /// 0, 1, 2 .. for ALiBi.
    ramp: Vec<F>,
    out: Buffer<F>,
}

/// Puts the heads' rows back beside each other, times `factor`.
fn scatter<F: Float>(stacked: &[F], group: &HeadGroup<F>, tile: &QueryTile, out: &mut StridedMut<'_, F>, factor: F) {
    let width = group.head_dim;
    for (stacked, values) in stacked.chunks_exact(width).enumerate() {
        let (head, row) = (stacked / tile.rows, tile.row + stacked % tile.rows);
        let at = row * out.row_stride + head * width;
        for (out, &value) in out.data[at..at + width].iter_mut().zip(values) {
            *out = value * factor;
        }
    }
}

/// Stacks the heads' rows, times `factor`: (head, row) x head_dim.
fn gather<F: Float>(stacked: &mut Buffer<F>, group: &HeadGroup<F>, tile: &QueryTile, rows: Strided<'_, F>, factor: F) {
    let width = group.head_dim;
    let out = stacked.fit(group.queries_per_key * tile.rows * width);
    for (index, out) in out.chunks_exact_mut(width).enumerate() {
        let (head, row) = (index / tile.rows, tile.row + index % tile.rows);
        let at = row * rows.row_stride + head * width;
        for (out, &value) in out.iter_mut().zip(&rows.data[at..at + width]) {
            *out = value * factor;
        }
    }
}

fn attend_tile<F: Float>(
    group: &HeadGroup<F>,
    tile: &QueryTile,
    scratch: &mut ForwardScratch<F>,
    values: Strided<'_, F>,
    extras: &Extras<'_, F>,
    mut scan: Option<&mut Scan<F>>,
) {
    let width = group.head_dim;
    let stacked = group.queries_per_key * tile.rows;
    // Keys `low .. low + visible` are all that any query of this tile may see, but for far sinks.
    let low = first_multiplied(group, tile);
    let visible = tile.position + tile.rows - low;
    let multiplied = low - tile.first_key..low - tile.first_key + visible;
    let far = scratch.sink_keys.columns();

    matmul(
        MatrixMut::new(scratch.scores.fit(stacked * visible), stacked, visible),
        Matrix::new(&scratch.queries, stacked, width),
        scratch.keys.part(0..width, multiplied.clone()),
    );
    let sink_scores = scratch.sink_scores.fit(stacked * far);
    if far > 0 {
        matmul(
            MatrixMut::new(sink_scores, stacked, far),
            Matrix::new(&scratch.sink_queries, stacked, width),
            scratch.sink_keys.whole(),
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
                let (sinks, in_window) = sink_rows.next().unwrap_or_default().split_at_mut(far.min(low + first));
                in_window.fill(F::ZERO);
                if let Some(cap) = group.soft_cap {
                    soft_cap(seen, cap);
                    soft_cap(sinks, cap);
                }
                if let Some(&slope) = extras.slopes.get(head) {
                    subtract_distances(seen, slope, &scratch.ramp, last - first);
                    let met_at = extras.sinks.map_or(position, |sinks| position.min(sinks.last_position));
                    subtract_distances(sinks, slope, &scratch.ramp, met_at);
                }
                let entry = extras.entry.map(|entry| entry.score(tile.row + row, head));
                let scores = ScoreRow {
                    far: (0, &mut *sinks),
                    near: (low + first, &mut *seen),
                    entry,
                    position,
                    mask: extras.mask,
                };
                let entropy = scan.as_ref().is_some_and(|scan| !scan.entropy.is_empty());
                let sums = weigh(group.weighting, scores, &mut scratch.met, entropy);
                if let Some(value) = extras.entry.and_then(|entry| entry.value) {
                    let out = &mut scratch.out[index * width..(index + 1) * width];
                    for (out, &value) in out.iter_mut().zip(value) {
                        *out = sums.entry * value;
                    }
                }
                let Some(scan) = scan.as_deref_mut() else { continue };
                let at = head * tile.rows_in_scan + tile.row + row;
                let log_sum = sums.sum.ln();
                scan.log_sum_exp[at] = sums.shift + log_sum;
                if scan.entropy.is_empty() {
                    continue;
                }
                scan.entropy[at] = log_sum - sums.weighted / sums.sum;
                scan.mass[at] = match group.weighting {
                    Weighting::Softmax => F::ONE - sums.entry,
                    Weighting::Sigmoid { .. } => sums.sum - sums.entry,
                };
                scan.to_self[at] = seen[seen.len() - 1];
                let first_key = if low + first == 0 { seen.first() } else { sinks.first() };
                scan.to_first[at] = first_key.copied().unwrap_or(F::ZERO);
                let at = head * tile.keys_in_scan;
                add_scaled(&mut scan.received[at..at + sinks.len()], F::ONE, sinks);
                let at = at + low + first;
                add_scaled(&mut scan.received[at..at + seen.len()], F::ONE, seen);
            }
        },
    );
    // Where the entry has a value, its share is there already.
    let valued = extras.entry.is_some_and(|entry| entry.value.is_some());
    matmul(
        MatrixMut::new(&mut scratch.out, stacked, width).accumulating(valued),
        Matrix::new(&scratch.scores, stacked, visible),
        scratch.values.part(multiplied, 0..width),
    );
    if far > 0 {
        matmul(
            MatrixMut::new(&mut scratch.out, stacked, width).accumulating(true),
            Matrix::new(&scratch.sink_scores, stacked, far),
            Right::Plain(rows_of(group, values, 0, far), group.precision),
        );
    }
}

#[cfg(test)]
mod tests;
