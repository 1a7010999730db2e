//! Medians: exact ones of values at hand, and one of a stream too long to keep.
//!
//! The median of all magnitudes of a residual comes from a histogram over the leading bits of `|x|`: sign cleared, the
//! lower 15 bits of the mantissa dropped, 8 kept. Buckets are at most 2^-8 of a value wide, so the answer is off by less
//! than 2^-8 relative (0.4 %) for normal numbers; linear interpolation inside the bucket makes the usual error far
//! smaller. Magnitudes below 2^-134 count as 0. Counts are integers, so neither the order of the values nor the number
//! of threads matters.

use std::collections::BTreeMap;
use std::mem::take;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bits of the mantissa that the histogram keeps: its relative error is below two to their negative.
pub const KEPT_BITS: u32 = 8;
const DROPPED_BITS: u32 = f32::MANTISSA_DIGITS - 1 - KEPT_BITS;
const BUCKETS: usize = 1 << (31 - DROPPED_BITS);
/// Infinities and NaNs start here.
const FIRST_NON_FINITE: usize = (f32::INFINITY.to_bits() >> DROPPED_BITS) as usize;

/// The exact median; of an even count the lower of the two middle values, as PyTorch has it; 0 of none, and NaN if a
/// value is.
pub fn median<V: Copy + Into<f64>>(values: &[V]) -> f64 {
    middle(values, |count| (count - 1) / 2)
}

/// The median that a page shows: of an even count the upper of the two middle values.
pub fn upper_median<V: Copy + Into<f64>>(values: &[V]) -> f64 {
    middle(values, |count| count / 2)
}

fn middle<V: Copy + Into<f64>>(values: &[V], rank: fn(usize) -> usize) -> f64 {
    let mut values: Vec<f64> = values.iter().map(|&value| value.into()).collect();
    if values.is_empty() {
        return 0.0;
    }
    if values.iter().any(|value| value.is_nan()) {
        return f64::NAN;
    }
    let rank = rank(values.len());
    *values.select_nth_unstable_by(rank, f64::total_cmp).1
}

/// Counts of one block while it runs, one shard a thread so that threads do not wait for one another.
#[derive(Debug)]
pub struct MagnitudeCounts {
    shards: Vec<Mutex<Vec<u64>>>,
}

impl MagnitudeCounts {
    /// Empty counts, for the threads of the current rayon pool.
    ///
    /// # Memory
    /// 512 KiB a thread.
    pub fn new() -> Self {
        let threads = rayon::current_num_threads().max(1);
        Self { shards: (0..threads).map(|_| Mutex::new(vec![0; BUCKETS])).collect() }
    }

    /// Borrows the counts of the calling thread.
    pub fn shard(&self) -> Shard<'_> {
        let thread = rayon::current_thread_index().unwrap_or(0) % self.shards.len();
        Shard(self.shards[thread].lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Adds everything counted so far to `histogram` and starts again from nothing.
    pub fn drain_into(&mut self, histogram: &mut MagnitudeHistogram) {
        let shards = self.shards.iter_mut().map(|shard| shard.get_mut().unwrap_or_else(PoisonError::into_inner));
        let mut shards: Vec<&mut [u64]> = shards.map(Vec::as_mut_slice).collect();
        let drained =
            (0..BUCKETS).map(|bucket| (bucket, shards.iter_mut().map(|counts| take(&mut counts[bucket])).sum()));
        // In order, from which a map is made quickly.
        let drained: BTreeMap<usize, u64> = drained.filter(|&(_, count)| count > 0).collect();
        if histogram.counts.is_empty() {
            histogram.counts = drained;
        } else {
            for (bucket, count) in drained {
                *histogram.counts.entry(bucket).or_default() += count;
            }
        }
    }
}

impl Default for MagnitudeCounts {
    fn default() -> Self {
        Self::new()
    }
}

/// One thread's counts.
#[derive(Debug)]
pub struct Shard<'a>(MutexGuard<'a, Vec<u64>>);

impl Shard<'_> {
    /// Counts the magnitudes of `values`.
    pub fn count(&mut self, values: &[f32]) {
        let counts = self.0.as_mut_slice();
        for value in values {
            let bucket = (value.to_bits() << 1) >> (DROPPED_BITS + 1);
            // A shift by 16 of 32 bits is always below 2^16, the length: the branch is never taken.
            if let Some(count) = counts.get_mut(bucket as usize) {
                *count += 1;
            }
        }
    }
}

/// How often each magnitude occurred, to the precision of a bucket: only those that did are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MagnitudeHistogram {
    counts: BTreeMap<usize, u64>,
}

