//! The steps of one block over all tiles of a group, past edits and taps.

use sinkscope_kernels::attention::{Look, Scan};
use sinkscope_kernels::simd::add;

use super::observers::{Observer, Observers, by_place};
use super::schedule::Tile;
use super::scratch::Scratch;
use super::{Run, State, cut, cut_optional, places, slice_rows};
use crate::blocks::{AttendOptions, AttentionBlock, FeedForwardBlock, Norm, Product, multiply};
use crate::edit::LinearBlock;
use crate::tap::{AttentionScan, EventData, Place, Point};

impl Run<'_> {
    pub(super) fn attention(
        &self,
        layer: usize,
        block: &AttentionBlock<f32>,
        linears: Option<&dyn LinearBlock>,
        tiles: &[Tile],
        state: &mut State,
        observers: &mut Observers<'_, '_>,
    ) {
        let d = self.pass.model.architecture().d_model;
        let a = self.pass.model.architecture().attention(layer);
        let number = 2 * layer + 1;
        let measured = linears.filter(|_| self.pass.measures(self.batch.seq_len));
        if let Some(linears) = measured {
            self.measure_inputs(linears, number, block.input_norm.as_ref(), tiles, &mut state.residual, observers);
        }
        self.project_attention(layer, block, linears, tiles, state, observers);

        let State { residual, output, queries, sink_queries, keys, values, gates, entry, .. } = state;
        let window = self.pass.window.filter(|window| window.sinks > 0);
        let sinks = window.map(|window| (window.sinks, window.last_position(a.window)));
        let attend = |tile: &Tile, queries: &[f32], heads: &mut [f32], observer: &mut Observer<'_, '_, '_>| {
            let places = places(tile, number);
            let mut row = 0;
            for (chunk, place) in tile.chunks.iter().zip(&places) {
                let first_key = chunk.first_row - chunk.position;
                let own = &queries[row * a.query_width()..];
                let sink_queries =
                    if sink_queries.is_empty() { own } else { &sink_queries[chunk.first_row * a.query_width()..] };
                let scan = block.attend(
                    chunk.rows,
                    chunk.position,
                    own,
                    &keys[first_key * a.key_width()..],
                    &values[first_key * a.value_width()..],
                    slice_rows(heads, &(row..row + chunk.rows), a.output_width()),
                    &AttendOptions {
                        mask: observer.mask(number, chunk.sequence),
                        sinks: sinks.map(|(count, last_position)| (count, sink_queries, last_position)),
                        entry: entry.get(chunk.first_row * a.heads..).unwrap_or_default(),
                        look: if observer.wants(Point::Attention, number) { Look::Scan } else { Look::Nothing },
                    },
                );
                row += chunk.rows;
                if let Some(scan) = scan {
                    show_scan(&scan, a.heads, *place, observer);
                }
            }
            if let Some(gate) = &block.gate {
                let first = tile.first_row() * a.gate_width();
                gate.apply_in_place(heads, &gates[first..first + tile.rows * a.gate_width()], a.value_dim);
            }
            observer.edit_and_show(Point::Heads, &places, heads);
        };
        if let Some(linears) = measured {
            // The heads' outputs take the place of the queries, which nobody needs any more.
            let tasks = cut(tiles, queries, a.query_width()).zip(tiles).collect();
            observers.in_waves(tasks, |(queries, tile): (&mut [f32], &Tile), observer| {
                self.scratch.with(|scratch| {
                    let (heads, _) = scratch.heads_and_output(tile.rows * a.output_width(), tile.rows * d);
                    attend(tile, queries, heads, observer);
                    measure(linears, Point::Heads, &places(tile, number), heads);
                    queries.copy_from_slice(heads);
                });
            });
        }
        let tasks = cut(tiles, residual, d)
            .zip(cut_optional(tiles, output, d))
            .zip(cut(tiles, queries, a.query_width()))
            .zip(tiles)
            .collect();
        observers.in_waves(tasks, |(((residual, output), queries), tile), observer| {
            self.scratch.with(|scratch| {
                let (heads, out) = scratch.heads_and_output(tile.rows * a.output_width(), tile.rows * d);
                let heads = if measured.is_some() {
                    queries
                } else {
                    attend(tile, queries, heads, observer);
                    heads
                };
                block.project_output_by(heads, out, multiplier(linears, Point::Heads, &places(tile, number)));
                finish_block(number, tile, out, residual, output, block.residual_norm(), observer);
            });
        });
    }

    /// Queries, keys and values of all rows, and what else attention takes part in.
    fn project_attention(
        &self,
        layer: usize,
        block: &AttentionBlock<f32>,
        linears: Option<&dyn LinearBlock>,
        tiles: &[Tile],
        state: &mut State,
        observers: &mut Observers<'_, '_>,
    ) {
        let d = self.pass.model.architecture().d_model;
        let a = self.pass.model.architecture().attention(layer);
        let number = 2 * layer + 1;
        let rope = self.ropes.of(layer);
        observers.in_waves(state.tasks(tiles, d), |mut task, observer| {
            let places = places(task.tile, number);
            self.scratch.with(|scratch| {
                let input = scratch.normalised(block.input_norm.as_ref(), task.residual);
                observer.edit_and_show(Point::NormalisedInput, &places, input);
                let multiply = multiplier(linears, Point::NormalisedInput, &places);
                block.project_by(input, task.residual, task.queries, task.keys, task.values, multiply);
                if let (Some(gate), Some(gates)) = (&block.gate, &mut task.gates) {
                    let mut row = 0;
                    for chunk in &task.tile.chunks {
                        let rows = row..row + chunk.rows;
                        let embedding = task.embedding.get(rows.start * d..rows.end * d).unwrap_or_default();
                        let input = &input[rows.start * d..rows.end * d];
                        gate.project(slice_rows(gates, &rows, a.gate_width()), input, embedding, chunk.position);
                        row = rows.end;
                    }
                }
            });
            observer.edit_and_show(Point::UnrotatedKey, &places, task.keys);
            if let Some(table) = rope {
                let mut row = 0;
                for chunk in &task.tile.chunks {
                    let rows = row..row + chunk.rows;
                    if let Some(sink_queries) = &mut task.sink_queries {
                        let own = slice_rows(sink_queries, &rows, a.query_width());
                        own.copy_from_slice(slice_rows(task.queries, &rows, a.query_width()));
                        self.rotate_for_sinks(layer, table, own, chunk.position);
                    }
                    block.rotate(
                        table,
                        slice_rows(task.queries, &rows, a.query_width()),
                        slice_rows(task.keys, &rows, a.key_width()),
                        chunk.position,
                    );
                    row = rows.end;
                }
            }
            observer.edit_and_show(Point::Query, &places, task.queries);
            if let Some(entry) = &mut task.entry {
                // Queries meet what stands at no position as they meet far sinks: as the cache has them.
                let queries = task.sink_queries.as_deref().unwrap_or(task.queries);
                entry.copy_from_slice(&block.entry_scores(queries));
            }
            observer.edit_and_show(Point::Key, &places, task.keys);
            observer.edit_and_show(Point::Value, &places, task.values);
        });
    }

    /// Shows what a block's first linear layers read, to be measured.
    fn measure_inputs(
        &self,
        linears: &dyn LinearBlock,
        number: usize,
        norm: Option<&Norm<f32>>,
        tiles: &[Tile],
        read: &mut [f32],
        observers: &mut Observers<'_, '_>,
    ) {
        let tasks = cut(tiles, read, self.pass.model.architecture().d_model).zip(tiles).collect();
        observers.in_waves(tasks, |(read, tile): (&mut [f32], &Tile), observer| {
            let places = places(tile, number);
            self.scratch.with(|scratch| {
                let input = scratch.normalised(norm, read);
                observer.edit(Point::NormalisedInput, &places, input);
                measure(linears, Point::NormalisedInput, &places, input);
            });
        });
    }

    pub(super) fn feed_forward(
        &self,
        layer: usize,
        block: &FeedForwardBlock<f32>,
        linears: Option<&dyn LinearBlock>,
        tiles: &[Tile],
        state: &mut State,
        observers: &mut Observers<'_, '_>,
    ) {
        let d = self.pass.model.architecture().d_model;
        let number = 2 * layer + 2;
        let State { residual, output, layer_input, hidden, .. } = state;
        let measured = linears.filter(|_| self.pass.measures(self.batch.seq_len));
        if let Some(linears) = measured {
            let read = if layer_input.is_empty() { &mut *residual } else { &mut *layer_input };
            self.measure_inputs(linears, number, block.input_norm.as_ref(), tiles, read, observers);
        }
        let layer_input = &*layer_input;
        // The hidden activations of rows.
        let enter = |tile: &Tile, residual: &[f32], scratch: &mut Scratch, observer: &mut Observer<'_, '_, '_>| {
            let places = places(tile, number);
            let first = tile.first_row() * d;
            let source = if layer_input.is_empty() { residual } else { &layer_input[first..first + residual.len()] };
            observer.edit_and_show(
                Point::NormalisedInput,
                &places,
                scratch.normalised(block.input_norm.as_ref(), source),
            );
            let width = block.hidden();
            let (input, gate, up) = scratch.feed_forward(tile.rows * width, block.up.is_some());
            block.project_by(input, gate, up, multiplier(linears, Point::NormalisedInput, &places));
            if block.gate.is_some() {
                show_pre_activations(block.up.is_some(), &places, width, (gate, up), observer);
            }
            block.activate(gate, up);
            observer.edit_and_show(Point::Hidden, &places, gate);
        };
        if let Some(linears) = measured {
            let tasks = cut(tiles, residual, d).zip(cut(tiles, hidden, block.hidden())).zip(tiles).collect();
            observers.in_waves(tasks, |((residual, hidden), tile): ((&mut [f32], &mut [f32]), &Tile), observer| {
                self.scratch.with(|scratch| {
                    enter(tile, residual, scratch, observer);
                    hidden.copy_from_slice(scratch.hidden());
                    measure(linears, Point::Hidden, &places(tile, number), hidden);
                });
            });
        }
        let tasks = cut(tiles, residual, d)
            .zip(cut_optional(tiles, output, d))
            .zip(cut_optional(tiles, hidden, block.hidden()))
            .zip(tiles)
            .collect();
        observers.in_waves(tasks, |(((residual, output), hidden), tile), observer| {
            self.scratch.with(|scratch| {
                if measured.is_none() {
                    enter(tile, residual, scratch, observer);
                }
                let (own, out) = scratch.hidden_and_output(residual.len());
                let hidden = hidden.filter(|_| measured.is_some()).map_or(own, |hidden| &*hidden);
                block.project_hidden_by(hidden, out, multiplier(linears, Point::Hidden, &places(tile, number)));
                finish_block(number, tile, out, residual, output, block.residual_norm(), observer);
            });
        });
    }
}

