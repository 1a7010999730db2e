//! One look at a chunk of rows: each row's largest magnitude, and the channels that reach furthest.
//!
//! Magnitudes are compared as bits: of floats without a sign the order is that of the integers, which vectorises where
//! a floating-point maximum does not, and puts a NaN on top instead of losing it. A row that holds a value that is not
//! finite has the first such value as its largest.

use crate::definitions::TOP_CHANNELS;

const SIGN: u32 = 1 << 31;
const LANES: usize = 16;
/// The bits of what is not finite are these or more.
const INFINITY: u32 = f32::INFINITY.to_bits();

/// What the rows of one chunk reach.
#[derive(Debug, Clone, PartialEq)]
pub struct RowMaxima {
    /// Largest magnitude of each row; that of the first value that is not finite, if there is one.
    pub largest: Vec<f32>,
    /// The channel of each row that has it, the lowest of equals.
    pub channel: Vec<u32>,
}

/// A channel and the token at which its magnitude is largest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Extreme {
    /// Channel.
    pub channel: usize,
    /// The value there, sign kept.
    pub value: f32,
    /// Token: sequence * seq_len + position, or the row of a chunk.
    pub token: usize,
}

/// The [`TOP_CHANNELS`] channels of largest magnitude, largest first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TopChannels {
    extremes: Vec<Extreme>,
}

impl TopChannels {
    /// Largest first; of equal magnitudes the lower channel.
    pub fn extremes(&self) -> &[Extreme] {
        &self.extremes
    }

    /// Takes in what later tokens reach. A channel among the largest of all tokens is among the largest of the part
    /// that holds its extreme, so merging the lists of parts loses nothing.
    pub fn merge(&mut self, later: &Self, first_token: usize) {
        for extreme in &later.extremes {
            self.add(Extreme { token: first_token + extreme.token, ..*extreme });
        }
        self.extremes.truncate(TOP_CHANNELS);
    }

    fn add(&mut self, new: Extreme) {
        match self.extremes.iter_mut().find(|old| old.channel == new.channel) {
            Some(old) if magnitude_bits(new.value) > magnitude_bits(old.value) => *old = new,
            Some(_) => {}
            None => self.extremes.push(new),
        }
        self.extremes.sort_by_key(|extreme| (std::cmp::Reverse(magnitude_bits(extreme.value)), extreme.channel));
    }
}

/// The largest magnitude of every row, and the channels that reach furthest over all of them (their tokens are rows).
///
/// # Shapes
///
/// `values`: rows x width, row-major; width at least 1.
pub fn scan_rows(values: &[f32], width: usize) -> (RowMaxima, TopChannels) {
    let rows = values.len() / width;
    let mut maxima = RowMaxima { largest: Vec::with_capacity(rows), channel: Vec::with_capacity(rows) };
    let mut columns = vec![0_u32; width];
    for row in values.chunks_exact(width) {
        let channel = channel_of_largest(row, scan_row(row, &mut columns));
        maxima.largest.push(row[channel].abs());
        maxima.channel.push(channel as u32);
    }
    (maxima, furthest(values, width, &columns))
}

/// Raises `columns` to the magnitudes of `row`, and gives the largest of the row.
fn scan_row(row: &[f32], columns: &mut [u32]) -> u32 {
    let (row_lanes, row_rest) = row.as_chunks::<LANES>();
    let (column_lanes, column_rest) = columns.as_chunks_mut::<LANES>();
    let mut largest = [0_u32; LANES];
    for (values, columns) in row_lanes.iter().zip(column_lanes) {
        for lane in 0..LANES {
            let magnitude = magnitude_bits(values[lane]);
            columns[lane] = columns[lane].max(magnitude);
            largest[lane] = largest[lane].max(magnitude);
        }
    }
    for (value, column) in row_rest.iter().zip(column_rest) {
        let magnitude = magnitude_bits(*value);
        *column = magnitude.max(*column);
        largest[0] = largest[0].max(magnitude);
    }
    largest.into_iter().fold(0, u32::max)
}

/// The entry of a row that has the largest magnitude, the first of equals, and its channel; the first entry that is not
/// finite, if there is one.
pub fn largest_of_row(row: &[f32]) -> (f32, usize) {
    let channel = channel_of_largest(row, largest_bits(row));
    (row.get(channel).copied().unwrap_or(0.0), channel)
}

/// The largest magnitude; NaN or infinite if a value is not finite. 0 of none.
pub fn largest_magnitude(values: &[f32]) -> f32 {
    f32::from_bits(largest_bits(values))
}

/// The largest magnitude, in the order of magnitudes.
fn largest_bits(values: &[f32]) -> u32 {
    values.iter().copied().map(magnitude_bits).fold(0, u32::max)
}

/// Where the largest magnitude of a row stands, given what it is.
fn channel_of_largest(row: &[f32], largest: u32) -> usize {
    if largest < INFINITY {
        return first_with(row, largest);
    }
    row.iter().position(|value| !value.is_finite()).unwrap_or(0)
}

