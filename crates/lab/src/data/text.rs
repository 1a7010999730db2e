//! Sources of text: a prepared directory, and the text inside the binary.

use std::fs;
use std::path::Path;

use sha2::{Digest, Sha256};
use sinkscope_sources::data::SAMPLE_TEXT;
use sinkscope_sources::data::document::Part;

use super::batch::Batch;
use super::documents;
use super::encoder::Encoder;
use super::identity::digest;
use super::manifest::{Manifest, TOKENIZER_FILE};
use super::packing::{Packing, Windows};
use super::permutation::Permutation;
use super::prepare::tokenizer_text;
use super::separator::{Cutter, Separator};
use super::shard::{self, Tokens};
use super::words::{Counts, Words};
use super::{Identity, bpe};
use crate::LabError;

/// What identities call the text inside the binary.
const BUILT_IN_NAME: &str = sinkscope_sources::data::SAMPLE_TEXT_NAME;

/// The share of its paragraphs held out.
const BUILT_IN_HELD_OUT: f64 = 0.1;

/// Tokens of text, in two splits.
#[derive(Debug)]
pub(super) struct Text {
    training: Windows,
    held_out: Windows,
    pub(super) vocabulary: usize,
    pub(super) bos: u32,
    /// The content of `tokenizer.json`.
    pub(super) tokenizer: String,
    pub(super) identity: Identity,
}

impl Text {
    /// Opens a prepared directory and checks every file of it.
    pub(super) fn open(directory: &Path, packing: Packing, heads: bool) -> Result<Self, LabError> {
        let manifest = Manifest::read(directory)?;
        let Manifest { vocabulary, bos, .. } = manifest;
        if bos as usize >= vocabulary || manifest.token_bytes != shard::width(vocabulary) {
            let reason = "its vocabulary, BOS and bytes a token contradict each other";
            return Err(LabError::malformed(directory.join(super::manifest::MANIFEST_FILE), reason));
        }
        let path = directory.join(TOKENIZER_FILE);
        let tokenizer = fs::read_to_string(&path).map_err(|error| shard::unreadable(&path, error))?;
        if hex::encode(Sha256::digest(&tokenizer)) != manifest.tokenizer_sha256 {
            let reason = "its SHA-256 is not the one in data.json; prepare the data again";
            return Err(LabError::malformed(path, reason));
        }
        let split = |shard: &shard::Shard| -> Result<Windows, LabError> {
            let (tokens, starts) = shard::open(directory, shard, vocabulary)?;
            let name = directory.join(&shard.tokens_file).display().to_string();
            Ok(Windows::new(name, tokens, starts, packing, heads, bos))
        };
        let (training, held_out) = (split(&manifest.train)?, split(&manifest.val)?);
        let sha256 = hex::encode(digest(&[
            b"prepared",
            manifest.tokenizer_sha256.as_bytes(),
            manifest.train.tokens_sha256.as_bytes(),
            manifest.val.tokens_sha256.as_bytes(),
        ]));
        let identity = Identity { source: directory.display().to_string(), sha256 };
        Ok(Self { training, held_out, vocabulary, bos, tokenizer, identity })
    }

    /// The text inside the binary, each paragraph a document, in a vocabulary learnt from it.
    pub(super) fn built_in(vocabulary: usize, packing: Packing, heads: bool) -> Result<Self, LabError> {
        let mut batch = documents::Documents::default();
        let mut give = |part: Part<'_>| {
            batch.add(part, documents::lot(0, part.text));
            Ok(())
        };
        Cutter::new(Separator::BlankLine).cut(SAMPLE_TEXT, &mut give)?;
        let share = (BUILT_IN_HELD_OUT * u64::MAX as f64) as u64;
        let held_out = |index: usize| batch.pieces()[index].lot <= share;
        let words = Words::new()?;
        let mut counts = Counts::default();
        counts.add(&words, &batch, |index| !held_out(index));
        let tokenizer = bpe::learn(&counts, vocabulary)?;
        let encoder = Encoder::new(&tokenizer, &words, &counts)?;

        let mut splits = [(Vec::new(), vec![0_u64]), (Vec::new(), vec![0])];
        for encoded in encoder.encode(&batch)?.into_iter().flatten() {
            let (tokens, starts) = &mut splits[usize::from(encoded.piece.lot <= share)];
            tokens.extend(encoded.ids);
            starts.push(tokens.len() as u64);
        }
        let [training, held_out] = splits.map(|(tokens, starts)| {
            Windows::new(BUILT_IN_NAME.to_owned(), Tokens::Memory(tokens), starts, packing, heads, bpe::BOS_ID)
        });
        let tokenizer = tokenizer_text(&tokenizer)?;
        let sha256 = hex::encode(digest(&[b"built-in", tokenizer.as_bytes(), SAMPLE_TEXT.as_bytes()]));
        let identity = Identity { source: BUILT_IN_NAME.to_owned(), sha256 };
        Ok(Self { training, held_out, vocabulary, bos: bpe::BOS_ID, tokenizer, identity })
    }

    /// As [`super::Source::training`].
    pub(super) fn training(&self, seed: u64, step: u64, sequences: usize, seq_len: usize) -> Result<Batch, LabError> {
        let count = u128::from(self.training.check(1, seq_len)?);
        let first = u128::from(step) * sequences as u128;
        let windows = (first..first + sequences as u128).map(|number| {
            let (epoch, place) = ((number / count) as u64, (number % count) as u64);
            Permutation::new(count as u64, seed, epoch).at(place)
        });
        self.training.batch(windows, seq_len)
    }

    /// As [`super::Source::held_out`].
    pub(super) fn held_out(&self, sequences: usize, seq_len: usize) -> Result<Batch, LabError> {
        let whole = self.held_out.whole(sequences, seq_len)?;
        self.held_out.batch((0..sequences).map(|number| whole[number * whole.len() / sequences]), seq_len)
    }
}
