//! Files of tokens: what one is, how it is written, and how it is read.
//!
//! `train.bin` and `val.bin` are nothing but token ids, little-endian, 16 bits each (32 if the vocabulary exceeds
//! 65,535), so that whoever maps such a file as an array, as nanoGPT does, reads tokens from its first byte to its last.
//! A header in front would be read as tokens. What a header says stands beside it: `data.json` has the width, the
//! number of tokens and documents and the SHA-256 of every file, and `train.idx` and `val.idx` have, as 64-bit
//! little-endian numbers, where each document begins (in tokens), and at last where the last one ends.
//!
//! One file a split is enough for any size: readers map it or read the part they need.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use crate::LabError;
use crate::files::{HashingWriter, temporary};

/// The largest vocabulary whose ids are stored in 16 bits.
pub const MOST_SHORT_VOCABULARY: usize = 65_535;

/// What stands in a file of tokens and its index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Shard {
    /// The file of tokens, in the directory.
    pub tokens_file: String,
    /// The file of document starts.
    pub index_file: String,
    /// Number of tokens, BOS tokens included.
    pub tokens: u64,
    /// Number of documents.
    pub documents: u64,
    /// SHA-256 of the file of tokens, in lower-case hexadecimal.
    pub tokens_sha256: String,
    /// SHA-256 of the index.
    pub index_sha256: String,
}

/// Bytes a token.
pub(super) fn width(vocabulary: usize) -> usize {
    if vocabulary > MOST_SHORT_VOCABULARY { 4 } else { 2 }
}

/// A file under a temporary name, hashed while it is written.
pub(super) struct Hashed {
    place: PathBuf,
    file: HashingWriter<NamedTempFile>,
}

impl Hashed {
    /// Begins a file that is to be `name` in `directory`.
    pub(super) fn create(directory: &Path, name: &str) -> Result<Self, LabError> {
        let place = directory.join(name);
        let file = temporary(directory, name).map_err(|error| LabError::io(&place, error))?;
        Ok(Self { place, file: HashingWriter::new(file) })
    }

    /// Adds bytes.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), LabError> {
        self.file.write_all(bytes).map_err(|error| LabError::io(&self.place, error))
    }

    /// Makes what was written last on disk. Its digest, and what gives it its name.
    pub(super) fn finish(self) -> Result<(String, Finished), LabError> {
        let Self { place, file } = self;
        let synced = file.finish().and_then(|(file, digest)| file.as_file().sync_all().map(|()| (file, digest)));
        let (file, digest) = synced.map_err(|error| LabError::io(&place, error))?;
        Ok((digest, Finished { place, file }))
    }
}

/// A whole file that has not got its name yet.
#[derive(Debug)]
pub(super) struct Finished {
    place: PathBuf,
    file: NamedTempFile,
}

impl Finished {
    /// Gives it its name.
    pub(super) fn persist(self) -> Result<(), LabError> {
        self.file.persist(&self.place).map(drop).map_err(|error| LabError::io(&self.place, error.error))
    }
}

/// A split on its way to disk.
pub(super) struct Writer {
    split: &'static str,
    tokens: Hashed,
    index: Hashed,
    width: usize,
    written: u64,
    documents: u64,
    buffer: Vec<u8>,
}

impl Writer {
    /// Begins `SPLIT.bin` and `SPLIT.idx`.
    pub(super) fn create(directory: &Path, split: &'static str, vocabulary: usize) -> Result<Self, LabError> {
        Ok(Self {
            split,
            tokens: Hashed::create(directory, &format!("{split}.bin"))?,
            index: Hashed::create(directory, &format!("{split}.idx"))?,
            width: width(vocabulary),
            written: 0,
            documents: 0,
            buffer: Vec::new(),
        })
    }

    /// Adds the tokens of a document, or of a further part of the last one.
    pub(super) fn write(&mut self, ids: &[u32], continues: bool) -> Result<(), LabError> {
        if !continues {
            self.index.write(&self.written.to_le_bytes())?;
            self.documents += 1;
        }
        self.buffer.clear();
        for id in ids {
            self.buffer.extend_from_slice(&id.to_le_bytes()[..self.width]);
        }
        self.written += ids.len() as u64;
        self.tokens.write(&self.buffer)
    }

    /// Ends both files.
    pub(super) fn finish(mut self) -> Result<(Shard, [Finished; 2]), LabError> {
        self.index.write(&self.written.to_le_bytes())?;
        let (tokens_sha256, tokens) = self.tokens.finish()?;
        let (index_sha256, index) = self.index.finish()?;
        let shard = Shard {
            tokens_file: format!("{}.bin", self.split),
            index_file: format!("{}.idx", self.split),
            tokens: self.written,
            documents: self.documents,
            tokens_sha256,
            index_sha256,
        };
        Ok((shard, [tokens, index]))
    }
}

/// Tokens of which any range can be read.
#[derive(Debug)]
pub(super) enum Tokens {
    /// In a file.
    File {
        /// Where it is.
        path: PathBuf,
        /// The file; its position is nobody's for long.
        file: Mutex<File>,
        /// Bytes a token.
        width: usize,
        /// Number of tokens.
        count: u64,
    },
    /// In memory.
    Memory(Vec<u32>),
}

