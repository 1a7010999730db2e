//! Operations as users type them: `NAME[=VALUE]`, then places (`@block=B`, `@layer=L`, `@position=P`, `@channels=C`, each
//! with lists and ranges) and modifiers (`+MODIFIER`, `+MODIFIER=VALUE`) in any order.

mod parse;
mod parts;
mod place;

use std::ops::RangeInclusive;

use sinkscope_model::pass::Window;

pub use self::place::{Numbers, Place};
use crate::quantise::{CacheFormat, Scheme};

/// What users may type, what it does in a line or two, and its definition where that needs more words.
pub static FORMS: [Form; 18] = [
    form("zero-spikes", "spike entries become zero, right after the last step-up block"),
    form("mean-spikes", "they become their mean over the other sequences (or --calibration)"),
    form("scale-spikes=F", "they become F times what they were"),
    form("zero-rescale-spikes", "they become zero, and the row as long as it was")
        .defined("spike entries zero, then the row multiplied so that its length is what it was"),
    form("skip-block=B", "the block adds nothing to the tokens that spike")
        .defined("what the block adds is zero at the chosen tokens"),
    form("skip-head=L.H", "head H of layer L, both from 0, gives nothing (@position=P: at P alone)")
        .defined("the head's output, after any gate and before W_O, is zero at all tokens, or at those of @position"),
    form("self-only@position=P", "the token attends to nothing but itself, in every attention block")
        .defined("the chosen tokens attend to nothing but themselves, in every attention block or the one named"),
    form("forbid-sink", "no other token attends to the tokens that sink").defined(
        "no token but themselves attends to sink_tokens, or to the tokens at @position, in any head of every attention block or \
         of the one named",
    ),
    form("forbid-spike", "no other token attends to the tokens that spike")
        .defined("as forbid-sink, of the strongest stage's tokens unless @position names others"),
    form("sink-value=zero|mean", "the values of the tokens that sink, in every attention block").defined(
        "the value vectors of sink_tokens, or of the tokens at @position, all heads, in every attention block or the one named",
    ),
    form("spike-value=zero|mean", "the values of the tokens that spike, in every attention block")
        .defined("as sink-value, of the strongest stage's tokens unless @position names others"),
    form("drop-first", "the first token is left out"),
    form("repeat-first", "the first token comes twice"),
    form("bos=on|off", "sequences begin with the beginning-of-sequence token, or do not"),
    form(
        "window=W[+sinks=S]",
        "attention to the last W keys and the first S, positions those in the cache\n(+original-positions: those in the text)",
    )
    .of(XIAO)
    .defined(
        "query i sees keys i - W + 1 to i and 0 to S - 1; a sink outside the window is met by the query rotated to position \
         min(i, W + S - 1), unless original-positions; a layer's own window stays where it is smaller",
    ),
    form("random-tokens", "every token is drawn at random")
        .defined("every token an id drawn uniformly; no target is left to compare"),
    form(
        "quantize=SCHEME",
        "the linear layers of the blocks: w8a8-tensor, w8a8-token, w8, w4-gN, w3-gN,\n\
         w4a8-tensor, w4a8-token, a8-tensor, a8-token, smooth-w8a8-tensor,\n\
         smooth-w8a8-token, fp8-e4m3, fp8-e5m2, mxfp4, nvfp4, q8_0 (w-mxfp4: weights\n\
         alone; a-mxfp4: inputs alone), or hadamard-SCHEME: rotated first\n\
         (+except=NAMES, +only=NAMES: not these layers, or these alone; +static:\n\
         scales known beforehand; +keep-spikes: but not at tokens that spike;\n\
         +keep=P: at positions; +keep=0..N: a run for each of the first 0 to N kept)",
    ),
    form(
        "cache=FORMAT",
        "keys and values: int8, int4, int3, int2, fp8-e4m3 or fp8-e5m2, per token and\n\
         head, or with -channel per channel and 32 tokens; k:int4-channel,v:int8\n\
         (+keep-sinks: but not of tokens that sink; +keep-spikes: that spike; +keep=P\n\
         and +keep=0..N as of quantize)",
    ),
];

