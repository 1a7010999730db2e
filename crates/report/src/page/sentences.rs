//! What a model does, in ten sentences at most, each with its figure and the place that shows more. Anchors are without
//! the prefix of a part.

use sinkscope_anatomy::census::Census;
use sinkscope_anatomy::definitions::{TOP_CHANNELS, in_words};
use sinkscope_anatomy::median::upper_median;
use sinkscope_anatomy::probe::Probe;
use sinkscope_anatomy::results::{Anatomy, Sinks, Spikes};
use sinkscope_anatomy::sample::geometry::Geometry;
use sinkscope_lab::study::StudyResults;
use sinkscope_lab::trainer::Look;
use sinkscope_surgery::results::{Comparison, Variant};

use super::document::Finding;
use crate::figures::weights::dominance;
use crate::number::{count, counted, factor, list, percent, value};
use crate::terminal::study::verdict;
use crate::terminal::{fp16_sentence, last_block_sentence, not_finite, sink_sentence, spike_sentence};
use crate::text::escape_control;

/// Most sentences of a summary.
const MOST: usize = 10;

fn finding(expendable: u8, place: &str, text: String) -> Finding {
    Finding { text, place: place.to_owned(), expendable }
}

/// The ten that can be spared least, in their order.
pub fn at_most_ten(mut findings: Vec<Finding>) -> Vec<Finding> {
    while findings.len() > MOST {
        let most = findings.iter().map(|finding| finding.expendable).max().unwrap_or(0);
        // Of equals the last.
        if let Some(at) = findings.iter().rposition(|finding| finding.expendable == most) {
            findings.remove(at);
        }
    }
    findings
}

/// What there is to say of an examination.
pub fn of_anatomy(anatomy: &Anatomy) -> Vec<Finding> {
    let mut all = Vec::new();
    if let Some(spikes) = &anatomy.spikes {
        all.push(finding(0, "life-cycle", spike_sentence(anatomy, spikes)));
        all.extend(last_block_sentence(spikes).map(|text| finding(3, "life-cycle", text)));
        all.extend(channels(spikes).map(|text| finding(4, "spikes", text)));
        all.extend(who(spikes).map(|text| finding(1, "spikes", text)));
    }
    if let Some(room) = &anatomy.fp16 {
        // That it overflows is not to be missed.
        let expendable = if room.overflow.is_some() { 0 } else { 4 };
        all.push(finding(expendable, "life-cycle", fp16_sentence(room)));
    }
    all.extend(amplifier(anatomy).map(|text| finding(1, "identity", text)));
    // A census that was not asked for by name is of the step blocks.
    let whole = anatomy.census.as_ref().is_some_and(|census| census.prediction.is_some());
    all.extend(anatomy.census.as_ref().and_then(|census| of_weights(census, whole)));
    all.extend(normalisation(anatomy).map(|text| finding(1, "cosines", text)));
    if let Some(sinks) = &anatomy.sinks {
        all.push(finding(0, "heads", sink_sentence(sinks)));
        all.extend(layers(sinks).map(|text| finding(5, "sinks-by-layer", text)));
    }
    all.extend(anatomy.geometry.as_ref().and_then(preference).map(|text| finding(2, "geometry", text)));
    all.extend(anatomy.probe.as_ref().and_then(of_probe));
    if let Some(perplexity) = anatomy.perplexity {
        let tokens = anatomy.predicted_tokens.map_or_else(String::new, |tokens| {
            format!(" over {}", counted(tokens, "predicted token", "predicted tokens"))
        });
        all.push(finding(3, "provenance", format!("Its perplexity is {}{tokens}.", value(perplexity))));
    }
    all
}

