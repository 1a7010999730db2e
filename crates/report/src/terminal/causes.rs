//! What explains spikes and sinks: the five regularities, the amplifier at work, normalisation, the geometry of heads.

use sinkscope_anatomy::definitions::{RANK_SHARE, TOP_CHANNELS, in_percent};
use sinkscope_anatomy::regularities::{Regularity, Threshold};
use sinkscope_anatomy::results::{Anatomy, SampleSize, Stage};
use sinkscope_anatomy::sample::amplifier::Amplifier;
use sinkscope_anatomy::sample::embedding::SelfSinking;
use sinkscope_anatomy::sample::geometry::{Geometry, HeadGeometry};
use sinkscope_anatomy::sample::normalisation::Normalisation;
use sinkscope_anatomy::wide::mean;

use super::grid::{Grid, Heading};
use super::style::Style;
use crate::causes_tables::both;
use crate::number::{counted, factor, known, percent, thousandths, value};
use crate::text::token_or_id;

/// Most vocabulary items named that spike away from position 0.
const MOST_ITEMS: usize = 8;
/// Width of a token.
const TOKEN_WIDTH: usize = 16;

/// The verdict table.
pub(super) fn regularities(verdicts: &[Regularity], style: &Style) -> String {
    let threshold = |threshold| match threshold {
        Threshold::AtMost(most) => format!("≤ {}", percent(most)),
        Threshold::AtLeast(least) => format!("≥ {}", percent(least)),
    };
    let grid = Grid::of(
        verdicts,
        &[
            (Heading::text("spikes occur"), &|verdict| verdict.name.clone()),
            (Heading::text("verdict"), &|verdict| if verdict.holds { "holds" } else { "fails" }.to_owned()),
            (Heading::number("value"), &|verdict| verdict.value.map_or_else(|| "none".to_owned(), percent)),
            (Heading::text("threshold"), &|verdict| threshold(verdict.threshold)),
            (Heading::text("of what").expendable(1), &|verdict| verdict.quantity.clone()),
        ],
    );
    style.title("Regularities", "of the strongest stage") + &grid.render(style)
}

/// The vocabulary items of the strongest stage that spike away from position 0.
pub(super) fn elsewhere(stage: &Stage, style: &Style) -> Option<String> {
    if stage.elsewhere.is_empty() {
        return None;
    }
    let mut grid = Grid::of(
        stage.elsewhere.iter().take(MOST_ITEMS),
        &[
            (Heading::text("token"), &|item| token_or_id(&item.text, item.id, TOKEN_WIDTH)),
            (Heading::number("spikes"), &|item| item.spiking.to_string()),
            (Heading::number("of"), &|item| item.occurrences.to_string()),
            (Heading::number("first to spike"), &|item| item.first.to_string()),
            (Heading::number("first occurrence").expendable(1), &|item| item.first_occurrence.to_string()),
            (Heading::number("least position").expendable(2), &|item| item.least_position.to_string()),
        ],
    );
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
    let grid = Grid::of(
        blocks.iter().flat_map(|block| both(block, block.spike.as_ref(), block.other.as_ref())),
        &[
            (Heading::number("stage").expendable(2), &|(block, ..)| block.stage.to_string()),
            (Heading::number("block"), &|(block, ..)| block.block.to_string()),
            (Heading::text("tokens"), &|(_, kind, _)| (*kind).to_owned()),
            (Heading::number("cosine"), &|(.., of)| thousandths(of.cosine)),
            (Heading::number("norm ratio").expendable(4), &|(.., of)| thousandths(of.norm_ratio)),
            (Heading::number("bilinear error"), &|(.., of)| known(of.bilinear_error, error)),
            (Heading::number("to trigger").expendable(1), &|(.., of)| known(of.trigger_cosine, thousandths)),
            (Heading::number("rank one"), &|(.., of)| known(of.rank_one, value)),
            (Heading::number("output"), &|(.., of)| value(of.output)),
            (Heading::number("error").expendable(3), &|(.., of)| known(of.rank_one_error, error)),
        ],
    );
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
    let last = all.blocks.len().saturating_sub(1);
    let stage = anatomy.spikes.as_ref().and_then(|spikes| spikes.stages.first());
    let steps: Vec<usize> = stage.map_or_else(Vec::new, |stage| [&stage.step_up[..], &stage.step_down].concat());
    let shown = |block: usize| block == 0 || block == last || steps.contains(&block) || steps.contains(&(block + 1));
    let cosine = |cosine: Option<f64>| known(cosine, |cosine| format!("{cosine:.4}"));
    let grid = Grid::of(
        all.blocks
            .iter()
            .filter(|block| shown(block.block))
            .flat_map(|block| both(block, block.spike.as_ref(), block.other.as_ref())),
        &[
            (Heading::number("after block"), &|(block, ..)| block.block.to_string()),
            (Heading::text("tokens"), &|(_, kind, _)| (*kind).to_owned()),
            (Heading::number(&energy), &|(.., of)| percent(of.plain.top3_energy)),
            (Heading::number("largest"), &|(.., of)| value(of.largest)),
            (Heading::number("cosine"), &|(.., of)| cosine(of.plain.cosine_mean)),
            (Heading::number("least").expendable(1), &|(.., of)| cosine(of.plain.cosine_min)),
            (Heading::number("with gamma").expendable(2), &|(.., of)| {
                cosine(of.with_gamma.and_then(|with_gamma| with_gamma.cosine_mean))
            }),
        ],
    );
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
            let [sinks, others] = means.map(|mean| known(mean, show));
            grid.row(vec![name.to_owned(), sinks, others]);
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
    let kinds = [("spike tokens", &found.spike), ("delimiters", &found.delimiter), ("others", &found.other)];
    let grid = Grid::of(
        kinds.into_iter().filter_map(|(kind, of)| Some((kind, of.as_ref()?))),
        &[
            (Heading::text("tokens"), &|(kind, _)| (*kind).to_owned()),
            (Heading::number("number"), &|(_, of)| of.tokens.to_string()),
            (Heading::number("to gamma"), &|(_, of)| known(of.embedding_gamma_cosine, thousandths)),
            (Heading::number("magnitude"), &|(_, of)| known(of.post_norm_magnitude, value)),
            (Heading::number("to itself").expendable(1), &|(_, of)| known(of.to_self.first().copied(), percent)),
            (Heading::number("at most"), &|(_, of)| percent(of.to_self.iter().copied().fold(0.0, f64::max))),
        ],
    );
    (found.spike.is_some() || found.delimiter.is_some())
        .then(|| {
            let what = "away from position 0: cosine of the embedding to gamma, magnitude after the first norm, attention to \
                        itself in layer 0 and at most before the step up";
            style.title("Self-sinking", what) + &grid.render(style)
        })
}
