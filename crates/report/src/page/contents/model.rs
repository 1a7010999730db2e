//! What is said of one model.

use sinkscope_anatomy::regularities::Threshold;
use sinkscope_anatomy::results::Anatomy;
use sinkscope_lab::trainer::Look;
use sinkscope_surgery::results::Comparison;

use super::lists::{cards, channel_list, late_list, stage_list, token_list};
use super::{OfModel, shown};
use crate::ReportError;
use crate::anatomy_tables::anatomy_tables;
use crate::census_tables::census_tables;
use crate::figures::{examination, sinks, surgery, training, weights};
use crate::number::{bytes, count, counted, known, seconds, value};
use crate::operate_tables::operate_tables;
use crate::outputs::Origin;
use crate::page::document::{Block, Listing, Section};
use crate::page::sentences;
use crate::page::token_text::TokenText;
use crate::terminal::tokens;
use crate::tidy::Table;

/// The sections about it, their anchors under a prefix.
pub fn sections(model: &OfModel<'_>, name: &str, prefix: &str) -> Result<Vec<Section>, ReportError> {
    // A page of one model has its name on top.
    let heading = if prefix.is_empty() { "In short" } else { name };
    let mut head = Section { is_part: true, ..Section::new(format!("{prefix}summary"), heading) };
    let mut findings = model.anatomy.map(|framed| sentences::of_anatomy(&framed.results)).unwrap_or_default();
    // A command of its own says more than the examination, in the same place.
    let census = model.census.and_then(|framed| sentences::of_weights(&framed.results, true));
    let probe = model.probe.and_then(|framed| sentences::of_probe(&framed.results));
    for finding in census.into_iter().chain(probe) {
        match findings.iter().position(|other| other.place == finding.place) {
            Some(at) => findings[at] = finding,
            None => findings.push(finding),
        }
    }
    findings.extend(model.operate.map(|framed| sentences::of_operations(&framed.results)).unwrap_or_default());
    if let Some(look) = model.looks.and_then(<[Look]>::last) {
        findings.push(sentences::of_training(look));
    }
    let mut findings = sentences::at_most_ten(findings);
    for finding in &mut findings {
        finding.place.insert_str(0, prefix);
    }

    let mut sections = Vec::new();
    let mut add = |section: Section| {
        if !section.blocks.is_empty() {
            sections.push(section);
        }
    };
    if let Some(framed) = model.anatomy {
        let tables = anatomy_tables(&framed.results, |_| false)?;
        add(of_spikes(&framed.results, &tables, prefix)?);
        add(of_causes(model, &tables, prefix)?);
        add(of_sinks(&framed.results, &tables, prefix)?);
        add(of_text(&framed.results, prefix));
    } else {
        add(of_causes(model, &[], prefix)?);
    }
    if let Some(framed) = model.operate {
        add(of_operations(&framed.results, prefix)?);
    }
    if let Some(looks) = model.looks {
        let mut section = Section::new(format!("{prefix}training"), "Training");
        section.blocks.push(shown(training::emergence(looks)?, prefix));
        add(section);
    }
    add(provenance(model, prefix));
    // Of a part that was not asked for there is no figure; what is said of it stands alone.
    let anchors: Vec<&str> = sections.iter().flat_map(Section::anchors).collect();
    for finding in &mut findings {
        if !anchors.contains(&finding.place.as_str()) {
            finding.place.clone_from(&head.id);
        }
    }
    head.blocks.push(Block::Findings(findings));
    sections.insert(0, head);
    Ok(sections)
}

