//! Quantisation, simulated: what is quantised, the layers computed with it, and what became of them.
//!
//! Weights and inputs of the blocks' linear layers, and entries of the key-value cache, are replaced by the nearest points
//! of a coarse grid (`sinkscope_kernels::quantise`) and multiplied in f32.

mod block;
mod cache;
mod damage;
mod layers;
mod maxima;
mod scheme;
mod untouched;
mod weights;

pub use cache::{CacheEdit, CacheFormat};
pub(crate) use layers::name;
pub use layers::{Chosen, QuantisedLayers};
pub use maxima::MaximaTap;
pub use scheme::{Activations, Scheme, Sharing, Weights};
pub use untouched::{MagnitudeTap, UntouchedInputs};
pub(crate) use weights::weights_of;
