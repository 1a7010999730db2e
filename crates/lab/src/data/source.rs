//! Batches for a trainer.

use std::path::PathBuf;

use super::batch::Batch;
use super::bigram_backcopy::{BigramBackcopy, BigramBackcopyTask};
use super::identity::Identity;
use super::packing::Packing;
use super::text::Text;
use crate::LabError;

/// Where tokens come from.
#[derive(Debug, Clone, PartialEq)]
pub enum SourceKind {
    /// A directory that [`super::prepare()`] made.
    Prepared {
        /// The directory.
        directory: PathBuf,
    },
    /// The text inside the binary, in a vocabulary learnt from it; 257 is bytes alone.
    BuiltIn {
        /// Number of tokens, BOS and the 256 bytes included.
        vocabulary: usize,
    },
    /// The synthetic task.
    BigramBackcopy(BigramBackcopyTask),
}

/// What is wanted of it.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceRequest {
    /// Where tokens come from.
    pub kind: SourceKind,
    /// How documents become sequences. Of no meaning to the synthetic task, whose sequences stand alone.
    pub packing: Packing,
    /// Whether each sequence begins with BOS. Those of the synthetic task always do.
    pub bos: bool,
    /// Seed of the order in which training sequences come; of the synthetic task, of the sequences themselves.
    pub seed: u64,
}

/// Batches for a trainer: each a function of the request and the number of the step, nothing else.
#[derive(Debug)]
pub struct Source {
    origin: Origin,
    seed: u64,
}

#[derive(Debug)]
enum Origin {
    Text(Box<Text>),
    BigramBackcopy(Box<BigramBackcopy>),
}

impl Source {
    /// Opens a source. A prepared directory is read whole, to check that nothing in it is damaged.
    ///
    /// # Errors
    /// If a file is missing or damaged, or the request is out of range.
    pub fn open(request: &SourceRequest) -> Result<Self, LabError> {
        let SourceRequest { packing, bos, seed, .. } = *request;
        let origin = match &request.kind {
            SourceKind::Prepared { directory } => Origin::Text(Box::new(Text::open(directory, packing, bos)?)),
            SourceKind::BuiltIn { vocabulary } => Origin::Text(Box::new(Text::built_in(*vocabulary, packing, bos)?)),
            SourceKind::BigramBackcopy(task) => Origin::BigramBackcopy(Box::new(BigramBackcopy::new(task)?)),
        };
        Ok(Self { origin, seed })
    }

    /// Number of tokens: ids from 0 to below it.
    pub fn vocabulary(&self) -> usize {
        match &self.origin {
            Origin::Text(text) => text.vocabulary,
            Origin::BigramBackcopy(task) => task.vocabulary(),
        }
    }

    /// The id of the token that begins documents and, where wanted, sequences.
    pub fn bos(&self) -> u32 {
        match &self.origin {
            Origin::Text(text) => text.bos,
            Origin::BigramBackcopy(task) => task.bos(),
        }
    }

    /// Which data this is, for records.
    pub fn identity(&self) -> &Identity {
        match &self.origin {
            Origin::Text(text) => &text.identity,
            Origin::BigramBackcopy(task) => task.identity(),
        }
    }

    /// The content of a `tokenizer.json`, for checkpoints; `None` of the synthetic task, whose tokens are no text.
    pub fn tokenizer(&self) -> Option<&str> {
        match &self.origin {
            Origin::Text(text) => Some(&text.tokenizer),
            Origin::BigramBackcopy(_) => None,
        }
    }

    /// The batch of a step (from 0): `sequences` of `seq_len` tokens.
    ///
    /// Of text, the sequences of all steps, one after the other, go through all windows of the text in a random order, then
    /// through all in another, and so on.
    ///
    /// # Errors
    /// If there is less text than one sequence, if a sequence has fewer than two tokens, or the tokens cannot be read.
    pub fn training(&self, step: u64, sequences: usize, seq_len: usize) -> Result<Batch, LabError> {
        check_shape(sequences, seq_len)?;
        match &self.origin {
            Origin::Text(text) => text.training(self.seed, step, sequences, seq_len),
            Origin::BigramBackcopy(task) => task.training(self.seed, step, sequences, seq_len),
        }
    }

    /// A fixed batch of sequences that are in no training batch, evenly spread over the documents held out. Of the synthetic
    /// task: from another stream of random numbers than any training batch.
    ///
    /// # Errors
    /// If there is less text held out than that, if a sequence has fewer than two tokens, or the tokens cannot be read.
    pub fn held_out(&self, sequences: usize, seq_len: usize) -> Result<Batch, LabError> {
        check_shape(sequences, seq_len)?;
        match &self.origin {
            Origin::Text(text) => text.held_out(sequences, seq_len),
            Origin::BigramBackcopy(task) => Ok(task.held_out(sequences, seq_len)),
        }
    }
}

fn check_shape(sequences: usize, seq_len: usize) -> Result<(), LabError> {
    if sequences == 0 {
        return Err(LabError::Request("a batch of 0 sequences was asked for; at least 1 is needed".to_owned()));
    }
    if seq_len < 2 {
        let reason = format!("a sequence length of {seq_len} was asked for; at least 2 tokens are needed");
        return Err(LabError::Request(reason));
    }
    Ok(())
}
