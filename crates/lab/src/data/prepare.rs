//! From text files to a vocabulary and files of tokens, in two walks over the text.
//!
//! The first walk counts words, the vocabulary is learnt from the counts, the second walk encodes. A thread of its own
//! reads ahead, all cores count and encode, and what is in memory are a few batches of 4 MiB and the counts of at most
//! 2^20 different words, whatever the size of the corpus. Batches are cut by size and merged in order, so every file
//! is the same for any number of threads.
//!
//! Whether a document is held out is decided by the SHA-256 of its beginning and the seed: equal documents fall on the
//! same side, and adding files moves no document as long as a share of documents is held out. A share of the text takes another walk,
//! which finds where that share ends. The vocabulary is learnt from the others alone.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use tokenizers::Tokenizer;

use super::bpe::{self, BOS, BOS_ID};
use super::documents::{self, Documents, Input};
use super::encoder::Encoder;
use super::manifest::{LAYOUT, MANIFEST_FILE, Manifest, TOKENIZER_CONFIG_FILE, TOKENIZER_FILE};
use super::separator::Separator;
use super::shard::{self, Finished, Hashed, Writer};
use super::words::{Counts, Words};
use crate::LabError;
use crate::files::sweep;

/// The share of documents held out where the request does not say.
pub const DEFAULT_HELD_OUT: f64 = 0.05;

/// The largest share that can be held out.
pub const MOST_HELD_OUT: f64 = 0.5;

/// How much is held out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum HeldOut {
    /// A share of the documents, however long they are.
    Documents(f64),
    /// A share of the bytes of text, as nearly as whole documents allow.
    Text(f64),
}

impl HeldOut {
    /// The share, from 0 to [`MOST_HELD_OUT`].
    pub fn share(self) -> f64 {
        match self {
            Self::Documents(share) | Self::Text(share) => share,
        }
    }
}

impl Default for HeldOut {
    fn default() -> Self {
        Self::Documents(DEFAULT_HELD_OUT)
    }
}

/// Bits of a document's lot by which a share of the text is found.
const LOT_BITS: u32 = 20;

/// What is to be prepared.
#[derive(Debug, Clone)]
pub struct PrepareRequest {
    /// Files that [`document::read`](sinkscope_sources::data::document::read) reads, or directories of them.
    pub inputs: Vec<PathBuf>,
    /// The field of JSON or column of Parquet that holds the text.
    pub text_field: String,
    /// Where it goes: a directory that is empty or not there.
    pub out: PathBuf,
    /// Number of tokens of the vocabulary, BOS and the 256 bytes included.
    pub vocabulary: usize,
    /// What ends a document of a `.txt` file.
    pub separator: Separator,
    /// How much to hold out; at least one document is.
    pub held_out: HeldOut,
    /// Seed of the choice.
    pub seed: u64,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Counting words, in so many bytes of text so far.
    Counting(u64),
    /// Learning the vocabulary.
    Learning,
    /// Encoding: so many bytes of text so far, of so many.
    Encoding(u64, u64),
}

/// Prepared data under temporary names; dropped, it is gone.
#[derive(Debug)]
pub struct Staged {
    manifest: Manifest,
    out: PathBuf,
    files: Vec<Finished>,
}

