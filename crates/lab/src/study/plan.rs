//! The runs of a study.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::file::{Row, Study};
use super::{NUMERICS_VERSION, Summaries, Summary};
use crate::LabError;
use crate::data::{Source, SourceRequest};
use crate::recipe::{DataChoice, Recipe};

/// Digits of a key: enough that no two of any number of runs that can be trained share one.
const KEY_DIGITS: usize = 16;

/// The runs of a study, seed by seed: every row with the first seed before any with the next.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Two may have one key, where two rows are the same model.
    pub runs: Vec<Run>,
}

/// One run.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Place of its row in the study.
    pub row: usize,
    /// The name of its row.
    pub name: String,
    /// `ROW-SEED`, as part of a file's name.
    pub slug: String,
    /// Its seed.
    pub seed: u64,
    /// Its recipe.
    pub recipe: Recipe,
    /// SHA-256 of the data.
    pub data: String,
    /// Of everything that decides its result.
    pub key: String,
}

/// A part of a study: all of it, if nothing is named.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Names of rows.
    pub rows: Vec<String>,
    /// Seeds.
    pub seeds: Vec<u64>,
}

impl Plan {
    /// The runs of a study. Its data are opened, to know which they are.
    ///
    /// # Errors
    /// If data cannot be read.
    pub fn new(study: &Study) -> Result<Self, LabError> {
        let mut opened: Vec<(SourceRequest, String)> = Vec::new();
        let mut digest = |recipe: &Recipe| -> Result<String, LabError> {
            let request = SourceRequest { seed: 0, ..recipe.source() };
            if let Some((_, digest)) = opened.iter().find(|(other, _)| *other == request) {
                return Ok(digest.clone());
            }
            let digest = Source::open(&request)?.identity().sha256.clone();
            opened.push((request, digest.clone()));
            Ok(digest)
        };
        let mut runs = Vec::new();
        for &seed in &study.seeds {
            for (row, Row { name, slug, recipe, seeds, .. }) in study.rows.iter().enumerate() {
                if !seeds.contains(&seed) {
                    continue;
                }
                let recipe = Recipe { seed, ..recipe.clone() };
                let data = digest(&recipe)?;
                let key = key(NUMERICS_VERSION, &recipe.variants(), &portable(&recipe, &data), &data)?;
                runs.push(Run { row, name: name.clone(), slug: format!("{slug}-{seed}"), seed, recipe, data, key });
            }
        }
        Ok(Self { runs })
    }

    /// The runs that have no summary, of those with one key the first.
    pub fn missing(&self, summaries: &Summaries) -> Vec<&Run> {
        let mut missing: Vec<&Run> = Vec::new();
        for run in &self.runs {
            if summaries.of_run(run).is_none() && !missing.iter().any(|other| other.key == run.key) {
                missing.push(run);
            }
        }
        missing
    }

    /// Those of the runs that are selected.
    ///
    /// # Errors
    /// [`LabError::Request`] if the selection names a row or a seed that the study does not have.
    pub fn select(&self, study: &Study, selection: &Selection) -> Result<Self, LabError> {
        let Selection { rows, seeds } = selection;
        for name in rows {
            study.row(name).map_err(LabError::Request)?;
        }
        if let Some(seed) = seeds.iter().find(|seed| !study.seeds.contains(seed)) {
            return Err(LabError::Request(format!("there is no seed {seed}: the seeds are {:?}", study.seeds)));
        }
        let selected = |run: &&Run| {
            (rows.is_empty() || rows.contains(&run.name)) && (seeds.is_empty() || seeds.contains(&run.seed))
        };
        Ok(Self { runs: self.runs.iter().filter(selected).cloned().collect() })
    }
}

/// A recipe that says which data it takes, not where they are.
pub(super) fn portable(recipe: &Recipe, data: &str) -> Recipe {
    let mut recipe = recipe.clone();
    if let DataChoice::Prepared { directory, .. } = &mut recipe.data {
        *directory = data.into();
    }
    recipe
}

/// The key of a run by a portable recipe: a digest of its canonical JSON, keys sorted. `variants`: as [`Recipe::variants`] gave
/// them when it was trained.
pub(super) fn key(
    numerics: u32,
    variants: &BTreeMap<String, u32>,
    recipe: &Recipe,
    data: &str,
) -> Result<String, LabError> {
    let recipe = serde_json::to_value(recipe)
        .map_err(|error| LabError::Request(format!("a recipe cannot be written as JSON: {error}")))?;
    let mut all = serde_json::json!({ "numerics": numerics, "data": data, "recipe": recipe });
    if !variants.is_empty() {
        all["variants"] = serde_json::json!(variants);
    }
    all.sort_all_objects();
    let mut digits = hex::encode(Sha256::digest(all.to_string()));
    digits.truncate(KEY_DIGITS);
    Ok(digits)
}

impl Summary {
    /// The key of the run, as this version of the program has it.
    ///
    /// # Errors
    /// If the recipe has no JSON form.
    pub fn key(&self) -> Result<String, LabError> {
        key(self.numerics, &self.variants, &self.recipe, &self.data)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::recipe_file::parse;

    fn recipe(model: &str) -> Recipe {
        let text = format!(
            "[model]\nlayers = 1\nd_model = 8\nheads = 2\n{model}\n[data]\nsource = 'bigram-backcopy'\n\
             [training]\nsteps = 9\nsequences = 2\nseq_len = 16\n"
        );
        parse(&text, Path::new("r.toml")).expect("a recipe")
    }

    #[test]
    fn only_choices_that_mean_something_else_now_change_their_runs_keys() {
        for (model, variants) in [
            ("", &[][..]),
            ("key_value_bias = true", &["key_value_bias"][..]),
            ("key_value_bias = true\nposition = 'none'", &[]),
            ("placement = 'post'", &["post_norm"]),
            ("gate = { signal = 'embedding', granularity = 'head' }", &[]),
            ("gate = { signal = 'embedding', granularity = 'head' }\nposition = 'learned'", &["embedding_gate"]),
            ("feed_forward = 'attention'\ninitialisation.scale_residual = true", &["scale_residual"]),
            ("initialisation.scale_residual = true", &[]),
        ] {
            let recipe = recipe(model);
            let changed = recipe.variants();
            assert_eq!(changed.keys().map(String::as_str).collect::<Vec<_>>(), variants, "{model}");
            let before = key(1, &BTreeMap::new(), &recipe, "data").expect("a key");
            assert_eq!(key(1, &changed, &recipe, "data").expect("a key") == before, variants.is_empty(), "{model}");
        }
    }

    #[test]
    fn committed_summaries_keep_their_keys_and_count() {
        let results = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../results");
        let mut count = 0;
        for study in std::fs::read_dir(results).expect("results").map(|entry| entry.expect("an entry").path()) {
            let Ok(files) = std::fs::read_dir(&study) else { continue };
            for file in files.map(|entry| entry.expect("an entry").path()) {
                let text = std::fs::read(&file).expect("a summary");
                let summary: Summary = serde_json::from_slice(&text).expect("a summary");
                let name = file.file_stem().expect("a name").to_string_lossy().into_owned();
                assert_eq!(summary.key().expect("a key"), name, "{}", file.display());
                assert_eq!(summary.variants, summary.recipe.variants(), "{}: means something else now", file.display());
                let mut written = serde_json::to_vec(&summary).expect("JSON");
                written.push(b'\n');
                assert!(written == text, "{}: would be written otherwise", file.display());
                count += 1;
            }
        }
        assert!(count > 100, "{count} summaries");
    }
}
