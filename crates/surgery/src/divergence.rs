//! How far a variant's predictions are from the untouched model's: both distributions of every next token side by side, a
//! range of the vocabulary at a time.
//!
//! The untouched model's logits are kept where they fit; elsewhere its last residual is, and its logits are formed again
//! beside the variant's. Both give the same numbers.

use std::sync::{Arc, Mutex};

use sinkscope_kernels::activation::soft_cap;
use sinkscope_kernels::divergence::{RunningDivergence, divergence_of_piece};
use sinkscope_kernels::simd::dispatch;
use sinkscope_model::tap::{Event, EventData, Place, Point, Tap};
use sinkscope_model::{Linear, Model, ModelError};
use sinkscope_sources::data::TokenBatch;

use crate::locked;

/// What is kept of the untouched model.
#[derive(Debug)]
enum Kept {
    /// tokens x vocabulary.
    Logits(Vec<f32>),
    /// The input of the output head: tokens x d_model.
    Inputs(Vec<f32>),
}

/// Keeps what the untouched model's predictions follow from.
#[derive(Debug)]
pub struct ReferenceTap {
    blocks: usize,
    seq_len: usize,
    vocabulary: usize,
    kept: Kept,
}

impl ReferenceTap {
    /// For a pass over a batch, with so many bytes for logits.
    pub fn new(model: &Model, batch: &TokenBatch, memory: u64) -> Self {
        let a = model.architecture();
        let (tokens, vocabulary) = (batch.tokens.len(), a.vocabulary);
        let fits = tokens as u64 * vocabulary as u64 * size_of::<f32>() as u64 <= memory;
        let kept = if fits { Kept::Logits(vec![0.0; tokens * vocabulary]) } else { Kept::Inputs(Vec::new()) };
        Self { blocks: a.blocks(), seq_len: batch.seq_len, vocabulary, kept }
    }

    /// What variants are held against.
    ///
    /// # Errors
    /// If a weight is not finite.
    pub fn finish(self, model: &Model) -> Result<Reference<'_>, ModelError> {
        let Self { seq_len, mut kept, .. } = self;
        if let Kept::Inputs(rows) = &mut kept
            && let Some(norm) = model.final_norm::<f32>()?
        {
            norm.forward_in_place(rows);
        }
        Ok(Reference { model, seq_len, kept })
    }
}

impl Tap for ReferenceTap {
    type Partial = (usize, Vec<f32>);

    fn wants(&self, point: Point, block: usize) -> bool {
        match self.kept {
            Kept::Logits(_) => point == Point::Logits && block == self.blocks + 1,
            Kept::Inputs(_) => point == Point::Residual && block == self.blocks,
        }
    }

    fn observe(&self, event: &Event<'_>) -> Self::Partial {
        match event.data {
            EventData::Logits { start, values, .. } => (start, values.to_vec()),
            EventData::Rows(rows) => (0, rows.to_vec()),
            _ => Self::Partial::default(),
        }
    }

    fn merge(&mut self, _point: Point, place: &Place, (start, values): Self::Partial) {
        let first = place.sequence * self.seq_len + place.position;
        match &mut self.kept {
            Kept::Logits(logits) => {
                let width = values.len() / place.rows;
                let rows = logits[first * self.vocabulary..].chunks_exact_mut(self.vocabulary);
                for (row, values) in rows.zip(values.chunks_exact(width)) {
                    row[start..start + width].copy_from_slice(values);
                }
            }
            // Chunks come in order.
            Kept::Inputs(rows) => rows.extend(values),
        }
    }
}

/// The untouched model's predictions.
#[derive(Debug)]
pub struct Reference<'m> {
    model: &'m Model,
    seq_len: usize,
    kept: Kept,
}

impl Reference<'_> {
    /// The logits of ids `start .. end` at some tokens, if they are not kept.
    fn again(
        &self,
        tokens: &[usize],
        (start, end): (usize, usize),
        piece: &Piece,
    ) -> Result<Option<Vec<f32>>, ModelError> {
        let Kept::Inputs(inputs) = &self.kept else { return Ok(None) };
        let a = self.model.architecture();
        let head = piece.get(self.model, start, end)?;
        let rows: Vec<f32> =
            tokens.iter().flat_map(|token| &inputs[token * a.d_model..][..a.d_model]).copied().collect();
        let mut logits = vec![0.0; tokens.len() * (end - start)];
        if !rows.is_empty() {
            head.forward(&mut logits, &rows);
        }
        if let Some(cap) = a.logit_soft_cap {
            dispatch(
                #[inline(always)]
                || soft_cap(&mut logits, cap as f32),
            );
        }
        Ok(Some(logits))
    }
}

