//! What a model does, in about ten sentences, each with its figure and the place that shows more.

use sinkscope_anatomy::census::Census;
use sinkscope_anatomy::probe::Probe;
use sinkscope_anatomy::results::{Anatomy, Spikes};
use sinkscope_surgery::results::{Comparison, Variant};

use super::document::Finding;
use crate::number::{count, counted, factor, percent, value};
use crate::terminal::{sink_sentence, spike_sentence};
use crate::text::escape_control;

/// What there is to say of an examination; anchors without any prefix.
pub fn of_anatomy(anatomy: &Anatomy) -> Vec<Finding> {
    let mut all = Vec::new();
    let mut say = |place: &str, text: String| all.push(Finding { text, place: place.to_owned() });
    if let Some(spikes) = &anatomy.spikes {
        say("life-cycle", spike_sentence(anatomy, spikes));
        if let Some(text) = channels(spikes) {
            say("spikes", text);
        }
        if let Some(text) = who(spikes) {
            say("spikes", text);
        }
    }
    let spiking =
        anatomy.silu.iter().flat_map(|silu| &silu.blocks).find_map(|block| Some((block, block.spike.as_ref()?)));
    if let Some((block, spike)) = spiking {
        let others = block.other.as_ref().map_or_else(String::new, |other| format!(", {:.3} for others", other.cosine));
        let error = spike.bilinear_error.map_or_else(String::new, |error| {
            format!("; leaving it out changes the block's output by {}", percent(error))
        });
        say(
            "identity",
            format!(
                "In block {} the cosine of the nonlinearity's output to its input is {:.3} for spike tokens{others}{error}.",
                block.block, spike.cosine
            ),
        );
    }
    if let Some(text) = anatomy.census.as_ref().and_then(of_weights) {
        say("norms", text);
    }
    if let Some(text) = anatomy.normalisation.as_ref().and_then(|found| {
        let block = anatomy.spikes.as_ref()?.stages.first()?.peak_block;
        let tokens = found.blocks.iter().find(|found| found.block == block)?.spike.as_ref()?;
        let alike = tokens
            .plain
            .cosine_mean
            .map_or_else(String::new, |cosine| format!("; the mean cosine of two such tokens is {cosine:.4}"));
        Some(format!(
            "Normalisation after block {block} leaves {} of a spike token's squared length to three channels{alike}.",
            percent(tokens.plain.top3_energy)
        ))
    }) {
        say("cosines", text);
    }
    if let Some(sinks) = &anatomy.sinks {
        say("heads", sink_sentence(sinks));
        let most = sinks.by_layer.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
        if let Some((layer, ratio)) = most.filter(|(_, ratio)| **ratio > 0.0) {
            let none = sinks.by_layer.iter().filter(|ratio| **ratio == 0.0).count();
            let without = if none > 0 {
                format!("; {} without any", counted(none, "layer is", "layers are"))
            } else {
                String::new()
            };
            say("sinks-by-layer", format!("Layer {layer} has most of them, {}{without}.", percent(*ratio)));
        }
    }
    if let Some(geometry) = &anatomy.geometry {
        let mean = |sink: bool| {
            let gaps: Vec<f64> =
                geometry.heads.iter().filter(|head| head.sink == sink).filter_map(|head| head.logit_gap).collect();
            (!gaps.is_empty()).then(|| gaps.iter().sum::<f64>() / gaps.len() as f64)
        };
        if let Some(gap) = mean(true) {
            let others = mean(false).map_or_else(String::new, |gap| format!(", in other heads {gap:.2}"));
            say(
                "geometry",
                format!("In sink heads a query's logit of the sink key exceeds the others by {gap:.2}{others}."),
            );
        }
    }
    if let Some(text) = anatomy.probe.as_ref().and_then(of_probe) {
        say("probe", text);
    }
    if let (Some(perplexity), Some(nll)) = (anatomy.perplexity, anatomy.nll) {
        let tokens = anatomy.predicted_tokens.map_or_else(String::new, |tokens| {
            format!(" over {}", counted(tokens, "predicted token", "predicted tokens"))
        });
        say("provenance", format!("Its perplexity is {} ({nll:.4} nats a token{tokens}).", value(perplexity)));
    }
    all
}

