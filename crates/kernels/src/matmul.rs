//! Matrix products on strided views, one thread, through `gemm`.
//!
//! `gemm` packs both operands; packing a right operand whose columns are contiguous is a transposition, which costs up to
//! a quarter of the product where the inner size is large. So weights, which are used for many tiles, are turned round
//! once ([`transpose`]).

use crate::Float;

/// A read-only strided view of a matrix.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a, F> {
    data: &'a [F],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a, F: Float> Matrix<'a, F> {
    /// rows x columns, row-major, without gaps.
    pub fn new(data: &'a [F], rows: usize, columns: usize) -> Self {
        Self::strided(data, rows, columns, columns, 1)
    }

    /// Element (i, j) is `data[i * row_stride + j * column_stride]`.
    pub fn strided(data: &'a [F], rows: usize, columns: usize, row_stride: usize, column_stride: usize) -> Self {
        assert!(fits(data.len(), rows, columns, row_stride, column_stride), "matrix view exceeds its data");
        Self { data, rows, columns, row_stride, column_stride }
    }

    /// The same data, rows and columns exchanged.
    #[must_use]
    pub fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn columns(&self) -> usize {
        self.columns
    }
}

/// A writable view of a matrix whose rows are contiguous.
#[derive(Debug)]
pub struct MatrixMut<'a, F> {
    data: &'a mut [F],
    rows: usize,
    columns: usize,
    row_stride: usize,
}

impl<'a, F: Float> MatrixMut<'a, F> {
    /// rows x columns, row-major, without gaps.
    pub fn new(data: &'a mut [F], rows: usize, columns: usize) -> Self {
        Self::strided(data, rows, columns, columns)
    }

    /// Row i begins at `data[i * row_stride]`.
    pub fn strided(data: &'a mut [F], rows: usize, columns: usize, row_stride: usize) -> Self {
        assert!(columns <= row_stride || rows <= 1, "rows of a writable matrix overlap");
        assert!(fits(data.len(), rows, columns, row_stride, 1), "matrix view exceeds its data");
        Self { data, rows, columns, row_stride }
    }
}

fn fits(len: usize, rows: usize, columns: usize, row_stride: usize, column_stride: usize) -> bool {
    rows == 0 || columns == 0 || (rows - 1) * row_stride + (columns - 1) * column_stride < len
}

/// `out = a b`.
///
/// # Shapes
/// `a`: m x k, `b`: k x n, `out`: m x n.
pub fn matmul<F: Float>(mut out: MatrixMut<'_, F>, a: Matrix<'_, F>, b: Matrix<'_, F>) {
    product(&mut out, a, b, false);
}

/// `out += a b`.
///
/// # Shapes
/// `a`: m x k, `b`: k x n, `out`: m x n.
pub fn matmul_add<F: Float>(mut out: MatrixMut<'_, F>, a: Matrix<'_, F>, b: Matrix<'_, F>) {
    product(&mut out, a, b, true);
}

