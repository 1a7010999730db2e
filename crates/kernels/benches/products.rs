//! The machine's rate of f32 products of given shapes, on all cores, as the streamed pass computes them: tiles of 256 rows,
//! the right operand packed once.
//!
//!     cargo bench -p sinkscope-kernels --bench products -- 49152x576x1536 1536x576x1536
//!     cargo bench -p sinkscope-kernels --bench products -- --compare 256x576x1536
//!
//! Prints one JSON object: the operations a second of each product (rows x inner x columns; the best of five, each long enough
//! to be measured), and of fused multiply-adds from registers on all cores, the bound.
//!
//! `--compare` measures on one thread and in turns: packed once, in the two highest precisions, packed for every tile (`matmul`), both
//! operands transposed (`a^T b`, `a b^T`, packed for every tile), and the `gemm` crate; as shares of the peak of one core, the
//! best and the median of many short tries each.

#![allow(clippy::panic, clippy::print_stdout, reason = "a benchmark")]

use std::time::Instant;

use rayon::prelude::*;
use sinkscope_kernels::Buffer;
use sinkscope_kernels::matmul::{Matrix, MatrixMut, PackedRight, Precision, matmul};
use sinkscope_kernels::peak;

const TILE_ROWS: usize = 256;
/// Operations that take long enough.
const OPERATIONS: f64 = 4e10;
/// Tries of a comparison.
const TRIES: usize = 60;

fn values(count: usize) -> Buffer<f32> {
    let mut values = Buffer::zeros(count);
    values.iter_mut().enumerate().for_each(|(index, value)| *value = (index % 17) as f32 - 8.0);
    values
}

fn rate(rows: usize, inner: usize, columns: usize) -> f64 {
    let (left, right) = (values(rows * inner), values(inner * columns));
    let right = PackedRight::in_parallel(Precision::Highest, Matrix::new(&right, inner, columns));
    let mut out = Buffer::zeros(rows * columns);
    let operations = (2 * rows * inner * columns) as f64;
    let repeats = (OPERATIONS / operations).ceil() as usize;
    let mut run = || {
        let start = Instant::now();
        for _ in 0..repeats {
            out.par_chunks_mut(TILE_ROWS * columns).zip(left.par_chunks(TILE_ROWS * inner)).for_each(|(out, left)| {
                let rows = left.len() / inner;
                matmul(MatrixMut::new(out, rows, columns), Matrix::new(left, rows, inner), right.whole());
            });
        }
        operations * repeats as f64 / start.elapsed().as_secs_f64()
    };
    (0..5).map(|_| run()).fold(0.0, f64::max)
}

/// A name, and a way to the product.
type Contender<'a> = (&'a str, &'a mut dyn FnMut(&mut [f32]));

fn compare(rows: usize, inner: usize, columns: usize) {
    let (left, right) = (values(rows * inner), values(inner * columns));
    let packed = PackedRight::new(Precision::Highest, Matrix::new(&right, inner, columns));
    let high = PackedRight::new(Precision::High, Matrix::new(&right, inner, columns));
    let mut out = Buffer::zeros(rows * columns);
    let a = Matrix::new(&left, rows, inner);
    let b = Matrix::new(&right, inner, columns);
    let a_turned = Matrix::new(&left, inner, rows).transposed();
    let b_turned = Matrix::new(&right, columns, inner).transposed();
    let operations = (2 * rows * inner * columns) as f64;
    let repeats = (1e8 / operations).ceil() as usize;
    let mut contenders: [Contender<'_>; 6] = [
        ("packed", &mut |out| matmul(MatrixMut::new(out, rows, columns), a, packed.whole())),
        ("high", &mut |out| matmul(MatrixMut::new(out, rows, columns), a, high.whole())),
        ("matmul", &mut |out| matmul(MatrixMut::new(out, rows, columns), a, b)),
        ("a^T b", &mut |out| matmul(MatrixMut::new(out, rows, columns), a_turned, b)),
        ("a b^T", &mut |out| matmul(MatrixMut::new(out, rows, columns), a, b_turned)),
        ("gemm", &mut |out| gemm_crate(out, &left, &right, (rows, inner, columns))),
    ];
    let mut tries: [Vec<f64>; 6] = Default::default();
    let mut bound = 0.0_f64;
    for turn in 0..TRIES {
        if turn % 10 == 0 {
            bound = bound.max(peak::flops_per_second());
        }
        for ((_, contender), tries) in contenders.iter_mut().zip(&mut tries) {
            contender(&mut out);
            let start = Instant::now();
            for _ in 0..repeats {
                contender(&mut out);
            }
            tries.push(operations * repeats as f64 / start.elapsed().as_secs_f64());
        }
    }
    let shares: Vec<String> = contenders
        .iter()
        .zip(&mut tries)
        .map(|((name, _), tries)| {
            tries.sort_unstable_by(f64::total_cmp);
            format!("\"{name}\": [{:.3}, {:.3}]", tries[TRIES - 1] / bound, tries[TRIES / 2] / bound)
        })
        .collect();
    println!("{{\"shape\": \"{rows}x{inner}x{columns}\", {}, \"peak\": {bound:.3e}}}", shares.join(", "));
}

fn gemm_crate(out: &mut [f32], left: &[f32], right: &[f32], (rows, inner, columns): (usize, usize, usize)) {
    let (of_left, of_right) = (inner as isize, columns as isize);
    let (out, left, right) = (out.as_mut_ptr(), left.as_ptr(), right.as_ptr());
    let none = gemm_common::Parallelism::None;
    let product = gemm_f32::gemm::f32::get_gemm_fn();
    // Its kernels store columns, so the crate `gemm` transposes a row-major product before it calls this one.
    // SAFETY: the slices are columns x rows, columns x inner and inner x rows, column-major.
    unsafe {
        product(
            columns, rows, inner, out, of_right, 1, false, right, of_right, 1, left, of_left, 1, 1.0, 1.0, false,
            false, false, none,
        );
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let shapes = arguments.iter().filter(|argument| !argument.starts_with("--")).map(|shape| {
        let sizes: Vec<usize> = shape.split('x').filter_map(|size| size.parse().ok()).collect();
        let [rows, inner, columns] = sizes[..] else { panic!("{shape} is not ROWSxINNERxCOLUMNS") };
        (shape, [rows, inner, columns])
    });
    if arguments.iter().any(|argument| argument == "--compare") {
        return shapes.for_each(|(_, [rows, inner, columns])| compare(rows, inner, columns));
    }
    let rates: Vec<String> = shapes
        .map(|(shape, [rows, inner, columns])| format!("\"{shape}\": {:e}", rate(rows, inner, columns)))
        .collect();
    let bound = peak::flops_per_second() * rayon::current_num_threads() as f64;
    println!("{{{}, \"bound\": {bound:e}}}", rates.join(", "));
}
