//! What a transformer is: its architecture, where its weights and tokens come from, its blocks, and the
//! streamed pass that pushes sequences through them, layer by layer, past taps that measure and edits that change.

pub mod architecture;
pub mod blocks;
pub mod byte_order_mark;
pub mod checkpoint;
pub mod data;
pub mod edit;
pub mod pass;
pub mod tap;
pub mod tokenizer;

mod error;
mod family;
mod linear;
mod model;
pub mod parameters;
pub mod spelling;
mod weights;

pub use error::ModelError;
pub use linear::Linear;
pub use model::{LengthFit, Model};
pub use parameters::{ParameterInfo, ParameterKind, Parameters};
