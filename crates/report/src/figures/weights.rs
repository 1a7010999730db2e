//! What the weights alone say: which channels a block amplifies, in how many directions, and which tokens set it off.

use sinkscope_anatomy::census::steering::Steering;
use sinkscope_anatomy::census::{BlockCensus, Census, Spectrum};
use sinkscope_anatomy::probe::{Probe, ProbedToken};

use super::{blocks, line, or_gap, take};
use crate::ReportError;
use crate::figure::{Axis, Colour, Figure, Mark, Panel, Rule, Series};
use crate::number::{count, factor, percent, value};
use crate::tidy::Table;

/// Most blocks whose channels, and most channels whose eigenvalues, are drawn.
const MOST: usize = 6;

/// How far the channel of largest norm stands above the block's median; `None` if that is zero.
pub(crate) fn dominance(block: &BlockCensus) -> Option<f64> {
    Some(block.top.first()?.frobenius / block.median).filter(|ratio| ratio.is_finite())
}

/// `||U_k||_F` of every channel in the blocks where one stands out most, and how far it does in every block (Fig. 3).
pub fn norms(census: &Census, tables: &[Table]) -> Result<Figure, ReportError> {
    let mut chosen: Vec<&BlockCensus> = census.blocks.iter().collect();
    chosen.sort_by(|a, b| dominance(b).unwrap_or(0.0).total_cmp(&dominance(a).unwrap_or(0.0)));
    chosen.truncate(MOST);
    let by_channel = chosen.iter().enumerate().rev().map(|(index, block)| {
        let points = block.frobenius.iter().enumerate().map(|(channel, &norm)| (channel, norm));
        line(&format!("block {}", block.block), Colour::Nth(index), Mark::Line, points)
    });
    let notes = census.blocks.iter().map(|block| {
        let top = block.top.iter().map(|top| format!("{} ({})", top.channel, value(top.frobenius)));
        format!("block {}: {}", block.block, top.collect::<Vec<_>>().join(", "))
    });
    let by_block =
        line("", Colour::Spike, Mark::Dots, census.blocks.iter().map(|block| (block.block, or_gap(dominance(block)))))
            .with_notes(notes.collect());
    let top = chosen.first().and_then(|block| Some((block, block.top.first()?)));
    Ok(Figure {
        id: "norms".into(),
        title: "Which channels a block amplifies".into(),
        paper: Some("Fig. 3".into()),
        caption:
            "Frobenius norm of the quadratic form U of every output channel, from the weights alone: in the blocks \
                  where one channel stands out most, and, for every block counted, the largest norm over the median."
                .into(),
        alt: top.map_or_else(
            || "No block has a quadratic form.".into(),
            |(block, top)| {
                format!(
                    "Block {} singles out channel {}: norm {}, {} the median of its channels.",
                    block.block,
                    top.channel,
                    value(top.frobenius),
                    factor(or_gap(dominance(block)))
                )
            },
        ),
        panels: vec![
            Panel::plot("By channel", Axis::linear("channel"), Axis::log("norm of U"), by_channel.collect()),
            Panel::plot("By block", blocks(), Axis::log("largest over median"), vec![by_block]),
        ],
        data: take(tables, "norms")?,
    })
}

/// Leading eigenvalues of S of the channels that blocks amplify most (Fig. 4).
pub fn spectra(census: &Census, tables: &[Table]) -> Result<Figure, ReportError> {
    let leading = |spectrum: &Spectrum| spectrum.eigenvalues.first().map_or(0.0, |value| value.abs());
    let mut chosen: Vec<&Spectrum> = census.spectra.iter().collect();
    chosen.sort_by(|a, b| leading(b).total_cmp(&leading(a)));
    // One channel a block, so that blocks can be compared.
    let mut seen = Vec::new();
    chosen.retain(|spectrum| {
        let new = !seen.contains(&spectrum.block);
        seen.push(spectrum.block);
        new
    });
    chosen.truncate(MOST);
    let series = chosen.iter().enumerate().map(|(index, spectrum)| {
        let points = spectrum.eigenvalues.iter().enumerate().map(|(rank, value)| (rank + 1, *value));
        line(&format!("block {}, channel {}", spectrum.block, spectrum.channel), Colour::Nth(index), Mark::Dots, points)
    });
    Ok(Figure {
        id: "spectra".into(),
        title: "Leading eigenvalues of the channels amplified most".into(),
        paper: Some("Fig. 4".into()),
        caption: "Eigenvalues of the symmetric form S of a channel, by magnitude, signs kept: of the channel with the \
                  largest in each block. Where the first towers over the second, the channel answers to one direction \
                  of its input, the trigger."
            .into(),
        alt: chosen.first().map_or_else(
            || "No spectrum was taken.".into(),
            |spectrum| {
                format!(
                    "Block {}, channel {}: the first eigenvalue is {}{}.",
                    spectrum.block,
                    spectrum.channel,
                    value(spectrum.eigenvalues.first().copied().unwrap_or(f64::NAN)),
                    spectrum.dominance.map_or_else(String::new, |ratio| format!(", {} the second", factor(ratio)))
                )
            },
        ),
        panels: vec![Panel::plot("", Axis::linear("rank"), Axis::linear("eigenvalue"), series.collect())],
        data: take(tables, "spectra")?,
    })
}

