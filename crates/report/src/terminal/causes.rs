//! What explains spikes and sinks: the five regularities, the amplifier at work, normalisation, the geometry of heads.

use sinkscope_anatomy::definitions::{RANK_SHARE, TOP_CHANNELS, in_percent};
use sinkscope_anatomy::regularities::{Regularity, Threshold};
use sinkscope_anatomy::results::{Anatomy, SampleSize, Stage};
use sinkscope_anatomy::sample::amplifier::{Amplifier, AmplifierTokens};
use sinkscope_anatomy::sample::embedding::{SelfSinking, SelfSinkingTokens};
use sinkscope_anatomy::sample::geometry::{Geometry, HeadGeometry};
use sinkscope_anatomy::sample::normalisation::{Normalisation, NormalisedTokens};
use sinkscope_anatomy::wide::mean;

use super::grid::{Grid, Heading};
use super::style::Style;
use crate::number::{counted, factor, percent, value};
use crate::text::token_or_id;

/// Most vocabulary items named that spike away from position 0.
const MOST_ITEMS: usize = 8;
/// Width of a token.
const TOKEN_WIDTH: usize = 16;

/// The verdict table.
pub(super) fn regularities(verdicts: &[Regularity], style: &Style) -> String {
    let mut grid = Grid::new([
        Heading::text("spikes occur"),
        Heading::text("verdict"),
        Heading::number("value"),
        Heading::text("threshold"),
        Heading::text("of what").expendable(1),
    ]);
    for verdict in verdicts {
        let threshold = match verdict.threshold {
            Threshold::AtMost(most) => format!("≤ {}", percent(most)),
            Threshold::AtLeast(least) => format!("≥ {}", percent(least)),
        };
        grid.row(vec![
            verdict.name.clone(),
            if verdict.holds { "holds" } else { "fails" }.to_owned(),
            verdict.value.map_or_else(|| "none".to_owned(), percent),
            threshold,
            verdict.quantity.clone(),
        ]);
    }
    style.title("Regularities", "of the strongest stage") + &grid.render(style)
}

/// The vocabulary items of the strongest stage that spike away from position 0.
pub(super) fn elsewhere(stage: &Stage, style: &Style) -> Option<String> {
    if stage.elsewhere.is_empty() {
        return None;
    }
    let mut grid = Grid::new([
        Heading::text("token"),
        Heading::number("spikes"),
        Heading::number("of"),
        Heading::number("first to spike"),
        Heading::number("first occurrence").expendable(1),
        Heading::number("least position").expendable(2),
    ]);
    for item in stage.elsewhere.iter().take(MOST_ITEMS) {
        let text = token_or_id(&item.text, item.id, TOKEN_WIDTH);
        let counts = [item.spiking, item.occurrences, item.first, item.first_occurrence, item.least_position];
        grid.row(std::iter::once(text).chain(counts.map(|count| count.to_string())).collect());
    }
    let hidden = stage.elsewhere.len().saturating_sub(MOST_ITEMS);
    if hidden > 0 {
        grid.elided(counted(hidden, "rarer token", "rarer tokens"));
    }
    Some(style.title("Away from position 0", "tokens of the strongest stage, and when") + &grid.render(style))
}

/// The second look: everything that was measured on the sample.
pub(super) fn sample(anatomy: &Anatomy, style: &Style) -> Vec<String> {
    let Some(size) = &anatomy.sample else { return Vec::new() };
    let mut sections = Vec::new();
    sections.extend(anatomy.silu.as_ref().and_then(|silu| amplifier(&silu.blocks, size, style)));
    sections.extend(anatomy.normalisation.as_ref().map(|all| normalisation(all, anatomy, style)));
    sections.extend(anatomy.geometry.as_ref().map(|all| geometry(all, style)));
    sections.extend(anatomy.self_sinking.as_ref().and_then(|found| self_sinking(found, style)));
    sections
}

fn amplifier(blocks: &[Amplifier], size: &SampleSize, style: &Style) -> Option<String> {
    if blocks.is_empty() {
        return None;
    }
    let mut grid = Grid::new([
        Heading::number("stage").expendable(2),
        Heading::number("block"),
        Heading::text("tokens"),
        Heading::number("cosine"),
        Heading::number("norm ratio").expendable(4),
        Heading::number("bilinear error"),
        Heading::number("to trigger").expendable(1),
        Heading::number("rank one"),
        Heading::number("output"),
        Heading::number("error").expendable(3),
    ]);
    for block in blocks {
        for (kind, of) in [("spike", &block.spike), ("other", &block.other)] {
            let Some(of) = of else { continue };
            let optional = |share: Option<f64>, show: fn(f64) -> String| share.map_or_else(String::new, show);
            let AmplifierTokens { cosine, norm_ratio, bilinear_error, output, rank_one, .. } = of;
            grid.row(vec![
                block.stage.to_string(),
                block.block.to_string(),
                kind.to_owned(),
                format!("{cosine:.3}"),
                format!("{norm_ratio:.3}"),
                optional(*bilinear_error, error),
                optional(of.trigger_cosine, |cosine| format!("{cosine:.3}")),
                optional(*rank_one, value),
                value(*output),
                optional(of.rank_one_error, error),
            ]);
        }
    }
    let what = format!(
        "the nonlinearity against its input, and the rank-one form l*(s*.x)^2 against the output, in {} of {}",
        counted(size.sequences, "sequence", "sequences"),
        counted(size.seq_len, "token", "tokens")
    );
    Some(style.title("Amplifier", &what) + &grid.render(style))
}

