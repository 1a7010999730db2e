//! Taps: what measures a pass while it runs.
//!
//! A [`Tap`] says which [`Point`]s of which blocks it wants, sees each [`Event`] once, and keeps only its own running
//! result. An event covers a chunk of at most [`CHUNK_ROWS`] rows of one sequence. Chunks are observed in parallel,
//! each giving a partial result, and partials are merged in chunk order on one thread, so that results depend neither
//! on the number of threads nor on how a run was split. A point nobody wants costs nothing.

use std::ops::Range;

/// Most rows (tokens) of one sequence that a single event covers.
pub const CHUNK_ROWS: usize = 256;

/// Where in a block the pass can be observed. The name in brackets is TransformerLens's hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Point {
    /// The residual after the block, `H_{b+1}` of eq. 4; block 0 is the embedding
    /// (`hook_embed`, `hook_resid_mid` after attention, `hook_resid_post` after feed-forward). rows x d_model.
    Residual,
    /// What the block adds to the residual, after any output norm (`hook_attn_out`, `hook_mlp_out`). rows x d_model.
    Output,
    /// The block's input after its input norm, gamma included (`ln1.hook_normalized`, `ln2.hook_normalized`).
    /// rows x d_model.
    NormalisedInput,
    /// Keys after QK-norm, before rotary embedding (`attn.hook_k`). rows x (kv_heads * head_dim).
    UnrotatedKey,
    /// Queries after QK-norm and rotary embedding (`attn.hook_rot_q`). rows x (heads * head_dim).
    Query,
    /// Keys after QK-norm and rotary embedding (`attn.hook_rot_k`). rows x (kv_heads * head_dim).
    Key,
    /// Values (`attn.hook_v`). rows x (kv_heads * head_dim).
    Value,
    /// The scan of the attention weights (`attn.hook_pattern`, reduced): an [`AttentionScan`].
    Attention,
    /// The heads' outputs, the input of W_O (`attn.hook_z`). rows x (heads * head_dim).
    Heads,
    /// The gate's pre-activation, or the only one of a GeLU block (`mlp.hook_pre`). rows x d_ffn.
    Gate,
    /// The linear branch of a gated block (`mlp.hook_pre_linear`), together with the gate that it is multiplied by: an
    /// [`EventData::Gated`].
    Up,
    /// The hidden activations, the input of W_down (`mlp.hook_post`). rows x d_ffn.
    Hidden,
    /// Logits of a range of the vocabulary (`hook_logits`, in pieces), after any soft cap.
    Logits,
    /// The negative log-likelihood of each next token.
    Prediction,
    /// Not an event of a chunk: asks for [`Tap::block_done`].
    BlockDone,
}

/// The rows an event covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Block, from 1; odd attention, even feed-forward; 0 the embedding; `2 L + 1` the output head.
    pub block: usize,
    /// Index of the sequence in the batch.
    pub sequence: usize,
    /// Position of the first row.
    pub position: usize,
    /// Number of rows, at most [`CHUNK_ROWS`].
    pub rows: usize,
}

/// One look at the pass.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    /// Which point.
    pub point: Point,
    /// Which rows.
    pub place: Place,
    /// The values.
    pub data: EventData<'a>,
}

/// The values of an event.
#[derive(Debug, Clone, Copy)]
pub enum EventData<'a> {
    /// rows x width, row-major.
    Rows(&'a [f32]),
    /// For [`Point::Up`]: both rows x d_ffn, row-major.
    Gated {
        /// The gate's pre-activation.
        gate: &'a [f32],
        /// The linear branch.
        up: &'a [f32],
    },
    /// For [`Point::Attention`].
    Attention(AttentionScan<'a>),
    /// For [`Point::Logits`]: rows x (end - start), row-major, of the vocabulary items `start..end`.
    Logits {
        /// First vocabulary id covered.
        start: usize,
        /// One past the last vocabulary id covered.
        end: usize,
        /// rows x (end - start).
        values: &'a [f32],
    },
    /// For [`Point::Prediction`]: one value per row that has a next token (the last row of a sequence has none),
    /// in nats.
    Nll(&'a [f32]),
}

/// What the attention of one chunk of query rows looked like, reduced inside the tiles.
#[derive(Debug, Clone, Copy)]
pub struct AttentionScan<'a> {
    /// Number of query heads.
    pub heads: usize,
    /// Keys `0..keys` are covered: all those these queries may see.
    pub keys: usize,
    /// heads x keys: attention each key received from this chunk's queries in total, `sum_t A[t, k]` (eq. 27 before
    /// the division).
    pub received: &'a [f32],
    /// heads x rows: log of the sum of exponentials of the scores.
    pub log_sum_exp: &'a [f32],
    /// heads x rows: what each query's attention weights add up to: 1, but for sigmoids and for a softmax with an entry that is
    /// no key.
    pub mass: &'a [f32],
    /// heads x rows: each query's attention weight on itself.
    pub to_self: &'a [f32],
    /// heads x rows: each query's attention weight on position 0.
    pub to_first: &'a [f32],
    /// heads x rows: entropy of each query's attention, in nats.
    pub entropy: &'a [f32],
}

/// A group of sequences right after a block, whole.
#[derive(Debug, Clone)]
pub struct BlockView<'a> {
    /// The block, 0 for the embedding.
    pub block: usize,
    /// Which sequences of the batch are in the group.
    pub sequences: Range<usize>,
    /// Tokens per sequence.
    pub seq_len: usize,
    /// Width of the residual.
    pub d_model: usize,
    /// The residual after the block: (sequences * seq_len) x d_model, row-major.
    pub residual: &'a [f32],
    /// What the block added: same shape; `None` for the embedding.
    pub output: Option<&'a [f32]>,
}

/// A measurement of the pass. All methods but [`Tap::observe`] run on one thread, in an order that depends only on the
/// batch.
pub trait Tap: Sync {
    /// What one chunk's observation leaves behind.
    type Partial: Send;

    /// Whether this tap wants `point` of `block`. Must not change during a pass.
    fn wants(&self, point: Point, block: usize) -> bool;

    /// Reduces one event. Called from several threads at once.
    fn observe(&self, event: &Event<'_>) -> Self::Partial;

    /// Takes in the partial of the event at `point` and `place`; in chunk order within a block.
    fn merge(&mut self, point: Point, place: &Place, partial: Self::Partial);

    /// Called after all events of a block, once per group, if the tap wants [`Point::BlockDone`] of it.
    fn block_done(&mut self, view: &BlockView<'_>) {
        let _ = view;
    }
}
