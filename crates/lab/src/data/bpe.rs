//! Learning a byte-level BPE vocabulary from word counts.
//!
//! The `tokenizers` crate has a trainer too. Its queue may hold one pair twice, with different words, and which of the
//! two comes first follows from randomly seeded hash maps, so two runs may learn different vocabularies; it also counts
//! in 32 bits. This one keeps every pair once and breaks ties by the pair. The vocabulary it learns is laid out as the
//! crate's (special tokens, the 256 bytes, merges in order) and is otherwise the crate's to use: model, file format and
//! encoding.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

use sinkscope_sources::tokenizer::character_of_byte;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer};

use super::words::Counts;
use crate::LabError;

/// The token at the beginning of every document.
pub const BOS: &str = "<s>";

/// Its id.
pub const BOS_ID: u32 = 0;

/// The smallest vocabulary: BOS and the 256 bytes.
pub const LEAST_VOCABULARY: usize = 257;

/// The largest vocabulary.
pub const MOST_VOCABULARY: usize = 1 << 20;

/// A pair that occurs less often is not merged.
const LEAST_COUNT: i64 = 2;

type Pair = (u32, u32);

/// Learns a vocabulary of `size` tokens, BOS and the 256 bytes included.
pub(super) fn learn(counts: &Counts, size: usize) -> Result<Tokenizer, LabError> {
    check_size(size)?;
    let mut tokens = alphabet();
    let merges = Merging::new(counts, &tokens).run(&mut tokens, size);
    if tokens.len() < size {
        let reason = format!(
            "a vocabulary of {size} was asked for, but the text supports {} tokens: no other pair of tokens occurs \
             twice; ask for fewer, or give more text",
            tokens.len()
        );
        return Err(LabError::Request(reason));
    }
    assemble(&tokens, &merges).map_err(|error| LabError::Request(format!("the vocabulary: {error}")))
}

/// Whether a vocabulary can have `size` tokens, whatever the text.
pub(super) fn check_size(size: usize) -> Result<(), LabError> {
    if size < LEAST_VOCABULARY {
        let reason = format!(
            "a vocabulary of {size} is too small: the beginning-of-sequence token and the 256 bytes alone are \
             {LEAST_VOCABULARY}"
        );
        return Err(LabError::Request(reason));
    }
    if size > MOST_VOCABULARY {
        return Err(LabError::Request(format!("a vocabulary of {size} is too large; at most {MOST_VOCABULARY}")));
    }
    Ok(())
}

/// BOS and the 256 bytes, each byte as its character of GPT-2's table, in the order of the characters.
fn alphabet() -> Vec<String> {
    let mut characters: Vec<char> = (0..=u8::MAX).map(character_of_byte).collect();
    characters.sort_unstable();
    std::iter::once(BOS.to_owned()).chain(characters.iter().map(char::to_string)).collect()
}

/// A text as the model of a byte-level vocabulary sees it.
pub(super) fn spell(text: &str) -> String {
    static TABLE: std::sync::LazyLock<[char; 256]> =
        std::sync::LazyLock::new(|| std::array::from_fn(|byte| character_of_byte(byte as u8)));
    text.bytes().map(|byte| TABLE[usize::from(byte)]).collect()
}

/// Words on their way to being few tokens.
struct Merging {
    words: Vec<Vec<u32>>,
    counts: Vec<i64>,
    pairs: HashMap<Pair, Occurrences>,
    /// The commonest pair first, of equally common ones the smallest. Counts may be out of date, and then too large.
    queue: BinaryHeap<(i64, Reverse<Pair>)>,
}

#[derive(Default)]
struct Occurrences {
    count: i64,
    /// Words in which it occurs, or did.
    words: Vec<u32>,
}

