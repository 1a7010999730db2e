//! Mixers of tokens.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{AttentionGate, GateSignal, Granularity, QkNorm, Rope, Weighting};

/// What carries information between tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mixer {
    /// Attention whose weights are a function of scores of queries and keys (eq. 6-11).
    Attention(Attention),
}

impl Mixer {
    /// The attention.
    pub fn attention(&self) -> &Attention {
        let Self::Attention(attention) = self;
        attention
    }

    /// The attention, to be changed.
    pub fn attention_mut(&mut self) -> &mut Attention {
        let Self::Attention(attention) = self;
        attention
    }
}

/// Attention of a layer. A key that may be null must be there all the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Attention {
    /// Query heads.
    pub heads: usize,
    /// Key-value heads; a divisor of `heads` (GQA when smaller).
    pub kv_heads: usize,
    /// Width of a head's queries and keys.
    pub head_dim: usize,
    /// Width of a head's values.
    pub value_dim: usize,
    /// A query sees itself and the `window - 1` positions before it; all before it if `None`.
    #[serde(deserialize_with = "Option::deserialize")]
    pub window: Option<usize>,
    /// What positions do to scores.
    pub position: Position,
    /// Norm on queries and keys after their projection.
    pub qk_norm: QkNorm,
    /// Factor on scores.
    pub scale: f64,
    /// `cap * tanh(score / cap)` on scores.
    #[serde(deserialize_with = "Option::deserialize")]
    pub soft_cap: Option<f64>,
    /// How scores become weights.
    pub weighting: Weighting,
    /// Whether every head also meets a learned key and value that stand at no position (Sun et al. 2024): rotated queries meet
    /// the key as it is.
    pub key_value_bias: bool,
    /// What multiplies the heads' outputs before W_O (Qiu et al. 2025, Table 7).
    #[serde(deserialize_with = "Option::deserialize")]
    pub gate: Option<AttentionGate>,
}

/// What positions do to attention scores.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Position {
    /// Nothing but causality (NoPE), or what a learned position added to the embedding does.
    None,
    /// Queries and keys are rotated.
    Rotary(Rope),
    /// A penalty, linear in distance, with a slope a head (Press et al. 2022).
    Alibi,
}

impl Attention {
    /// The rotary embedding, if there is one.
    pub fn rope(&self) -> Option<&Rope> {
        match &self.position {
            Position::Rotary(rope) => Some(rope),
            Position::None | Position::Alibi => None,
        }
    }

    /// The slope of every head's penalty on distance (Press et al. 2022): `2^(-8 (h + 1) / heads)`; none without ALiBi.
    pub fn alibi_slopes(&self) -> Vec<f64> {
        let count = if self.position == Position::Alibi { self.heads } else { 0 };
        (0..count).map(|head| (-8.0 * (head + 1) as f64 / self.heads as f64).exp2()).collect()
    }

    /// Number of gates on a row of heads' outputs; 0 without.
    pub fn gate_width(&self) -> usize {
        self.gate.map_or(0, |gate| match gate.granularity {
            Granularity::Channel => self.output_width(),
            Granularity::Head => self.heads,
            Granularity::Single => 1,
        })
    }

    /// Query heads that share a key-value head.
    pub fn queries_per_key(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// Width of all query heads together.
    pub fn query_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Width of all key heads together.
    pub fn key_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// Width of all value heads together.
    pub fn value_width(&self) -> usize {
        self.kv_heads * self.value_dim
    }

    /// Width of all heads' outputs together, which W_O reads.
    pub fn output_width(&self) -> usize {
        self.heads * self.value_dim
    }

    /// Multiply-adds of its matrices and of attention over sequences of `seq_len`, a token.
    pub(super) fn multiplications(&self, d_model: usize, seq_len: usize) -> f64 {
        let d = d_model as f64;
        let widths = self.query_width() + self.key_width() + self.value_width() + self.output_width();
        let gate = match self.gate {
            Some(gate) if gate.signal.is_product() => d * self.gate_width() as f64,
            _ => 0.0,
        };
        let window = self.window.unwrap_or(seq_len).min(seq_len) as f64;
        let pairs = window - window * (window - 1.0) / (2.0 * seq_len as f64);
        d * widths as f64 + gate + (self.query_width() + self.output_width()) as f64 * pairs
    }

    /// What is wrong with this combination, if anything.
    pub(super) fn validate(&self) -> Result<(), String> {
        let sizes = [
            ("number of heads", self.heads),
            ("number of key-value heads", self.kv_heads),
            ("head size", self.head_dim),
            ("size of a head's values", self.value_dim),
        ];
        super::check_sizes(&sizes)?;
        if self.value_dim != self.head_dim {
            let (value, key) = (self.value_dim, self.head_dim);
            return Err(format!("values of width {value} beside keys of width {key} are not supported yet"));
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            return Err(format!("{} heads cannot share {} key-value heads evenly", self.heads, self.kv_heads));
        }
        super::check_scale("attention scores", self.scale)?;
        super::check_soft_cap(self.soft_cap)?;
        if let Weighting::Sigmoid { bias } = self.weighting {
            if !bias.is_finite() {
                return Err(format!("the sigmoid's bias is {bias}; it must be finite"));
            }
            if self.key_value_bias {
                return Err("a key-value bias takes part in a softmax; sigmoid attention has none".into());
            }
        }
        if self.key_value_bias && self.weighting != Weighting::Softmax {
            return Err("a key-value bias and a sink logit are both one more entry of the softmax; choose one".into());
        }
        self.rope().map_or(Ok(()), |rope| rope.validate(self.head_dim))
    }

    /// Whether gates depend on the tokens' embedding.
    pub fn gates_read_embedding(&self) -> bool {
        self.gate.is_some_and(|gate| gate.signal == GateSignal::Embedding)
    }
}
