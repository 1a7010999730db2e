//! What the page says of the outputs: a part for every model, every run in training and every study, and before them, if
//! there are several models, the models side by side.

mod lists;
mod model;
mod side_by_side;
mod study;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use sinkscope_anatomy::census::Census;
use sinkscope_anatomy::probe::Probe;
use sinkscope_anatomy::results::Anatomy;
use sinkscope_lab::trained::Trained;
use sinkscope_lab::trainer::Look;
use sinkscope_surgery::results::Comparison;

use super::document::{Block, Document};
use crate::ReportError;
use crate::envelope::ModelIdentity;
use crate::figure::Figure;
use crate::outputs::{Found, Framed, Output};

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
pub fn document(found: &[Found]) -> Result<Document, ReportError> {
    let mut definitions: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut models: Vec<(OfModel<'_>, &Path)> = Vec::new();
    let mut studies = Vec::new();
    for Found { directory, output } in found {
        for (name, text) in output.origin().into_iter().flat_map(|origin| origin.definitions) {
            let texts = definitions.entry(name.clone()).or_default();
            if !texts.contains(text) {
                texts.push(text.clone());
            }
        }
        if let Output::Study(framed) = output {
            studies.push(&**framed);
            continue;
        }
        let identity = output.origin().and_then(|origin| origin.model);
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
        sections.push(side_by_side::section(
            named.filter_map(|(name, (model, _))| Some((&**name, &model.anatomy?.results))),
        )?);
    }
    let mut title = None;
    for (index, ((model, _), name)) in models.iter().zip(&labels).enumerate() {
        let prefix = if several { format!("m{}-", index + 1) } else { String::new() };
        sections.extend(model::sections(model, name, &prefix)?);
        title.get_or_insert_with(|| name.clone());
    }
    for (index, framed) in studies.iter().enumerate() {
        let prefix = if several { format!("s{}-", index + 1) } else { String::new() };
        sections.push(study::section(&framed.results, &prefix)?);
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

/// A figure under its own anchor.
fn shown(mut figure: Figure, prefix: &str) -> Block {
    figure.id.insert_str(0, prefix);
    Block::Figure(Box::new(figure))
}
