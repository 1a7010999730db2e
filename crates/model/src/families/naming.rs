//! Where a family keeps each weight: the tensor's name, and which of its rows, in which order.

use crate::architecture::{Architecture, Dense, Layer, NormKind, QkNorm};

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
}

/// How tensors are named and fused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    Llama,
    Gemma,
    Olmo2,
    Phi3,
    Gpt2,
    GptNeoX,
    Gguf,
    /// GGUF with query, key and value in one tensor; gate and up too, if gated.
    GgufFused,
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
    /// The tensor.
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

/// A family's naming of its tensors.
#[derive(Debug, Clone)]
pub(crate) struct Naming {
    scheme: Scheme,
    prefix: &'static str,
    /// What is added to a stored gamma: Gemma's checkpoints hold gamma - 1.
    pub gamma_offset: f32,
    biases: Biases,
    interleaved_rotary: bool,
    stored_biases: bool,
}

impl Naming {
    pub fn new(scheme: Scheme, prefix: &'static str) -> Self {
        Self {
            scheme,
            prefix,
            gamma_offset: 0.0,
            biases: Biases::default(),
            interleaved_rotary: false,
            stored_biases: false,
        }
    }

    pub fn with_gamma_offset(self, gamma_offset: f32) -> Self {
        Self { gamma_offset, ..self }
    }

    /// Which projections have biases. The others have none.
    pub fn with_biases(self, biases: Biases) -> Self {
        Self { biases, ..self }
    }

    /// Whether the tensors alone say which projections have biases.
    pub fn with_stored_biases(self, stored_biases: bool) -> Self {
        Self { stored_biases, ..self }
    }

    /// Rows of queries and keys are stored with rotary pairs adjacent.
    pub fn with_interleaved_rotary(self, interleaved_rotary: bool) -> Self {
        Self { interleaved_rotary, ..self }
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
        let (name, per_layer) = self.name(role);
        let tensor = match (self.scheme, per_layer) {
            (Scheme::Gguf | Scheme::GgufFused, true) => format!("blk.{layer}.{name}.weight"),
            (Scheme::Gguf | Scheme::GgufFused, false) => format!("{name}.weight"),
            (Scheme::Gpt2, true) => format!("{}h.{layer}.{name}.weight", self.prefix),
            (_, true) => format!("{}layers.{layer}.{name}.weight", self.prefix),
            // Output heads stand outside the model's own prefix, under the wrapper's if it has one.
            (_, false) if role == Role::Head => {
                match self.prefix.strip_suffix("model.").filter(|o| !o.starts_with("model.")) {
                    Some(outer) => format!("{outer}{name}.weight"),
                    None => format!("{name}.weight"),
                }
            }
            (_, false) => format!("{}{name}.weight", self.prefix),
        };
        let linear = matches!(
            role,
            Role::Query | Role::Key | Role::Value | Role::AttentionOutput | Role::Gate | Role::Up | Role::Down
        );
        Location {
            tensor,
            order: self.order(role, layer, architecture),
            transposed: self.scheme == Scheme::Gpt2 && linear,
        }
    }

    /// Where the bias of `role` in `layer` is, if the checkpoint has one: beside the weight.
    pub fn bias(&self, role: Role, layer: usize, architecture: &Architecture) -> Location {
        let weight = self.weight(role, layer, architecture);
        let tensor = format!("{}bias", weight.tensor.strip_suffix("weight").unwrap_or(&weight.tensor));
        Location { tensor, transposed: false, ..weight }
    }

    /// Where the alpha of a dynamic tanh is: beside its gamma.
    pub fn alpha(&self, role: Role, layer: usize, architecture: &Architecture) -> Location {
        let weight = self.weight(role, layer, architecture);
        let tensor = format!("{}alpha", weight.tensor.strip_suffix("weight").unwrap_or(&weight.tensor));
        Location { tensor, order: RowOrder::From { start: 0, total: 1 }, transposed: false }
    }

    fn order(&self, role: Role, layer: usize, a: &Architecture) -> RowOrder {
        let Layer { mixer, feed_forward, .. } = a.layer(layer);
        let attention = mixer.attention();
        let (query, key, head_dim) = (attention.query_width(), attention.key_width(), attention.head_dim);
        let gated = feed_forward.dense().filter(|dense| dense.gated);
        let fused_qkv = matches!(self.scheme, Scheme::Phi3 | Scheme::Gpt2 | Scheme::GgufFused);
        let fused_gate = gated.filter(|_| matches!(self.scheme, Scheme::Phi3 | Scheme::GgufFused));
        let total = query + key + attention.value_width();
        match role {
            Role::Query if fused_qkv => RowOrder::From { start: 0, total },
            Role::Key if fused_qkv => RowOrder::From { start: query, total },
            Role::Value if fused_qkv => RowOrder::From { start: query + key, total },
            Role::Query | Role::Key if self.interleaved_rotary => RowOrder::Interleaved { head_dim },
            Role::Query | Role::Key | Role::Value if self.scheme == Scheme::GptNeoX => {
                let part = [Role::Query, Role::Key, Role::Value].iter().position(|r| *r == role).unwrap_or(0);
                RowOrder::HeadParts { part, parts: 3, head_dim }
            }
            Role::Gate | Role::Up => match fused_gate {
                Some(&Dense { hidden, .. }) => {
                    RowOrder::From { start: if role == Role::Up { hidden } else { 0 }, total: 2 * hidden }
                }
                None => RowOrder::From { start: 0, total: rows(role, layer, a) },
            },
            _ => RowOrder::From { start: 0, total: rows(role, layer, a) },
        }
    }

