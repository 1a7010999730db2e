//! SentencePiece's BPE from the pieces and scores of a GGUF file, as the SentencePiece library does it: of all
//! neighbours whose union is a piece, the best-scored pair merges first, the leftmost of equals.
//!
//! The library's own normalisation is not needed: the families that use it (Llama 1 and 2, Mistral, Gemma, Phi-3)
//! keep text as it is, but for spaces, which are written `▁`.

use std::collections::{BTreeSet, BinaryHeap, HashMap};

use super::display::byte_of_name;
use super::vocabulary::{TokenKind, Vocabulary};

/// What makes one merge better than another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MergeOrder {
    /// The piece's score; ids where the file has no scores.
    Score,
    /// The piece's id, the lower the better.
    Id,
}

/// A SentencePiece vocabulary.
#[derive(Debug)]
pub(super) struct SentencePiece {
    pieces: Vec<String>,
    /// Text that is matched whole before any merge, by its first character, the longest first.
    whole: HashMap<char, Vec<(String, u32)>>,
    /// Tokens that control the model and are no text.
    controls: BTreeSet<u32>,
    /// Pieces that merges may build, with their scores.
    mergeable: HashMap<String, (u32, f64)>,
    /// Ids of the 256 byte tokens, if the vocabulary has all of them.
    bytes: Option<Vec<u32>>,
    unknown: Option<u32>,
    adds_prefix: bool,
}

impl SentencePiece {
    /// Sorts the vocabulary by what its tokens are for.
    pub(super) fn new(vocabulary: Vocabulary, unknown: Option<u32>, order: MergeOrder, adds_prefix: bool) -> Self {
        let mut whole: HashMap<char, Vec<(String, u32)>> = HashMap::new();
        let mut mergeable = HashMap::new();
        let mut bytes = [None; 256];
        let mut first_unknown = None;
        let mut controls = BTreeSet::new();
        for ((id, piece), kind) in (0_u32..).zip(&vocabulary.tokens).zip(&vocabulary.kinds) {
            if *kind == TokenKind::Control {
                controls.insert(id);
            }
            let text = match kind {
                TokenKind::UserDefined => piece.replace('▁', " "),
                _ => piece.clone(),
            };
            match kind {
                TokenKind::Control | TokenKind::UserDefined => {
                    if let Some(first) = text.chars().next() {
                        whole.entry(first).or_default().push((text, id));
                    }
                }
                TokenKind::Unknown => first_unknown = first_unknown.or(Some(id)),
                TokenKind::Byte => {
                    if let Some(byte) = byte_of_name(piece) {
                        bytes[byte as usize] = Some(id);
                    }
                }
                TokenKind::Normal | TokenKind::Unused => {
                    let score = match (&vocabulary.scores, order) {
                        (Some(scores), MergeOrder::Score) => scores[id as usize],
                        _ => -f64::from(id),
                    };
                    mergeable.entry(text).or_insert((id, score));
                }
            }
        }
        for texts in whole.values_mut() {
            texts.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
        }
        let bytes = bytes.into_iter().collect();
        Self {
            pieces: vocabulary.tokens,
            whole,
            mergeable,
            bytes,
            unknown: unknown.or(first_unknown),
            controls,
            adds_prefix,
        }
    }

    /// A piece as the vocabulary spells it.
    pub(super) fn piece(&self, id: u32) -> Option<&str> {
        self.pieces.get(id as usize).map(String::as_str)
    }

    /// As [`SentencePiece::piece`], of tokens that control the model.
    pub(super) fn control(&self, id: u32) -> Option<&str> {
        self.piece(id).filter(|_| self.controls.contains(&id))
    }

    /// The ids of `text`, or the first character that has no token, no bytes and no unknown token to stand for it.
    pub(super) fn encode(&self, text: &str) -> Result<Vec<u32>, char> {
        let mut ids = Vec::with_capacity(text.len() / 3);
        let mut start = 0;
        let mut position = 0;
        while let Some(character) = text[position..].chars().next() {
            match self.whole_token_at(&text[position..], character) {
                Some((length, id)) => {
                    self.encode_part(&text[start..position], start == 0, &mut ids)?;
                    ids.push(id);
                    position += length;
                    start = position;
                }
                None => position += character.len_utf8(),
            }
        }
        self.encode_part(&text[start..], start == 0, &mut ids)?;
        Ok(ids)
    }

