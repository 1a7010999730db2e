//! The amplifier at work (Fig. 2 and 3, eq. 15-21): what the step-up and step-down blocks really do with spike tokens,
//! beside what the quadratic form and its trigger say of them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinkscope_kernels::activation::{Activation, activate};
use sinkscope_kernels::matmul::{Matrix, MatrixMut, matmul};
use sinkscope_model::tap::{Event, EventData, Place, Point, Tap};
use sinkscope_model::{Model, ModelError};

use super::{Kinds, Sample, chosen};
use crate::census::quadratic::{QuadraticForm, coefficient};
use crate::census::spectrum::leading;
use crate::results::Stage;
use crate::wide::{dot_f64, mean, norm_f64};

/// Most spike tokens that are points of a block.
pub const MOST_SPIKE_POINTS: usize = 64;
/// Most other tokens that are points of a block.
pub const MOST_OTHER_POINTS: usize = 192;

/// One feed-forward step-up or step-down block of a stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Amplifier {
    /// Stage, from 1.
    pub stage: usize,
    /// Block.
    pub block: usize,
    /// The stage's channel.
    pub channel: usize,
    /// l*, the leading eigenvalue of the channel's S_k; `None` if the nonlinearity has no quadratic term.
    pub eigenvalue: Option<f64>,
    /// The stage's tokens; `None` if none is in the sample.
    pub spike: Option<AmplifierTokens>,
    /// Tokens of no stage.
    pub other: Option<AmplifierTokens>,
    /// Single tokens (Fig. 2): first the stage's, then those of no stage, each in the order of the text. All of them, but at most
    /// [`MOST_SPIKE_POINTS`] and [`MOST_OTHER_POINTS`], taken evenly.
    pub points: Vec<AmplifierPoint>,
}

/// What the block does with one token.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AmplifierPoint {
    /// Sequence of the batch.
    pub sequence: usize,
    /// Position.
    pub position: usize,
    /// Whether it is one of the stage's tokens.
    pub spike: bool,
    /// Cosine of the activated gate to the gate.
    pub cosine: f64,
    /// Ratio of their lengths.
    pub norm_ratio: f64,
}

/// What the block does with some tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AmplifierTokens {
    /// How many.
    pub tokens: usize,
    /// Mean cosine of the activated gate to the gate.
    pub cosine: f64,
    /// Mean ratio of their lengths.
    pub norm_ratio: f64,
    /// Of the form without the nonlinearity against the real output, over tokens and the stage's spike channels: length
    /// of the difference over length of the output; `None` if there is no output.
    pub bilinear_error: Option<f64>,
    /// Mean real output in the stage's channel, before any output norm and without W_down's bias.
    pub output: f64,
    /// Mean of `l* (s* . x)^2`.
    pub rank_one: Option<f64>,
    /// Of that against the real output in the stage's channel, over tokens: length of the difference over length of the
    /// output; `None` if there is no output.
    pub rank_one_error: Option<f64>,
    /// Mean of `|cos(x, s*)|`.
    pub trigger_cosine: Option<f64>,
}

/// Watches the step blocks of stages.
#[derive(Debug)]
pub struct AmplifierTap {
    seq_len: usize,
    /// Of the batch, those in the sample.
    sequences: Vec<usize>,
    blocks: Vec<Watched>,
}

/// A block under watch.
#[derive(Debug)]
struct Watched {
    stage: usize,
    block: usize,
    channel: usize,
    activation: Activation,
    gated: bool,
    /// Of the form of a block without a gate.
    coefficient: Option<f64>,
    /// d_ffn x channels: W_down of the stage's spike channels, its own first.
    down: Vec<f32>,
    channels: usize,
    trigger: Option<InputTrigger>,
    kinds: Kinds,
    /// By token of the sample.
    seen: Vec<Token>,
}

/// The trigger, on the normalised input as the block sees it.
#[derive(Debug)]
struct InputTrigger {
    eigenvalue: f64,
    direction: Vec<f64>,
    /// What the norm multiplies by and adds; 1 and 0 without one.
    gamma: Vec<f64>,
    beta: Vec<f64>,
}

/// What one token shows.
#[derive(Debug, Clone, Default)]
pub struct Token {
    cosine: f64,
    norm_ratio: f64,
    /// By channel.
    real: Vec<f32>,
    bilinear: Vec<f32>,
    /// s* . x and its cosine.
    along: f64,
    trigger_cosine: f64,
}

impl AmplifierTap {
    /// Watches the feed-forward step blocks of `stages`. `kinds`, by stage: what each token of the sample is beside
    /// its.
    ///
    /// # Errors
    /// If a weight is not finite.
    pub fn new(model: &Model, stages: &[Stage], kinds: &[Kinds], sample: &Sample) -> Result<Self, ModelError> {
        let mut blocks = Vec::new();
        let a = model.architecture();
        // One matrix amplifies nothing.
        let amplifies =
            |&&block: &&usize| block.is_multiple_of(2) && a.layer(block / 2 - 1).feed_forward.dense().is_some();
        for (index, (stage, kinds)) in stages.iter().zip(kinds).enumerate() {
            let steps = stage.step_up.iter().chain(&stage.step_down).filter(amplifies);
            for &block in steps {
                blocks.push(Watched::new(model, index + 1, stage, block, kinds.clone())?);
            }
        }
        Ok(Self { seq_len: sample.batch.seq_len, sequences: sample.sequences.clone(), blocks })
    }

