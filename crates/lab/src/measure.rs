//! The measures of runs: one table, from which follow the columns and headings of tables, the figures and definitions of
//! studies and their schema, the names in claims, the terminal's table of looks and what TensorBoard shows beside the records.

use std::cmp::Ordering::{self, Less};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::Topic::{Loss, Sinks, Spikes};
use self::Unit::{Magnitude, Number, Percent, Share, Times};
use crate::study::summary::ShortLook;
use crate::watch::Watched;

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
    /// What it counts, which decides how it is printed.
    pub unit: Unit,
    /// What it is about.
    pub topic: Topic,
    /// Which of two values is the better one, where that can be said.
    pub better: Option<Ordering>,
    /// When a narrow table leaves it out: the highest first, 0 never.
    pub expendable: u8,
    /// How it is computed.
    pub definition: &'static str,
    /// That of a look.
    pub of: fn(&Watched) -> Option<f64>,
    /// That of a look as summaries keep it; `None` if it follows from what they keep of the last look alone.
    pub of_short: Option<fn(&ShortLook) -> Option<f64>>,
}

/// What a measure counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Nothing that has a name.
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

/// Makes [`Measure`], [`Figures`] and [`MEASURES`] of the rows of a table: documentation, variant, name, and the rest of [`About`].
macro_rules! measures {
    ($($(#[doc = $doc:literal])+ $variant:ident $name:ident { $($rest:tt)+ })+) => {
        /// A number that a run comes to.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum Measure { $($(#[doc = $doc])+ $variant,)+ }

        /// A value for each measure.
        #[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
        #[expect(missing_docs, reason = "one for each measure")]
        pub struct Figures<T> { $(pub $name: T,)+ }

        impl<T: Copy> Figures<T> {
            /// One of them.
            pub fn of(&self, measure: Measure) -> T {
                match measure { $(Measure::$variant => self.$name,)+ }
            }

            /// One value made of each measure.
            pub fn each(of: impl Fn(&About) -> T) -> Self {
                Self { $($name: of(Measure::$variant.about()),)+ }
            }
        }

        /// The table, in the order of studies.
        pub static MEASURES: &[About] =
            &[$(About { measure: Measure::$variant, name: stringify!($name), $($rest)+ },)+];
    };
}

measures! {
    /// On held-out sequences.
    Perplexity perplexity {
        words: "perplexity", heading: "perplexity", unit: Number, topic: Loss, better: Some(Less), expendable: 0,
        definition: "exp of the mean negative log-likelihood of the held-out sequences at the last look",
        of: |seen| Some(seen.perplexity), of_short: Some(|look| Some(look.perplexity)),
    }
    /// Sink ratio, in percent.
    SinkPercent sink_percent {
        words: "sink ratio", heading: "sinks", unit: Percent("sink_ratio"), topic: Sinks, better: None, expendable: 0,
        definition: "sink ratio `paper` in percent, at the last look",
        of: |seen| Some(seen.sink_ratio), of_short: Some(|look| Some(look.sink_ratio)),
    }
    /// Mean over sequences and heads of the largest attention received.
    MeanMaxAlpha mean_max_alpha {
        words: "mean max alpha", heading: "mean max alpha", unit: Share, topic: Sinks, better: None, expendable: 2,
        definition: "mean over sequences and heads of the largest attention received, alpha, at the last look",
        of: |seen| Some(seen.mean_max_alpha), of_short: Some(|look| Some(look.mean_max_alpha)),
    }
    /// The largest activation.
    Spike spike {
        words: "spike", heading: "spike", unit: Magnitude, topic: Spikes, better: Some(Less), expendable: 0,
        definition: "the largest magnitude in the residual after any block, at the last look",
        of: |seen| Some(seen.spike), of_short: Some(|look| Some(look.spike)),
    }
    /// The largest activation over the typical token's.
    SpikeOverTypical spike_over_typical {
        words: "spike over typical", heading: "over typical", unit: Times, topic: Spikes, better: Some(Less), expendable: 3,
        definition: "the spike over the typical token's largest magnitude at the same block",
        of: |seen| seen.spike_over_typical, of_short: Some(|look| look.spike_over_typical),
    }
}

impl Measure {
    /// Its row of the table.
    pub fn about(self) -> &'static About {
        &MEASURES[self as usize]
    }
}

impl About {
    /// Its name in looks.
    pub fn name_in_looks(&self) -> &'static str {
        if let Percent(name) = self.unit { name } else { self.name }
    }

    /// What a study shows of a look; not a number where the look has none.
    pub fn figure(&self, seen: &Watched) -> f64 {
        let value = (self.of)(seen).unwrap_or(f64::NAN);
        if matches!(self.unit, Percent(_)) { 100.0 * value } else { value }
    }

    /// All measures in the order of looks.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_and_claims_have_one_name_for_a_measure() {
        for about in MEASURES {
            assert_eq!(serde_json::to_value(about.measure).expect("JSON"), about.name);
        }
    }
}
