//! The steps of one block over all tiles of a group, past edits and taps.

use sinkscope_kernels::Buffer;
use sinkscope_kernels::attention::{Look, Scan};

use super::Run;
use super::observers::{Observer, Observers, by_place};
use super::schedule::Tile;
use super::scratch::hidden;
use super::state::{State, cut, cut_optional, cut_rows};
use crate::blocks::{
    Attending, AttentionBlock, AttentionRows, FeedForwardBlock, Norm, Probe, Product, TileContext, multiply, read,
};
use crate::edit::{LinearBlock, Mask};
use crate::tap::{AttentionScan, EventData, Place, Point};

/// What a tile's step shows to edits and taps, and how it multiplies.
struct Watched<'w, 'o, 'p, 't> {
    places: &'w [Place],
    observer: &'w mut Observer<'o, 'p, 't>,
    linears: Option<&'w dyn LinearBlock>,
    /// Where what the block adds is kept, if a tap wants it whole.
    output: Option<&'w mut [f32]>,
}

impl Watched<'_, '_, '_, '_> {
    fn block(&self) -> usize {
        self.places[0].block
    }
}

impl Probe<f32> for Watched<'_, '_, '_, '_> {
    fn at(&mut self, point: Point, rows: &mut [f32]) {
        self.observer.edit_and_show(point, self.places, rows);
        if let (Point::Output, Some(output)) = (point, &mut self.output) {
            output.copy_from_slice(rows);
        }
    }

    fn pre_activations(&mut self, gate: &[f32], up: Option<&[f32]>) {
        let mut ups = up.into_iter().flat_map(|up| by_place(self.places, up));
        for (place, gate) in by_place(self.places, gate) {
            self.observer.show(Point::Gate, *place, EventData::Rows(gate));
            if let Some((_, up)) = ups.next() {
                self.observer.show(Point::Up, *place, EventData::Gated { gate, up });
            }
        }
    }

    fn multiply(&mut self, input: Point, x: &[f32], products: &mut [Product<'_, f32>]) {
        match self.linears {
            None => multiply(x, products),
            Some(linears) => linears.multiply(input, self.places, x, products),
        }
    }

    fn look(&self) -> Look {
        if self.observer.wants(Point::Attention, self.block()) { Look::Scan } else { Look::Nothing }
    }

    fn mask(&self, place: &Place) -> Mask<'_> {
        self.observer.mask(self.block(), place.sequence)
    }

    fn scanned(&mut self, place: &Place, scans: &[Scan<f32>]) {
        let all = |f: fn(&Scan<f32>) -> &Vec<f32>| -> Vec<f32> {
            scans.iter().flat_map(|scan| f(scan).iter().copied()).collect()
        };
        let (received, log_sum_exp, mass) = (all(|s| &s.received), all(|s| &s.log_sum_exp), all(|s| &s.mass));
        let (to_self, to_first, entropy) = (all(|s| &s.to_self), all(|s| &s.to_first), all(|s| &s.entropy));
        let scan = AttentionScan {
            heads: mass.len() / place.rows,
            keys: place.position + place.rows,
            received: &received,
            log_sum_exp: &log_sum_exp,
            mass: &mass,
            to_self: &to_self,
            to_first: &to_first,
            entropy: &entropy,
        };
        self.observer.show(Point::Attention, *place, EventData::Attention(scan));
    }
}

/// What measures a block's first inputs, which will be made and shown again.
struct Measuring<'w, 'o, 'p, 't> {
    places: &'w [Place],
    observer: &'w Observer<'o, 'p, 't>,
    linears: &'w dyn LinearBlock,
}

impl Probe<f32> for Measuring<'_, '_, '_, '_> {
    fn at(&mut self, point: Point, rows: &mut [f32]) {
        self.observer.edit(point, self.places, rows);
        measure(self.linears, point, self.places, rows);
    }
}

/// Shows inputs to be measured.
fn measure(linears: &dyn LinearBlock, input: Point, places: &[Place], x: &[f32]) {
    for (place, rows) in by_place(places, x) {
        linears.measure(input, place, rows);
    }
}

/// A block of a group, and another way to compute its linear layers.
pub(super) struct InGroup<'g> {
    pub number: usize,
    pub tiles: &'g [Tile],
    pub linears: Option<&'g dyn LinearBlock>,
}