    fn whole_token_at(&self, text: &str, first: char) -> Option<(usize, u32)> {
        let candidates = self.whole.get(&first)?;
        candidates.iter().find(|(token, _)| text.starts_with(token.as_str())).map(|(token, id)| (token.len(), *id))
    }

    /// Encodes text that has no whole tokens inside.
    fn encode_part(&self, text: &str, at_start: bool, ids: &mut Vec<u32>) -> Result<(), char> {
        if text.is_empty() {
            return Ok(());
        }
        let mut written = text.replace(' ', "▁");
        if at_start && self.adds_prefix {
            written.insert(0, '▁');
        }
        let mut after_unknown = false;
        for piece in Merging::new(self, &written).run() {
            match self.mergeable.get(piece) {
                Some(&(id, _)) => {
                    ids.push(id);
                    after_unknown = false;
                }
                None => after_unknown = self.encode_unknown(piece, after_unknown, ids)?,
            }
        }
        Ok(())
    }

    /// Encodes a character that is no piece; says whether the unknown token was used, which a run of such characters
    /// shares.
    fn encode_unknown(&self, piece: &str, after_unknown: bool, ids: &mut Vec<u32>) -> Result<bool, char> {
        if let Some(bytes) = &self.bytes {
            ids.extend(piece.bytes().map(|byte| bytes[byte as usize]));
            return Ok(false);
        }
        let Some(unknown) = self.unknown else { return Err(piece.chars().next().unwrap_or_default()) };
        if !after_unknown {
            ids.push(unknown);
        }
        Ok(true)
    }
}

/// A stretch of the text; an empty one has been merged into its left neighbour.
#[derive(Debug, Clone, Copy)]
struct Symbol {
    start: usize,
    end: usize,
    previous: Option<usize>,
    next: Option<usize>,
}

/// A pair that could merge, the greater the sooner.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Candidate {
    score: f64,
    left: usize,
    right: usize,
    /// Bytes of the union: if either symbol has changed since, so has this.
    length: usize,
}

impl Eq for Candidate {}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.score.total_cmp(&other.score).then_with(|| other.left.cmp(&self.left))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// A text on its way from characters to pieces.
struct Merging<'a> {
    vocabulary: &'a SentencePiece,
    text: &'a str,
    symbols: Vec<Symbol>,
    candidates: BinaryHeap<Candidate>,
}

impl<'a> Merging<'a> {
    fn new(vocabulary: &'a SentencePiece, text: &'a str) -> Self {
        let mut symbols: Vec<Symbol> = text
            .char_indices()
            .enumerate()
            .map(|(index, (start, character))| Symbol {
                start,
                end: start + character.len_utf8(),
                previous: index.checked_sub(1),
                next: Some(index + 1),
            })
            .collect();
        if let Some(last) = symbols.last_mut() {
            last.next = None;
        }
        Self { vocabulary, text, symbols, candidates: BinaryHeap::new() }
    }

    fn run(mut self) -> impl Iterator<Item = &'a str> {
        for right in 1..self.symbols.len() {
            self.consider(right - 1, right);
        }
        while let Some(candidate) = self.candidates.pop() {
            self.merge(candidate);
        }
        let text = self.text;
        self.symbols
            .into_iter()
            .filter(|symbol| symbol.start < symbol.end)
            .map(|symbol| &text[symbol.start..symbol.end])
    }

    fn consider(&mut self, left: usize, right: usize) {
        let (start, end) = (self.symbols[left].start, self.symbols[right].end);
        if let Some(&(_, score)) = self.vocabulary.mergeable.get(&self.text[start..end]) {
            self.candidates.push(Candidate { score, left, right, length: end - start });
        }
    }

    fn merge(&mut self, candidate: Candidate) {
        let Candidate { left, right, length, .. } = candidate;
        let (first, second) = (self.symbols[left], self.symbols[right]);
        let stale = first.start == first.end || second.start == second.end || second.end - first.start != length;
        if stale {
            return;
        }
        self.symbols[left].end = second.end;
        self.symbols[left].next = second.next;
        self.symbols[right].end = second.start;
        if let Some(next) = second.next {
            self.symbols[next].previous = Some(left);
            self.consider(left, next);
        }
        if let Some(previous) = first.previous {
            self.consider(previous, left);
        }
    }
}
