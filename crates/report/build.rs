//! Packs the program of Plotly for the page: without the tag around it and the typesetter after it, as gzip.

use std::fs::File;
use std::io::{Error, Result, Write};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use plotly::Plot;

fn main() -> Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    let sources = Plot::offline_js_sources();
    let program = first_script(&sources).ok_or_else(|| Error::other("the crate `plotly` carries no program"))?;
    let out = std::env::var_os("OUT_DIR").ok_or_else(|| Error::other("cargo sets OUT_DIR"))?;
    let mut packed = GzEncoder::new(File::create(Path::new(&out).join("plotly.js.gz"))?, Compression::default());
    packed.write_all(program.as_bytes())?;
    packed.finish()?;
    Ok(())
}

fn first_script(sources: &str) -> Option<&str> {
    let (_, after_name) = sources.split_once("<script")?;
    let (_, program) = after_name.split_once('>')?;
    Some(program.split_once("</script>")?.0)
}