impl Run<'_> {
    /// The linear layers that must see all inputs of a sequence before they compute with any.
    fn measured<'g>(&self, group: &InGroup<'g>) -> Option<&'g dyn LinearBlock> {
        group.linears.filter(|_| self.pass.measures(self.batch.seq_len))
    }

    /// Shows what a block's first linear layers read, to be measured.
    fn measure_inputs(
        &self,
        linears: &dyn LinearBlock,
        group: &InGroup<'_>,
        residual: &[f32],
        norm: Option<&Norm<f32>>,
        observers: &mut Observers<'_, '_>,
    ) {
        observers.in_waves(group.tiles.iter().collect(), |tile: &Tile, observer| {
            let places = tile.places(group.number);
            let rows = tile.of(residual);
            self.scratch.with(|scratch| {
                let mut probe = Measuring { places: &places, observer, linears };
                read(norm, rows, scratch.input.fit(rows.len()), &mut probe);
            });
        });
    }

    pub(super) fn attention(
        &self,
        layer: usize,
        block: &AttentionBlock<f32>,
        group: &InGroup<'_>,
        state: &mut State,
        observers: &mut Observers<'_, '_>,
    ) {
        let &InGroup { number, tiles, linears } = group;
        let d = block.output.outputs();
        let State { residual, output, embedding, kept, attention: rows, .. } = state;
        let measured = self.measured(group);
        if let Some(linears) = measured {
            self.measure_inputs(linears, group, residual, block.input_norm.as_ref(), observers);
        }
        let last = self.last_far_position(layer);
        let tasks = cut_rows(rows, tiles, block, last).zip(tiles).collect();
        observers.in_waves(tasks, |(into, tile), observer| {
            let places = tile.places(number);
            let context = TileContext { places: &places, rope: self.ropes.of(layer), embedding: tile.of(embedding) };
            let mut probe = Watched { places: &places, observer, linears, output: None };
            let residual = tile.of(residual);
            self.scratch.with(|scratch| {
                let input = scratch.input.fit(residual.len());
                read(block.input_norm.as_ref(), residual, input, &mut probe);
                block.project(&context, input, residual, into, &mut probe);
            });
        });

        let rows = &*rows;
        if let Some(linears) = measured {
            let tasks = cut(tiles, kept, block.output.inputs()).zip(tiles).collect();
            observers.in_waves(tasks, |(kept, tile): (&mut [f32], &Tile), observer| {
                let places = tile.places(number);
                let mut probe = Watched { places: &places, observer, linears: None, output: None };
                self.scratch.with(|scratch| {
                    let buffers = (&mut scratch.wide, &mut scratch.up);
                    kept.copy_from_slice(self.attend((block, rows, last), tile, buffers, &mut probe));
                });
                measure(linears, Point::Heads, &places, kept);
            });
        }
        let kept = cut_optional(tiles, if measured.is_some() { kept } else { &mut [] }, block.output.inputs());
        let tasks = cut(tiles, residual, d).zip(cut_optional(tiles, output, d)).zip(kept).zip(tiles).collect();
        observers.in_waves(tasks, |(((residual, output), kept), tile), observer| {
            let places = tile.places(number);
            let mut probe = Watched { places: &places, observer, linears, output };
            self.scratch.with(|scratch| {
                let heads = match kept {
                    Some(kept) => kept,
                    None => self.attend((block, rows, last), tile, (&mut scratch.wide, &mut scratch.up), &mut probe),
                };
                block.output(heads, scratch.out.fit(residual.len()), residual, None, &mut probe);
            });
        });
    }

    /// The heads' outputs of a tile.
    fn attend<'b>(
        &self,
        (block, rows, last): (&AttentionBlock<f32>, &AttentionRows<f32>, usize),
        tile: &Tile,
        (heads, gated): (&'b mut Buffer<f32>, &'b mut Buffer<f32>),
        probe: &mut Watched<'_, '_, '_, '_>,
    ) -> &'b mut [f32] {
        let first = tile.first_row;
        let attending = rows.attending(block, first..first + tile.rows);
        let far = if rows.far.is_empty() { attending.queries } else { tile.of(&rows.far) };
        let sinks = self.pass.window.map(|window| window.sinks).filter(|&sinks| sinks > 0);
        let attending = Attending { sinks: sinks.map(|count| (count, far, last)), ..attending };
        let width = tile.rows * block.output.inputs();
        let gated = gated.fit(if block.gate.is_some() { width } else { 0 });
        let sequence = |place: &Place| {
            let row = (place.sequence - tile.first_sequence) * self.batch.seq_len;
            (&rows.keys[row * block.key.outputs()..], &rows.values[row * block.value.outputs()..])
        };
        block.attend(probe.places, attending, sequence, (heads.fit(width), gated), probe)
    }

    pub(super) fn feed_forward(
        &self,
        block: &FeedForwardBlock<f32>,
        group: &InGroup<'_>,
        state: &mut State,
        observers: &mut Observers<'_, '_>,
    ) {
        let &InGroup { number, tiles, linears } = group;
        let State { residual, output, layer_input, kept, .. } = state;
        let width = block.hidden();
        let measured = self.measured(group);
        if let Some(linears) = measured {
            let source = if layer_input.is_empty() { &*residual } else { &*layer_input };
            self.measure_inputs(linears, group, source, block.input_norm.as_ref(), observers);
            let tasks = cut(tiles, kept, width).zip(tiles).collect();
            observers.in_waves(tasks, |(kept, tile): (&mut [f32], &Tile), observer| {
                let places = tile.places(number);
                let mut probe = Watched { places: &places, observer, linears: Some(linears), output: None };
                self.scratch.with(|scratch| {
                    hidden(block, tile.of(source), kept, (&mut scratch.input, &mut scratch.up), &mut probe);
                });
                measure(linears, Point::Hidden, &places, kept);
            });
        }
        let d = residual.len() / tiles.iter().map(|tile| tile.rows).sum::<usize>();
        let kept = cut_optional(tiles, if measured.is_some() { kept } else { &mut [] }, width);
        let tasks = cut(tiles, residual, d).zip(cut_optional(tiles, output, d)).zip(kept).zip(tiles).collect();
        observers.in_waves(tasks, |(((residual, output), kept), tile), observer| {
            let places = tile.places(number);
            let mut probe = Watched { places: &places, observer, linears, output };
            self.scratch.with(|scratch| {
                let hidden = if let Some(kept) = kept {
                    kept
                } else {
                    let source = if layer_input.is_empty() { &*residual } else { tile.of(layer_input) };
                    let gate = scratch.wide.fit(tile.rows * width);
                    hidden(block, source, gate, (&mut scratch.input, &mut scratch.up), &mut probe)
                };
                block.output(hidden, scratch.out.fit(residual.len()), residual, None, &mut probe);
            });
        });
    }
}