    /// What was seen, by stage and block.
    pub fn finish(self) -> Vec<Amplifier> {
        let place = |token: usize| (self.sequences[token / self.seq_len], token % self.seq_len);
        self.blocks.into_iter().map(|watched| watched.finish(&place)).collect()
    }
}

impl Watched {
    fn new(model: &Model, stage_number: usize, stage: &Stage, block: usize, kinds: Kinds) -> Result<Self, ModelError> {
        let feed_forward = model.feed_forward_block::<f32>(block / 2 - 1)?;
        let d_model = model.architecture().d_model;
        let activation = feed_forward.activation;
        let mut channels = vec![stage.channel];
        channels
            .extend(stage.channels.iter().map(|channel| channel.channel).filter(|&channel| channel != stage.channel));
        let down = feed_forward.down.as_ref().map_or_else(Vec::new, |down| {
            let (weight, channels) = (down.weight(), &channels);
            (0..weight.rows()).flat_map(|unit| channels.iter().map(move |&channel| weight.get(unit, channel))).collect()
        });
        let norm = feed_forward.input_norm.clone();
        let wide = |values: Option<Vec<f32>>, missing: f64| {
            values.map_or_else(|| vec![missing; d_model], |values| values.into_iter().map(f64::from).collect())
        };
        let (gamma, beta) = norm.map_or((None, None), |norm| (Some(norm.gamma), norm.beta));
        let trigger = QuadraticForm::new(&feed_forward).map(|form| {
            let eigen = leading(&form, stage.channel, 0);
            let eigenvalue = eigen.eigenvalues.first().copied().unwrap_or(0.0);
            InputTrigger { eigenvalue, direction: eigen.trigger, gamma: wide(gamma, 1.0), beta: wide(beta, 0.0) }
        });
        Ok(Self {
            stage: stage_number,
            block,
            channel: stage.channel,
            activation,
            gated: feed_forward.up.is_some(),
            coefficient: coefficient(feed_forward.up.is_some(), activation),
            down,
            channels: channels.len(),
            trigger,
            seen: vec![Token::default(); kinds.spike.len()],
            kinds,
        })
    }

    /// Rows of the gate, and of the linear branch of a gated block.
    fn look_at_hidden(&self, gate: &[f32], up: Option<&[f32]>, rows: usize) -> Vec<Token> {
        let d_ffn = gate.len() / rows;
        let mut real = gate.to_vec();
        activate(self.activation, &mut real);
        let mut tokens: Vec<Token> = gate
            .chunks_exact(d_ffn)
            .zip(real.chunks_exact(d_ffn))
            .map(|(gate, activated)| {
                let (length, activated_length) = (norm_f64(gate), norm_f64(activated));
                let lengths = (length * activated_length).max(f64::MIN_POSITIVE);
                Token {
                    cosine: dot_f64(gate, activated) / lengths,
                    norm_ratio: activated_length / length.max(f64::MIN_POSITIVE),
                    ..Token::default()
                }
            })
            .collect();
        let factor = self.coefficient.unwrap_or(0.0) as f32;
        let other = up.unwrap_or(gate);
        let bilinear: Vec<f32> = gate.iter().zip(other).map(|(gate, other)| factor * gate * other).collect();
        if let Some(up) = up {
            real.iter_mut().zip(up).for_each(|(real, up)| *real *= up);
        }
        let (real, bilinear) = (self.outputs(&real, rows), self.outputs(&bilinear, rows));
        let outputs = real.chunks_exact(self.channels).zip(bilinear.chunks_exact(self.channels));
        for (token, (real, bilinear)) in tokens.iter_mut().zip(outputs) {
            (token.real, token.bilinear) = (real.to_vec(), bilinear.to_vec());
        }
        tokens
    }

    fn outputs(&self, hidden: &[f32], rows: usize) -> Vec<f32> {
        let d_ffn = hidden.len() / rows;
        let mut out = vec![0.0; rows * self.channels];
        matmul(
            MatrixMut::new(&mut out, rows, self.channels),
            Matrix::new(hidden, rows, d_ffn),
            Matrix::new(&self.down, d_ffn, self.channels),
        );
        out
    }

