//! What a recipe may ask of looks beside the usual: how much of a token's length one channel owns, where the standout is, how
//! many first tokens spike, and how well text of the training length is predicted.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinkscope_anatomy::definitions::SPIKE_RATIO;
use sinkscope_anatomy::error::AnatomyError;
use sinkscope_anatomy::examination::{AnatomyRequest, Surroundings, examine};
use sinkscope_anatomy::magnitude::largest_of_row;
use sinkscope_anatomy::spikes::is_spike;
use sinkscope_anatomy::wide::mean;
use sinkscope_model::Model;
use sinkscope_model::pass::Pass;
use sinkscope_model::tap::{BlockView, Event, EventData, Place, Point, Tap};
use sinkscope_sources::data::TokenBatch;

use super::{MEMORY, SpikeAt};

/// The detail of a look.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Detail {
    /// Where the standout is: the largest magnitude at its block.
    pub standout_at: Option<SpikeAt>,
    /// Share of a token's squared length that its largest channel owns: of the token of each sequence where it is most, the mean
    /// over sequences, at the block where that is most.
    pub share: f64,
    /// The same of the three largest channels together.
    pub share_of_three: f64,
    /// The block of `share`.
    pub share_block: usize,
    /// Share of sequences whose first token spikes at the block of the standout.
    pub first_tokens_spike: f64,
    /// Perplexity of held-out sequences of the training length, with windows of their own; `None` if it is that of looks.
    pub perplexity_at_training_length: Option<f64>,
}

/// Follows every token over all blocks.
struct DetailTap {
    seq_len: usize,
    /// By block and token.
    tokens: Vec<Vec<OfToken>>,
}

/// What a token has at a block.
#[derive(Debug, Clone, Copy, Default)]
struct OfToken {
    largest: f32,
    channel: usize,
    /// Of its squared length, with one channel and with three.
    shares: [f64; 2],
}

impl OfToken {
    fn new(row: &[f32]) -> Self {
        let (value, channel) = largest_of_row(row);
        let mut most = [0.0_f64; 3];
        let mut length = 0.0;
        for square in row.iter().map(|value| f64::from(*value).powi(2)) {
            length += square;
            if square > most[2] {
                most[2] = square;
                most.sort_by(|a, b| b.total_cmp(a));
            }
        }
        let share = |of: f64| if length > 0.0 { of / length } else { 0.0 };
        Self { largest: value.abs(), channel, shares: [share(most[0]), share(most.iter().sum())] }
    }
}

impl Tap for DetailTap {
    type Partial = Vec<OfToken>;

    fn wants(&self, point: Point, block: usize) -> bool {
        point == Point::Residual && block < self.tokens.len()
    }

    fn observe(&self, event: &Event<'_>) -> Vec<OfToken> {
        let EventData::Rows(values) = event.data else { return Vec::new() };
        values.chunks_exact((values.len() / event.place.rows.max(1)).max(1)).map(OfToken::new).collect()
    }

    fn merge(&mut self, _: Point, place: &Place, rows: Vec<OfToken>) {
        let first = place.sequence * self.seq_len + place.position;
        self.tokens[place.block][first..first + rows.len()].copy_from_slice(&rows);
    }

    fn block_done(&mut self, _: &BlockView<'_>) {}
}

/// The detail of a look at `model` on `batch`, which stands out at `standout`, with the typical token's largest by block; `long` are
/// sequences of the training length, if that is another.
///
/// # Errors
/// If a weight or an activation is not finite.
pub(super) fn detail(
    model: &Model,
    batch: &TokenBatch,
    long: Option<&TokenBatch>,
    standout: Option<usize>,
    typical: &[f64],
) -> Result<Detail, AnatomyError> {
    let unseen = vec![OfToken::default(); batch.sequences * batch.seq_len];
    let blocks = 2 * model.architecture().layer_count() + 1;
    let mut tap = DetailTap { seq_len: batch.seq_len, tokens: vec![unseen; blocks] };
    Pass::new(model, MEMORY).run(batch, &mut [&mut tap])?;
    let most = |tokens: &[OfToken], of: usize| {
        let largest = |sequence: &[OfToken]| sequence.iter().map(|token| token.shares[of]).fold(0.0, f64::max);
        mean(tokens.chunks_exact(batch.seq_len.max(1)).map(largest)).unwrap_or(0.0)
    };
    let peak = |of: usize| {
        // Backwards, because of equals the last is taken.
        let shares = (1..blocks).rev().map(|block| (block, most(&tap.tokens[block], of)));
        shares.max_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or((0, 0.0))
    };
    let (share_block, share) = peak(0);
    let at = standout.map(|block| (block, &tap.tokens[block]));
    let standout_at = at.and_then(|(block, tokens)| {
        let (token, of) = tokens.iter().enumerate().rev().max_by(|a, b| a.1.largest.total_cmp(&b.1.largest))?;
        Some(SpikeAt { block, channel: of.channel, position: token % batch.seq_len })
    });
    let first_spikes = |(block, tokens): (usize, &Vec<OfToken>)| {
        let first = tokens.iter().step_by(batch.seq_len.max(1));
        mean(first.map(|token| f64::from(u8::from(is_spike(token.largest, typical[block], SPIKE_RATIO)))))
    };
    let nll = |long: &TokenBatch| {
        let request = AnatomyRequest { nll: true, ..AnatomyRequest::nothing() };
        let around = Surroundings { memory: MEMORY, text: &|_| String::new(), progress: &|_| {} };
        Ok::<_, AnatomyError>(examine(model, long, &request, around)?.anatomy.nll)
    };
    Ok(Detail {
        standout_at,
        share,
        share_of_three: peak(1).1,
        share_block,
        first_tokens_spike: at.and_then(first_spikes).unwrap_or(0.0),
        perplexity_at_training_length: long.map(nll).transpose()?.flatten().map(f64::exp),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_the_squared_length() {
        let token = OfToken::new(&[1.0, -4.0, 2.0, 0.0, 2.0, 0.0]);
        assert_eq!((token.largest, token.channel), (4.0, 1));
        assert_eq!(token.shares, [16.0 / 25.0, 24.0 / 25.0]);
        assert_eq!(OfToken::new(&[0.0; 4]).shares, [0.0, 0.0]);
    }
}
