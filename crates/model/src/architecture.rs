//! One architecture type, many models: plain data, a point in the space that the paper varies.

use std::ops::Range;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
pub use sinkscope_kernels::activation::Activation;

/// The shape and the design choices of a decoder-only transformer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Architecture {
    /// The family's name as its checkpoints spell it, such as `llama` or `gemma2`.
    pub family: String,
    /// Width of the residual.
    pub d_model: usize,
    /// Query heads.
    pub heads: usize,
    /// Key-value heads; a divisor of `heads` (GQA when smaller).
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Hidden units of a feed-forward block.
    pub d_ffn: usize,
    /// Number of token ids.
    pub vocabulary: usize,
    /// Positions the model was made for.
    pub max_positions: usize,
    /// The kind of every norm of the residual.
    pub norm: NormKind,
    /// The norms' epsilon.
    pub norm_epsilon: f64,
    /// Where a block normalises.
    pub norm_placement: NormPlacement,
    /// Whether the two blocks of a layer read the same residual.
    pub residual: ResidualLayout,
    /// Norm on queries and keys after their projection.
    pub qk_norm: QkNorm,
    /// The feed-forward blocks.
    pub feed_forward: FeedForward,
    /// How positions enter.
    pub position: PositionEncoding,
    /// One entry per layer.
    pub layers: Vec<Layer>,
    /// Factor on attention scores.
    pub attention_scale: f64,
    /// How scores become weights.
    pub weighting: Weighting,
    /// Whether every head also meets a learned key and value that stand at no position (Sun et al. 2024): rotated queries meet
    /// the key as it is.
    pub key_value_bias: bool,
    /// What multiplies the heads' outputs before W_O (Qiu et al. 2025, Table 7).
    pub gate: Option<AttentionGate>,
    /// `cap * tanh(score / cap)` on attention scores.
    pub attention_soft_cap: Option<f64>,
    /// The same on the logits.
    pub logit_soft_cap: Option<f64>,
    /// Factor on the embedding.
    pub embedding_scale: f64,
    /// Whether the output head is the embedding matrix.
    pub tied_embeddings: bool,
    /// Learned tokens that stand before every sequence: the last ids of the vocabulary.
    #[serde(default, skip_serializing_if = "no_registers")]
    pub registers: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "of serde's form")]
fn no_registers(registers: &usize) -> bool {
    *registers == 0
}

/// How attention scores become weights.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Weighting {
    /// Softmax over the visible keys.
    Softmax,
    /// Softmax over the visible keys and one more score of 0 that stands for no key.
    SoftmaxPlusOne,
    /// The same with a learned score a head, as gpt-oss has it.
    SinkLogit,
    /// The sigmoid of every score plus a bias; weights need not sum to 1 (Ramapuram et al. 2024).
    Sigmoid {
        /// Added to every score, usually `-ln` of the context length.
        bias: f64,
    },
}

/// A gate on the heads' outputs: they are multiplied by a sigmoid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AttentionGate {
    /// What the sigmoid is of.
    pub signal: GateSignal,
    /// How many gates there are.
    pub granularity: Granularity,
}

/// What a gate depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum GateSignal {
    /// A projection of the block's normalised input: conditional.
    Input,
    /// Free parameters: unconditional.
    Free,
    /// A matrix of parameters by position, which begins and decays as other matrices do: static.
    Position,
    /// A projection of the token's embedding, times `embedding_scale`, without its position: static.
    Embedding,
}

impl GateSignal {
    /// Whether the gates are a product with their matrix, and not a row of it that is looked up.
    pub fn is_product(self) -> bool {
        matches!(self, Self::Input | Self::Embedding)
    }
}

/// How many gates there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Granularity {
    /// One for every channel of every head.
    Channel,
    /// One for every head.
    Head,
    /// One for all heads.
    Single,
}

impl From<Granularity> for sinkscope_kernels::gate::Granularity {
    fn from(granularity: Granularity) -> Self {
        match granularity {
            Granularity::Channel => Self::Channel,
            Granularity::Head => Self::Head,
            Granularity::Single => Self::Single,
        }
    }
}

/// What differs between layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Layer {
    /// A query sees itself and the `window - 1` positions before it; all before it if `None`.
    pub window: Option<usize>,
    /// Index into the ropes of [`PositionEncoding::Rotary`].
    pub rope: usize,
}

