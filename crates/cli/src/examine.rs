//! From a request to what was measured: the one place where the command meets the model and its measurements.

use std::collections::BTreeMap;

use anyhow::Result;
use sinkscope_anatomy::definitions;
use sinkscope_anatomy::examination::{self, AnatomyTaps, Finished, ModelSize};
use sinkscope_anatomy::results::Anatomy;
use sinkscope_anatomy::sinks::SinkDefinition;
use sinkscope_kernels::peak;
use sinkscope_model::architecture::Architecture;
use sinkscope_model::data::{self, BosPolicy, Data, TextRequest, TokenBatch};
use sinkscope_model::pass::{ErasedTap, Pass, PassReport};
use sinkscope_model::tokenizer::Tokenizer;
use sinkscope_model::{LengthFit, Model, ModelError};
use sinkscope_report::envelope::{DataIdentity, ModelIdentity, PassTiming};

use crate::arguments::Bos;
use crate::output::{by_name, model_identity};
use crate::part::Part;
use crate::progress::Progress;
use crate::request::{AnatomyRequest, TextOptions};

/// What an examination gives.
#[derive(Debug)]
pub struct Examination {
    /// The model.
    pub model: ModelIdentity<Architecture>,
    /// The tokens.
    pub data: DataIdentity,
    /// What each number means.
    pub definitions: BTreeMap<String, String>,
    /// Each pass over the model.
    pub passes: Vec<PassTiming>,
    /// Of the streamed pass, decoding of weights included.
    pub tokens_per_second: f64,
    /// Share of the f32 arithmetic bound that the streamed pass reached; `None` if unknown.
    pub fraction_of_bound: Option<f64>,
    /// What was measured.
    pub anatomy: Anatomy,
}

/// Examines a model on a text. Runs on the current thread pool.
///
/// # Errors
/// If the model, the text or the request is wrong.
pub fn examine(request: &AnatomyRequest, progress: &Progress) -> Result<Examination> {
    progress.stage("opening");
    let model = Model::open(&request.run.model)?;
    let architecture = model.architecture();
    tracing::info!(
        "{}: {} with {} layers of width {}",
        model.checkpoint().name(),
        architecture.family,
        architecture.layers.len(),
        architecture.d_model
    );
    let tokenizer = tokenizer(&model, &request.text)?;
    let Data { batch, source, sha256, bos } =
        data::load(&text_request(&request.text), tokenizer.as_ref(), architecture.vocabulary)?;
    if let LengthFit::Beyond { max_positions } = model.check_length(batch.seq_len)? {
        tracing::warn!(
            "sequences of {} tokens are longer than the {max_positions} positions that {} was made for",
            batch.seq_len,
            model.checkpoint().name()
        );
    }
    let text = |id| tokenizer.as_ref().map_or_else(String::new, |tokenizer| tokenizer.decode_token(id));
    let (anatomy, passes) = measure(request, &model, &batch, &text, progress)?;
    progress.stage("hashing");
    let (_, first) = &passes[0];
    Ok(Examination {
        tokens_per_second: first.tokens as f64 / first.seconds,
        fraction_of_bound: Some(
            first.flops / first.seconds / (peak::flops_per_second() * rayon::current_num_threads() as f64),
        ),
        model: model_identity(&model)?,
        data: DataIdentity { source, sha256, sequences: batch.sequences, seq_len: batch.seq_len, bos },
        definitions: by_name(&definitions::all(request.text.spike_ratio, request.epsilon)),
        passes: passes
            .into_iter()
            .map(|(name, pass)| PassTiming { name: name.to_owned(), seconds: pass.seconds })
            .collect(),
        anatomy,
    })
}

/// The model's tokeniser, if it has one. Token ids need none, so there one that cannot be read only costs their texts.
fn tokenizer(model: &Model, options: &TextOptions) -> Result<Option<Tokenizer>, ModelError> {
    let checkpoint = model.checkpoint();
    match Tokenizer::from_metadata(checkpoint.metadata(), checkpoint.path()) {
        Err(error @ ModelError::Unsupported { .. }) if options.tokens.is_some() => {
            tracing::warn!("token texts are left out: {error}");
            Ok(None)
        }
        tokenizer => tokenizer,
    }
}

fn text_request(options: &TextOptions) -> TextRequest<'_> {
    TextRequest {
        text: options.text.as_deref(),
        tokens: options.tokens.as_deref(),
        seq_len: options.seq_len,
        sequences: options.sequences,
        bos: match options.bos {
            Bos::Auto => BosPolicy::Auto,
            Bos::Always => BosPolicy::Always,
            Bos::Never => BosPolicy::Never,
        },
    }
}

/// Runs the pass past the taps that the request needs, and once more if the stages ask for a second look. Gives each
/// pass by name, the first one always.
fn measure(
    request: &AnatomyRequest,
    model: &Model,
    batch: &TokenBatch,
    text: &dyn Fn(u32) -> String,
    progress: &Progress,
) -> Result<(Anatomy, Vec<(&'static str, PassReport)>)> {
    let asked = |part| request.parts.contains(&part);
    let wanted = examination::AnatomyRequest {
        lifecycle: asked(Part::Lifecycle),
        spikes: asked(Part::Spikes),
        sinks: asked(Part::Sinks),
        nll: asked(Part::Nll),
        spike_ratio: request.text.spike_ratio,
        epsilon: request.epsilon,
        definition: SinkDefinition::Paper,
        seed: request.run.seed,
    };
    let architecture = model.architecture();
    let size = ModelSize { layers: architecture.layers.len(), heads: architecture.heads };
    let report_progress = |done, total| progress.set(done, total);
    let pass = Pass::new(model, request.run.memory).with_progress(&report_progress);

    progress.stage("examining");
    let mut taps = AnatomyTaps::new(&wanted, size, batch);
    let AnatomyTaps { residual, sinks, prediction, .. } = &mut taps;
    let mut active: Vec<&mut dyn ErasedTap> = Vec::new();
    active.extend(residual.as_mut().map(|tap| tap as &mut dyn ErasedTap));
    active.extend(sinks.as_mut().map(|tap| tap as &mut dyn ErasedTap));
    active.extend(prediction.as_mut().map(|tap| tap as &mut dyn ErasedTap));
    let mut passes = vec![("examination", pass.run(batch, &mut active)?)];
    let anatomy = match taps.finish(batch, text)? {
        Finished::Complete(anatomy) => *anatomy,
        Finished::SecondLook(mut look) => {
            progress.stage("a second look at the stages");
            passes.push(("second look", pass.run(batch, &mut [&mut look.tap])?));
            look.finish(batch, text)
        }
    };
    Ok((anatomy, passes))
}
