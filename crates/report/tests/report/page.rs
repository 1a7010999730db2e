//! The page: what stands on it, that nothing gets into it, and how large it becomes. The pages that a browser is to look
//! at are left in the target directory, `tmp/pages/NAME/report.html`.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sinkscope_anatomy::census::{BlockCensus, ChannelNorm};
use sinkscope_anatomy::results::{Anatomy, BlockLifecycle, Picture, PicturePoint, SpikeToken};
use sinkscope_anatomy::sample::amplifier::{Amplifier, AmplifierPoint};
use sinkscope_anatomy::sample::geometry::HeadGeometry;
use sinkscope_anatomy::sample::normalisation::NormalisedBlock;
use sinkscope_anatomy::token_page::ShownToken;
use sinkscope_report::ReportError;
use sinkscope_report::envelope::Envelope;
use sinkscope_report::figure::{Content, Figure};
use sinkscope_report::outputs::{self, Found, Framed, Output};
use sinkscope_report::page::{PAGE_FILE, Page};
use sinkscope_surgery::results::Comparison;

use crate::{sample, study};

/// What would run, or change the page, if it were taken for markup.
const MARKUP: &str = "</script><script>window.injected = 1</script><img src=x onerror='window.injected=1'>\
                      <b class=\"injected\">\"'&amp;<!--";

fn page(found: &[Found]) -> Result<String, ReportError> {
    Page::new(found)?.html()
}

fn figures(found: &[Found]) -> Result<Vec<Figure>, ReportError> {
    Ok(Page::new(found)?.figures().cloned().collect())
}

fn framed<R>(results: R, name: &str, sha256: &str) -> Framed<R> {
    let mut framed = sample::envelope(results).without_architecture();
    if let Some(model) = &mut framed.model {
        (model.name, model.sha256) = (name.into(), sha256.into());
    }
    framed
}

fn found(output: Output) -> Found {
    Found { directory: PathBuf::from("runs/one"), output }
}

fn everything(anatomy: Anatomy, name: &str) -> Vec<Found> {
    let study = framed(study::sample(), name, "");
    vec![
        found(Output::Anatomy(Box::new(framed(anatomy, name, "ab")))),
        found(Output::Operate(Box::new(framed(sample::comparison(), name, "ab")))),
        found(Output::Training(vec![study::look(0), study::look(100), study::look(200)])),
        found(Output::Study(Box::new(Envelope { model: None, ..study }))),
    ]
}

/// Leaves a page where a browser can be pointed at it.
fn keep(name: &str, page: &str) {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pages").join(name);
    fs::create_dir_all(&directory).expect("made");
    fs::write(directory.join(PAGE_FILE), page).expect("written");
}

/// The sample with markup in every text.
fn hostile() -> Anatomy {
    let mut anatomy = sample::anatomy();
    let text = serde_json::to_string(&anatomy).expect("JSON");
    // Every token and every name of a regularity.
    let mut value: Value = serde_json::from_str(&text).expect("JSON");
    spoil(&mut value);
    let pictures = std::mem::take(&mut anatomy.pictures);
    Anatomy { pictures, ..serde_json::from_value(value).expect("as it was written") }
}