/// The spike channels and how fixed their ratios are.
fn channels(spikes: &Spikes) -> Option<String> {
    let stage = spikes.stages.first().filter(|stage| stage.channels.len() > 1)?;
    let named = stage.channels.iter().take(3).map(|channel| format!("{} ({})", channel.channel, value(channel.mean)));
    let others = stage.channels.iter().filter(|channel| channel.channel != stage.channel);
    let variations: Vec<f64> = others.map(|channel| channel.ratio_variation).collect();
    let ratios = if variations.is_empty() || stage.tokens.len() < 2 {
        String::new()
    } else {
        let varies = percent(upper_median(&variations));
        format!("; a ratio between two of them varies by {varies} from token to token")
    };
    Some(format!(
        "{} spike together, led by {}{ratios}.",
        counted(stage.channels.len(), "channel", "channels"),
        named.collect::<Vec<_>>().join(", ")
    ))
}

/// Which tokens spike.
fn who(spikes: &Spikes) -> Option<String> {
    let stage = spikes.stages.first()?;
    let examples: Vec<String> = stage.elsewhere.iter().take(3).map(|item| format!("{:?}", item.text)).collect();
    let elsewhere = if examples.is_empty() { String::new() } else { format!(", such as {}", examples.join(", ")) };
    Some(format!(
        "The first token spikes in {} of the sequences, and {} of all other tokens do{elsewhere}.",
        percent(stage.share_at_position_0),
        percent(stage.rate_elsewhere)
    ))
}

/// What the step blocks do with spike tokens.
fn amplifier(anatomy: &Anatomy) -> Option<String> {
    let blocks = &anatomy.silu.as_ref()?.blocks;
    let (block, spike) = blocks.iter().find_map(|block| Some((block, block.spike.as_ref()?)))?;
    let others = block.other.as_ref().map_or_else(String::new, |other| format!(", {:.3} for others", other.cosine));
    let error = spike.bilinear_error.filter(|error| error.is_finite()).map_or_else(String::new, |error| {
        format!("; the quadratic form misses its output in the spike channels by {}", percent(error))
    });
    Some(format!(
        "In block {} the cosine of the nonlinearity's output to its input is {:.3} for spike tokens{others}{error}.",
        block.block, spike.cosine
    ))
}

/// What normalisation makes of spike tokens where the spike peaks.
fn normalisation(anatomy: &Anatomy) -> Option<String> {
    let block = anatomy.spikes.as_ref()?.stages.first()?.peak_block;
    let seen = &anatomy.normalisation.as_ref()?.blocks;
    let tokens = seen.iter().find(|found| found.block == block)?.spike.as_ref()?;
    let alike = tokens.plain.cosine_mean.map_or_else(String::new, |cosine| {
        format!("; two such tokens then have a cosine of {cosine:.4} to each other")
    });
    Some(format!(
        "Normalised after block {block}, before the learned scale, a spike token has {} of its squared length in {} \
         entries{alike}.",
        percent(tokens.plain.top3_energy),
        in_words(TOP_CHANNELS)
    ))
}

/// Where most sinks are.
fn layers(sinks: &Sinks) -> Option<String> {
    let most = sinks.by_layer.iter().copied().fold(0.0, f64::max);
    let of = |ratio: f64| -> Vec<usize> {
        let layers = sinks.by_layer.iter().enumerate();
        layers.filter(|(_, found)| **found == ratio).map(|(layer, _)| layer).collect()
    };
    let named = |layers: &[usize]| format!("layer{} {}", if layers.len() == 1 { "" } else { "s" }, list(layers));
    let none = of(0.0);
    let without = if none.is_empty() { String::new() } else { format!("; none in {}", named(&none)) };
    (most > 0.0).then(|| {
        format!("Sinks are most frequent in {}, {} of heads and sequences{without}.", named(&of(most)), percent(most))
    })
}

/// How much sink heads prefer the sink key.
fn preference(geometry: &Geometry) -> Option<String> {
    let gap = geometry.mean_logit_gap(true)?;
    let others = geometry.mean_logit_gap(false).map_or_else(String::new, |gap| format!(" ({gap:.2} in other heads)"));
    Some(format!(
        "In sink heads a query scores the sink key {gap:.2} higher than the other keys{others}, which multiplies its weight \
         by {}.",
        value(gap.exp())
    ))
}

