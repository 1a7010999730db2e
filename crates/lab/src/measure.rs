//! The measures of runs: one table, from which follow the columns and headings of tables, the figures and definitions of
//! studies and their schema, the names in claims, the terminal's table of looks and what TensorBoard shows beside the records.

use std::cmp::Ordering::{self, Less};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinkscope_anatomy::definitions;

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
    /// Sink ratio by the definition of Gu et al., in percent.
    GuPercent gu_percent {
        words: "sink ratio on the first token", heading: "on the first", unit: Percent("sink_ratio_gu"), topic: Sinks, better: None, expendable: 4,
        definition: "sink ratio `gu`, of the first position alone, in percent, at the last look",
        of: |seen| seen.sink_ratio_gu, of_short: None,
    }
    /// The largest activation.
    Spike spike {
        words: "largest activation", heading: "largest", unit: Magnitude, topic: Spikes, better: Some(Less), expendable: 0,
        definition: "the largest magnitude in the residual after any block, at the last look",
        of: |seen| Some(seen.spike), of_short: Some(|look| Some(look.spike)),
    }
    /// The largest activation over the typical token's.
    SpikeOverTypical spike_over_typical {
        words: "largest over typical", heading: "over typical", unit: Times, topic: Spikes, better: Some(Less), expendable: 7,
        definition: "the largest magnitude over the typical token's largest magnitude at the same block",
        of: |seen| seen.spike_over_typical, of_short: Some(|look| look.spike_over_typical),
    }
    /// How far a block before the last stands out over the typical token.
    Standout standout {
        words: "standout", heading: "standout", unit: Times, topic: Spikes, better: Some(Less), expendable: 5,
        definition: definitions::STANDOUT,
        of: |seen| Some(standout(seen)?.1), of_short: None,
    }
    /// The block that stands out so.
    StandoutBlock standout_block {
        words: "block of the standout", heading: "at block", unit: Number, topic: Spikes, better: None, expendable: 6,
        definition: definitions::STANDOUT_BLOCK,
        of: |seen| Some(standout(seen)?.0 as f64), of_short: None,
    }
    /// How much of a token one channel owns.
    Share share {
        words: "share of one channel", heading: "share", unit: Share, topic: Spikes, better: Some(Less), expendable: 4,
        definition: definitions::SHARE,
        of: |seen| Some(seen.detail.as_ref()?.share), of_short: None,
    }
    /// How much of a token three channels own.
    ShareOfThree share_of_three {
        words: "share of three channels", heading: "share of three", unit: Share, topic: Spikes, better: Some(Less), expendable: 9,
        definition: definitions::SHARE_OF_THREE,
        of: |seen| Some(seen.detail.as_ref()?.share_of_three), of_short: None,
    }
    /// How many first tokens spike.
    FirstTokensSpike first_tokens_spike {
        words: "share of first tokens that spike", heading: "first spike", unit: Share, topic: Spikes, better: None, expendable: 9,
        definition: "share of sequences whose first token spikes at the block of the standout, at the last look",
        of: |seen| Some(seen.detail.as_ref()?.first_tokens_spike), of_short: None,
    }
    /// On held-out sequences of the training length.
    TrainedPerplexity trained_perplexity {
        words: "perplexity at the training length", heading: "at training length", unit: Number, topic: Loss, better: Some(Less), expendable: 9,
        definition: "perplexity of held-out sequences of the training length, with windows of their own, at the last look",
        of: |seen| Some(seen.detail.as_ref()?.perplexity_at_training_length.unwrap_or(seen.perplexity)), of_short: None,
    }
    /// What the last block leaves.
    LastOverTypical last_over_typical {
        words: "last block over typical", heading: "last block", unit: Times, topic: Spikes, better: None, expendable: 8,
        definition: "mean over sequences of the largest magnitude after the last block, over the typical token's largest there",
        of: |seen| over_typical(seen, seen.largest_by_block.len().checked_sub(1)?), of_short: None,
    }
}

/// Block and value of what stands out most before the last block; `None` without such a block.
pub fn standout(seen: &Watched) -> Option<(usize, f64)> {
    let before_last = 1..seen.largest_by_block.len().saturating_sub(1);
    // Backwards, because of equals the last is taken.
    let over = before_last.rev().filter_map(|block| Some((block, over_typical(seen, block)?)));
    over.max_by(|a, b| a.1.total_cmp(&b.1))
}

/// How far a block stands out; `None` without such a block.
fn over_typical(seen: &Watched, block: usize) -> Option<f64> {
    Some(seen.largest_by_block.get(block)? / seen.typical_by_block.get(block)?.max(f64::MIN_POSITIVE))
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

    /// What a study shows of a look, if the look has it.
    pub fn figure(&self, seen: &Watched) -> Option<f64> {
        let value = (self.of)(seen)?;
        Some(if matches!(self.unit, Percent(_)) { 100.0 * value } else { value })
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
    let recorded = |about: &About| about.of_short.is_some() || matches!(about.unit, Percent(_));
    let derived = MEASURES.iter().filter(|about| !recorded(about));
    derived.filter_map(|about| Some((about.name_in_looks().to_owned(), (about.of)(seen)? as f32))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(largest: &[f64], typical: &[f64]) -> Watched {
        let (largest_by_block, typical_by_block) = (largest.to_vec(), typical.to_vec());
        Watched {
            nll: 0.0,
            perplexity: 1.0,
            spike: 0.0,
            spike_at: None,
            spike_over_typical: None,
            stage: None,
            sink_ratio: 0.0,
            sink_ratio_gu: None,
            mean_max_alpha: 0.0,
            sink_ratio_by_layer: Vec::new(),
            largest_by_block,
            typical_by_block,
            frobenius: Vec::new(),
            detail: None,
        }
    }

    #[test]
    fn the_embedding_and_the_last_block_do_not_stand_out() {
        let peak = seen(&[90.0, 4.0, 30.0, 60.0, 800.0], &[1.0, 2.0, 3.0, 6.0, 8.0]);
        assert_eq!(standout(&peak), Some((2, 10.0)), "of equals the first");
        let derived = derived(&peak);
        let of = |name: &str| derived.iter().find(|(of, _)| of == name).map(|(_, value)| *value);
        assert_eq!(["standout", "standout_block", "last_over_typical"].map(of), [Some(10.0), Some(2.0), Some(100.0)]);
        assert_eq!(standout(&seen(&[90.0, 800.0], &[1.0, 8.0])), None);
        assert_eq!(standout(&seen(&[], &[])), None);
        assert_eq!(Measure::Standout.about().figure(&seen(&[], &[])), None);
    }

    #[test]
    fn committed_summaries_have_what_stands_out() {
        // By hand from `largest_by_block` and `typical_by_block` of the baseline of `decoupling`, seed 1.
        let results = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../results/decoupling");
        let file = std::fs::read(results.join("b66e7bb7ec38158d.json")).expect("a summary");
        let summary: crate::study::Summary = serde_json::from_slice(&file).expect("a summary");
        let figures = summary.figures();
        assert_eq!(figures.standout.map(|value| (10.0 * value).round()), Some(194.0));
        assert_eq!((figures.standout_block, figures.share), (Some(4.0), None));
    }

    #[test]
    fn results_and_claims_have_one_name_for_a_measure() {
        for about in MEASURES {
            assert_eq!(serde_json::to_value(about.measure).expect("JSON"), about.name);
        }
    }
}
