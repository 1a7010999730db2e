//! Bigram-Backcopy: a synthetic task in which a sink has a known job (Guo et al. 2024, arXiv 2410.13835).
//!
//! A sequence begins with `<s>`. The token after a trigger is a copy of the token before the trigger; the token after any
//! other is drawn from that token's row of a bigram table. A head that copies has nothing to do at tokens that are not
//! triggers; there it attends to `<s>`. The token after `<s>` is any but a trigger, one as likely as the other: then no two
//! triggers ever stand side by side, which would copy each other to the end of the sequence.
//!
//! Rows are drawn from a symmetric Dirichlet distribution, the triggers without replacement, both once from the seed of
//! the data. Sequences are drawn from the seed of the training; each has random numbers of its own, so that the number
//! of threads and the size of the batch change nothing.

use rand::seq::index;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Gamma};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::batch::Batch;
use super::identity::{Identity, digest};
use crate::LabError;

/// Most ordinary tokens: the table has their number squared.
const MOST_TOKENS: usize = 4096;

/// The task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BigramBackcopyTask {
    /// Number of ordinary tokens, ids from 0; `<s>` comes after them.
    pub tokens: usize,
    /// How many of them are triggers.
    pub triggers: usize,
    /// Concentration of the Dirichlet distribution that rows of the bigram table come from.
    pub concentration: f64,
    /// Seed of table and triggers.
    pub seed: u64,
}

impl Default for BigramBackcopyTask {
    fn default() -> Self {
        Self { tokens: 64, triggers: 16, concentration: 0.05, seed: 0 }
    }
}

/// The task with its table and triggers.
#[derive(Debug)]
pub struct BigramBackcopy {
    task: BigramBackcopyTask,
    /// (tokens + 1) x tokens, row-major: what follows each token, `<s>` last.
    table: Vec<f64>,
    /// The same, added up along each row.
    cumulated: Vec<f64>,
    triggers: Vec<bool>,
    identity: Identity,
}

impl BigramBackcopy {
    /// Draws table and triggers.
    ///
    /// # Errors
    /// If there are fewer than two tokens, more than 4,096, no fewer triggers than tokens, or the concentration is not from 0.001 to
    /// 1,000.
    pub fn new(task: &BigramBackcopyTask) -> Result<Self, LabError> {
        let &BigramBackcopyTask { tokens, triggers: chosen, concentration, seed } = task;
        let wrong = |reason: String| LabError::Request(format!("Bigram-Backcopy: {reason}"));
        if !(2..=MOST_TOKENS).contains(&tokens) {
            return Err(wrong(format!("tokens = {tokens} is not from 2 to {MOST_TOKENS}")));
        }
        if chosen >= tokens {
            return Err(wrong(format!("triggers = {chosen} is too many of {tokens} tokens; leave one that is none")));
        }
        if !(0.001..=1000.0).contains(&concentration) {
            return Err(wrong(format!("concentration = {concentration} is not from 0.001 to 1000")));
        }
        let gamma = Gamma::new(concentration, 1.0).map_err(|error| wrong(format!("concentration: {error}")))?;
        let mut table = Vec::with_capacity((tokens + 1) * tokens);
        for row in 0..tokens as u64 {
            let mut random = generator("table", &[seed, row]);
            table.extend(dirichlet(&gamma, tokens, &mut random));
        }
        let mut triggers = vec![false; tokens + 1];
        for token in index::sample(&mut generator("triggers", &[seed]), tokens, chosen) {
            triggers[token] = true;
        }
        let first = ((tokens - chosen) as f64).recip();
        table.extend(triggers[..tokens].iter().map(|&trigger| if trigger { 0.0 } else { first }));
        let mut cumulated = table.clone();
        for row in cumulated.chunks_mut(tokens) {
            for token in 1..tokens {
                row[token] += row[token - 1];
            }
        }
        let numbers: Vec<u8> = table.iter().flat_map(|probability| probability.to_le_bytes()).collect();
        let marks: Vec<u8> = triggers.iter().map(|&trigger| u8::from(trigger)).collect();
        let sha256 = hex::encode(digest(&[b"bigram-backcopy", &numbers, &marks]));
        let identity = Identity { source: format!("Bigram-Backcopy, seed {seed}"), sha256 };
        Ok(Self { task: task.clone(), table, cumulated, triggers, identity })
    }

