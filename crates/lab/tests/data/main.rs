//! Data: what is prepared, and what a trainer gets of it.

mod bigram_backcopy;
mod preparation;
mod sources;

use std::path::{Path, PathBuf};

use sinkscope_lab::LabError;
use sinkscope_lab::data::prepare::HeldOut;
use sinkscope_lab::data::{Manifest, PrepareRequest, Separator, prepare};
use sinkscope_sources::data::document::TEXT_FIELD;

/// Three hundred documents that say different things in common words.
fn stories() -> Vec<String> {
    (0..300)
        .map(|number| {
            let words = ["harbour", "lantern", "a boat", "the tide", "nobody", "slowly", "returned", "caf\u{e9}"];
            let text = (0..=number % 23).map(|place| words[(number * 7 + place * place + place) % words.len()]);
            format!("Story {number}.\n{}.", text.collect::<Vec<_>>().join(" "))
        })
        .collect()
}

/// A request for `inputs` with a vocabulary of 300.
fn request(inputs: Vec<PathBuf>, out: &Path) -> PrepareRequest {
    PrepareRequest {
        inputs,
        out: out.to_owned(),
        vocabulary: 300,
        separator: Separator::FormFeed,
        held_out: HeldOut::Documents(0.1),
        text_field: TEXT_FIELD.to_owned(),
        seed: 0,
    }
}

fn prepared(request: &PrepareRequest) -> Result<Manifest, LabError> {
    let staged = prepare(request, &|_| {})?;
    let text = format!("{:#}", serde_json::json!({ "results": staged.manifest() }));
    staged.commit(text.as_bytes())
}

/// On a pool of so many threads.
fn on_threads<T: Send>(threads: usize, call: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads").install(call)
}
