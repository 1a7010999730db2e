//! What a run says to those who quantise the model or run it on long texts: facts that it measured, each with its figure.

use sinkscope_anatomy::definitions::in_percent;

use crate::compare::{Shown, Trial};
use crate::definitions::BREAKS;
use crate::operation::{Kind, Operation, SpikeChange};
use crate::results::{Advice, Comparison, LinearLayer, Smoothing, Sweep, SweepStep, Variant};

/// Layers named in a line.
const MOST_LAYERS: usize = 4;

/// The lines of a comparison whose variants are those of `operations`, in their order: what each costs, which layers lose
/// most and what exempting them leaves, and what tokens are worth that variants differ by.
pub fn advice(comparison: &Comparison, operations: &[Operation], trials: &[Trial]) -> Vec<Advice> {
    let swept =
        |index: usize| comparison.sweeps.iter().flat_map(|sweep| &sweep.steps).any(|step| step.variant == index);
    let all = operations.iter().zip(&comparison.variants).enumerate();
    let runs: Vec<(usize, &Operation, &Variant)> = all
        .filter(|(index, _)| !swept(*index))
        .map(|(index, (operation, variant))| (index, operation, variant))
        .collect();
    let mut lines = Vec::new();
    for &(index, operation, variant) in &runs {
        lines.extend(loss(comparison, operation, variant));
        lines.extend(layers(variant));
        let trial = trials.iter().find(|trial| trial.of == index);
        lines.extend(trial.and_then(|trial| exemption(comparison, variant, trial)));
        let sequences = comparison.baseline.sequences;
        lines.extend(runs.iter().find_map(|&(_, other, kept)| tokens((operation, variant), (other, kept), sequences)));
    }
    lines.extend(comparison.smoothing.iter().filter_map(|pair| of_smoothing(comparison, pair)));
    lines.extend(comparison.sweeps.iter().filter_map(|sweep| of_sweep(comparison, sweep)));
    lines
}

fn line(about: &str, variant: &Variant, text: String, figure: f64, unit: &str) -> Advice {
    let (about, unit) = (about.to_owned(), unit.to_owned());
    Advice { about, operation: variant.name.clone(), text, figure, unit, trials: 0 }
}

/// What is left of a loss.
fn recovered(delta: f64, rest: f64) -> String {
    let share = (delta > 0.0).then(|| 100.0 * (delta - rest) / delta);
    let share = share.map_or_else(String::new, |share| {
        if share > 0.0 { format!(", {share:.1} % of the loss recovered") } else { ", nothing recovered".to_owned() }
    });
    format!("{delta:+.4} nats a token become {rest:+.4}{share}")
}

/// What exempting layers leaves, which was tried.
fn exemption(comparison: &Comparison, variant: &Variant, trial: &Trial) -> Option<Advice> {
    let (shown, passes) = match trial.shown {
        Shown::Asked(index) => (comparison.variants.get(index)?, 0),
        Shown::Tried(index) => (comparison.trials.get(index)?, 1),
    };
    let (delta, rest) = (variant.delta_nll?, shown.delta_nll?);
    let weights = |of: &Variant| of.linear_layers.iter().map(|layer| layer.weights).sum::<usize>();
    let (all, left) = (weights(variant), weights(shown));
    let count = variant.linear_layers.len() - shown.linear_layers.len();
    let text = format!(
        "tried without {count} of {} layers, {:.1} % of the quantised weights: {}",
        variant.linear_layers.len(),
        100.0 * (all - left.min(all)) as f64 / all.max(1) as f64,
        recovered(delta, rest)
    );
    Some(Advice { trials: passes, ..line("exempt", shown, text, rest, "nats a token") })
}

/// Whether smoothing helps.
fn of_smoothing(comparison: &Comparison, pair: &Smoothing) -> Option<Advice> {
    let (with, without) = (comparison.variants.get(pair.smoothed)?, comparison.variants.get(pair.plain)?);
    let (interval, verdict) = match pair.difference_ci95 {
        Some([low, high]) => {
            let verdict = if high < 0.0 {
                "it helps"
            } else if low > 0.0 {
                "it harms"
            } else {
                "which may be chance"
            };
            (format!(" ({low:+.4} to {high:+.4})"), verdict)
        }
        None => (String::new(), "of one sequence"),
    };
    let text = format!(
        "with smoothing {:+.4} nats a token, without {:+.4}: a difference of {:+.4}{interval}, {verdict}",
        with.delta_nll?, without.delta_nll?, pair.difference
    );
    Some(line("smoothing", with, text, pair.difference, "nats a token"))
}

/// How many tokens must stay.
fn of_sweep(comparison: &Comparison, sweep: &Sweep) -> Option<Advice> {
    let variant = |step: &SweepStep| comparison.variants.get(step.variant);
    let first = variant(sweep.steps.first()?)?;
    let last = sweep.steps.last()?.kept;
    let certain = first.delta_ci95.map_or(first.delta_nll?, |[low, _]| low) > 0.0;
    let (text, figure) = match sweep.enough {
        Some(0) => ("no first token is worth more than twice an average one: keeping them is no remedy".to_owned(), 0),
        Some(enough) => {
            let step = sweep.steps.iter().find(|step| step.kept == enough)?;
            let losses = recovered(first.delta_nll?, variant(step)?.delta_nll?);
            let tokens = if enough == 1 { "token" } else { "tokens" };
            let text = format!(
                "keep the first {enough} {tokens} of each sequence: {losses}; those after, up to {last}, are worth no more than \
                 twice an average one"
            );
            (text, enough)
        }
        None if certain => {
            (format!("all of the first {last} tokens are worth more than twice an average one: try more"), last)
        }
        None => ("nothing is lost for certain that keeping tokens could win back".to_owned(), 0),
    };
    let line = line("tokens", first, text, figure as f64, "first tokens of each sequence");
    Some(Advice { operation: sweep.name.clone(), ..line })
}

