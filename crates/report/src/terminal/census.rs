//! The census: what the weights say of spikes, in a sentence, and block by block.

use sinkscope_anatomy::census::prediction::PredictionScore;
use sinkscope_anatomy::census::steering::SteeringLayer;
use sinkscope_anatomy::census::{BlockCensus, Census, Spectrum};

use super::grid::{Grid, Heading};
use super::style::Style;
use crate::number::{self, and_more, counted, factor, known, percent, thousandths, value};
use crate::text::wrap;

/// Channels named of a prediction.
const MOST_CHANNELS: usize = 8;

/// What will happen, by the weights.
pub(super) fn finding(census: &Census, style: &Style) -> String {
    if census.coefficient.is_none() {
        return wrap(
            "This model's feed-forward blocks have no quadratic term: without a gate, and with ReLU, nothing amplifies \
             quadratically.",
            style.width(),
        );
    }
    let Some(prediction) = &census.prediction else { return String::new() };
    let Some(peak) = &prediction.peak else {
        return wrap("No spike is to be expected of first tokens.", style.width());
    };
    let named: Vec<String> = prediction.channels.iter().take(MOST_CHANNELS).map(usize::to_string).collect();
    let more = and_more(prediction.channels.len().saturating_sub(MOST_CHANNELS));
    let text = format!(
        "A first token is expected to reach {} in channel {} at block {}. It comes in at {} and goes out at {}; channels that \
         share the trigger: {}{more}.",
        value(peak.score),
        peak.channel,
        peak.block,
        number::blocks(&prediction.step_up),
        number::blocks(&prediction.step_down),
        named.join(", "),
    );
    wrap(&text, style.width())
}

/// The channels of largest norm of every block, and the spectrum of the first.
pub(super) fn blocks(census: &Census, style: &Style) -> Option<String> {
    if census.blocks.is_empty() {
        return None;
    }
    let others = |block: &BlockCensus| {
        let next = block.top[1..].iter().map(|top| format!("{} ({})", top.channel, value(top.frobenius)));
        next.collect::<Vec<_>>().join(", ")
    };
    let rows = census.blocks.iter().filter_map(|block| {
        let top = block.top.first()?;
        Some((block, top, census.spectrum(block.block, top.channel)))
    });
    let grid = Grid::of(
        rows,
        &[
            (Heading::number("block"), &|(block, ..)| block.block.to_string()),
            (Heading::number("channel"), &|(_, top, _)| top.channel.to_string()),
            (Heading::number("norm"), &|(_, top, _)| value(top.frobenius)),
            (Heading::number("ratio"), &|(block, top, _)| factor(top.frobenius / block.median)),
            (Heading::number("eigenvalue"), &|(.., spectrum)| known(spectrum.and_then(leading), value)),
            (Heading::number("dominance"), &|(.., spectrum)| known(spectrum.and_then(|of| of.dominance), factor)),
            (Heading::text("next channels").expendable(1), &|(block, ..)| others(block)),
        ],
    );
    let what = "the channel of largest ||U||, how far it stands above the block's median, its leading eigenvalue";
    Some(style.title("Census", what) + &grid.render(style))
}

fn leading(spectrum: &Spectrum) -> Option<f64> {
    spectrum.eigenvalues.first().copied()
}

/// The predicted channel in every block: what first tokens would make of it.
pub(super) fn rankings(census: &Census, style: &Style) -> Option<String> {
    let prediction = census.prediction.as_ref()?;
    prediction.peak.as_ref()?;
    let mut headings = vec![Heading::number("rank")];
    // The last is the prediction.
    let others = prediction.rankings.len().saturating_sub(1);
    headings.extend(prediction.rankings.iter().enumerate().map(|(index, ranking)| {
        Heading::text(&ranking.name).expendable((others - index).try_into().unwrap_or(u8::MAX))
    }));
    let mut grid = Grid::new(headings);
    for rank in 0..prediction.rankings.iter().map(|ranking| ranking.pairs.len()).max().unwrap_or(0).min(6) {
        let cells = prediction.rankings.iter().map(|ranking| {
            known(ranking.pairs.get(rank), |pair| {
                format!("{} in block {} ({})", pair.channel, pair.block, value(pair.score))
            })
        });
        grid.row(std::iter::once((rank + 1).to_string()).chain(cells).collect());
    }
    Some(
        style.title("Rankings", "channels by what the weights could do, and by what first tokens reach")
            + &grid.render(style),
    )
}

/// How right the prediction was.
pub(super) fn score(score: &PredictionScore, style: &Style) -> String {
    let mut text: Vec<String> =
        score.step_blocks.iter().map(|ranking| format!("{} by {}", percent(ranking.precision), ranking.name)).collect();
    if let Some(first) = score.step_blocks.first() {
        let what = format!(
            "Of the strongest stage's {} found among as many highest-ranked: ",
            counted(first.k, "step block", "step blocks")
        );
        text = vec![what + &text.join(", ")];
    }
    text.extend(
        score.channels.map(|share| format!("of its spike channels {} are among as many predicted", percent(share))),
    );
    wrap(&format!("{}.", text.join("; ")), style.width())
}

/// How first tokens are turned towards the trigger.
pub(super) fn steering(census: &Census, style: &Style) -> Option<String> {
    let steering = census.steering.as_ref()?;
    let most = |layer: &SteeringLayer| {
        let mut heads: Vec<(usize, f64)> = layer.heads.iter().copied().enumerate().collect();
        heads.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()));
        let named = heads.iter().take(3).map(|(head, share)| format!("{head} ({share:+.3})"));
        named.collect::<Vec<_>>().join(", ")
    };
    let grid = Grid::of(
        &steering.layers,
        &[
            (Heading::number("layer"), &|layer| layer.layer.to_string()),
            (Heading::number("attention alone").expendable(1), &|layer| thousandths(layer.attention_alone)),
            (Heading::number("after attention"), &|layer| thousandths(layer.after_attention)),
            (Heading::number("after feed-forward"), &|layer| known(layer.after_feed_forward, thousandths)),
            (Heading::text("heads that turn it most").expendable(2), &|layer| most(layer)),
        ],
    );
    let what = format!(
        "|cos| of {} first tokens to the trigger of channel {} in block {}; their embeddings have {:.3}",
        steering.sample, steering.channel, steering.block, steering.embedding
    );
    Some(style.title("Steering", &what) + &grid.render(style))
}
