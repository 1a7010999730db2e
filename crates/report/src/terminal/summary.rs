//! What was examined, what was found in a sentence or two, and what it took.

use sinkscope_anatomy::definitions::{MIN_STAGE_BLOCKS, RULE_SHARE, in_words};
use sinkscope_anatomy::head_room::{ActivationKind, HeadRoom};
use sinkscope_anatomy::results::{Anatomy, Lifecycle, Sinks, Spikes};

use super::interval_name;
use super::style::Style;
use crate::envelope::{DataIdentity, Envelope};
use crate::number::{blocks, bytes, count, counted, factor, percent, seconds, value};
use crate::text::{escape_control, token_or_id, wrap};

/// Width of a token.
const TOKEN_WIDTH: usize = 16;

/// The model, with further facts about it, and the tokens if there are any.
pub(super) fn model<R, A>(envelope: &Envelope<R, A>, facts: &[String], style: &Style) -> String {
    let mut all: Vec<String> =
        envelope.model.iter().map(|model| format!("{} parameters", count(model.parameters))).collect();
    all.extend_from_slice(facts);
    let name = envelope.model.as_ref().map_or("", |model| &model.name);
    let title = style.title(&escape_control(name), &all.join(", "));
    let Some(data) = &envelope.data else { return title };
    title + &wrap(&escape_control(&tokens(data)), style.width())
}

/// Which tokens, in words; names as they are.
pub(crate) fn tokens(data: &DataIdentity) -> String {
    let chat = data.chat.as_ref().map_or_else(String::new, |chat| {
        let conversations = counted(chat.conversations, "conversation", "conversations");
        let bos = if chat.adds_bos { "a BOS token put before sequences that lack it" } else { "no BOS token added" };
        format!(" ({conversations} through the chat template of {}, {bos})", chat.template)
    });
    let special = match data.special_tokens {
        0 => String::new(),
        count => format!(", {} spelled out in the text", counted(count, "special token", "special tokens")),
    };
    format!(
        "{}{chat}: {} of {}, {} BOS{special}",
        data.source,
        counted(data.sequences, "sequence", "sequences"),
        counted(data.seq_len, "token", "tokens"),
        if data.bos { "with" } else { "without" },
    )
}

/// Model, data and tokens of an examination.
pub(super) fn header<A>(envelope: &Envelope<Anatomy, A>, style: &Style) -> String {
    let last = |lifecycle: &Lifecycle| lifecycle.blocks.iter().map(|block| block.block).max().unwrap_or(0);
    let blocks = envelope.results.lifecycle.as_ref().map(|lifecycle| format!("{} blocks", last(lifecycle)));
    model(envelope, blocks.as_slice(), style)
}

/// The findings in plain language.
pub(super) fn findings(anatomy: &Anatomy, style: &Style) -> String {
    let mut text = String::new();
    if let Some(spikes) = &anatomy.spikes {
        text.push_str(&wrap(&spike_sentence(anatomy, spikes), style.width()));
        text.push_str(&last_block_sentence(spikes).map_or_else(String::new, |said| wrap(&said, style.width())));
    }
    if let Some(fp16) = &anatomy.fp16 {
        text.push_str(&wrap(&fp16_sentence(fp16), style.width()));
    }
    if let Some(sinks) = &anatomy.sinks {
        text.push_str(&wrap(&sink_sentence(sinks), style.width()));
    }
    text
}

/// Where the strongest spike is, when it comes in and when it goes out.
pub(crate) fn spike_sentence(anatomy: &Anatomy, spikes: &Spikes) -> String {
    let Some(stage) = spikes.stages.first() else {
        let place = spikes.largest_at.as_ref().map_or_else(String::new, |at| format!(" (block {})", at.block));
        return format!(
            "No spikes found: at no {} blocks in a row does a token reach {} times the typical token's largest \
             activation. The largest of all is {}{place}.",
            in_words(MIN_STAGE_BLOCKS),
            spikes.ratio,
            value(spikes.largest),
        );
    };
    let others = match stage.tokens.iter().filter(|token| token.position > 0).count() {
        0 => String::new(),
        1 => ", and so does 1 later token".to_owned(),
        others => format!(", and so do {}", counted(others, "later token", "later tokens")),
    };
    let who = if stage.share_at_position_0 >= 1.0 {
        "The first token spikes".to_owned() + &others
    } else if stage.share_at_position_0 >= RULE_SHARE {
        format!("The first token spikes in {} of the sequences{others}", percent(stage.share_at_position_0))
    } else {
        format!("{} spike, not the first as a rule", counted(stage.tokens.len(), "token", "tokens"))
    };
    let typical = anatomy
        .lifecycle
        .as_ref()
        .and_then(|lifecycle| lifecycle.blocks.iter().find(|block| block.block == stage.peak_block))
        .map(|block| block.residual.typical_token_largest)
        .filter(|typical| *typical > 0.0);
    let beside = typical.map_or_else(String::new, |typical| {
        format!(", {} the typical token's largest activation", factor(stage.peak.abs() / typical))
    });
    let course = match (stage.step_up.as_slice(), stage.step_down.as_slice()) {
        ([], []) => String::new(),
        ([], down) => format!(" It goes out at {}.", blocks(down)),
        (up, []) => format!(" It comes in at {} and stays.", blocks(up)),
        (up, down) => format!(" It comes in at {} and goes out at {}.", blocks(up), blocks(down)),
    };
    format!(
        "{who}: channel {} reaches {} at block {}{beside}.{course}",
        stage.channel,
        value(stage.peak),
        stage.peak_block
    )
}

