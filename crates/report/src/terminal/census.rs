//! The census: what the weights say of spikes, in a sentence, and block by block.

use sinkscope_anatomy::census::prediction::PredictionScore;
use sinkscope_anatomy::census::{Census, Spectrum};

use super::grid::{Grid, Heading};
use super::style::Style;
use crate::number::{self, and_more, counted, factor, percent, value};
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
    let mut grid = Grid::new([
        Heading::number("block"),
        Heading::number("channel"),
        Heading::number("norm"),
        Heading::number("ratio"),
        Heading::number("eigenvalue"),
        Heading::number("dominance"),
        Heading::text("next channels").expendable(1),
    ]);
    for block in &census.blocks {
        let Some(top) = block.top.first() else { continue };
        let spectrum = census.spectrum(block.block, top.channel);
        let others: Vec<String> =
            block.top[1..].iter().map(|top| format!("{} ({})", top.channel, value(top.frobenius))).collect();
        grid.row(vec![
            block.block.to_string(),
            top.channel.to_string(),
            value(top.frobenius),
            factor(top.frobenius / block.median),
            spectrum.and_then(leading).map_or_else(String::new, value),
            spectrum.and_then(|spectrum| spectrum.dominance).map_or_else(String::new, factor),
            others.join(", "),
        ]);
    }
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
        let mut cells = vec![(rank + 1).to_string()];
        cells.extend(prediction.rankings.iter().map(|ranking| {
            let pair = ranking.pairs.get(rank);
            pair.map_or_else(String::new, |pair| {
                format!("{} in block {} ({})", pair.channel, pair.block, value(pair.score))
            })
        }));
        grid.row(cells);
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
    let mut grid = Grid::new([
        Heading::number("layer"),
        Heading::number("attention alone").expendable(1),
        Heading::number("after attention"),
        Heading::number("after feed-forward"),
        Heading::text("heads that turn it most").expendable(2),
    ]);
    for layer in &steering.layers {
        let mut heads: Vec<(usize, f64)> = layer.heads.iter().copied().enumerate().collect();
        heads.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()));
        let heads: Vec<String> = heads.iter().take(3).map(|(head, share)| format!("{head} ({share:+.3})")).collect();
        grid.row(vec![
            layer.layer.to_string(),
            format!("{:.3}", layer.attention_alone),
            format!("{:.3}", layer.after_attention),
            layer.after_feed_forward.map_or_else(String::new, |cosine| format!("{cosine:.3}")),
            heads.join(", "),
        ]);
    }
    let what = format!(
        "|cos| of {} first tokens to the trigger of channel {} in block {}; their embeddings have {:.3}",
        steering.sample, steering.channel, steering.block, steering.embedding
    );
    Some(style.title("Steering", &what) + &grid.render(style))
}
