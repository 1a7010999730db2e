//! Which weights an architecture has, in one fixed order.

use super::naming::Role;
use crate::architecture::{Architecture, GateSignal, QkNorm, Weighting};

/// A weight that an architecture has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot {
    pub role: Role,
    pub layer: usize,
    /// Width of what goes in; 1 for a vector.
    pub inputs: usize,
}

/// Every weight, biases aside.
pub(crate) fn inventory(a: &Architecture) -> Vec<Slot> {
    let d = a.d_model;
    let mut slots = vec![(Role::Embedding, 0, d)];
    if a.final_norm {
        slots.push((Role::FinalNorm, 0, 1));
    }
    if a.learned_positions {
        slots.push((Role::Positions, 0, d));
    }
    if !a.tied_embeddings {
        slots.push((Role::Head, 0, d));
    }
    for (index, layer) in a.layers().enumerate() {
        let (attention, feed_forward) = (layer.mixer.attention(), layer.feed_forward);
        let after = layer.norm_placement.has_output_norm();
        let (hidden, present) = (feed_forward.dense(), feed_forward.writes());
        let qk_norm = attention.qk_norm != QkNorm::None;
        let roles = [
            (Role::AttentionInputNorm, 1, layer.norm_placement.on_input(true)),
            (Role::Query, d, true),
            (Role::Key, d, true),
            (Role::Value, d, true),
            (Role::QueryNorm, 1, qk_norm),
            (Role::KeyNorm, 1, qk_norm),
            (Role::SinkLogit, 1, attention.weighting == Weighting::SinkLogit),
            (Role::BiasKey, 1, attention.key_value_bias),
            (Role::BiasValue, 1, attention.key_value_bias),
            (
                Role::AttentionGate,
                attention.gate.map_or(0, |gate| gate_inputs(a, gate.signal)),
                attention.gate.is_some(),
            ),
            (Role::AttentionOutput, attention.output_width(), true),
            (Role::AttentionOutputNorm, 1, after),
            (Role::FeedForwardInputNorm, 1, present && layer.norm_placement.on_input(false)),
            (Role::Gate, d, hidden.is_some()),
            (Role::Up, d, hidden.is_some_and(|dense| dense.gated)),
            (Role::Down, feed_forward.down_inputs(d), present),
            (Role::FeedForwardOutputNorm, 1, present && after),
        ];
        let here = roles.into_iter().filter(|(_, _, there)| *there);
        slots.extend(here.map(|(role, inputs, _)| (role, index, inputs)));
    }
    slots.into_iter().map(|(role, layer, inputs)| Slot { role, layer, inputs }).collect()
}

/// Width of a gate's signal: a position is one of as many as there are.
pub(crate) fn gate_inputs(a: &Architecture, signal: GateSignal) -> usize {
    match signal {
        GateSignal::Input | GateSignal::Embedding => a.d_model,
        GateSignal::Free => 1,
        GateSignal::Position => a.max_positions,
    }
}