/// What computes linear layers: the edit's way, or their own.
fn multiplier<'m>(
    linears: Option<&'m dyn LinearBlock>,
    input: Point,
    places: &'m [Place],
) -> impl FnOnce(&[f32], &mut [Product<'_, f32>]) + 'm {
    move |x, products| match linears {
        None => multiply(x, products),
        Some(linears) => linears.multiply(input, places, x, products),
    }
}

/// Shows inputs to be measured.
fn measure(linears: &dyn LinearBlock, input: Point, places: &[Place], x: &[f32]) {
    for (place, rows) in by_place(places, x) {
        linears.measure(input, place, rows);
    }
}

/// Shows the gate, and of a gated block the linear branch with it.
fn show_pre_activations(
    gated: bool,
    places: &[Place],
    d_ffn: usize,
    (gate, up): (&[f32], &[f32]),
    observer: &mut Observer<'_, '_, '_>,
) {
    let mut row = 0;
    for place in places {
        let rows = row * d_ffn..(row + place.rows) * d_ffn;
        observer.show(Point::Gate, *place, EventData::Rows(&gate[rows.clone()]));
        if gated {
            observer.show(Point::Up, *place, EventData::Gated { gate: &gate[rows.clone()], up: &up[rows] });
        }
        row += place.rows;
    }
}

/// Adds what a block computed to the residual, past edits and taps.
fn finish_block(
    number: usize,
    tile: &Tile,
    out: &mut [f32],
    residual: &mut [f32],
    output: Option<&mut [f32]>,
    residual_norm: Option<&Norm<f32>>,
    observer: &mut Observer<'_, '_, '_>,
) {
    let places = places(tile, number);
    observer.edit_and_show(Point::Output, &places, out);
    if let Some(output) = output {
        output.copy_from_slice(out);
    }
    add(residual, out);
    if let Some(norm) = residual_norm {
        norm.forward_in_place(residual);
    }
    observer.edit_and_show(Point::Residual, &places, residual);
}

/// Puts the scans of the head groups together and shows them.
fn show_scan(groups: &[Scan<f32>], heads: usize, place: Place, observer: &mut Observer<'_, '_, '_>) {
    let all = |f: fn(&Scan<f32>) -> &Vec<f32>| -> Vec<f32> {
        groups.iter().flat_map(|scan| f(scan).iter().copied()).collect()
    };
    let (received, log_sum_exp, mass) = (all(|s| &s.received), all(|s| &s.log_sum_exp), all(|s| &s.mass));
    let (to_self, to_first, entropy) = (all(|s| &s.to_self), all(|s| &s.to_first), all(|s| &s.entropy));
    let scan = AttentionScan {
        heads,
        keys: place.position + place.rows,
        received: &received,
        log_sum_exp: &log_sum_exp,
        mass: &mass,
        to_self: &to_self,
        to_first: &to_first,
        entropy: &entropy,
    };
    observer.show(Point::Attention, place, EventData::Attention(scan));
}