/// The kind of a norm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NormKind {
    /// RMSNorm (eq. 5) with a scale.
    RmsNorm,
    /// LayerNorm with scale and bias.
    LayerNorm,
    /// `tanh(alpha x) * gamma + beta` in place of a norm (Zhu et al. 2025).
    DynamicTanh,
}

/// Where a block normalises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NormPlacement {
    /// On its input (eq. 4).
    Pre,
    /// On its input and on its output.
    Sandwich,
    /// On its output only, as OLMo 2 does.
    Output,
    /// On its output, and on what queries and keys are made of; values and feed-forward blocks read the residual as it is.
    SandwichQkInput,
    /// On the residual after the block's output was added, as the first transformers did. The last block's norm is the last of
    /// all: the output head reads what it gives.
    Post,
}

impl NormPlacement {
    /// Whether a block (attention if `attention`) normalises its input, or part of it.
    pub fn on_input(self, attention: bool) -> bool {
        match self {
            Self::Pre | Self::Sandwich => true,
            Self::SandwichQkInput => attention,
            Self::Output | Self::Post => false,
        }
    }

    /// Whether a block has a norm behind it: of what it adds, or of the residual after it.
    pub fn has_output_norm(self) -> bool {
        matches!(self, Self::Sandwich | Self::Output | Self::SandwichQkInput | Self::Post)
    }

    /// Whether the output head has a norm of its own before it.
    pub fn has_final_norm(self) -> bool {
        self != Self::Post
    }
}

/// How the two blocks of a layer are wired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ResidualLayout {
    /// Feed-forward reads the residual after attention.
    Sequential,
    /// Both read the residual before the layer (GPT-J, GPT-NeoX).
    Parallel,
}

/// RMSNorm on queries and keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum QkNorm {
    /// None.
    None,
    /// Each head on its own, with one scale of `head_dim` for all (Qwen3, Gemma 3).
    PerHead,
    /// The whole projection at once (OLMo 2).
    Projection,
}

/// The feed-forward blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FeedForward {
    /// What they are made of.
    pub kind: FeedForwardKind,
    /// The nonlinearity.
    #[serde(with = "activation_name")]
    #[schemars(with = "String")]
    pub activation: Activation,
    /// Whether a second, linear branch multiplies it (SwiGLU, GeGLU).
    pub gated: bool,
}

/// What feed-forward blocks are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FeedForwardKind {
    /// Two layers with a nonlinearity between them.
    TwoLayer,
    /// One matrix.
    Linear,
    /// Nothing: even blocks add zero. Attention in place of every feed-forward block is twice as many layers of this kind.
    Absent,
}

mod activation_name {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::Activation;

    const NAMES: [(&str, Activation); 4] = [
        ("silu", Activation::Silu),
        ("gelu", Activation::Gelu),
        ("gelu-tanh", Activation::GeluTanh),
        ("relu", Activation::Relu),
    ];

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
    pub fn serialize<S: Serializer>(activation: &Activation, serializer: S) -> Result<S::Ok, S::Error> {
        let name = NAMES.iter().find(|(_, other)| other == activation).map_or("silu", |(name, _)| name);
        serializer.serialize_str(name)
    }

    pub fn deserialize<'d, D: Deserializer<'d>>(deserializer: D) -> Result<Activation, D::Error> {
        let name = String::deserialize(deserializer)?;
        let found = NAMES.iter().find(|(other, _)| *other == name).map(|(_, activation)| *activation);
        found.ok_or_else(|| serde::de::Error::unknown_variant(&name, &["silu", "gelu", "gelu-tanh", "relu"]))
    }
}

/// How positions enter the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PositionEncoding {
    /// A learned vector per position, added to the embedding: cannot extend.
    Learned,
    /// Rotary embedding of queries and keys; layers choose among these.
    Rotary(Vec<Rope>),
    /// A penalty on scores, linear in distance, with a slope a head (Press et al. 2022).
    Alibi,
    /// Nothing but causality (NoPE).
    None,
}

/// One rotary embedding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rope {
    /// Base of the geometric series of wavelengths.
    pub theta: f64,
    /// Leading dimensions of a head that rotate.
    pub rotary_dim: usize,
    /// How the frequencies were changed for longer contexts.
    pub scaling: RopeScaling,
}

