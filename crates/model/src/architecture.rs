//! One architecture type, many models: plain data, a point in the space that the paper varies.

use serde::Serialize;
pub use sinkscope_kernels::activation::Activation;

/// The shape and the design choices of a decoder-only transformer.
#[derive(Debug, Clone, PartialEq, Serialize)]
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
    /// `cap * tanh(score / cap)` on attention scores.
    pub attention_soft_cap: Option<f64>,
    /// The same on the logits.
    pub logit_soft_cap: Option<f64>,
    /// Factor on the embedding.
    pub embedding_scale: f64,
    /// Whether the output head is the embedding matrix.
    pub tied_embeddings: bool,
}

/// What differs between layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Layer {
    /// A query sees itself and the `window - 1` positions before it; all before it if `None`.
    pub window: Option<usize>,
    /// Index into the ropes of [`PositionEncoding::Rotary`].
    pub rope: usize,
}

/// The kind of a norm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NormKind {
    /// RMSNorm (eq. 5) with a scale.
    RmsNorm,
    /// LayerNorm with scale and bias.
    LayerNorm,
}

/// Where a block normalises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NormPlacement {
    /// On its input (eq. 4).
    Pre,
    /// On its input and on its output.
    Sandwich,
    /// On its output only, as OLMo 2 does.
    Output,
}

/// How the two blocks of a layer are wired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResidualLayout {
    /// Feed-forward reads the residual after attention.
    Sequential,
    /// Both read the residual before the layer (GPT-J, GPT-NeoX).
    Parallel,
}

/// RMSNorm on queries and keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum QkNorm {
    /// None.
    None,
    /// Each head on its own, with one scale of `head_dim` for all (Qwen3, Gemma 3).
    PerHead,
    /// The whole projection at once (OLMo 2).
    Projection,
}

/// The kind of the feed-forward blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct FeedForward {
    /// The nonlinearity.
    #[serde(serialize_with = "activation_name")]
    pub activation: Activation,
    /// Whether a second, linear branch multiplies it (SwiGLU, GeGLU).
    pub gated: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn activation_name<S: serde::Serializer>(activation: &Activation, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(match activation {
        Activation::Silu => "silu",
        Activation::Gelu => "gelu",
        Activation::GeluTanh => "gelu-tanh",
        Activation::Relu => "relu",
    })
}

/// How positions enter the model.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PositionEncoding {
    /// A learned vector per position, added to the embedding: cannot extend.
    Learned,
    /// Rotary embedding of queries and keys; layers choose among these.
    Rotary(Vec<Rope>),
}

/// One rotary embedding.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rope {
    /// Base of the geometric series of wavelengths.
    pub theta: f64,
    /// Leading dimensions of a head that rotate.
    pub rotary_dim: usize,
    /// How the frequencies were changed for longer contexts.
    pub scaling: RopeScaling,
}

/// Changes to the frequencies for contexts longer than those first trained on.
#[derive(Debug, Clone, PartialEq, Serialize)]
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
    /// A divisor per frequency, as GGUF files store Llama 3's.
    Divisors {
        /// One per frequency.
        divisors: Vec<f64>,
    },
}

impl Architecture {
    /// Number of blocks, 2 L (attention and feed-forward).
    pub fn blocks(&self) -> usize {
        2 * self.layers.len()
    }

    /// Whether the positions of a sequence of `seq_len` tokens are encoded in another way than the same positions of one of
    /// `longer` tokens.
    pub fn encodes_differently(&self, seq_len: usize, longer: usize) -> bool {
        match &self.position {
            PositionEncoding::Learned => false,
            PositionEncoding::Rotary(ropes) => {
                ropes.iter().any(|rope| rope.frequencies(seq_len) != rope.frequencies(longer))
            }
        }
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
            ("number of layers", self.layers.len()),
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
        if !self.heads.is_multiple_of(self.kv_heads) {
            return Err(format!("{} heads cannot share {} key-value heads evenly", self.heads, self.kv_heads));
        }
        if !(self.norm_epsilon > 0.0 && self.norm_epsilon < 1.0) {
            return Err(format!("the norm's epsilon is {}; it must lie between 0 and 1", self.norm_epsilon));
        }
        for cap in [self.attention_soft_cap, self.logit_soft_cap].into_iter().flatten() {
            if !(cap > 0.0 && cap.is_finite()) {
                return Err(format!("a soft cap of {cap} is not positive"));
            }
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
        let branches = if self.feed_forward.gated { 3.0 } else { 2.0 };
        let linear = d * (2.0 * query + 2.0 * key) + branches * d * self.d_ffn as f64;
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
            RopeScaling::None | RopeScaling::Linear { .. } | RopeScaling::Llama3 { .. } => &[],
        };
        for list in lists {
            if list.len() != half {
                return Err(format!("{} rope factors for {half} frequencies", list.len()));
            }
        }
        Ok(())
    }

    /// The angle per position of each rotated pair, and the factor on cosines and sines, for sequences of `seq_len`.
    pub fn frequencies(&self, seq_len: usize) -> (Vec<f64>, f64) {
        let half = self.rotary_dim / 2;
        let base: Vec<f64> = (0..half).map(|i| self.theta.powf(-2.0 * i as f64 / self.rotary_dim as f64)).collect();
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
        }
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
}