/// The part of the output head that was decoded last: a pass goes through the vocabulary once.
#[derive(Debug, Default)]
struct Piece(Mutex<Option<(usize, Arc<Linear<f32>>)>>);

impl Piece {
    fn get(&self, model: &Model, start: usize, end: usize) -> Result<Arc<Linear<f32>>, ModelError> {
        if let Some((_, head)) = locked(&self.0).as_ref().filter(|(of, _)| *of == start) {
            return Ok(Arc::clone(head));
        }
        // Not under the lock: threads that wait there could be given a part of this work. Two may decode the same.
        let head = Arc::new(model.head::<f32>(start..end)?);
        *locked(&self.0) = Some((start, Arc::clone(&head)));
        Ok(head)
    }
}

/// Holds a variant's predictions against the untouched model's.
#[derive(Debug)]
pub struct DivergenceTap<'r> {
    reference: &'r Reference<'r>,
    head: usize,
    seq_len: usize,
    /// By prediction of a sequence of the variant, the untouched model's of the same target.
    originals: Vec<Option<usize>>,
    /// By token.
    rows: Vec<RunningDivergence>,
    piece: Piece,
    failed: Mutex<Option<ModelError>>,
}

impl<'r> DivergenceTap<'r> {
    /// For a pass over a batch; `pairs`: predictions of the same target, the untouched model's and the variant's.
    pub fn new(reference: &'r Reference<'r>, batch: &TokenBatch, pairs: &[(usize, usize)]) -> Self {
        let mut originals = vec![None; batch.seq_len];
        for &(original, now) in pairs {
            originals[now] = Some(original);
        }
        Self {
            reference,
            head: reference.model.architecture().blocks() + 1,
            seq_len: batch.seq_len,
            originals,
            rows: vec![RunningDivergence::default(); batch.tokens.len()],
            piece: Piece::default(),
            failed: Mutex::default(),
        }
    }

    /// Of every sequence, its predictions that are held against others.
    ///
    /// # Errors
    /// If the output head could not be decoded.
    pub fn finish(self) -> Result<Vec<Vec<RunningDivergence>>, ModelError> {
        if let Some(error) = self.failed.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
            return Err(error);
        }
        let counted = |rows: &[RunningDivergence]| -> Vec<RunningDivergence> {
            rows.iter().zip(&self.originals).filter(|(_, original)| original.is_some()).map(|(row, _)| *row).collect()
        };
        Ok(self.rows.chunks_exact(self.seq_len).map(counted).collect())
    }
}

impl Tap for DivergenceTap<'_> {
    type Partial = Vec<(usize, RunningDivergence)>;

    fn wants(&self, point: Point, block: usize) -> bool {
        point == Point::Logits && block == self.head
    }

    fn observe(&self, event: &Event<'_>) -> Self::Partial {
        let EventData::Logits { start, end, values } = event.data else { return Vec::new() };
        let Place { sequence, position, rows, .. } = event.place;
        let of_reference =
            |row: usize| Some((row, sequence * self.reference.seq_len + self.originals[position + row]?));
        let (own, theirs): (Vec<usize>, Vec<usize>) = (0..rows).filter_map(of_reference).unzip();
        let again = match self.reference.again(&theirs, (start, end), &self.piece) {
            Ok(again) => again,
            Err(error) => {
                locked(&self.failed).get_or_insert(error);
                return Vec::new();
            }
        };
        let width = end - start;
        let vocabulary = self.reference.model.architecture().vocabulary;
        let mut scratch = Vec::new();
        let pairs = own.iter().zip(&theirs).enumerate();
        pairs
            .map(|(index, (&row, &token))| {
                let original = match (&again, &self.reference.kept) {
                    (None, Kept::Logits(logits)) => &logits[token * vocabulary + start..][..width],
                    (again, _) => &again.as_deref().unwrap_or_default()[index * width..][..width],
                };
                let logits = &values[row * width..][..width];
                (row, divergence_of_piece(original, logits, start, &mut scratch))
            })
            .collect()
    }

    fn merge(&mut self, _point: Point, place: &Place, partial: Self::Partial) {
        let first = place.sequence * self.seq_len + place.position;
        for (row, seen) in partial {
            self.rows[first + row].merge(&seen);
        }
    }
}
