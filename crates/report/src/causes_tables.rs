//! The tidy tables of what explains spikes and sinks: `regularities`, `elsewhere`, `amplifier`, `amplifier_points`,
//! `normalisation`, `geometry`, `self_sinking`, `tsne`.

use sinkscope_anatomy::regularities::Threshold;
use sinkscope_anatomy::results::{Anatomy, Picture, SpikingElsewhere, Stage};
use sinkscope_anatomy::sample::amplifier::{Amplifier, AmplifierPoint, AmplifierTokens};
use sinkscope_anatomy::sample::dimension::Dimension;
use sinkscope_anatomy::sample::embedding::{SelfSinking, SelfSinkingTokens};
use sinkscope_anatomy::sample::geometry::{HeadGeometry, KeyDimensions};
use sinkscope_anatomy::sample::normalisation::{NormalisedBlock, NormalisedTokens, Sparsity};

use crate::ReportError;
use crate::tidy::{Column, Table, Values};

/// All of them; those of parts that were not asked for are empty.
///
/// # Errors
/// [`ReportError::Table`] if the writer refuses one.
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
    let rows = anatomy.regularities.as_deref().unwrap_or_default();
    let threshold = |threshold: Threshold| match threshold {
        Threshold::AtMost(value) | Threshold::AtLeast(value) => value,
    };
    Table::new(
        "regularities",
        vec![
            Column::texts("regularity", rows.iter().map(|row| &row.name)),
            Column::booleans("holds", rows.iter().map(|row| row.holds)),
            Column::texts("quantity", rows.iter().map(|row| &row.quantity)),
            Column::optional_floats("value", rows.iter().map(|row| row.value)),
            Column::booleans("at_least", rows.iter().map(|row| matches!(row.threshold, Threshold::AtLeast(_)))),
            Column::floats("threshold", rows.iter().map(|row| threshold(row.threshold))),
        ],
    )
}

/// One row a stage and vocabulary item that spikes away from position 0.
fn elsewhere_table(stages: &[Stage]) -> Result<Table, ReportError> {
    let rows: Vec<(usize, &SpikingElsewhere)> = stages
        .iter()
        .enumerate()
        .flat_map(|(index, stage)| stage.elsewhere.iter().map(move |item| (index + 1, item)))
        .collect();
    let count = |name, of: fn(&SpikingElsewhere) -> usize| Column::counts(name, rows.iter().map(|row| of(row.1)));
    Table::new(
        "elsewhere",
        vec![
            Column::counts("stage", rows.iter().map(|row| row.0)),
            count("id", |item| item.id as usize),
            Column::texts("text", rows.iter().map(|row| &row.1.text)),
            count("occurrences", |item| item.occurrences),
            count("spiking", |item| item.spiking),
            count("first", |item| item.first),
            count("first_occurrence", |item| item.first_occurrence),
            count("least_position", |item| item.least_position),
        ],
    )
}

/// One row a stage, block and kind of token.
fn amplifier_table(blocks: &[Amplifier]) -> Result<Table, ReportError> {
    let rows: Vec<(&Amplifier, &str, &AmplifierTokens)> = blocks
        .iter()
        .flat_map(|block| [("spike", &block.spike), ("other", &block.other)].map(|(kind, of)| (block, kind, of)))
        .filter_map(|(block, kind, of)| of.as_ref().map(|of| (block, kind, of)))
        .collect();
    let optional =
        |name, of: fn(&AmplifierTokens) -> Option<f64>| Column::optional_floats(name, rows.iter().map(|row| of(row.2)));
    Table::new(
        "amplifier",
        vec![
            Column::counts("stage", rows.iter().map(|row| row.0.stage)),
            Column::counts("block", rows.iter().map(|row| row.0.block)),
            Column::counts("channel", rows.iter().map(|row| row.0.channel)),
            Column::optional_floats("eigenvalue", rows.iter().map(|row| row.0.eigenvalue)),
            Column::texts("kind", rows.iter().map(|row| row.1)),
            Column::counts("tokens", rows.iter().map(|row| row.2.tokens)),
            optional("cosine", |of| Some(of.cosine)),
            optional("norm_ratio", |of| Some(of.norm_ratio)),
            optional("bilinear_error", |of| of.bilinear_error),
            optional("output", |of| Some(of.output)),
            optional("rank_one", |of| of.rank_one),
            optional("rank_one_error", |of| of.rank_one_error),
            optional("trigger_cosine", |of| of.trigger_cosine),
        ],
    )
}

/// One row a stage, block and token.
fn amplifier_points_table(blocks: &[Amplifier]) -> Result<Table, ReportError> {
    let rows: Vec<(&Amplifier, &AmplifierPoint)> =
        blocks.iter().flat_map(|block| block.points.iter().map(move |point| (block, point))).collect();
    Table::new(
        "amplifier_points",
        vec![
            Column::counts("stage", rows.iter().map(|row| row.0.stage)),
            Column::counts("block", rows.iter().map(|row| row.0.block)),
            Column::counts("sequence", rows.iter().map(|row| row.1.sequence)),
            Column::counts("position", rows.iter().map(|row| row.1.position)),
            Column::booleans("spike", rows.iter().map(|row| row.1.spike)),
            Column::floats("cosine", rows.iter().map(|row| row.1.cosine)),
            Column::floats("norm_ratio", rows.iter().map(|row| row.1.norm_ratio)),
        ],
    )
}

