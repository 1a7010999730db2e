//! The tidy tables of `sinkscope anatomy`: `blocks`, `heads`, `alpha_by_position`, `stages`, `spike_tokens`,
//! `spike_channels`, `tokens`, those of [`crate::causes_tables`], and those of a census and a probe.
//!
//! Stages and ranks count from 1, strongest first. All are written at every run. The table of a part that was not asked
//! for has no rows, so that a directory never mixes the tables of two runs; but where `census` or `probe` has left its
//! results, its tables are its own.

use sinkscope_anatomy::positions::AlphaByPosition;
use sinkscope_anatomy::results::{
    Anatomy, BlockKind, BlockLifecycle, ResidualLifecycle, SpikeChannel, Stage, TopChannel,
};
use sinkscope_anatomy::token_page::ShownToken;

use crate::ReportError;
use crate::causes_tables::causes_tables;
use crate::census_tables::census_tables;
use crate::probe_tables::probe_tables;
use crate::tidy::Table;

/// The definitions whose columns `heads` has when there are no sinks to name them.
const OTHER_DEFINITIONS: [&str; 2] = ["gu", "gu-max"];

/// All tables of an examination; `is_there` says whether a file is in the directory that they go to.
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
    impl TopRow<'_> {
        fn of_residual<T>(&self, value: fn(&ResidualLifecycle) -> T) -> Option<T> {
            self.is_residual.then(|| value(&self.block.residual))
        }
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
    Table::of("blocks", rows)
        .column("block", |row| row.block.block)
        .column("kind", |row| kind_name(row.block.kind))
        .column("point", |row| if row.is_residual { "residual" } else { "output" })
        .column("rank", |row| row.rank + 1)
        .column("channel", |row| row.top.channel)
        .column("value", |row| row.top.value)
        .column("sequence", |row| row.top.sequence)
        .column("position", |row| row.top.position)
        .column("token", |row| row.top.token.clone())
        .column("largest_mean", |row| row.of_residual(|residual| residual.largest_mean))
        .column("typical_token_largest", |row| row.of_residual(|residual| residual.typical_token_largest))
        .column("median_abs", |row| row.of_residual(|residual| residual.median_abs))
        .column("spike_tokens", |row| row.of_residual(|residual| residual.spike_tokens))
        .column("massive_tokens", |row| row.of_residual(|residual| residual.massive_tokens))
        .table()
}

/// One row a layer and head. A hyphen in a definition's name becomes an underscore in its column's.
fn heads_table(anatomy: &Anatomy) -> Result<Table, ReportError> {
    let sinks = anatomy.sinks.as_ref();
    let heads = sinks.map_or(&[][..], |sinks| &sinks.heads);
    let places = heads.iter().enumerate().flat_map(|(layer, row)| (0..row.len()).map(move |head| (layer, head)));
    let of = |grid: Option<&Vec<Vec<f64>>>, &(layer, head): &(usize, usize)| grid?.get(layer)?.get(head).copied();
    let interval =
        |end: usize, &(layer, head): &(usize, usize)| Some(sinks?.heads_ci95.as_ref()?.get(layer)?.get(head)?[end]);
    let mut rows = Table::of("heads", places)
        .column("layer", |place| place.0)
        .column("head", |place| place.1)
        .column("mean_max_alpha", |place| of(sinks.map(|sinks| &sinks.heads), place))
        .column("mean_max_alpha_low", |place| interval(0, place))
        .column("mean_max_alpha_high", |place| interval(1, place))
        .column("alpha_position_0", |place| of(sinks.map(|sinks| &sinks.position_0), place))
        .column("head_ratio", |place| of(sinks.map(|sinks| &sinks.head_ratio), place))
        .column("entropy", |place| of(sinks.map(|sinks| &sinks.entropy), place))
        .column("to_self", |place| of(sinks.map(|sinks| &sinks.to_self), place));
    let names: Vec<&str> = match sinks {
        Some(sinks) => sinks.other_definitions.keys().map(String::as_str).collect(),
        None => OTHER_DEFINITIONS.to_vec(),
    };
    for name in names {
        let other = sinks.and_then(|sinks| sinks.other_definitions.get(name));
        let column = format!("mean_max_alpha_{}", name.replace('-', "_"));
        rows = rows.column(column, |place| of(other.map(|other| &other.heads), place));
    }
    rows.table()
}

