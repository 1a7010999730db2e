//! The stages: how each spike comes, stays and goes, in which channels and for which tokens.

use std::collections::BTreeMap;

use sinkscope_anatomy::results::{Spikes, Stage};

use super::grid::{Grid, Heading};
use super::style::Style;
use crate::number::{and_more, count, counted, percent, value};
use crate::text::{token_or_id, wrap_indented};

/// Most stages shown; the files have all.
const MOST_STAGES: usize = 8;
/// Most channels named of a stage.
const MOST_CHANNELS: usize = 6;
/// Most token texts named of a stage.
const MOST_TOKENS: usize = 6;
/// Width of a token.
const TOKEN_WIDTH: usize = 16;

/// The table, and for each stage its channels and tokens. Empty if there is no stage: the findings have said so.
pub(super) fn section(spikes: &Spikes, style: &Style) -> Option<String> {
    if spikes.stages.is_empty() {
        return None;
    }
    let mut grid = Grid::of(
        spikes.stages.iter().take(MOST_STAGES).enumerate(),
        &[
            (Heading::number("stage"), &|(index, _)| (index + 1).to_string()),
            (Heading::number("channel"), &|(_, stage)| stage.channel.to_string()),
            (Heading::text("step-up"), &|(_, stage)| blocks(&stage.step_up)),
            (Heading::number("peak"), &|(_, stage)| value(stage.peak)),
            (Heading::number("at block"), &|(_, stage)| stage.peak_block.to_string()),
            (Heading::text("step-down"), &|(_, stage)| blocks(&stage.step_down)),
            (Heading::number("tokens").expendable(1), &|(_, stage)| count(stage.tokens.len() as u64)),
            (Heading::number("at position 0").expendable(2), &|(_, stage)| percent(stage.share_at_position_0)),
            (Heading::number("elsewhere").expendable(3), &|(_, stage)| percent(stage.rate_elsewhere)),
        ],
    );
    let hidden = spikes.stages.len().saturating_sub(MOST_STAGES);
    if hidden > 0 {
        grid.elided(counted(hidden, "weaker stage", "weaker stages"));
    }
    let what = format!("runs of blocks at which a token spikes, {} times the typical token or more", spikes.ratio);
    let mut text = style.title("Stages", &what) + &grid.render(style);
    for (index, stage) in spikes.stages.iter().take(MOST_STAGES).enumerate() {
        let details = format!("stage {}: {}; {}", index + 1, channels(stage), tokens(stage));
        text.push_str(&wrap_indented(&details, style.width(), "  "));
    }
    Some(text)
}

fn blocks(blocks: &[usize]) -> String {
    if blocks.is_empty() {
        "none".to_owned()
    } else {
        blocks.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
    }
}

fn channels(stage: &Stage) -> String {
    let named: Vec<String> = stage
        .channels
        .iter()
        .take(MOST_CHANNELS)
        .map(|channel| format!("{} ({})", channel.channel, value(channel.mean)))
        .collect();
    let more = and_more(stage.channels.len().saturating_sub(MOST_CHANNELS));
    let word = if stage.channels.len() == 1 { "channel" } else { "channels" };
    format!("{word} {}{more}", named.join(", "))
}

/// The most frequent token texts; ids where there is no tokeniser.
fn tokens(stage: &Stage) -> String {
    let mut frequency: BTreeMap<(String, u32), usize> = BTreeMap::new();
    for token in &stage.tokens {
        let text = token_or_id(&token.text, token.id, TOKEN_WIDTH);
        *frequency.entry((text, token.id)).or_default() += 1;
    }
    let mut frequency: Vec<_> = frequency.into_iter().collect();
    // Stable: equally frequent tokens stay in the order of their text.
    frequency.sort_by_key(|(_, times)| std::cmp::Reverse(*times));
    let named: Vec<String> = frequency
        .iter()
        .take(MOST_TOKENS)
        .map(|((text, _), times)| if *times > 1 { format!("{text} ({times} times)") } else { text.clone() })
        .collect();
    let more = and_more(frequency.len().saturating_sub(MOST_TOKENS));
    let word = if frequency.len() == 1 { "token" } else { "tokens" };
    format!("{word} {}{more}", named.join(", "))
}