/// Prepares data. [`Staged::commit`] gives the files their names.
///
/// # Memory
/// Does not depend on the size of the corpus, but for single lines of `.jsonl` and rows of `.parquet`, which are whole in
/// memory, and for `.parquet.gz` and `.parquet.zst`, which are unpacked in memory.
///
/// # Errors
/// If the request is out of range or `out` is not empty; if a file cannot be read, is not what its extension says or
/// changes meanwhile; if there are fewer than two different documents or less text than the vocabulary needs; if a file
/// cannot be written. Nothing is left behind but perhaps the directory.
pub fn prepare(request: &PrepareRequest, progress: &dyn Fn(Stage)) -> Result<Staged, LabError> {
    let share = request.held_out.share();
    if !(0.0..=MOST_HELD_OUT).contains(&share) {
        let reason = format!("a held-out share of {share} is not a number from 0 to {MOST_HELD_OUT}");
        return Err(LabError::Request(reason));
    }
    bpe::check_size(request.vocabulary)?;
    check_empty(&request.out)?;
    let files = documents::files(&request.inputs)?;
    let words = Words::new()?;

    let walk = Walk { files: &files, request, progress };
    let census = walk.census(&words)?;
    progress(Stage::Learning);
    let tokenizer = bpe::learn(&census.counts, request.vocabulary)?;
    let encoder = Encoder::new(&tokenizer, &words, &census.counts)?;

    fs::create_dir_all(&request.out).map_err(|error| LabError::io(&request.out, error))?;
    let [mut train, mut val] = [
        Writer::create(&request.out, "train", request.vocabulary)?,
        Writer::create(&request.out, "val", request.vocabulary)?,
    ];
    let (mut done, mut held_out_bytes) = (0, 0);
    let inputs = walk.read(|batch| {
        for encoded in encoder.encode(&batch)?.iter().flatten() {
            let held_out = encoded.piece.lot <= census.last_held_out;
            let split = if held_out { &mut val } else { &mut train };
            split.write(&encoded.ids, encoded.piece.continues)?;
            held_out_bytes += if held_out { encoded.bytes } else { 0 };
        }
        done += batch.bytes();
        progress(Stage::Encoding(done, census.bytes));
        Ok(())
    })?;
    if let Some((changed, _)) = inputs.iter().zip(&census.inputs).find(|(now, before)| now != before) {
        return Err(LabError::malformed(&changed.path, "changed while it was read; prepare the data again"));
    }

    let (train, [train_tokens, train_index]) = train.finish()?;
    let (val, [val_tokens, val_index]) = val.finish()?;
    let (tokenizer_sha256, tokenizer, config) = write_tokenizer(&request.out, &tokenizer)?;
    let manifest = Manifest {
        layout: LAYOUT,
        vocabulary: request.vocabulary,
        bos: BOS_ID,
        token_bytes: shard::width(request.vocabulary),
        tokenizer_sha256,
        held_out_share: share,
        held_out_of_text: matches!(request.held_out, HeldOut::Text(_)),
        seed: request.seed,
        document_separator: request.separator,
        bytes: census.bytes,
        held_out_bytes,
        train,
        val,
        inputs,
    };
    let files = vec![train_tokens, train_index, val_tokens, val_index, tokenizer, config];
    Ok(Staged { manifest, out: request.out.clone(), files })
}

impl Staged {
    /// What it is.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Gives the files their names, `data.json` last, and makes that last on disk. `text` is that file's: an object with the
    /// manifest as `results`.
    ///
    /// # Errors
    /// If a file cannot be written or take its place.
    pub fn commit(self, text: &[u8]) -> Result<Manifest, LabError> {
        let mut file = Hashed::create(&self.out, MANIFEST_FILE)?;
        file.write(text)?;
        let (_, record) = file.finish()?;
        for file in self.files.into_iter().chain([record]) {
            file.persist()?;
        }
        if cfg!(unix) {
            let synced = fs::File::open(&self.out).and_then(|directory| directory.sync_all());
            synced.map_err(|error| LabError::io(&self.out, error))?;
        }
        Ok(self.manifest)
    }
}

/// What the first walk finds.
struct Census {
    counts: Counts,
    inputs: Vec<Input>,
    bytes: u64,
    /// Documents whose lot is at most this are held out.
    last_held_out: u64,
}

/// What every walk over the text has in common.
struct Walk<'a> {
    files: &'a [PathBuf],
    request: &'a PrepareRequest,
    progress: &'a dyn Fn(Stage),
}

