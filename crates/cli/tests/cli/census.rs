//! `sinkscope census`: weights alone.

use std::fs;

use serde_json::Value;

use crate::tiny::Tiny;
use crate::{refused, run};

fn census(tiny: &Tiny, options: &[&str]) -> (String, Value) {
    let (model, out) = (tiny.model(), tiny.path("out"));
    let paths = ["census", model.to_str().expect("UTF-8"), "--force", "--out", out.to_str().expect("UTF-8")];
    let (status, stdout, stderr) = run(&[&paths[..], options].concat());
    assert_eq!((status, stderr.as_str()), (0, ""));
    (stdout, serde_json::from_slice(&fs::read(out.join("census.json")).expect("written")).expect("JSON"))
}

#[test]
fn the_file_is_what_was_promised() {
    let tiny = Tiny::new("llama");
    let (stdout, file) = census(&tiny, &["--channels", "3"]);
    assert!(stdout.contains("No spike is to be expected"), "{stdout}");
    assert!(file["data"].is_null() && file["timing"]["tokens_per_second"].is_null());
    assert!(file["definitions"]["frobenius"].is_string());
    let d_model = file["model"]["architecture"]["d_model"].as_u64().expect("a number") as usize;
    let results = &file["results"];
    let blocks = results["blocks"].as_array().expect("blocks");
    assert_eq!(blocks.iter().map(|block| block["block"].as_u64()).collect::<Vec<_>>(), [Some(2), Some(4)]);
    for block in blocks {
        assert_eq!(block["frobenius"].as_array().map(Vec::len), Some(d_model));
        assert_eq!(block["top"].as_array().map(Vec::len), Some(3));
        assert!(block["median"].is_number());
    }
    let spectra = results["spectra"].as_array().expect("spectra");
    for spectrum in spectra {
        assert!(spectrum["eigenvalues"].as_array().is_some_and(|values| values.len() >= 5));
        assert!(spectrum["residual"].is_number() && spectrum["dominance"].is_number());
    }
    let named = spectra.iter().filter(|spectrum| spectrum["channel"] == 3).count();
    assert_eq!(named, blocks.len());
    assert!(results["shared_trigger"][0]["cosines"][0][0].as_f64().is_some_and(|one| (one - 1.0).abs() < 1e-9));
    for key in ["step_up", "step_down", "channels"] {
        assert_eq!(results["prediction"][key].as_array().map(Vec::len), Some(0), "{key}");
    }
    for table in ["norms", "spectra", "units", "triggers"] {
        for extension in ["parquet", "csv"] {
            assert!(tiny.path("out").join(format!("{table}.{extension}")).exists(), "{table}.{extension}");
        }
    }
    let full = census(&tiny, &["--full"]).1;
    assert_eq!(full["results"]["spectra"][0]["eigenvalues"].as_array().map(Vec::len), Some(d_model));
}

#[test]
fn channels_that_do_not_exist() {
    let tiny = Tiny::new("llama");
    let (model, out) = (tiny.model(), tiny.path("out"));
    let (model, out) = (model.to_str().expect("UTF-8"), out.to_str().expect("UTF-8"));
    let message = refused(&["census", model, "--out", out, "--channels", "2,16"]);
    assert_eq!(message, "channel 16 does not exist: there are 16, from 0\n");
    refused(&["census", model, "--channels", "two"]);
    assert!(!tiny.path("out").exists());
}

#[test]
fn blocks_without_a_quadratic_term() {
    let tiny = Tiny::new("gpt2");
    tiny.configure(|config| config["activation_function"] = "relu".into());
    let (stdout, file) = census(&tiny, &[]);
    assert!(stdout.contains("no quadratic term"), "{stdout}");
    assert_eq!(file["results"]["blocks"].as_array().map(Vec::len), Some(0));
}
