//! What the page says of the outputs: a part for every model, every run in training and every study, and before them, if
//! there are several models, the models side by side.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use sinkscope_anatomy::census::Census;
use sinkscope_anatomy::probe::Probe;
use sinkscope_anatomy::regularities::Threshold;
use sinkscope_anatomy::results::{Anatomy, Sinks, SpikeChannel, SpikeToken, Stage};
use sinkscope_anatomy::sample::geometry::HeadGeometry;
use sinkscope_lab::study::results::RowResult;
use sinkscope_lab::study::{Measure, StudyResults};
use sinkscope_lab::trained::Trained;
use sinkscope_lab::trainer::Look;
use sinkscope_surgery::results::Comparison;

use super::document::{Block, Document, HeadCards, Listing, Section};
use super::sentences;
use super::token_text::TokenText;
use crate::ReportError;
use crate::anatomy_tables::anatomy_tables;
use crate::census_tables::census_tables;
use crate::envelope::{DataIdentity, ModelIdentity, Timing};
use crate::figure::{Axis, Colour, Figure, Mark, Panel, Series};
use crate::figures::{examination, sinks, study, surgery, training, weights};
use crate::number::{bytes, count, counted, factor, list, percent, seconds, value};
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
    train: Option<&'a Framed<Trained>>,
    looks: Option<&'a [Look]>,
}

impl<'a> OfModel<'a> {
    /// Whether it has no output of that kind yet.
    fn lacks(&self, output: &Output) -> bool {
        match output {
            Output::Anatomy(_) => self.anatomy.is_none(),
            Output::Census(_) => self.census.is_none(),
            Output::Probe(_) => self.probe.is_none(),
            Output::Operate(_) => self.operate.is_none(),
            Output::Train(_) | Output::Training(_) => self.looks.is_none(),
            Output::Study(_) => false,
        }
    }

    fn take(&mut self, output: &'a Output) {
        match output {
            Output::Anatomy(framed) => self.anatomy = Some(framed),
            Output::Census(framed) => self.census = Some(framed),
            Output::Probe(framed) => self.probe = Some(framed),
            Output::Operate(framed) => self.operate = Some(framed),
            Output::Train(framed) => {
                self.train = Some(framed);
                self.looks = Some(&framed.results.looks);
            }
            Output::Training(looks) => self.looks = Some(looks),
            Output::Study(_) => {}
        }
    }
}

