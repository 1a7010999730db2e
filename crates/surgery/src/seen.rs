//! What a comparison sees of a run: sinks, the largest activations, attention received, log-likelihoods, and the first value
//! that is not finite.

use sinkscope_anatomy::magnitude::largest_magnitude;
use sinkscope_anatomy::nll::NllTap;
use sinkscope_anatomy::not_finite::{FiniteTap, Found, first};
use sinkscope_anatomy::sinks::SinkTap;
use sinkscope_model::Model;
use sinkscope_model::pass::ErasedTap;
use sinkscope_sources::data::TokenBatch;

use crate::taps::ReceivedTap;

/// What one run shows of a batch.
pub(crate) struct Seen {
    pub sinks: SinkTap,
    pub finite: FiniteTap,
    pub received: ReceivedTap,
    pub nll: NllTap,
}

impl Seen {
    /// For a pass over a batch.
    pub fn new(model: &Model, batch: &TokenBatch) -> Self {
        let a = model.architecture();
        let layers = a.layer_count();
        Self {
            sinks: SinkTap::new(layers, a.most_heads(), batch.sequences, batch.seq_len),
            finite: FiniteTap::new(layers),
            received: ReceivedTap::new(layers, batch.sequences, batch.seq_len),
            nll: NllTap::new(layers, a.registers, batch.sequences).with_predictions(),
        }
    }

    /// For a pass.
    pub fn taps(&mut self) -> Vec<&mut dyn ErasedTap> {
        vec![&mut self.sinks, &mut self.finite, &mut self.received, &mut self.nll]
    }

    /// Takes over what lies before the layer after `block`.
    pub fn adopt(&mut self, untouched: &Self, block: usize) {
        self.sinks.adopt_layers(&untouched.sinks, 0..block / 2);
        self.received.adopt_layers(&untouched.received, block / 2);
        self.finite.largest[..block].copy_from_slice(&untouched.finite.largest[..block]);
    }

    /// The largest magnitude after any block.
    pub fn largest(&self) -> f64 {
        f64::from(largest_magnitude(&self.finite.largest[1..]))
    }

    /// The first activation, or log-likelihood of a predicted token, that is not finite. Those of registers do not count.
    pub fn not_finite(&self) -> Option<Found> {
        first(self.finite.not_finite, self.nll.not_finite())
    }
}
