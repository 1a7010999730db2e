//! Products through the kernels of `gemm`: f64, and f32 on machines without AVX-512.
//!
//! `gemm` takes the best kernel that the machine has. Where a lesser instruction set is in use, its kernel is called by name.

use gemm_common::Parallelism;

use super::{Matrix, MatrixMut};
use crate::{Float, InstructionSet};

/// A product as `gemm` takes it. Strides are those of columns and of rows.
pub struct Pointers<F> {
    /// Rows, columns, inner size.
    sizes: (usize, usize, usize),
    out: *mut F,
    out_strides: (isize, isize),
    accumulate: bool,
    left: *const F,
    left_strides: (isize, isize),
    right: *const F,
    right_strides: (isize, isize),
}

/// A scalar that `gemm` has kernels for. It seals [`Float`]: nobody else can name it.
pub trait Multiplied: Sized {
    /// Multiplies with the kernel for an instruction set that the machine has.
    ///
    /// # Safety
    /// The strides lead to no element outside of the operands, and the output overlaps neither.
    unsafe fn multiply(set: InstructionSet, product: Pointers<Self>);
}

/// Calls a function of `gemm` in its order of arguments; some take one before the product, and some more before the last.
macro_rules! call {
    ($function:expr, [$($before:expr)?], $product:ident, [$($between:expr),*]) => {{
        let Pointers { sizes: (m, n, k), out, out_strides, accumulate, left, left_strides, right, right_strides } = $product;
        $function(
            $($before,)? m, n, k, out, out_strides.0, out_strides.1, accumulate, left, left_strides.0, left_strides.1, right,
            right_strides.0, right_strides.1, 1.0, 1.0, false, false, false, $($between,)* Parallelism::None,
        )
    }};
}

/// Calls the kernel of `$kernels` for the set that `gemm` calls `$set`, whose registers hold `$lanes` values.
#[cfg(target_arch = "x86_64")]
macro_rules! call_lesser {
    ($float:ident, $kernels:ident, $set:ident, $simd:ident, $lanes:literal, $product:ident) => {{
        use gemm_common::simd::{MixedSimd, $simd};
        use $kernels::microkernel::$set::$float::{H_M, H_N, H_UKR, MR_DIV_N, NR, UKR};
        let Some(simd) = <$simd as MixedSimd<$float, $float, $float, $float>>::try_new() else {
            unreachable!("the machine has the instruction set")
        };
        let function =
            gemm_common::gemm::gemm_basic_generic::<_, $float, $lanes, { MR_DIV_N * $lanes }, NR, MR_DIV_N, H_M, H_N>;
        call!(function, [simd], $product, [|a, b, c| a * b + c, &UKR, &H_UKR, false])
    }};
}

macro_rules! multiplied {
    ($float:ident, $kernels:ident, $lanes_of_avx2:literal) => {
        impl Multiplied for $float {
            unsafe fn multiply(set: InstructionSet, product: Pointers<Self>) {
                // SAFETY (of all three): the caller's promises.
                match set {
                    #[cfg(target_arch = "x86_64")]
                    InstructionSet::Portable => unsafe { call_lesser!($float, $kernels, scalar, Scalar, 1, product) },
                    #[cfg(target_arch = "x86_64")]
                    InstructionSet::Avx2 => unsafe { call_lesser!($float, $kernels, fma, V3, $lanes_of_avx2, product) },
                    _ => unsafe { call!($kernels::gemm::$float::get_gemm_fn(), [], product, []) },
                }
            }
        }
    };
}

multiplied!(f32, gemm_f32, 8);
multiplied!(f64, gemm_f64, 4);

/// `out = a b`, or `out += a b`. The shapes agree and are not empty.
pub(super) fn product<F: Float>(out: &mut MatrixMut<'_, F>, a: Matrix<'_, F>, b: Matrix<'_, F>) {
    // Kernels store whole registers of a column: what lies row by row is computed transposed.
    let transposed = out.row_stride > 1;
    let (left, right) = if transposed { (b.transposed(), a.transposed()) } else { (a, b) };
    let out_strides = if transposed { (out.row_stride, 1) } else { (1, out.row_stride) };
    let signed = |(column, row): (usize, usize)| (column as isize, row as isize);
    let product = Pointers {
        sizes: (left.rows, right.columns, a.columns),
        out: out.data.as_mut_ptr(),
        out_strides: signed(out_strides),
        accumulate: out.accumulate,
        left: left.data.as_ptr(),
        left_strides: signed((left.column_stride, left.row_stride)),
        right: right.data.as_ptr(),
        right_strides: signed((right.column_stride, right.row_stride)),
    };
    // SAFETY: `Matrix` and `MatrixMut` are only constructed with every element (i, j), i < rows, j < columns, inside
    // their slice, and the shapes agree by the assertions of the callers, so the kernel reads and writes in bounds. `out` is
    // borrowed mutably, so it overlaps neither input, and its rows do not overlap each other. The machine has the set in use.
    unsafe { F::multiply(InstructionSet::in_use(), product) };
}
