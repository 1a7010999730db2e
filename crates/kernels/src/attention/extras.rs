//! What attention may have beside queries, keys and values: pairs kept apart, sinks, ALiBi, an entry that is no key.

use super::Strided;

/// The optional operands of [`attend`](super::attend); by default, none.
#[derive(Debug, Clone, Copy)]
pub struct Extras<'a, F> {
    /// Pairs that do not meet.
    pub mask: Mask<'a>,
    /// Keys that stay in sight of windows.
    pub sinks: Option<Sinks<'a, F>>,
    /// ALiBi (Press et al. 2022): by query head of the group, what a position of distance takes from a score (after any soft
    /// cap). Empty for none.
    pub slopes: &'a [F],
    /// One more entry of every softmax.
    pub entry: Option<Entry<'a, F>>,
}

impl<F> Default for Extras<'_, F> {
    fn default() -> Self {
        Self { mask: Mask::default(), sinks: None, slopes: &[], entry: None }
    }
}

/// Pairs that do not meet, beside those that causality and windows keep apart. A query always sees itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct Mask<'a> {
    /// By position: whether later queries do not see the key there. Empty hides none.
    pub hidden: &'a [bool],
    /// By position: whether the query there sees only itself. Empty leaves all as they are.
    pub alone: &'a [bool],
}

impl Mask<'_> {
    pub(super) fn is_empty(&self) -> bool {
        self.hidden.is_empty() && self.alone.is_empty()
    }

    /// Whether the query at `position` sees the key at `key`, if nothing else keeps them apart.
    pub(super) fn meet(&self, position: usize, key: usize) -> bool {
        let marked = |marks: &[bool], at: usize| marks.get(at).copied().unwrap_or(false);
        key == position || !(marked(self.hidden, key) || marked(self.alone, position))
    }
}

/// The first keys of a sequence, which stay in sight when a window has left them behind.
#[derive(Debug, Clone, Copy)]
pub struct Sinks<'a, F> {
    /// How many.
    pub count: usize,
    /// The queries that meet them then: as `queries` of [`attend`](super::attend), perhaps rotated to another position.
    pub queries: Strided<'a, F>,
    /// The last position at which a query meets them, for the distances of ALiBi; one beyond it meets them as if there.
    pub last_position: usize,
}

/// An entry that every query meets beside the keys, and that is no key: it takes its share of the weights, but no scan shows
/// it, so that those of the keys add up to less than 1.
///
/// A learned sink logit of each head (gpt-oss) has the same scores in all rows (`row_stride` 0) and no value; softmax plus
/// one the score 0; a key and value bias (Sun et al. 2024) the scores `scale * (query . key bias)` and the value bias.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a, F> {
    /// rows x queries_per_key, strided: its score, to which neither scale nor soft cap nor ALiBi is applied.
    pub scores: Strided<'a, F>,
    /// head_dim: its value, zero if there is none.
    pub value: Option<&'a [F]>,
}

impl<F: Copy> Entry<'_, F> {
    pub(super) fn score(&self, row: usize, head: usize) -> F {
        self.scores.data[row * self.scores.row_stride + head]
    }
}

/// What is wanted of the weights beside the output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Look {
    /// Nothing.
    #[default]
    Nothing,
    /// The log-sum-exp, which the backward needs.
    LogSumExp,
    /// The whole scan.
    Scan,
}

/// How scores become weights.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum Weighting<F> {
    /// Exponentials divided by their sum (eq. 9).
    #[default]
    Softmax,
    /// `sigmoid(score + bias)`, not normalised (Ramapuram et al. 2024).
    Sigmoid {
        /// Added to every score; minus the logarithm of the length, usually.
        bias: F,
    },
}
