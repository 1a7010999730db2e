//! What is quantised, and how, as users name it.

use sinkscope_kernels::microscaling::Blocks;
use sinkscope_kernels::quantise::Grid;

/// What becomes of the linear layers of the blocks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scheme {
    /// Of their weights; they stay if `None`.
    pub weights: Option<Weights>,
    /// Of their inputs; they stay if `None`.
    pub activations: Option<Activations>,
    /// Whether inputs are smoothed first, their weights taking up what they lose (Xiao et al. 2022, arXiv 2211.10438).
    pub smooth: bool,
    /// Whether inputs and weights are rotated first, by Hadamard matrices (Ashkboos et al. 2024, arXiv 2404.00456).
    pub rotate: bool,
    /// Whether scales of inputs that all of a sequence share are known beforehand, from other sequences or a calibration text.
    pub fixed: bool,
}

/// What becomes of weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weights {
    /// Inputs of an output share a scale of f32.
    Scaled {
        /// The points they go to.
        grid: Grid,
        /// How many inputs share a scale; all if `None`.
        group: Option<usize>,
    },
    /// Blocks of inputs of an output share a scale of few bits.
    Blocks(Blocks),
}

/// What becomes of inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activations {
    /// Inputs share a scale of f32.
    Scaled {
        /// The points they go to.
        grid: Grid,
        /// Which share a scale.
        sharing: Sharing,
    },
    /// Blocks of a token's inputs share a scale of few bits.
    Blocks(Blocks),
}

/// Which inputs of a linear layer share a scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// All of a sequence.
    Sequence,
    /// Those of a token.
    Token,
}

impl Activations {
    /// Whether all inputs of a sequence have something in common.
    pub fn of_sequence(self) -> bool {
        match self {
            Self::Scaled { sharing, .. } => sharing == Sharing::Sequence,
            Self::Blocks(blocks) => blocks.has_global_scale(),
        }
    }
}

impl Scheme {
    /// The names, as messages show them.
    pub const NAMES: &str = "w8a8-tensor, w8a8-token, smooth-w8a8-tensor, smooth-w8a8-token (or smooth-w8a8), w8, w4-gN, w3-gN, \
                             w4a8-tensor, w4a8-token, a8-tensor, a8-token; fp8-e4m3, fp8-e5m2, mxfp4, nvfp4 and q8_0, of weights \
                             alone with w- before them, of inputs alone with a-; and any with hadamard- before it";

    /// The scheme of a name.
    ///
    /// # Errors
    /// If there is none of it; the reason, to follow the operation.
    pub fn parse(name: &str) -> Result<Self, String> {
        if let Some(name) = name.strip_prefix("hadamard-") {
            return match Self::parse(name)? {
                Self { smooth: true, .. } => Err("what is smoothed is not rotated too".to_owned()),
                scheme => Ok(Self { rotate: true, ..scheme }),
            };
        }
        let int = |bits| Grid::Integer { bits };
        let by_output = |bits| Some(Weights::Scaled { grid: int(bits), group: None });
        let int8 = |sharing| Some(Activations::Scaled { grid: int(8), sharing });
        let plain = |weights, activations| Ok(Self { weights, activations, ..Self::default() });
        match name {
            "w8" => plain(by_output(8), None),
            "a8-tensor" => plain(None, int8(Sharing::Sequence)),
            "a8-token" => plain(None, int8(Sharing::Token)),
            "w8a8-tensor" => plain(by_output(8), int8(Sharing::Sequence)),
            "w8a8-token" => plain(by_output(8), int8(Sharing::Token)),
            "w4a8-tensor" => plain(by_output(4), int8(Sharing::Sequence)),
            "w4a8-token" => plain(by_output(4), int8(Sharing::Token)),
            "smooth-w8a8" | "smooth-w8a8-token" => Ok(Self { smooth: true, ..Self::parse("w8a8-token")? }),
            "smooth-w8a8-tensor" => Ok(Self { smooth: true, ..Self::parse("w8a8-tensor")? }),
            _ => Self::of_format(name).map_or_else(|| plain(Some(grouped(name)?), None), Ok),
        }
    }

    /// A format of few bits, of weights, inputs or both.
    fn of_format(name: &str) -> Option<Self> {
        let (format, weights, activations) = match (name.strip_prefix("w-"), name.strip_prefix("a-")) {
            (Some(format), _) => (format, true, false),
            (_, Some(format)) => (format, false, true),
            _ => (name, true, true),
        };
        let scaled =
            |grid| (Weights::Scaled { grid, group: None }, Activations::Scaled { grid, sharing: Sharing::Sequence });
        let blocks = |blocks| (Weights::Blocks(blocks), Activations::Blocks(blocks));
        let (of_weights, of_inputs) = match format {
            "fp8-e4m3" => scaled(Grid::E4m3),
            "fp8-e5m2" => scaled(Grid::E5m2),
            "mxfp4" => blocks(Blocks::Mxfp4),
            "nvfp4" => blocks(Blocks::Nvfp4),
            "q8_0" => blocks(Blocks::Q8_0),
            _ => return None,
        };
        Some(Self {
            weights: weights.then_some(of_weights),
            activations: activations.then_some(of_inputs),
            ..Self::default()
        })
    }

    /// Whether inputs are not quantised as they come.
    pub fn transforms(&self) -> bool {
        self.smooth || self.rotate
    }

    /// Whether it waits for the largest magnitudes of other sequences, or of another text.
    pub fn calibrates(&self) -> bool {
        self.smooth || self.fixed
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
        Ok(group) => Ok(Weights::Scaled { grid: Grid::Integer { bits }, group: Some(group) }),
        Err(_) => Err(format!("{size:?} is not a number of inputs to share a scale, as 64 is in w4-g64")),
    }
}
