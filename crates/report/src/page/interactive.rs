//! Figures for Plotly, as JSON. Colours of text and grid are the page's, and set in the browser.
//!
//! Plotly reads some markup in labels, so text is escaped here; numbers are written with seven digits, which is more than
//! a screen shows; the table behind a figure has all of them.

use serde_json::{Map, Value, json};

use crate::figure::{Axis, Content, Figure, Mark, Panel, Rule, Scale, Series};
use crate::tidy::{Column, Table, Values};

/// How many ticks an axis has room for.
const FEW: f64 = 12.0;
/// Height of a panel, and what a name on an axis adds.
const HEIGHT: usize = 300;
const NAME_HEIGHT: usize = 22;

/// What the page needs of a figure.
pub fn figure(figure: &Figure) -> Value {
    json!({ "panels": figure.panels.iter().map(panel).collect::<Vec<_>>(), "table": table(&figure.data) })
}

/// A table by columns.
pub fn table(table: &Table) -> Value {
    let column = |column: &Column| json!({ "name": column.name, "values": values(&column.values) });
    json!({ "name": table.name(), "columns": table.columns().iter().map(column).collect::<Vec<_>>() })
}

fn values(values: &Values) -> Value {
    match values {
        Values::Integers(all) => json!(all),
        Values::Floats(all) => json!(all),
        // By their own digits, not those of the number of twice the length.
        Values::Singles(all) => {
            let digits = |value: f32| value.to_string().parse::<f64>().ok();
            json!(all.iter().map(|value| value.and_then(digits)).collect::<Vec<_>>())
        }
        Values::Booleans(all) => json!(all),
        Values::Texts(all) => json!(all),
    }
}

/// Text that Plotly shows as it is.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            control if control.is_control() => out.push('\u{fffd}'),
            other => out.push(other),
        }
    }
    out
}

/// With seven digits; what is not finite as null.
fn number(value: f64) -> Value {
    if !value.is_finite() {
        return Value::Null;
    }
    format!("{value:.6e}").parse::<f64>().map_or(Value::Null, Value::from)
}

fn numbers(values: impl IntoIterator<Item = f64>) -> Value {
    values.into_iter().map(number).collect::<Vec<_>>().into()
}

fn panel(panel: &Panel) -> Value {
    let names = panel.y.as_names().map_or(0, <[String]>::len);
    let height = HEIGHT.max(90 + NAME_HEIGHT * names);
    let mut layout = Map::new();
    layout.insert("height".into(), height.into());
    layout.insert("xaxis".into(), axis(&panel.x, false, counts_few(panel, false)));
    layout.insert("yaxis".into(), axis(&panel.y, true, counts_few(panel, true)));
    let traces = match &panel.content {
        Content::Plot { series, rules } => {
            layout.insert("showlegend".into(), series.iter().any(|series| !series.name.is_empty()).into());
            let (shapes, annotations): (Vec<Value>, Vec<Value>) = rules.iter().map(|rule| drawn(rule, panel)).unzip();
            layout.insert("shapes".into(), shapes.into());
            layout.insert("annotations".into(), annotations.into());
            let lying = panel.y.as_names().is_some();
            series.iter().flat_map(|series| traces(series, lying)).collect()
        }
        Content::Heat { values, unit, range, log } => vec![heat(values, unit, *range, *log, panel)],
    };
    json!({ "traces": traces, "layout": layout })
}

/// Whether an axis counts things, and few enough for a tick each.
fn counts_few(panel: &Panel, is_y: bool) -> bool {
    match &panel.content {
        Content::Plot { series, .. } => {
            let of = |series: &Series| if is_y { series.y.clone() } else { series.x.clone() };
            let values: Vec<f64> = series.iter().flat_map(of).filter(|value| value.is_finite()).collect();
            let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let least = values.iter().copied().fold(f64::INFINITY, f64::min);
            values.iter().all(|value| value.fract() == 0.0) && largest - least <= FEW
        }
        Content::Heat { values, .. } => {
            let count = if is_y { values.len() } else { values.iter().map(Vec::len).max().unwrap_or(0) };
            count as f64 <= FEW
        }
    }
}