/// Changes to the frequencies for contexts longer than those first trained on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "type")]
pub enum RopeScaling {
    /// None.
    None,
    /// All frequencies divided by one factor.
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// Llama 3: low frequencies divided, high ones kept, a ramp between.
    Llama3 {
        /// The divisor of low frequencies.
        factor: f64,
        /// Wavelengths above `original / low` are divided.
        low_frequency_factor: f64,
        /// Wavelengths below `original / high` are kept.
        high_frequency_factor: f64,
        /// Context length before the change.
        original_positions: usize,
    },
    /// A divisor per frequency; another set, and a magnitude, beyond the original length (Phi-3).
    LongRope {
        /// Divisors up to the original length.
        short: Vec<f64>,
        /// Divisors beyond it.
        long: Vec<f64>,
        /// Context length before the change.
        original_positions: usize,
        /// Factor on cosines and sines.
        magnitude: f64,
    },
    /// NTK by parts (YaRN, Peng et al. 2023): pairs that turn often within the original length keep their frequency, those
    /// that turn seldom are divided, and a ramp lies between. `_compute_yarn_parameters` of transformers.
    Yarn {
        /// The divisor of low frequencies.
        factor: f64,
        /// Pairs that turn at least so often within the original length are kept.
        beta_fast: f64,
        /// Pairs that turn at most so often are divided.
        beta_slow: f64,
        /// Whether the ends of the ramp are rounded outwards to whole pairs.
        truncate: bool,
        /// Context length before the change.
        original_positions: usize,
        /// Factor on cosines and sines.
        magnitude: f64,
    },
    /// The base grows with the length of the sequence beyond the original one, and with it every wavelength.
    /// `_compute_dynamic_ntk_parameters` of transformers.
    Dynamic {
        /// How much more the base grows than the length.
        factor: f64,
        /// Length up to which nothing changes.
        original_positions: usize,
    },
    /// A divisor per frequency, as GGUF files store Llama 3's.
    Divisors {
        /// One per frequency.
        divisors: Vec<f64>,
    },
}

/// Most layers of a model that is read or trained. No real one comes near.
const MOST_LAYERS: usize = 1 << 12;

/// Whether a model can have so many layers: to be asked before there is a list of them.
///
/// # Errors
/// What would be right.
pub fn check_layer_count(count: usize) -> Result<(), String> {
    let possible = (1..=MOST_LAYERS).contains(&count);
    if possible {
        Ok(())
    } else {
        Err(format!("the number of layers is {count}; it must lie between 1 and {MOST_LAYERS}"))
    }
}

impl Architecture {
    /// Number of blocks, 2 L (attention and feed-forward).
    pub fn blocks(&self) -> usize {
        2 * self.layers.len()
    }

    /// Number of blocks that add something to the residual.
    pub fn writing_blocks(&self) -> usize {
        let of_layer = if self.feed_forward.kind == FeedForwardKind::Absent { 1 } else { 2 };
        of_layer * self.layers.len()
    }

    /// The tokens that stand before every sequence: the last ids of the vocabulary.
    pub fn register_ids(&self) -> Range<u32> {
        (self.vocabulary - self.registers) as u32..self.vocabulary as u32
    }

    /// Whether the positions of a sequence of `seq_len` tokens are encoded in another way than the same positions of one of
    /// `longer` tokens.
    pub fn encodes_differently(&self, seq_len: usize, longer: usize) -> bool {
        match &self.position {
            PositionEncoding::Learned | PositionEncoding::Alibi | PositionEncoding::None => false,
            PositionEncoding::Rotary(ropes) => {
                ropes.iter().any(|rope| rope.frequencies(seq_len) != rope.frequencies(longer))
            }
        }
    }

    /// Whether a position beyond `max_positions` has no meaning: it has parameters of its own.
    pub fn has_parameters_by_position(&self) -> bool {
        let gated = self.gate.is_some_and(|gate| gate.signal == GateSignal::Position);
        self.position == PositionEncoding::Learned || gated
    }

    /// The slope of every head's penalty on distance (Press et al. 2022): `2^(-8 (h + 1) / heads)`; none without ALiBi.
    pub fn alibi_slopes(&self) -> Vec<f64> {
        let count = if self.position == PositionEncoding::Alibi { self.heads } else { 0 };
        (0..count).map(|head| (-8.0 * (head + 1) as f64 / self.heads as f64).exp2()).collect()
    }

    /// Number of gates on a row of heads' outputs; 0 without.
    pub fn gate_width(&self) -> usize {
        self.gate.map_or(0, |gate| match gate.granularity {
            Granularity::Channel => self.query_width(),
            Granularity::Head => self.heads,
            Granularity::Single => 1,
        })
    }

