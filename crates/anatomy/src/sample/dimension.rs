//! In how many dimensions a cloud of vectors lives.
//!
//! With the eigenvalues l_1 >= l_2 >= ... of the second-moment matrix `sum_i v_i v_i^T` (of the covariance, if centred):
//! the participation ratio is `(sum l)^2 / sum l^2`, the 95 % rank the least r with `l_1 + ... + l_r >= 0.95 sum l`.

use faer::{Mat, Side};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::definitions::RANK_SHARE;

/// The dimension of a cloud. Zero where there is no extent at all, as of one vector when centred.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Dimension {
    /// `(sum l)^2 / sum l^2`.
    pub participation_ratio: f64,
    /// Least number of eigenvalues with 95 % of the sum.
    pub rank95: usize,
}

/// Of the rows of `vectors` (each `width` long) at `rows`; `None` if there is none.
pub fn dimension(vectors: &[f32], width: usize, rows: &[usize], centred: bool) -> Option<Dimension> {
    if rows.is_empty() {
        return None;
    }
    let mut mean = vec![0.0; width];
    if centred {
        for &row in rows {
            for (mean, &value) in mean.iter_mut().zip(&vectors[row * width..]) {
                *mean += f64::from(value) / rows.len() as f64;
            }
        }
    }
    let entry = |row: usize, column: usize| f64::from(vectors[rows[row] * width + column]) - mean[column];
    let cloud = Mat::from_fn(rows.len(), width, entry);
    // Both products have the same eigenvalues but for zeros.
    let moment = if rows.len() < width { &cloud * cloud.transpose() } else { cloud.transpose() * &cloud };
    let scale: f64 = rows.iter().flat_map(|&row| &vectors[row * width..][..width]).map(|&v| f64::from(v).powi(2)).sum();
    Some(of_moment(&moment, scale))
}

/// `scale` is the sum of squares before centring: what is 1e-12 of it is rounding.
fn of_moment(moment: &Mat<f64>, scale: f64) -> Dimension {
    let Ok(mut eigenvalues) = moment.self_adjoint_eigenvalues(Side::Lower) else { return Dimension::default() };
    eigenvalues.sort_by(|a, b| b.total_cmp(a));
    let sum: f64 = eigenvalues.iter().map(|value| value.max(0.0)).sum();
    if sum <= 1e-12 * scale {
        return Dimension::default();
    }
    let squares: f64 = eigenvalues.iter().map(|value| value * value).sum();
    let mut reached = 0.0;
    let mut rank95 = 0;
    for value in eigenvalues {
        if reached >= RANK_SHARE * sum {
            break;
        }
        reached += value.max(0.0);
        rank95 += 1;
    }
    Dimension { participation_ratio: sum * sum / squares, rank95 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_isotropic_cloud_fills_its_dimensions_and_a_line_one() {
        let axes: Vec<f32> = (0..5 * 5).map(|i| if i % 6 == 0 { 2.0 } else { 0.0 }).collect();
        let all: Vec<usize> = (0..5).collect();
        let found = dimension(&axes, 5, &all, false).expect("rows");
        assert!((found.participation_ratio - 5.0).abs() < 1e-12 && found.rank95 == 5);
        let line: Vec<f32> = (1..=7).flat_map(|i| [i as f32, 2.0 * i as f32, -(i as f32)]).collect();
        let found = dimension(&line, 3, &[0, 2, 3, 6], true).expect("rows");
        assert!((found.participation_ratio - 1.0).abs() < 1e-9 && found.rank95 == 1);
    }

    #[test]
    fn unequal_extents_count_by_their_share() {
        // Squares 90, 9 and 1: 90 % and 99 %.
        let mut vectors = vec![0.0; 9];
        (vectors[0], vectors[4], vectors[8]) = (90_f32.sqrt(), 3.0, 1.0);
        let found = dimension(&vectors, 3, &[0, 1, 2], false).expect("rows");
        assert_eq!(found.rank95, 2);
        assert!((found.participation_ratio - 100.0 * 100.0 / (8100.0 + 81.0 + 1.0)).abs() < 1e-4);
    }

    #[test]
    fn equal_vectors_have_no_extent_when_centred_and_one_when_not() {
        let same = [0.1, 0.7, 0.3].repeat(40);
        let all: Vec<usize> = (0..40).collect();
        assert_eq!(dimension(&same, 3, &all, true), Some(Dimension::default()));
        assert_eq!(dimension(&same, 3, &all, false).expect("rows").rank95, 1);
        assert_eq!(dimension(&same, 3, &[], false), None);
    }
}
