//! The tidy tables of what explains spikes and sinks: `regularities`, `elsewhere`, `amplifier`, `amplifier_points`,
//! `normalisation`, `geometry`, `self_sinking`, `tsne`.

use sinkscope_anatomy::regularities::Threshold;
use sinkscope_anatomy::results::{Anatomy, Picture, Stage};
use sinkscope_anatomy::sample::amplifier::Amplifier;
use sinkscope_anatomy::sample::dimension::Dimension;
use sinkscope_anatomy::sample::embedding::SelfSinking;
use sinkscope_anatomy::sample::geometry::{HeadGeometry, KeyDimensions};
use sinkscope_anatomy::sample::normalisation::NormalisedBlock;

use crate::ReportError;
use crate::anatomy_tables::numbered;
use crate::tidy::Table;

/// All of them; those of parts that were not asked for are empty.
pub fn causes_tables(anatomy: &Anatomy) -> Result<Vec<Table>, ReportError> {
    let stages = anatomy.spikes.as_ref().map_or(&[][..], |spikes| &spikes.stages);
    let amplifiers = anatomy.silu.as_ref().map_or(&[][..], |silu| &silu.blocks);
    Ok(vec![
        regularities_table(anatomy)?,
        elsewhere_table(stages)?,
        amplifier_table(amplifiers)?,
        amplifier_points_table(amplifiers)?,
        normalisation_table(anatomy.normalisation.as_ref().map_or(&[], |all| &all.blocks))?,
        geometry_table(anatomy.geometry.as_ref().map_or(&[], |geometry| &geometry.heads))?,
        self_sinking_table(anatomy.self_sinking.as_ref())?,
        tsne_table(&anatomy.pictures)?,
    ])
}

fn regularities_table(anatomy: &Anatomy) -> Result<Table, ReportError> {
    let threshold = |threshold: Threshold| match threshold {
        Threshold::AtMost(value) | Threshold::AtLeast(value) => value,
    };
    Table::of("regularities", anatomy.regularities.as_deref().unwrap_or_default())
        .column("regularity", |row| row.name.clone())
        .column("holds", |row| row.holds)
        .column("quantity", |row| row.quantity.clone())
        .column("value", |row| row.value)
        .column("at_least", |row| matches!(row.threshold, Threshold::AtLeast(_)))
        .column("threshold", |row| threshold(row.threshold))
        .table()
}

/// One row a stage and vocabulary item that spikes away from position 0.
fn elsewhere_table(stages: &[Stage]) -> Result<Table, ReportError> {
    let rows = numbered(stages).flat_map(|(number, stage)| stage.elsewhere.iter().map(move |item| (number, item)));
    Table::of("elsewhere", rows)
        .column("stage", |row| row.0)
        .column("id", |row| row.1.id as usize)
        .column("text", |row| row.1.text.clone())
        .column("occurrences", |row| row.1.occurrences)
        .column("spiking", |row| row.1.spiking)
        .column("first", |row| row.1.first)
        .column("first_occurrence", |row| row.1.first_occurrence)
        .column("least_position", |row| row.1.least_position)
        .table()
}

/// What is known of spike tokens and of others in a block, each with the kind's name.
pub(crate) fn both<'a, B, T>(
    block: &'a B,
    spike: Option<&'a T>,
    other: Option<&'a T>,
) -> impl Iterator<Item = (&'a B, &'static str, &'a T)> {
    let kinds = [("spike", spike), ("other", other)];
    kinds.into_iter().filter_map(move |(kind, of)| Some((block, kind, of?)))
}

/// One row a stage, block and kind of token.
fn amplifier_table(blocks: &[Amplifier]) -> Result<Table, ReportError> {
    Table::of("amplifier", blocks.iter().flat_map(|block| both(block, block.spike.as_ref(), block.other.as_ref())))
        .column("stage", |row| row.0.stage)
        .column("block", |row| row.0.block)
        .column("channel", |row| row.0.channel)
        .column("eigenvalue", |row| row.0.eigenvalue)
        .column("kind", |row| row.1)
        .column("tokens", |row| row.2.tokens)
        .column("cosine", |row| row.2.cosine)
        .column("norm_ratio", |row| row.2.norm_ratio)
        .column("bilinear_error", |row| row.2.bilinear_error)
        .column("output", |row| row.2.output)
        .column("rank_one", |row| row.2.rank_one)
        .column("rank_one_error", |row| row.2.rank_one_error)
        .column("trigger_cosine", |row| row.2.trigger_cosine)
        .table()
}

/// One row a stage, block and token.
fn amplifier_points_table(blocks: &[Amplifier]) -> Result<Table, ReportError> {
    let rows = blocks.iter().flat_map(|block| block.points.iter().map(move |point| (block, point)));
    Table::of("amplifier_points", rows)
        .column("stage", |row| row.0.stage)
        .column("block", |row| row.0.block)
        .column("sequence", |row| row.1.sequence)
        .column("position", |row| row.1.position)
        .column("spike", |row| row.1.spike)
        .column("cosine", |row| row.1.cosine)
        .column("norm_ratio", |row| row.1.norm_ratio)
        .table()
}