fn axis(axis: &Axis, is_y: bool, counts_few: bool) -> Value {
    let mut all = Map::new();
    all.insert("title".into(), json!({ "text": plain(&axis.title) }));
    match &axis.scale {
        Scale::Linear if counts_few && axis.range.is_none_or(|[first, last]| (last - first).abs() <= FEW) => {
            all.insert("dtick".into(), 1.into());
        }
        Scale::Linear => {}
        Scale::Log => {
            all.insert("type".into(), "log".into());
            all.insert("exponentformat".into(), "power".into());
        }
        Scale::Names(names) => {
            all.insert("tickmode".into(), "array".into());
            // Many names are thinned.
            let step = if is_y { 1 } else { names.len().div_ceil(24).max(1) };
            let shown: Vec<usize> = (0..names.len()).step_by(step).collect();
            let text: Vec<String> = shown.iter().map(|&index| shortened(&names[index])).collect();
            all.insert("tickvals".into(), json!(shown));
            all.insert("ticktext".into(), json!(text));
            if is_y {
                all.insert("range".into(), json!([names.len() as f64 - 0.5, -0.5]));
            }
        }
    }
    if let Some([first, last]) = axis.range {
        let place = |value: f64| if axis.scale == Scale::Log { value.log10() } else { value };
        all.insert("range".into(), json!([place(first), place(last)]));
    }
    all.into()
}

/// A name that leaves room for what it names; its middle is left out first.
fn shortened(name: &str) -> String {
    const LONGEST: usize = 30;
    let letters: Vec<char> = name.chars().collect();
    if letters.len() <= LONGEST {
        return plain(name);
    }
    let part = |letters: &[char]| letters.iter().collect::<String>();
    plain(&format!("{}…{}", part(&letters[..LONGEST / 2]), part(&letters[letters.len() - LONGEST / 2..])))
}

/// A rule as a shape and its label.
fn drawn(rule: &Rule, panel: &Panel) -> (Value, Value) {
    let (scale, own, other) = if rule.upright { (&panel.x.scale, "x", "y") } else { (&panel.y.scale, "y", "x") };
    // Annotations, unlike shapes, take logarithms.
    let place = if *scale == Scale::Log { rule.at.log10() } else { rule.at };
    let shape = json!({
        "type": "line", "layer": "below", "name": "rule",
        "xref": if rule.upright { "x" } else { "paper" },
        "yref": if rule.upright { "paper" } else { "y" },
        (format!("{own}0")): number(rule.at), (format!("{own}1")): number(rule.at),
        (format!("{other}0")): 0, (format!("{other}1")): 1,
    });
    let label = json!({
        "text": plain(&rule.label), "showarrow": false, "name": "rule",
        "xref": if rule.upright { "x" } else { "paper" },
        "yref": if rule.upright { "paper" } else { "y" },
        (own): number(place), (other): 1,
        "xanchor": if rule.upright { "left" } else { "right" },
        "yanchor": if rule.upright { "top" } else { "bottom" },
        "textangle": if rule.upright { 90 } else { 0 },
    });
    (shape, label)
}

/// A series as the traces it takes; its interval's first, so that the line lies on top.
fn traces(series: &Series, lying: bool) -> Vec<Value> {
    let colour = series.colour.hex();
    let mut all = Map::new();
    all.insert("x".into(), numbers(series.x.iter().copied()));
    all.insert("y".into(), numbers(series.y.iter().copied()));
    all.insert("name".into(), plain(&series.name).into());
    all.insert("showlegend".into(), (!series.name.is_empty()).into());
    if !series.notes.is_empty() {
        let notes: Vec<String> = series.notes.iter().map(|note| plain(note)).collect();
        all.insert("text".into(), json!(notes));
        all.insert("hovertemplate".into(), "%{text}<br>%{x}, %{y}<extra></extra>".into());
    }
    match series.mark {
        Mark::Line | Mark::Dashed => {
            let dash = if series.mark == Mark::Dashed { "dash" } else { "solid" };
            all.insert("mode".into(), "lines".into());
            all.insert("line".into(), json!({ "color": colour, "width": 1.8, "dash": dash }));
        }
        Mark::Dots | Mark::Crosses => {
            let symbol = if series.mark == Mark::Dots { "circle" } else { "x" };
            all.insert("mode".into(), "markers".into());
            all.insert("marker".into(), json!({ "color": colour, "size": 6, "opacity": 0.75, "symbol": symbol }));
        }
        Mark::Bars => {
            all.insert("type".into(), "bar".into());
            all.insert("marker".into(), json!({ "color": colour }));
            if lying {
                all.insert("orientation".into(), "h".into());
            }
        }
    }
    let mut out = Vec::new();
    if !series.intervals.is_empty() {
        let ends = |end: usize| series.intervals.iter().map(move |interval| interval[end]);
        if matches!(series.mark, Mark::Line | Mark::Dashed) {
            let edge = |values: Value, fill: &str| {
                json!({
                    "x": numbers(series.x.iter().copied()), "y": values, "mode": "lines", "line": { "width": 0 },
                    "fill": fill, "fillcolor": format!("{colour}33"), "hoverinfo": "skip", "showlegend": false,
                })
            };
            out.push(edge(numbers(ends(0)), "none"));
            out.push(edge(numbers(ends(1)), "tonexty"));
        } else {
            let centres = if lying { &series.x } else { &series.y };
            let away =
                |sign: f64, end: usize| numbers(ends(end).zip(centres).map(|(end, centre)| sign * (end - centre)));
            let bars = json!({
                "type": "data", "symmetric": false, "array": away(1.0, 1), "arrayminus": away(-1.0, 0),
                "color": colour, "thickness": 1.2, "width": 3,
            });
            all.insert(if lying { "error_x" } else { "error_y" }.into(), bars);
        }
    }
    out.push(all.into());
    out
}