    /// The middle of a tensor's name, and whether there is one per layer.
    fn name(&self, role: Role) -> (&'static str, bool) {
        use Role as R;
        let name = match self.scheme {
            Scheme::Llama | Scheme::Gemma | Scheme::Olmo2 | Scheme::Phi3 => match role {
                R::Embedding => return ("embed_tokens", false),
                R::Positions => return ("embed_positions", false),
                R::FinalNorm => return ("norm", false),
                R::Head => return ("lm_head", false),
                R::AttentionInputNorm => "input_layernorm",
                R::Query | R::Key | R::Value if self.scheme == Scheme::Phi3 => "self_attn.qkv_proj",
                R::Query => "self_attn.q_proj",
                R::Key => "self_attn.k_proj",
                R::Value => "self_attn.v_proj",
                R::QueryNorm => "self_attn.q_norm",
                R::KeyNorm => "self_attn.k_norm",
                R::SinkLogit => "self_attn.sinks",
                R::BiasKey => "self_attn.bias_k",
                R::BiasValue => "self_attn.bias_v",
                R::AttentionGate => "self_attn.gate",
                R::AttentionOutput => "self_attn.o_proj",
                R::AttentionOutputNorm => "post_attention_layernorm",
                R::FeedForwardInputNorm if self.scheme == Scheme::Gemma => "pre_feedforward_layernorm",
                R::FeedForwardInputNorm => "post_attention_layernorm",
                R::Gate | R::Up if self.scheme == Scheme::Phi3 => "mlp.gate_up_proj",
                R::Gate => "mlp.gate_proj",
                R::Up => "mlp.up_proj",
                R::Down => "mlp.down_proj",
                R::FeedForwardOutputNorm => "post_feedforward_layernorm",
            },
            Scheme::Gpt2 => match role {
                R::Embedding => return ("wte", false),
                R::Positions => return ("wpe", false),
                R::FinalNorm => return ("ln_f", false),
                R::Head => return ("lm_head", false),
                R::AttentionInputNorm => "ln_1",
                R::AttentionOutput => "attn.c_proj",
                R::FeedForwardInputNorm => "ln_2",
                R::Gate => "mlp.c_fc",
                R::Down => "mlp.c_proj",
                _ => "attn.c_attn",
            },
            Scheme::GptNeoX => match role {
                R::Embedding | R::Positions => return ("embed_in", false),
                R::FinalNorm => return ("final_layer_norm", false),
                R::Head => return ("embed_out", false),
                R::AttentionInputNorm => "input_layernorm",
                R::AttentionOutput => "attention.dense",
                R::FeedForwardInputNorm => "post_attention_layernorm",
                R::Gate => "mlp.dense_h_to_4h",
                R::Down => "mlp.dense_4h_to_h",
                _ => "attention.query_key_value",
            },
            Scheme::Gguf | Scheme::GgufFused => match role {
                R::Embedding => return ("token_embd", false),
                R::Positions => return ("position_embd", false),
                R::FinalNorm => return ("output_norm", false),
                R::Head => return ("output", false),
                R::AttentionInputNorm => "attn_norm",
                R::Query | R::Key | R::Value if self.scheme == Scheme::GgufFused => "attn_qkv",
                R::Query => "attn_q",
                R::Key => "attn_k",
                R::Value => "attn_v",
                R::QueryNorm => "attn_q_norm",
                R::KeyNorm => "attn_k_norm",
                R::AttentionOutput => "attn_output",
                R::AttentionOutputNorm => "post_attention_norm",
                R::FeedForwardInputNorm => "ffn_norm",
                R::Gate if self.scheme == Scheme::GgufFused => "ffn_up",
                R::Gate => "ffn_gate",
                R::Up => "ffn_up",
                R::Down => "ffn_down",
                R::FeedForwardOutputNorm => "post_ffw_norm",
                // No GGUF family has these.
                R::SinkLogit => "attn_sinks",
                R::BiasKey => "attn_bias_k",
                R::BiasValue => "attn_bias_v",
                R::AttentionGate => "attn_gate",
            },
        };
        (name, true)
    }
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