/// One row a layer and bin of positions.
fn alpha_by_position_table(found: Option<&AlphaByPosition>) -> Result<Table, ReportError> {
    let rows = found.into_iter().flat_map(|found| {
        let layers = found.layers.iter().enumerate();
        let bins = |bins| found.first.iter().zip::<&Vec<f64>>(bins);
        layers.flat_map(move |(layer, alpha)| bins(alpha).map(move |(&first, &alpha)| (layer, first, alpha)))
    });
    Table::of("alpha_by_position", rows)
        .column("layer", |row| row.0)
        .column("first_position", |row| row.1)
        .column("alpha", |row| row.2)
        .table()
}

/// Each stage with its number, from 1.
pub(crate) fn numbered(stages: &[Stage]) -> impl Iterator<Item = (usize, &Stage)> {
    (1..).zip(stages)
}

/// One row a stage. Lists of blocks are text, blocks separated by a space.
fn stages_table(stages: &[Stage]) -> Result<Table, ReportError> {
    let list = |blocks: &[usize]| blocks.iter().map(usize::to_string).collect::<Vec<_>>().join(" ");
    Table::of("stages", numbered(stages))
        .column("stage", |row| row.0)
        .column("channel", |row| row.1.channel)
        .column("first_block", |row| row.1.first_block)
        .column("last_block", |row| row.1.last_block)
        .column("step_up", |row| list(&row.1.step_up))
        .column("step_down", |row| list(&row.1.step_down))
        .column("peak_block", |row| row.1.peak_block)
        .column("peak", |row| row.1.peak)
        .column("channels", |row| row.1.channels.len())
        .column("tokens", |row| row.1.tokens.len())
        .column("share_at_position_0", |row| row.1.share_at_position_0)
        .column("rate_elsewhere", |row| row.1.rate_elsewhere)
        .table()
}

/// One row a stage and spike token.
fn spike_tokens_table(stages: &[Stage]) -> Result<Table, ReportError> {
    let rows = numbered(stages)
        .flat_map(|(number, stage)| stage.tokens.iter().map(move |token| (number, stage.channel, token)));
    Table::of("spike_tokens", rows)
        .column("stage", |row| row.0)
        .column("channel", |row| row.1)
        .column("sequence", |row| row.2.sequence)
        .column("position", |row| row.2.position)
        .column("id", |row| row.2.id as usize)
        .column("text", |row| row.2.text.clone())
        .column("value", |row| row.2.value)
        .table()
}

/// One row a stage and spike channel, largest first.
fn spike_channels_table(stages: &[Stage]) -> Result<Table, ReportError> {
    let rows = numbered(stages)
        .flat_map(|(number, stage)| (1..).zip(&stage.channels).map(move |(rank, channel)| (number, rank, channel)));
    Table::of("spike_channels", rows)
        .column("stage", |row| row.0)
        .column("rank", |row: &(usize, usize, &SpikeChannel)| row.1)
        .column("channel", |row| row.2.channel)
        .column("mean", |row| row.2.mean)
        .column("ratio_variation", |row| row.2.ratio_variation)
        .column("share", |row| row.2.share)
        .table()
}

/// One row a token of the text itself, but for the attention that it receives.
fn tokens_table(tokens: &[ShownToken]) -> Result<Table, ReportError> {
    Table::of("tokens", tokens)
        .column("sequence", |token| token.sequence)
        .column("position", |token| token.position)
        .column("id", |token| token.id as usize)
        .column("text", |token| token.text.clone())
        .column("largest", |token| token.largest)
        .column("block", |token| token.block)
        .column("channel", |token| token.channel)
        .table()
}
