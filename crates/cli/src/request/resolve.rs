//! From options as typed to requests.

use std::path::Path;

use sinkscope_anatomy::pictures::Pictures;
use sinkscope_lab::data::bpe::{LEAST_VOCABULARY, MOST_VOCABULARY};
use sinkscope_lab::data::prepare::{HeldOut, MOST_HELD_OUT};
use sinkscope_lab::data::{PrepareRequest, Separator};
use sinkscope_lab::study::Selection;
use sinkscope_model::ModelError;
use sinkscope_sources::checkpoint::DEMO;
use sinkscope_sources::data::document::TEXT_FIELD;
use sinkscope_surgery::SurgeryError;
use sinkscope_surgery::operation::Operation;

use super::{
    AnatomyRequest, CensusRequest, DataRequest, OperateRequest, ProbeRequest, RunOptions, StudyRequest, TrainRequest,
};
use crate::arguments::{
    AnatomyArguments, CensusArguments, DocumentSeparator, OperateArguments, PrepareArguments, ProbeArguments,
    RunArguments, StudyArguments, TextArguments, TrainArguments,
};
use crate::part::{self, Part};
use crate::process::MOST_THREADS;
use crate::{byte_size, machine};

impl AnatomyArguments {
    /// Checks every value.
    ///
    /// # Errors
    /// [`ModelError::Request`], naming the option at fault and what would be right.
    pub fn resolve(&self) -> Result<AnatomyRequest, ModelError> {
        check_epsilon(self.epsilon)?;
        let parts = part::parse(&self.only).map_err(|reason| ModelError::Request(format!("--only: {reason}")))?;
        if !self.tsne.is_empty() && !parts.contains(&Part::Geometry) {
            return Err(ModelError::Request("--tsne draws what the geometry looks at; add it to --only".into()));
        }
        let pictures = if self.tsne.is_empty() {
            Pictures::Extremes
        } else {
            Pictures::Of(self.tsne.iter().map(|name| head(name)).collect::<Result<_, _>>()?)
        };
        Ok(AnatomyRequest {
            run: self.run.resolve()?,
            text: self.text.resolve()?,
            parts,
            named: !self.only.is_empty(),
            epsilon: self.epsilon,
            pictures,
        })
    }
}

fn check_epsilon(epsilon: f64) -> Result<(), ModelError> {
    if (0.0..1.0).contains(&epsilon) {
        return Ok(());
    }
    Err(wrong("--epsilon", epsilon, "is not a number from 0 to below 1"))
}

/// A head by layer and number.
fn head(name: &str) -> Result<(usize, usize), ModelError> {
    let numbers = name.trim().split_once('.').and_then(|(layer, head)| Some((layer.parse().ok()?, head.parse().ok()?)));
    numbers.ok_or_else(|| wrong("--tsne", format!("{name:?}"), "is not a head; give LAYER.HEAD, such as 12.3"))
}

impl ProbeArguments {
    /// Checks every value that can be checked without the model.
    ///
    /// # Errors
    /// As [`AnatomyArguments::resolve`].
    pub fn resolve(&self) -> Result<ProbeRequest, ModelError> {
        Ok(ProbeRequest {
            run: self.run.resolve()?,
            text: self.text.resolve()?,
            position: self.position,
            prefix: self.prefix.clone(),
        })
    }
}

impl OperateArguments {
    /// Checks every value that can be checked without the model.
    ///
    /// # Errors
    /// As [`AnatomyArguments::resolve`]; [`SurgeryError::Operation`] of an operation that means nothing.
    pub fn resolve(&self) -> Result<OperateRequest, SurgeryError> {
        let mut run = self.run.resolve()?;
        check_epsilon(self.epsilon)?;
        let mut operations = self.operations.clone();
        // Where the model is left out, what stands in its place is an operation.
        if Operation::is_meant(&run.model) && !Path::new(&run.model).exists() {
            operations.insert(0, std::mem::replace(&mut run.model, DEMO.to_owned()));
        }
        if operations.is_empty() {
            let reason = "no operation was named; `sinkscope operate --help` lists them".to_owned();
            return Err(ModelError::Request(reason).into());
        }
        Ok(OperateRequest {
            run,
            text: self.text.resolve()?,
            operations: operations.iter().map(|typed| typed.parse()).collect::<Result<_, _>>()?,
            calibration: self.calibration.clone(),
            save: self.save.clone(),
            no_trials: self.no_trials,
            epsilon: self.epsilon,
        })
    }
}

impl CensusArguments {
    /// Checks every value that can be checked without the model.
    ///
    /// # Errors
    /// As [`AnatomyArguments::resolve`].
    pub fn resolve(&self) -> Result<CensusRequest, ModelError> {
        Ok(CensusRequest { run: self.run.resolve()?, channels: self.channels.clone(), full: self.full })
    }
}

impl PrepareArguments {
    /// Checks every value that can be checked without the text.
    ///
    /// # Errors
    /// As [`AnatomyArguments::resolve`].
    pub fn resolve(&self) -> Result<DataRequest, ModelError> {
        let held_out = self.held_out.map_or_else(HeldOut::default, HeldOut::Text);
        if !(0.0..=MOST_HELD_OUT).contains(&held_out.share()) {
            return Err(wrong("--held-out", held_out.share(), &format!("is not a number from 0 to {MOST_HELD_OUT}")));
        }
        if !(LEAST_VOCABULARY..=MOST_VOCABULARY).contains(&self.vocab_size) {
            let reason = format!(
                "is not from {LEAST_VOCABULARY} (the beginning-of-sequence token and the 256 bytes) to {MOST_VOCABULARY}"
            );
            return Err(wrong("--vocab-size", self.vocab_size, &reason));
        }
        Ok(DataRequest {
            prepare: PrepareRequest {
                inputs: self.inputs.clone(),
                out: self.out.clone(),
                vocabulary: self.vocab_size,
                separator: match self.document_separator {
                    DocumentSeparator::Pages => Separator::Pages,
                    DocumentSeparator::FormFeed => Separator::FormFeed,
                    DocumentSeparator::BlankLine => Separator::BlankLine,
                    DocumentSeparator::File => Separator::File,
                },
                text_field: self.text_field.clone().unwrap_or_else(|| TEXT_FIELD.to_owned()),
                held_out,
                seed: self.seed,
            },
            process: self.process.resolve()?,
        })
    }
}

