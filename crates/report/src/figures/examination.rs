//! Where spikes come in, stay and go out, and what normalisation makes of them.

use sinkscope_anatomy::definitions::{MIN_STAGE_BLOCKS, STEP_SHARE, TOP_CHANNELS, in_percent, in_words};
use sinkscope_anatomy::results::{Lifecycle, Picture, Silu, Spikes, Stage, TopChannel};
use sinkscope_anatomy::sample::normalisation::{NormalisedBlock, NormalisedTokens};

use super::{blocks, line, take};
use crate::ReportError;
use crate::anatomy_tables::numbered;
use crate::figure::{Axis, Colour, Figure, Mark, Panel, Rule, Series};
use crate::number::{self, factor, value};
use crate::tidy::Table;

/// Life cycle of the largest channels: after every block, and in what the block adds (Fig. 1).
pub fn life_cycle(lifecycle: &Lifecycle, spikes: Option<&Spikes>, tables: &[Table]) -> Result<Figure, ReportError> {
    let stage = spikes.and_then(|spikes| spikes.stages.first());
    let ranked = |rank: usize, of: &dyn Fn(usize) -> Option<(usize, TopChannel)>| {
        let name = ["largest channel", "second", "third"][rank];
        let found: Vec<(usize, TopChannel)> = (0..lifecycle.blocks.len()).filter_map(of).collect();
        let notes = found.iter().map(|(block, top)| {
            format!(
                "block {block}, channel {}: {} at {:?}, position {}",
                top.channel,
                value(top.value.into()),
                top.token,
                top.position
            )
        });
        let points = found.iter().map(|(block, top)| (*block, f64::from(top.value.abs())));
        line(name, [Colour::Spike, Colour::Nth(4), Colour::Nth(2)][rank], Mark::Line, points)
            .with_notes(notes.collect())
    };
    let mut residual: Vec<Series> = (0..3)
        .map(|rank| {
            ranked(rank, &|index| {
                let block = &lifecycle.blocks[index];
                Some((block.block, block.residual.top.get(rank)?.clone()))
            })
        })
        .collect();
    let typical = lifecycle.blocks.iter().map(|block| (block.block, block.residual.typical_token_largest));
    residual.push(line("typical token", Colour::Other, Mark::Dashed, typical));
    let output = (0..3).map(|rank| {
        ranked(rank, &|index| {
            let block = &lifecycle.blocks[index];
            Some((block.block, block.output.as_ref()?.top.get(rank)?.clone()))
        })
    });
    let mut residual = Panel::plot("Residual after a block", blocks(), Axis::log("magnitude"), residual);
    for (steps, label) in stage.iter().flat_map(|stage| [(&stage.step_up, "up"), (&stage.step_down, "down")]) {
        for &block in steps {
            residual = residual.with_rule(Rule::upright(block as f64, format!("{label} {block}")));
        }
    }
    Ok(Figure {
        id: "life-cycle".into(),
        title: "Life cycle of the largest channels".into(),
        paper: Some("Fig. 1".into()),
        caption: format!(
            "The {} channels of largest magnitude after every block, over all tokens, beside the typical token's largest \
             (the median over tokens), and in what the block itself adds. Odd blocks are attention, even ones feed-forward, \
             block 0 is the embedding.",
            in_words(TOP_CHANNELS)
        ),
        alt: stage.map_or_else(
            || match spikes {
                Some(_) => {
                    let few = in_words(MIN_STAGE_BLOCKS);
                    format!("No stage of spikes: at no {few} blocks in a row does a token stand out.")
                }
                None => format!(
                    "The spike steps up at {} and down at {}.",
                    number::blocks(&lifecycle.step_up),
                    number::blocks(&lifecycle.step_down)
                ),
            },
            |stage| {
                let typical = lifecycle.blocks.iter().find(|block| block.block == stage.peak_block);
                let times = typical
                    .map(|block| {
                        format!(
                            ", {} the typical token's",
                            factor(stage.peak.abs() / block.residual.typical_token_largest)
                        )
                    })
                    .unwrap_or_default();
                format!(
                    "Channel {} steps up at {}, peaks at {} after block {}{times}, and steps down at {}.",
                    stage.channel,
                    number::blocks(&stage.step_up),
                    value(stage.peak),
                    stage.peak_block,
                    number::blocks(&stage.step_down)
                )
            },
        ),
        panels: vec![residual, Panel::plot("What a block adds", blocks(), Axis::log("magnitude"), output.collect())],
        data: take(tables, "blocks")?,
    })
}