impl Walk<'_> {
    /// Hands every batch to `take`, in order.
    fn read(&self, take: impl FnMut(Documents) -> Result<(), LabError>) -> Result<Vec<Input>, LabError> {
        let PrepareRequest { text_field, separator, seed, .. } = self.request;
        documents::read(self.files, text_field, *separator, *seed, take)
    }

    fn census(&self, words: &Words) -> Result<Census, LabError> {
        let share = match self.request.held_out {
            // As good as exact, and u64::MAX for no share below 1.
            HeldOut::Documents(share) => (share * u64::MAX as f64) as u64,
            HeldOut::Text(share) => self.share_of_text(share)?,
        };
        let (first, lots) = self.count(words, share)?;
        // Of few documents, the share may be none or all of them. Then one is, or all but one are, held out.
        let last_held_out = match lots {
            None => return Err(LabError::Request(format!("{}: there is no text in it", named(self.files)))),
            Some((least, most)) if least == most => {
                let reason = "one to train on and one to hold out are needed; give more, or have a .txt file cut into \
                              documents another way (--document-separator blank-line)";
                let files = named(self.files);
                return Err(LabError::Request(format!("{files}: it holds a single document; {reason}")));
            }
            Some((least, most)) => share.clamp(least, most - 1),
        };
        if last_held_out == share { Ok(first) } else { Ok(self.count(words, last_held_out)?.0) }
    }

    /// The largest lot in the first documents, by lot, that make up a share of all bytes.
    fn share_of_text(&self, share: f64) -> Result<u64, LabError> {
        let (mut bytes, mut total) = (vec![0_u64; 1 << LOT_BITS], 0);
        self.read(|batch| {
            for (index, piece) in batch.pieces().iter().enumerate() {
                bytes[(piece.lot >> (64 - LOT_BITS)) as usize] += batch.text(index).len() as u64;
            }
            total += batch.bytes();
            (self.progress)(Stage::Counting(total));
            Ok(())
        })?;
        let wanted = share * total as f64;
        let (mut so_far, mut held_out, mut nearest) = (0, None, wanted);
        for (lots, bytes) in bytes.into_iter().enumerate().filter(|&(_, bytes)| bytes > 0) {
            so_far += bytes;
            let distance = (so_far as f64 - wanted).abs();
            if distance < nearest {
                (nearest, held_out) = (distance, Some(lots as u64));
            }
        }
        Ok(held_out.map_or(0, |lots| lots << (64 - LOT_BITS) | (u64::MAX >> LOT_BITS)))
    }

    /// Counts the words of the documents whose lot is above `held_out`; the least and the largest lot.
    fn count(&self, words: &Words, held_out: u64) -> Result<(Census, Option<(u64, u64)>), LabError> {
        let (mut counts, mut bytes, mut lots) = (Counts::default(), 0, None);
        let inputs = self.read(|batch| {
            for piece in batch.pieces() {
                let (least, most) = lots.unwrap_or((piece.lot, piece.lot));
                lots = Some((piece.lot.min(least), piece.lot.max(most)));
            }
            counts.add(words, &batch, |index| batch.pieces()[index].lot > held_out);
            bytes += batch.bytes();
            (self.progress)(Stage::Counting(bytes));
            Ok(())
        })?;
        Ok((Census { counts, inputs, bytes, last_held_out: held_out }, lots))
    }
}

fn named(files: &[PathBuf]) -> String {
    match files {
        [] => String::new(),
        [file] => file.display().to_string(),
        [first, others @ ..] => format!("{} and {} more files", first.display(), others.len()),
    }
}

fn check_empty(out: &Path) -> Result<(), LabError> {
    let entries = match sweep(out).and_then(|()| fs::read_dir(out)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(LabError::io(out, error)),
    };
    if entries.count() > 0 {
        let reason = "the output directory is not empty; name another, or remove what is in it";
        return Err(LabError::Request(format!("{}: {reason}", out.display())));
    }
    Ok(())
}

/// `tokenizer.json`, its digest, and what `transformers` needs beside it.
fn write_tokenizer(out: &Path, tokenizer: &Tokenizer) -> Result<(String, Finished, Finished), LabError> {
    let text = tokenizer_text(tokenizer)?;
    let mut file = Hashed::create(out, TOKENIZER_FILE)?;
    file.write(text.as_bytes())?;
    let (sha256, tokenizer) = file.finish()?;
    let mut file = Hashed::create(out, TOKENIZER_CONFIG_FILE)?;
    file.write(tokenizer_config(None).as_bytes())?;
    let (_, config) = file.finish()?;
    Ok((sha256, tokenizer, config))
}

/// The tokeniser as its file has it.
pub(super) fn tokenizer_text(tokenizer: &Tokenizer) -> Result<String, LabError> {
    let text = tokenizer.to_string(true);
    text.map(|text| text + "\n").map_err(|error| LabError::Request(format!("the tokeniser cannot be written: {error}")))
}

/// What `tokenizer_config.json` says; `adds_bos`: whether a text begins with BOS, which is open until a model was trained.
pub fn tokenizer_config(adds_bos: Option<bool>) -> String {
    let mut config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS,
        "eos_token": BOS,
        "clean_up_tokenization_spaces": false,
    });
    if let Some(adds_bos) = adds_bos {
        config["add_bos_token"] = adds_bos.into();
    }
    format!("{config:#}\n")
}
