//! Self-sinking (section 2): tokens whose embedding is nearly collinear with the first norm's gamma come out of that norm
//! large, and the heads of the early layers let them attend to themselves, which puts them through the same linear map
//! as a token at position 0.

use super::Kinds;
use crate::wide::{dot_f64, mean, norm_f64};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinkscope_model::{Model, ModelError};
use sinkscope_sources::data::TokenBatch;

/// Tokens away from position 0, by kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SelfSinking {
    /// Tokens of the strongest stage.
    pub spike: Option<SelfSinkingTokens>,
    /// Delimiters of no stage: line breaks, and the marks that end or divide sentences.
    pub delimiter: Option<SelfSinkingTokens>,
    /// The rest of the tokens of no stage.
    pub other: Option<SelfSinkingTokens>,
}

/// What tokens of one kind are like.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SelfSinkingTokens {
    /// How many.
    pub tokens: usize,
    /// Mean cosine of the embedding to the first norm's gamma, 0 of an embedding of zeros; `None` if the first block has no input norm.
    pub embedding_gamma_cosine: Option<f64>,
    /// Mean length of the first block's normalised input.
    pub post_norm_magnitude: Option<f64>,
    /// By layer, up to the last step-up block: mean attention weight on itself, over heads.
    pub to_self: Vec<f64>,
}

/// `kinds`: what each token is beside those of the strongest stage; `delimiter`: whether a token id is one; `to_self`: by layer and token.
///
/// # Errors
/// If a weight is not finite.
pub fn self_sinking(
    model: &Model,
    batch: &TokenBatch,
    kinds: &Kinds,
    delimiter: &dyn Fn(u32) -> bool,
    to_self: &[Vec<f64>],
) -> Result<SelfSinking, ModelError> {
    let scale = model.architecture().embedding_scale as f32;
    let norm = model.input_norm::<f32>(1)?;
    let positions = model.positions::<f32>(batch.seq_len)?;
    let d = model.architecture().d_model;
    let mut all: [Vec<(usize, f64, f64)>; 3] = Default::default();
    for (token, &id) in batch.tokens.iter().enumerate() {
        let position = token % batch.seq_len;
        if position == 0 || !(kinds.spike[token] || kinds.other[token]) {
            continue;
        }
        let kind = if kinds.spike[token] { 0 } else { 2 - usize::from(delimiter(id)) };
        let (mut cosine, mut magnitude) = (f64::NAN, f64::NAN);
        if let Some(norm) = &norm {
            let mut row = model.embedding::<f32>(id)?;
            for value in &mut row {
                *value *= scale;
            }
            let lengths = (dot_f64(&row, &row) * dot_f64(&norm.gamma, &norm.gamma)).sqrt();
            // An embedding of nothing but zeros, as of padding, points nowhere.
            cosine = if lengths > 0.0 { dot_f64(&row, &norm.gamma) / lengths } else { 0.0 };
            if let Some(positions) = &positions {
                row.iter_mut().zip(&positions[position * d..]).for_each(|(value, learned)| *value += learned);
            }
            norm.forward_in_place(&mut row);
            magnitude = norm_f64(&row);
        }
        all[kind].push((token, cosine, magnitude));
    }
    let summary = |tokens: &Vec<(usize, f64, f64)>| {
        (!tokens.is_empty()).then(|| SelfSinkingTokens {
            tokens: tokens.len(),
            embedding_gamma_cosine: mean(tokens.iter().map(|token| token.1)).filter(|_| norm.is_some()),
            post_norm_magnitude: mean(tokens.iter().map(|token| token.2)).filter(|_| norm.is_some()),
            to_self: to_self.iter().filter_map(|layer| mean(tokens.iter().map(|token| layer[token.0]))).collect(),
        })
    };
    let [spike, marks, other] = &all;
    Ok(SelfSinking { spike: summary(spike), delimiter: summary(marks), other: summary(other) })
}

/// Whether a token is a delimiter: a line break, or a mark that ends or divides sentences.
pub fn is_delimiter(text: &str) -> bool {
    let mark = text.trim_matches([' ', '\t']);
    !mark.is_empty()
        && mark.chars().all(|character| matches!(character, '\n' | '\r' | '.' | ',' | ';' | ':' | '!' | '?'))
}

#[cfg(test)]
mod tests {
    use super::is_delimiter;

    #[test]
    fn delimiters() {
        for text in [".", "\n", " ,", "?!", "\r\n\n", ";\n"] {
            assert!(is_delimiter(text), "{text:?}");
        }
        for text in ["", " ", "a.", "the", "-", "(", "\t"] {
            assert!(!is_delimiter(text), "{text:?}");
        }
    }
}