/// An operation as help shows it.
#[derive(Debug, Clone, Copy)]
pub struct Form {
    /// The name and what it takes.
    pub typed: &'static str,
    /// What it does, in lines.
    pub says: &'static str,
    /// Its definition, if `says` is not all.
    pub definition: Option<&'static str>,
    /// Where the operation comes from.
    pub source: &'static str,
}

const XIAO: &str = "Xiao et al. 2023 (arXiv 2309.17453)";

const fn form(typed: &'static str, says: &'static str) -> Form {
    Form { typed, says, definition: None, source: "sinkscope" }
}

impl Form {
    /// The name alone.
    pub fn name(&self) -> &'static str {
        self.typed.split(['=', '@', '[']).next().unwrap_or(self.typed)
    }

    const fn defined(self, definition: &'static str) -> Self {
        Self { definition: Some(definition), ..self }
    }

    const fn of(self, source: &'static str) -> Self {
        Self { source, ..self }
    }
}

/// One operation.
#[derive(Debug, Clone, PartialEq)]
pub struct Operation {
    /// As typed.
    pub typed: String,
    /// What it does.
    pub kind: Kind,
    /// Of how many first tokens it is tried with, each a run; `None` if it is one run.
    pub sweep: Option<RangeInclusive<usize>>,
}

impl Operation {
    /// The runs that it takes: itself, or one for every number of first tokens that a sweep keeps.
    pub fn steps(&self) -> Vec<Self> {
        let Some(sweep) = &self.sweep else { return vec![self.clone()] };
        let swept = format!("+keep={}..{}", sweep.start(), sweep.end());
        let step = |count: usize| {
            let first = count.checked_sub(1).map(Numbers::up_to);
            let kept = match count {
                0 => String::new(),
                1 => "+keep=0".to_owned(),
                _ => format!("+keep=0-{}", count - 1),
            };
            let mut kind = self.kind.clone();
            if let Kind::Quantise { kept, .. } | Kind::Cache { kept, .. } = &mut kind {
                *kept = first.map(WhichTokens::Positions);
            }
            Self { typed: self.typed.replacen(&swept, &kept, 1), kind, sweep: None }
        };
        sweep.clone().map(step).collect()
    }
}

/// What an operation does.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// Changes the residual.
    Spikes {
        /// How.
        change: SpikeChange,
        /// After which blocks; after the last step-up block of the strongest stage if `None`.
        places: Option<Vec<Place>>,
        /// Of which tokens.
        tokens: WhichTokens,
        /// In which channels; in those that spike if `None`.
        channels: Option<Numbers>,
    },
    /// Leaves out what blocks add.
    SkipBlock {
        /// Which.
        places: Vec<Place>,
        /// For which tokens.
        tokens: WhichTokens,
    },
    /// Leaves out what a head gives.
    SkipHead {
        /// Layer, from 0.
        layer: usize,
        /// Head, from 0.
        head: usize,
        /// For which tokens.
        tokens: WhichTokens,
    },
    /// Changes the values of tokens in every attention block.
    Value {
        /// How.
        change: ValueChange,
        /// In which attention blocks; in all if `None`.
        places: Option<Vec<Place>>,
        /// Of which tokens.
        tokens: WhichTokens,
    },
    /// Keeps queries and keys apart.
    Apart {
        /// Which.
        apart: Apart,
        /// In which attention blocks; in all if `None`.
        places: Option<Vec<Place>>,
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
        /// Which of them.
        layers: WhichLayers,
        /// Tokens that stay as they are, if any do.
        kept: Option<WhichTokens>,
    },
    /// Quantises the key-value cache.
    Cache {
        /// What becomes of keys; they stay if `None`.
        keys: Option<CacheFormat>,
        /// And of values.
        values: Option<CacheFormat>,
        /// Of which attention blocks; of all if `None`.
        places: Option<Vec<Place>>,
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

/// Which linear layers: those that are in all of the places given, apart from exceptions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WhichLayers {
    /// Of these blocks.
    pub places: Option<Vec<Place>>,
    /// Of these names.
    pub only: Option<Vec<Place>>,
    /// Of none of these names.
    pub except: Option<Vec<Place>>,
}

/// Which tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WhichTokens {
    /// Those of the strongest stage.
    Spikes,
    /// Those that sink.
    Sinks,
    /// Positions of every sequence.
    Positions(Numbers),
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
