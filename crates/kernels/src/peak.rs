//! The arithmetic peak of one core, measured: what the fraction of bound is a fraction of.

use std::hint::black_box;
use std::time::Instant;

use pulp::{Simd, WithSimd};

/// Independent accumulators: enough to hide the latency of two fused multiply-add units.
const CHAINS: usize = 12;
/// Multiply-adds a chain makes between two looks at the clock: about 20 microseconds.
const STEPS: usize = 8192;

struct FusedMultiplyAdds {
    factor: f32,
}

impl WithSimd for FusedMultiplyAdds {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f32 {
        let factor = simd.splat_f32s(self.factor);
        let mut chains = [simd.splat_f32s(1.0); CHAINS];
        for _ in 0..STEPS {
            for chain in &mut chains {
                *chain = simd.mul_add_f32s(*chain, factor, factor);
            }
        }
        let sum = chains.into_iter().fold(simd.splat_f32s(0.0), |sum, chain| simd.add_f32s(sum, chain));
        simd.reduce_sum_f32s(sum)
    }
}

struct LaneCount;

impl WithSimd for LaneCount {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> usize {
        size_of::<S::f32s>() / size_of::<f32>()
    }
}

/// f32 floating-point operations a second of one core: fused multiply-adds from registers, two operations each, the best
/// of a few milliseconds.
pub fn flops_per_second() -> f64 {
    let arch = pulp::Arch::new();
    let operations = (2 * CHAINS * STEPS * arch.dispatch(LaneCount)) as f64;
    (0..200)
        .map(|_| {
            let start = Instant::now();
            black_box(arch.dispatch(FusedMultiplyAdds { factor: black_box(0.5) }));
            operations / start.elapsed().as_secs_f64()
        })
        .fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_peak_is_that_of_a_processor() {
        let peak = super::flops_per_second();
        assert!(peak > 1e9 && peak < 1e13, "{peak:e}");
    }
}
