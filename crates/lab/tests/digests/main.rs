//! The bits of results, with every instruction set that can be forced: of the residuals of all fixtures and of the demo, and
//! of the weights after ten steps of every design choice of a recipe. `digests.json` holds what they are.
//!
//! A change that is only a move changes none of them. After one that changes results on purpose, renew them, and raise
//! `NUMERICS_VERSION` if runs that are kept come to something else:
//!
//! ```sh
//! RENEW_DIGESTS=1 cargo test -p sinkscope-lab --test digests
//! ```
//!
//! Bits depend on the instruction set and on the C library alone: rotary angles, learning rates and logarithms are its `sin`,
//! `cos`, `pow`, `exp` and `log`. So they are compared where it is glibc.

#![allow(clippy::panic, clippy::print_stdout, reason = "tests")]

mod residuals;
mod variants;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use sinkscope_kernels::InstructionSet;
use sinkscope_kernels::instruction_set::VARIABLE;
use sinkscope_lab::study::NUMERICS_VERSION;

/// Asks for a new `digests.json`.
const RENEW: &str = "RENEW_DIGESTS";
/// Where a process of its own leaves the digests of one instruction set.
const TO: &str = "SINKSCOPE_DIGESTS_TO";
/// Whose digests are kept. Those of AMX are those of AVX-512, as nothing here is of less than the highest precision.
const SETS: [InstructionSet; 3] = [InstructionSet::Portable, InstructionSet::Avx2, InstructionSet::Avx512];

/// By name.
type Digests = BTreeMap<String, String>;

/// The content of `digests.json`.
#[derive(Default, Serialize, Deserialize)]
struct Committed {
    numerics: u32,
    /// By part, name and instruction set.
    digests: BTreeMap<String, BTreeMap<String, BTreeMap<String, String>>>,
}

/// The first digits of a digest of values, bit by bit.
fn digest<'a>(values: impl IntoIterator<Item = &'a [f32]>) -> String {
    let mut hasher = Sha256::new();
    for values in values {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        hasher.update(bytes);
    }
    let mut digits = hex::encode(hasher.finalize());
    digits.truncate(16);
    digits
}

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/digests/digests.json")
}

fn read() -> Committed {
    let text = fs::read_to_string(file()).unwrap_or_else(|error| panic!("{}: {error}", file().display()));
    serde_json::from_str(&text).expect("digests")
}

/// Computes a part with every instruction set that can be forced, each in a process of its own, as a process has one, and
/// compares it with what is committed, or renews that.
fn check(part: &str, compute: fn() -> Digests) {
    if let Some(to) = env::var_os(TO) {
        return fs::write(to, serde_json::to_vec(&compute()).expect("JSON")).expect("written");
    }
    if cfg!(not(all(target_arch = "x86_64", target_env = "gnu"))) {
        println!("skipped: digests are kept for x86_64 with glibc");
        return;
    }
    let renew = env::var_os(RENEW).is_some();
    let mut found: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for set in SETS {
        if env::var_os(VARIABLE).is_some_and(|chosen| chosen != set.name()) {
            println!("skipped: {VARIABLE} has chosen another set than {}", set.name());
        } else if !set.is_available() {
            assert!(!renew, "digests are renewed on a machine with {}", set.name());
            println!("skipped: this machine has no {}", set.name());
        } else {
            for (name, digest) in with(set, part) {
                found.entry(name).or_default().insert(set.name().to_owned(), digest);
            }
        }
    }
    if renew {
        let mut committed = if file().exists() { read() } else { Committed::default() };
        committed.numerics = NUMERICS_VERSION;
        committed.digests.insert(part.to_owned(), found);
        return fs::write(file(), lines(&committed)).expect("written");
    }
    let committed = read();
    assert_eq!(committed.numerics, NUMERICS_VERSION, "these are the digests of another version; renew them");
    let expected = &committed.digests[part];
    let mut wrong = Vec::new();
    for (name, of_sets) in &found {
        for (set, digest) in of_sets {
            match expected.get(name).and_then(|of_sets| of_sets.get(set)) {
                Some(expected) if expected == digest => {}
                Some(expected) => wrong.push(format!("{name} with {set}: {digest}, not {expected}")),
                None => wrong.push(format!("{name} with {set}: has no digest yet")),
            }
        }
    }
    let gone = expected.keys().filter(|name| !found.is_empty() && !found.contains_key(*name));
    wrong.extend(gone.map(|name| format!("{name}: is computed no more")));
    assert!(wrong.is_empty(), "bits have changed; if they should, renew them (see above):\n{}", wrong.join("\n"));
}

/// The digests of a part with an instruction set.
fn with(set: InstructionSet, part: &str) -> Digests {
    let place = tempfile::tempdir().expect("a directory");
    let to = place.path().join("digests.json");
    let output = Command::new(env::current_exe().expect("a program"))
        .args(["--exact", part, "--include-ignored"])
        .env(VARIABLE, set.name())
        .env(TO, &to)
        .output()
        .expect("it starts");
    assert!(output.status.success(), "{part} with {}:\n{}", set.name(), String::from_utf8_lossy(&output.stdout));
    serde_json::from_slice(&fs::read(to).expect("digests")).expect("digests")
}

/// JSON with a line for every name, so that a change shows which results it changes.
fn lines(committed: &Committed) -> String {
    let parts: Vec<String> = committed
        .digests
        .iter()
        .map(|(part, names)| {
            let names: Vec<String> = names
                .iter()
                .map(|(name, of_sets)| {
                    let of_sets: Map<String, Value> =
                        of_sets.iter().map(|(set, digest)| (set.clone(), digest.as_str().into())).collect();
                    format!("      {}: {}", Value::from(name.as_str()), Value::from(of_sets))
                })
                .collect();
            format!("    \"{part}\": {{\n{}\n    }}", names.join(",\n"))
        })
        .collect();
    format!("{{\n  \"numerics\": {},\n  \"digests\": {{\n{}\n  }}\n}}\n", committed.numerics, parts.join(",\n"))
}

#[test]
fn residuals_of_all_fixtures() {
    check("residuals_of_all_fixtures", residuals::of_fixtures);
}

#[test]
fn weights_after_ten_steps_of_every_choice() {
    check("weights_after_ten_steps_of_every_choice", variants::of_all);
}

#[test]
#[ignore = "needs the model that scripts/fetch-model.sh fetches"]
fn residuals_of_smollm2() {
    check("residuals_of_smollm2", residuals::of_smollm2);
}