/// What each block adds in the channel of the strongest stages, signs kept.
pub fn steps(stages: &[Stage]) -> Result<Figure, ReportError> {
    let shown: Vec<(usize, &Stage)> =
        stages.iter().enumerate().filter(|(_, stage)| !stage.outputs.is_empty()).take(2).collect();
    let panels = shown.iter().map(|&(index, stage)| {
        let bars = |name: &str, colour, chosen: &dyn Fn(usize) -> bool| {
            let of = stage.outputs.iter().filter(|output| chosen(output.block));
            line(name, colour, Mark::Bars, of.map(|output| (output.block, output.mean)))
        };
        let steps = |block: usize| stage.step_up.contains(&block) || stage.step_down.contains(&block);
        let series = vec![
            bars("step-up", Colour::Spike, &|block| stage.step_up.contains(&block)),
            bars("step-down", Colour::Sink, &|block| stage.step_down.contains(&block)),
            bars("others", Colour::Other, &|block| !steps(block)),
        ];
        let title = format!("Stage {}: channel {}", index + 1, stage.channel);
        Panel::plot(title, blocks(), Axis::linear("mean output"), series)
    });
    let outputs =
        numbered(stages).flat_map(|(number, stage)| stage.outputs.iter().map(move |output| (number, stage, output)));
    Ok(Figure {
        id: "steps".into(),
        title: "Who makes the spike and who removes it".into(),
        paper: Some("Table 1".into()),
        caption: format!(
            "What every block of a stage's window adds in the stage's channel, averaged over its tokens. Step-up blocks add \
             at least {share} of the peak, step-down blocks take at least {share} away.",
            share = in_percent(STEP_SHARE)
        ),
        alt: shown
            .iter()
            .map(|(_, stage)| {
                format!(
                    "Channel {} steps up at {} and down at {}.",
                    stage.channel,
                    number::blocks(&stage.step_up),
                    number::blocks(&stage.step_down)
                )
            })
            .collect::<Vec<_>>()
            .join(" "),
        panels: panels.collect(),
        data: Table::of("steps", outputs)
            .column("stage", |row| row.0)
            .column("channel", |row| row.1.channel)
            .column("block", |row| row.2.block)
            .column("mean_output", |row| row.2.mean)
            .table()?,
    })
}

/// Cosines among spike tokens and how sparse they are, over blocks (Fig. 5); in words at the block where the strongest
/// stage peaks.
pub fn normalisation(
    blocks_seen: &[NormalisedBlock],
    peak_block: Option<usize>,
    tables: &[Table],
) -> Result<Figure, ReportError> {
    type TokensOf = fn(&NormalisedBlock) -> Option<&NormalisedTokens>;
    let kinds: [(&str, Colour, TokensOf); 2] = [
        ("spike tokens", Colour::Spike, |block| block.spike.as_ref()),
        ("other tokens", Colour::Other, |block| block.other.as_ref()),
    ];
    let cosines = kinds.map(|(name, colour, of)| {
        let seen = || blocks_seen.iter().filter_map(move |block| Some((block.block, of(block)?)));
        let mean = seen().map(|(block, tokens)| (block, super::or_gap(tokens.plain.cosine_mean)));
        let intervals = seen().map(|(_, tokens)| {
            let mean = super::or_gap(tokens.plain.cosine_mean);
            [tokens.plain.cosine_min.unwrap_or(mean), mean]
        });
        line(name, colour, Mark::Line, mean).with_intervals(intervals.collect())
    });
    let energy = kinds.map(|(name, colour, of)| {
        let seen = blocks_seen.iter().filter_map(move |block| Some((block.block, of(block)?)));
        line(name, colour, Mark::Line, seen.map(|(block, tokens)| (block, 100.0 * tokens.plain.top3_energy)))
    });
    let seen = || blocks_seen.iter().filter_map(|block| Some((block.block, block.spike.as_ref()?)));
    // Where it is not known where the spike peaks, the sparsest.
    let at_peak = match peak_block {
        Some(peak) => seen().find(|(block, _)| *block == peak),
        None => seen().max_by(|a, b| a.1.plain.top3_energy.total_cmp(&b.1.plain.top3_energy)),
    };
    let few = in_words(TOP_CHANNELS);
    Ok(Figure {
        id: "cosines".into(),
        title: "What normalisation makes of spike tokens".into(),
        paper: Some("Fig. 5".into()),
        caption: format!(
            "The residual after every block as the model's own normalisation leaves it, without gamma. Left: mean cosine of \
             pairs of tokens, shaded down to the least of any pair. Right: share of the squared length that the {few} largest \
             entries have."
        ),
        alt: at_peak.map_or_else(
            || "There is no spike token in the sample.".into(),
            |(block, tokens)| {
                format!(
                    "After block {block}, {few} entries have {:.1} % of the squared length of spike tokens, whose mean \
                     cosine is {}.",
                    100.0 * tokens.plain.top3_energy,
                    tokens.plain.cosine_mean.map_or_else(|| "not known".into(), |cosine| format!("{cosine:.4}"))
                )
            },
        ),
        panels: vec![
            Panel::plot("Alike", blocks(), Axis::linear("cosine of pairs"), cosines.into()),
            Panel::plot(
                "Sparse",
                blocks(),
                Axis::linear(format!("% in {few} channels")).within(0.0, 102.0),
                energy.into(),
            ),
        ],
        data: take(tables, "normalisation")?,
    })
}

