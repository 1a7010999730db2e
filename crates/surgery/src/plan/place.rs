//! Which blocks and linear layers of this model the places of an operation are.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use sinkscope_model::blocks::Projection;
use sinkscope_model::names::NamedTensor;

use super::{Planner, wrong};
use crate::error::SurgeryError;
use crate::operation::{Kind, Operation, Place, WhichLayers};
use crate::quantise::{Chosen, name};

/// What names of Hugging Face models call projections, whatever the checkpoint calls them.
const COMMON_NAMES: [(Projection, &str); 7] = [
    (Projection::Query, "q_proj"),
    (Projection::Key, "k_proj"),
    (Projection::Value, "v_proj"),
    (Projection::AttentionOutput, "o_proj"),
    (Projection::Gate, "gate_proj"),
    (Projection::Up, "up_proj"),
    (Projection::Down, "down_proj"),
];

/// Whether a name means a linear layer: by its projection, or by its tensor.
fn is_meant(tensor: &NamedTensor, projection: Projection, wanted: &str) -> bool {
    let common = COMMON_NAMES.iter().any(|(of, common)| *of == projection && *common == wanted);
    common || name(projection) == wanted || tensor.is_meant(wanted)
}

impl Planner<'_> {
    /// The blocks of places, ascending; `of_layer` says which of a layer's two blocks are meant where a layer is named.
    ///
    /// # Errors
    /// [`SurgeryError::Operation`] of a place that does not exist.
    pub(crate) fn blocks(
        &self,
        operation: &Operation,
        places: &[Place],
        of_layer: fn(usize) -> RangeInclusive<usize>,
    ) -> Result<Vec<usize>, SurgeryError> {
        let a = self.model.architecture();
        let mut blocks = Vec::new();
        for place in places {
            match place {
                Place::Blocks(range) if *range.end() > a.blocks() => {
                    // Only the residual has a block 0: the embedding.
                    let first = usize::from(!matches!(operation.kind, Kind::Spikes { .. }));
                    let reason = format!("block {} does not exist: there are {first} to {}", range.end(), a.blocks());
                    return Err(wrong(operation, reason));
                }
                Place::Blocks(range) => blocks.extend(range.clone()),
                Place::Layers(range) if *range.end() >= a.layer_count() => {
                    let last = a.layer_count() - 1;
                    let reason = format!("layer {} does not exist: there are 0 to {last}", range.end());
                    return Err(wrong(operation, reason));
                }
                Place::Layers(range) => blocks.extend(range.clone().flat_map(of_layer)),
                Place::Name(name) => {
                    let tensors = self.model.layer_tensors();
                    let meant: Vec<usize> =
                        tensors.iter().filter(|tensor| tensor.is_meant(name)).map(|tensor| tensor.block).collect();
                    if meant.is_empty() {
                        return Err(wrong(operation, unnamed(name, &tensors)));
                    }
                    blocks.extend(meant);
                }
            }
        }
        blocks.sort_unstable();
        blocks.dedup();
        Ok(blocks)
    }

    /// The linear layers that are chosen.
    ///
    /// # Errors
    /// [`SurgeryError::Operation`] of a place or a name that does not exist, or if no layer is left.
    pub(crate) fn layers(&self, operation: &Operation, which: &WhichLayers) -> Result<Chosen, SurgeryError> {
        let tensors = self.model.layer_tensors();
        let mut chosen: Vec<(&NamedTensor, Projection)> =
            tensors.iter().filter_map(|tensor| Some((tensor, tensor.projection?))).collect();
        if let Some(places) = &which.places {
            let blocks = self.blocks(operation, places, both)?;
            if blocks.contains(&0) {
                let reason = format!("block 0 does not exist: there are 1 to {}", self.model.architecture().blocks());
                return Err(wrong(operation, reason));
            }
            chosen.retain(|(tensor, _)| blocks.contains(&tensor.block));
        }
        for (places, stay) in [(&which.only, true), (&which.except, false)] {
            let Some(places) = places else { continue };
            let named = self.named(operation, places, &tensors)?;
            chosen.retain(|(tensor, projection)| named.contains(&(tensor.block, *projection)) == stay);
        }
        if chosen.is_empty() {
            return Err(wrong(operation, "no linear layer is left to quantise".to_owned()));
        }
        Ok(chosen.into_iter().map(|(tensor, projection)| ((tensor.block, projection), tensor.name.clone())).collect())
    }

    /// The linear layers that names mean.
    fn named(
        &self,
        operation: &Operation,
        places: &[Place],
        tensors: &[NamedTensor],
    ) -> Result<BTreeSet<(usize, Projection)>, SurgeryError> {
        let mut named = BTreeSet::new();
        for place in places {
            let found: Vec<(usize, Projection)> = if let Place::Name(wanted) = place {
                let layers = tensors.iter().filter_map(|tensor| Some((tensor, tensor.projection?)));
                let meant = layers.filter(|(tensor, projection)| is_meant(tensor, *projection, wanted));
                meant.map(|(tensor, projection)| (tensor.block, projection)).collect()
            } else {
                let blocks = self.blocks(operation, std::slice::from_ref(place), both)?;
                let here = tensors.iter().filter(|tensor| blocks.contains(&tensor.block));
                here.filter_map(|tensor| Some((tensor.block, tensor.projection?))).collect()
            };
            if found.is_empty() {
                let reason = match place {
                    Place::Name(wanted) => unnamed(wanted, tensors),
                    Place::Blocks(range) => format!("block {} has no linear layers", range.start()),
                    Place::Layers(range) => format!("layer {} has no linear layers", range.start()),
                };
                return Err(wrong(operation, reason));
            }
            named.extend(found);
        }
        Ok(named)
    }
}

/// Both blocks of a layer.
pub(super) fn both(layer: usize) -> RangeInclusive<usize> {
    2 * layer + 1..=2 * layer + 2
}

/// The attention block of a layer.
pub(super) fn attention(layer: usize) -> RangeInclusive<usize> {
    2 * layer + 1..=2 * layer + 1
}

/// The last block of a layer, after which the layer is done.
pub(crate) fn last(layer: usize) -> RangeInclusive<usize> {
    2 * layer + 2..=2 * layer + 2
}

fn unnamed(name: &str, tensors: &[NamedTensor]) -> String {
    let example = tensors.iter().rev().find(|tensor| tensor.projection.is_some());
    let example = example.map_or("down", |tensor| tensor.name.as_str());
    format!(
        "{name:?} names no tensor of a layer; give a projection (query, key, value, attention-output, gate, up, down) or \
             a tensor, or a part of its name, such as {example}"
    )
}
