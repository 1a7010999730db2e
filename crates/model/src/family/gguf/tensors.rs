//! Tensors that nothing uses: leftovers that say nothing, and others, by which a file is refused.

use std::collections::BTreeSet;
use std::path::Path;

use super::rope::{DIVISORS, FACTORS};
use crate::architecture::{Architecture, NormKind, PositionEncoding, RopeScaling};
use crate::checkpoint::{Checkpoint, Tensor};
use crate::error::ModelError;
use crate::family::{Identity, Naming, Role, inventory};

/// Why a tensor may lie in a file without being used.
pub(super) fn leftover(name: &str) -> Option<&'static str> {
    let (outer, inner) = in_block(name).map_or((name, None), |(_, rest)| ("", Some(rest)));
    match (outer, inner) {
        (_, Some("attn_rot_embd.weight")) => Some("rotary frequencies, which follow from the keys"),
        ("cls.weight" | "cls.bias" | "cls.output.weight" | "cls.output.bias", None) => {
            Some("a head that scores documents, behind the last norm")
        }
        _ => None,
    }
}

/// Refuses a file with tensors that nothing uses and that are not known to say nothing.
pub(super) fn refuse_unused(identity: &Identity, checkpoint: &Checkpoint, path: &Path) -> Result<(), ModelError> {
    let used = used(&identity.architecture, &identity.naming);
    let unused = checkpoint.tensors().map(Tensor::name).find(|name| !used.contains(*name) && leftover(name).is_none());
    match unused {
        None => Ok(()),
        Some(name) => Err(ModelError::tensor(path, name, meaning(name, &identity.architecture))),
    }
}

/// The names of all tensors that the architecture reaches.
fn used(a: &Architecture, naming: &Naming) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    for place in inventory(a) {
        used.insert(naming.weight(place.role, place.layer, a).tensor);
        let biased = match place.role {
            Role::Embedding | Role::Positions => false,
            role if role.is_norm() => a.norm == NormKind::LayerNorm,
            _ => true,
        };
        if biased {
            used.insert(naming.bias(place.role, place.layer, a).tensor);
        }
    }
    let PositionEncoding::Rotary(ropes) = &a.position else { return used };
    for rope in ropes {
        match rope.scaling {
            RopeScaling::Divisors { .. } => used.extend([DIVISORS.to_owned()]),
            RopeScaling::LongRope { .. } => used.extend(FACTORS.map(str::to_owned)),
            _ => {}
        }
    }
    used
}

/// What an unused tensor means.
fn meaning(name: &str, a: &Architecture) -> String {
    let what = match in_block(name) {
        Some((block, _)) if block >= a.layers.len() => {
            return format!("is of block {block}, and key `{}.block_count` is {}", a.family, a.layers.len());
        }
        Some((_, rest)) => match rest {
            _ if is_of_experts(rest) => "is of a mixture of experts; only dense feed-forward blocks are supported",
            _ if rest.contains("_sub_norm.") => "is a norm inside a block, as BitNet has it; it is not supported",
            _ if rest.ends_with(".scale") || rest.ends_with(".input_scale") => {
                "is a scale beside its weight; scales are supported within the stored types only"
            }
            _ => "",
        },
        None => "",
    };
    match what {
        "" if name.contains(".lora_") => "is of an adapter (LoRA); merge it into its model first".to_owned(),
        "" => format!("is used by nothing in the architecture {}", a.family),
        what => what.to_owned(),
    }
}

/// Routers and stacked experts, or those of the first mixtures, one tensor an expert.
fn is_of_experts(rest: &str) -> bool {
    let numbered = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    ["ffn_gate_inp", "_exps.", "_shexp.", "exp_probs"].iter().any(|part| rest.contains(part))
        || matches!(rest.split('.').collect::<Vec<_>>()[..], [_, expert, "weight"] if numbered(expert))
}

/// The block of a tensor's name, and what follows it.
fn in_block(name: &str) -> Option<(usize, &str)> {
    let (block, rest) = name.strip_prefix("blk.")?.split_once('.')?;
    Some((block.parse().ok()?, rest))
}
