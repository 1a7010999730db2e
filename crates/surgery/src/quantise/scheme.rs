//! What is quantised, and how, as users name it.

use sinkscope_kernels::quantise::Grid;

/// What becomes of the linear layers of the blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scheme {
    /// Of their weights; they stay if `None`.
    pub weights: Option<Weights>,
    /// Of their inputs; they stay if `None`.
    pub activations: Option<Activations>,
    /// Whether inputs are smoothed first, their weights taking up what they lose (Xiao et al. 2022, arXiv 2211.10438).
    pub smooth: bool,
}

/// What becomes of weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weights {
    /// The points they go to.
    pub grid: Grid,
    /// How many inputs of an output share a scale; all if `None`.
    pub group: Option<usize>,
}

/// What becomes of inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Activations {
    /// The points they go to.
    pub grid: Grid,
    /// Which share a scale.
    pub sharing: Sharing,
}

/// Which inputs of a linear layer share a scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// All of a sequence.
    Sequence,
    /// Those of a token.
    Token,
}

const INT8: Grid = Grid::Integer { bits: 8 };

impl Scheme {
    /// The names, as messages show them.
    pub const NAMES: &str = "w8a8-tensor, w8a8-token, smooth-w8a8, w8, w4-gN, w3-gN, w4a8-tensor, w4a8-token, a8-tensor, a8-token, fp8-e4m3";

    /// The scheme of a name.
    ///
    /// # Errors
    /// If there is none of it; the reason, to follow the operation.
    pub fn parse(name: &str) -> Result<Self, String> {
        let by_output = |bits| Some(Weights { grid: Grid::Integer { bits }, group: None });
        let int8 = |sharing| Some(Activations { grid: INT8, sharing });
        let plain = |weights, activations| Ok(Self { weights, activations, smooth: false });
        match name {
            "w8" => plain(by_output(8), None),
            "a8-tensor" => plain(None, int8(Sharing::Sequence)),
            "a8-token" => plain(None, int8(Sharing::Token)),
            "w8a8-tensor" => plain(by_output(8), int8(Sharing::Sequence)),
            "w8a8-token" => plain(by_output(8), int8(Sharing::Token)),
            "w4a8-tensor" => plain(by_output(4), int8(Sharing::Sequence)),
            "w4a8-token" => plain(by_output(4), int8(Sharing::Token)),
            "smooth-w8a8" => Ok(Self { weights: by_output(8), activations: int8(Sharing::Token), smooth: true }),
            "fp8-e4m3" => plain(
                Some(Weights { grid: Grid::E4m3, group: None }),
                Some(Activations { grid: Grid::E4m3, sharing: Sharing::Sequence }),
            ),
            _ => plain(Some(grouped(name)?), None),
        }
    }
}

fn grouped(name: &str) -> Result<Weights, String> {
    let parts =
        [("w4-g", 4), ("w3-g", 3)].into_iter().find_map(|(start, bits)| Some((name.strip_prefix(start)?, bits)));
    let Some((size, bits)) = parts else {
        return Err(format!("there is no scheme {name:?}; there are {}", Scheme::NAMES));
    };
    match size.parse() {
        Ok(0) => Err("a group of 0 inputs has nothing to scale; the least is 1".to_owned()),
        Ok(group) => Ok(Weights { grid: Grid::Integer { bits }, group: Some(group) }),
        Err(_) => Err(format!("{size:?} is not a number of inputs to share a scale, as 64 is in w4-g64")),
    }
}
