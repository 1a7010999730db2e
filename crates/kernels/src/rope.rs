//! Rotary position embedding: pairs (i, i + rotary_dim / 2) of each head are rotated by an angle that grows with the
//! position.

use crate::Float;
use crate::simd::dispatch;

/// Cosines and sines for a range of positions.
#[derive(Debug, Clone)]
pub struct RopeTable<F> {
    half: usize,
    cos: Vec<F>,
    sin: Vec<F>,
}

impl<F: Float> RopeTable<F> {
    /// The table for positions `0..positions`: the angle of pair i at position p is `p * inverse_frequencies[i]`, formed
    /// in f64 and rounded once; cosine and sine are then multiplied by `magnitude` (1 but for LongRoPE and YaRN).
    ///
    /// Reference implementations form the angle in f32; at position p theirs is off by up to p * 6e-8.
    pub fn new(inverse_frequencies: &[f64], magnitude: f64, positions: usize) -> Self {
        let angles = (0..positions).flat_map(|p| inverse_frequencies.iter().map(move |f| p as f64 * f));
        let (cos, sin) = angles.map(|a| (F::from_f64(a.cos() * magnitude), F::from_f64(a.sin() * magnitude))).unzip();
        Self { half: inverse_frequencies.len(), cos, sin }
    }

    /// Rotates `rows` rows of `heads` heads, the first row at `first_position`. Dimensions of a head beyond twice the
    /// number of frequencies are left as they are.
    ///
    /// # Shapes
    /// `x`: rows x (heads * head_dim).
    pub fn rotate(&self, x: &mut [F], heads: usize, head_dim: usize, first_position: usize) {
        self.turn(x, heads, head_dim, first_position, |a, b, cos, sin| (a * cos - b * sin, b * cos + a * sin));
    }

    /// The transpose of [`rotate`](Self::rotate), which makes the gradient of its input of that of its output: rotates the
    /// other way, and multiplies by the magnitude as the rotation does.
    ///
    /// # Shapes
    /// `x`: rows x (heads * head_dim).
    pub fn rotate_back(&self, x: &mut [F], heads: usize, head_dim: usize, first_position: usize) {
        self.turn(x, heads, head_dim, first_position, |a, b, cos, sin| (a * cos + b * sin, b * cos - a * sin));
    }

    fn turn(
        &self,
        x: &mut [F],
        heads: usize,
        head_dim: usize,
        first_position: usize,
        pair: impl Fn(F, F, F, F) -> (F, F),
    ) {
        let half = self.half;
        assert!(2 * half <= head_dim, "rope: more frequencies than pairs");
        assert_eq!(x.len() % (heads * head_dim), 0, "rope: rows of another length");
        let rows = x.len() / (heads * head_dim);
        assert!((first_position + rows) * half <= self.cos.len(), "rope: position beyond the table");
        dispatch(
            #[inline(always)]
            || {
                for (row, x) in x.chunks_exact_mut(heads * head_dim).enumerate() {
                    let at = (first_position + row) * half;
                    let (cos, sin) = (&self.cos[at..at + half], &self.sin[at..at + half]);
                    for head in x.chunks_exact_mut(head_dim) {
                        let (a, b) = head[..2 * half].split_at_mut(half);
                        for (((a, b), &cos), &sin) in a.iter_mut().zip(b).zip(cos).zip(sin) {
                            (*a, *b) = pair(*a, *b, cos, sin);
                        }
                    }
                }
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotation_agrees_with_complex_multiplication_and_leaves_the_rest() {
        let (heads, head_dim, rows, first) = (3, 10, 4, 5);
        let frequencies = [1.0, 0.3, 0.01];
        let table = RopeTable::<f64>::new(&frequencies, 1.5, 20);
        let x: Vec<f64> = (0..rows * heads * head_dim).map(|i| (i % 13) as f64 - 6.0).collect();
        let mut y = x.clone();
        table.rotate(&mut y, heads, head_dim, first);
        for row in 0..rows {
            for head in 0..heads {
                let at = (row * heads + head) * head_dim;
                for i in 0..3 {
                    let angle = (first + row) as f64 * frequencies[i];
                    let (re, im) = (x[at + i], x[at + 3 + i]);
                    assert!((y[at + i] - 1.5 * (re * angle.cos() - im * angle.sin())).abs() < 1e-12);
                    assert!((y[at + 3 + i] - 1.5 * (re * angle.sin() + im * angle.cos())).abs() < 1e-12);
                }
                assert_eq!(y[at + 6..at + head_dim], x[at + 6..at + head_dim]);
            }
        }
    }

    #[test]
    fn rotating_back_is_the_transpose() {
        use crate::differences::{assert_close, gradient, inner, values};
        let (heads, head_dim, rows, first) = (2, 7, 3, 4);
        let table = RopeTable::<f64>::new(&[1.0, 0.3, 0.01], 1.5, 20);
        let (x, mut dy) = (values(rows * heads * head_dim, 1), values(rows * heads * head_dim, 2));
        let expected = gradient(&x, |x| {
            let mut y = x.to_vec();
            table.rotate(&mut y, heads, head_dim, first);
            inner(&y, &dy)
        });
        let mut narrow = crate::differences::convert::<f32>(&dy);
        table.rotate_back(&mut dy, heads, head_dim, first);
        assert_close("rotate_back", &dy, &expected, 1e-8);
        RopeTable::<f32>::new(&[1.0, 0.3, 0.01], 1.5, 20).rotate_back(&mut narrow, heads, head_dim, first);
        assert_close("rotate_back in f32", &narrow, &dy, 1e-6);
    }
}