    /// Number of tokens, `<s>` included.
    pub fn vocabulary(&self) -> usize {
        self.task.tokens + 1
    }

    /// The id of `<s>`.
    pub fn bos(&self) -> u32 {
        self.task.tokens as u32
    }

    /// Which task this is: the digest covers table and triggers.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Whether the token is a trigger.
    pub fn is_trigger(&self, token: u32) -> bool {
        self.triggers.get(token as usize).copied().unwrap_or(false)
    }

    /// The probabilities of what follows a token (or `<s>`) where the bigram table decides.
    pub fn row(&self, token: u32) -> &[f64] {
        let tokens = self.task.tokens;
        &self.table[token as usize * tokens..(token as usize + 1) * tokens]
    }

    /// The batch of a step.
    ///
    /// # Errors
    /// If `step` is so large that its sequences cannot be counted.
    pub fn training(&self, seed: u64, step: u64, sequences: usize, seq_len: usize) -> Result<Batch, LabError> {
        let first = step.checked_mul(sequences as u64).and_then(|first| {
            first.checked_add(sequences as u64)?;
            Some(first)
        });
        let first = first.ok_or_else(|| LabError::Request(format!("step {step} is beyond what can be counted")))?;
        Ok(self.batch(sequences, seq_len, |number| generator("training", &[self.task.seed, seed, first + number])))
    }

    /// The batch to be measured on; it depends on the task alone.
    pub fn held_out(&self, sequences: usize, seq_len: usize) -> Batch {
        self.batch(sequences, seq_len, |number| generator("held-out", &[self.task.seed, number]))
    }

    fn batch(&self, sequences: usize, seq_len: usize, generator: impl Fn(u64) -> ChaCha8Rng + Sync) -> Batch {
        let drawn: Vec<Vec<u32>> = (0..sequences as u64)
            .into_par_iter()
            .map(|number| self.draw(seq_len + 1, &mut generator(number)))
            .collect();
        let mut batch = Batch { sequences, seq_len, inputs: Vec::new(), targets: Vec::new() };
        for sequence in drawn {
            batch.inputs.extend_from_slice(&sequence[..seq_len]);
            batch.targets.extend_from_slice(&sequence[1..]);
        }
        batch
    }

    /// A sequence of `count` tokens.
    fn draw(&self, count: usize, random: &mut ChaCha8Rng) -> Vec<u32> {
        let mut sequence = vec![self.bos()];
        while sequence.len() < count {
            let last = sequence[sequence.len() - 1];
            let next = if self.is_trigger(last) { sequence[sequence.len() - 2] } else { self.follower(last, random) };
            sequence.push(next);
        }
        sequence
    }

    /// A draw from a token's row.
    fn follower(&self, token: u32, random: &mut ChaCha8Rng) -> u32 {
        let tokens = self.task.tokens;
        let row = &self.cumulated[token as usize * tokens..(token as usize + 1) * tokens];
        let point = random.random::<f64>() * row[tokens - 1];
        row.partition_point(|&sum| sum <= point).min(tokens - 1) as u32
    }
}

/// A draw from the symmetric Dirichlet distribution: gamma variates over their sum.
fn dirichlet(gamma: &Gamma<f64>, count: usize, random: &mut ChaCha8Rng) -> Vec<f64> {
    loop {
        let variates: Vec<f64> = (0..count).map(|_| gamma.sample(random)).collect();
        let sum: f64 = variates.iter().sum();
        // Of a small concentration most variates are almost zero; should all be so, they are no distribution.
        if sum > f64::MIN_POSITIVE {
            return variates.iter().map(|variate| variate / sum).collect();
        }
    }
}

/// Random numbers for one purpose; those of another purpose or other numbers have nothing to do with them.
fn generator(purpose: &str, numbers: &[u64]) -> ChaCha8Rng {
    let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    ChaCha8Rng::from_seed(digest(&[b"bigram-backcopy", purpose.as_bytes(), &bytes]))
}