    /// Rows of the block's input.
    fn look_at_input(&self, input: &[f32], rows: usize) -> Vec<Token> {
        let Some(trigger) = &self.trigger else { return vec![Token::default(); rows] };
        let token = |row: &[f32]| {
            let (mut along, mut square) = (0.0, 0.0);
            for (channel, &value) in row.iter().enumerate() {
                // Where gamma is 0, nothing of x is left, and the block and its trigger see nothing of it either.
                if trigger.gamma[channel] != 0.0 {
                    let x = (f64::from(value) - trigger.beta[channel]) / trigger.gamma[channel];
                    along += x * trigger.direction[channel];
                    square += x * x;
                }
            }
            let trigger_cosine = along.abs() / square.sqrt().max(f64::MIN_POSITIVE);
            Token { along, trigger_cosine, ..Token::default() }
        };
        input.chunks_exact(input.len() / rows).map(token).collect()
    }

    /// `place`: sequence of the batch and position of a token of the sample.
    fn finish(self, place: &dyn Fn(usize) -> (usize, usize)) -> Amplifier {
        let of = |spike: bool| {
            let of_kind = self.seen.iter().zip(self.kinds.of(spike)).filter(|(_, is)| **is);
            let tokens: Vec<&Token> = of_kind.map(|(token, _)| token).collect();
            (!tokens.is_empty()).then(|| self.summary(&tokens))
        };
        let (spike, other) = (of(true), of(false));
        let point = |token: usize| {
            let ((sequence, position), seen) = (place(token), &self.seen[token]);
            let (cosine, norm_ratio) = (seen.cosine, seen.norm_ratio);
            AmplifierPoint { sequence, position, spike: self.kinds.spike[token], cosine, norm_ratio }
        };
        let shown = [(true, MOST_SPIKE_POINTS), (false, MOST_OTHER_POINTS)].into_iter();
        let points = shown.flat_map(|(spike, most)| chosen(self.kinds.of(spike), most)).map(point).collect();
        let eigenvalue = self.trigger.map(|trigger| trigger.eigenvalue);
        Amplifier { stage: self.stage, block: self.block, channel: self.channel, eigenvalue, spike, other, points }
    }

    fn summary(&self, tokens: &[&Token]) -> AmplifierTokens {
        let mean = |of: &dyn Fn(&Token) -> f64| mean(tokens.iter().map(|token| of(token))).unwrap_or(0.0);
        let real = |token: &Token| f64::from(token.real[0]);
        let rank_one =
            self.trigger.as_ref().map(|trigger| move |token: &Token| trigger.eigenvalue * token.along.powi(2));
        let squares = |of: &dyn Fn(&Token) -> f64| tokens.iter().map(|token| of(token)).sum::<f64>();
        let bilinear = |token: &Token| -> f64 {
            token.real.iter().zip(&token.bilinear).map(|(real, form)| f64::from(real - form).powi(2)).sum()
        };
        let length = |token: &Token| dot_f64(&token.real, &token.real);
        AmplifierTokens {
            tokens: tokens.len(),
            cosine: mean(&|token| token.cosine),
            norm_ratio: mean(&|token| token.norm_ratio),
            bilinear_error: self.coefficient.and_then(|_| relative(squares(&bilinear), squares(&length))),
            output: mean(&real),
            rank_one: rank_one.as_ref().map(|form| mean(form)),
            rank_one_error: rank_one.as_ref().and_then(|form| {
                let off = |token: &Token| (form(token) - real(token)).powi(2);
                relative(squares(&off), squares(&|token| real(token).powi(2)))
            }),
            trigger_cosine: rank_one.is_some().then(|| mean(&|token| token.trigger_cosine)),
        }
    }
}

/// One length over another, given their squares; of nothing there is no share.
fn relative(difference: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| (difference / whole).sqrt())
}

impl Tap for AmplifierTap {
    type Partial = Vec<Vec<Token>>;

    fn wants(&self, point: Point, block: usize) -> bool {
        let hidden = |watched: &Watched| if watched.gated { Point::Up } else { Point::Gate };
        self.blocks
            .iter()
            .any(|watched| watched.block == block && (point == Point::NormalisedInput || point == hidden(watched)))
    }

    fn observe(&self, event: &Event<'_>) -> Self::Partial {
        let watches = self.blocks.iter().filter(|watched| watched.block == event.place.block);
        let rows = event.place.rows;
        let look = |watched: &Watched| match (event.point, event.data) {
            (Point::NormalisedInput, EventData::Rows(input)) => watched.look_at_input(input, rows),
            (_, EventData::Rows(gate)) => watched.look_at_hidden(gate, None, rows),
            (_, EventData::Gated { gate, up }) => watched.look_at_hidden(gate, Some(up), rows),
            _ => Vec::new(),
        };
        watches.map(look).collect()
    }

    fn merge(&mut self, point: Point, place: &Place, partial: Self::Partial) {
        let first = place.sequence * self.seq_len + place.position;
        let watches = self.blocks.iter_mut().filter(|watched| watched.block == place.block);
        for (watched, tokens) in watches.zip(partial) {
            for (kept, token) in watched.seen[first..].iter_mut().zip(tokens) {
                // The input comes first, then what the block makes of it.
                *kept = if point == Point::NormalisedInput {
                    token
                } else {
                    Token { along: kept.along, trigger_cosine: kept.trigger_cosine, ..token }
                };
            }
        }
    }
}
