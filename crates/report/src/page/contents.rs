//! What the page says of the outputs: a part for every model, every run in training and every study, and before them, if
//! there are several models, the models side by side.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use sinkscope_anatomy::census::Census;
use sinkscope_anatomy::probe::Probe;
use sinkscope_anatomy::results::{Anatomy, Sinks, Stage};
use sinkscope_anatomy::sample::geometry::HeadGeometry;
use sinkscope_lab::study::StudyResults;
use sinkscope_lab::trainer::Look;
use sinkscope_surgery::results::Comparison;

use super::document::{Block, Document, Finding, HeadCards, Listing, Section};
use super::sentences;
use super::token_text::TokenText;
use crate::ReportError;
use crate::anatomy_tables::anatomy_tables;
use crate::census_tables::census_tables;
use crate::envelope::{DataIdentity, ModelIdentity, Timing};
use crate::figure::{Axis, Colour, Figure, Mark, Panel, Series};
use crate::figures::{examination, sinks, study, surgery, training, weights};
use crate::number::{bytes, count, counted, list, percent, seconds, value};
use crate::operate_tables::operate_tables;
use crate::outputs::{Found, Framed, Output};
use crate::study_tables::study_tables;
use crate::terminal::study as words;
use crate::tidy::{Column, Table};

/// Spike tokens that are listed.
const MOST_TOKENS: usize = 24;

/// What is known of one model.
#[derive(Default)]
struct OfModel<'a> {
    identity: Option<&'a ModelIdentity<Value>>,
    anatomy: Option<&'a Framed<Anatomy>>,
    census: Option<&'a Framed<Census>>,
    probe: Option<&'a Framed<Probe>>,
    operate: Option<&'a Framed<Comparison>>,
    looks: Option<&'a [Look]>,
}

impl<'a> OfModel<'a> {
    /// Takes an output in, if it has none of that kind yet.
    fn take(&mut self, output: &'a Output) -> bool {
        fn fill<'a, T: ?Sized>(place: &mut Option<&'a T>, with: &'a T) -> bool {
            let free = place.is_none();
            if free {
                *place = Some(with);
            }
            free
        }
        match output {
            Output::Anatomy(framed) => fill(&mut self.anatomy, framed),
            Output::Census(framed) => fill(&mut self.census, framed),
            Output::Probe(framed) => fill(&mut self.probe, framed),
            Output::Operate(framed) => fill(&mut self.operate, framed),
            Output::Train(framed) => fill(&mut self.looks, &framed.results.looks[..]),
            Output::Training(looks) => fill(&mut self.looks, &looks[..]),
            Output::Study(_) => false,
        }
    }
}