impl Tokens {
    /// Number of tokens.
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::File { count, .. } => *count,
            Self::Memory(ids) => ids.len() as u64,
        }
    }

    /// The `count` tokens from `start` on, fewer at the end.
    pub(super) fn read(&self, start: u64, count: usize) -> Result<Vec<u32>, LabError> {
        let start = start.min(self.len());
        let count = (self.len() - start).min(count as u64) as usize;
        match self {
            Self::Memory(ids) => Ok(ids[start as usize..start as usize + count].to_vec()),
            Self::File { path, file, width, .. } => {
                let mut bytes = vec![0; count * width];
                {
                    // A thread that failed while it held the file has left nothing half-done in it.
                    let mut file = file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    file.seek(SeekFrom::Start(start * *width as u64))
                        .and_then(|_| file.read_exact(&mut bytes))
                        .map_err(|error| LabError::io(path, error))?;
                }
                Ok(bytes.chunks_exact(*width).map(id).collect())
            }
        }
    }
}

/// A token of two or four bytes.
fn id(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |id, &byte| id << 8 | u32::from(byte))
}

/// Opens a split of a prepared directory, and checks it whole: sizes, digests, ids, document starts.
pub(super) fn open(directory: &Path, shard: &Shard, vocabulary: usize) -> Result<(Tokens, Vec<u64>), LabError> {
    let width = width(vocabulary);
    let path = directory.join(&shard.tokens_file);
    let mut largest = 0;
    check(&path, shard.tokens * width as u64, &shard.tokens_sha256, |block| {
        largest = block.chunks_exact(width).map(id).fold(largest, u32::max);
    })?;
    if largest as usize >= vocabulary {
        let reason = format!("holds the token id {largest}, outside the vocabulary of {vocabulary} (ids from 0)");
        return Err(LabError::malformed(path, reason));
    }

    let index_path = directory.join(&shard.index_file);
    let mut starts = Vec::new();
    check(&index_path, (shard.documents + 1) * 8, &shard.index_sha256, |block| {
        starts.extend(
            block
                .chunks_exact(8)
                .map(|bytes| bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))),
        );
    })?;
    let ordered = starts.first() == Some(&0) && starts.windows(2).all(|pair| pair[0] < pair[1]);
    if !ordered || starts.last() != Some(&shard.tokens) {
        let reason = "its document starts do not lead from 0 up to the number of tokens";
        return Err(LabError::malformed(index_path, reason));
    }
    let file = File::open(&path).map_err(|error| LabError::io(&path, error))?;
    Ok((Tokens::File { path, file: Mutex::new(file), width, count: shard.tokens }, starts))
}

/// Of a file that should be in a prepared directory.
pub(super) fn unreadable(path: &Path, error: std::io::Error) -> LabError {
    if error.kind() == std::io::ErrorKind::NotFound {
        return LabError::malformed(path, "is missing, though data.json names it; prepare the data again");
    }
    LabError::io(path, error)
}

/// Reads a file whole and compares its size and digest. Blocks are of whole tokens and starts.
fn check(path: &Path, size: u64, sha256: &str, mut see: impl FnMut(&[u8])) -> Result<(), LabError> {
    let failed = |error| LabError::io(path, error);
    let mut file = File::open(path).map_err(|error| unreadable(path, error))?;
    let found = file.metadata().map_err(failed)?.len();
    if found != size {
        let reason = format!("has {found} bytes, but data.json says {size}; prepare the data again");
        return Err(LabError::malformed(path, reason));
    }
    let (mut hasher, mut block, mut left) = (Sha256::new(), vec![0; 1 << 20], size);
    while left > 0 {
        let count = left.min(block.len() as u64) as usize;
        file.read_exact(&mut block[..count]).map_err(failed)?;
        hasher.update(&block[..count]);
        see(&block[..count]);
        left -= count as u64;
    }
    if hex::encode(hasher.finalize()) != sha256 {
        let reason =
            "its SHA-256 is not the one in data.json: the file is damaged or of another run; prepare the data again";
        return Err(LabError::malformed(path, reason));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes two documents, the first in two parts, and opens them.
    fn written(home: &Path, vocabulary: usize, largest: u32) -> Result<(Shard, Tokens, Vec<u64>), LabError> {
        let mut writer = Writer::create(home, "train", vocabulary)?;
        writer.write(&[0, 1, 258], false)?;
        writer.write(&[7], true)?;
        writer.write(&[0, largest], false)?;
        let (shard, files) = writer.finish()?;
        for file in files {
            file.persist()?;
        }
        let (tokens, starts) = open(home, &shard, vocabulary)?;
        Ok((shard, tokens, starts))
    }

    #[test]
    fn ids_above_16_bits_take_32() -> Result<(), LabError> {
        for (vocabulary, largest, bytes) in
            [(300, 299, 2), (65_535, 65_534, 2), (65_536, 65_535, 4), (70_000, 69_999, 4)]
        {
            let home = tempfile::tempdir().map_err(|error| LabError::io("a directory", error))?;
            let (shard, tokens, starts) = written(home.path(), vocabulary, largest)?;
            assert_eq!((shard.tokens, shard.documents, starts), (6, 2, vec![0, 4, 6]));
            let size = std::fs::metadata(home.path().join("train.bin")).map(|metadata| metadata.len());
            assert_eq!(size.ok(), Some(6 * bytes), "{vocabulary}");
            assert_eq!(tokens.read(0, 9)?, [0, 1, 258, 7, 0, largest]);
            assert_eq!(tokens.read(2, 3)?, [258, 7, 0]);
            assert_eq!(tokens.read(5, 1)?, [largest]);
            assert_eq!(tokens.read(8, 1)?, [0; 0]);
        }
        Ok(())
    }

    #[test]
    fn ids_outside_the_vocabulary_are_found() {
        let home = tempfile::tempdir().expect("a directory");
        let message = written(home.path(), 300, 300).expect_err("299 is the last").to_string();
        assert!(message.contains("token id 300, outside the vocabulary of 300"), "{message}");
    }
}
