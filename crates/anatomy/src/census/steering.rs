//! What can reach a trigger: tokens at position 0, which see only themselves, walked through the model.
//!
//! At position 0 attention is the static linear map of eq. 22. A sample of the vocabulary is walked through the model
//! twice: as it is, and through attention alone, each feed-forward block left out. No text is involved; what comes out
//! is a property of the weights.

use std::collections::BTreeMap;

use rand::SeedableRng;
use rand::seq::index;
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinkscope_model::architecture::{NormKind, ResidualLayout};
use sinkscope_model::blocks::{AttentionBlock, RopeTables, Unseen, read};
use sinkscope_model::pass::{Continuations, Step, embed_tokens};
use sinkscope_model::{Model, ModelError};

use super::CensusRequest;
use crate::error::AnatomyError;
use crate::magnitude::largest_magnitude;
use crate::median::median;
use crate::not_finite::check_step;
use crate::wide::{dot_f64, mean, norm_f64};

/// Vocabulary items that are walked.
pub const SAMPLE: usize = 256;

/// How attention turns first tokens towards a trigger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Steering {
    /// The feed-forward block whose trigger it is.
    pub block: usize,
    /// Its channel.
    pub channel: usize,
    /// Number of vocabulary items.
    pub sample: usize,
    /// Mean absolute cosine of the embedding to the trigger.
    pub embedding: f64,
    /// Every layer up to the block's.
    pub layers: Vec<SteeringLayer>,
}

/// One layer's part. Cosines are means over the sample of the absolute cosine of the residual to the trigger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SteeringLayer {
    /// Layer.
    pub layer: usize,
    /// After the attention block.
    pub after_attention: f64,
    /// After the feed-forward block; `None` in the trigger's own layer.
    pub after_feed_forward: Option<f64>,
    /// After the attention block when all feed-forward blocks are left out.
    pub attention_alone: f64,
    /// By head: mean over the sample of what it adds along the trigger, as a share of the length of the residual it is
    /// added to; positive towards the side on which the residual ends up.
    pub heads: Vec<f64>,
}

/// A trigger that walks are compared with.
#[derive(Debug, Clone)]
pub struct Trigger {
    /// Feed-forward block.
    pub block: usize,
    /// Channel.
    pub channel: usize,
    /// s*, of length 1.
    pub direction: Vec<f64>,
}

/// By block and channel: mean over the sample of `(s* . x)^2`, x the normalised input of the block.
pub type Reach = BTreeMap<(usize, usize), f64>;

/// What first tokens reach: as the model is, and through attention alone.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reached {
    /// Through all blocks.
    pub walk: Reach,
    /// Through attention alone.
    pub attention_alone: Reach,
    /// By block: the median over the sample of the largest magnitude in the residual that the block reads.
    pub typical: BTreeMap<usize, f64>,
}

/// The tokens that are walked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirstTokens {
    /// What texts begin with, if it is always the same, and a sample of the vocabulary, ascending.
    ids: Vec<u32>,
    /// How many of them stand for first tokens: the one, or all.
    count: usize,
}

impl FirstTokens {
    /// Of a model.
    pub fn new(model: &Model, request: &CensusRequest) -> Self {
        let vocabulary = model.architecture().vocabulary;
        let mut random = ChaCha8Rng::seed_from_u64(request.seed);
        let mut sample = index::sample(&mut random, vocabulary, SAMPLE.min(vocabulary)).into_vec();
        sample.sort_unstable();
        let ids: Vec<u32> = request.first.into_iter().chain(sample.into_iter().map(|id| id as u32)).collect();
        Self { count: request.first.map_or(ids.len(), |_| 1), ids }
    }

    /// Those that stand for first tokens.
    pub fn first(&self) -> &[u32] {
        &self.ids[..self.count]
    }
}

/// Walks first tokens through the model and measures how far they reach along every trigger, and how far all tokens do.
///
/// # Errors
/// If a weight is not finite, or a residual comes out infinite or undefined.
pub fn reach(model: &Model, tokens: &FirstTokens, triggers: &[Trigger]) -> Result<Reached, AnatomyError> {
    let mut reached = Reached::default();
    let Some(last) = triggers.iter().map(|trigger| trigger.block).max() else { return Ok(reached) };
    let source = |trigger: &Trigger| input_of(model, trigger.block);
    let alphas = alphas(model, triggers)?;
    let of_first = tokens.count * model.architecture().d_model;
    walk(model, &tokens.ids, last, &mut |block, residual| {
        for trigger in triggers.iter().filter(|trigger| source(trigger) == block) {
            let reach = mean_square(model, &residual[..of_first], trigger, &alphas);
            reached.walk.insert((trigger.block, trigger.channel), reach);
            reached.typical.entry(trigger.block).or_insert_with(|| typical_largest(model, residual));
        }
    })?;
    attention_alone(model, tokens.first(), last, &mut |_, block, residual| {
        for trigger in triggers.iter().filter(|trigger| source(trigger) == block) {
            let reach = mean_square(model, residual, trigger, &alphas);
            reached.attention_alone.insert((trigger.block, trigger.channel), reach);
        }
    })?;
    Ok(reached)
}

