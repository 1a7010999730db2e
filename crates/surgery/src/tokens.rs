//! Changed tokens, and which predictions still have the same target.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sinkscope_sources::data::TokenBatch;

use crate::operation::TokenChange;

/// A batch whose tokens were changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// The tokens.
    pub batch: TokenBatch,
    /// How far every token of the original has moved; `None` if none is left.
    pub shift: Option<isize>,
}

/// Changes a batch. `bos` is the beginning-of-sequence token, if the model has one.
///
/// # Errors
/// Why it makes no sense.
pub fn change(
    batch: &TokenBatch,
    change: TokenChange,
    bos: Option<u32>,
    vocabulary: usize,
    seed: u64,
) -> Result<Changed, String> {
    let sequences = || (0..batch.sequences).map(|index| batch.sequence(index));
    let made = |of: &dyn Fn(&[u32]) -> Vec<u32>, shift: isize| {
        let tokens = sequences().flat_map(of).collect();
        let seq_len = batch.seq_len.wrapping_add_signed(shift);
        Changed { batch: TokenBatch { tokens, sequences: batch.sequences, seq_len }, shift: Some(shift) }
    };
    let without_first = |what: &str| {
        if batch.seq_len < 3 {
            return Err(format!("{what} leaves sequences of {} tokens; give longer ones", batch.seq_len - 1));
        }
        Ok(made(&|sequence| sequence[1..].to_vec(), -1))
    };
    let bos_known = || bos.ok_or("the model's tokeniser names no beginning-of-sequence token".to_owned());
    match change {
        TokenChange::DropFirst => without_first("drop-first"),
        TokenChange::RepeatFirst => Ok(made(&|sequence| [&sequence[..1], sequence].concat(), 1)),
        TokenChange::Bos(on) => {
            let bos = bos_known()?;
            let with = sequences().filter(|sequence| sequence[0] == bos).count();
            match (on, with) {
                (true, 0) => Ok(made(&|sequence| [&[bos][..], sequence].concat(), 1)),
                (false, with) if with == batch.sequences => without_first("bos=off"),
                (true, _) => Err(format!("{with} of {} sequences begin with it already", batch.sequences)),
                (false, _) => {
                    Err(format!("{} of {} sequences begin without it", batch.sequences - with, batch.sequences))
                }
            }
        }
        TokenChange::Random => {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let tokens = batch.tokens.iter().map(|_| random.random_range(0..vocabulary as u32)).collect();
            Ok(Changed { batch: TokenBatch { tokens, ..*batch }, shift: None })
        }
    }
}

/// Pairs of predictions of the same target: for each sequence, indices into T - 1 predictions of the original and T' - 1
/// of the changed one. Those of registers are left out.
pub fn common(seq_len: usize, registers: usize, changed: &Changed) -> Vec<(usize, usize)> {
    let Some(shift) = changed.shift else { return Vec::new() };
    let pair = |target: usize| {
        let moved = target.checked_add_signed(shift)?;
        (moved > registers && moved < changed.batch.seq_len).then(|| (target - 1, moved - 1))
    };
    (registers + 1..seq_len).filter_map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch() -> TokenBatch {
        TokenBatch { tokens: vec![1, 2, 3, 4, 5, 6], sequences: 2, seq_len: 3 }
    }

    fn changed(what: TokenChange, bos: Option<u32>) -> Result<Changed, String> {
        change(&batch(), what, bos, 50, 1)
    }

    #[test]
    fn tokens_move_and_targets_with_them() {
        let dropped = changed(TokenChange::DropFirst, None).expect("long enough");
        assert_eq!((dropped.batch.tokens.as_slice(), dropped.batch.seq_len), (&[2, 3, 5, 6][..], 2));
        // Only the last token is predicted by both.
        assert_eq!(common(3, 0, &dropped), [(1, 0)]);
        let repeated = changed(TokenChange::RepeatFirst, None).expect("any");
        assert_eq!(repeated.batch.tokens, [1, 1, 2, 3, 4, 4, 5, 6]);
        assert_eq!(common(3, 0, &repeated), [(0, 1), (1, 2)]);
        let headed = changed(TokenChange::Bos(true), Some(0)).expect("not yet there");
        assert_eq!(headed.batch.tokens, [0, 1, 2, 3, 0, 4, 5, 6]);
        let bare = change(&headed.batch, TokenChange::Bos(false), Some(0), 50, 1).expect("there");
        assert_eq!(bare.batch, batch());
        assert_eq!(common(4, 0, &bare), [(1, 0), (2, 1)]);
        let random = changed(TokenChange::Random, None).expect("any");
        assert!(random.batch.tokens != batch().tokens && random.batch.tokens.iter().all(|&id| id < 50));
        assert_eq!(changed(TokenChange::Random, None), Ok(random.clone()));
        assert!(common(3, 0, &random).is_empty());
    }

    #[test]
    fn what_makes_no_sense_is_said() {
        let reason = |what, bos| changed(what, bos).expect_err("refused");
        assert!(reason(TokenChange::Bos(true), None).contains("names no beginning-of-sequence token"));
        assert!(reason(TokenChange::Bos(true), Some(4)).contains("1 of 2 sequences begin with it already"));
        assert!(reason(TokenChange::Bos(false), Some(4)).contains("1 of 2 sequences begin without it"));
        let short = TokenBatch { tokens: vec![1, 2], sequences: 1, seq_len: 2 };
        let reason = change(&short, TokenChange::DropFirst, None, 50, 1).expect_err("refused");
        assert!(reason.contains("sequences of 1 tokens"), "{reason}");
    }
}