/// The document about these outputs.
///
/// # Errors
/// [`ReportError::Table`] if results contradict each other.
pub fn document(found: &[Found]) -> Result<Document, ReportError> {
    let mut definitions = BTreeMap::new();
    let mut models: Vec<(OfModel<'_>, &Path)> = Vec::new();
    let mut studies = Vec::new();
    for Found { directory, output } in found {
        definitions
            .extend(definitions_of(output).into_iter().flatten().map(|(name, text)| (name.clone(), text.clone())));
        if let Output::Study(framed) = output {
            studies.push(&**framed);
            continue;
        }
        let identity = output.model();
        let same = models.iter_mut().find(|(model, at)| match (model.identity, identity) {
            (Some(one), Some(other)) => one.sha256 == other.sha256,
            (None, None) => *at == directory,
            _ => false,
        });
        if let Some((model, _)) = same
            && model.take(output)
        {
            continue;
        }
        let mut model = OfModel { identity, ..OfModel::default() };
        model.take(output);
        models.push((model, directory));
    }
    let several = models.len() + studies.len() > 1;
    let mut sections = Vec::new();
    if models.iter().filter(|(model, _)| model.anatomy.is_some()).count() > 1 {
        sections.push(side_by_side(&models)?);
    }
    let mut title = None;
    for (index, (model, directory)) in models.iter().enumerate() {
        let name = model.identity.map_or_else(|| directory.display().to_string(), |identity| identity.name.clone());
        let prefix = if several { format!("m{}-", index + 1) } else { String::new() };
        sections.extend(of_model(model, &name, &prefix)?);
        title.get_or_insert(name);
    }
    for (index, framed) in studies.iter().enumerate() {
        let prefix = if several { format!("s{}-", index + 1) } else { String::new() };
        sections.push(of_study(&framed.results, &prefix)?);
        title.get_or_insert(framed.results.title.clone());
    }
    let title = match title {
        Some(title) if !several => title,
        _ => "Spikes and sinks".to_owned(),
    };
    Ok(Document { title, sections, definitions })
}

fn definitions_of(output: &Output) -> Option<&BTreeMap<String, String>> {
    Some(match output {
        Output::Anatomy(framed) => &framed.definitions,
        Output::Census(framed) => &framed.definitions,
        Output::Probe(framed) => &framed.definitions,
        Output::Operate(framed) => &framed.definitions,
        Output::Train(framed) => &framed.definitions,
        Output::Study(framed) => &framed.definitions,
        Output::Training(_) => return None,
    })
}

/// The sections about one model, their anchors under a prefix.
fn of_model(model: &OfModel<'_>, name: &str, prefix: &str) -> Result<Vec<Section>, ReportError> {
    // A page of one model has its name on top.
    let heading = if prefix.is_empty() { "In short" } else { name };
    let mut head = Section { is_part: true, ..Section::new(format!("{prefix}summary"), heading) };
    let mut findings = model.anatomy.map(|framed| sentences::of_anatomy(&framed.results)).unwrap_or_default();
    if let Some(census) = model.census
        && !findings.iter().any(|finding| finding.place == "norms")
    {
        let said = sentences::of_weights(&census.results);
        findings.extend(said.map(|text| Finding { text, place: "norms".into() }));
    }
    if let Some(text) = model.probe.and_then(|probe| sentences::of_probe(&probe.results)) {
        findings.retain(|finding| finding.place != "probe");
        findings.push(Finding { text, place: "probe".into() });
    }
    findings.extend(model.operate.map(|framed| sentences::of_operations(&framed.results)).unwrap_or_default());
    if let Some(look) = model.looks.and_then(<[Look]>::last) {
        let text = format!("It was looked at while it was trained, for {} tokens.", count(look.record.tokens));
        findings.push(Finding { text, place: "emergence".into() });
    }
    for finding in &mut findings {
        finding.place.insert_str(0, prefix);
    }
    head.blocks.push(Block::Findings(findings));

    let mut sections = vec![head];
    let mut add = |section: Section| {
        if !section.blocks.is_empty() {
            sections.push(section);
        }
    };
    if let Some(framed) = model.anatomy {
        let tables = anatomy_tables(&framed.results)?;
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
    Ok(sections)
}

/// A figure under its own anchor.
fn shown(mut figure: Figure, prefix: &str) -> Block {
    figure.id.insert_str(0, prefix);
    Block::Figure(Box::new(figure))
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
        blocks.push(Block::Table(token_list(&stages[0])));
    }
    if let Some(regularities) = &anatomy.regularities {
        blocks.push(Block::Table(Listing {
            caption: "The five regularities of the strongest stage".into(),
            headings: ["regularity", "holds", "quantity", "value"].map(String::from).into(),
            rows: regularities
                .iter()
                .map(|found| {
                    let holds = if found.holds { "yes" } else { "no" };
                    let figure = found.value.map_or_else(String::new, value);
                    vec![found.name.clone(), holds.into(), found.quantity.clone(), figure]
                })
                .collect(),
        }));
    }
    Ok(section)
}

fn stage_list(stages: &[Stage]) -> Listing {
    let row = |(index, stage): (usize, &Stage)| {
        vec![
            (index + 1).to_string(),
            stage.channel.to_string(),
            list(&stage.step_up),
            value(stage.peak),
            stage.peak_block.to_string(),
            list(&stage.step_down),
            stage.channels.len().to_string(),
            count(stage.tokens.len() as u64),
            percent(stage.share_at_position_0),
            percent(stage.rate_elsewhere),
        ]
    };
    Listing {
        caption: "Stages, strongest first".into(),
        headings: [
            "stage",
            "channel",
            "step-up",
            "peak",
            "at block",
            "step-down",
            "channels",
            "tokens",
            "at position 0",
            "elsewhere",
        ]
        .map(String::from)
        .into(),
        rows: stages.iter().enumerate().map(row).collect(),
    }
}

fn token_list(stage: &Stage) -> Listing {
    let mut tokens: Vec<_> = stage.tokens.iter().collect();
    tokens.sort_by(|a, b| b.value.abs().total_cmp(&a.value.abs()));
    let row = |token: &&sinkscope_anatomy::results::SpikeToken| {
        vec![
            format!("{:?}", token.text),
            token.sequence.to_string(),
            token.position.to_string(),
            value(token.value.into()),
        ]
    };
    Listing {
        caption: format!(
            "The strongest of {} of the first stage, in channel {}",
            counted(tokens.len(), "spike token", "spike tokens"),
            stage.channel
        ),
        headings: ["token", "sequence", "position", "value"].map(String::from).into(),
        rows: tokens.iter().take(MOST_TOKENS).map(row).collect(),
    }
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

/// What is known of every head.
fn cards(anatomy: &Anatomy, sinks: &Sinks, prefix: &str) -> HeadCards {
    let mut geometry: BTreeMap<(usize, usize), &HeadGeometry> = BTreeMap::new();
    for head in anatomy.geometry.iter().flat_map(|geometry| &geometry.heads) {
        geometry.insert((head.layer, head.head), head);
    }
    let mut names = vec!["max alpha", "a sink in", "alpha at position 0", "entropy, nats", "on itself"];
    if !geometry.is_empty() {
        names.extend([
            "sink token spikes",
            "95 % rank, spike keys",
            "95 % rank, other keys",
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
        let interval =
            interval.map_or_else(String::new, |[low, high]| format!(" ({} to {})", value(*low), value(*high)));
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
    if let Some(figure) = surgery::quantisation(comparison, &tables)? {
        section.blocks.push(shown(figure, prefix));
    }
    if !comparison.advice.is_empty() {
        section.blocks.push(Block::Table(Listing {
            caption: "Advice, each a fact that the run measured".into(),
            headings: ["operation", "what it shows"].map(String::from).into(),
            rows: comparison.advice.iter().map(|line| vec![line.operation.clone(), line.text.clone()]).collect(),
        }));
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
    let mut of = |what: &str, command: &[String], data: Option<&DataIdentity>, seed: Option<u64>, timing: &Timing| {
        fact(what, command.join(" "));
        if let Some(data) = data {
            let tokens = format!(
                "{}: {} of {}, {} BOS; SHA-256 {}",
                data.source,
                counted(data.sequences, "sequence", "sequences"),
                counted(data.seq_len, "token", "tokens"),
                if data.bos { "with" } else { "without" },
                data.sha256
            );
            fact("its data", tokens);
        }
        let mut took = vec![seconds(timing.seconds)];
        took.extend(timing.peak_rss_bytes.map(|peak| format!("peak memory {}", bytes(peak))));
        took.extend(seed.map(|seed| format!("seed {seed}")));
        fact("it took", took.join(", "));
    };
    if let Some(Framed { command, data, seed, timing, .. }) = model.anatomy {
        of("examination", command, data.as_ref(), *seed, timing);
    }
    if let Some(Framed { command, data, seed, timing, .. }) = model.census {
        of("census", command, data.as_ref(), *seed, timing);
    }
    if let Some(Framed { command, data, seed, timing, .. }) = model.probe {
        of("probe", command, data.as_ref(), *seed, timing);
    }
    if let Some(Framed { command, data, seed, timing, .. }) = model.operate {
        of("operations", command, data.as_ref(), *seed, timing);
    }
    if !facts.is_empty() {
        section.blocks.push(Block::Facts(facts));
    }
    section
}

fn of_study(results: &StudyResults, prefix: &str) -> Result<Section, ReportError> {
    let mut section = Section { is_part: true, ..Section::new(format!("{prefix}study"), words::subject(results)) };
    let blocks = &mut section.blocks;
    blocks.push(Block::Table(rows_of_study(results)));
    if results.rows.iter().any(|row| !row.runs.is_empty()) {
        let tables = study_tables(results)?;
        blocks.push(shown(study::rows(results, &tables)?, prefix));
        blocks.push(shown(study::emergence(results, &tables)?, prefix));
    }
    if !results.claims.is_empty() {
        let rows = results.claims.iter().flat_map(|claim| {
            let line = |verdict, text: String| vec![words::verdict(verdict).to_owned(), text];
            let conditions = claim
                .conditions
                .iter()
                .map(move |tested| line(tested.verdict, format!("– {}", words::condition(tested, str::to_owned))));
            std::iter::once(line(claim.verdict, claim.text.clone())).chain(conditions)
        });
        blocks.push(Block::Table(Listing {
            caption: "Claims, each with its conditions".into(),
            headings: ["verdict", "claim"].map(String::from).into(),
            rows: rows.collect(),
        }));
        blocks.push(Block::Words(words::TEST.into()));
    }
    Ok(section)
}

fn rows_of_study(results: &StudyResults) -> Listing {
    let mut headings: Vec<String> =
        ["row", "perplexity", "sinks, %", "mean max alpha", "spike", "over typical", "seeds"].map(String::from).into();
    let of_paper = words::is_of_paper(results);
    if of_paper {
        headings.extend(["paper: perplexity", "sinks, %", "spike"].map(String::from));
    }
    let row = |row| {
        let words::Cells { perplexity, sinks, mean_max_alpha, spike, over_typical, seeds, paper } =
            words::Cells::of(row, results.seeds.len());
        let name = row.name.clone() + if row.baseline { " (baseline)" } else { "" };
        let mut cells = vec![name, perplexity, sinks, mean_max_alpha, spike, over_typical, seeds];
        if of_paper {
            cells.extend(paper);
        }
        cells
    };
    Listing {
        caption: format!("{}{}", words::CAPTION, if of_paper { ", beside the paper's 7B models" } else { "" }),
        headings,
        rows: results.rows.iter().map(row).collect(),
    }
}

/// Several models beside one another.
fn side_by_side(models: &[(OfModel<'_>, &Path)]) -> Result<Section, ReportError> {
    let examined: Vec<(String, &Anatomy)> =
        models.iter().filter_map(|(model, _)| Some((model.identity?.name.clone(), &model.anatomy?.results))).collect();
    let mut section = Section { is_part: true, ..Section::new("side-by-side", "Side by side") };
    let row = |(name, anatomy): &(String, &Anatomy)| {
        let stage = anatomy.spikes.as_ref().and_then(|spikes| spikes.stages.first());
        let known = |text: Option<String>| text.unwrap_or_default();
        vec![
            name.clone(),
            known(anatomy.spikes.as_ref().map(|spikes| value(spikes.largest))),
            known(stage.map(|stage| stage.channel.to_string())),
            known(stage.map(|stage| list(&stage.step_up))),
            known(stage.map(|stage| list(&stage.step_down))),
            known(stage.map(|stage| percent(stage.share_at_position_0))),
            known(anatomy.sinks.as_ref().map(|sinks| percent(sinks.ratio))),
            known(anatomy.sinks.as_ref().map(|sinks| value(sinks.mean_max_alpha))),
            known(anatomy.perplexity.map(value)),
        ]
    };
    section.blocks.push(Block::Table(Listing {
        caption: "What was found in each".into(),
        headings: [
            "model",
            "largest",
            "channel",
            "step-up",
            "step-down",
            "at position 0",
            "sinks",
            "mean max alpha",
            "perplexity",
        ]
        .map(String::from)
        .into(),
        rows: examined.iter().map(row).collect(),
    }));
    section.blocks.push(Block::Figure(Box::new(depths(&examined)?)));
    Ok(section)
}

/// Spikes and sinks of several models over their depth.
fn depths(examined: &[(String, &Anatomy)]) -> Result<Figure, ReportError> {
    let share = |index: usize, of: usize| 100.0 * index as f64 / of.max(1) as f64;
    let mut rows: Vec<(&str, &str, f64, f64)> = Vec::new();
    for (name, anatomy) in examined {
        if let Some(lifecycle) = &anatomy.lifecycle {
            let last = lifecycle.blocks.len().saturating_sub(1);
            rows.extend(lifecycle.blocks.iter().map(|block| {
                let ratio = block.residual.largest_mean / block.residual.typical_token_largest;
                (name.as_str(), "largest over typical", share(block.block, last), ratio)
            }));
        }
        if let Some(sinks) = &anatomy.sinks {
            let last = sinks.by_layer.len().saturating_sub(1);
            rows.extend(
                sinks
                    .by_layer
                    .iter()
                    .enumerate()
                    .map(|(layer, ratio)| (name.as_str(), "sink ratio", share(layer, last), 100.0 * ratio)),
            );
        }
    }
    let panel = |title: &str, axis: Axis, measure: &str| {
        let lines = examined.iter().enumerate().map(|(index, (name, _))| {
            let of = rows.iter().filter(|row| (row.0, row.1) == (name.as_str(), measure));
            Series::new(name, Colour::Nth(index), Mark::Line, of.map(|row| (row.2, row.3)))
        });
        Panel::plot(title, Axis::linear("depth, %"), axis, lines.collect())
    };
    Ok(Figure {
        id: "depths".into(),
        title: "Spikes and sinks over depth".into(),
        paper: None,
        caption:
            "Left: mean over sequences of the largest magnitude after a block, over the typical token's. Right: the \
                  sink ratio of a layer."
                .into(),
        alt: format!("{} models.", examined.len()),
        panels: vec![
            panel("Spikes", Axis::log("largest over typical"), "largest over typical"),
            panel("Sinks", Axis::linear("sink ratio, %").within(0.0, 102.0), "sink ratio"),
        ],
        data: Table::new(
            "depths",
            vec![
                Column::texts("model", rows.iter().map(|row| row.0)),
                Column::texts("measure", rows.iter().map(|row| row.1)),
                Column::floats("depth_percent", rows.iter().map(|row| row.2)),
                Column::floats("value", rows.iter().map(|row| row.3)),
            ],
        )?,
    })
}