    /// Whether something that is no key takes part in every softmax.
    pub fn has_entry(&self) -> bool {
        self.key_value_bias || matches!(self.weighting, Weighting::SoftmaxPlusOne | Weighting::SinkLogit)
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

    /// What is wrong with this combination, if anything.
    ///
    /// # Errors
    /// A sentence that names the field, its value and what would be right.
    pub fn validate(&self) -> Result<(), String> {
        let positive = [
            ("hidden size", self.d_model),
            ("number of heads", self.heads),
            ("number of key-value heads", self.kv_heads),
            ("head size", self.head_dim),
            ("feed-forward size", self.d_ffn),
            ("vocabulary size", self.vocabulary),
            ("number of positions", self.max_positions),
        ];
        for (what, value) in positive {
            // A real model stays far below; products of two sizes must not overflow.
            if value == 0 || value > 1 << 30 {
                return Err(format!("the {what} is {value}; it must lie between 1 and 2^30"));
            }
        }
        if self.registers >= self.vocabulary {
            return Err(format!("{} registers leave nothing of a vocabulary of {}", self.registers, self.vocabulary));
        }
        check_layer_count(self.layers.len())?;
        if !self.heads.is_multiple_of(self.kv_heads) {
            return Err(format!("{} heads cannot share {} key-value heads evenly", self.heads, self.kv_heads));
        }
        if !(self.norm_epsilon > 0.0 && self.norm_epsilon < 1.0) {
            return Err(format!("the norm's epsilon is {}; it must lie between 0 and 1", self.norm_epsilon));
        }
        for (what, scale) in [("attention scores", self.attention_scale), ("the embedding", self.embedding_scale)] {
            if !(scale > 0.0 && scale.is_finite()) {
                return Err(format!("the factor on {what} is {scale}; it must be positive"));
            }
        }
        for cap in [self.attention_soft_cap, self.logit_soft_cap].into_iter().flatten() {
            if !(cap > 0.0 && cap.is_finite()) {
                return Err(format!("a soft cap of {cap} is not positive"));
            }
        }
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
        if self.residual == ResidualLayout::Parallel && self.norm_placement != NormPlacement::Pre {
            return Err("parallel blocks are only defined with norms on the block's input".into());
        }
        for (index, layer) in self.layers.iter().enumerate() {
            if layer.window == Some(0) {
                return Err(format!("layer {index} has an attention window of 0; the least is 1"));
            }
            if let PositionEncoding::Rotary(ropes) = &self.position {
                let Some(rope) = ropes.get(layer.rope) else {
                    return Err(format!("layer {index} names rope {}, of {}", layer.rope, ropes.len()));
                };
                rope.validate(self.head_dim)?;
            }
        }
        Ok(())
    }

    /// Floating-point operations of the matrix products and attention of a forward pass over sequences of `seq_len`, per
    /// token, two per multiply-add: the arithmetic that the fraction of bound counts. The output head is counted if
    /// `with_head`.
    pub fn flops_per_token(&self, seq_len: usize, with_head: bool) -> f64 {
        let d = self.d_model as f64;
        let (query, key) = (self.query_width() as f64, self.key_width() as f64);
        let feed_forward = match self.feed_forward {
            FeedForward { kind: FeedForwardKind::Absent, .. } => 0.0,
            FeedForward { kind: FeedForwardKind::Linear, .. } => d * d,
            FeedForward { gated: true, .. } => 3.0 * d * self.d_ffn as f64,
            FeedForward { gated: false, .. } => 2.0 * d * self.d_ffn as f64,
        };
        let gate = match self.gate {
            Some(AttentionGate { signal: GateSignal::Input | GateSignal::Embedding, .. }) => {
                d * self.gate_width() as f64
            }
            _ => 0.0,
        };
        let linear = d * (2.0 * query + 2.0 * key) + feed_forward + gate;
        let pairs: f64 = self
            .layers
            .iter()
            .map(|layer| {
                let window = layer.window.unwrap_or(seq_len).min(seq_len) as f64;
                window - window * (window - 1.0) / (2.0 * seq_len as f64)
            })
            .sum();
        let head = if with_head { d * self.vocabulary as f64 } else { 0.0 };
        2.0 * (linear * self.layers.len() as f64 + 2.0 * query * pairs + head)
    }
}

impl Rope {
    fn validate(&self, head_dim: usize) -> Result<(), String> {
        if self.rotary_dim == 0 || !self.rotary_dim.is_multiple_of(2) || self.rotary_dim > head_dim {
            return Err(format!(
                "{} rotary dimensions do not fit a head of {head_dim}: an even number from 2 to {head_dim} is needed",
                self.rotary_dim
            ));
        }
        if !(self.theta > 0.0 && self.theta.is_finite()) {
            return Err(format!("the rotary base is {}; it must be positive", self.theta));
        }
        let half = self.rotary_dim / 2;
        let lists: &[&Vec<f64>] = match &self.scaling {
            RopeScaling::LongRope { short, long, .. } => &[short, long],
            RopeScaling::Divisors { divisors } => &[divisors],
            _ => &[],
        };
        for list in lists {
            if list.len() != half {
                return Err(format!("{} rope factors for {half} frequencies", list.len()));
            }
        }
        let numbers: Vec<f64> = match &self.scaling {
            RopeScaling::None => Vec::new(),
            RopeScaling::Linear { factor } => vec![*factor],
            RopeScaling::Llama3 { factor, low_frequency_factor, high_frequency_factor, original_positions } => {
                vec![*factor, *low_frequency_factor, *high_frequency_factor, *original_positions as f64]
            }
            RopeScaling::LongRope { short, long, original_positions, magnitude } => {
                [&short[..], long, &[*magnitude, *original_positions as f64]].concat()
            }
            RopeScaling::Yarn { factor, beta_fast, beta_slow, original_positions, magnitude, .. } => {
                vec![*factor, *beta_fast, *beta_slow, *original_positions as f64, *magnitude]
            }
            RopeScaling::Dynamic { factor, original_positions } => vec![*factor, *original_positions as f64],
            RopeScaling::Divisors { divisors } => divisors.clone(),
        };
        if let Some(number) = numbers.iter().find(|number| !(**number > 0.0 && number.is_finite())) {
            return Err(format!("the rope scaling holds {number}; all its numbers must be positive"));
        }
        match self.scaling {
            RopeScaling::Llama3 { low_frequency_factor: low, high_frequency_factor: high, .. } if low >= high => {
                Err(format!("the rope scaling's low frequency factor, {low}, is not below its high one, {high}"))
            }
            RopeScaling::Yarn { beta_fast, beta_slow, .. } if beta_fast < beta_slow => {
                Err(format!("the rope scaling's beta_fast, {beta_fast}, is below its beta_slow, {beta_slow}"))
            }
            RopeScaling::Yarn { .. } if self.theta <= 1.0 => {
                Err(format!("YaRN needs a rotary base above 1; it is {}", self.theta))
            }
            RopeScaling::Dynamic { .. } if self.rotary_dim == 2 => {
                Err("dynamic rope scaling is not defined for 2 rotary dimensions; at least 4 are needed".into())
            }
            _ => Ok(()),
        }
    }