/// How attention turns `ids` towards a trigger, layer by layer and head by head.
///
/// # Errors
/// If a weight is not finite, or a residual comes out infinite or undefined.
pub fn steering(model: &Model, ids: &[u32], trigger: &Trigger) -> Result<Steering, AnatomyError> {
    let a = model.architecture();
    let d = a.d_model;
    let s: Vec<f32> = trigger.direction.iter().map(|&entry| entry as f32).collect();
    let last = trigger.block - 1;
    let mut cosines = Vec::new();
    let mut heads = Vec::new();
    let embedding = embed_tokens(model, ids)?;
    let mut before: Vec<f32> = Vec::new();
    let mut failure = None;
    let mut signs = vec![1.0; ids.len()];
    walk(model, ids, last, &mut |block, residual| {
        cosines.push(mean_absolute_cosine(model, residual, &trigger.direction));
        if !block.is_multiple_of(2) {
            match head_contributions(model, (block - 1) / 2, &before, &embedding, &s) {
                Ok(contributions) => heads.push(contributions),
                Err(error) => failure = Some(error),
            }
        }
        before.clear();
        before.extend_from_slice(residual);
    })?;
    if let Some(error) = failure {
        return Err(error.into());
    }
    // Towards the side of the trigger on which each token ends up: s* and -s* are the same trigger.
    for (sign, row) in signs.iter_mut().zip(before.chunks_exact(d)) {
        *sign = if dot_f64(row, &trigger.direction) < 0.0 { -1.0 } else { 1.0 };
    }
    let mut alone = Vec::new();
    attention_alone(model, ids, trigger.block, &mut |attention, _, residual| {
        if attention {
            alone.push(mean_absolute_cosine(model, residual, &trigger.direction));
        }
    })?;
    let layers = heads.into_iter().enumerate().map(|(layer, heads): (usize, Vec<Vec<f64>>)| SteeringLayer {
        layer,
        after_attention: cosines[2 * layer + 1],
        after_feed_forward: cosines.get(2 * layer + 2).copied(),
        attention_alone: alone[layer],
        heads: heads.iter().map(|tokens| dot_f64(tokens, &signs) / ids.len() as f64).collect(),
    });
    Ok(Steering {
        block: trigger.block,
        channel: trigger.channel,
        sample: ids.len(),
        embedding: cosines[0],
        layers: layers.collect(),
    })
}

/// The block after which the residual is what feed-forward block `block` reads.
fn input_of(model: &Model, block: usize) -> usize {
    match model.architecture().layer(block / 2 - 1).residual {
        ResidualLayout::Sequential => block - 1,
        ResidualLayout::Parallel => block - 2,
    }
}

/// Shows the residual of all of `ids`, alone at position 0, before block 1 and after every block up to `last`.
fn walk(model: &Model, ids: &[u32], last: usize, show: &mut dyn FnMut(usize, &[f32])) -> Result<(), AnatomyError> {
    let mut finite = Ok(());
    // The sample is one group, whatever the memory: it is small.
    Continuations::new(model, &[], u64::MAX).run(ids, last, &mut |step: &Step<'_>| {
        if finite.is_ok() {
            finite = check_step(step, ids, 0, &|_| String::new());
        }
        show(step.block, step.residual);
    })?;
    finite
}

/// The same without feed-forward blocks. Shows whether attention has just been added, the block, and the residual.
fn attention_alone(
    model: &Model,
    ids: &[u32],
    last: usize,
    show: &mut dyn FnMut(bool, usize, &[f32]),
) -> Result<(), AnatomyError> {
    let mut residual = Vec::new();
    walk(model, ids, 0, &mut |_, embedding| residual = embedding.to_vec())?;
    show(false, 0, &residual);
    let embedding = embed_tokens(model, ids)?;
    for layer in 0..last.div_ceil(2) {
        let attention = model.attention_block(layer)?;
        let heads = attend(model, layer, &attention, &residual, &embedding);
        let mut out = vec![0.0; residual.len()];
        attention.output(&heads, &mut out, &mut residual, None, &mut Unseen);
        let step = Step { block: 2 * layer + 1, candidates: 0..ids.len(), residual: &residual };
        check_step(&step, ids, 0, &|_| String::new())?;
        show(true, 2 * layer + 1, &residual);
        show(false, 2 * layer + 2, &residual);
    }
    Ok(())
}

