//! The tidy tables of `sinkscope anatomy`: `blocks`, `heads`, `alpha_by_position`, `stages`, `spike_tokens`,
//! `spike_channels`, `tokens`, those of [`crate::causes_tables`], and those of a census and a probe.
//!
//! Stages and ranks count from 1, strongest first. All are written at every run. The table of a part that was not asked
//! for has no rows, so that a directory never mixes the tables of two runs; but where `census` or `probe` has left its
//! results, its tables are its own.

use sinkscope_anatomy::positions::AlphaByPosition;
use sinkscope_anatomy::results::{Anatomy, BlockKind, BlockLifecycle, SpikeChannel, SpikeToken, Stage, TopChannel};
use sinkscope_anatomy::token_page::ShownToken;

use crate::ReportError;
use crate::causes_tables::causes_tables;
use crate::census_tables::census_tables;
use crate::probe_tables::probe_tables;
use crate::tidy::{Column, Table, Values};

/// The definitions whose columns `heads` has when there are no sinks to name them.
const OTHER_DEFINITIONS: [&str; 2] = ["gu", "gu-max"];

/// All tables of an examination; `is_there` says whether a file is in the directory that they go to.
///
/// # Errors
/// [`ReportError::Table`] if the results contradict each other so that columns differ in length.
pub fn anatomy_tables(anatomy: &Anatomy, is_there: impl Fn(&str) -> bool) -> Result<Vec<Table>, ReportError> {
    let blocks = anatomy.lifecycle.as_ref().map_or(&[][..], |lifecycle| &lifecycle.blocks);
    let stages = anatomy.spikes.as_ref().map_or(&[][..], |spikes| &spikes.stages);
    let mut tables = vec![
        blocks_table(blocks)?,
        heads_table(anatomy)?,
        alpha_by_position_table(anatomy.sinks.as_ref().map(|sinks| &sinks.by_position))?,
        stages_table(stages)?,
        spike_tokens_table(stages)?,
        spike_channels_table(stages)?,
        tokens_table(anatomy.tokens.as_ref().map_or(&[], |page| &page.tokens))?,
    ];
    tables.extend(causes_tables(anatomy)?);
    if !is_there("census.json") {
        tables.extend(census_tables(anatomy.census.as_ref())?);
    }
    if !is_there("probe.json") {
        tables.extend(probe_tables(anatomy.probe.as_ref())?);
    }
    Ok(tables)
}

/// The name of a kind of block, as in the JSON.
pub(crate) fn kind_name(kind: BlockKind) -> &'static str {
    match kind {
        BlockKind::Embedding => "embedding",
        BlockKind::Attention => "attention",
        BlockKind::FeedForward => "feed-forward",
    }
}

/// One row a block, point (`residual`, `output`) and rank of channel. What describes a whole residual is null for
/// outputs.
fn blocks_table(blocks: &[BlockLifecycle]) -> Result<Table, ReportError> {
    struct TopRow<'a> {
        block: &'a BlockLifecycle,
        is_residual: bool,
        rank: usize,
        top: &'a TopChannel,
    }
    let mut rows = Vec::new();
    for block in blocks {
        let points = [(true, Some(&block.residual.top)), (false, block.output.as_ref().map(|output| &output.top))];
        for (is_residual, top) in points {
            for (rank, top) in top.into_iter().flatten().enumerate() {
                rows.push(TopRow { block, is_residual, rank, top });
            }
        }
    }
    let of_residual = |value: fn(&BlockLifecycle) -> f64| {
        Values::Floats(rows.iter().map(|row| row.is_residual.then(|| value(row.block))).collect())
    };
    let count_of_residual = |value: fn(&BlockLifecycle) -> usize| {
        Values::Integers(rows.iter().map(|row| row.is_residual.then(|| value(row.block) as i64)).collect())
    };
    Table::new(
        "blocks",
        vec![
            Column::counts("block", rows.iter().map(|row| row.block.block)),
            Column::texts("kind", rows.iter().map(|row| kind_name(row.block.kind))),
            Column::texts("point", rows.iter().map(|row| if row.is_residual { "residual" } else { "output" })),
            Column::counts("rank", rows.iter().map(|row| row.rank + 1)),
            Column::counts("channel", rows.iter().map(|row| row.top.channel)),
            Column::singles("value", rows.iter().map(|row| row.top.value)),
            Column::counts("sequence", rows.iter().map(|row| row.top.sequence)),
            Column::counts("position", rows.iter().map(|row| row.top.position)),
            Column::texts("token", rows.iter().map(|row| &row.top.token)),
            Column::new("largest_mean", of_residual(|block| block.residual.largest_mean)),
            Column::new("typical_token_largest", of_residual(|block| block.residual.typical_token_largest)),
            Column::new("median_abs", of_residual(|block| block.residual.median_abs)),
            Column::new("spike_tokens", count_of_residual(|block| block.residual.spike_tokens)),
            Column::new("massive_tokens", count_of_residual(|block| block.residual.massive_tokens)),
        ],
    )
}