fn product<F: Float>(out: &mut MatrixMut<'_, F>, a: Matrix<'_, F>, b: Matrix<'_, F>, accumulate: bool) {
    assert_eq!(a.columns, b.rows, "matmul: inner sizes differ");
    assert_eq!((out.rows, out.columns), (a.rows, b.columns), "matmul: output has another shape");
    // SAFETY: `Matrix` and `MatrixMut` are only constructed with every element (i, j), i < rows, j < columns, inside
    // their slice, and the shapes agree by the assertions above, so gemm reads and writes in bounds. `out` is borrowed
    // mutably, so it overlaps neither input, and its rows do not overlap each other.
    unsafe {
        gemm::gemm(
            out.rows,
            out.columns,
            a.columns,
            out.data.as_mut_ptr(),
            1,
            out.row_stride as isize,
            accumulate,
            a.data.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            F::ONE,
            F::ONE,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

/// Rows and columns of the tile that [`transpose`] moves at once: two cache lines of f32 each way.
const TRANSPOSE_TILE: usize = 32;

/// Columns `first ..` of `matrix`, as rows.
///
/// # Shapes
/// `matrix`: rows x columns, row-major; `out`: any number of columns x rows.
pub fn transpose<F: Float>(out: &mut [F], matrix: &[F], rows: usize, columns: usize, first: usize) {
    assert_eq!(matrix.len(), rows * columns, "transpose: matrix has another length");
    assert!(out.len().is_multiple_of(rows) && first + out.len() / rows <= columns, "transpose: columns out of range");
    for (block_index, block) in out.chunks_mut(TRANSPOSE_TILE * rows).enumerate() {
        let column = first + block_index * TRANSPOSE_TILE;
        let width = block.len() / rows;
        for start in (0..rows).step_by(TRANSPOSE_TILE) {
            let end = (start + TRANSPOSE_TILE).min(rows);
            for i in 0..width {
                for row in start..end {
                    block[i * rows + row] = matrix[row * columns + column + i];
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naive(m: usize, n: usize, k: usize, a: &[f64], b: &[f64]) -> Vec<f64> {
        let mut out = vec![0.0; m * n];
        for i in 0..m {
            for j in 0..n {
                out[i * n + j] = (0..k).map(|l| a[i * k + l] * b[l * n + j]).sum();
            }
        }
        out
    }

    fn values(n: usize, seed: usize) -> Vec<f64> {
        (0..n).map(|i| (((i + seed) * 7919 % 211) as f64 - 105.0) / 53.0).collect()
    }

    fn check<F: Float>(tolerance: f64) {
        for (m, n, k) in [(1, 1, 1), (3, 5, 7), (17, 33, 65), (64, 1, 9), (1, 70, 130), (100, 48, 513)] {
            let (a, b) = (values(m * k, 1), values(k * n, 2));
            let expected = naive(m, n, k, &a, &b);
            let convert = |x: &[f64]| x.iter().map(|&v| F::from_f64(v)).collect::<Vec<F>>();
            let (a, b) = (convert(&a), convert(&b));
            let mut out = vec![F::ZERO; m * n];
            matmul(MatrixMut::new(&mut out, m, n), Matrix::new(&a, m, k), Matrix::new(&b, k, n));
            let close = |out: &[F], factor: f64| {
                out.iter().zip(&expected).all(|(o, e)| (o.to_f64() - factor * e).abs() <= tolerance * k as f64)
            };
            assert!(close(&out, 1.0), "{m}x{n}x{k}");

            let mut b_t = vec![F::ZERO; k * n];
            for l in 0..k {
                for j in 0..n {
                    b_t[j * k + l] = b[l * n + j];
                }
            }
            matmul_add(MatrixMut::new(&mut out, m, n), Matrix::new(&a, m, k), Matrix::new(&b_t, n, k).transposed());
            assert!(close(&out, 2.0), "{m}x{n}x{k} accumulated, transposed");
        }
    }

    #[test]
    fn products_agree_with_naive_in_both_precisions() {
        check::<f32>(1e-5);
        check::<f64>(1e-13);
    }

    #[test]
    fn transposition_moves_every_element_at_odd_sizes() {
        for (rows, columns, first, count) in [(1, 1, 0, 1), (3, 70, 5, 60), (65, 33, 0, 33), (32, 40, 32, 8)] {
            let matrix: Vec<f32> = (0..rows * columns).map(|i| i as f32).collect();
            let mut out = vec![0.0; count * rows];
            transpose(&mut out, &matrix, rows, columns, first);
            for column in 0..count {
                for row in 0..rows {
                    assert_eq!(out[column * rows + row], matrix[row * columns + first + column]);
                }
            }
        }
    }

    #[test]
    fn strided_output_leaves_gaps_alone() {
        let a = [1.0f32, 2.0, 3.0, 4.0];
        let mut out = [9.0f32; 5];
        matmul(MatrixMut::strided(&mut out, 2, 2, 3), Matrix::new(&a, 2, 2), Matrix::new(&a, 2, 2));
        assert_eq!(out, [7.0, 10.0, 9.0, 15.0, 22.0]);
    }

    #[test]
    #[should_panic(expected = "exceeds")]
    fn a_view_beyond_its_data_is_refused() {
        let _ = Matrix::new(&[0.0f32; 5], 2, 3);
    }
}