/// The first channel of `row` with this magnitude.
fn first_with(row: &[f32], magnitude: u32) -> usize {
    let holds = |values: &[f32]| values.iter().fold(false, |any, value| any | (magnitude_bits(*value) == magnitude));
    let start = row.chunks(LANES).position(holds).unwrap_or(0) * LANES;
    start + row[start..].iter().position(|value| magnitude_bits(*value) == magnitude).unwrap_or(0)
}

fn furthest(values: &[f32], width: usize, columns: &[u32]) -> TopChannels {
    let mut top: Vec<(u32, usize)> = Vec::with_capacity(TOP_CHANNELS + 1);
    for (channel, &magnitude) in columns.iter().enumerate() {
        if top.len() < TOP_CHANNELS || top.last().is_some_and(|&(least, _)| magnitude > least) {
            let place = top.partition_point(|&(other, _)| other >= magnitude);
            top.insert(place, (magnitude, channel));
            top.truncate(TOP_CHANNELS);
        }
    }
    let extreme = |(magnitude, channel): (u32, usize)| {
        let mut column = values[channel..].iter().step_by(width).copied().enumerate();
        let (row, value) =
            column.find(|(_, value)| magnitude_bits(*value) == magnitude).unwrap_or((0, values[channel]));
        Extreme { channel, value, token: row }
    };
    let extremes = if values.is_empty() { Vec::new() } else { top.into_iter().map(extreme).collect() };
    TopChannels { extremes }
}

/// The magnitude, in the order of magnitudes.
#[inline]
pub(crate) fn magnitude_bits(value: f32) -> u32 {
    value.to_bits() & !SIGN
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    fn rows(seed: u64, rows: usize, width: usize) -> Vec<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        // Few distinct values, so that there are ties.
        (0..rows * width).map(|_| rng.random_range(-40_i32..=40) as f32 / 8.0).collect()
    }

    fn naive_top(values: &[f32], width: usize) -> Vec<Extreme> {
        let mut extremes: Vec<Extreme> = (0..width)
            .map(|channel| {
                let mut best = Extreme { channel, value: values[channel], token: 0 };
                for (token, row) in values.chunks_exact(width).enumerate() {
                    if row[channel].abs() > best.value.abs() {
                        best = Extreme { channel, value: row[channel], token };
                    }
                }
                best
            })
            .collect();
        extremes.sort_by(|a, b| b.value.abs().total_cmp(&a.value.abs()).then(a.channel.cmp(&b.channel)));
        extremes.truncate(TOP_CHANNELS);
        extremes
    }

    #[test]
    fn agrees_with_the_definition_at_odd_widths_and_when_split() {
        for (seed, width) in [1, 2, 3, 15, 16, 17, 33, 100].into_iter().enumerate() {
            let values = rows(seed as u64, 37, width);
            let (maxima, top) = scan_rows(&values, width);
            for (row, (largest, channel)) in values.chunks_exact(width).zip(maxima.largest.iter().zip(&maxima.channel))
            {
                let expected = row.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
                assert_eq!(*largest, expected);
                assert_eq!(row.iter().position(|value| value.abs() == expected), Some(*channel as usize));
            }
            assert_eq!(top.extremes(), naive_top(&values, width));

            let mut merged = TopChannels::default();
            for (piece, chunk) in values.chunks(5 * width).enumerate() {
                merged.merge(&scan_rows(chunk, width).1, piece * 5);
            }
            assert_eq!(merged.extremes(), naive_top(&values, width));
        }
    }

    #[test]
    fn a_nan_comes_out_on_top_and_nothing_panics() {
        let (maxima, top) = scan_rows(&[1.0, f32::NAN, -3.0, f32::INFINITY], 2);
        assert!(maxima.largest[0].is_nan());
        assert_eq!(maxima.channel, [1, 1]);
        assert_eq!(top.extremes()[0].channel, 1);
        assert!(scan_rows(&[], 4).1.extremes().is_empty());
        assert!(largest_magnitude(&[1.0, -f32::NAN, f32::INFINITY]).is_nan());
        assert_eq!(largest_magnitude(&[1.0, -3.0]), 3.0);
        assert_eq!(largest_magnitude(&[]), 0.0);
    }

    #[test]
    fn of_several_values_that_are_not_finite_the_first_is_the_row_s_largest() {
        let mut row = vec![5.0_f32; 40];
        (row[3], row[17], row[33]) = (f32::NEG_INFINITY, f32::NAN, f32::INFINITY);
        assert_eq!(largest_of_row(&row), (f32::NEG_INFINITY, 3));
        let (maxima, _) = scan_rows(&row, 40);
        assert_eq!((maxima.largest[0], maxima.channel[0]), (f32::INFINITY, 3));
    }
}
