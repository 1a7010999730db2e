//! The measures of runs: one table, [`MEASURES`]. The columns of tables and their headings, the figures and definitions of
//! studies with their schema, the names in claims, the table of looks and the tags of TensorBoard follow from it.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize, Serializer};

use crate::study::summary::ShortLook;
use crate::watch::Watched;

/// A number that a run comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// On held-out sequences.
    Perplexity,
    /// Sink ratio, in percent.
    SinkPercent,
    /// Mean over sequences and heads of the largest attention received.
    MeanMaxAlpha,
    /// The largest activation.
    Spike,
    /// The largest activation over the typical token's.
    SpikeOverTypical,
}

/// All that is to be known of a measure.
#[derive(Debug, Clone, Copy)]
pub struct About {
    /// Which it is.
    pub measure: Measure,
    /// Its name in claims, results and tables of studies.
    pub name: &'static str,
    /// Its name in a sentence.
    pub words: &'static str,
    /// Its name above a column.
    pub heading: &'static str,
    /// What it counts; decides how it is printed.
    pub unit: Unit,
    /// What it is about.
    pub topic: Topic,
    /// Which values are better, where that can be said.
    pub better: Option<Better>,
    /// When a narrow table leaves it out: the highest first, 0 never.
    pub expendable: u8,
    /// How it is computed.
    pub definition: &'static str,
    /// That of a look.
    pub of: fn(&Watched) -> Option<f64>,
    /// That of a look as a summary keeps it; `None` of a measure that follows from what is not kept.
    pub of_short: Option<fn(&ShortLook) -> Option<f64>>,
}

/// What a measure counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A number of nothing.
    Number,
    /// A share of one in looks, where it has this name, and hundred times as much in studies.
    Percent(&'static str),
    /// A share of one.
    Share,
    /// A magnitude of residuals.
    Magnitude,
    /// How many times something else.
    Times,
}

/// What a measure is about, in the order of looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "usual words")]
pub enum Topic {
    Loss,
    Spikes,
    Sinks,
}

/// Which values of a measure are better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "usual words")]
pub enum Better {
    Less,
    More,
}

/// The table, in the order of [`Measure`], which is that of studies.
pub static MEASURES: [About; 5] = [
    About {
        measure: Measure::Perplexity,
        name: "perplexity",
        words: "perplexity",
        heading: "perplexity",
        unit: Unit::Number,
        topic: Topic::Loss,
        better: Some(Better::Less),
        expendable: 0,
        definition: "exp of the mean negative log-likelihood of the held-out sequences at the last look",
        of: |seen| Some(seen.perplexity),
        of_short: Some(|look| Some(look.perplexity)),
    },
    About {
        measure: Measure::SinkPercent,
        name: "sink_percent",
        words: "sink ratio",
        heading: "sinks",
        unit: Unit::Percent("sink_ratio"),
        topic: Topic::Sinks,
        better: None,
        expendable: 0,
        definition: "sink ratio `paper` in percent, at the last look",
        of: |seen| Some(seen.sink_ratio),
        of_short: Some(|look| Some(look.sink_ratio)),
    },
    About {
        measure: Measure::MeanMaxAlpha,
        name: "mean_max_alpha",
        words: "mean max alpha",
        heading: "mean max alpha",
        unit: Unit::Share,
        topic: Topic::Sinks,
        better: None,
        expendable: 2,
        definition: "mean over sequences and heads of the largest attention received, alpha, at the last look",
        of: |seen| Some(seen.mean_max_alpha),
        of_short: Some(|look| Some(look.mean_max_alpha)),
    },
    About {
        measure: Measure::Spike,
        name: "spike",
        words: "spike",
        heading: "spike",
        unit: Unit::Magnitude,
        topic: Topic::Spikes,
        better: Some(Better::Less),
        expendable: 0,
        definition: "the largest magnitude in the residual after any block, at the last look",
        of: |seen| Some(seen.spike),
        of_short: Some(|look| Some(look.spike)),
    },
    About {
        measure: Measure::SpikeOverTypical,
        name: "spike_over_typical",
        words: "spike over typical",
        heading: "over typical",
        unit: Unit::Times,
        topic: Topic::Spikes,
        better: Some(Better::Less),
        expendable: 3,
        definition: "the spike over the typical token's largest magnitude at the same block",
        of: |seen| seen.spike_over_typical,
        of_short: Some(|look| look.spike_over_typical),
    },
];

impl Measure {
    /// Its row of the table.
    pub fn about(self) -> &'static About {
        &MEASURES[self as usize]
    }
}

impl About {
    /// Its name in looks.
    pub fn name_in_looks(&self) -> &'static str {
        if let Unit::Percent(name) = self.unit { name } else { self.name }
    }

    /// What a study shows of a look; not a number where the look has none.
    pub fn figure(&self, seen: &Watched) -> f64 {
        let value = (self.of)(seen).unwrap_or(f64::NAN);
        if matches!(self.unit, Unit::Percent(_)) { 100.0 * value } else { value }
    }

    /// All measures by topic, as looks have them.
    pub fn in_looks() -> Vec<&'static Self> {
        let mut all: Vec<_> = MEASURES.iter().collect();
        all.sort_by_key(|about| about.topic);
        all
    }
}

/// The measures of a look that follow from what is recorded of it, by name.
pub fn derived(seen: &Watched) -> Vec<(String, f32)> {
    let derived = MEASURES.iter().filter(|about| about.of_short.is_none());
    derived.filter_map(|about| Some((about.name_in_looks().to_owned(), (about.of)(seen)? as f32))).collect()
}

/// A value for each measure. In JSON their names are the keys.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figures<T>([T; MEASURES.len()]);

impl<T: Copy> Figures<T> {
    /// One of them.
    pub fn of(&self, measure: Measure) -> T {
        self.0[measure as usize]
    }

    /// One value made of each measure.
    pub fn each(of: impl Fn(&About) -> T) -> Self {
        Self(MEASURES.each_ref().map(of))
    }
}

impl<T: Serialize> Serialize for Figures<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(MEASURES.iter().map(|about| about.name).zip(&self.0))
    }
}

impl<T: JsonSchema> JsonSchema for Figures<T> {
    fn schema_name() -> Cow<'static, str> {
        "Figures".into()
    }

    fn schema_id() -> Cow<'static, str> {
        format!("{}::Figures<{}>", module_path!(), T::schema_id()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let names = MEASURES.each_ref().map(|about| about.name);
        let of_each: serde_json::Map<_, _> =
            names.iter().map(|name| ((*name).to_owned(), generator.subschema_for::<T>().to_value())).collect();
        json_schema!({
            "type": "object",
            "properties": of_each,
            "required": names,
            "description": "A value for each measure.",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_measure_stands_in_its_row_under_its_name() {
        let schema = schemars::schema_for!(Measure);
        let names: Vec<&str> = schema.as_value()["oneOf"]
            .as_array()
            .expect("variants")
            .iter()
            .filter_map(|of| of["const"].as_str())
            .collect();
        assert_eq!(names, MEASURES.each_ref().map(|about| about.name));
        for (at, about) in MEASURES.iter().enumerate() {
            assert_eq!(about.measure as usize, at, "{}", about.name);
        }
    }
}