/// What an operation that saves memory or time costs.
fn loss(comparison: &Comparison, operation: &Operation, variant: &Variant) -> Option<Advice> {
    if !matches!(operation.kind, Kind::Quantise { .. } | Kind::Cache { .. } | Kind::Window(_)) {
        return None;
    }
    let (delta, perplexity) = (variant.delta_nll?, variant.perplexity?);
    let interval = variant.delta_ci95.map_or_else(String::new, |[low, high]| format!(" ({low:+.4} to {high:+.4})"));
    let before = rounded(comparison.baseline.perplexity?);
    let text =
        format!("expect {delta:+.4} nats a token{interval}: perplexity {} instead of {before}", rounded(perplexity));
    Some(line("loss", variant, text, delta, "nats a token"))
}

/// Which layers to keep in higher precision.
fn layers(variant: &Variant) -> Option<Advice> {
    let mut worst: Vec<(&LinearLayer, f64)> =
        variant.linear_layers.iter().filter_map(|layer| Some((layer, layer.error?))).collect();
    worst.sort_by(|a, b| b.1.total_cmp(&a.1));
    let named = |(layer, error): &(&LinearLayer, f64)| {
        let spikes = layer.largest_at_spikes.map_or_else(String::new, |largest| {
            format!(
                ", input up to {} at spikes and {} elsewhere",
                rounded(largest.into()),
                rounded(layer.largest_elsewhere.into())
            )
        });
        format!("{} ({} of block {}: {:.1} %{spikes})", layer.tensor, layer.projection, layer.block, 100.0 * error)
    };
    let breaking = worst.iter().filter(|(layer, _)| layer.breaks).count();
    let threshold = in_percent(BREAKS);
    if breaking == 0 {
        let first = worst.first()?;
        let text = format!("no layer loses more than {threshold} of its output; most loses {}", named(first));
        return Some(line("layers", variant, text, 0.0, "layers"));
    }
    let list: Vec<String> = worst.iter().take(breaking.min(MOST_LAYERS)).map(named).collect();
    let more = if breaking > list.len() { format!(" and {} more", breaking - list.len()) } else { String::new() };
    let text = format!(
        "{breaking} of {} linear layers lose more than {threshold} of their output; keep in higher precision {}{more}",
        variant.linear_layers.len(),
        list.join("; ")
    );
    Some(line("layers", variant, text, breaking as f64, "layers"))
}

/// What some tokens are worth, if the other run is this one with those tokens spared.
fn tokens(
    (operation, variant): (&Operation, &Variant),
    (other, kept): (&Operation, &Variant),
    sequences: usize,
) -> Option<Advice> {
    let (delta, rest) = (variant.delta_nll?, kept.delta_nll?);
    let count = kept.kept_tokens.unwrap_or(0);
    let count = format!("{count} tokens, {} a sequence", rounded(count as f64 / sequences.max(1) as f64));
    let recovered = || recovered(delta, rest);
    let text = match (&operation.kind, &other.kind) {
        (
            Kind::Quantise { scheme, layers, kept: None },
            Kind::Quantise { scheme: same, layers: there, kept: Some(_) },
        ) if scheme == same && layers == there => {
            format!("keep {count}, in higher precision: {}", recovered())
        }
        (
            Kind::Cache { keys, values, places, kept: None },
            Kind::Cache { keys: same_keys, values: same_values, places: there, kept: Some(_) },
        ) if keys == same_keys && values == same_values && places == there => {
            format!("pin {count}, in the cache: {}", recovered())
        }
        (Kind::Window(window), Kind::Window(with))
            if window.sinks == 0 && with.sinks > 0 && window.width == with.width =>
        {
            let late =
                variant.perplexity_after.zip(kept.perplexity_after).map_or_else(String::new, |(without, with)| {
                    format!(
                        "; past position {} perplexity {} becomes {}, untouched {}",
                        without.position,
                        rounded(without.value),
                        rounded(with.value),
                        rounded(without.untouched)
                    )
                });
            format!("pin the first {} of the cache: {}{late}", with.sinks, recovered())
        }
        (Kind::Spikes { change: SpikeChange::Zero, .. }, Kind::Spikes { change: SpikeChange::Mean, .. })
            if operation.typed.replacen("zero", "mean", 1) == other.typed =>
        {
            format!("spikes need not vary: at zero {delta:+.4} nats a token, at their mean {rest:+.4}")
        }
        _ => return None,
    };
    Some(line("tokens", kept, text, rest, "nats a token"))
}

/// To four significant digits, or whole.
fn rounded(value: f64) -> String {
    let digits = if value.is_finite() && value != 0.0 { 3.0 - value.abs().log10().floor() } else { 0.0 };
    format!("{value:.*}", digits.clamp(0.0, 8.0) as usize)
}
