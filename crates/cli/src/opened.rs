//! A model and the tokens it is to be examined on, opened together.

use anyhow::Result;
use sinkscope_anatomy::examination;
use sinkscope_kernels::matmul::Precision;
use sinkscope_model::{LengthFit, Model, ModelError};
use sinkscope_report::envelope::{ChatIdentity, DataIdentity};
use sinkscope_sources::SourceError;
use sinkscope_sources::checkpoint::{Checkpoint, HubSettings};
use sinkscope_sources::data::{self, BosPolicy, Data, TextRequest, TokenBatch};
use sinkscope_sources::tokenizer::{ChatTemplate, Tokenizer};

use crate::arguments::{Bos, TextArguments};
use crate::progress::Progress;
use crate::request::RunOptions;

/// A model, its tokeniser and the tokens.
pub struct Opened {
    pub model: Model,
    /// Its tokeniser, if it has one that can be read.
    pub tokenizer: Option<Tokenizer>,
    pub batch: TokenBatch,
    /// What an output file says of them.
    pub data: DataIdentity,
}

impl Opened {
    /// Opens a model and reads the text.
    pub fn new(run: &RunOptions, options: &TextArguments, progress: &Progress) -> Result<Self> {
        progress.stage("opening");
        let precision = options.precision;
        if precision != Precision::Highest && !precision.rounds::<f32>() {
            tracing::info!("this machine has no AMX: products are of the highest precision");
        }
        let model = open_model(run, progress)?.with_precision(precision);
        let architecture = model.architecture();
        tracing::info!(
            "{}: {} with {} layers of width {}",
            model.checkpoint().name(),
            architecture.family,
            architecture.layer_count(),
            architecture.d_model
        );
        let tokenizer = tokenizer(&model, options)?;
        let checkpoint = model.checkpoint();
        let template =
            options.chat.as_ref().map(|_| ChatTemplate::from_metadata(checkpoint.metadata(), checkpoint.path()));
        let template = template.transpose()?;
        let chat = options.chat.as_deref().zip(template.as_ref());
        let request = TextRequest { chat, ..text_request(options) };
        let Data { batch, source, sha256, bos, special_tokens, chat } =
            data::load(&request, tokenizer.as_ref(), architecture.vocabulary)?;
        let batch = batch.with_first(architecture.register_ids());
        if let LengthFit::Beyond { max_positions } = model.check_length(batch.seq_len)? {
            tracing::warn!(
                "sequences of {} tokens are longer than the {max_positions} positions that {} was made for",
                batch.seq_len,
                model.checkpoint().name()
            );
        }
        let chat = chat.map(|chat| ChatIdentity {
            template: chat.template.to_owned(),
            conversations: chat.conversations,
            adds_bos: chat.adds_bos,
        });
        let TokenBatch { sequences, seq_len, .. } = batch;
        let data = DataIdentity { source, sha256, sequences, seq_len, bos, special_tokens, chat };
        Ok(Self { model, tokenizer, batch, data })
    }

    /// The text of a token id, empty without a tokeniser.
    pub fn text(&self, id: u32) -> String {
        self.tokenizer.as_ref().map_or_else(String::new, |tokenizer| tokenizer.decode_token(id))
    }
}

/// Opens a model, shows its download if it is one of the hub that is not in the cache, and says what was let pass.
pub fn open_model(run: &RunOptions, progress: &Progress) -> Result<Model, ModelError> {
    let hub = HubSettings { watch: Some(progress.downloads()), ..HubSettings::from_env() };
    let model = Model::from_checkpoint_allowing(Checkpoint::open_with(&run.model, &hub)?, &run.allow_unknown)?;
    progress.set(0, 0);
    progress.stage("opening");
    for pattern in run.allow_unknown.iter().filter(|pattern| !model.let_pass(pattern)) {
        tracing::warn!("--allow-unknown {pattern} names nothing that is unknown in {}", model.checkpoint().name());
    }
    if !model.passed().is_empty() {
        tracing::warn!("{} is computed as if it had no {}", model.checkpoint().name(), model.passed().join(", "));
    }
    Ok(model)
}

/// Shows how far an examination is.
pub fn show(progress: &Progress, step: examination::Progress) {
    match step {
        examination::Progress::Stage(what) => progress.stage(what),
        examination::Progress::Steps(done, total) => progress.set(done, total),
    }
}

/// The model's tokeniser, if it has one. Token ids need none, so there one that cannot be read only costs their texts.
fn tokenizer(model: &Model, options: &TextArguments) -> Result<Option<Tokenizer>, SourceError> {
    let checkpoint = model.checkpoint();
    match Tokenizer::from_metadata(checkpoint.metadata(), checkpoint.path()) {
        Err(error @ SourceError::Unsupported { .. }) if options.tokens.is_some() => {
            tracing::warn!("token texts are left out: {error}");
            Ok(None)
        }
        tokenizer => tokenizer,
    }
}

/// What is wanted of a text. Conversations need the template of a model, and are left out.
pub fn text_request(options: &TextArguments) -> TextRequest<'_> {
    TextRequest {
        text: options.text.as_deref(),
        field: options.text_field.as_deref(),
        tokens: options.tokens.as_deref(),
        chat: None,
        seq_len: options.seq_len,
        sequences: options.sequences,
        bos: match options.bos {
            Bos::Auto => BosPolicy::Auto,
            Bos::Always => BosPolicy::Always,
            Bos::Never => BosPolicy::Never,
        },
    }
}
