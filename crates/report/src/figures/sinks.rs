//! Which heads sink, at which positions, and what their geometry has to do with it.

use sinkscope_anatomy::definitions::{INTERVAL, RANK_SHARE, in_percent};
use sinkscope_anatomy::results::Sinks;
use sinkscope_anatomy::sample::geometry::{Geometry, HeadGeometry};
use sinkscope_anatomy::wide::mean;

use super::{or_gap, take};
use crate::ReportError;
use crate::figure::{Axis, Colour, Content, Figure, Mark, Panel, Series};
use crate::number::percent;
use crate::tidy::{Column, Table};

/// The anchor of [`heads`], in which a page lets a head be picked.
pub const HEADS: &str = "heads";

/// How strongly every head sinks.
pub fn heads(sinks: &Sinks, tables: &[Table]) -> Result<Figure, ReportError> {
    let strongest = sinks
        .heads
        .iter()
        .enumerate()
        .flat_map(|(layer, row)| row.iter().enumerate().map(move |(head, alpha)| (layer, head, *alpha)))
        .max_by(|a, b| a.2.total_cmp(&b.2));
    Ok(Figure {
        id: HEADS.into(),
        title: "Sink strength of every head".into(),
        paper: Some("eq. 27".into()),
        caption: format!(
            "The largest share of a sequence's attention that one key of its first half receives, mean over sequences. A \
             head is a sink in a sequence where it is above {}.",
            sinks.epsilon
        ),
        alt: strongest.map_or_else(
            || "There are no heads.".into(),
            |(layer, head, alpha)| {
                format!(
                    "{} of heads and sequences are sinks; the strongest is head {head} of layer {layer}, with {alpha:.3}.",
                    percent(sinks.ratio)
                )
            },
        ),
        panels: vec![Panel {
            title: String::new(),
            x: Axis::linear("head"),
            y: Axis::linear("layer"),
            content: Content::Heat {
                values: sinks.heads.clone(),
                unit: "max alpha".into(),
                range: Some([0.0, 1.0]),
                log: false,
            },
        }],
        data: take(tables, "heads")?,
    })
}

/// Sink ratio by layer, under every definition (eq. 28).
pub fn by_layer(sinks: &Sinks) -> Result<Figure, ReportError> {
    let points = |ratios: &[f64]| -> Vec<(f64, f64)> {
        ratios.iter().enumerate().map(|(layer, ratio)| (layer as f64, 100.0 * ratio)).collect()
    };
    let mut series = vec![Series::new(&sinks.definition, Colour::Sink, Mark::Line, points(&sinks.by_layer))];
    if let Some(intervals) = &sinks.by_layer_ci95 {
        let percents = intervals.iter().map(|[low, high]| [100.0 * low, 100.0 * high]).collect();
        series[0] = series[0].clone().with_intervals(percents);
    }
    for (index, (name, other)) in sinks.other_definitions.iter().enumerate() {
        series.push(Series::new(name, Colour::Nth(2 + index), Mark::Dashed, points(&other.by_layer)));
    }
    let mut columns = vec![
        Column::counts("layer", 0..sinks.by_layer.len()),
        Column::floats(sinks.definition.clone(), sinks.by_layer.iter().copied()),
    ];
    let others = sinks.other_definitions.iter();
    columns.extend(others.map(|(name, other)| Column::floats(name.clone(), other.by_layer.iter().copied())));
    if let Some(intervals) = &sinks.by_layer_ci95 {
        let end = |end: usize| intervals.iter().map(move |interval| interval[end]);
        columns.push(Column::floats(format!("{}_low", sinks.definition), end(0)));
        columns.push(Column::floats(format!("{}_high", sinks.definition), end(1)));
    }
    let most = sinks.by_layer.iter().copied().fold(0.0, f64::max);
    Ok(Figure {
        id: "sinks-by-layer".into(),
        title: "Sink ratio by layer".into(),
        paper: Some("eq. 28".into()),
        caption: format!(
            "Share of a layer's heads and sequences that are sinks, with its {} bootstrap interval over sequences where there \
             are several; dashed, by the definitions of Gu et al.: of the first key alone (gu), or of any of the first half \
             (gu-max), over the queries that see it.",
            in_percent(INTERVAL)
        ),
        alt: format!("{} over all layers; at most {} in one.", percent(sinks.ratio), percent(most)),
        panels: vec![Panel::plot("", Axis::linear("layer"), Axis::linear("sink ratio, %").within(0.0, 102.0), series)],
        data: Table::new("sinks-by-layer", columns)?,
    })
}