/// One row a layer and head. A hyphen in a definition's name becomes an underscore in its column's.
fn heads_table(anatomy: &Anatomy) -> Result<Table, ReportError> {
    let sinks = anatomy.sinks.as_ref();
    let heads = sinks.map_or(&[][..], |sinks| &sinks.heads);
    let places: Vec<(usize, usize)> =
        heads.iter().enumerate().flat_map(|(layer, row)| (0..row.len()).map(move |head| (layer, head))).collect();
    let of = |grid: Option<&Vec<Vec<f64>>>| {
        Values::Floats(
            places.iter().map(|&(layer, head)| grid.and_then(|grid| grid.get(layer)?.get(head).copied())).collect(),
        )
    };
    let interval = |end: usize| {
        let grid = sinks.and_then(|sinks| sinks.heads_ci95.as_ref());
        Values::Floats(
            places.iter().map(|&(layer, head)| grid.and_then(|grid| Some(grid.get(layer)?.get(head)?[end]))).collect(),
        )
    };
    let mut columns = vec![
        Column::counts("layer", places.iter().map(|place| place.0)),
        Column::counts("head", places.iter().map(|place| place.1)),
        Column::new("mean_max_alpha", of(sinks.map(|sinks| &sinks.heads))),
        Column::new("mean_max_alpha_low", interval(0)),
        Column::new("mean_max_alpha_high", interval(1)),
        Column::new("alpha_position_0", of(sinks.map(|sinks| &sinks.position_0))),
        Column::new("head_ratio", of(sinks.map(|sinks| &sinks.head_ratio))),
        Column::new("entropy", of(sinks.map(|sinks| &sinks.entropy))),
        Column::new("to_self", of(sinks.map(|sinks| &sinks.to_self))),
    ];
    let names: Vec<&str> = match sinks {
        Some(sinks) => sinks.other_definitions.keys().map(String::as_str).collect(),
        None => OTHER_DEFINITIONS.to_vec(),
    };
    columns.extend(names.into_iter().map(|name| {
        let other = sinks.and_then(|sinks| sinks.other_definitions.get(name));
        Column::new(format!("mean_max_alpha_{}", name.replace('-', "_")), of(other.map(|other| &other.heads)))
    }));
    Table::new("heads", columns)
}

/// One row a layer and bin of positions.
fn alpha_by_position_table(found: Option<&AlphaByPosition>) -> Result<Table, ReportError> {
    let rows: Vec<(usize, usize, f64)> = found.map_or_else(Vec::new, |found| {
        let layers = found.layers.iter().enumerate();
        let bins = |bins| found.first.iter().zip::<&Vec<f64>>(bins);
        layers.flat_map(|(layer, alpha)| bins(alpha).map(move |(&first, &alpha)| (layer, first, alpha))).collect()
    });
    Table::new(
        "alpha_by_position",
        vec![
            Column::counts("layer", rows.iter().map(|row| row.0)),
            Column::counts("first_position", rows.iter().map(|row| row.1)),
            Column::floats("alpha", rows.iter().map(|row| row.2)),
        ],
    )
}

