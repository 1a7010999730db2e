//! Rotary tables of a model's layers.

use sinkscope_kernels::Float;
use sinkscope_kernels::rope::RopeTable;

use crate::architecture::{Architecture, Rope};

/// The rotary tables of a model's layers.
#[derive(Debug, Clone)]
pub struct RopeTables<F> {
    tables: Vec<RopeTable<F>>,
    /// Of each layer, its table.
    of_layer: Vec<Option<usize>>,
}

impl<F: Float> RopeTables<F> {
    /// The tables for sequences of `seq_len`; layers that rotate alike share one.
    pub fn new(a: &Architecture, seq_len: usize) -> Self {
        let mut ropes: Vec<&Rope> = Vec::new();
        let mut index = |rope| {
            ropes.iter().position(|other| *other == rope).unwrap_or_else(|| {
                ropes.push(rope);
                ropes.len() - 1
            })
        };
        let of_layer = a.layers().map(|layer| layer.mixer.attention().rope().map(&mut index)).collect();
        let table = |rope: &&Rope| {
            let (frequencies, magnitude) = rope.frequencies(seq_len);
            RopeTable::new(&frequencies, magnitude, seq_len)
        };
        Self { tables: ropes.iter().map(table).collect(), of_layer }
    }

    /// That of a layer, if it rotates.
    pub fn of(&self, layer: usize) -> Option<&RopeTable<F>> {
        self.of_layer[layer].map(|table| &self.tables[table])
    }
}
