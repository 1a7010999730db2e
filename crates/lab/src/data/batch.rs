//! What a trainer gets.

use sinkscope_model::architecture::Architecture;
use sinkscope_sources::data::TokenBatch;

/// A target where there is none: no token follows, or what follows does not count.
pub const IGNORED: u32 = u32::MAX;

/// Sequences to train on, or to be measured on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Number of sequences.
    pub sequences: usize,
    /// Tokens per sequence, T.
    pub seq_len: usize,
    /// Token ids, sequences x seq_len, row-major.
    pub inputs: Vec<u32>,
    /// The id of the token after each, or [`IGNORED`]; sequences x seq_len.
    pub targets: Vec<u32>,
}

impl Batch {
    /// Number of targets that count.
    pub fn predicted(&self) -> usize {
        self.targets.iter().filter(|&&target| target != IGNORED).count()
    }
    /// Leaves only the targets of positions `from` to `to`, from 1, in the loss (Table 8).
    pub(crate) fn restrict(&mut self, from: usize, to: usize) {
        for (index, target) in self.targets.iter_mut().enumerate() {
            let position = index % self.seq_len + 1;
            if position < from || position > to {
                *target = IGNORED;
            }
        }
    }

    /// The same with registers before every sequence. They have no targets.
    pub(crate) fn after_registers(self, architecture: &Architecture) -> Self {
        if architecture.registers == 0 {
            return self;
        }
        let Self { sequences, seq_len, inputs, targets } = self;
        let of_registers = vec![IGNORED; architecture.registers];
        let targets = targets.chunks(seq_len).flat_map(|row| [&of_registers, row].concat()).collect();
        let TokenBatch { tokens, sequences, seq_len } =
            TokenBatch { tokens: inputs, sequences, seq_len }.with_first(architecture.register_ids());
        Self { sequences, seq_len, inputs: tokens, targets }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::recipe::Recipe;
    use crate::recipe_file;

    #[test]
    fn registers_stand_first_and_only_chosen_positions_count() {
        let mut recipe: Recipe =
            recipe_file::parse(include_str!("../../../../recipes/nano.toml"), Path::new("nano.toml"))
                .expect("a recipe");
        recipe.model.registers = 2;
        let mut batch =
            Batch { sequences: 2, seq_len: 3, inputs: vec![1, 2, 3, 4, 5, 6], targets: vec![2, 3, 9, 5, 6, 9] };
        batch.restrict(1, 2);
        let batch = batch.after_registers(&recipe.architecture(10).expect("a model"));
        assert_eq!((batch.seq_len, &batch.inputs[..]), (5, &[10, 11, 1, 2, 3, 10, 11, 4, 5, 6][..]));
        let none = IGNORED;
        assert_eq!(batch.targets, [none, none, 2, 3, none, none, none, 5, 6, none]);
    }
}
