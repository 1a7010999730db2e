//! Lists of what was found, and a card for every head.

use std::collections::BTreeMap;

use sinkscope_anatomy::definitions::{INTERVAL, RANK_SHARE, in_percent};
use sinkscope_anatomy::results::{Anatomy, Sinks, Stage};
use sinkscope_anatomy::sample::geometry::HeadGeometry;

use crate::figures::sinks;
use crate::number::{count, counted, list, percent, value};
use crate::page::document::{HeadCards, Listing};

/// Spike tokens that are listed.
const MOST_TOKENS: usize = 24;

/// The stages of a model.
pub fn stage_list(stages: &[Stage]) -> Listing {
    Listing::of(
        "Stages, strongest first",
        stages.iter().enumerate(),
        &[
            ("stage", &|(index, _)| (index + 1).to_string()),
            ("channel", &|(_, stage)| stage.channel.to_string()),
            ("step-up", &|(_, stage)| list(&stage.step_up)),
            ("peak", &|(_, stage)| value(stage.peak)),
            ("at block", &|(_, stage)| stage.peak_block.to_string()),
            ("step-down", &|(_, stage)| list(&stage.step_down)),
            ("channels", &|(_, stage)| stage.channels.len().to_string()),
            ("tokens", &|(_, stage)| count(stage.tokens.len() as u64)),
            ("at position 0", &|(_, stage)| percent(stage.share_at_position_0)),
            ("elsewhere", &|(_, stage)| percent(stage.rate_elsewhere)),
        ],
    )
}

/// Spikes born in the last block.
pub fn late_list(late: &[Stage]) -> Listing {
    Listing::of(
        "Spikes born in the last block, too late for a stage, strongest first",
        late,
        &[
            ("channel", &|spike| spike.channel.to_string()),
            ("reaches", &|spike| value(spike.peak)),
            ("tokens", &|spike| count(spike.tokens.len() as u64)),
            ("at position 0", &|spike| percent(spike.share_at_position_0)),
            ("elsewhere", &|spike| percent(spike.rate_elsewhere)),
        ],
    )
}

/// The spike channels of a stage.
pub fn channel_list(stage: &Stage) -> Listing {
    Listing::of(
        "Channels of the first stage, over its tokens at the peak",
        &stage.channels,
        &[
            ("channel", &|channel| channel.channel.to_string()),
            ("mean", &|channel| value(channel.mean)),
            ("variation of its ratio", &|channel| percent(channel.ratio_variation)),
            ("tokens that spike in it", &|channel| percent(channel.share)),
        ],
    )
}

pub fn token_list(stage: &Stage) -> Listing {
    let mut tokens: Vec<_> = stage.tokens.iter().collect();
    tokens.sort_by(|a, b| b.value.abs().total_cmp(&a.value.abs()));
    let all = counted(tokens.len(), "spike token", "spike tokens");
    Listing::of(
        format!("The strongest of {all} of the first stage, in channel {}", stage.channel),
        tokens.iter().take(MOST_TOKENS),
        &[
            ("token", &|token| format!("{:?}", token.text)),
            ("sequence", &|token| token.sequence.to_string()),
            ("position", &|token| token.position.to_string()),
            ("value", &|token| value(token.value.into())),
        ],
    )
}

/// What is known of every head.
pub fn cards(anatomy: &Anatomy, sinks: &Sinks, prefix: &str) -> HeadCards {
    let mut geometry: BTreeMap<(usize, usize), &HeadGeometry> = BTreeMap::new();
    for head in anatomy.geometry.iter().flat_map(|geometry| &geometry.heads) {
        geometry.insert((head.layer, head.head), head);
    }
    let ranks = ["spike", "other"].map(|kind| format!("{} rank, {kind} keys", in_percent(RANK_SHARE)));
    let mut names = vec!["max alpha", "a sink in", "alpha at position 0", "entropy, nats", "on itself"];
    if !geometry.is_empty() {
        names.extend([
            "sink token spikes",
            &ranks[0],
            &ranks[1],
            "logit gap",
            "cosine to the sink key",
            "cosine to other keys",
            "length of the sink value",
            "length of other values",
        ]);
    }
    let of = |grid: &[Vec<f64>], layer: usize, head: usize| grid.get(layer).and_then(|row| row.get(head)).copied();
    let known = |number: Option<f64>| number.map_or_else(|| "unknown".to_owned(), value);
    let rank = |rank: Option<usize>| rank.map_or_else(|| "unknown".to_owned(), |rank| rank.to_string());
    let card = |layer: usize, head: usize| {
        let interval = sinks.heads_ci95.as_ref().and_then(|all| all.get(layer)?.get(head));
        let interval = interval.map_or_else(String::new, |[low, high]| {
            format!(" ({}: {} to {})", in_percent(INTERVAL), value(*low), value(*high))
        });
        let mut card = vec![
            known(of(&sinks.heads, layer, head)) + &interval,
            of(&sinks.head_ratio, layer, head).map_or_else(String::new, |share| percent(share) + " of sequences"),
            known(of(&sinks.position_0, layer, head)),
            known(of(&sinks.entropy, layer, head)),
            known(of(&sinks.to_self, layer, head)),
        ];
        if let Some(head) = geometry.get(&(layer, head)) {
            card.extend([
                percent(head.sink_is_spike) + " of sequences",
                rank(head.key_rank95_spike),
                rank(head.key_rank95_other),
                known(head.logit_gap),
                known(head.query_to_sink_key),
                known(head.query_to_other_keys),
                value(head.value_norm_sink),
                value(head.value_norm_other),
            ]);
        }
        card
    };
    HeadCards {
        id: format!("{prefix}head"),
        figure: format!("{prefix}{}", sinks::HEADS),
        text: if anatomy.tokens.is_some() { format!("{prefix}tokens") } else { String::new() },
        names: names.into_iter().map(String::from).collect(),
        cards: sinks
            .heads
            .iter()
            .enumerate()
            .map(|(layer, row)| (0..row.len()).map(|head| card(layer, head)).collect())
            .collect(),
    }
}
