//! Buffers of a task, kept from one task to the next: fresh pages for every tile would cost more than the norms.

use std::sync::Mutex;

use crate::blocks::Norm;

/// Buffers that no task is using.
#[derive(Debug, Default)]
pub(super) struct ScratchPool {
    free: Mutex<Vec<Scratch>>,
}

impl ScratchPool {
    /// Lends a set of buffers.
    pub fn with<R>(&self, f: impl FnOnce(&mut Scratch) -> R) -> R {
        // A poisoned lock means that another task panicked; its buffers are as good as any.
        let free = || self.free.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut scratch = free().pop().unwrap_or_default();
        let result = f(&mut scratch);
        free().push(scratch);
        result
    }
}

/// The buffers of one task. What they hold is left over from earlier tasks.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    input: Vec<f32>,
    wide: Vec<f32>,
    up: Vec<f32>,
    out: Vec<f32>,
}

impl Scratch {
    /// The block's input after its norm; a copy, if it has none.
    pub fn normalised(&mut self, norm: Option<&Norm<f32>>, x: &[f32]) -> &mut [f32] {
        self.input.resize(x.len(), 0.0);
        match norm {
            Some(norm) => norm.forward(&mut self.input, x),
            None => self.input.copy_from_slice(x),
        }
        &mut self.input
    }

    /// A buffer for the heads' outputs and one for the block's.
    pub fn heads_and_output(&mut self, heads: usize, out: usize) -> (&mut [f32], &mut [f32]) {
        self.wide.resize(heads, 0.0);
        self.out.resize(out, 0.0);
        (&mut self.wide, &mut self.out)
    }

    /// The input as [`Scratch::normalised`] left it, and buffers for gate and up.
    pub fn feed_forward(&mut self, hidden: usize, gated: bool) -> (&[f32], &mut [f32], &mut [f32]) {
        self.wide.resize(hidden, 0.0);
        self.up.resize(if gated { hidden } else { 0 }, 0.0);
        (&self.input, &mut self.wide, &mut self.up)
    }

    /// The hidden activations, in the buffer for the gate.
    pub fn hidden(&self) -> &[f32] {
        &self.wide
    }

    /// The hidden activations, and a buffer for the block's output.
    pub fn hidden_and_output(&mut self, out: usize) -> (&[f32], &mut [f32]) {
        self.out.resize(out, 0.0);
        (&self.wide, &mut self.out)
    }

    /// A buffer for logits.
    pub fn logits(&mut self, len: usize) -> &mut [f32] {
        self.wide.resize(len, 0.0);
        &mut self.wide
    }
}
