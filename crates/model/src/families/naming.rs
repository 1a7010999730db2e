//! Where a family keeps each weight: the tensor's name, and which of its rows, in which order.

use crate::architecture::{Architecture, Layer, NormKind, QkNorm};

/// What a weight is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Embedding,
    Positions,
    FinalNorm,
    Head,
    AttentionInputNorm,
    Query,
    Key,
    Value,
    QueryNorm,
    KeyNorm,
    /// A score a head.
    SinkLogit,
    /// The key and the value that stand at no position.
    BiasKey,
    BiasValue,
    AttentionGate,
    AttentionOutput,
    AttentionOutputNorm,
    FeedForwardInputNorm,
    Gate,
    Up,
    Down,
    FeedForwardOutputNorm,
}

impl Role {
    /// Whether it is the scale of a norm.
    pub fn is_norm(self) -> bool {
        matches!(
            self,
            Self::FinalNorm
                | Self::AttentionInputNorm
                | Self::AttentionOutputNorm
                | Self::FeedForwardInputNorm
                | Self::FeedForwardOutputNorm
                | Self::QueryNorm
                | Self::KeyNorm
        )
    }

    /// Whether it is a matrix of a block, gates aside.
    fn is_projection(self) -> bool {
        use Role as R;
        matches!(self, R::Query | R::Key | R::Value | R::AttentionOutput | R::Gate | R::Up | R::Down)
    }
}

/// Which rows of a stored tensor make a weight, in which order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowOrder {
    /// Rows `start ..` of a tensor of `total` rows.
    From { start: usize, total: usize },
    /// Part `part` of `parts` of each head, heads outermost (GPT-NeoX's fused projection).
    HeadParts { part: usize, parts: usize, head_dim: usize },
    /// The two halves of each head interleaved (rotary pairs adjacent, as llama.cpp stores Llama's queries and keys).
    Interleaved { head_dim: usize },
}

impl RowOrder {
    /// Number of rows the stored tensor must have, for a weight of `rows` rows.
    pub fn stored_rows(self, rows: usize) -> usize {
        match self {
            Self::From { total, .. } => total,
            Self::HeadParts { parts, .. } => rows * parts,
            Self::Interleaved { .. } => rows,
        }
    }

    /// The stored row of the weight's row `row`, and how many rows follow it in step.
    pub fn stored(self, row: usize) -> (usize, usize) {
        match self {
            Self::From { start, .. } => (start + row, usize::MAX),
            Self::HeadParts { part, parts, head_dim } => {
                let (head, within) = (row / head_dim, row % head_dim);
                ((head * parts + part) * head_dim + within, head_dim - within)
            }
            Self::Interleaved { head_dim } => {
                let (head, within) = (row / head_dim, row % head_dim);
                let (half, pair) = (within / (head_dim / 2), within % (head_dim / 2));
                (head * head_dim + 2 * pair + half, 1)
            }
        }
    }
}

/// Where a weight is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Location {
    pub tensor: String,
    /// Which of its rows (columns, if transposed).
    pub order: RowOrder,
    /// Whether the tensor is stored input x output.
    pub transposed: bool,
}

/// Which projections have biases.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Biases {
    query_key_value: bool,
    attention_output: bool,
    feed_forward: bool,
}

impl Biases {
    pub const QUERY_KEY_VALUE: Self = Self { query_key_value: true, attention_output: false, feed_forward: false };

    /// All projections of attention, or none; all of feed-forward blocks, or none.
    pub fn new(attention: bool, feed_forward: bool) -> Self {
        Self { query_key_value: attention, attention_output: attention, feed_forward }
    }
}

/// Whether a weight has a bias beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BiasRule {
    /// A checkpoint without it is incomplete.
    Always,
    /// The description does not say; the tensors do.
    IfStored,
    Never,
}

/// How the rows of heads lie in tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeadRows {
    /// As they are used.
    Whole,
    /// Queries, keys and values of a head together, head after head.
    Together,
    /// Those of queries and keys with rotary pairs adjacent.
    Interleaved,
}

/// A family's naming of its tensors.
#[derive(Debug, Clone)]
pub(crate) struct Naming {
    /// The tensor of a role without `weight`; `*` stands for the layer. Projections that read the same input may be of one
    /// name: they lie in one tensor, one after the other.
    pub(super) names: fn(Role) -> &'static str,
    /// What stands before all names but the output head's.
    pub(super) prefix: &'static str,
    pub(super) heads: HeadRows,
    /// Whether projections are stored input x output.
    pub(super) transposed: bool,
    /// What is added to a stored gamma: Gemma's checkpoints hold gamma - 1.
    pub gamma_offset: f32,
    /// Which projections have biases. The others have none.
    pub(super) biases: Biases,
    /// Whether the tensors alone say which of the others have biases.
    pub(super) stored_biases: bool,
}

impl Naming {
    /// Weights as they are used, without biases.
    pub fn new(names: fn(Role) -> &'static str, prefix: &'static str) -> Self {
        Self {
            names,
            prefix,
            heads: HeadRows::Whole,
            transposed: false,
            gamma_offset: 0.0,
            biases: Biases::default(),
            stored_biases: false,
        }
    }