/// A relative error; a multiple where a share would need many digits.
fn error(share: f64) -> String {
    if share < 10.0 { percent(share) } else { factor(share) }
}

/// Around the steps, and at both ends.
fn normalisation(all: &Normalisation, anatomy: &Anatomy, style: &Style) -> String {
    let energy = format!("energy in {TOP_CHANNELS} channels");
    let mut grid = Grid::new([
        Heading::number("after block"),
        Heading::text("tokens"),
        Heading::number(&energy),
        Heading::number("largest"),
        Heading::number("cosine"),
        Heading::number("least").expendable(1),
        Heading::number("with gamma").expendable(2),
    ]);
    let last = all.blocks.len().saturating_sub(1);
    let stage = anatomy.spikes.as_ref().and_then(|spikes| spikes.stages.first());
    let steps: Vec<usize> = stage.map_or_else(Vec::new, |stage| [&stage.step_up[..], &stage.step_down].concat());
    let shown = |block: usize| block == 0 || block == last || steps.contains(&block) || steps.contains(&(block + 1));
    for block in all.blocks.iter().filter(|block| shown(block.block)) {
        for (kind, of) in [("spike", &block.spike), ("other", &block.other)] {
            let Some(NormalisedTokens { largest, plain, with_gamma, .. }) = of else { continue };
            let cosine = |cosine: Option<f64>| cosine.map_or_else(String::new, |cosine| format!("{cosine:.4}"));
            grid.row(vec![
                block.block.to_string(),
                kind.to_owned(),
                percent(plain.top3_energy),
                value(*largest),
                cosine(plain.cosine_mean),
                cosine(plain.cosine_min),
                cosine(with_gamma.and_then(|with_gamma| with_gamma.cosine_mean)),
            ]);
        }
    }
    let bound = all.blocks.first().map_or(0.0, |block| block.bound);
    let what = format!("the normalised residual, no entry of which exceeds {}; cosines of pairs", value(bound));
    style.title("Normalisation", &what) + &grid.render(style)
}

/// Sink heads against the others.
fn geometry(all: &Geometry, style: &Style) -> String {
    // A kind of head that does not occur has no column.
    let mut grid = Grid::new([
        Heading::text("mean over"),
        Heading::number("sink heads").expendable(1),
        Heading::number("other heads").expendable(1),
    ]);
    let of_heads = |sink: bool, of: fn(&HeadGeometry) -> Option<f64>| {
        mean(all.heads.iter().filter(|head| head.sink == sink).filter_map(of))
    };
    let mut row = |name: &str, show: fn(f64) -> String, of: fn(&HeadGeometry) -> Option<f64>| {
        let means = [true, false].map(|sink| of_heads(sink, of));
        if means != [None, None] {
            let cells = means.map(|mean| mean.map_or_else(String::new, show));
            grid.row(std::iter::once(name.to_owned()).chain(cells).collect());
        }
    };
    row("sink token spikes", percent, |head| Some(head.sink_is_spike));
    let most = in_percent(RANK_SHARE);
    row(&format!("{most} rank of spike keys"), value, |head| head.key_rank95_spike.map(|rank| rank as f64));
    row(&format!("{most} rank of other keys"), value, |head| head.key_rank95_other.map(|rank| rank as f64));
    row("logit gap", value, |head| head.logit_gap);
    row("its deviation over queries", value, |head| head.logit_gap_deviation);
    row("cosine of queries to the sink key", value, |head| head.query_to_sink_key);
    row("cosine of queries to other keys", value, |head| head.query_to_other_keys);
    row("length of the sink key", value, |head| Some(head.key_norm_sink));
    row("length of other keys", value, |head| Some(head.key_norm_other));
    row("length of the sink value", value, |head| Some(head.value_norm_sink));
    row("length of other values", value, |head| Some(head.value_norm_other));
    row("distance attended to", value, |head| Some(head.distance));
    row("distance beside the sink", value, |head| head.distance_beside_sink);
    let sinks = all.heads.iter().filter(|head| head.sink).count();
    let what = format!("{} of {}", counted(sinks, "sink head", "sink heads"), all.heads.len());
    style.title("Geometry", &what) + &grid.render(style)
}

fn self_sinking(found: &SelfSinking, style: &Style) -> Option<String> {
    let mut grid = Grid::new([
        Heading::text("tokens"),
        Heading::number("number"),
        Heading::number("to gamma"),
        Heading::number("magnitude"),
        Heading::number("to itself").expendable(1),
        Heading::number("at most"),
    ]);
    for (kind, of) in [("spike tokens", &found.spike), ("delimiters", &found.delimiter), ("others", &found.other)] {
        let Some(SelfSinkingTokens { tokens, embedding_gamma_cosine, post_norm_magnitude, to_self }) = of else {
            continue;
        };
        grid.row(vec![
            kind.to_owned(),
            tokens.to_string(),
            embedding_gamma_cosine.map_or_else(String::new, |cosine| format!("{cosine:.3}")),
            post_norm_magnitude.map_or_else(String::new, value),
            to_self.first().copied().map_or_else(String::new, percent),
            percent(to_self.iter().copied().fold(0.0, f64::max)),
        ]);
    }
    (found.spike.is_some() || found.delimiter.is_some())
        .then(|| {
            let what = "away from position 0: cosine of the embedding to gamma, magnitude after the first norm, attention to \
                        itself in layer 0 and at most before the step up";
            style.title("Self-sinking", what) + &grid.render(style)
        })
}
