//! Quantisation, simulated: what is quantised, the layers computed with it, and what became of them.
//!
//! Weights and inputs of the blocks' linear layers, and entries of the key-value cache, are replaced by the nearest points
//! of a coarse grid (`sinkscope_kernels::quantise`) and multiplied in f32.

mod block;
mod cache;
mod layers;
mod maxima;
mod scheme;
mod weights;

pub use cache::CacheEdit;
pub use layers::QuantisedLayers;
pub use maxima::MaximaTap;
pub use scheme::{Activations, Scheme, Sharing, Weights};

/// Something that was to be quantised and is not finite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct NotFinite {
    block: usize,
    sequence: usize,
    position: usize,
}

/// The first of them.
#[derive(Debug, Default)]
struct Refusals(std::sync::Mutex<Option<NotFinite>>);

impl Refusals {
    fn add(&self, found: NotFinite) {
        let mut first = locked(&self.0);
        *first = Some(first.map_or(found, |first| first.min(found)));
    }

    /// Why nothing can be said of the run, if something was refused.
    fn reason(&self) -> Option<String> {
        locked(&self.0).map(|NotFinite { block, sequence, position }| {
            format!(
                "what was to be quantised in block {block} is not finite (sequence {sequence}, position {position}), and an \
                 infinite value has no scale"
            )
        })
    }
}

/// A poisoned lock means that another task panicked; what it guards is still whole.
fn locked<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