fn spoil(value: &mut Value) {
    match value {
        Value::Object(entries) => {
            for (key, value) in entries.iter_mut() {
                match value {
                    Value::String(text)
                        if ["token", "text", "name", "quantity", "title", "row", "operation"]
                            .contains(&key.as_str()) =>
                    {
                        MARKUP.clone_into(text);
                    }
                    other => spoil(other),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(spoil),
        _ => {}
    }
}

fn ids(figures: &[Figure]) -> Vec<&str> {
    figures.iter().map(|figure| figure.id.as_str()).collect()
}

#[test]
fn everything_has_its_figures() {
    let found = [found(Output::Anatomy(Box::new(framed(sample::anatomy(), "a model", "ab"))))];
    let all = figures(&found).expect("consistent");
    let wanted = [
        "life-cycle",
        "steps",
        "identity",
        "norms",
        "spectra",
        "steering",
        "probe",
        "cosines",
        "heads",
        "sinks-by-layer",
        "sinks-by-position",
        "geometry",
        "queries-and-keys",
    ];
    assert_eq!(ids(&all), wanted);
    for figure in &all {
        assert!(figure.data.rows() > 0, "{}: no numbers", figure.id);
        assert!(!figure.alt.is_empty() && !figure.caption.is_empty() && !figure.panels.is_empty(), "{}", figure.id);
    }
    let all = figures(&everything(sample::anatomy(), "a model")).expect("consistent");
    for id in
        ["m1-operations", "m1-loss-by-position", "m1-quantisation", "m2-emergence", "s1-rows", "s1-rows-over-training"]
    {
        assert!(ids(&all).contains(&id), "{id} of {:?}", ids(&all));
    }
}

#[test]
fn links_lead_somewhere() {
    for found in [everything(sample::anatomy(), "a model"), everything(sample::calm(), "b")] {
        let page = page(&found).expect("consistent");
        let body = &page[..page.find("<script id=\"data\"").expect("data")];
        let links: Vec<&str> =
            body.split("href=\"#").skip(1).map(|rest| rest.split('"').next().expect("an end")).collect();
        assert!(links.len() > 5, "{links:?}");
        for link in links {
            assert_eq!(body.matches(&format!("id=\"{link}\"")).count(), 1, "#{link}");
        }
    }
}

#[test]
fn nothing_gets_into_the_page() {
    let mut found = everything(hostile(), MARKUP);
    let mut operations = serde_json::to_value(sample::comparison()).expect("JSON");
    spoil(&mut operations);
    let operations = serde_json::from_value(operations).expect("as it was written");
    let mut operations: Framed<Comparison> = framed(operations, MARKUP, "ab");
    operations.data.as_mut().expect("there").source = MARKUP.into();
    found[1].output = Output::Operate(Box::new(operations));
    let mut results = serde_json::to_value(study::sample()).expect("JSON");
    spoil(&mut results);
    let results = serde_json::from_value(results).expect("as it was written");
    let mut study = Envelope { model: None, ..framed(results, MARKUP, "") };
    study.definitions.insert(MARKUP.into(), MARKUP.into());
    study.command.push(MARKUP.into());
    found[3].output = Output::Study(Box::new(study));
    for output in &mut found {
        output.directory = PathBuf::from(MARKUP);
    }
    let page = page(&found).expect("consistent");
    let program = page.find("<script>").expect("the page's own");
    let ours = &page[..program];
    assert!(ours.contains("window.injected"), "the texts are there");
    assert_eq!(ours.matches("<script").count(), 2, "data and Plotly");
    assert_eq!(ours.matches("</script").count(), 2);
    assert!(!ours.contains("<img") && !ours.contains("<b class") && !ours.contains("<!--"));
    keep("hostile", &page);
}

#[test]
fn it_asks_nobody_for_anything() {
    let page = page(&everything(sample::anatomy(), "a model")).expect("consistent");
    for stranger in ["http://", "https://", "src=", "@import", "url(", "fetch(", "XMLHttpRequest"] {
        assert!(!page.contains(stranger), "{stranger}");
    }
    assert!(page.contains("default-src 'none'"));
    keep("everything", &page);
}

/// An examination of which one part was asked for.
fn part(keep: impl Fn(&mut Anatomy, Anatomy)) -> Anatomy {
    let mut only = Anatomy::default();
    keep(&mut only, sample::anatomy());
    only
}

#[test]
fn every_part_can_stand_alone() {
    let parts = vec![
        ("lifecycle", part(|only, all| only.lifecycle = all.lifecycle)),
        ("spikes", part(|only, all| (only.spikes, only.regularities) = (all.spikes, all.regularities))),
        ("sinks", part(|only, all| only.sinks = all.sinks)),
        ("nll", part(|only, all| (only.nll, only.perplexity) = (all.nll, all.perplexity))),
        ("tokens", part(|only, all| only.tokens = all.tokens)),
        ("silu", part(|only, all| only.silu = all.silu)),
        ("normalisation", part(|only, all| only.normalisation = all.normalisation)),
        ("geometry", part(|only, all| (only.geometry, only.pictures) = (all.geometry, all.pictures))),
        ("census", part(|only, all| only.census = all.census)),
        ("probe", part(|only, all| only.probe = all.probe)),
        ("nothing", Anatomy::default()),
    ];
    for (name, anatomy) in parts {
        let found = [found(Output::Anatomy(Box::new(framed(anatomy, "a model", "ab"))))];
        let page = page(&found).expect("consistent");
        let body = &page[..page.find("<script id=\"data\"").expect("data")];
        for link in body.split("href=\"#").skip(1).map(|rest| rest.split('"').next().expect("an end")) {
            assert_eq!(body.matches(&format!("id=\"{link}\"")).count(), 1, "{name}: #{link}");
        }
        for word in ["NaN", "not a number", "infinite"] {
            assert!(!body.contains(word), "{name}: {word}");
        }
        for false_word in ["No stage of spikes", "There is no spike token"] {
            assert!(!body.contains(false_word), "{name}: {false_word}");
        }
        for figure in figures(&found).expect("consistent") {
            assert!(!figure.alt.trim().is_empty(), "{name}: {} says nothing", figure.id);
        }
    }
}

#[test]
fn a_summary_has_ten_sentences_at_most() {
    let page = page(&everything(sample::anatomy(), "a model")).expect("consistent");
    let summary = page.split("<ol class=\"findings\">").nth(1).expect("one").split("</ol>").next().expect("its end");
    assert_eq!(summary.matches("<li").count(), 10, "{summary}");
    assert!(summary.contains("spikes") && summary.contains("operations"), "{summary}");
}

#[test]
fn models_of_one_name_are_told_apart_and_outputs_of_one_directory_stay_together() {
    let of = |place: &str, sha: &str| {
        let at = |output| Found { directory: PathBuf::from(place), output };
        [
            at(Output::Anatomy(Box::new(framed(sample::anatomy(), "last", sha)))),
            at(Output::Operate(Box::new(framed(sample::comparison(), "last", sha)))),
        ]
    };
    let different = [of("runs/a", "aa"), of("runs/b", "bb")].concat();
    let depths = figures(&different).expect("consistent").into_iter().find(|figure| figure.id == "depths");
    let panel = &depths.expect("there").panels[0];
    let Content::Plot { series, .. } = &panel.content else { panic!("no plot") };
    let names: Vec<(&str, usize)> = series.iter().map(|series| (series.name.as_str(), series.x.len())).collect();
    assert_eq!(names, [("last (runs/a)", 25), ("last (runs/b)", 25)]);
    // Examined twice: two parts, each with its operations.
    let twice = [of("runs/a", "aa"), of("runs/c", "aa")].concat();
    let ids: Vec<String> = figures(&twice).expect("consistent").into_iter().map(|figure| figure.id).collect();
    for id in ["m1-heads", "m1-operations", "m2-heads", "m2-operations"] {
        assert!(ids.iter().any(|other| other == id), "{id} of {ids:?}");
    }
    assert!(!ids.iter().any(|id| id.starts_with("m3")), "{ids:?}");
}

#[test]
fn models_stand_side_by_side() {
    let one = || found(Output::Anatomy(Box::new(framed(sample::anatomy(), "one", "aa"))));
    let two = || found(Output::Anatomy(Box::new(framed(sample::calm(), "two", "bb"))));
    let both = page(&[one(), two()]).expect("consistent");
    assert!(both.contains("Side by side") && both.contains("id=\"depths\""));
    let all = figures(&[one(), two()]).expect("consistent");
    let depths = all.iter().find(|figure| figure.id == "depths").expect("there");
    assert_eq!(depths.data.name(), "depths");
    keep("side-by-side", &both);
    // One model from two directories has one part.
    let operate = found(Output::Operate(Box::new(framed(sample::comparison(), "one", "aa"))));
    let all = figures(&[one(), operate]).expect("consistent");
    assert!(ids(&all).contains(&"operations") && ids(&all).contains(&"life-cycle"), "{:?}", ids(&all));
}

#[test]
fn a_model_of_seven_billion_fits() {
    let page = page(&[found(Output::Anatomy(Box::new(framed(large(), "7B", "cc"))))]).expect("consistent");
    assert!(page.len() < 15_000_000, "{} bytes", page.len());
    assert!(page.len() > 4_000_000, "{} bytes: the sample is not that large", page.len());
    keep("seven-billion", &page);
}

/// As large as an examination of 32 layers of 32 heads, 4,096 channels wide, on 4,096 tokens, is.
fn large() -> Anatomy {
    const LAYERS: usize = 32;
    const HEADS: usize = 32;
    let repeated = |count: usize, of: usize| (0..count).map(move |index| index % of);
    let mut anatomy = sample::anatomy();
    let lifecycle = anatomy.lifecycle.as_mut().expect("there");
    let blocks = repeated(2 * LAYERS + 1, lifecycle.blocks.len()).enumerate();
    lifecycle.blocks = blocks.map(|(block, of)| BlockLifecycle { block, ..lifecycle.blocks[of].clone() }).collect();
    let spikes = anatomy.spikes.as_mut().expect("there");
    let token = spikes.stages[0].tokens[0].clone();
    spikes.stages[0].tokens = (0..64).map(|sequence| SpikeToken { sequence, ..token.clone() }).collect();
    let amplifier = anatomy.silu.as_mut().expect("there");
    let of = amplifier.blocks[0].clone();
    let point = of.points[0];
    let points = |spike: bool, count: usize| {
        (0..count).map(move |at| AmplifierPoint { sequence: at % 8, spike, cosine: 0.5 + at as f64 / 1024.0, ..point })
    };
    let points: Vec<AmplifierPoint> = points(true, 64).chain(points(false, 192)).collect();
    amplifier.blocks =
        (1..9).map(|block| Amplifier { block: 2 * block, points: points.clone(), ..of.clone() }).collect();
    let normalisation = anatomy.normalisation.as_mut().expect("there");
    let blocks = repeated(2 * LAYERS + 1, normalisation.blocks.len()).enumerate();
    normalisation.blocks =
        blocks.map(|(block, of)| NormalisedBlock { block, ..normalisation.blocks[of].clone() }).collect();
    let geometry = anatomy.geometry.as_mut().expect("there");
    let head = |index: usize| HeadGeometry {
        layer: index / HEADS,
        head: index % HEADS,
        logit_gap: Some(index as f64 / 100.0),
        ..geometry.heads[index % geometry.heads.len()].clone()
    };
    geometry.heads = (0..LAYERS * HEADS).map(head).collect();
    let sinks = anatomy.sinks.as_mut().expect("there");
    let grid = || (0..LAYERS).map(|l| (0..HEADS).map(|h| ((7 * l + 3 * h) % 64) as f64 / 64.0).collect()).collect();
    let by_layer: Vec<f64> = (0..LAYERS).map(|layer| layer as f64 / 31.0).collect();
    for heads in
        [&mut sinks.heads, &mut sinks.position_0, &mut sinks.head_ratio, &mut sinks.entropy, &mut sinks.to_self]
    {
        *heads = grid();
    }
    sinks.heads_ci95 = Some(vec![vec![[0.25, 0.75]; HEADS]; LAYERS]);
    sinks.by_layer_ci95 = Some(by_layer.iter().map(|ratio| [0.9 * ratio, *ratio]).collect());
    for other in sinks.other_definitions.values_mut() {
        (other.heads, other.by_layer) = (grid(), by_layer.clone());
    }
    sinks.by_layer = by_layer;
    sinks.by_position.first = (0..64).chain([64, 128, 256, 512, 1024, 2048]).collect();
    sinks.by_position.layers =
        (0..LAYERS).map(|l| (1..=70).map(|bin| 0.5 / (bin * (l + 1)) as f64).collect()).collect();
    let census = anatomy.census.as_mut().expect("there");
    // All blocks, as with `--only` that names the census.
    census.blocks = (0..32).map(wide_block).collect();
    let pictures = anatomy.pictures[0].clone();
    let points: Vec<PicturePoint> = (0..600)
        .map(|at| PicturePoint {
            key: at >= 300,
            at: [(at % 37) as f32, (at % 41) as f32],
            ..pictures.points[0].clone()
        })
        .collect();
    anatomy.pictures = (0..2).map(|head| Picture { layer: 3, head, points: points.clone() }).collect();
    let page = anatomy.tokens.as_mut().expect("there");
    (page.sequences, page.positions, page.layers, page.heads) = (16, 64, LAYERS, HEADS);
    let token = page.tokens[0].clone();
    page.tokens = (0..1024)
        .map(|at| ShownToken { sequence: at / 64, position: at % 64, text: format!(" w{at}"), ..token.clone() })
        .collect();
    // A value a token, layer and head, four characters for three.
    page.received = "/wCA".repeat(1024 * LAYERS * HEADS / 3 + 1);
    anatomy
}

/// A block of 4,096 channels, as a census of a 7B model has them.
fn wide_block(layer: usize) -> BlockCensus {
    let frobenius: Vec<f64> =
        (0..4096).map(|channel| 1.0 + ((channel * 2_654_435_761 + layer * 97) % 1000) as f64 / 777.0).collect();
    BlockCensus {
        block: 2 * (layer + 1),
        symmetric: frobenius.iter().map(|norm| 0.7 * norm).collect(),
        top: vec![ChannelNorm { channel: 7, frobenius: 2.25 }],
        median: 1.5,
        frobenius,
    }
}

#[test]
fn outputs_are_read_back() {
    let home = tempfile::tempdir().expect("a directory");
    let write = |name: &str, content: &[u8]| fs::write(home.path().join(name), content).expect("written");
    let anatomy = framed(sample::anatomy(), "m", "ab");
    write("anatomy.json", &anatomy.to_json("anatomy.json").expect("JSON"));
    write("operate.json", &framed(sample::comparison(), "m", "ab").to_json("operate.json").expect("JSON"));
    write(
        "study.json",
        &Envelope { model: None, ..framed(study::sample(), "m", "") }.to_json("study.json").expect("JSON"),
    );
    let look = serde_json::to_string(&study::look(100)).expect("JSON");
    write("metrics.jsonl", format!("{look}\n{look}\n{{\"step\":").as_bytes());
    let all = outputs::read(&[home.path().to_owned()]).expect("whole");
    let [Output::Anatomy(read), Output::Operate(_), Output::Training(looks), Output::Study(study)] =
        &all.iter().map(|found| found.output.clone()).collect::<Vec<_>>()[..]
    else {
        panic!("{all:?}")
    };
    assert_eq!(looks, &[study::look(100), study::look(100)]);
    assert_eq!(study.results.rows.len(), study::sample().rows.len());
    // What is in other files is left out of the JSON.
    let mut kept = anatomy.clone();
    for spectrum in kept.results.census.iter_mut().flat_map(|census| &mut census.spectra) {
        spectrum.trigger.clear();
    }
    if let Some(probe) = &mut kept.results.probe {
        probe.items.clear();
    }
    if let Some(census) = &mut kept.results.census {
        census.timing = sinkscope_anatomy::census::CensusTiming::default();
    }
    assert_eq!(**read, kept);
}

#[test]
fn what_cannot_be_read_is_named() {
    let home = tempfile::tempdir().expect("a directory");
    let path = |name: &str| home.path().join(name);
    let message = |directory: PathBuf| {
        let message = outputs::read(&[directory]).expect_err("refused").to_string();
        message.replace(home.path().to_str().expect("UTF-8"), "HOME")
    };
    assert!(message(path("absent")).starts_with("HOME/absent: cannot read"), "{}", message(path("absent")));
    fs::create_dir(path("empty")).expect("made");
    assert!(message(path("empty")).starts_with("HOME/empty: holds no output"));
    fs::write(path("file"), "").expect("written");
    assert!(message(path("file")).contains("HOME/file: cannot read (not a directory)"), "{}", message(path("file")));
    fs::write(path("empty/anatomy.json"), "{\"sinkscope\": \"0.0.1\"}").expect("written");
    let old = message(path("empty"));
    assert!(
        old.contains("HOME/empty/anatomy.json") && old.contains("written by version 0.0.1; missing field"),
        "{old}"
    );
    fs::write(path("empty/anatomy.json"), "{\"sinks").expect("written");
    assert!(message(path("empty")).contains("is no output of this version (EOF"), "{}", message(path("empty")));
    fs::remove_file(path("empty/anatomy.json")).expect("removed");
    fs::write(path("empty/metrics.jsonl"), "{\"step\": 1}\n{\"step").expect("written");
    let damaged = message(path("empty"));
    assert!(damaged.starts_with("HOME/empty/metrics.jsonl: line 1 is no record of a run: missing field"), "{damaged}");
}

#[test]
fn the_least_change_of_the_loss_is_the_smallest_whatever_its_sign() {
    let mut comparison = sample::comparison();
    comparison.variants[2].delta_nll = Some(-20.0);
    let page = page(&[found(Output::Operate(Box::new(framed(comparison, "m", "ab"))))]).expect("consistent");
    assert!(page.contains("the most that one changes the loss is -20.0000 nats"));
    assert!(page.contains("the least is +0.0625 nats"));
}
