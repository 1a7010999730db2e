//! Intervals by resampling sequences (percentile bootstrap).
//!
//! Every statistic here is a mean over sequences, so one set of resamples serves all of them: resample r is a row of
//! weights, how often each sequence was drawn, and the resampled means are a product of that matrix with the table of
//! per-sequence values.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::definitions::{BOOTSTRAP_RESAMPLES, INTERVAL};

/// The interval of the mean of each column, or `None` with fewer than two sequences.
///
/// # Shapes
///
/// `table`: sequences x columns, row-major.
pub fn intervals_of_means(table: &[f64], sequences: usize, seed: u64) -> Option<Vec<[f64; 2]>> {
    if sequences < 2 {
        return None;
    }
    let columns = table.len() / sequences;
    let weights = resample_weights(sequences, seed);
    let mut means = vec![0.0; BOOTSTRAP_RESAMPLES * columns];
    if columns > 0 {
        means.par_chunks_mut(columns).zip(weights.par_chunks(sequences)).for_each(|(means, weights)| {
            for (row, &weight) in table.chunks_exact(columns).zip(weights).filter(|(_, weight)| **weight > 0.0) {
                for (mean, value) in means.iter_mut().zip(row) {
                    *mean += weight * value;
                }
            }
        });
    }
    let interval = |column: usize| {
        let mut resampled: Vec<f64> = means[column..].iter().step_by(columns).copied().collect();
        resampled.sort_unstable_by(f64::total_cmp);
        [quantile(&resampled, f64::midpoint(0.0, 1.0 - INTERVAL)), quantile(&resampled, f64::midpoint(1.0, INTERVAL))]
    };
    Some((0..columns).into_par_iter().map(interval).collect())
}

/// [`BOOTSTRAP_RESAMPLES`] x sequences: the share of each sequence in each resample.
fn resample_weights(sequences: usize, seed: u64) -> Vec<f64> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut weights = vec![0.0; BOOTSTRAP_RESAMPLES * sequences];
    for resample in weights.chunks_exact_mut(sequences) {
        for _ in 0..sequences {
            resample[rng.random_range(0..sequences as u64) as usize] += 1.0;
        }
        for weight in resample {
            *weight /= sequences as f64;
        }
    }
    weights
}

/// Of sorted values, with linear interpolation between neighbours.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let below = place.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (sorted[above] - sorted[below]) * (place - below as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wide::mean;

    #[test]
    fn needs_two_sequences_and_depends_on_the_seed_alone() {
        assert_eq!(intervals_of_means(&[0.5, 0.7], 1, 0), None);
        let table: Vec<f64> = (0..64).flat_map(|i| [f64::from(i).sin(), 1.0]).collect();
        let first = intervals_of_means(&table, 64, 7);
        assert_eq!(first, intervals_of_means(&table, 64, 7));
        assert_ne!(first, intervals_of_means(&table, 64, 8));
        assert_eq!(first.map(|intervals| intervals[1]), Some([1.0, 1.0]));
        assert_eq!(intervals_of_means(&[], 2, 7), Some(Vec::new()));
    }

    #[test]
    fn covers_the_mean_about_as_often_as_promised() {
        let mut rng = ChaCha8Rng::seed_from_u64(11);
        let (sequences, columns) = (60, 400);
        let table: Vec<f64> = (0..sequences * columns).map(|_| rng.random_range(0.0..1.0)).collect();
        let intervals = intervals_of_means(&table, sequences, 3).unwrap_or_default();
        let covered = intervals.iter().filter(|[low, high]| (*low..=*high).contains(&0.5)).count();
        assert!((0.90..=0.98).contains(&(covered as f64 / columns as f64)), "{covered} of {columns}");
        // Of a mean of 60 uniform values the standard deviation is 0.0373, the interval 3.92 times that.
        let width = mean(intervals.iter().map(|[low, high]| high - low)).unwrap_or(0.0);
        assert!((width / 0.146 - 1.0).abs() < 0.05, "{width}");
    }

    #[test]
    fn quantiles_interpolate() {
        assert_eq!(quantile(&[1.0, 2.0, 4.0], 0.5), 2.0);
        assert_eq!(quantile(&[1.0, 2.0, 4.0], 0.75), 3.0);
        assert_eq!(quantile(&[1.0, 2.0, 4.0], 1.0), 4.0);
    }
}