/// One row a stage. Lists of blocks are text, blocks separated by a space.
fn stages_table(stages: &[Stage]) -> Result<Table, ReportError> {
    let list = |blocks: &[usize]| blocks.iter().map(usize::to_string).collect::<Vec<_>>().join(" ");
    Table::new(
        "stages",
        vec![
            Column::counts("stage", 1..=stages.len()),
            Column::counts("channel", stages.iter().map(|stage| stage.channel)),
            Column::counts("first_block", stages.iter().map(|stage| stage.first_block)),
            Column::counts("last_block", stages.iter().map(|stage| stage.last_block)),
            Column::texts("step_up", stages.iter().map(|stage| list(&stage.step_up))),
            Column::texts("step_down", stages.iter().map(|stage| list(&stage.step_down))),
            Column::counts("peak_block", stages.iter().map(|stage| stage.peak_block)),
            Column::floats("peak", stages.iter().map(|stage| stage.peak)),
            Column::counts("channels", stages.iter().map(|stage| stage.channels.len())),
            Column::counts("tokens", stages.iter().map(|stage| stage.tokens.len())),
            Column::floats("share_at_position_0", stages.iter().map(|stage| stage.share_at_position_0)),
            Column::floats("rate_elsewhere", stages.iter().map(|stage| stage.rate_elsewhere)),
        ],
    )
}

/// One row a stage and spike token.
fn spike_tokens_table(stages: &[Stage]) -> Result<Table, ReportError> {
    let rows: Vec<(usize, usize, &SpikeToken)> = stages
        .iter()
        .enumerate()
        .flat_map(|(index, stage)| stage.tokens.iter().map(move |token| (index, stage.channel, token)))
        .collect();
    Table::new(
        "spike_tokens",
        vec![
            Column::counts("stage", rows.iter().map(|row| row.0 + 1)),
            Column::counts("channel", rows.iter().map(|row| row.1)),
            Column::counts("sequence", rows.iter().map(|row| row.2.sequence)),
            Column::counts("position", rows.iter().map(|row| row.2.position)),
            Column::counts("id", rows.iter().map(|row| row.2.id as usize)),
            Column::texts("text", rows.iter().map(|row| &row.2.text)),
            Column::singles("value", rows.iter().map(|row| row.2.value)),
        ],
    )
}

/// One row a stage and spike channel, largest first.
fn spike_channels_table(stages: &[Stage]) -> Result<Table, ReportError> {
    let rows: Vec<(usize, usize, &SpikeChannel)> = stages
        .iter()
        .enumerate()
        .flat_map(|(index, stage)| stage.channels.iter().enumerate().map(move |(rank, channel)| (index, rank, channel)))
        .collect();
    Table::new(
        "spike_channels",
        vec![
            Column::counts("stage", rows.iter().map(|row| row.0 + 1)),
            Column::counts("rank", rows.iter().map(|row| row.1 + 1)),
            Column::counts("channel", rows.iter().map(|row| row.2.channel)),
            Column::floats("mean", rows.iter().map(|row| row.2.mean)),
            Column::floats("ratio_variation", rows.iter().map(|row| row.2.ratio_variation)),
            Column::floats("share", rows.iter().map(|row| row.2.share)),
        ],
    )
}

/// One row a token of the text itself, but for the attention that it receives.
fn tokens_table(tokens: &[ShownToken]) -> Result<Table, ReportError> {
    Table::new(
        "tokens",
        vec![
            Column::counts("sequence", tokens.iter().map(|token| token.sequence)),
            Column::counts("position", tokens.iter().map(|token| token.position)),
            Column::counts("id", tokens.iter().map(|token| token.id as usize)),
            Column::texts("text", tokens.iter().map(|token| &token.text)),
            Column::singles("largest", tokens.iter().map(|token| token.largest)),
            Column::counts("block", tokens.iter().map(|token| token.block)),
            Column::counts("channel", tokens.iter().map(|token| token.channel)),
        ],
    )
}