fn of_spikes(anatomy: &Anatomy, tables: &[Table], prefix: &str) -> Result<Section, ReportError> {
    let mut section = Section::new(format!("{prefix}spikes"), "Spikes");
    let blocks = &mut section.blocks;
    if let Some(lifecycle) = &anatomy.lifecycle {
        blocks.push(shown(examination::life_cycle(lifecycle, anatomy.spikes.as_ref(), tables)?, prefix));
    }
    let stages = anatomy.spikes.as_ref().map_or(&[][..], |spikes| &spikes.stages);
    if !stages.is_empty() {
        if stages.iter().any(|stage| !stage.outputs.is_empty()) {
            blocks.push(shown(examination::steps(stages)?, prefix));
        }
        blocks.push(Block::Table(stage_list(stages)));
        blocks.push(Block::Table(channel_list(&stages[0])));
        blocks.push(Block::Table(token_list(&stages[0])));
    }
    let late = anatomy.spikes.as_ref().map_or(&[][..], |spikes| &spikes.last_block);
    if !late.is_empty() {
        blocks.push(Block::Table(late_list(late)));
    }
    if let Some(regularities) = anatomy.regularities.as_ref().filter(|_| !stages.is_empty()) {
        let bound = |threshold| match threshold {
            Threshold::AtMost(bound) => format!("{} or less", value(bound)),
            Threshold::AtLeast(bound) => format!("{} or more", value(bound)),
        };
        blocks.push(Block::Table(Listing::of(
            "The five regularities of the strongest stage",
            regularities,
            &[
                ("regularity", &|found| found.name.clone()),
                ("holds", &|found| if found.holds { "yes" } else { "no" }.to_owned()),
                ("quantity", &|found| found.quantity.clone()),
                ("value", &|found| known(found.value, value)),
                ("has to be", &|found| bound(found.threshold)),
            ],
        )));
    }
    Ok(section)
}

fn of_causes(model: &OfModel<'_>, tables: &[Table], prefix: &str) -> Result<Section, ReportError> {
    let mut section = Section::new(format!("{prefix}causes"), "What makes the spikes");
    let blocks = &mut section.blocks;
    let anatomy = model.anatomy.map(|framed| &framed.results);
    if let Some(silu) = anatomy.and_then(|anatomy| anatomy.silu.as_ref()).filter(|silu| !silu.blocks.is_empty()) {
        blocks.push(shown(examination::identity(silu, tables)?, prefix));
    }
    // That of all blocks before that of some.
    let census = model.census.map(|framed| &framed.results);
    let census = census.or_else(|| anatomy.and_then(|anatomy| anatomy.census.as_ref()));
    if let Some(census) = census.filter(|census| !census.blocks.is_empty()) {
        let tables = census_tables(Some(census))?;
        blocks.push(shown(weights::norms(census, &tables)?, prefix));
        if !census.spectra.is_empty() {
            blocks.push(shown(weights::spectra(census, &tables)?, prefix));
        }
        if let Some(steering) = &census.steering {
            blocks.push(shown(weights::steering(steering)?, prefix));
        }
    }
    let probe = model.probe.map(|framed| &framed.results);
    let probe = probe.or_else(|| anatomy.and_then(|anatomy| anatomy.probe.as_ref()));
    if let Some(probe) = probe.filter(|probe| !probe.highest.is_empty()) {
        blocks.push(shown(weights::probe(probe)?, prefix));
    }
    Ok(section)
}

fn of_sinks(anatomy: &Anatomy, tables: &[Table], prefix: &str) -> Result<Section, ReportError> {
    let mut section = Section::new(format!("{prefix}sinks"), "From spike to sink");
    let blocks = &mut section.blocks;
    if let Some(normalisation) = &anatomy.normalisation {
        let peak = anatomy.spikes.as_ref().and_then(|spikes| Some(spikes.stages.first()?.peak_block));
        blocks.push(shown(examination::normalisation(&normalisation.blocks, peak, tables)?, prefix));
    }
    if let Some(found) = &anatomy.sinks {
        blocks.push(shown(sinks::heads(found, tables)?, prefix));
        blocks.push(Block::Heads(cards(anatomy, found, prefix)));
        blocks.push(shown(sinks::by_layer(found)?, prefix));
        blocks.push(shown(sinks::by_position(found, tables)?, prefix));
    }
    if let Some(geometry) = &anatomy.geometry {
        blocks.push(shown(sinks::geometry(geometry, anatomy.sinks.as_ref(), tables)?, prefix));
    }
    if !anatomy.pictures.is_empty() {
        let is_sink = |layer: usize, head: usize| {
            let heads = &anatomy.geometry.as_ref()?.heads;
            heads.iter().find(|found| (found.layer, found.head) == (layer, head)).map(|found| found.sink)
        };
        blocks.push(shown(examination::queries_and_keys(&anatomy.pictures, &is_sink, tables)?, prefix));
    }
    Ok(section)
}