impl TrainArguments {
    /// Checks every value and fills in the defaults.
    ///
    /// # Errors
    /// As [`AnatomyArguments::resolve`].
    pub fn resolve(&self) -> Result<TrainRequest, ModelError> {
        Ok(TrainRequest {
            recipe: self.recipe.clone(),
            out: self.out.clone(),
            resume: self.resume,
            process: self.process.resolve()?,
        })
    }
}

impl StudyArguments {
    /// Checks every value and fills in the defaults.
    ///
    /// # Errors
    /// As [`AnatomyArguments::resolve`].
    pub fn resolve(&self) -> Result<StudyRequest, ModelError> {
        if !(1..=MOST_THREADS).contains(&self.jobs) {
            return Err(wrong("--jobs", self.jobs, &format!("is not from 1 to {MOST_THREADS}")));
        }
        Ok(StudyRequest {
            study: self.study.clone(),
            out: self.out.clone(),
            results: self.results.clone(),
            selection: Selection { rows: self.rows.clone(), seeds: self.seeds.clone() },
            tables_only: self.tables,
            launcher: self.launcher,
            jobs: self.jobs,
            process: self.process.resolve()?,
        })
    }
}

impl TextArguments {
    /// They stay as typed: what is left out depends on the model.
    fn resolve(&self) -> Result<Self, ModelError> {
        if !(self.spike_ratio.is_finite() && self.spike_ratio > 1.0) {
            return Err(wrong("--spike-ratio", self.spike_ratio, "is not a number above 1"));
        }
        if let Some(seq_len @ 0..=1) = self.seq_len {
            return Err(wrong("--seq-len", seq_len, "leaves nothing to attend to or predict; give at least 2"));
        }
        if self.sequences == Some(0) {
            return Err(wrong("--sequences", 0, "is too few; give at least 1"));
        }
        Ok(self.clone())
    }
}

impl RunArguments {
    fn model_name(&self) -> Result<String, ModelError> {
        match self.model.as_deref() {
            None => Ok(DEMO.to_owned()),
            Some("") => Err(ModelError::Request(
                "the model's name is empty: name a .gguf file, a Hugging Face model directory or a hub id, or leave it out \
                 for the model that is part of the program"
                    .to_owned(),
            )),
            Some(name) => Ok(name.to_owned()),
        }
    }

    fn resolve(&self) -> Result<RunOptions, ModelError> {
        let model = self.model_name()?;
        let memory = match &self.memory {
            Some(text) => {
                byte_size::parse(text).map_err(|reason| ModelError::Request(format!("--memory: {reason}")))?
            }
            None => machine::default_memory(),
        };
        Ok(RunOptions {
            model,
            seed: self.seed,
            memory,
            out: self.out.clone(),
            allow_unknown: self.allow_unknown.clone(),
            process: self.process.resolve()?,
        })
    }
}

/// The error of a value.
pub fn wrong(option: &str, value: impl std::fmt::Display, reason: &str) -> ModelError {
    ModelError::Request(format!("{option} {value} {reason}"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::arguments::{Arguments, Bos, Command};

    fn resolve(options: &[&str]) -> Result<AnatomyRequest, String> {
        let line = ["sinkscope", "anatomy"].iter().chain(options);
        let Command::Anatomy(raw) = Arguments::try_parse_from(line).expect("well-formed").command else {
            return Err("another command".to_owned());
        };
        raw.resolve().map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_are_the_paper_s() {
        let request = resolve(&["m.gguf"]).expect("valid");
        assert_eq!((request.text.spike_ratio, request.epsilon), (5.0, 0.3));
        assert_eq!(request.parts, Part::ALL[..9]);
        assert_eq!((request.text.bos, request.run.seed), (Bos::Auto, 0));
        assert!(request.run.memory > 0);
    }

    #[test]
    fn values_out_of_range_name_their_option() {
        let cases: [(&[&str], &str); 12] = [
            (&["m", "--spike-ratio", "1"], "--spike-ratio 1 is"),
            (&["m", "--spike-ratio", "NaN"], "--spike-ratio NaN is"),
            (&["m", "--epsilon", "1"], "--epsilon 1 is"),
            (&["m", "--epsilon", "-0.1"], "--epsilon -0.1 is"),
            (&["m", "--threads", "0"], "--threads 0 is"),
            (&["m", "--threads", "1000000000"], "--threads 1000000000 is"),
            (&["m", "--sequences", "0"], "--sequences 0 is"),
            (&["m", "--seq-len", "1"], "--seq-len 1 leaves"),
            (&["m", "--memory", "2Q"], "--memory: \"2Q\" "),
            (&["m", "--only", "sinks,senses"], "--only: \"senses\" "),
            (&["m", "--tsne", "3"], "--tsne \"3\" is not a head"),
            (&["m", "--tsne", "3.1", "--only", "sinks"], "--tsne draws"),
        ];
        for (options, start) in cases {
            let message = resolve(options).expect_err("refused");
            assert!(message.starts_with(start), "{message}");
        }
    }
}