/// One row a block and kind of token, without and with gamma.
fn normalisation_table(blocks: &[NormalisedBlock]) -> Result<Table, ReportError> {
    let seen = blocks.iter().flat_map(|block| both(block, block.spike.as_ref(), block.other.as_ref()));
    let rows = seen.flat_map(|(block, kind, of)| {
        let ways = [Some((false, of.plain)), of.with_gamma.map(|with_gamma| (true, with_gamma))];
        ways.into_iter().flatten().map(move |(with_gamma, sparsity)| (block, kind, of, with_gamma, sparsity))
    });
    Table::of("normalisation", rows)
        .column("block", |row| row.0.block)
        .column("kind", |row| row.1)
        .column("with_gamma", |row| row.3)
        .column("tokens", |row| row.2.tokens)
        .column("bound", |row| row.0.bound)
        .column("largest", |row| (!row.3).then_some(row.2.largest))
        .column("top3_energy", |row| row.4.top3_energy)
        .column("cosine_mean", |row| row.4.cosine_mean)
        .column("cosine_min", |row| row.4.cosine_min)
        .table()
}

/// One row a head.
fn geometry_table(heads: &[HeadGeometry]) -> Result<Table, ReportError> {
    type DimensionsOf = fn(&HeadGeometry) -> &KeyDimensions;
    type Way = fn(&KeyDimensions) -> Option<Dimension>;
    let mut rows = Table::of("geometry", heads)
        .column("layer", |head| head.layer)
        .column("head", |head| head.head)
        .column("sink", |head| head.sink)
        .column("sink_is_spike", |head| head.sink_is_spike)
        .column("logit_gap", |head| head.logit_gap)
        .column("logit_gap_deviation", |head| head.logit_gap_deviation)
        .column("query_to_sink_key", |head| head.query_to_sink_key)
        .column("query_to_other_keys", |head| head.query_to_other_keys)
        .column("key_norm_sink", |head| head.key_norm_sink)
        .column("key_norm_other", |head| head.key_norm_other)
        .column("value_norm_sink", |head| head.value_norm_sink)
        .column("value_norm_other", |head| head.value_norm_other)
        .column("distance", |head| head.distance)
        .column("distance_beside_sink", |head| head.distance_beside_sink);
    let kinds: [(&str, DimensionsOf); 2] =
        [("spike", |head| &head.key_dimension_spike), ("other", |head| &head.key_dimension_other)];
    let ways: [(&str, Way); 4] = [
        ("", |dimensions| dimensions.uncentred),
        ("_centred", |dimensions| dimensions.centred),
        ("_unrotated", |dimensions| dimensions.unrotated_uncentred),
        ("_unrotated_centred", |dimensions| dimensions.unrotated_centred),
    ];
    for (kind, of) in kinds {
        for (suffix, way) in ways {
            rows = rows
                .column(format!("key_rank95_{kind}{suffix}"), |head| Some(way(of(head))?.rank95))
                .column(format!("key_participation_{kind}{suffix}"), |head| Some(way(of(head))?.participation_ratio));
        }
    }
    rows.table()
}

/// One row a kind of token and layer.
fn self_sinking_table(found: Option<&SelfSinking>) -> Result<Table, ReportError> {
    let kinds = found
        .into_iter()
        .flat_map(|found| [("spike", &found.spike), ("delimiter", &found.delimiter), ("other", &found.other)]);
    let rows = kinds
        .filter_map(|(kind, of)| Some((kind, of.as_ref()?)))
        .flat_map(|(kind, of)| of.to_self.iter().enumerate().map(move |to_self| (kind, of, to_self)));
    Table::of("self_sinking", rows)
        .column("kind", |row| row.0)
        .column("tokens", |row| row.1.tokens)
        .column("embedding_gamma_cosine", |row| row.1.embedding_gamma_cosine)
        .column("post_norm_magnitude", |row| row.1.post_norm_magnitude)
        .column("layer", |row| row.2.0)
        .column("to_self", |row| *row.2.1)
        .table()
}

/// One row a query or key of a head that was drawn.
fn tsne_table(pictures: &[Picture]) -> Result<Table, ReportError> {
    let rows = pictures.iter().flat_map(|picture| picture.points.iter().map(move |point| (picture, point)));
    Table::of("tsne", rows)
        .column("layer", |row| row.0.layer)
        .column("head", |row| row.0.head)
        .column("kind", |row| if row.1.key { "key" } else { "query" })
        .column("sequence", |row| row.1.sequence)
        .column("position", |row| row.1.position)
        .column("spike", |row| row.1.spike)
        .column("x", |row| row.1.at[0])
        .column("y", |row| row.1.at[1])
        .table()
}
