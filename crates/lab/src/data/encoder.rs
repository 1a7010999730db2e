//! From documents to tokens, fast: the tokens of every common word are looked up, not made.

use std::collections::HashMap;

use rayon::prelude::*;
use tokenizers::{Model, Tokenizer};

use super::bpe::{BOS_ID, spell};
use super::documents::{Documents, Piece};
use super::words::{Counts, Words};
use crate::LabError;

/// Gives the ids that the tokeniser gives, for text in which special tokens have no meaning: `<s>` spelled out in a text
/// is three characters.
pub(super) struct Encoder<'a> {
    tokenizer: &'a Tokenizer,
    words: &'a Words,
    known: HashMap<String, Box<[u32]>>,
}

impl<'a> Encoder<'a> {
    /// An encoder that knows the words counted.
    pub(super) fn new(tokenizer: &'a Tokenizer, words: &'a Words, counts: &Counts) -> Result<Self, LabError> {
        let mut encoder = Self { tokenizer, words, known: HashMap::new() };
        let known: Vec<(String, Box<[u32]>)> = counts
            .sorted()
            .into_par_iter()
            .map(|(word, _)| {
                let mut ids = Vec::new();
                encoder.make(word, &mut ids)?;
                Ok((word.to_owned(), ids.into()))
            })
            .collect::<Result<_, LabError>>()?;
        encoder.known = known.into_iter().collect();
        Ok(encoder)
    }

    /// Adds the ids of a text.
    fn extend(&self, text: &str, ids: &mut Vec<u32>) -> Result<(), LabError> {
        let mut outcome = Ok(());
        self.words.each(text, |word| match self.known.get(word) {
            Some(known) => ids.extend_from_slice(known),
            None if outcome.is_ok() => outcome = self.make(word, ids),
            None => {}
        });
        outcome
    }

    fn make(&self, word: &str, ids: &mut Vec<u32>) -> Result<(), LabError> {
        let made = self.tokenizer.get_model().tokenize(&spell(word));
        let made = made.map_err(|error| LabError::Request(format!("the tokeniser cannot encode {word:?}: {error}")))?;
        ids.extend(made.into_iter().map(|token| token.id));
        Ok(())
    }

    /// The ids of every piece of a batch, BOS before each document, all cores at once, in order.
    pub(super) fn encode(&self, batch: &Documents) -> Result<Vec<Vec<Encoded>>, LabError> {
        let group = |range: std::ops::Range<usize>| {
            range
                .map(|index| {
                    let piece = batch.pieces()[index];
                    let mut ids = Vec::with_capacity(batch.text(index).len() / 3 + 2);
                    if !piece.continues {
                        ids.push(BOS_ID);
                    }
                    self.extend(batch.text(index), &mut ids)?;
                    Ok(Encoded { piece, bytes: batch.text(index).len() as u64, ids })
                })
                .collect::<Result<Vec<_>, LabError>>()
        };
        batch.groups().into_par_iter().map(group).collect()
    }
}

/// A piece and its tokens.
pub(super) struct Encoded {
    pub(super) piece: Piece,
    /// Bytes of its text.
    pub(super) bytes: u64,
    pub(super) ids: Vec<u32>,
}