/// Attention received by position and layer.
pub fn by_position(sinks: &Sinks, tables: &[Table]) -> Result<Figure, ReportError> {
    let received = &sinks.by_position;
    let evenly = received.first.iter().enumerate().all(|(bin, first)| bin == *first);
    let x = if evenly {
        Axis::linear("position of the key")
    } else {
        Axis::names("position of the key, from", received.first.iter().map(ToString::to_string))
    };
    let of_first = mean(received.layers.iter().filter_map(|layer| layer.first().copied())).unwrap_or(0.0);
    Ok(Figure {
        id: "sinks-by-position".into(),
        title: "Who receives the attention".into(),
        paper: Some("eq. 27".into()),
        caption:
            "Attention that a key receives (alpha), mean over sequences and the heads of a layer, by the position of \
                  the key. Colours go by the logarithm."
                .into(),
        alt: format!("The first key receives {of_first:.3} in the mean over layers."),
        panels: vec![Panel {
            title: String::new(),
            x,
            y: Axis::linear("layer"),
            content: Content::Heat { values: received.layers.clone(), unit: "alpha".into(), range: None, log: true },
        }],
        data: take(tables, "alpha_by_position")?,
    })
}

type HeadValue<'a> = &'a dyn Fn(&HeadGeometry) -> f64;

/// What sets sink heads apart: the logit gap and the dimension of keys (eq. 26).
pub fn geometry(geometry: &Geometry, sinks: Option<&Sinks>, tables: &[Table]) -> Result<Figure, ReportError> {
    let alpha = |head: &HeadGeometry| {
        sinks.and_then(|sinks| sinks.heads.get(head.layer)?.get(head.head).copied()).unwrap_or(f64::NAN)
    };
    let panel = |title: &str, x: Axis, y: Axis, of_x: HeadValue<'_>, of_y: HeadValue<'_>| {
        let dots = |name: &str, colour, sink: bool| {
            let heads = || geometry.heads.iter().filter(move |head| head.sink == sink);
            Series::new(name, colour, Mark::Dots, heads().map(|head| (of_x(head), of_y(head))))
                .with_notes(heads().map(|head| format!("layer {}, head {}", head.layer, head.head)).collect())
        };
        let series = vec![dots("other heads", Colour::Other, false), dots("sink heads", Colour::Sink, true)];
        Panel::plot(title, x, y, series)
    };
    let gap = |head: &HeadGeometry| or_gap(head.logit_gap);
    let most = in_percent(RANK_SHARE);
    let rank = |rank: Option<usize>| rank.map_or(f64::NAN, |rank| rank as f64);
    let spike = |head: &HeadGeometry| rank(head.key_rank95_spike);
    let other = |head: &HeadGeometry| rank(head.key_rank95_other);
    let mut panels =
        vec![panel("Preference for the sink key", Axis::linear("logit gap"), Axis::linear("max alpha"), &gap, &alpha)];
    if geometry.heads.iter().any(|head| head.key_rank95_spike.is_some()) {
        panels.push(panel(
            "Dimensions of keys",
            Axis::linear(format!("{most} rank, spike keys")),
            Axis::linear(format!("{most} rank, other keys")),
            &spike,
            &other,
        ));
    }
    let gap_of =
        |sink: bool| geometry.mean_logit_gap(sink).map_or_else(|| "unknown".to_owned(), |gap| format!("{gap:.2}"));
    Ok(Figure {
        id: "geometry".into(),
        title: "What sets sink heads apart".into(),
        paper: Some("eq. 26".into()),
        caption: format!(
            "A dot is a head. Left: by how much the logit of the sink key exceeds that of the other keys that a query sees. \
             Right: how many dimensions hold {most} of the keys of spike tokens, and of all others."
        ),
        alt: format!("Mean logit gap of sink heads {}, of other heads {}.", gap_of(true), gap_of(false)),
        panels,
        data: take(tables, "geometry")?,
    })
}