    /// Whether there is a bias beside the weight of `role`.
    pub fn bias_rule(&self, role: Role, architecture: &Architecture) -> BiasRule {
        let always = match role {
            Role::Query | Role::Key | Role::Value => self.biases.query_key_value,
            Role::AttentionOutput => self.biases.attention_output,
            Role::Gate | Role::Up | Role::Down => self.biases.feed_forward,
            norm if norm.is_norm() => architecture.norm != NormKind::RmsNorm,
            _ => return BiasRule::Never,
        };
        match always {
            true => BiasRule::Always,
            false if self.stored_biases && !role.is_norm() => BiasRule::IfStored,
            false => BiasRule::Never,
        }
    }

    /// Where the weight of `role` in `layer` is.
    pub fn weight(&self, role: Role, layer: usize, architecture: &Architecture) -> Location {
        let prefix = match role {
            // Output heads stand outside the model's own prefix, under the wrapper's if it has one.
            Role::Head => self.prefix.strip_suffix("model.").filter(|o| !o.starts_with("model.")).unwrap_or(""),
            _ => self.prefix,
        };
        Location {
            tensor: format!("{prefix}{}.weight", (self.names)(role).replace('*', &layer.to_string())),
            order: self.order(role, layer, architecture),
            transposed: self.transposed && role.is_projection(),
        }
    }

    /// Where the bias of `role` in `layer` is, if the checkpoint has one: beside the weight.
    pub fn bias(&self, role: Role, layer: usize, architecture: &Architecture) -> Location {
        let weight = self.weight(role, layer, architecture);
        Location { tensor: beside(&weight.tensor, "bias"), transposed: false, ..weight }
    }

    /// Where the alpha of a dynamic tanh is: beside its gamma.
    pub fn alpha(&self, role: Role, layer: usize, architecture: &Architecture) -> Location {
        let weight = self.weight(role, layer, architecture);
        let order = RowOrder::From { start: 0, total: 1 };
        Location { tensor: beside(&weight.tensor, "alpha"), order, transposed: false }
    }

    fn order(&self, role: Role, layer: usize, a: &Architecture) -> RowOrder {
        const PARTS: [Role; 3] = [Role::Query, Role::Key, Role::Value];
        let head_dim = a.attention(layer).head_dim;
        let gated = a.layer(layer).feed_forward.dense().is_some_and(|dense| dense.gated);
        let part = PARTS.iter().position(|part| *part == role);
        let neighbours: &[Role] = match (self.heads, part) {
            (HeadRows::Interleaved, Some(0 | 1)) => return RowOrder::Interleaved { head_dim },
            (HeadRows::Together, Some(part)) => return RowOrder::HeadParts { part, parts: PARTS.len(), head_dim },
            (_, Some(_)) => &PARTS,
            _ if gated && matches!(role, Role::Gate | Role::Up) => &[Role::Gate, Role::Up],
            _ => std::slice::from_ref(&role),
        };
        let name = (self.names)(role);
        let fused = || neighbours.iter().filter(|other| (self.names)(**other) == name);
        let start = fused().take_while(|other| **other != role).map(|other| rows(*other, layer, a)).sum();
        RowOrder::From { start, total: fused().map(|other| rows(*other, layer, a)).sum() }
    }
}

/// The name of a tensor beside a weight.
fn beside(weight: &str, what: &str) -> String {
    format!("{}{what}", weight.strip_suffix("weight").unwrap_or(weight))
}

/// Rows (outputs) of the weight of a role in a layer.
pub(crate) fn rows(role: Role, layer: usize, a: &Architecture) -> usize {
    let Layer { mixer, feed_forward, .. } = a.layer(layer);
    let attention = mixer.attention();
    match role {
        Role::Embedding | Role::Head => a.vocabulary,
        Role::Positions => a.max_positions,
        Role::Query => attention.query_width(),
        Role::Key | Role::BiasKey => attention.key_width(),
        Role::Value | Role::BiasValue => attention.value_width(),
        Role::SinkLogit => attention.heads,
        Role::AttentionGate => attention.gate_width(),
        Role::Gate | Role::Up => feed_forward.dense().map_or(0, |dense| dense.hidden),
        Role::QueryNorm | Role::KeyNorm => match attention.qk_norm {
            QkNorm::Projection if role == Role::QueryNorm => attention.query_width(),
            QkNorm::Projection => attention.key_width(),
            QkNorm::None | QkNorm::PerHead => attention.head_dim,
        },
        _ => a.d_model,
    }
}

#[cfg(test)]
mod tests {
    use super::RowOrder;

    #[test]
    fn interleaved_rows_are_where_the_permutation_put_them() {
        // llama.cpp stores row (head, pair, half) where the original has (head, half, pair).
        let order = RowOrder::Interleaved { head_dim: 6 };
        let stored: Vec<usize> = (0..12).map(|row| order.stored(row).0).collect();
        assert_eq!(stored, [0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11]);
    }

    #[test]
    fn head_parts_come_in_runs() {
        let order = RowOrder::HeadParts { part: 1, parts: 3, head_dim: 4 };
        assert_eq!(order.stored(0), (4, 4));
        assert_eq!(order.stored(5), (17, 3));
        assert_eq!(order.stored_rows(8), 24);
    }
}