/// The heads' outputs for tokens at position 0 (rows x heads * head_dim). `embedding`: of the tokens, without positions.
fn attend(model: &Model, layer: usize, block: &AttentionBlock<f32>, residual: &[f32], embedding: &[f32]) -> Vec<f32> {
    let a = model.architecture();
    let (ropes, mut input) = (RopeTables::new(a, 1), vec![0.0; residual.len()]);
    read(block.input_norm.as_ref(), residual, &mut input, &mut Unseen);
    block.attend_after((&[], &[]), (ropes.of(layer), embedding), &input, residual)
}

/// By head and token: what the head adds along `s`, as a share of the residual's length. Before any output norm.
fn head_contributions(
    model: &Model,
    layer: usize,
    residual: &[f32],
    embedding: &[f32],
    s: &[f32],
) -> Result<Vec<Vec<f64>>, ModelError> {
    let a = model.architecture();
    let attention = a.attention(layer);
    let block = model.attention_block(layer)?;
    let heads = attend(model, layer, &block, residual, embedding);
    // W_O s: what a unit of each head's output adds along s.
    let along: Vec<f64> = block.output.weight().to_vec().chunks_exact(a.d_model).map(|row| dot_f64(row, s)).collect();
    let share = |head: usize, token: usize| {
        let own = head * attention.value_dim..(head + 1) * attention.value_dim;
        let added = dot_f64(&heads[token * attention.output_width()..][own.clone()], &along[own]);
        let row = &residual[token * a.d_model..(token + 1) * a.d_model];
        added / norm_f64(row).max(f64::MIN_POSITIVE)
    };
    let tokens = residual.len() / a.d_model;
    Ok((0..attention.heads).map(|head| (0..tokens).map(|token| share(head, token)).collect()).collect())
}

/// By block of a trigger: the alpha of the dynamic tanh that it reads through, if it does.
type Alphas = BTreeMap<usize, f32>;

fn alphas(model: &Model, triggers: &[Trigger]) -> Result<Alphas, ModelError> {
    let mut alphas = Alphas::new();
    for trigger in triggers {
        if let Some(alpha) = model.input_norm::<f32>(trigger.block)?.and_then(|norm| norm.alpha) {
            alphas.insert(trigger.block, alpha);
        }
    }
    Ok(alphas)
}

/// Mean over rows of `(s . x)^2`, x the input that a feed-forward block makes of the row, without gamma.
fn mean_square(model: &Model, residual: &[f32], trigger: &Trigger, alphas: &Alphas) -> f64 {
    let (a, s) = (model.architecture(), &trigger.direction);
    let square = |row: &[f32]| match alphas.get(&trigger.block) {
        _ if !a.layer(trigger.block / 2 - 1).norm_placement.on_input(false) => dot_f64(row, s).powi(2),
        Some(alpha) => row.iter().zip(s).map(|(&h, s)| f64::from((alpha * h).tanh()) * s).sum::<f64>().powi(2),
        None => a.d_model as f64 * cosine(model, row, s).powi(2),
    };
    mean(residual.chunks_exact(a.d_model).map(square)).unwrap_or(0.0)
}

fn typical_largest(model: &Model, residual: &[f32]) -> f64 {
    let rows = residual.chunks_exact(model.architecture().d_model);
    let largest: Vec<f32> = rows.map(largest_magnitude).collect();
    median(&largest)
}

fn mean_absolute_cosine(model: &Model, residual: &[f32], s: &[f64]) -> f64 {
    let rows = residual.chunks_exact(model.architecture().d_model);
    mean(rows.map(|row| cosine(model, row, s).abs())).unwrap_or(0.0)
}

/// Cosine of a residual to s: that of the normalised input too, as normalisation only scales (a LayerNorm centres first).
fn cosine(model: &Model, row: &[f32], s: &[f64]) -> f64 {
    let mean = match model.architecture().norm {
        NormKind::RmsNorm | NormKind::DynamicTanh => 0.0,
        NormKind::LayerNorm => mean(row.iter().copied()).unwrap_or(0.0),
    };
    let (mut product, mut square) = (0.0, 0.0);
    for (&value, s) in row.iter().zip(s) {
        let value = f64::from(value) - mean;
        product += value * s;
        square += value * value;
    }
    if square > 0.0 { product / square.sqrt() } else { 0.0 }
}
