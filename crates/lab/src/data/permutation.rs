//! The order of an epoch: a seeded permutation of windows that is computed where it is needed, not stored.
//!
//! A Feistel network of six rounds permutes the smallest set of 4^k numbers that holds all windows; a number that is not a
//! window is permuted again until it is one (cycle walking; fewer than four times on average). Every window comes once an
//! epoch, whatever the seed.

const ROUNDS: usize = 6;

/// A permutation of the numbers below `size`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Permutation {
    size: u64,
    half_bits: u32,
    keys: [u64; ROUNDS],
}

impl Permutation {
    /// That of `epoch` under `seed`. `size` is at least 1.
    pub(super) fn new(size: u64, seed: u64, epoch: u64) -> Self {
        let bits = u64::BITS - size.saturating_sub(1).leading_zeros();
        let mut state = mix(seed ^ mix(epoch.wrapping_add(0x9E37_79B9_7F4A_7C15)));
        let keys = std::array::from_fn(|_| {
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            mix(state)
        });
        Self { size, half_bits: bits.div_ceil(2).max(1), keys }
    }

    /// Where `index` (below `size`) goes.
    pub(super) fn at(&self, index: u64) -> u64 {
        let mut image = self.rounds(index);
        while image >= self.size {
            image = self.rounds(image);
        }
        image
    }

    fn rounds(&self, number: u64) -> u64 {
        let mask = (1 << self.half_bits) - 1;
        let (mut left, mut right) = (number >> self.half_bits, number & mask);
        for key in self.keys {
            (left, right) = (right, left ^ (mix(right ^ key) & mask));
        }
        left << self.half_bits | right
    }
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood 2014).
fn mix(mut number: u64) -> u64 {
    number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images(size: u64, seed: u64, epoch: u64) -> Vec<u64> {
        let permutation = Permutation::new(size, seed, epoch);
        (0..size).map(|index| permutation.at(index)).collect()
    }

    #[test]
    fn every_number_comes_once() {
        for size in [1, 2, 3, 4, 5, 16, 17, 100, 1000, 4097] {
            for seed in [0, 1, u64::MAX] {
                let mut images = images(size, seed, 3);
                images.sort_unstable();
                assert!(images.into_iter().eq(0..size), "{size}, {seed}");
            }
        }
    }

    #[test]
    fn epochs_and_seeds_differ() {
        assert_eq!(images(1000, 7, 0), images(1000, 7, 0));
        assert_ne!(images(1000, 7, 0), images(1000, 7, 1));
        assert_ne!(images(1000, 7, 0), images(1000, 8, 0));
        assert_ne!(images(1000, 0, 1), images(1000, 1, 0));
    }

    #[test]
    fn it_shuffles() {
        // Correlation of place and image is below four standard deviations, 1/sqrt(n) each.
        let size = 10_000;
        let middle = (size - 1) as f64 / 2.0;
        for seed in 0..8 {
            let products = images(size, seed, 0).into_iter().zip(0..size);
            let sum: f64 = products.map(|(image, index)| (image as f64 - middle) * (index as f64 - middle)).sum();
            let variance = ((size * size - 1) as f64 / 12.0) * size as f64;
            assert!((sum / variance).abs() < 4.0 / (size as f64).sqrt(), "seed {seed}: {}", sum / variance);
        }
    }

    #[test]
    fn large_sizes_do_not_overflow() {
        for size in [u64::MAX, u64::MAX / 2 + 1, 1 << 40] {
            assert!(Permutation::new(size, 1, 1).at(size - 1) < size);
        }
    }
}
