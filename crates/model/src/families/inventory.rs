//! Which weights an architecture has, in one fixed order.

use super::naming::Role;
use crate::architecture::{Architecture, FeedForwardKind, GateSignal, PositionEncoding, QkNorm, Weighting};

/// One weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub role: Role,
    pub layer: usize,
    /// Width of what goes in; 1 for a vector.
    pub inputs: usize,
}

/// Every weight, biases aside.
pub(crate) fn inventory(a: &Architecture) -> Vec<Place> {
    let d = a.d_model;
    let mut places = vec![(Role::Embedding, 0, d)];
    if a.norm_placement.has_final_norm() {
        places.push((Role::FinalNorm, 0, 1));
    }
    if a.position == PositionEncoding::Learned {
        places.push((Role::Positions, 0, d));
    }
    if !a.tied_embeddings {
        places.push((Role::Head, 0, d));
    }
    let after = a.norm_placement.has_output_norm();
    let hidden = a.feed_forward.kind == FeedForwardKind::TwoLayer;
    let present = a.feed_forward.kind != FeedForwardKind::Absent;
    let qk_norm = a.qk_norm != QkNorm::None;
    for layer in 0..a.layers.len() {
        let roles = [
            (Role::AttentionInputNorm, 1, a.norm_placement.on_input(true)),
            (Role::Query, d, true),
            (Role::Key, d, true),
            (Role::Value, d, true),
            (Role::QueryNorm, 1, qk_norm),
            (Role::KeyNorm, 1, qk_norm),
            (Role::SinkLogit, 1, a.weighting == Weighting::SinkLogit),
            (Role::BiasKey, 1, a.key_value_bias),
            (Role::BiasValue, 1, a.key_value_bias),
            (Role::AttentionGate, a.gate.map_or(0, |gate| gate_inputs(a, gate.signal)), a.gate.is_some()),
            (Role::AttentionOutput, a.query_width(), true),
            (Role::AttentionOutputNorm, 1, after),
            (Role::FeedForwardInputNorm, 1, present && a.norm_placement.on_input(false)),
            (Role::Gate, d, hidden),
            (Role::Up, d, hidden && a.feed_forward.gated),
            (Role::Down, down_inputs(a), present),
            (Role::FeedForwardOutputNorm, 1, present && after),
        ];
        let here = roles.into_iter().filter(|(_, _, there)| *there);
        places.extend(here.map(|(role, inputs, _)| (role, layer, inputs)));
    }
    places.into_iter().map(|(role, layer, inputs)| Place { role, layer, inputs }).collect()
}

/// What the last matrix of a feed-forward block reads: hidden units, or the residual if it is the only one.
pub(crate) fn down_inputs(a: &Architecture) -> usize {
    if a.feed_forward.kind == FeedForwardKind::TwoLayer { a.d_ffn } else { a.d_model }
}

/// Width of a gate's signal: a position is one of as many as there are.
pub(crate) fn gate_inputs(a: &Architecture, signal: GateSignal) -> usize {
    match signal {
        GateSignal::Input | GateSignal::Embedding => a.d_model,
        GateSignal::Free => 1,
        GateSignal::Position => a.max_positions,
    }
}
