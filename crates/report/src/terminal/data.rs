//! Prepared data: what was made of which text.

use sinkscope_lab::data::Manifest;

use super::grid::{Grid, Heading};
use super::style::Style;
use crate::envelope::Timing;
use crate::number::{bytes, count, counted, percent, seconds, value};
use crate::text::{escape_control, wrap};

/// What it is, and what it was made of.
pub(super) fn header(directory: &str, manifest: &Manifest, style: &Style) -> String {
    let documents = manifest.train.documents + manifest.val.documents;
    let tokens = manifest.train.tokens + manifest.val.tokens - documents;
    let text = format!(
        "{}: {} of text in {} documents from {}, in a vocabulary of {} tokens; {:.2} bytes a token.",
        escape_control(directory),
        bytes(manifest.bytes),
        count(documents),
        counted(manifest.inputs.len(), "file", "files"),
        count(manifest.vocabulary as u64),
        manifest.bytes as f64 / tokens.max(1) as f64,
    );
    wrap(&text, style.width())
}

/// A row a split.
pub(super) fn splits(manifest: &Manifest, style: &Style) -> String {
    let held_out = manifest.held_out_bytes;
    let train = ("train", &manifest.train, manifest.bytes.saturating_sub(held_out));
    let grid = Grid::of(
        [train, ("held out", &manifest.val, held_out)],
        &[
            (Heading::text("split"), &|(name, ..)| (*name).to_owned()),
            (Heading::number("documents"), &|(_, shard, _)| count(shard.documents)),
            (Heading::number("tokens"), &|(_, shard, _)| count(shard.tokens)),
            (Heading::number("text"), &|(.., of_text)| bytes(*of_text)),
            (Heading::number("share of text"), &|(.., of_text)| {
                percent(*of_text as f64 / manifest.bytes.max(1) as f64)
            }),
            (Heading::text("files").expendable(1), &|(_, shard, _)| {
                format!("{}, {}", shard.tokens_file, shard.index_file)
            }),
        ],
    );
    let what = format!("{} bits a token, each document after <s>", 8 * manifest.token_bytes);
    style.title("Splits", &what) + &grid.render(style)
}

/// How long it took.
pub(super) fn timing(manifest: &Manifest, timing: &Timing, style: &Style) -> String {
    let mut facts = vec![seconds(timing.seconds)];
    if timing.seconds > 0.0 {
        facts.push(format!("{} MB of text/s", value(manifest.bytes as f64 / 1e6 / timing.seconds)));
    }
    facts.extend(timing.peak_rss_bytes.map(|peak| format!("peak memory {}", bytes(peak))));
    let text = wrap(&facts.join(", "), style.width());
    format!("{}\n", style.faint(text.trim_end()))
}
