//! The file of a study: a base recipe, rows that each change something in it, seeds, and claims.
//!
//! ```toml
//! title = "Normalisation"
//! table = "Table 5"
//! base = "../recipes/study.toml"        # relative to this file
//! seeds = [0, 1, 2, 3, 4, 5]            # of every row that does not list its own
//! paired = false                        # whether claims compare rows seed by seed
//! change.training.steps = 2000          # in the recipe of every row
//!
//! [[row]]
//! name = "pre-norm"
//! baseline = true
//! seeds = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
//! paper = { perplexity = 10.1, sink_percent = 46.0, spike = 3818 }
//!
//! [[row]]
//! name = "sandwich"
//! paper = { perplexity = 9.8, sink_percent = 44.7, spike = 520 }
//! change.model.placement = "sandwich"
//!
//! [[claim]]
//! text = "A norm on the output lowers the spike and leaves the sinks"
//! conditions = [
//!     { row = "sandwich", against = "pre-norm", measure = "standout", statistic = "ratio", below = 0.5 },
//!     { row = "sandwich", against = "pre-norm", measure = "sink_percent", statistic = "ratio", above = 0.75 },
//!     { row = "pre-norm", measure = "mean_max_alpha", above = 0.3 },
//! ]
//! ```

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::claim::Claim;
use crate::LabError;
use crate::idle::Idle;
use crate::measure::Measure;
use crate::recipe::Recipe;
use crate::recipe_file::{advice, beside, from_table, read_as};

/// A study, read and checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Study {
    /// The file's, without its ending.
    pub name: String,
    /// What it is about.
    pub title: String,
    /// The paper's table, if it has this one.
    pub table: Option<String>,
    /// Of all rows together.
    pub seeds: Vec<u64>,
    /// Whether claims compare rows seed by seed.
    pub paired: bool,
    /// In the order of the table.
    pub rows: Vec<Row>,
    /// What they may show.
    pub claims: Vec<Claim>,
}

/// A row of the table.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// The name as part of a file's: small letters, digits and hyphens.
    pub slug: String,
    /// Whether the other rows each change something in this one.
    pub baseline: bool,
    /// Its seeds.
    pub seeds: Vec<u64>,
    /// What the paper has for it.
    pub paper: Paper,
    /// The recipe, but for its seed.
    pub recipe: Recipe,
}

/// Figures of the paper's 7B models.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Paper {
    /// Perplexity.
    pub perplexity: Option<f64>,
    /// Sink ratio, in percent.
    pub sink_percent: Option<f64>,
    /// Largest activation.
    pub spike: Option<f64>,
}

impl Paper {
    /// All of them.
    pub const MEASURES: [Measure; 3] = [Measure::Perplexity, Measure::SinkPercent, Measure::Spike];

    /// One of them, if the paper has it.
    pub fn of(&self, measure: Measure) -> Option<f64> {
        match measure {
            Measure::Perplexity => self.perplexity,
            Measure::SinkPercent => self.sink_percent,
            Measure::Spike => self.spike,
            _ => None,
        }
    }
}

/// The file as it is written.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StudyFile {
    /// What it is about.
    title: String,
    /// The paper's table.
    table: Option<String>,
    /// The recipe that rows change something in, relative to this file.
    base: PathBuf,
    /// Seeds of every row that does not list its own.
    seeds: Vec<u64>,
    /// Whether claims compare rows seed by seed.
    #[serde(default)]
    paired: bool,
    /// What is changed in the recipe of every row.
    #[serde(default)]
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    change: Table,
    /// The rows, in the order of the table.
    row: Vec<RowEntry>,
    /// What they may show.
    #[serde(default)]
    claim: Vec<Claim>,
}

/// A row as it is written.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RowEntry {
    /// Its name.
    name: String,
    /// Whether the other rows each change something in this one.
    #[serde(default)]
    baseline: bool,
    /// Its own seeds.
    seeds: Option<Vec<u64>>,
    /// What the paper has for it.
    #[serde(default)]
    paper: Paper,
    /// What it changes in the recipe.
    #[serde(default)]
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    change: Table,
}

