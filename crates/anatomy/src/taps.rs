//! The taps of the first pass of an examination, and how what they saw becomes one result.

use sinkscope_model::Model;
use sinkscope_model::pass::ErasedTap;
use sinkscope_sources::data::TokenBatch;

use crate::error::AnatomyError;
use crate::examination::AnatomyRequest;
use crate::head_room::head_room;
use crate::lifecycle::lifecycle;
use crate::nll::NllTap;
use crate::not_finite::{FiniteTap, first};
use crate::regularities::regularities;
use crate::residual::{ResidualTap, StageSearch};
use crate::results::Anatomy;
use crate::sinks::SinkTap;
use crate::spikes::look::StageLook;
use crate::spikes::outline::StageOutline;
use crate::spikes::spikes;
use crate::spikes::stage::StageValues;
use crate::token_page::TokenPageTap;
use crate::tokens::Tokens;

/// The sizes of a model that the taps depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelSize {
    /// Layers, L.
    pub layers: usize,
    /// Query heads per layer.
    pub heads: usize,
    /// Width of the residual.
    pub d_model: usize,
    /// Learned tokens before every sequence.
    pub registers: usize,
}

impl ModelSize {
    /// That of a model.
    pub fn of(model: &Model) -> Self {
        let a = model.architecture();
        Self { layers: a.layer_count(), heads: a.most_heads(), d_model: a.d_model, registers: a.registers }
    }
}

/// The taps of an examination; those not asked for are absent.
#[derive(Debug)]
pub struct AnatomyTaps {
    /// For what is not finite, where no other tap looks at residuals.
    pub finite: Option<FiniteTap>,
    /// For life cycle and spikes.
    pub residual: Option<ResidualTap>,
    /// For sinks.
    pub sinks: Option<SinkTap>,
    /// For the negative log-likelihood.
    pub nll: Option<NllTap>,
    /// For the text itself.
    pub page: Option<TokenPageTap>,
    request: AnatomyRequest,
    d_model: usize,
}

/// What a pass led to.
#[derive(Debug)]
pub enum Finished {
    /// The result.
    Complete(Box<Anatomy>),
    /// Some values of the stages were not recorded, as can happen when the batch is processed in several groups.
    SecondLook(Box<SecondLook>),
}

/// All but the stages' values: run the pass over the same batch once more with [`Self::tap`], then call
/// [`Self::finish`].
#[derive(Debug)]
pub struct SecondLook {
    /// The only tap of that pass.
    pub tap: StageLook,
    residual: ResidualTap,
    rest: Anatomy,
    request: AnatomyRequest,
    d_model: usize,
}

impl AnatomyTaps {
    /// The taps for `request` on a model of this size and this batch.
    pub fn new(request: &AnatomyRequest, size: ModelSize, batch: &TokenBatch) -> Self {
        let (sequences, seq_len) = (batch.sequences, batch.seq_len);
        let residual = || ResidualTap::new(size.layers, sequences, seq_len, request.spike_ratio);
        let residual = (request.lifecycle || request.spikes).then(residual);
        let unwatched = residual.is_none() && (request.sinks || request.nll || request.tokens);
        Self {
            finite: unwatched.then(|| FiniteTap::new(size.layers)),
            residual,
            sinks: request.sinks.then(|| {
                let tap = SinkTap::new(size.layers, size.heads, sequences, seq_len);
                tap.with_tokens(request.definition, request.epsilon)
            }),
            nll: request.nll.then(|| NllTap::new(size.layers, size.registers, sequences)),
            page: request.tokens.then(|| TokenPageTap::new(size.layers, size.heads, sequences, seq_len)),
            request: request.clone(),
            d_model: size.d_model,
        }
    }

    /// Those that are there, for a pass.
    pub fn active(&mut self) -> Vec<&mut dyn ErasedTap> {
        let Self { finite, residual, sinks, nll, page, .. } = self;
        let mut active: Vec<&mut dyn ErasedTap> = Vec::new();
        active.extend(finite.as_mut().map(|tap| tap as &mut dyn ErasedTap));
        active.extend(residual.as_mut().map(|tap| tap as &mut dyn ErasedTap));
        active.extend(sinks.as_mut().map(|tap| tap as &mut dyn ErasedTap));
        active.extend(nll.as_mut().map(|tap| tap as &mut dyn ErasedTap));
        active.extend(page.as_mut().map(|tap| tap as &mut dyn ErasedTap));
        active
    }

    /// Puts the result together; `text` gives the text of a token id, empty if there is no tokeniser.
    ///
    /// # Errors
    /// [`AnatomyError::NotFinite`] if a residual or a log-likelihood is infinite or undefined.
    pub fn finish(self, batch: &TokenBatch, text: &dyn Fn(u32) -> String) -> Result<Finished, AnatomyError> {
        let Self { finite, residual, sinks, nll, page, request, d_model } = self;
        let in_residual = residual.as_ref().and_then(ResidualTap::not_finite).or(finite.and_then(|tap| tap.not_finite));
        let in_prediction = nll.as_ref().and_then(NllTap::not_finite);
        if let Some(found) = first(in_residual, in_prediction) {
            return Err(AnatomyError::NotFinite(found.named(Tokens::new(batch, text))));
        }
        let mut anatomy = Anatomy {
            sinks: sinks.map(|tap| tap.finish(request.definition, request.epsilon, request.seed)),
            perplexity: nll.as_ref().and_then(NllTap::perplexity),
            nll: nll.as_ref().and_then(NllTap::nll),
            predicted_tokens: nll.as_ref().map(NllTap::predicted_tokens),
            tokens: page.map(|tap| tap.finish(Tokens::new(batch, text))),
            ..Anatomy::default()
        };
        let Some(residual) = residual else { return Ok(Finished::Complete(Box::new(anatomy))) };
        match residual.stages() {
            StageSearch::Found(stages) => {
                add_residual(&mut anatomy, &residual, &stages, &request, d_model, Tokens::new(batch, text));
                Ok(Finished::Complete(Box::new(anatomy)))
            }
            StageSearch::SecondLook(tap) => {
                Ok(Finished::SecondLook(Box::new(SecondLook { tap, residual, rest: anatomy, request, d_model })))
            }
        }
    }
}

impl SecondLook {
    /// Puts the result together after the second pass.
    pub fn finish(self, batch: &TokenBatch, text: &dyn Fn(u32) -> String) -> Anatomy {
        let Self { tap, residual, rest: mut anatomy, request, d_model } = self;
        add_residual(&mut anatomy, &residual, &tap.finish(), &request, d_model, Tokens::new(batch, text));
        anatomy
    }
}

fn add_residual(
    anatomy: &mut Anatomy,
    residual: &ResidualTap,
    stages: &[(StageOutline, StageValues)],
    request: &AnatomyRequest,
    d_model: usize,
    tokens: Tokens<'_>,
) {
    let spikes = spikes(residual, stages, tokens);
    anatomy.lifecycle = request.lifecycle.then(|| lifecycle(residual, &spikes.stages, tokens));
    let verdicts = || regularities(residual, spikes.stages.first(), tokens.seq_len(), d_model);
    anatomy.fp16 = Some(head_room(residual, tokens));
    anatomy.regularities = request.spikes.then(verdicts);
    anatomy.spikes = request.spikes.then_some(spikes);
}