fn of_text(anatomy: &Anatomy, prefix: &str) -> Section {
    let mut section = Section::new(format!("{prefix}text"), "The text itself");
    if let Some(page) = &anatomy.tokens {
        section.blocks.push(Block::Words(
            "Every token is shaded by its largest activation after any block, on a logarithmic scale from the typical \
             token's up, or by the attention that it receives in a head."
                .into(),
        ));
        section.blocks.push(Block::Text(TokenText::new(format!("{prefix}tokens"), page, anatomy.lifecycle.as_ref())));
    }
    section
}

fn of_operations(comparison: &Comparison, prefix: &str) -> Result<Section, ReportError> {
    let mut section = Section::new(format!("{prefix}surgery"), "Operations on the model");
    let tables = operate_tables(comparison)?;
    section.blocks.push(shown(surgery::operations(comparison, &tables)?, prefix));
    section.blocks.push(shown(surgery::by_position(comparison)?, prefix));
    let broken = comparison.variants.iter().filter_map(|variant| Some((&variant.name, variant.not_finite.as_ref()?)));
    if broken.clone().next().is_some() {
        section.blocks.push(Block::Table(Listing::of(
            "Operations that break the model: no figure is computed from what is not finite",
            broken,
            &[("operation", &|(name, _)| (*name).clone()), ("where it breaks", &|(_, found)| found.to_string())],
        )));
    }
    if let Some(figure) = surgery::sweeps(comparison, &tables)? {
        section.blocks.push(shown(figure, prefix));
    }
    if let Some(figure) = surgery::quantisation(comparison, &tables)? {
        section.blocks.push(shown(figure, prefix));
    }
    if !comparison.advice.is_empty() {
        section.blocks.push(Block::Table(Listing::of(
            format!(
                "Advice, each a fact that the run measured, with {} to try it",
                counted(comparison.trials.len(), "run more", "runs more")
            ),
            &comparison.advice,
            &[("operation", &|line| line.operation.clone()), ("what it shows", &|line| line.text.clone())],
        )));
    }
    Ok(section)
}

/// Where the numbers come from.
fn provenance(model: &OfModel<'_>, prefix: &str) -> Section {
    let mut section = Section::new(format!("{prefix}provenance"), "Where the numbers come from");
    let mut facts: Vec<(String, String)> = Vec::new();
    let mut fact = |name: &str, text: String| facts.push((name.to_owned(), text));
    if let Some(identity) = model.identity {
        fact("model", format!("{}, {} parameters", identity.name, count(identity.parameters)));
        fact("SHA-256 of its weights", identity.sha256.clone());
    }
    if let Some((perplexity, nll)) = model.anatomy.and_then(|framed| framed.results.perplexity.zip(framed.results.nll))
    {
        fact("perplexity", format!("{} ({nll:.4} nats a token)", value(perplexity)));
    }
    let mut of = |what: &str, found: Option<Origin<'_>>| {
        let Some(Origin { command, data, seed, timing, .. }) = found else { return };
        fact(what, command.join(" "));
        if let Some(data) = data {
            fact("its data", format!("{}; SHA-256 {}", tokens(data), data.sha256));
        }
        let mut took = vec![seconds(timing.seconds)];
        took.extend(timing.peak_rss_bytes.map(|peak| format!("peak memory {}", bytes(peak))));
        took.extend(seed.map(|seed| format!("seed {seed}")));
        fact("it took", took.join(", "));
    };
    of("examination", model.anatomy.map(Origin::from));
    of("census", model.census.map(Origin::from));
    of("probe", model.probe.map(Origin::from));
    of("operations", model.operate.map(Origin::from));
    of("training", model.train.map(Origin::from));
    if !facts.is_empty() {
        section.blocks.push(Block::Facts(facts));
    }
    section
}