fn heat(values: &[Vec<f64>], unit: &str, range: Option<[f64; 2]>, log: bool, panel: &Panel) -> Value {
    let rows = |of: &dyn Fn(f64) -> f64| -> Value {
        values.iter().map(|row| numbers(row.iter().map(|value| of(*value)))).collect::<Vec<_>>().into()
    };
    let mut bar = Map::new();
    bar.insert("title".into(), json!({ "text": plain(unit), "side": "right" }));
    bar.insert("thickness".into(), 12.into());
    bar.insert("outlinewidth".into(), 0.into());
    let mut all = Map::new();
    all.insert("type".into(), "heatmap".into());
    all.insert("colorscale".into(), "Viridis".into());
    all.insert("hoverongaps".into(), false.into());
    if log {
        let positive = values.iter().flatten().copied().filter(|value| value.is_finite() && *value > 0.0);
        let found = positive.fold([f64::INFINITY, 0.0_f64], |[a, b], value| [a.min(value), b.max(value)]);
        let [least, largest] = range.unwrap_or(found);
        if least <= largest {
            let ticks: Vec<f64> = decades(least, largest);
            bar.insert("tickvals".into(), numbers(ticks.iter().map(|tick| tick.log10())));
            bar.insert("ticktext".into(), json!(ticks.iter().map(|tick| short(*tick)).collect::<Vec<_>>()));
        }
        all.insert("z".into(), rows(&|value| if value > 0.0 { value.log10() } else { f64::NAN }));
    } else {
        all.insert("z".into(), rows(&|value| value));
    }
    // Where a cell stands, and what it has, in words.
    let place = |axis: &Axis, index: usize| match axis.as_names() {
        Some(names) => names.get(index).map_or_else(String::new, |name| format!("{} {name}", axis.title)),
        None => format!("{} {index}", axis.title),
    };
    let said: Vec<Vec<String>> = values
        .iter()
        .enumerate()
        .map(|(row, of)| {
            let cell = |(column, value): (usize, &f64)| {
                let [y, x] = [place(&panel.y, row), place(&panel.x, column)].map(|text| plain(text.trim()));
                format!("{y}, {x}: {}", crate::number::value(*value))
            };
            of.iter().enumerate().map(cell).collect()
        })
        .collect();
    all.insert("text".into(), json!(said));
    all.insert("hovertemplate".into(), "%{text}<extra></extra>".into());
    if let Some([first, last]) = range {
        let shade = |value: f64| if log { value.log10() } else { value };
        all.insert("zmin".into(), number(shade(first)));
        all.insert("zmax".into(), number(shade(last)));
    }
    all.insert("colorbar".into(), bar.into());
    all.into()
}

/// Ticks of 1, 2 and 5 within a range, or of decades alone if those are many.
fn decades(least: f64, largest: f64) -> Vec<f64> {
    let steps: &[f64] = if largest / least > 200.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
    let first = least.log10().floor() as i32;
    let last = largest.log10().ceil() as i32;
    let all = (first..=last).flat_map(|power| steps.iter().map(move |step| step * 10.0_f64.powi(power)));
    let within: Vec<f64> = all.filter(|tick| (least * 0.999..=largest * 1.001).contains(tick)).collect();
    // Between two of them: the ends.
    if within.is_empty() { vec![least, largest] } else { within }
}

/// A tick without digits that say nothing.
fn short(tick: f64) -> String {
    let text = crate::number::value(tick);
    if text.contains('.') && !text.contains('e') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}