impl Merging {
    fn new(counts: &Counts, tokens: &[String]) -> Self {
        let ids: HashMap<&str, u32> = tokens.iter().map(String::as_str).zip(0..).collect();
        let of_byte: Vec<u32> =
            (0..=u8::MAX).map(|byte| ids[character_of_byte(byte).encode_utf8(&mut [0; 4]) as &str]).collect();
        let mut merging =
            Self { words: Vec::new(), counts: Vec::new(), pairs: HashMap::new(), queue: BinaryHeap::new() };
        for (index, (word, count)) in counts.sorted().into_iter().enumerate() {
            let word: Vec<u32> = word.bytes().map(|byte| of_byte[usize::from(byte)]).collect();
            for pair in word.windows(2) {
                merging.occurs((pair[0], pair[1]), index as u32, count as i64);
            }
            merging.words.push(word);
            merging.counts.push(count as i64);
        }
        merging.queue = merging.pairs.iter().map(|(&pair, occurrences)| (occurrences.count, Reverse(pair))).collect();
        merging
    }

    fn occurs(&mut self, pair: Pair, word: u32, count: i64) {
        let occurrences = self.pairs.entry(pair).or_default();
        occurrences.count += count;
        if occurrences.words.last() != Some(&word) {
            occurrences.words.push(word);
        }
    }

    /// Merges until there are `size` tokens or nothing is left to merge. Returns the merges in order.
    fn run(mut self, tokens: &mut Vec<String>, size: usize) -> Vec<Pair> {
        let mut ids: HashMap<String, u32> = tokens.iter().cloned().zip(0..).collect();
        let (mut known, mut merges) = (HashSet::new(), Vec::new());
        while tokens.len() < size {
            let Some((count, Reverse(pair))) = self.queue.pop() else { break };
            let current = self.pairs.get(&pair).map_or(0, |occurrences| occurrences.count);
            if current != count {
                if current > 0 {
                    self.queue.push((current, Reverse(pair)));
                }
                continue;
            }
            if count < LEAST_COUNT {
                break;
            }
            // The same token may come about in two ways; it is one token.
            let token = format!("{}{}", tokens[pair.0 as usize], tokens[pair.1 as usize]);
            let id = *ids.entry(token).or_insert_with_key(|token| {
                tokens.push(token.clone());
                tokens.len() as u32 - 1
            });
            // A pair may come back, too, when one of its tokens comes about in another way.
            if known.insert(pair) {
                merges.push(pair);
            }
            self.merge(pair, id);
        }
        merges
    }

    /// Makes every occurrence of `pair` the token `id`.
    fn merge(&mut self, pair: Pair, id: u32) {
        let Some(Occurrences { words, .. }) = self.pairs.remove(&pair) else { return };
        let mut grown = Vec::new();
        for word in words {
            let symbols = &self.words[word as usize];
            let merged = merged(symbols, pair, id);
            if merged.len() == symbols.len() {
                continue;
            }
            let mut changes: Vec<(Pair, i64)> = symbols.windows(2).map(|old| ((old[0], old[1]), -1)).collect();
            changes.extend(merged.windows(2).map(|new| ((new[0], new[1]), 1)));
            changes.sort_unstable();
            self.words[word as usize] = merged;
            let count = self.counts[word as usize];
            for of_pair in changes.chunk_by(|one, other| one.0 == other.0) {
                let (changed, times) = (of_pair[0].0, of_pair.iter().map(|change| change.1).sum::<i64>());
                if times > 0 {
                    self.occurs(changed, word, times * count);
                    grown.push(changed);
                } else if let Some(occurrences) = self.pairs.get_mut(&changed) {
                    occurrences.count += times * count;
                }
            }
        }
        grown.sort_unstable();
        grown.dedup();
        for pair in grown {
            if let Some(occurrences) = self.pairs.get(&pair) {
                self.queue.push((occurrences.count, Reverse(pair)));
            }
        }
    }
}

/// `symbols` with every occurrence of `pair`, from the left, made `id`.
fn merged(symbols: &[u32], pair: Pair, id: u32) -> Vec<u32> {
    let (mut merged, mut at) = (Vec::with_capacity(symbols.len()), 0);
    while at < symbols.len() {
        let here = symbols.get(at + 1).is_some_and(|&next| (symbols[at], next) == pair);
        merged.push(if here { id } else { symbols[at] });
        at += if here { 2 } else { 1 };
    }
    merged
}

