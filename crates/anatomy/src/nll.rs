//! How well the model predicts: negative log-likelihood and perplexity.

use sinkscope_model::tap::{Event, EventData, Place, Point, Tap};

use crate::not_finite::{Found, first};

/// The negative log-likelihood of one sequence.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct SequenceNll {
    /// Sum over its predicted tokens, in nats.
    pub sum: f64,
    /// How many tokens were predicted.
    pub tokens: usize,
}

/// Sums the negative log-likelihood, sequence by sequence; told to, it also keeps that of every prediction. What registers
/// predict is kept, but does not count.
#[derive(Debug, Clone, PartialEq)]
pub struct NllTap {
    head: usize,
    registers: usize,
    sequences: Vec<SequenceNll>,
    not_finite: Option<Found>,
    /// sequences x (T - 1).
    predictions: Option<Vec<f32>>,
}

impl NllTap {
    /// For a model of `layers` layers with so many registers, and a batch of `sequences` sequences.
    pub fn new(layers: usize, registers: usize, sequences: usize) -> Self {
        let sequences = vec![SequenceNll::default(); sequences];
        Self { head: 2 * layers + 1, registers, sequences, not_finite: None, predictions: None }
    }

    /// Also keeps every prediction's.
    #[must_use]
    pub fn with_predictions(self) -> Self {
        Self { predictions: Some(Vec::new()), ..self }
    }

    /// sequences x (T - 1): that of every prediction; of none without [`Self::with_predictions`].
    pub fn predictions(&self) -> &[f32] {
        self.predictions.as_deref().unwrap_or_default()
    }

    /// How many tokens were predicted.
    pub fn predicted_tokens(&self) -> usize {
        self.sequences.iter().map(|sequence| sequence.tokens).sum()
    }

    /// The first prediction whose log-likelihood is not finite.
    pub fn not_finite(&self) -> Option<Found> {
        self.not_finite
    }

    /// Mean over the predicted tokens of all sequences, in nats; `None` if none was predicted.
    pub fn nll(&self) -> Option<f64> {
        let tokens = self.predicted_tokens();
        let sum: f64 = self.sequences.iter().map(|sequence| sequence.sum).sum();
        (tokens > 0).then(|| sum / tokens as f64)
    }

    /// exp of [`Self::nll`], never capped.
    pub fn perplexity(&self) -> Option<f64> {
        self.nll().map(f64::exp)
    }
}

impl Tap for NllTap {
    type Partial = (SequenceNll, Option<Found>, Vec<f32>);

    fn wants(&self, point: Point, block: usize) -> bool {
        point == Point::Prediction && block == self.head
    }

    fn observe(&self, event: &Event<'_>) -> Self::Partial {
        let EventData::Nll(values) = event.data else { return Self::Partial::default() };
        let kept = if self.predictions.is_some() { values.to_vec() } else { Vec::new() };
        let skipped = self.registers.saturating_sub(event.place.position);
        let values = values.get(skipped..).unwrap_or_default();
        let sum: f64 = values.iter().copied().map(f64::from).sum();
        // A prediction at one position is of the token at the next.
        let first = event.place.position + skipped + 1;
        let found = if sum.is_finite() { None } else { Found::in_nll(self.head, event.place.sequence, first, values) };
        (SequenceNll { sum, tokens: values.len() }, found, kept)
    }

    fn merge(&mut self, _point: Point, place: &Place, (partial, found, kept): Self::Partial) {
        self.not_finite = first(self.not_finite, found);
        if let Some(sequence) = self.sequences.get_mut(place.sequence) {
            sequence.sum += partial.sum;
            sequence.tokens += partial.tokens;
        }
        // Chunks come in order.
        if let Some(predictions) = &mut self.predictions {
            predictions.extend(kept);
        }
    }
}
