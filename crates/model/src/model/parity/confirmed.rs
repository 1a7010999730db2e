//! What these tests confirm, written down: `families/confirmed.json` holds what they compared and nothing else.
//!
//! `RENEW_CONFIRMED=1 cargo test -p sinkscope-model confirmed` writes it anew, once all of it agrees.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Expected, families, fixtures, gguf};
use crate::families::{Confirmation, Confirmed, Supported, SupportedFormat, accepted_configurations, supported};

/// The one family that no other implementation reads.
const OWN: &str = "sinkscope";

/// What one comparison showed.
struct Compared {
    /// As the model's description calls its family.
    family: String,
    model: String,
    by: String,
    points: Vec<&'static str>,
}

/// Names of what stands in a folder of fixtures and ends so, in order.
fn fixtures_in(folder: &str, ending: &str) -> Vec<String> {
    let entries = std::fs::read_dir(fixtures().join(folder)).expect("fixtures");
    let names = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter_map(|name| name.strip_suffix(ending).map(str::to_owned)).collect();
    names.sort();
    names
}

/// The program that computed what is expected.
fn by(path: &Path) -> String {
    let version = Expected::read(path).metadata("transformers").expect("scripts write it");
    format!("transformers {version}")
}

fn hugging_face() -> Vec<Compared> {
    let compared = |model: String| {
        let (family, points) = families::agrees(&model);
        let by = by(&fixtures().join("families").join(&model).join("expected.safetensors"));
        Compared { family, model, by, points }
    };
    fixtures_in("families", "").into_iter().map(compared).collect()
}

fn gguf() -> Vec<Compared> {
    let compared = |model: String| {
        let by = by(&fixtures().join("gguf").join(format!("{model}.expected.safetensors")));
        Compared { family: gguf::agrees(&model), model, by, points: vec!["logits"] }
    };
    fixtures_in("gguf", ".gguf").into_iter().map(compared).collect()
}

/// What confirms a format of a family; `published`: configurations read, by `model_type`.
fn confirmation(
    format: Option<SupportedFormat>,
    compared: &[Compared],
    published: &BTreeMap<String, usize>,
) -> Option<Confirmation> {
    let names = format?.names;
    let of_family: Vec<&Compared> = compared.iter().filter(|compared| names.contains(&compared.family)).collect();
    let first = of_family.first()?;
    assert!(of_family.iter().all(|other| other.by == first.by && other.points == first.points), "{names:?}");
    Some(Confirmation {
        by: first.by.clone(),
        models: of_family.iter().map(|compared| compared.model.clone()).collect(),
        points: first.points.iter().map(|&point| point.to_owned()).collect(),
        published_configurations: names.iter().filter_map(|name| published.get(name)).sum(),
    })
}

#[test]
fn what_is_confirmed_is_written_down() {
    let (directories, files, published) = (hugging_face(), gguf(), accepted_configurations());
    let mut all = BTreeMap::new();
    for Supported { family, hugging_face, gguf } in supported().into_iter().filter(|entry| entry.family != OWN) {
        let (reads_directories, reads_files) = (hugging_face.is_some(), gguf.is_some());
        let confirmed = Confirmed {
            hugging_face: confirmation(hugging_face, &directories, &published),
            gguf: confirmation(gguf, &files, &BTreeMap::new()),
        };
        assert_eq!(confirmed.hugging_face.is_some(), reads_directories, "{family} is not confirmed");
        assert_eq!(confirmed.gguf.is_some(), reads_files, "GGUF files of {family} are not confirmed");
        all.insert(family, confirmed);
    }
    let text = serde_json::to_string_pretty(&all).expect("JSON") + "\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/families/confirmed.json");
    if std::env::var_os("RENEW_CONFIRMED").is_some() {
        std::fs::write(&path, text).expect("written");
        return;
    }
    let written = std::fs::read_to_string(&path).expect("a file");
    assert_eq!(written, text, "RENEW_CONFIRMED=1 writes it anew");
}

/// `docs/models.md` names every family as it is called in each format, and no other.
#[test]
fn the_page_of_models_lists_every_family() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/models.md");
    let page = std::fs::read_to_string(page).expect("a page");
    let quoted = |text: &str| text.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let table = page.split("|---|---|---|\n").nth(1).expect("a table").split("\n\n").next().expect("rows");
    let cell = |row: &str| row.split('|').nth(1).map(quoted).expect("a cell");
    let mut directories: Vec<String> = table.lines().flat_map(cell).collect();
    let line = page.split("GGUF files are read of the architectures").nth(1).expect("a sentence");
    let mut files = quoted(line.split('.').next().expect("its end"));
    let names = |format: fn(Supported) -> Option<SupportedFormat>| {
        let mut names: Vec<String> = supported().into_iter().filter_map(format).flat_map(|of| of.names).collect();
        names.sort();
        names
    };
    directories.sort();
    files.sort();
    assert_eq!(directories, names(|entry| entry.hugging_face));
    assert_eq!(files, names(|entry| entry.gguf));
}
