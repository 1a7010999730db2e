//! What a transformer is: its architecture, how a family's files say it, its blocks, and the streamed pass that pushes
//! sequences through them, layer by layer, past taps that measure and edits that change.

#![warn(clippy::too_many_arguments)]

pub mod architecture;
pub mod blocks;
pub mod edit;
pub mod pass;
pub mod tap;

mod assembly;
mod error;
mod families;
mod linear;
mod model;
pub mod names;
pub mod parameters;
pub mod spelling;
mod weights;

pub use error::ModelError;
pub use families::{Confirmation, Supported, SupportedFormat, supported};
pub use linear::Linear;
pub use model::{LengthFit, Model};
pub use parameters::{ParameterInfo, ParameterKind, Parameters};
