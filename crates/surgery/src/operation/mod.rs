//! Operations as users type them: `NAME[=VALUE][@block=B][@position=P][@channels=C,C,...][+MODIFIER...]`.

mod parse;

use sinkscope_model::pass::Window;

use crate::quantise::Scheme;

/// One operation.
#[derive(Debug, Clone, PartialEq)]
pub struct Operation {
    /// As typed.
    pub typed: String,
    /// What it does.
    pub kind: Kind,
}

/// What an operation does.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// Changes the residual.
    Spikes {
        /// How.
        change: SpikeChange,
        /// After which block; after the last step-up block of the strongest stage if `None`.
        block: Option<usize>,
        /// Of which tokens.
        tokens: WhichTokens,
        /// In which channels; in those that spike if `None`.
        channels: Option<Vec<usize>>,
    },
    /// Leaves out what a block adds.
    SkipBlock {
        /// Block.
        block: usize,
        /// For which tokens.
        tokens: WhichTokens,
    },
    /// Changes the values of tokens in every attention block.
    Value {
        /// How.
        change: ValueChange,
        /// In which attention block; in all if `None`.
        block: Option<usize>,
        /// Of which tokens.
        tokens: WhichTokens,
    },
    /// Keeps queries and keys apart.
    Apart {
        /// Which.
        apart: Apart,
        /// In which attention block; in all if `None`.
        block: Option<usize>,
        /// Of which tokens.
        tokens: WhichTokens,
    },
    /// Narrows attention.
    Window(Window),
    /// Changes the tokens.
    Tokens(TokenChange),
    /// Quantises the linear layers of the blocks.
    Quantise {
        /// How.
        scheme: Scheme,
        /// Of which block; of all if `None`.
        block: Option<usize>,
        /// Tokens that stay as they are, if any do.
        kept: Option<WhichTokens>,
    },
    /// Quantises the key-value cache.
    Cache {
        /// To integers of so many bits.
        bits: u32,
        /// Of which attention block; of all if `None`.
        block: Option<usize>,
        /// Tokens whose entries stay as they are, if any do.
        kept: Option<WhichTokens>,
    },
}

/// What the chosen tokens do not meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Apart {
    /// They attend to nothing but themselves.
    SelfOnly,
    /// No other token attends to them.
    Forbidden,
}

/// What becomes of the residual in some channels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SpikeChange {
    /// Zero.
    Zero,
    /// The mean over the same tokens of all other sequences.
    Mean,
    /// A multiple of what it was.
    Scale(f32),
    /// Zero, and the whole row as long as it was.
    ZeroRescale,
}

/// What becomes of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueChange {
    /// Zero.
    Zero,
    /// The mean over the same tokens of all other sequences.
    Mean,
}

/// Which tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhichTokens {
    /// Those of the strongest stage.
    Spikes,
    /// Those that sink.
    Sinks,
    /// One position of every sequence.
    Position(usize),
    /// All.
    All,
}

/// What becomes of the tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenChange {
    /// The first is left out.
    DropFirst,
    /// The first comes twice.
    RepeatFirst,
    /// Sequences begin with the beginning-of-sequence token, or do not.
    Bos(bool),
    /// All become random ids.
    Random,
}