    /// The angle per position of each rotated pair, and the factor on cosines and sines, for sequences of `seq_len`.
    pub fn frequencies(&self, seq_len: usize) -> (Vec<f64>, f64) {
        let base = self.series(self.theta);
        let divided = |divisors: &[f64]| base.iter().zip(divisors).map(|(f, d)| f / d).collect();
        match &self.scaling {
            RopeScaling::None => (base, 1.0),
            RopeScaling::Linear { factor } => (base.iter().map(|f| f / factor).collect(), 1.0),
            RopeScaling::Divisors { divisors } => (divided(divisors), 1.0),
            RopeScaling::LongRope { short, long, original_positions, magnitude } => {
                (divided(if seq_len > *original_positions { long } else { short }), *magnitude)
            }
            RopeScaling::Llama3 { factor, low_frequency_factor, high_frequency_factor, original_positions } => {
                let scale = |frequency: &f64| {
                    // How many turns the pair makes within the original context.
                    let turns = *original_positions as f64 * frequency / (2.0 * std::f64::consts::PI);
                    let kept = ((turns - low_frequency_factor) / (high_frequency_factor - low_frequency_factor))
                        .clamp(0.0, 1.0);
                    (1.0 - kept) * frequency / factor + kept * frequency
                };
                (base.iter().map(scale).collect(), 1.0)
            }
            RopeScaling::Yarn { factor, beta_fast, beta_slow, truncate, original_positions, magnitude } => {
                let width = self.rotary_dim as f64;
                // The pair, counted in fractions, that turns so often within the original length.
                let pair = |turns: f64| {
                    let wavelength = *original_positions as f64 / (turns * 2.0 * std::f64::consts::PI);
                    width * wavelength.ln() / (2.0 * self.theta.ln())
                };
                let (mut first, mut last) = (pair(*beta_fast), pair(*beta_slow));
                if *truncate {
                    (first, last) = (first.floor(), last.ceil());
                }
                (first, last) = (first.max(0.0), last.min(width - 1.0));
                let ramp = if first == last { 0.001 } else { last - first };
                let scale = |(pair, frequency): (usize, &f64)| {
                    let divided = ((pair as f64 - first) / ramp).clamp(0.0, 1.0);
                    frequency / factor * divided + frequency * (1.0 - divided)
                };
                (base.iter().enumerate().map(scale).collect(), *magnitude)
            }
            RopeScaling::Dynamic { factor, original_positions } => {
                let times = seq_len.max(*original_positions) as f64 / *original_positions as f64;
                let width = self.rotary_dim as f64;
                let growth = (factor * times - (factor - 1.0)).powf(width / (width - 2.0));
                (self.series(self.theta * growth), 1.0)
            }
        }
    }

