//! Weights that are quantised, all at once or smoothed for one sequence.

use rayon::prelude::*;
use sinkscope_kernels::matmul::{Matrix, PackedRight};
use sinkscope_kernels::microscaling::{quantise_block_columns, rotate_columns, rotation_size};
use sinkscope_kernels::quantise::{Grid, quantise_columns, raise_column_magnitudes};
use sinkscope_kernels::simd::scale;
use sinkscope_model::Linear;

use super::Weights;

/// Inputs of a weight that one task looks at.
const INPUTS_PER_TASK: usize = 64;

/// The layer with its weights quantised, after each input's were multiplied by its factor if there are factors, or rotated.
pub(super) fn quantised(linear: &Linear<f32>, factors: Option<&[f32]>, rotate: bool, how: Weights) -> Linear<f32> {
    let weight = values(linear, factors, rotate, Some(how));
    let packed =
        PackedRight::in_parallel(linear.weight().precision(), Matrix::new(&weight, linear.inputs(), linear.outputs()));
    Linear::of_packed(packed, linear.bias.clone())
}

/// The weights of a layer, quantised: inputs x outputs.
pub(crate) fn weights_of(linear: &Linear<f32>, how: Weights) -> Vec<f32> {
    values(linear, None, false, Some(how))
}

/// The layer with its weights rotated and not quantised.
pub(super) fn rotated(linear: &Linear<f32>) -> Linear<f32> {
    let weight = values(linear, None, true, None);
    let packed =
        PackedRight::in_parallel(linear.weight().precision(), Matrix::new(&weight, linear.inputs(), linear.outputs()));
    Linear::of_packed(packed, linear.bias.clone())
}

/// Weights as they are quantised: inputs x outputs.
fn values(linear: &Linear<f32>, factors: Option<&[f32]>, rotate: bool, how: Option<Weights>) -> Vec<f32> {
    let (inputs, outputs) = (linear.inputs(), linear.outputs());
    let mut weight = linear.weight().to_vec();
    if let Some(factors) = factors {
        weight.par_chunks_mut(outputs).zip(factors).for_each(|(row, &factor)| scale(row, factor));
    }
    if rotate {
        weight.par_chunks_mut(rotation_size(inputs) * outputs).for_each(|part| rotate_columns(part, outputs));
    }
    match how {
        None => {}
        Some(Weights::Scaled { grid, group }) => {
            let group = group.unwrap_or(inputs);
            weight.par_chunks_mut(group * outputs).for_each(|group| {
                let scales: Vec<f32> =
                    largest_of_columns(group, outputs).into_iter().map(|largest| grid.scale(largest)).collect();
                group.par_chunks_mut(INPUTS_PER_TASK * outputs).for_each(|rows| quantise_columns(rows, &scales, grid));
            });
        }
        Some(Weights::Blocks(blocks)) => {
            let of_all = if blocks.has_global_scale() {
                largest_of_columns(&weight, outputs).into_iter().fold(0.0, f32::max)
            } else {
                0.0
            };
            weight
                .par_chunks_mut(blocks.size() * outputs)
                .for_each(|rows| quantise_block_columns(rows, outputs, blocks, of_all));
        }
    }
    weight
}

/// The largest magnitude of every column.
fn largest_of_columns(x: &[f32], columns: usize) -> Vec<f32> {
    x.par_chunks(INPUTS_PER_TASK * columns)
        .map(|rows| {
            let mut largest = vec![0.0; columns];
            raise_column_magnitudes(&mut largest, rows);
            largest
        })
        .reduce(|| vec![0.0; columns], larger)
}

/// The same of one whole layer, on this thread; `plain` is its weight, inputs x outputs, and `buffer` as large.
pub(super) fn quantised_in(
    buffer: &mut Vec<f32>,
    linear: &Linear<f32>,
    plain: &[f32],
    factors: &[f32],
    grid: Grid,
) -> Linear<f32> {
    let (inputs, outputs) = (linear.inputs(), linear.outputs());
    buffer.clear();
    buffer.extend_from_slice(plain);
    let mut largest = vec![0.0; outputs];
    for (row, &factor) in buffer.chunks_exact_mut(outputs).zip(factors) {
        scale(row, factor);
        raise_column_magnitudes(&mut largest, row);
    }
    let scales: Vec<f32> = largest.iter().map(|&largest| grid.scale(largest)).collect();
    quantise_columns(buffer, &scales, grid);
    let packed = PackedRight::new(linear.weight().precision(), Matrix::new(buffer, inputs, outputs));
    Linear::of_packed(packed, linear.bias.clone())
}

/// By input, the largest magnitude of its weights in any of these layers.
pub(super) fn input_magnitudes(linears: &[&Linear<f32>]) -> Vec<f32> {
    let inputs = linears.first().map_or(0, |linear| linear.inputs());
    let of = |input: usize| {
        let largest = |linear: &&Linear<f32>| {
            let row = (0..linear.outputs()).map(|output| linear.weight().get(input, output).abs());
            row.fold(0.0_f32, f32::max)
        };
        linears.iter().map(largest).fold(0.0, f32::max)
    };
    (0..inputs).into_par_iter().map(of).collect()
}

fn larger(mut a: Vec<f32>, b: Vec<f32>) -> Vec<f32> {
    a.iter_mut().zip(b).for_each(|(a, b)| *a = a.max(b));
    a
}
