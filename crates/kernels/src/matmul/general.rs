//! Products through the kernels of `gemm`: f64, and f32 on machines without AVX-512.
//!
//! `gemm` takes the best kernel that the machine has. Where a lesser instruction set is in use, its kernel is called by name.

use gemm_common::Parallelism;

use super::{Matrix, MatrixMut};
use crate::{Float, InstructionSet};

/// `gemm`'s own order of arguments: m, n, k, the output with its column and row stride, whether it is added to, both
/// operands with their column and row strides, the factors of the output and of the product, three conjugations.
type Kernel<F> = unsafe fn(
    usize,
    usize,
    usize,
    *mut F,
    isize,
    isize,
    bool,
    *const F,
    isize,
    isize,
    *const F,
    isize,
    isize,
    F,
    F,
    bool,
    bool,
    bool,
    Parallelism,
);

/// A scalar that `gemm` has kernels for. It seals [`Float`]: nobody else can name it.
pub trait Multiplied: Sized {
    /// The kernel for an instruction set that the machine has.
    fn kernel(set: InstructionSet) -> Kernel<Self>;
}

/// The kernel of `$kernels` for the set that `gemm` calls `$set`, whose registers hold `$lanes` values.
#[cfg(target_arch = "x86_64")]
macro_rules! kernel {
    ($float:ident, $kernels:ident, $set:ident, $simd:ident, $lanes:literal) => {{
        use gemm_common::simd::{MixedSimd, $simd};
        use $kernels::microkernel::$set::$float::{H_M, H_N, H_UKR, MR_DIV_N, NR, UKR};
        /// # Safety
        /// As for every kernel: the strides lead to no element outside of the operands, and the output overlaps neither.
        unsafe fn kernel(
            m: usize,
            n: usize,
            k: usize,
            out: *mut $float,
            out_column: isize,
            out_row: isize,
            accumulate: bool,
            left: *const $float,
            left_column: isize,
            left_row: isize,
            right: *const $float,
            right_column: isize,
            right_row: isize,
            of_out: $float,
            of_product: $float,
            _: bool,
            _: bool,
            _: bool,
            parallelism: Parallelism,
        ) {
            let Some(simd) = <$simd as MixedSimd<$float, $float, $float, $float>>::try_new() else {
                unreachable!("the machine has the instruction set")
            };
            // SAFETY: the caller's promises.
            unsafe {
                gemm_common::gemm::gemm_basic_generic::<
                    _,
                    $float,
                    $lanes,
                    { MR_DIV_N * $lanes },
                    NR,
                    MR_DIV_N,
                    H_M,
                    H_N,
                >(
                    simd,
                    m,
                    n,
                    k,
                    out,
                    out_column,
                    out_row,
                    accumulate,
                    left,
                    left_column,
                    left_row,
                    right,
                    right_column,
                    right_row,
                    of_out,
                    of_product,
                    false,
                    false,
                    false,
                    |a, b, c| a * b + c,
                    &UKR,
                    &H_UKR,
                    false,
                    parallelism,
                );
            }
        }
        kernel
    }};
}

macro_rules! multiplied {
    ($float:ident, $kernels:ident, $lanes_of_avx2:literal) => {
        impl Multiplied for $float {
            fn kernel(set: InstructionSet) -> Kernel<Self> {
                #[cfg(not(target_arch = "x86_64"))]
                let _ = set;
                #[cfg(target_arch = "x86_64")]
                match set {
                    InstructionSet::Portable => return kernel!($float, $kernels, scalar, Scalar, 1),
                    InstructionSet::Avx2 => return kernel!($float, $kernels, fma, V3, $lanes_of_avx2),
                    InstructionSet::Avx512 | InstructionSet::Amx => {}
                }
                $kernels::gemm::$float::get_gemm_fn()
            }
        }
    };
}

multiplied!(f32, gemm_f32, 8);
multiplied!(f64, gemm_f64, 4);

/// `out (+)= a b`. The shapes agree and are not empty.
pub(super) fn product<F: Float>(out: &mut MatrixMut<'_, F>, a: Matrix<'_, F>, b: Matrix<'_, F>, accumulate: bool) {
    let kernel = F::kernel(InstructionSet::in_use());
    // Kernels store whole registers of a column: what lies row by row is computed transposed.
    let transposed = out.row_stride > 1;
    let (left, right) = if transposed { (b.transposed(), a.transposed()) } else { (a, b) };
    let (out_column, out_row) = if transposed { (out.row_stride, 1) } else { (1, out.row_stride) };
    // SAFETY: `Matrix` and `MatrixMut` are only constructed with every element (i, j), i < rows, j < columns, inside
    // their slice, and the shapes agree by the assertions of the callers, so the kernel reads and writes in bounds. `out` is
    // borrowed mutably, so it overlaps neither input, and its rows do not overlap each other. The machine has the set in use.
    unsafe {
        kernel(
            left.rows,
            right.columns,
            a.columns,
            out.data.as_mut_ptr(),
            out_column as isize,
            out_row as isize,
            accumulate,
            left.data.as_ptr(),
            left.column_stride as isize,
            left.row_stride as isize,
            right.data.as_ptr(),
            right.column_stride as isize,
            right.row_stride as isize,
            F::ONE,
            F::ONE,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}