/// One row a block and kind of token, without and with gamma.
fn normalisation_table(blocks: &[NormalisedBlock]) -> Result<Table, ReportError> {
    type SeenRow<'a> = (&'a NormalisedBlock, &'a str, &'a NormalisedTokens, bool, Sparsity);
    let mut rows: Vec<SeenRow<'_>> = Vec::new();
    for block in blocks {
        for (kind, of) in [("spike", &block.spike), ("other", &block.other)] {
            let Some(of) = of else { continue };
            rows.push((block, kind, of, false, of.plain));
            rows.extend(of.with_gamma.map(|with_gamma| (block, kind, of, true, with_gamma)));
        }
    }
    Table::new(
        "normalisation",
        vec![
            Column::counts("block", rows.iter().map(|row| row.0.block)),
            Column::texts("kind", rows.iter().map(|row| row.1)),
            Column::booleans("with_gamma", rows.iter().map(|row| row.3)),
            Column::counts("tokens", rows.iter().map(|row| row.2.tokens)),
            Column::floats("bound", rows.iter().map(|row| row.0.bound)),
            Column::optional_floats("largest", rows.iter().map(|row| (!row.3).then_some(row.2.largest))),
            Column::floats("top3_energy", rows.iter().map(|row| row.4.top3_energy)),
            Column::optional_floats("cosine_mean", rows.iter().map(|row| row.4.cosine_mean)),
            Column::optional_floats("cosine_min", rows.iter().map(|row| row.4.cosine_min)),
        ],
    )
}

/// One row a head.
fn geometry_table(heads: &[HeadGeometry]) -> Result<Table, ReportError> {
    type DimensionsOf = fn(&HeadGeometry) -> &KeyDimensions;
    type Way = fn(&KeyDimensions) -> Option<Dimension>;
    let mut columns = vec![
        Column::counts("layer", heads.iter().map(|head| head.layer)),
        Column::counts("head", heads.iter().map(|head| head.head)),
        Column::booleans("sink", heads.iter().map(|head| head.sink)),
    ];
    let mut float = |name: &str, of: fn(&HeadGeometry) -> Option<f64>| {
        columns.push(Column::optional_floats(name, heads.iter().map(of)));
    };
    float("sink_is_spike", |head| Some(head.sink_is_spike));
    float("logit_gap", |head| head.logit_gap);
    float("logit_gap_deviation", |head| head.logit_gap_deviation);
    float("query_to_sink_key", |head| head.query_to_sink_key);
    float("query_to_other_keys", |head| head.query_to_other_keys);
    float("key_norm_sink", |head| Some(head.key_norm_sink));
    float("key_norm_other", |head| Some(head.key_norm_other));
    float("value_norm_sink", |head| Some(head.value_norm_sink));
    float("value_norm_other", |head| Some(head.value_norm_other));
    float("distance", |head| Some(head.distance));
    float("distance_beside_sink", |head| head.distance_beside_sink);
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
            let found: Vec<Option<Dimension>> = heads.iter().map(|head| way(of(head))).collect();
            let ranks = found.iter().map(|found| found.map(|found| found.rank95 as i64)).collect();
            columns.push(Column::new(format!("key_rank95_{kind}{suffix}"), Values::Integers(ranks)));
            let ratios = found.iter().map(|found| found.map(|found| found.participation_ratio));
            columns.push(Column::optional_floats(format!("key_participation_{kind}{suffix}"), ratios));
        }
    }
    Table::new("geometry", columns)
}

/// One row a kind of token and layer.
fn self_sinking_table(found: Option<&SelfSinking>) -> Result<Table, ReportError> {
    let kinds = found.map_or_else(Vec::new, |found| {
        vec![("spike", &found.spike), ("delimiter", &found.delimiter), ("other", &found.other)]
    });
    let rows: Vec<(&str, &SelfSinkingTokens, usize)> = kinds
        .into_iter()
        .filter_map(|(kind, of)| of.as_ref().map(|of| (kind, of)))
        .flat_map(|(kind, of)| (0..of.to_self.len()).map(move |layer| (kind, of, layer)))
        .collect();
    Table::new(
        "self_sinking",
        vec![
            Column::texts("kind", rows.iter().map(|row| row.0)),
            Column::counts("tokens", rows.iter().map(|row| row.1.tokens)),
            Column::optional_floats("embedding_gamma_cosine", rows.iter().map(|row| row.1.embedding_gamma_cosine)),
            Column::optional_floats("post_norm_magnitude", rows.iter().map(|row| row.1.post_norm_magnitude)),
            Column::counts("layer", rows.iter().map(|row| row.2)),
            Column::floats("to_self", rows.iter().map(|row| row.1.to_self[row.2])),
        ],
    )
}

/// One row a query or key of a head that was drawn.
fn tsne_table(pictures: &[Picture]) -> Result<Table, ReportError> {
    let rows = || pictures.iter().flat_map(|picture| picture.points.iter().map(move |point| (picture, point)));
    Table::new(
        "tsne",
        vec![
            Column::counts("layer", rows().map(|row| row.0.layer)),
            Column::counts("head", rows().map(|row| row.0.head)),
            Column::texts("kind", rows().map(|row| if row.1.key { "key" } else { "query" })),
            Column::counts("sequence", rows().map(|row| row.1.sequence)),
            Column::counts("position", rows().map(|row| row.1.position)),
            Column::booleans("spike", rows().map(|row| row.1.spike)),
            Column::singles("x", rows().map(|row| row.1.at[0])),
            Column::singles("y", rows().map(|row| row.1.at[1])),
        ],
    )
}