/// What comes in only at the end; `None` if nothing does.
pub(crate) fn last_block_sentence(spikes: &Spikes) -> Option<String> {
    let strongest = spikes.last_block.first()?;
    let others = match spikes.last_block.len() - 1 {
        0 => String::new(),
        others => format!(", beside {}", counted(others, "other channel", "other channels")),
    };
    Some(format!(
        "In the last block alone a spike comes in, too late for a stage: channel {} reaches {} at {}{others}.",
        strongest.channel,
        value(strongest.peak),
        counted(strongest.tokens.len(), "token", "tokens"),
    ))
}

/// Whether fp16 holds the activations.
pub(crate) fn fp16_sentence(room: &HeadRoom) -> String {
    let limit = count(room.limit as u64);
    if let Some(found) = &room.overflow {
        let place = match found.of {
            ActivationKind::Residual if found.block == 0 => "in the embedding".to_owned(),
            ActivationKind::Residual => format!("in the residual after block {}", found.block),
            ActivationKind::Output => format!("in the output of block {}", found.block),
        };
        let text = token_or_id(&found.text, found.id, TOKEN_WIDTH);
        let beyond = match &room.largest {
            Some(largest) if largest.value.abs() > found.value.abs() => {
                format!("; the largest is {}, after block {}", value(largest.value.abs().into()), largest.block)
            }
            _ => String::new(),
        };
        return format!(
            "It overflows fp16, which holds {limit} at most, from {} on: channel {} has {} {place}, at token {text} (sequence \
             {}, position {}){beyond}.",
            if found.block == 0 { "the embedding".to_owned() } else { format!("block {}", found.block) },
            found.channel,
            value(found.value.into()),
            found.sequence,
            found.position,
        );
    }
    let Some((largest, room)) = room.largest.as_ref().zip(room.factor) else {
        return format!("No activation differs from 0, so that fp16 ({limit}) holds them all.");
    };
    let largest = value(largest.value.abs().into());
    format!("The largest activation, {largest}, leaves {} head-room in fp16 ({limit}).", factor(room))
}

/// How many heads sink.
pub(crate) fn sink_sentence(sinks: &Sinks) -> String {
    let interval = sinks.ratio_ci95.map_or_else(String::new, |[low, high]| {
        format!(" ({} {} to {})", interval_name(), percent(low), percent(high))
    });
    if sinks.ratio == 0.0 {
        return format!(
            "No sinks found: in no sequence does a key of the first half receive more than {} of a head's attention, mean \
             over queries.",
            sinks.epsilon
        );
    }
    format!("{} of the heads are sinks{interval}.", percent(sinks.ratio))
}

/// Perplexity, if it was measured.
pub(super) fn perplexity(anatomy: &Anatomy, style: &Style) -> Option<String> {
    let perplexity = anatomy.perplexity?;
    let nll = anatomy.nll.map(|nll| format!(": {nll:.4} nats a token"));
    let tokens = anatomy
        .predicted_tokens
        .map(|tokens| format!(", over {}", counted(tokens, "predicted token", "predicted tokens")));
    let text = format!("Perplexity {}{}{}", value(perplexity), nll.unwrap_or_default(), tokens.unwrap_or_default());
    Some(wrap(&text, style.width()))
}

/// What it took.
pub(super) fn timing<R, A>(envelope: &Envelope<R, A>, style: &Style) -> String {
    let timing = &envelope.timing;
    let mut facts = vec![seconds(timing.seconds)];
    facts.extend(timing.tokens_per_second.map(|rate| format!("{} tokens/s", value(rate))));
    if let Some(fraction) = timing.fraction_of_bound {
        facts.push(format!("{} of the f32 bound", percent(fraction)));
    }
    if let Some(peak) = timing.peak_rss_bytes {
        facts.push(format!("peak memory {}", bytes(peak)));
    }
    let text = wrap(&facts.join(", "), style.width());
    format!("{}\n", style.faint(text.trim_end()))
}
