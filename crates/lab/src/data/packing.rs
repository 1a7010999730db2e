//! How documents become sequences.

use std::sync::{Arc, Mutex, PoisonError};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::batch::{Batch, IGNORED};
use super::shard::Tokens;
use crate::LabError;

/// How documents become sequences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Packing {
    /// One stream of all documents, each beginning with BOS, is cut into sequences; where one ends, the next begins. This
    /// is how the paper, and most of pre-training, packs. The end of a document is predicted, as the BOS of the next.
    #[default]
    Stream,
    /// A sequence holds one document, or a part of a long one; the end of a document is not predicted. What is left of a
    /// sequence is filled with BOS, its targets [`IGNORED`].
    Document,
}

/// Tokens with their document starts, cut into windows: the sequences that they can give.
#[derive(Debug)]
pub(super) struct Windows {
    /// For messages: where the tokens are from.
    name: String,
    tokens: Tokens,
    /// Where each document begins, and where the last ends.
    starts: Vec<u64>,
    packing: Packing,
    /// Whether each sequence begins with BOS.
    heads: bool,
    bos: u32,
    /// Of document packing and the sequence length last asked for: windows in the documents before each.
    before: Mutex<Option<(usize, Arc<Vec<u64>>)>>,
}

impl Windows {
    pub(super) fn new(name: String, tokens: Tokens, starts: Vec<u64>, packing: Packing, heads: bool, bos: u32) -> Self {
        Self { name, tokens, starts, packing, heads, bos, before: Mutex::new(None) }
    }

    /// Number of windows of `seq_len` tokens.
    pub(super) fn count(&self, seq_len: usize) -> u64 {
        match self.packing {
            Packing::Stream => self.tokens.len().saturating_sub(1) / self.stride(seq_len),
            Packing::Document => self.windows_before(seq_len).last().copied().unwrap_or(0),
        }
    }

    /// The windows of those numbers, which are below [`Windows::count`], as a batch.
    pub(super) fn batch(&self, windows: impl Iterator<Item = u64>, seq_len: usize) -> Result<Batch, LabError> {
        let mut batch = Batch { sequences: 0, seq_len, inputs: Vec::new(), targets: Vec::new() };
        for window in windows {
            let sequence = match self.packing {
                Packing::Stream => self.of_stream(window, seq_len)?,
                Packing::Document => self.of_document(window, seq_len)?,
            };
            batch.sequences += 1;
            for position in 0..seq_len {
                batch.inputs.push(sequence.get(position).copied().unwrap_or(self.bos));
                batch.targets.push(sequence.get(position + 1).copied().unwrap_or(IGNORED));
            }
        }
        Ok(batch)
    }

    /// The windows that text fills to the last token, in order; an error that says how much there is, if there are fewer than
    /// `sequences`.
    pub(super) fn whole(&self, sequences: usize, seq_len: usize) -> Result<Vec<u64>, LabError> {
        let count = self.check(sequences, seq_len)?;
        if self.packing == Packing::Stream {
            return Ok((0..count).collect());
        }
        let (before, stride) = (self.windows_before(seq_len), self.stride(seq_len));
        let whole: Vec<u64> = self
            .starts
            .windows(2)
            .zip(before.iter())
            .flat_map(|(document, &first)| first..first + (document[1] - document[0] - 1) / stride)
            .collect();
        if whole.len() >= sequences {
            return Ok(whole);
        }
        let reason = format!(
            "{}: {} documents or parts of documents have {seq_len} tokens, but {sequences} are needed to look at; ask for \
             fewer or shorter ones, or prepare more text",
            self.name,
            whole.len()
        );
        Err(LabError::Request(reason))
    }

    /// An error that says how much there is, if there is no window, or fewer than `sequences`.
    pub(super) fn check(&self, sequences: usize, seq_len: usize) -> Result<u64, LabError> {
        let count = self.count(seq_len);
        if count >= sequences as u64 {
            return Ok(count);
        }
        let (tokens, documents) = (self.tokens.len(), self.starts.len() - 1);
        let reason = format!(
            "{}: gives {count} sequences of {seq_len} tokens, but {sequences} are needed ({tokens} tokens in {documents} \
             documents); ask for fewer or shorter ones, or prepare more text",
            self.name
        );
        Err(LabError::Request(reason))
    }

    /// Tokens of text in a sequence.
    fn stride(&self, seq_len: usize) -> u64 {
        (seq_len - usize::from(self.heads)) as u64
    }

    /// Up to `seq_len` tokens and the one behind them.
    fn of_stream(&self, window: u64, seq_len: usize) -> Result<Vec<u32>, LabError> {
        let mut sequence = self.tokens.read(window * self.stride(seq_len), seq_len + 1)?;
        // A window that begins where a document does has its BOS already.
        if self.heads && sequence.first() != Some(&self.bos) {
            sequence.truncate(seq_len);
            sequence.insert(0, self.bos);
        }
        Ok(sequence)
    }

    fn of_document(&self, window: u64, seq_len: usize) -> Result<Vec<u32>, LabError> {
        let before = self.windows_before(seq_len);
        let document = before.partition_point(|&count| count <= window) - 1;
        let stride = self.stride(seq_len);
        // Behind its BOS.
        let start = self.starts[document] + 1 + (window - before[document]) * stride;
        let count = (self.starts[document + 1] - start).min(stride + 1);
        let mut sequence = self.tokens.read(start, count as usize)?;
        if self.heads {
            sequence.insert(0, self.bos);
        }
        Ok(sequence)
    }