    /// The angles per position of a base, `base^(-2 i / rotary_dim)`.
    fn series(&self, base: f64) -> Vec<f64> {
        (0..self.rotary_dim / 2).map(|i| base.powf(-2.0 * i as f64 / self.rotary_dim as f64)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rope(scaling: RopeScaling) -> Rope {
        Rope { theta: 10_000.0, rotary_dim: 8, scaling }
    }

    #[test]
    fn llama3_scaling_keeps_high_frequencies_and_divides_low_ones() {
        let plain = rope(RopeScaling::None).frequencies(1).0;
        let scaled = rope(RopeScaling::Llama3 {
            factor: 8.0,
            low_frequency_factor: 1.0,
            high_frequency_factor: 4.0,
            original_positions: 64,
        })
        .frequencies(1)
        .0;
        assert_eq!(scaled[0], plain[0]);
        assert!((scaled[3] - plain[3] / 8.0).abs() < 1e-12);
        assert!(scaled[1] < plain[1] && scaled[1] > plain[1] / 8.0, "the ramp: {scaled:?}");
    }

    #[test]
    fn long_rope_changes_beyond_the_original_length() {
        let rope = rope(RopeScaling::LongRope {
            short: vec![1.0; 4],
            long: vec![2.0; 4],
            original_positions: 16,
            magnitude: 1.25,
        });
        assert_eq!(rope.frequencies(16).0[0], 1.0);
        assert_eq!(rope.frequencies(17), (rope.frequencies(16).0.iter().map(|f| f / 2.0).collect(), 1.25));
    }

    fn assert_close(ours: &[f64], theirs: &[f64]) {
        assert_eq!(ours.len(), theirs.len());
        for (ours, theirs) in ours.iter().zip(theirs) {
            assert!((ours - theirs).abs() <= 1e-6 * theirs, "{ours} is not {theirs}");
        }
    }

    /// Values of transformers 5.24, `ROPE_INIT_FUNCTIONS`, computed there in f32.
    #[test]
    fn yarn_and_dynamic_scaling_are_those_of_transformers() {
        let rope = |scaling| Rope { theta: 10_000.0, rotary_dim: 16, scaling };
        let yarn = |factor, truncate, beta_fast, beta_slow| {
            rope(RopeScaling::Yarn { factor, beta_fast, beta_slow, truncate, original_positions: 512, magnitude: 1.5 })
        };
        let whole = [1.0, 0.256_935_06, 0.0625, 0.013_834_965, 0.0025, 0.000_790_569_47, 0.000_25, 7.905_694_7e-5];
        let cut = [1.0, 0.316_227_76, 0.075_664_401, 0.010_796_109, 0.0025, 0.000_790_569_47, 0.000_25, 7.905_694_7e-5];
        let (frequencies, magnitude) = yarn(4.0, true, 32.0, 1.0).frequencies(9999);
        assert_close(&frequencies, &whole);
        assert_eq!(magnitude, 1.5);
        assert_close(&yarn(4.0, false, 16.0, 2.0).frequencies(1).0, &cut);
        let dynamic = rope(RopeScaling::Dynamic { factor: 2.0, original_positions: 64 });
        assert_eq!(dynamic.frequencies(64), rope(RopeScaling::None).frequencies(64));
        let grown = [
            1.0,
            0.259_412_83,
            0.067_295_007,
            0.017_457_189,
            0.004_528_618_4,
            0.001_174_781_6,
            0.000_304_753_4,
            7.905_694_7e-5,
        ];
        assert_close(&dynamic.frequencies(160).0, &grown);
    }
}
