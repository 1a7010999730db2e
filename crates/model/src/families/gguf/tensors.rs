//! Tensors: how llama.cpp names them, what may be left over beside those that an architecture uses, and what files of another
//! kind hold.

use std::path::Path;

use super::rope::{DIVISORS, FACTORS};
use crate::architecture::{Architecture, RopeScaling};
use crate::error::ModelError;
use crate::families::accounting::any_matches;
use crate::families::naming::Role;
use sinkscope_sources::checkpoint::{Checkpoint, Tensor};

/// llama.cpp's names.
pub(in crate::families) fn names(role: Role) -> &'static str {
    use Role as R;
    match role {
        R::Embedding => "token_embd",
        R::Positions => "position_embd",
        R::FinalNorm => "output_norm",
        R::Head => "output",
        R::AttentionInputNorm => "blk.*.attn_norm",
        R::Query => "blk.*.attn_q",
        R::Key => "blk.*.attn_k",
        R::Value => "blk.*.attn_v",
        R::QueryNorm => "blk.*.attn_q_norm",
        R::KeyNorm => "blk.*.attn_k_norm",
        R::AttentionOutput => "blk.*.attn_output",
        R::AttentionOutputNorm => "blk.*.post_attention_norm",
        R::FeedForwardInputNorm => "blk.*.ffn_norm",
        R::Gate => "blk.*.ffn_gate",
        R::Up => "blk.*.ffn_up",
        R::Down => "blk.*.ffn_down",
        R::FeedForwardOutputNorm => "blk.*.post_ffw_norm",
        // No GGUF family has these.
        R::SinkLogit => "blk.*.attn_sinks",
        R::BiasKey => "blk.*.attn_bias_k",
        R::BiasValue => "blk.*.attn_bias_v",
        R::AttentionGate => "blk.*.attn_gate",
    }
}

/// The same with queries, keys and values in one tensor, and gate and up in another where there is a gate.
pub(in crate::families) fn fused_names(role: Role) -> &'static str {
    match role {
        Role::Query | Role::Key | Role::Value => "blk.*.attn_qkv",
        Role::Gate => names(Role::Up),
        role => names(role),
    }
}

/// Patterns of names of tensors that say nothing of the residual, and of those that [`super::rope`] has read.
pub(super) fn leftovers(a: &Architecture) -> Vec<&'static str> {
    // Rotary frequencies, which follow from the keys; heads that score documents, behind the last norm.
    let mut leftovers = vec!["blk.*.attn_rot_embd.weight", "cls.*"];
    for rope in a.kinds.iter().filter_map(|layer| layer.mixer.attention().rope()) {
        match rope.scaling {
            RopeScaling::Divisors { .. } => leftovers.push(DIVISORS),
            RopeScaling::LongRope { .. } => leftovers.extend(FACTORS),
            _ => {}
        }
    }
    leftovers
}

/// Refuses a file by a tensor whose name says what the file is. Other tensors without a place are found when the model is
/// put together.
pub(super) fn refuse_other_kinds(
    a: &Architecture,
    checkpoint: &Checkpoint,
    path: &Path,
    allowed: &[String],
) -> Result<(), ModelError> {
    let is_allowed = |name: &str| any_matches(allowed, name);
    let mut names = checkpoint.tensors().map(Tensor::name).filter(|name| !is_allowed(name));
    match names.find_map(|name| Some((name, meaning(name, a)?))) {
        Some((name, meaning)) => Err(ModelError::tensor(path, name, meaning)),
        None => Ok(()),
    }
}

fn meaning(name: &str, a: &Architecture) -> Option<String> {
    if name.contains(".lora_") {
        return Some("is of an adapter (LoRA); merge it into its model first".to_owned());
    }
    let (block, rest) = name.strip_prefix("blk.")?.split_once('.')?;
    match block.parse::<usize>() {
        Ok(block) if block >= a.layer_count() => {
            Some(format!("is of block {block}, and key `{}.block_count` is {}", a.family, a.layer_count()))
        }
        _ if is_of_experts(rest) => {
            Some("is of a mixture of experts; only dense feed-forward blocks are supported".to_owned())
        }
        _ if rest.contains("_sub_norm.") => {
            Some("is a norm inside a block, as BitNet has it; it is not supported".to_owned())
        }
        _ => None,
    }
}

/// Routers and stacked experts, or those of the first mixtures, one tensor an expert.
fn is_of_experts(rest: &str) -> bool {
    let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    ["ffn_gate_inp", "_exps.", "_shexp.", "exp_probs"].iter().any(|part| rest.contains(part))
        || matches!(rest.split('.').collect::<Vec<_>>()[..], [_, expert, "weight"] if is_number(expert))
}