/// The document about these outputs.
///
/// # Errors
/// [`ReportError::Table`] if results contradict each other.
pub fn document(found: &[Found]) -> Result<Document, ReportError> {
    let mut definitions: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut models: Vec<(OfModel<'_>, &Path)> = Vec::new();
    let mut studies = Vec::new();
    for Found { directory, output } in found {
        for (name, text) in definitions_of(output).into_iter().flatten() {
            let texts = definitions.entry(name.clone()).or_default();
            if !texts.contains(text) {
                texts.push(text.clone());
            }
        }
        if let Output::Study(framed) = output {
            studies.push(&**framed);
            continue;
        }
        let identity = output.model();
        let same = |model: &OfModel<'_>, at: &Path| match (model.identity, identity) {
            (Some(one), Some(other)) => one.sha256 == other.sha256,
            (None, None) => at == directory,
            _ => false,
        };
        // Outputs of one directory stay together; else what has room for it takes it.
        let place = models
            .iter()
            .rposition(|(model, at)| *at == directory && same(model, at) && model.lacks(output))
            .or_else(|| models.iter().rposition(|(model, at)| same(model, at) && model.lacks(output)));
        if let Some(place) = place {
            models[place].0.take(output);
            continue;
        }
        let mut model = OfModel { identity, ..OfModel::default() };
        model.take(output);
        models.push((model, directory));
    }
    let several = models.len() + studies.len() > 1;
    let labels = labels(&models);
    let mut sections = Vec::new();
    if models.iter().filter(|(model, _)| model.anatomy.is_some()).count() > 1 {
        let named = labels.iter().zip(&models);
        sections.push(side_by_side(named.filter_map(|(name, (model, _))| Some((&**name, &model.anatomy?.results))))?);
    }
    let mut title = None;
    for (index, ((model, _), name)) in models.iter().zip(&labels).enumerate() {
        let prefix = if several { format!("m{}-", index + 1) } else { String::new() };
        sections.extend(of_model(model, name, &prefix)?);
        title.get_or_insert_with(|| name.clone());
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

/// A name for every model that no other has.
fn labels(models: &[(OfModel<'_>, &Path)]) -> Vec<String> {
    fn name<'a>(model: &OfModel<'a>) -> Option<&'a str> {
        model.identity.map(|identity| identity.name.as_str())
    }
    let label = |(model, directory): &(OfModel<'_>, &Path)| match name(model) {
        None => directory.display().to_string(),
        // What training leaves is called by the place it keeps.
        Some(own) => {
            let shared = models.iter().filter(|(other, _)| name(other) == Some(own)).count() > 1;
            let tells_nothing = shared || ["last", "best"].contains(&own);
            if tells_nothing { format!("{own} ({})", directory.display()) } else { own.to_owned() }
        }
    };
    models.iter().map(label).collect()
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
        blocks.push(Block::Table(channel_list(&stages[0])));
        blocks.push(Block::Table(token_list(&stages[0])));
    }
    if let Some(regularities) = anatomy.regularities.as_ref().filter(|_| !stages.is_empty()) {
        blocks.push(Block::Table(Listing {
            caption: "The five regularities of the strongest stage".into(),
            headings: ["regularity", "holds", "quantity", "value", "has to be"].map(String::from).into(),
            rows: regularities
                .iter()
                .map(|found| {
                    let holds = if found.holds { "yes" } else { "no" };
                    let figure = found.value.map_or_else(String::new, value);
                    let bound = match found.threshold {
                        Threshold::AtMost(bound) => format!("{} or less", value(bound)),
                        Threshold::AtLeast(bound) => format!("{} or more", value(bound)),
                    };
                    vec![found.name.clone(), holds.into(), found.quantity.clone(), figure, bound]
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

fn channel_list(stage: &Stage) -> Listing {
    let row = |channel: &SpikeChannel| {
        vec![channel.channel.to_string(), value(channel.mean), percent(channel.ratio_variation), percent(channel.share)]
    };
    Listing {
        caption: "Channels of the first stage, over its tokens at the peak".into(),
        headings: ["channel", "mean", "variation of its ratio", "tokens that spike in it"].map(String::from).into(),
        rows: stage.channels.iter().map(row).collect(),
    }
}

fn token_list(stage: &Stage) -> Listing {
    let mut tokens: Vec<_> = stage.tokens.iter().collect();
    tokens.sort_by(|a, b| b.value.abs().total_cmp(&a.value.abs()));
    let row = |token: &&SpikeToken| {
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
            interval.map_or_else(String::new, |[low, high]| format!(" (95 %: {} to {})", value(*low), value(*high)));
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
    if let Some((perplexity, nll)) = model.anatomy.and_then(|framed| framed.results.perplexity.zip(framed.results.nll))
    {
        fact("perplexity", format!("{} ({nll:.4} nats a token)", value(perplexity)));
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
    if let Some(Framed { command, data, seed, timing, .. }) = model.train {
        of("training", command, data.as_ref(), *seed, timing);
    }
    if !facts.is_empty() {
        section.blocks.push(Block::Facts(facts));
    }
    section
}

fn of_study(results: &StudyResults, prefix: &str) -> Result<Section, ReportError> {
    let mut section = Section { is_part: true, ..Section::new(format!("{prefix}study"), words::subject(results)) };
    let blocks = &mut section.blocks;
    blocks.push(Block::Findings(sentences::of_study(results, prefix)));
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
        headings.extend(["paper: perplexity", "paper: sinks, %", "paper: spike"].map(String::from));
    }
    let row = |row: &RowResult| {
        let words::Cells { perplexity, sinks, mean_max_alpha, spike, over_typical, seeds, paper } =
            words::Cells::of(row, results.seeds.len());
        let name = row.name.clone() + if row.baseline { " (baseline)" } else { "" };
        let within = |cell: String, measure| {
            let interval = row.interval(measure);
            cell + &interval.map_or_else(String::new, |[low, high]| format!(" ({} to {})", value(low), value(high)))
        };
        let (perplexity, sinks) = (within(perplexity, Measure::Perplexity), within(sinks, Measure::SinkPercent));
        let (mean_max_alpha, spike) = (within(mean_max_alpha, Measure::MeanMaxAlpha), within(spike, Measure::Spike));
        let mut cells = vec![name, perplexity, sinks, mean_max_alpha, spike, over_typical, seeds];
        if of_paper {
            cells.extend(paper);
        }
        cells
    };
    Listing {
        caption: format!(
            "{}, with the 95 % t interval of the mean{}",
            words::CAPTION,
            if of_paper { ", beside the paper's 7B models" } else { "" }
        ),
        headings,
        rows: results.rows.iter().map(row).collect(),
    }
}

/// Several models beside one another.
fn side_by_side<'a>(examined: impl Iterator<Item = (&'a str, &'a Anatomy)>) -> Result<Section, ReportError> {
    let examined: Vec<(&str, &Anatomy)> = examined.collect();
    let mut section = Section { is_part: true, ..Section::new("side-by-side", "Side by side") };
    let row = |&(name, anatomy): &(&str, &Anatomy)| {
        let stage = anatomy.spikes.as_ref().and_then(|spikes| spikes.stages.first());
        let known = |text: Option<String>| text.unwrap_or_default();
        vec![
            name.to_owned(),
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
fn depths(examined: &[(&str, &Anatomy)]) -> Result<Figure, ReportError> {
    let share = |index: usize, of: usize| 100.0 * index as f64 / of.max(1) as f64;
    let mut rows: Vec<(&str, &str, f64, f64)> = Vec::new();
    for &(name, anatomy) in examined {
        if let Some(lifecycle) = &anatomy.lifecycle {
            let last = lifecycle.blocks.len().saturating_sub(1);
            rows.extend(lifecycle.blocks.iter().map(|block| {
                let ratio = block.residual.largest_mean / block.residual.typical_token_largest;
                (name, "largest over typical", share(block.block, last), ratio)
            }));
        }
        if let Some(sinks) = &anatomy.sinks {
            let last = sinks.by_layer.len().saturating_sub(1);
            rows.extend(
                sinks
                    .by_layer
                    .iter()
                    .enumerate()
                    .map(|(layer, ratio)| (name, "sink ratio", share(layer, last), 100.0 * ratio)),
            );
        }
    }
    let panel = |title: &str, axis: Axis, measure: &str| {
        let lines = examined.iter().enumerate().map(|(index, &(name, _))| {
            let of = rows.iter().filter(|row| (row.0, row.1) == (name, measure));
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
        alt: examined
            .iter()
            .filter_map(|&(name, _)| {
                let of = rows.iter().filter(|row| row.0 == name && row.1 == "largest over typical");
                let most = of.max_by(|a, b| a.3.total_cmp(&b.3))?;
                Some(format!("{name}: {} the typical token's at {:.0} % of its depth", factor(most.3), most.2))
            })
            .collect::<Vec<_>>()
            .join("; ")
            + ".",
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