/// How attention and feed-forward blocks turn first tokens towards the trigger.
pub fn steering(steering: &Steering) -> Result<Figure, ReportError> {
    let layers = &steering.layers;
    let points = |of: fn(&sinkscope_anatomy::census::steering::SteeringLayer) -> f64| {
        layers.iter().map(move |layer| (layer.layer, of(layer))).collect::<Vec<_>>()
    };
    let series = vec![
        line("after attention", Colour::Sink, Mark::Line, points(|layer| layer.after_attention)),
        line("after feed-forward", Colour::Spike, Mark::Line, points(|layer| or_gap(layer.after_feed_forward))),
        line("attention alone", Colour::Other, Mark::Dashed, points(|layer| layer.attention_alone)),
    ];
    let last = layers.last().map_or(f64::NAN, |layer| layer.after_attention);
    let panel = Panel::plot("", Axis::linear("layer"), Axis::linear("|cosine| to the trigger"), series)
        .with_rule(Rule::level(steering.embedding, "embedding"));
    Ok(Figure {
        id: "steering".into(),
        title: "How a first token is turned towards the trigger".into(),
        paper: Some("eq. 22".into()),
        caption: format!(
            "Mean absolute cosine of the residual of {} vocabulary items at position 0 to the trigger of channel {} in \
             block {}, layer by layer; and when all feed-forward blocks are left out.",
            steering.sample, steering.channel, steering.block
        ),
        alt: format!(
            "Embeddings begin at {:.3}; before block {} the cosine is {last:.3}.",
            steering.embedding, steering.block
        ),
        panels: vec![panel],
        data: Table::of("steering", layers)
            .column("layer", |layer| layer.layer)
            .column("after_attention", |layer| layer.after_attention)
            .column("after_feed_forward", |layer| layer.after_feed_forward)
            .column("attention_alone", |layer| layer.attention_alone)
            .table()?,
    })
}

/// The vocabulary items that spike most and least when they stand alone (Table 2).
pub fn probe(probe: &Probe) -> Result<Figure, ReportError> {
    let rows: Vec<(&'static str, &ProbedToken)> = probe
        .highest
        .iter()
        .map(|token| ("highest", token))
        .chain(probe.lowest.iter().rev().map(|token| ("lowest", token)))
        .collect();
    let names: Vec<String> = rows.iter().map(|(_, token)| format!("{:?}", token.text)).collect();
    let dots = |name: &str, colour| {
        let points = rows.iter().enumerate().filter(|(_, row)| row.0 == name);
        Series::new(name, colour, Mark::Dots, points.map(|(index, row)| (f64::from(row.1.value), index as f64)))
    };
    let series = vec![dots("highest", Colour::Spike), dots("lowest", Colour::Sink)];
    let mut panel = Panel::plot("", Axis::log("largest activation"), Axis::names("", names), series);
    if let Some(threshold) = probe.threshold {
        panel = panel.with_rule(Rule::upright(threshold, "spike"));
    }
    let share = probe.share.zip(probe.spiking);
    Ok(Figure {
        id: "probe".into(),
        title: format!("The vocabulary at position {}", probe.position),
        paper: Some("Table 2".into()),
        caption: format!(
            "Every vocabulary item {}: its largest activation after block {}. The items of highest and lowest value.",
            if probe.position == 0 { "as the only token of a sequence" } else { "behind the same tokens" },
            probe.block.map_or_else(|| "unknown".into(), |block| block.to_string())
        ),
        alt: share.map_or_else(
            || "The text shows no stage to probe for.".into(),
            |(share, spiking)| {
                let end = |tokens: &[ProbedToken]| {
                    tokens
                        .first()
                        .map_or_else(String::new, |token| format!("{:?} at {}", token.text, value(token.value.into())))
                };
                format!(
                    "{} of {} items spike, {}; highest {}, lowest {}.",
                    count(spiking as u64),
                    count(probe.vocabulary as u64),
                    percent(share),
                    end(&probe.highest),
                    end(&probe.lowest)
                )
            },
        ),
        panels: vec![panel],
        data: Table::of("probe-extremes", &rows)
            .column("end", |row| row.0)
            .column("id", |row| row.1.id as usize)
            .column("text", |row| row.1.text.clone())
            .column("value", |row| row.1.value)
            .table()?,
    })
}