/// SiLU beside the identity in the step blocks, token by token (Fig. 2).
pub fn identity(silu: &Silu, tables: &[Table]) -> Result<Figure, ReportError> {
    // The strongest stage first; a page has room for three.
    let shown = silu.blocks.iter().take(3);
    let panels = shown.map(|block| {
        let dots = |name: &str, colour, spike: bool| {
            let of = block.points.iter().filter(|point| point.spike == spike);
            Series::new(name, colour, Mark::Dots, of.clone().map(|point| (point.cosine, point.norm_ratio))).with_notes(
                of.map(|point| format!("sequence {}, position {}", point.sequence, point.position)).collect(),
            )
        };
        let series = vec![dots("other tokens", Colour::Other, false), dots("spike tokens", Colour::Spike, true)];
        let title = format!("Block {}", block.block);
        Panel::plot(title, Axis::linear("cosine"), Axis::linear("ratio of lengths"), series)
    });
    let said = silu.blocks.iter().take(3).filter_map(|block| {
        let spike = block.spike.as_ref()?;
        Some(format!(
            "Block {}: cosine {:.3} and ratio {:.3} for spike tokens{}.",
            block.block,
            spike.cosine,
            spike.norm_ratio,
            block.other.as_ref().map_or_else(String::new, |other| format!(
                ", {:.3} and {:.3} for others",
                other.cosine, other.norm_ratio
            ))
        ))
    });
    Ok(Figure {
        id: "identity".into(),
        title: "The nonlinearity beside the identity".into(),
        paper: Some("Fig. 2".into()),
        caption: "A dot is a token: the activated gate beside the gate itself, in the blocks that make and remove the \
                  spike. At (1, 1) the nonlinearity passes its input, and a gated block is a quadratic form of it."
            .into(),
        alt: said.collect::<Vec<_>>().join(" "),
        panels: panels.collect(),
        data: take(tables, "amplifier_points")?,
    })
}

/// Queries and keys of heads in a plane (Fig. 6).
pub fn queries_and_keys(
    pictures: &[Picture],
    is_sink: &dyn Fn(usize, usize) -> Option<bool>,
    tables: &[Table],
) -> Result<Figure, ReportError> {
    let shown = &pictures[..pictures.len().min(4)];
    let panels = shown.iter().map(|picture| {
        let dots = |name: &str, colour, mark, chosen: &dyn Fn(bool, bool) -> bool| {
            let of = picture.points.iter().filter(|point| chosen(point.key, point.spike));
            Series::new(name, colour, mark, of.clone().map(|point| (point.at[0].into(), point.at[1].into())))
                .with_notes(
                    of.map(|point| format!("sequence {}, position {}", point.sequence, point.position)).collect(),
                )
        };
        let series = vec![
            dots("queries", Colour::Nth(5), Mark::Dots, &|key, _| !key),
            dots("keys", Colour::Other, Mark::Dots, &|key, spike| key && !spike),
            dots("keys of spike tokens", Colour::Spike, Mark::Crosses, &|key, spike| key && spike),
        ];
        let kind = match is_sink(picture.layer, picture.head) {
            Some(true) => ", a sink",
            Some(false) => ", not a sink",
            None => "",
        };
        Panel::plot(
            format!("Layer {}, head {}{kind}", picture.layer, picture.head),
            Axis::linear("t-SNE 1"),
            Axis::linear("t-SNE 2"),
            series,
        )
    });
    let heads: Vec<String> = shown
        .iter()
        .map(|picture| {
            let spiking = picture.points.iter().filter(|point| point.key && point.spike).count();
            let keys = picture.points.iter().filter(|point| point.key).count();
            format!("Layer {}, head {}: {spiking} of {keys} keys are of spike tokens.", picture.layer, picture.head)
        })
        .collect();
    Ok(Figure {
        id: "queries-and-keys".into(),
        title: "Queries and keys in a plane".into(),
        paper: Some("Fig. 6".into()),
        caption: format!(
            "t-SNE of the queries and keys of a head together, rotated as they meet, of {} of {} heads. It keeps \
             neighbours, not distances. Expected of a sink head is that the keys of spike tokens share a spot apart from \
             other keys.",
            shown.len(),
            pictures.len()
        ),
        alt: heads.join(" "),
        panels: panels.collect(),
        data: take(tables, "tsne")?,
    })
}