    /// Windows in the documents before each document, and in all.
    fn windows_before(&self, seq_len: usize) -> Arc<Vec<u64>> {
        let mut kept = self.before.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, before)) = kept.as_ref().filter(|(of, _)| *of == seq_len) {
            return Arc::clone(before);
        }
        let stride = self.stride(seq_len);
        let mut before = vec![0];
        let mut total = 0;
        for document in self.starts.windows(2) {
            // A sequence needs a token to predict: after BOS any, without BOS the second.
            let predicted = (document[1] - document[0] - 1).saturating_sub(u64::from(!self.heads));
            total += predicted.div_ceil(stride);
            before.push(total);
        }
        let before = Arc::new(before);
        *kept = Some((seq_len, Arc::clone(&before)));
        before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Documents `0 1 2 3`, `0 4`, `0 5 6 7 8 9`; BOS is 0.
    fn windows(packing: Packing, heads: bool) -> Windows {
        let tokens = Tokens::Memory(vec![0, 1, 2, 3, 0, 4, 0, 5, 6, 7, 8, 9]);
        Windows::new("test".to_owned(), tokens, vec![0, 4, 6, 12], packing, heads, 0)
    }

    fn all(packing: Packing, heads: bool, seq_len: usize) -> Vec<(Vec<u32>, Vec<i64>)> {
        let windows = windows(packing, heads);
        let batch = windows.batch(0..windows.count(seq_len), seq_len).expect("in memory");
        assert_eq!(batch.sequences * seq_len, batch.inputs.len());
        let target = |&target: &u32| if target == IGNORED { -1 } else { i64::from(target) };
        let rows = batch.inputs.chunks(seq_len).zip(batch.targets.chunks(seq_len));
        rows.map(|(inputs, targets)| (inputs.to_vec(), targets.iter().map(target).collect())).collect()
    }

    #[test]
    fn a_stream_is_cut_without_gaps() {
        let expected = [(vec![0, 1, 2, 3], vec![1, 2, 3, 0]), (vec![0, 4, 0, 5], vec![4, 0, 5, 6])];
        assert_eq!(all(Packing::Stream, false, 4), expected);
        let expected = [(vec![0, 1, 2], vec![1, 2, 3]), (vec![3, 0, 4], vec![0, 4, 0]), (vec![0, 5, 6], vec![5, 6, 7])];
        assert_eq!(all(Packing::Stream, false, 3), expected);
    }

    #[test]
    fn each_sequence_of_a_stream_can_begin_with_bos() {
        let expected = [
            (vec![0, 1, 2, 3], vec![1, 2, 3, 0]),
            (vec![0, 3, 0, 4], vec![3, 0, 4, 0]),
            (vec![0, 5, 6, 7], vec![5, 6, 7, 8]),
        ];
        assert_eq!(all(Packing::Stream, true, 4), expected);
    }

    #[test]
    fn the_last_window_of_a_stream_may_lack_a_target() {
        let tokens = Tokens::Memory(vec![0, 1, 0, 2]);
        let windows = Windows::new("test".to_owned(), tokens, vec![0, 2, 4], Packing::Stream, true, 0);
        assert_eq!(windows.count(3), 1);
        assert_eq!(windows.count(2), 3);
        let batch = windows.batch(0..3, 2).expect("in memory");
        assert_eq!(batch.inputs, [0, 1, 0, 1, 0, 2]);
        assert_eq!(batch.targets, [1, 0, 1, 0, 2, IGNORED]);
    }

    #[test]
    fn a_document_has_sequences_of_its_own() {
        let expected = [
            (vec![0, 1, 2, 3], vec![1, 2, 3, -1]),
            (vec![0, 4, 0, 0], vec![4, -1, -1, -1]),
            (vec![0, 5, 6, 7], vec![5, 6, 7, 8]),
            (vec![0, 8, 9, 0], vec![8, 9, -1, -1]),
        ];
        assert_eq!(all(Packing::Document, true, 4), expected);
        // Of the second document there is nothing to predict without BOS.
        let expected =
            [(vec![1, 2, 3], vec![2, 3, -1]), (vec![5, 6, 7], vec![6, 7, 8]), (vec![8, 9, 0], vec![9, -1, -1])];
        assert_eq!(all(Packing::Document, false, 3), expected);
    }

    #[test]
    fn whole_windows_hold_text_alone() {
        for (heads, seq_len, expected) in [(true, 4, vec![0, 2]), (false, 3, vec![0, 1]), (true, 3, vec![0, 3, 4])] {
            assert_eq!(windows(Packing::Document, heads).whole(1, seq_len).expect("some"), expected);
        }
        assert_eq!(windows(Packing::Stream, true).whole(1, 3).expect("some").len(), 5);
        let message = windows(Packing::Document, true).whole(3, 4).expect_err("two").to_string();
        assert!(message.starts_with("test: 2 documents or parts of documents have 4 tokens, but 3"), "{message}");
    }

    #[test]
    fn every_token_of_a_stream_is_a_target_once() {
        for seq_len in 2..8 {
            let targets: Vec<i64> = all(Packing::Stream, false, seq_len).into_iter().flat_map(|row| row.1).collect();
            let stream = [0_i64, 1, 2, 3, 0, 4, 0, 5, 6, 7, 8, 9];
            assert_eq!(targets, stream[1..=(11 / seq_len) * seq_len], "{seq_len}");
        }
    }

    #[test]
    fn too_little_text_is_said() {
        let message = windows(Packing::Stream, false).check(3, 5).expect_err("two").to_string();
        assert!(message.starts_with("test: gives 2 sequences of 5 tokens, but 3 are needed"), "{message}");
    }
}
