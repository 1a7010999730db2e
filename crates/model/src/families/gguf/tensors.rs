//! Tensors beside those that an architecture uses: what may be left over, and what files of another kind hold.

use std::path::Path;

use super::rope::{DIVISORS, FACTORS};
use crate::architecture::{Architecture, RopeScaling};
use crate::error::ModelError;
use crate::families::accounting::any_matches;
use sinkscope_sources::checkpoint::{Checkpoint, Tensor};

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
