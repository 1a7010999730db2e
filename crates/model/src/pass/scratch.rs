//! Buffers of a task, kept from one task to the next: fresh pages for every tile would cost more than the norms.

use std::sync::Mutex;

use sinkscope_kernels::Buffer;

use crate::blocks::{FeedForwardBlock, Probe, read};

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

/// The hidden activations of a feed-forward block, in the place of `gate`, from what it reads.
pub(super) fn hidden<'b>(
    block: &FeedForwardBlock<f32>,
    residual: &[f32],
    gate: &'b mut [f32],
    (input, up): (&mut Buffer<f32>, &mut Buffer<f32>),
    probe: &mut impl Probe<f32>,
) -> &'b mut [f32] {
    let input = input.fit(residual.len());
    read(block.input_norm.as_ref(), residual, input, probe);
    let up = up.fit(if block.up.is_some() { gate.len() } else { 0 });
    block.activate(input, gate, up, None, probe)
}

/// The buffers of one task. What they hold is left over from earlier tasks.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// What a block reads.
    pub input: Buffer<f32>,
    /// The heads' outputs, a gate's pre-activations and then hidden activations, or logits.
    pub wide: Buffer<f32>,
    /// A gated block's linear branch, or the heads' outputs after their gates.
    pub up: Buffer<f32>,
    /// What a block adds.
    pub out: Buffer<f32>,
}
