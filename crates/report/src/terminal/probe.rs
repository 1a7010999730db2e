//! The vocabulary probe: how many items spike, and which come last and first.

use sinkscope_anatomy::probe::{Probe, ProbedToken};

use super::grid::{Grid, Heading};
use super::style::Style;
use crate::number::{count, percent, value};
use crate::text::{token_or_id, wrap};

/// Items shown at each end.
const SHOWN: usize = 8;
/// Width of a token.
const TOKEN_WIDTH: usize = 20;

/// What was found, in a sentence.
pub(super) fn finding(probe: &Probe, style: &Style) -> String {
    let (Some(block), Some(threshold), Some(spiking), Some(share)) =
        (probe.block, probe.threshold, probe.spiking, probe.share)
    else {
        return wrap("The text shows no stage of spikes, so there is none to probe the vocabulary for.", style.width());
    };
    let text = format!(
        "{} of {} vocabulary items ({}) spike at position {}: their largest activation after block {block} is at least {}.",
        count(spiking as u64),
        count(probe.vocabulary as u64),
        share_text(share),
        probe.position,
        value(threshold),
    );
    wrap(&text, style.width())
}

/// To three decimals where one would say all or none.
fn share_text(share: f64) -> String {
    let fine = format!("{:.3} %", 100.0 * share);
    let near_an_end = (0.999..1.0).contains(&share) || (share > 0.0 && share < 0.001);
    if near_an_end && fine != "100.000 %" && fine != "0.000 %" { fine } else { percent(share) }
}

/// Both ends.
pub(super) fn ends(probe: &Probe, style: &Style) -> Option<String> {
    if probe.lowest.is_empty() {
        return None;
    }
    let text = |token: &ProbedToken| token_or_id(&token.text, token.id, TOKEN_WIDTH);
    let grid = Grid::of(
        probe.lowest.iter().zip(&probe.highest).take(SHOWN),
        &[
            (Heading::text("lowest"), &|(lowest, _)| text(lowest)),
            (Heading::number("value"), &|(lowest, _)| value(lowest.value.into())),
            (Heading::text("highest"), &|(_, highest)| text(highest)),
            (Heading::number("value"), &|(_, highest)| value(highest.value.into())),
        ],
    );
    let what = format!("largest activation after block {}", probe.block.unwrap_or(0));
    Some(style.title("Vocabulary", &what) + &grid.render(style))
}
