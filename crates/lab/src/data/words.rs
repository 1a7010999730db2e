//! Words: the pieces of text that merges never cross, and how often each occurs.
//!
//! The cut is GPT-2's, as the byte-level step of the `tokenizers` crate makes it. That pattern looks ahead
//! (`\s+(?!\S)`), which needs a backtracking engine; here white space is matched whole and its last character given back
//! to the word behind it, so that an automaton does the rest. A test holds the two together.

use std::collections::HashMap;

use rayon::prelude::*;
use regex::Regex;

use super::documents::Documents;
use crate::LabError;

/// Most different words that are counted at once; beyond, the rare ones are forgotten.
const MOST_WORDS: usize = 1 << 20;

/// Longer words (in bytes) are no words of a language, and teach nothing.
const LONGEST_WORD: usize = 128;

/// Cuts text into words.
#[derive(Debug)]
pub(super) struct Words(Regex);

impl Words {
    /// The pattern, ready to use.
    pub(super) fn new() -> Result<Self, LabError> {
        Regex::new(r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+")
            .map(Self)
            .map_err(|error| LabError::Request(format!("the pattern of words: {error}")))
    }

    /// Gives every word of `text` to `take`, in order; together they are the text.
    pub(super) fn each<'a>(&self, text: &'a str, mut take: impl FnMut(&'a str)) {
        let mut start = 0;
        while let Some(found) = self.0.find_at(text, start) {
            let mut end = found.end();
            let word = found.as_str();
            let last = word.chars().next_back();
            if end < text.len() && last.is_some_and(char::is_whitespace) {
                let shorter = end - last.map_or(0, char::len_utf8);
                if shorter > start {
                    end = shorter;
                }
            }
            take(&text[start..end]);
            start = end;
        }
    }
}

/// How often words occur.
#[derive(Debug, Default)]
pub(super) struct Counts(HashMap<String, u64>);

impl Counts {
    /// Counts the words of those pieces of a batch that `of` says, all cores at once.
    pub(super) fn add(&mut self, words: &Words, batch: &Documents, of: impl Fn(usize) -> bool + Sync) {
        let counted: Vec<HashMap<&str, u64>> = batch
            .groups()
            .into_par_iter()
            .map(|group| {
                let mut counts = HashMap::new();
                for index in group.filter(|&index| of(index)) {
                    words.each(batch.text(index), |word| *counts.entry(word).or_insert(0) += 1);
                }
                counts
            })
            .collect();
        for (word, count) in counted.into_iter().flatten() {
            if word.len() > LONGEST_WORD {
                continue;
            }
            match self.0.get_mut(word) {
                Some(total) => *total += count,
                None => drop(self.0.insert(word.to_owned(), count)),
            }
        }
        self.forget(MOST_WORDS);
    }

    /// While there are more than `most` words, forgets the rarest, until half of that is left.
    fn forget(&mut self, most: usize) {
        if self.0.len() <= most {
            return;
        }
        let mut counts: Vec<u64> = self.0.values().copied().collect();
        let middle = counts.len() - most / 2;
        let (_, &mut least, _) = counts.select_nth_unstable(middle);
        self.0.retain(|_, count| *count > least);
    }

    /// The words and how often each occurs, ordered by the words.
    pub(super) fn sorted(&self) -> Vec<(&str, u64)> {
        let mut words: Vec<(&str, u64)> = self.0.iter().map(|(word, &count)| (word.as_str(), count)).collect();
        words.sort_unstable();
        words
    }
}

#[cfg(test)]
impl<'a> FromIterator<(&'a str, u64)> for Counts {
    fn from_iter<I: IntoIterator<Item = (&'a str, u64)>>(words: I) -> Self {
        Self(words.into_iter().map(|(word, count)| (word.to_owned(), count)).collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokenizers::pre_tokenizers::byte_level::ByteLevel;
    use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

    use super::*;

    fn words(text: &str) -> Vec<&str> {
        let mut words = Vec::new();
        Words::new().expect("well-formed").each(text, |word| words.push(word));
        words
    }

    /// What the library's byte-level step makes of it.
    fn expected(text: &str) -> Vec<&str> {
        let mut whole = PreTokenizedString::from(text);
        ByteLevel::new(false, true, true).pre_tokenize(&mut whole).expect("it cuts any text");
        let splits = whole.get_splits(OffsetReferential::Original, OffsetType::Byte);
        splits.into_iter().map(|(_, (start, end), _)| &text[start..end]).collect()
    }

    #[test]
    fn white_space_goes_to_the_word_behind_it() {
        assert_eq!(words("one  two\n\n three's 42nd"), ["one", " ", " two", "\n\n", " three", "'s", " 42", "nd"]);
        assert_eq!(words("end \t\n"), ["end", " \t\n"]);
        assert_eq!(words("\u{3000}\u{3000}x"), ["\u{3000}", "\u{3000}", "x"]);
        assert_eq!(words(""), [""; 0]);
    }

    proptest! {
        #[test]
        fn words_are_those_of_the_library(text in "([a-zA-Z]{1,3}|[ \\n\\t\u{3000}]{1,3}|'(s|ll|x)|[0-9.,!]|\\PC){0,40}") {
            prop_assert_eq!(words(&text), expected(&text));
        }
    }

    #[test]
    fn the_rare_words_are_forgotten() {
        let names: Vec<String> = (0..20).map(|number| format!("w{number}")).collect();
        let mut counts: Counts = names.iter().map(String::as_str).zip(1..).collect();
        counts.forget(20);
        assert_eq!(counts.0.len(), 20);
        counts.forget(10);
        assert!((4..=5).contains(&counts.0.len()), "{counts:?}");
        assert!(counts.0.values().all(|&count| count > 14), "{counts:?}");
        let mut equal: Counts = names.iter().map(|name| (name.as_str(), 1)).collect();
        equal.forget(10);
        assert!(equal.0.is_empty());
    }
}