/// The vocabulary as a tokeniser of the crate: GPT-2's cut, no other step, BOS a special token that is not added.
fn assemble(tokens: &[String], merges: &[Pair]) -> tokenizers::Result<Tokenizer> {
    let spelled = |id: u32| tokens[id as usize].clone();
    let vocabulary: Vocab = tokens.iter().cloned().zip(0..).collect();
    let merges = merges.iter().map(|&(left, right)| (spelled(left), spelled(right))).collect();
    let model = BPE::builder().vocab_and_merges(vocabulary, merges).build()?;
    let mut tokenizer = Tokenizer::new(model);
    tokenizer.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
    tokenizer.with_decoder(Some(ByteLevel::default()));
    tokenizer.add_special_tokens(&[AddedToken::from(BOS, true).normalized(false)]);
    Ok(tokenizer)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use sinkscope_sources::data::SAMPLE_TEXT;
    use tokenizers::models::TrainerWrapper;
    use tokenizers::models::bpe::BpeTrainer;

    use super::super::words::Words;
    use super::*;

    fn counts(text: &str) -> Counts {
        let mut counts = BTreeMap::new();
        Words::new().expect("well-formed").each(text, |word| *counts.entry(word).or_insert(0) += 1);
        counts.into_iter().collect()
    }

    /// Ids by token, and merges.
    fn learned(tokenizer: &Tokenizer) -> (BTreeMap<String, u32>, serde_json::Value) {
        let text = tokenizer.to_string(false).expect("it can be written");
        let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        (tokenizer.get_vocab(true).into_iter().collect(), json["model"]["merges"].clone())
    }

    #[test]
    fn the_crate_s_own_trainer_learns_the_same() {
        for size in [257, 300, 700] {
            let ours = learn(&counts(SAMPLE_TEXT), size).expect("enough text");
            let trainer = BpeTrainer::builder()
                .vocab_size(size)
                .min_frequency(2)
                .show_progress(false)
                .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
                .special_tokens(vec![AddedToken::from(BOS, true)])
                .build();
            let mut theirs = Tokenizer::new(BPE::default());
            theirs.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
            let mut trainer = TrainerWrapper::from(trainer);
            theirs.train(&mut trainer, std::iter::once(SAMPLE_TEXT)).expect("trained");
            assert_eq!(learned(&ours), learned(&theirs), "{size}");
            assert_eq!(ours.get_vocab_size(true), size);
        }
    }

    #[test]
    fn a_pair_in_a_run_of_one_character_is_counted_right() {
        // (a, a) is in it 3 + 2 times; then (aa, aa) once and (aa, a) once, which is too little.
        let tokenizer = learn(&[("aaaa", 1), ("aaa", 1)].into_iter().collect(), 258).expect("one merge");
        assert_eq!(tokenizer.id_to_token(257).as_deref(), Some("aa"));
        let message = learn(&[("aaaa", 1), ("aaa", 1)].into_iter().collect(), 259).expect_err("no more").to_string();
        assert!(message.contains("the text supports 258 tokens"), "{message}");
    }

    #[test]
    fn sizes_out_of_range_are_refused() {
        for size in [0, 256, MOST_VOCABULARY + 1] {
            let message = learn(&counts(SAMPLE_TEXT), size).expect_err("out of range").to_string();
            assert!(message.starts_with(&format!("a vocabulary of {size} is too ")), "{message}");
        }
    }

    #[test]
    fn every_byte_is_spelled_as_the_crate_does() {
        let mut spelled: Vec<char> = (0..=u8::MAX).map(character_of_byte).collect();
        let mut alphabet: Vec<char> = ByteLevel::alphabet().into_iter().collect();
        spelled.sort_unstable();
        alphabet.sort_unstable();
        assert_eq!(spelled, alphabet);
        assert_eq!(spell(" \u{e9}\n"), "\u{120}\u{c3}\u{a9}\u{10a}");
    }
}