impl Study {
    /// Reads a study and its base recipe.
    ///
    /// # Errors
    /// [`LabError::Malformed`] if a file cannot be read or is no such file, a change is none of a recipe or has no effect in its
    /// row, or names and claims do not fit each other.
    pub fn read(path: &Path) -> Result<Self, LabError> {
        let file: StudyFile = read_as("study", path)?;
        let wrong = |reason: String| LabError::malformed(path, reason);
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let base_file = beside(path).join(&file.base);
        let base = relative_to(&base_file, read_as("recipe", &base_file)?);
        let change = relative_to(path, file.change);
        if file.row.is_empty() || file.seeds.is_empty() {
            return Err(wrong("a study has at least one row and one seed".to_owned()));
        }
        check_seeds(&file.seeds).map_err(wrong)?;
        let mut rows = Vec::with_capacity(file.row.len());
        // Keys that decide nothing in any row.
        let mut idle: Option<Vec<Idle>> = None;
        for entry in file.row {
            let RowEntry { name, baseline, seeds, paper, change: row_change } = entry;
            let row_change = relative_to(path, row_change);
            if let Some(seeds) = &seeds {
                check_seeds(seeds).map_err(|reason| wrong(format!("row {name:?}: {reason}")))?;
            }
            let seeds = seeds.unwrap_or_else(|| file.seeds.clone());
            let mut table = base.clone();
            for change in [&change, &row_change] {
                if change.contains_key("seed") {
                    return Err(wrong(format!("row {name:?}: change.seed changes nothing; list it in seeds")));
                }
                merge(&mut table, change);
            }
            let recipe: Recipe = from_table(table).map_err(|reason| wrong(format!("row {name:?}: {reason}")))?;
            let of_row = recipe.idle();
            if let Some(idle) = of_row.iter().find(|idle| idle.is_in(&row_change)) {
                return Err(wrong(format!("row {name:?}: {}", idle.refusal())));
            }
            match &mut idle {
                None => idle = Some(of_row),
                Some(idle) => idle.retain(|idle| of_row.iter().any(|other| other.key == idle.key)),
            }
            let slug = slug(&name);
            if slug.is_empty() {
                return Err(wrong(format!("row {name:?}: a name has at least one letter or digit")));
            }
            rows.push(Row { name, slug, baseline, seeds, paper, recipe });
        }
        for idle in idle.unwrap_or_default() {
            if idle.is_in(&base) || idle.is_in(&change) {
                return Err(wrong(format!("in no row, {}", idle.refusal())));
            }
        }
        let slugs: Vec<&str> = rows.iter().map(|row| row.slug.as_str()).collect();
        if let Some(slug) = twice(&slugs) {
            return Err(wrong(format!("two rows have a name that is {slug} as a file's; name one otherwise")));
        }
        if rows.iter().filter(|row| row.baseline).count() > 1 {
            return Err(wrong("two rows are the baseline; mark one".to_owned()));
        }
        let seeds: BTreeSet<u64> = rows.iter().flat_map(|row| &row.seeds).copied().collect();
        let study = Self {
            name,
            title: file.title,
            table: file.table,
            seeds: seeds.into_iter().collect(),
            paired: file.paired,
            rows,
            claims: file.claim,
        };
        study.check_claims().map_err(wrong)?;
        Ok(study)
    }

    fn check_claims(&self) -> Result<(), String> {
        for claim in &self.claims {
            let in_claim = |reason: String| format!("claim {:?}: {reason}", claim.text);
            if claim.conditions.is_empty() {
                return Err(in_claim("has no conditions".to_owned()));
            }
            for condition in &claim.conditions {
                condition.check().map_err(in_claim)?;
                for row in std::iter::once(&condition.row).chain(&condition.against) {
                    self.row(row).map_err(in_claim)?;
                }
            }
        }
        Ok(())
    }

    /// The place of a row.
    ///
    /// # Errors
    /// With the name that may have been meant.
    pub fn row(&self, name: &str) -> Result<usize, String> {
        let names = || self.rows.iter().map(|row| row.name.clone()).collect::<Vec<_>>();
        let found = self.rows.iter().position(|row| row.name == name);
        found.ok_or_else(|| format!("there is no row {name:?}: {}", advice(name, &names())))
    }
}

/// A recipe's table whose directory of data is relative to the file that it stands in.
fn relative_to(file: &Path, mut table: Table) -> Table {
    if let Some(Value::Table(data)) = table.get_mut("data")
        && let Some(Value::String(directory)) = data.get_mut("directory")
    {
        *directory = beside(file).join(&*directory).to_string_lossy().into_owned();
    }
    table
}

/// Refuses no seeds, and one that is there twice.
fn check_seeds(seeds: &[u64]) -> Result<(), String> {
    match twice(seeds) {
        _ if seeds.is_empty() => Err("seeds: a row has at least one".to_owned()),
        Some(seed) => Err(format!("seeds: {seed} is there twice")),
        None => Ok(()),
    }
}

/// Puts the values of `change` into `table`; tables are gone into.
fn merge(table: &mut Table, change: &Table) {
    for (key, value) in change {
        match (table.get_mut(key), value) {
            (Some(Value::Table(inner)), Value::Table(change)) => merge(inner, change),
            _ => {
                table.insert(key.clone(), value.clone());
            }
        }
    }
}

/// A name as part of a file's.
fn slug(name: &str) -> String {
    let parts = name.split(|character: char| !character.is_ascii_alphanumeric() && character != '.');
    let parts = parts.map(|part| part.trim_matches('.').to_ascii_lowercase());
    parts.filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-")
}

/// The first item that comes a second time.
fn twice<T: PartialEq>(items: &[T]) -> Option<&T> {
    items.iter().enumerate().find(|(at, item)| items[..*at].contains(item)).map(|(_, item)| item)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_reach_into_tables_and_replace_values() {
        let parse = |text: &str| text.parse::<Table>().expect("TOML");
        let mut table = parse("a = 1\n[b]\nc = 2\nd = [3, 4]\n");
        merge(&mut table, &parse("b.d = [5]\nb.e.f = 6\na = \"x\"\n"));
        assert_eq!(table, parse("a = \"x\"\n[b]\nc = 2\nd = [5]\ne.f = 6\n"));
    }

    #[test]
    fn names_become_parts_of_file_names() {
        assert_eq!(slug("Sandwich, QK (input)"), "sandwich-qk-input");
        assert_eq!(slug("LR 7.5e-5"), "lr-7.5e-5");
        assert_eq!(slug("../.."), "");
        assert_eq!(twice(&[1, 2, 3, 2, 1]), Some(&2));
    }
}
