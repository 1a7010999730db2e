//! What a checkpoint calls the weights of its blocks, and which of them a name means.

use crate::blocks::Projection;
use crate::error::ModelError;
use crate::families::{Role, inventory, matches};
use crate::linear::Linear;
use crate::model::Model;

/// A tensor of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedTensor {
    /// As the checkpoint calls it, without `.weight`.
    pub name: String,
    /// Its block, from 1.
    pub block: usize,
    /// The linear layer that it holds, alone or with others; `None` if it holds another weight.
    pub projection: Option<Projection>,
}

impl NamedTensor {
    /// Whether a name means this tensor: its own name, or some of its parts between dots that stand together (`down_proj`,
    /// `layers.11.mlp`). In a part, `*` stands for anything.
    pub fn is_meant(&self, name: &str) -> bool {
        let wanted: Vec<&str> = without_weight(name).split('.').collect();
        let own: Vec<&str> = self.name.split('.').collect();
        own.windows(wanted.len()).any(|own| own.iter().zip(&wanted).all(|(own, wanted)| matches(wanted, own)))
    }
}

impl Model {
    /// The weights of all layers, in the order of blocks. Several may lie in one tensor.
    pub fn layer_tensors(&self) -> Vec<NamedTensor> {
        let tensor = |(role, layer, name): (Role, usize, String)| {
            let (feed_forward, projection) = place(role)?;
            let block = 2 * layer + 1 + usize::from(feed_forward);
            Some(NamedTensor { name: without_weight(&name).to_owned(), block, projection })
        };
        self.named_weights().filter_map(tensor).collect()
    }
}

impl Model {
    /// The tensor that holds the weight of a linear layer.
    pub fn linear_tensor(&self, block: usize, projection: Projection) -> String {
        self.weights().name(role(projection), (block - 1) / 2, self.architecture())
    }

    /// One linear layer of a block, from 1.
    ///
    /// # Errors
    /// If the block has none of the kind, or a weight is not finite.
    pub fn linear_layer(&self, block: usize, projection: Projection) -> Result<Linear<f32>, ModelError> {
        let a = self.architecture();
        let (role, layer) = (role(projection), (block - 1) / 2);
        let Some(slot) = inventory(a).into_iter().find(|slot| (slot.role, slot.layer) == (role, layer)) else {
            return Err(ModelError::Request(format!("block {block} has no linear layer {projection:?}")));
        };
        self.weights().linear(role, layer, slot.inputs, a)
    }

    /// Writes the weights of a linear layer to where the values of its tensor keep them.
    ///
    /// # Shapes
    /// `weights`: inputs x outputs; `stored`: the tensor's.
    pub fn put_linear(&self, block: usize, projection: Projection, weights: &[f32], stored: &mut [f32]) {
        self.weights().put(role(projection), (block - 1) / 2, self.architecture(), (weights, stored));
    }
}

fn role(projection: Projection) -> Role {
    match projection {
        Projection::Query => Role::Query,
        Projection::Key => Role::Key,
        Projection::Value => Role::Value,
        Projection::AttentionOutput => Role::AttentionOutput,
        Projection::Gate => Role::Gate,
        Projection::Up => Role::Up,
        Projection::Down => Role::Down,
    }
}

fn without_weight(name: &str) -> &str {
    name.strip_suffix(".weight").unwrap_or(name)
}

/// Whether a role is of a feed-forward block, and which linear layer it is; `None` if it is of no layer.
fn place(role: Role) -> Option<(bool, Option<Projection>)> {
    Some(match role {
        Role::Embedding | Role::Positions | Role::FinalNorm | Role::Head => return None,
        Role::Query => (false, Some(Projection::Query)),
        Role::Key => (false, Some(Projection::Key)),
        Role::Value => (false, Some(Projection::Value)),
        Role::AttentionOutput => (false, Some(Projection::AttentionOutput)),
        Role::AttentionInputNorm
        | Role::QueryNorm
        | Role::KeyNorm
        | Role::SinkLogit
        | Role::BiasKey
        | Role::BiasValue
        | Role::AttentionGate
        | Role::AttentionOutputNorm => (false, None),
        Role::Gate => (true, Some(Projection::Gate)),
        Role::Up => (true, Some(Projection::Up)),
        Role::Down => (true, Some(Projection::Down)),
        Role::FeedForwardInputNorm | Role::FeedForwardOutputNorm => (true, None),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_means_the_tensors_whose_parts_it_names() {
        let tensor =
            NamedTensor { name: "model.layers.11.mlp.down_proj".into(), block: 24, projection: Some(Projection::Down) };
        for name in [
            "model.layers.11.mlp.down_proj",
            "model.layers.11.mlp.down_proj.weight",
            "down_proj",
            "layers.11",
            "mlp",
            "layers.*.mlp.down_*",
            "layers.1*",
        ] {
            assert!(tensor.is_meant(name), "{name}");
        }
        for name in ["layers.1", "down", "up_proj", "layers.11.down_proj", "", "model.layers.11.mlp.down_proj.more"] {
            assert!(!tensor.is_meant(name), "{name}");
        }
    }

    #[test]
    fn layers_have_the_names_of_their_checkpoint() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/families/");
        for (family, down, query) in [
            ("llama", "model.layers.1.mlp.down_proj", "model.layers.0.self_attn.q_proj"),
            ("gpt2", "transformer.h.1.mlp.c_proj", "transformer.h.0.attn.c_attn"),
        ] {
            let model = Model::open(&format!("{folder}{family}")).expect("a fixture");
            let tensors = model.layer_tensors();
            let find = |block, projection| {
                let found =
                    tensors.iter().find(|tensor| tensor.block == block && tensor.projection == Some(projection));
                found.map(|tensor| tensor.name.as_str())
            };
            assert_eq!((find(4, Projection::Down), find(1, Projection::Query)), (Some(down), Some(query)), "{family}");
        }
    }
}