/// What the weights say; `whole` if all blocks were counted.
pub fn of_weights(census: &Census, whole: bool) -> Option<Finding> {
    let over = |block: &sinkscope_anatomy::census::BlockCensus| dominance(block).unwrap_or(0.0);
    let block = census.blocks.iter().max_by(|a, b| over(a).total_cmp(&over(b)))?;
    let top = block.top.first()?;
    let spectrum =
        census.spectra.iter().find(|spectrum| (spectrum.block, spectrum.channel) == (block.block, top.channel));
    let direction = spectrum
        .and_then(|spectrum| spectrum.dominance)
        .map_or_else(String::new, |ratio| format!(", and its first eigenvalue is {} the second", factor(ratio)));
    let among = if whole { "Of all blocks" } else { "Of the blocks that make or remove the spike" };
    let text = format!(
        "{among}, block {} singles out one channel most by its weights, {}: the norm of its quadratic form is {} the \
         median channel's{direction}.",
        block.block,
        top.channel,
        factor(over(block))
    );
    Some(finding(1, "norms", text))
}

/// What the probe says.
pub fn of_probe(probe: &Probe) -> Option<Finding> {
    let (spiking, share) = probe.spiking.zip(probe.share)?;
    let place = if probe.position == 0 {
        "as the only token".to_owned()
    } else {
        format!("at position {}, behind the same tokens", probe.position)
    };
    let text = format!(
        "{} of {} vocabulary items ({}) spike {place}.",
        count(spiking as u64),
        count(probe.vocabulary as u64),
        percent(share)
    );
    Some(finding(1, "probe", text))
}

/// What the last look at a model in training says.
pub fn of_training(look: &Look) -> Finding {
    let seen = &look.record.watched;
    let text = format!(
        "After {} tokens of training its perplexity is {}, its largest activation {}, and {} of the heads sink.",
        count(look.record.tokens),
        value(seen.perplexity),
        value(seen.spike),
        percent(seen.sink_ratio)
    );
    finding(0, "emergence", text)
}

/// A study's claims with their verdicts.
pub fn of_study(results: &StudyResults, prefix: &str) -> Vec<Finding> {
    let done = results.rows.iter().any(|row| !row.runs.is_empty());
    let place = format!("{prefix}{}", if done { "rows" } else { "study" });
    let claim = |claim: &sinkscope_lab::study::claim::ClaimResult| {
        let conditions = &claim.conditions;
        let agree = conditions.iter().filter(|tested| tested.verdict == claim.verdict).count();
        let of = format!("{agree} of {}", counted(conditions.len(), "condition", "conditions"));
        finding(0, &place, format!("“{}”: {} ({of}).", claim.text, verdict(claim.verdict)))
    };
    at_most_ten(results.claims.iter().map(claim).collect())
}

/// What operations say.
pub fn of_operations(comparison: &Comparison) -> Vec<Finding> {
    let known = comparison.variants.iter().filter_map(|variant| Some((variant, variant.delta_nll?)));
    let mut known: Vec<(&Variant, f64)> = known.collect();
    known.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()));
    let cost = |(variant, delta): (&Variant, f64)| {
        let perplexity = variant.perplexity.map_or_else(|| "unknown".to_owned(), value);
        format!("{delta:+.4} nats a token, a perplexity of {perplexity} with {}", escape_control(&variant.name))
    };
    let mut all = Vec::new();
    for variant in &comparison.variants {
        if let Some(found) = &variant.not_finite {
            let text = format!("With {} it is {}.", escape_control(&variant.name), not_finite(found));
            all.push(finding(1, "operations", text));
        }
    }
    if let [most, rest @ ..] = &known[..] {
        let least = rest.last().map_or_else(String::new, |&least| format!("; the least is {}", cost(least)));
        let text = format!(
            "Of {}, the most that one changes the loss is {}{least}.",
            counted(comparison.variants.len(), "operation", "operations"),
            cost(*most)
        );
        all.push(finding(0, "operations", text));
    }
    all.extend(comparison.advice.iter().take(2).map(|advice| {
        let place = if advice.about == "layers" { "quantisation" } else { "operations" };
        finding(2, place, format!("{}: {}.", escape_control(&advice.operation), escape_control(&advice.text)))
    }));
    all
}