impl MagnitudeHistogram {
    /// How many values were not finite.
    pub fn non_finite(&self) -> u64 {
        self.counts.range(FIRST_NON_FINITE..).map(|(_, count)| count).sum()
    }

    /// The median magnitude, 0 of none, infinite if half of the values are not finite.
    pub fn median(&self) -> f64 {
        let total: u64 = self.counts.values().sum();
        if total == 0 {
            return 0.0;
        }
        self.value_of_rank((total - 1) / 2)
    }

    /// The `rank`-th smallest magnitude, from 0; the values of a bucket are taken to be evenly spread over it.
    fn value_of_rank(&self, rank: u64) -> f64 {
        let mut before = 0;
        for (&bucket, &count) in &self.counts {
            if rank < before + count {
                if bucket >= FIRST_NON_FINITE {
                    return f64::INFINITY;
                }
                if bucket == 0 {
                    return 0.0;
                }
                let (low, high) = (lower_bound(bucket), lower_bound(bucket + 1));
                let high = if high.is_finite() { high } else { f64::from(f32::MAX) };
                return low + (high - low) * ((rank - before) as f64 + 0.5) / count as f64;
            }
            before += count;
        }
        0.0
    }
}

fn lower_bound(bucket: usize) -> f64 {
    f64::from(f32::from_bits((bucket as u32) << DROPPED_BITS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn histogram_of(values: &[f32]) -> MagnitudeHistogram {
        let mut counts = MagnitudeCounts::new();
        counts.shard().count(values);
        let mut histogram = MagnitudeHistogram::default();
        counts.drain_into(&mut histogram);
        histogram
    }

    #[test]
    fn exact_medians_of_odd_even_and_no_values() {
        assert_eq!(median::<f32>(&[]), 0.0);
        assert_eq!(median(&[3.0]), 3.0);
        assert_eq!(median(&[4.0, 1.0, 3.0]), 3.0);
        assert_eq!(median(&[8.0, 1.0, 2.0, 5.0]), 2.0);
        assert_eq!(upper_median(&[8.0, 1.0, 2.0, 5.0]), 5.0);
        assert_eq!(median(&[2.0, 2.0]), 2.0);
        assert!(median(&[1.0, f32::NAN, 2.0]).is_nan(), "no value is absorbed");
    }

    #[test]
    fn what_every_thread_counted_is_drained_once() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().expect("threads");
        let mut counts = pool.install(MagnitudeCounts::new);
        let mut histogram = MagnitudeHistogram::default();
        for (round, values) in [[1.0, 2.0], [2.0, 4.0]].into_iter().enumerate() {
            pool.broadcast(|_| counts.shard().count(&values));
            counts.drain_into(&mut histogram);
            assert_eq!(histogram.counts.values().sum::<u64>(), 6 * (round as u64 + 1));
        }
        assert_eq!(histogram, histogram_of(&[1.0, 2.0, 2.0, 4.0].repeat(3)));
    }

    #[test]
    fn non_finite_values_are_counted_and_sort_on_top() {
        let histogram = histogram_of(&[f32::NAN, 1.0, -f32::INFINITY, 0.0, -f32::NAN, -2.0, 0.0]);
        assert_eq!(histogram.non_finite(), 3);
        assert!((histogram.median() - 2.0).abs() < 2.0 / 256.0);
        assert_eq!(histogram_of(&[f32::NAN]).median(), f64::INFINITY);
        assert_eq!(histogram_of(&[0.0, -0.0, 1.0]).median(), 0.0);
        assert!((histogram_of(&[f32::MAX]).median() / f64::from(f32::MAX) - 1.0).abs() < 1.0 / 256.0);
    }

    #[test]
    fn the_order_and_the_pieces_do_not_matter() {
        let values: Vec<f32> = (0..1000).map(|i| (i as f32 * 0.37).sin() * 10.0).collect();
        let mut counts = MagnitudeCounts::new();
        let mut pieces = MagnitudeHistogram::default();
        for piece in values.rchunks(77) {
            counts.shard().count(piece);
            counts.drain_into(&mut pieces);
        }
        assert_eq!(pieces, histogram_of(&values));
    }

    proptest! {
        #[test]
        fn the_histogram_keeps_its_promise(
            values in prop::collection::vec(prop_oneof![-1e4f32..1e4, -1.0f32..1.0, -1e-20f32..1e-20], 1..400),
        ) {
            let magnitudes: Vec<f32> = values.iter().map(|value| value.abs()).collect();
            let exact = median(&magnitudes);
            let estimate = histogram_of(&values).median();
            prop_assert!((estimate - exact).abs() <= exact / 256.0, "{estimate} for {exact}");
        }
    }
}
