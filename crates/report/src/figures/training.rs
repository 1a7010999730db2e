//! When spikes and sinks are born.

use sinkscope_lab::trainer::Look;

use crate::ReportError;
use crate::figure::{Axis, Colour, Figure, Mark, Panel, Series};
use crate::number::{count, percent, value};
use crate::tidy::Table;

/// Loss, spike and sinks over the tokens that a model was trained on.
pub fn emergence(looks: &[Look]) -> Result<Figure, ReportError> {
    let line = |name: &str, colour, mark, of: &dyn Fn(&Look) -> f64| {
        Series::new(name, colour, mark, looks.iter().map(|look| (look.record.tokens as f64 / 1e6, of(look))))
    };
    let watched = |of: fn(&sinkscope_lab::watch::Watched) -> f64| move |look: &Look| of(&look.record.watched);
    let x = || Axis::linear("million tokens");
    let losses = vec![
        line("held out", Colour::Nth(1), Mark::Line, &watched(|seen| seen.nll)),
        line("training", Colour::Other, Mark::Dashed, &|look| super::or_gap(look.record.loss)),
    ];
    let typical = |look: &Look| {
        let seen = &look.record.watched;
        seen.typical_by_block.iter().copied().fold(f64::NAN, f64::max)
    };
    let spikes = vec![
        line("largest", Colour::Spike, Mark::Line, &watched(|seen| seen.spike)),
        line("typical token", Colour::Other, Mark::Dashed, &typical),
    ];
    let sinks = vec![
        line("sink ratio", Colour::Sink, Mark::Line, &watched(|seen| 100.0 * seen.sink_ratio)),
        line("mean max alpha", Colour::Other, Mark::Dashed, &watched(|seen| 100.0 * seen.mean_max_alpha)),
    ];
    Ok(Figure {
        id: "emergence".into(),
        title: "When spikes and sinks are born".into(),
        paper: None,
        caption: "Looks at the model while it was trained, on held-out sequences: mean negative log-likelihood beside the \
                  training loss since the look before, the largest activation beside the typical token's (the largest of \
                  any block), and the sink ratio beside the mean of max alpha, both in percent."
            .into(),
        alt: looks.last().map_or_else(
            || "The run has not been looked at.".into(),
            |look| {
                let seen = &look.record.watched;
                format!(
                    "After {} tokens: perplexity {}, largest activation {}, sink ratio {}.",
                    count(look.record.tokens),
                    value(seen.perplexity),
                    value(seen.spike),
                    percent(seen.sink_ratio)
                )
            },
        ),
        panels: vec![
            Panel::plot("Loss", x(), Axis::linear("nats a token"), losses),
            Panel::plot("Spike", x(), Axis::log("magnitude"), spikes),
            Panel::plot("Sinks", x(), Axis::linear("%"), sinks),
        ],
        data: Table::of("emergence", looks)
            .column("step", |look| look.step as usize)
            .column("tokens", |look| look.record.tokens as usize)
            .column("loss", |look| look.record.loss)
            .column("nll", |look| look.record.watched.nll)
            .column("perplexity", |look| look.record.watched.perplexity)
            .column("spike", |look| look.record.watched.spike)
            .column("typical", |look| typical(look))
            .column("sink_ratio", |look| look.record.watched.sink_ratio)
            .column("mean_max_alpha", |look| look.record.watched.mean_max_alpha)
            .table()?,
    })
}
