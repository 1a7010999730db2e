//! The machine's rate of f32 products of given shapes, on all cores, as the streamed pass computes them: tiles of 256 rows.
//!
//!     cargo bench -p sinkscope-kernels --bench products -- 49152x576x1536 1536x576x1536
//!
//! Prints one JSON object: the operations a second of each product (rows x inner x columns; the best of five, each long enough
//! to be measured), and of fused multiply-adds from registers on all cores, the bound.

#![allow(clippy::panic, clippy::print_stdout, reason = "a benchmark")]

use std::time::Instant;

use rayon::prelude::*;
use sinkscope_kernels::matmul::{Matrix, MatrixMut, matmul};
use sinkscope_kernels::peak;

const TILE_ROWS: usize = 256;
/// Operations that take long enough.
const OPERATIONS: f64 = 4e10;

fn rate(rows: usize, inner: usize, columns: usize) -> f64 {
    let values = |count: usize| -> Vec<f32> { (0..count).map(|index| (index % 17) as f32 - 8.0).collect() };
    let (left, right) = (values(rows * inner), values(inner * columns));
    let mut out = vec![0.0; rows * columns];
    let operations = (2 * rows * inner * columns) as f64;
    let repeats = (OPERATIONS / operations).ceil() as usize;
    let mut run = || {
        let start = Instant::now();
        for _ in 0..repeats {
            out.par_chunks_mut(TILE_ROWS * columns).zip(left.par_chunks(TILE_ROWS * inner)).for_each(|(out, left)| {
                let rows = left.len() / inner;
                let (left, right) = (Matrix::new(left, rows, inner), Matrix::new(&right, inner, columns));
                matmul(MatrixMut::new(out, rows, columns), left, right);
            });
        }
        operations * repeats as f64 / start.elapsed().as_secs_f64()
    };
    (0..5).map(|_| run()).fold(0.0, f64::max)
}

fn main() {
    let shapes: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let rates: Vec<String> = shapes
        .iter()
        .map(|shape| {
            let sizes: Vec<usize> = shape.split('x').filter_map(|size| size.parse().ok()).collect();
            let [rows, inner, columns] = sizes[..] else { panic!("{shape} is not ROWSxINNERxCOLUMNS") };
            format!("\"{shape}\": {:e}", rate(rows, inner, columns))
        })
        .collect();
    let bound = peak::flops_per_second() * rayon::current_num_threads() as f64;
    println!("{{{}, \"bound\": {bound:e}}}", rates.join(", "));
}
