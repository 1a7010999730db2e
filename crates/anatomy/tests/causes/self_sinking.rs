//! Tokens that attend to themselves early on.

use sinkscope_anatomy::sample::embedding::self_sinking;

use crate::recorded::{Recorded, SEQ_LEN, kinds};
use crate::{close, close_within, dot, mean, norm};

#[test]
fn is_its_definition_by_kind_of_token() {
    for family in ["llama", "gemma2", "gpt2", "olmo2"] {
        let recorded = Recorded::new(family);
        let a = recorded.model.architecture();
        let kinds = kinds();
        let delimiter = |id: u32| id < 8;
        let to_self: Vec<Vec<f64>> =
            (1..3).map(|layer| (0..recorded.tokens()).map(|token| (token * layer) as f64 / 100.0).collect()).collect();
        let found = self_sinking(&recorded.model, &recorded.batch, &kinds, &delimiter, &to_self).expect("finite");
        let gamma = recorded.model.attention_block::<f64>(0).expect("finite").input_norm;
        let kind = |token: usize| match recorded.batch.tokens[token] {
            _ if token.is_multiple_of(SEQ_LEN) => None,
            _ if kinds.spike[token] => Some(0),
            _ if !kinds.other[token] => None,
            id if delimiter(id) => Some(1),
            _ => Some(2),
        };
        for (index, ours) in [found.spike, found.delimiter, found.other].into_iter().enumerate() {
            let ours = ours.expect("tokens of every kind");
            let tokens: Vec<usize> = (0..recorded.tokens()).filter(|&token| kind(token) == Some(index)).collect();
            assert_eq!(ours.tokens, tokens.len());
            for (layer, &ours) in ours.to_self.iter().enumerate() {
                close(family, ours, mean(&tokens.iter().map(|&token| to_self[layer][token]).collect::<Vec<_>>()));
            }
            let Some(norm_weights) = &gamma else {
                assert!(ours.embedding_gamma_cosine.is_none() && ours.post_norm_magnitude.is_none(), "{family}");
                continue;
            };
            let embedding =
                |&token: &usize| recorded.model.embedding::<f64>(recorded.batch.tokens[token]).expect("one");
            let cosine = |token: &usize| {
                let row = embedding(token);
                dot(&row, &norm_weights.gamma) / (norm(&row) * norm(&norm_weights.gamma))
            };
            let magnitude = |token: &usize| {
                let mut row: Vec<f64> = embedding(token).iter().map(|value| value * a.embedding_scale).collect();
                if let Some(learned) = recorded.model.positions::<f64>(SEQ_LEN).expect("finite") {
                    let at = (token % SEQ_LEN) * a.d_model;
                    row.iter_mut().zip(&learned[at..]).for_each(|(value, learned)| *value += learned);
                }
                norm(&recorded.normalised(&row, Some(norm_weights)))
            };
            let expected = mean(&tokens.iter().map(cosine).collect::<Vec<_>>());
            close_within(family, ours.embedding_gamma_cosine.expect("a norm"), expected, 1.0);
            let expected = mean(&tokens.iter().map(magnitude).collect::<Vec<_>>());
            close(family, ours.post_norm_magnitude.expect("a norm"), expected);
        }
    }
}
