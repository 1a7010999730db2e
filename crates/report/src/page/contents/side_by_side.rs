//! Several models beside one another.

use sinkscope_anatomy::results::{Anatomy, Sinks, Spikes, Stage};

use crate::ReportError;
use crate::figure::{Axis, Colour, Figure, Mark, Panel, Series};
use crate::number::{factor, known, list, percent, value};
use crate::page::document::{Block, Listing, Section};
use crate::tidy::Table;

/// Their findings in a table and over their depth.
pub fn section<'a>(examined: impl Iterator<Item = (&'a str, &'a Anatomy)>) -> Result<Section, ReportError> {
    let examined: Vec<(&str, &Anatomy)> = examined.collect();
    let mut section = Section { is_part: true, ..Section::new("side-by-side", "Side by side") };
    let spikes = |anatomy: &Anatomy, show: fn(&Spikes) -> String| known(anatomy.spikes.as_ref(), show);
    let stage = |anatomy: &Anatomy, show: fn(&Stage) -> String| {
        known(anatomy.spikes.as_ref().and_then(|spikes| spikes.stages.first()), show)
    };
    let sinks = |anatomy: &Anatomy, show: fn(&Sinks) -> String| known(anatomy.sinks.as_ref(), show);
    section.blocks.push(Block::Table(Listing::of(
        "What was found in each",
        examined.iter().copied(),
        &[
            ("model", &|(name, _)| (*name).to_owned()),
            ("largest", &|(_, anatomy)| spikes(anatomy, |spikes| value(spikes.largest))),
            ("channel", &|(_, anatomy)| stage(anatomy, |stage| stage.channel.to_string())),
            ("step-up", &|(_, anatomy)| stage(anatomy, |stage| list(&stage.step_up))),
            ("step-down", &|(_, anatomy)| stage(anatomy, |stage| list(&stage.step_down))),
            ("at position 0", &|(_, anatomy)| stage(anatomy, |stage| percent(stage.share_at_position_0))),
            ("sinks", &|(_, anatomy)| sinks(anatomy, |sinks| percent(sinks.ratio))),
            ("mean max alpha", &|(_, anatomy)| sinks(anatomy, |sinks| value(sinks.mean_max_alpha))),
            ("perplexity", &|(_, anatomy)| known(anatomy.perplexity, value)),
        ],
    )));
    section.blocks.push(Block::Figure(Box::new(depths(&examined)?)));
    Ok(section)
}

/// Spikes and sinks of several models over their depth.
fn depths(examined: &[(&str, &Anatomy)]) -> Result<Figure, ReportError> {
    let share = |index: usize, of: usize| 100.0 * index as f64 / of.max(1) as f64;
    let mut rows: Vec<(&str, &'static str, f64, f64)> = Vec::new();
    for &(name, anatomy) in examined {
        if let Some(lifecycle) = &anatomy.lifecycle {
            let last = lifecycle.blocks.len().saturating_sub(1);
            rows.extend(lifecycle.blocks.iter().map(|block| {
                let ratio = block.residual.largest_mean / block.residual.typical_token_largest;
                (name, "largest over typical", share(block.block, last), ratio)
            }));
        }
        if let Some(sinks) = &anatomy.sinks {
            let last = sinks.by_layer.len().saturating_sub(1);
            rows.extend(
                sinks
                    .by_layer
                    .iter()
                    .enumerate()
                    .map(|(layer, ratio)| (name, "sink ratio", share(layer, last), 100.0 * ratio)),
            );
        }
    }
    let panel = |title: &str, axis: Axis, measure: &str| {
        let lines = examined.iter().enumerate().map(|(index, &(name, _))| {
            let of = rows.iter().filter(|row| (row.0, row.1) == (name, measure));
            Series::new(name, Colour::Nth(index), Mark::Line, of.map(|row| (row.2, row.3)))
        });
        Panel::plot(title, Axis::linear("depth, %"), axis, lines.collect())
    };
    Ok(Figure {
        id: "depths".into(),
        title: "Spikes and sinks over depth".into(),
        paper: None,
        caption:
            "Left: mean over sequences of the largest magnitude after a block, over the typical token's. Right: the \
                  sink ratio of a layer."
                .into(),
        alt: examined
            .iter()
            .filter_map(|&(name, _)| {
                let of = rows.iter().filter(|row| row.0 == name && row.1 == "largest over typical");
                let most = of.max_by(|a, b| a.3.total_cmp(&b.3))?;
                Some(format!("{name}: {} the typical token's at {:.0} % of its depth", factor(most.3), most.2))
            })
            .collect::<Vec<_>>()
            .join("; ")
            + ".",
        panels: vec![
            panel("Spikes", Axis::log("largest over typical"), "largest over typical"),
            panel("Sinks", Axis::linear("sink ratio, %").within(0.0, 102.0), "sink ratio"),
        ],
        data: Table::of("depths", &rows)
            .column("model", |row| row.0.to_owned())
            .column("measure", |row| row.1)
            .column("depth_percent", |row| row.2)
            .column("value", |row| row.3)
            .table()?,
    })
}