/// The spike channels and how fixed their ratios are.
fn channels(spikes: &Spikes) -> Option<String> {
    let stage = spikes.stages.first().filter(|stage| stage.channels.len() > 1)?;
    let named = stage.channels.iter().take(3).map(|channel| format!("{} ({})", channel.channel, value(channel.mean)));
    // The first channel's own ratio is 1.
    let others: Vec<f64> = stage.channels.iter().skip(1).map(|channel| channel.ratio_variation).collect();
    let varies = others.iter().sum::<f64>() / others.len() as f64;
    Some(format!(
        "{} spike together, led by {}; their ratios vary by {} between tokens.",
        counted(stage.channels.len(), "channel", "channels"),
        named.collect::<Vec<_>>().join(", "),
        percent(varies)
    ))
}

/// Which tokens spike.
fn who(spikes: &Spikes) -> Option<String> {
    let stage = spikes.stages.first()?;
    let examples: Vec<String> = stage.elsewhere.iter().take(3).map(|item| format!("{:?}", item.text)).collect();
    let elsewhere = if examples.is_empty() { String::new() } else { format!(", such as {}", examples.join(", ")) };
    Some(format!(
        "The spike stands at position 0 in {} of the sequences and at {} of all other tokens{elsewhere}.",
        percent(stage.share_at_position_0),
        percent(stage.rate_elsewhere)
    ))
}

/// What the weights say.
pub fn of_weights(census: &Census) -> Option<String> {
    let over = |block: &sinkscope_anatomy::census::BlockCensus| {
        block.top.first().map_or(0.0, |top| top.frobenius / block.median)
    };
    let block = census.blocks.iter().max_by(|a, b| over(a).total_cmp(&over(b)))?;
    let top = block.top.first()?;
    let spectrum =
        census.spectra.iter().find(|spectrum| (spectrum.block, spectrum.channel) == (block.block, top.channel));
    let direction = spectrum
        .and_then(|spectrum| spectrum.dominance)
        .map_or_else(String::new, |ratio| format!(", and its first eigenvalue is {} the second", factor(ratio)));
    Some(format!(
        "The weights alone single out channel {} in block {}: its quadratic form is {} the median's{direction}.",
        top.channel,
        block.block,
        factor(over(block))
    ))
}

/// What the probe says.
pub fn of_probe(probe: &Probe) -> Option<String> {
    let (spiking, share) = probe.spiking.zip(probe.share)?;
    Some(format!(
        "{} of {} vocabulary items ({}) spike when they stand alone at position {}.",
        count(spiking as u64),
        count(probe.vocabulary as u64),
        percent(share),
        probe.position
    ))
}

/// What operations say.
pub fn of_operations(comparison: &Comparison) -> Vec<Finding> {
    let known = || comparison.variants.iter().filter_map(|variant| Some((variant, variant.delta_nll?)));
    let mut all = Vec::new();
    let mut say = |place: &str, text: String| all.push(Finding { text, place: place.to_owned() });
    let cost = |(variant, delta): (&Variant, f64)| {
        let perplexity =
            variant.perplexity.map_or_else(String::new, |perplexity| format!(" (perplexity {})", value(perplexity)));
        format!("{} changes the loss by {delta:+.4} nats a token{perplexity}", escape_control(&variant.name))
    };
    if let Some(worst) = known().max_by(|a, b| a.1.total_cmp(&b.1)) {
        let least = known().min_by(|a, b| a.1.total_cmp(&b.1)).filter(|least| least.0.name != worst.0.name);
        let least = least.map_or_else(String::new, |least| format!("; {}", cost(least)));
        say(
            "operations",
            format!(
                "Of {} done to the model, {}{least}.",
                counted(comparison.variants.len(), "operation", "operations"),
                cost(worst)
            ),
        );
    }
    for advice in comparison.advice.iter().take(2) {
        let text = format!("{}: {}.", escape_control(&advice.operation), escape_control(&advice.text));
        say(if advice.about == "layers" { "quantisation" } else { "operations" }, text);
    }
    all
}
