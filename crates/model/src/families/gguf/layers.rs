//! Which layers see only a window, and which rope each has.

use super::keys::Keys;
use crate::architecture::LayerView;
use crate::error::ModelError;
use sinkscope_sources::checkpoint::GgufValue;

const WINDOW: &str = "attention.sliding_window";
const PATTERN: &str = "attention.sliding_window_pattern";

/// Gemma 2's window where the key is absent, in llama.cpp as in transformers.
const GEMMA2_WINDOW: usize = 4096;

/// The layers of a model. Of Gemma 3 those that slide have the second rope.
pub(super) fn layers(keys: &Keys<'_>, count: usize) -> Result<Vec<LayerView>, ModelError> {
    let window = window(keys)?;
    let slides = match keys.family {
        "gemma2" => pattern(keys, count, 2, window)?,
        "gemma3" => pattern(keys, count, 6, window)?,
        _ => vec![window.is_some(); count],
    };
    let layer = |slides: bool| LayerView {
        window: window.filter(|_| slides),
        rope: usize::from(keys.family == "gemma3" && window.is_some() && slides),
    };
    Ok(slides.into_iter().map(layer).collect())
}

fn window(keys: &Keys<'_>) -> Result<Option<usize>, ModelError> {
    match keys.family {
        "gemma2" => Ok(Some(keys.size(WINDOW)?.unwrap_or(GEMMA2_WINDOW))),
        // 0 stands for none: converters write it for Phi-4.
        "gemma3" | "phi3" => Ok(keys.count(WINDOW)?.filter(|&window| window > 0)),
        _ => {
            keys.must_be(WINDOW, 0.0, "which layers of this family have a window is not written in the file")?;
            Ok(None)
        }
    }
}

/// The pattern is a period, whose last layer sees everything, or says for each layer whether it slides. Without a window
/// none does.
fn pattern(keys: &Keys<'_>, count: usize, default: usize, window: Option<usize>) -> Result<Vec<bool>, ModelError> {
    let slides = match keys.get(PATTERN) {
        Some(GgufValue::Bools(slides)) if slides.len() == count => slides.clone(),
        Some(GgufValue::Bools(slides)) => {
            let reason = format!("key `{}` has {} entries for {count} layers", keys.name(PATTERN), slides.len());
            return Err(ModelError::malformed(keys.path, reason));
        }
        None if window.is_none() => vec![false; count],
        _ => {
            let period = keys.size(PATTERN)?.unwrap_or(default);
            (0..count).map(|layer| !(layer + 1).is_multiple_of(period)).collect()
        }
    };
    match keys.get(PATTERN) {
        Some(value) if window.is_none() && slides.contains(&true) => {
            let wanted = format!("a window (`{}`) beside it", keys.name(WINDOW));
            Err(keys.wrong(PATTERN, value, &wanted))
        }
        _ => Ok(slides),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    fn windows(family: &str, pairs: &[(&str, GgufValue)], count: usize) -> Result<Vec<Option<usize>>, String> {
        let layers = testing::with_keys(family, pairs, |keys| layers(keys, count))?;
        Ok(layers.into_iter().map(|layer| layer.window).collect())
    }

    #[test]
    fn windows_alternate_as_the_file_or_else_the_family_says() {
        let window = (WINDOW, GgufValue::Unsigned(8));
        let (w, n) = (Some(8), None);
        assert_eq!(windows("gemma2", std::slice::from_ref(&window), 4), Ok(vec![w, n, w, n]));
        assert_eq!(windows("gemma2", &[], 3), Ok(vec![Some(4096), n, Some(4096)]));
        assert_eq!(windows("gemma3", std::slice::from_ref(&window), 7), Ok(vec![w, w, w, w, w, n, w]));
        assert_eq!(windows("phi3", std::slice::from_ref(&window), 2), Ok(vec![w, w]));
        assert_eq!(windows("llama", &[], 2), Ok(vec![n, n]));
        let every_third = [window.clone(), (PATTERN, GgufValue::Unsigned(3))];
        assert_eq!(windows("gemma3", &every_third, 4), Ok(vec![w, w, n, w]));
        let listed = [window, (PATTERN, GgufValue::Bools(vec![false, true, true]))];
        assert_eq!(windows("gemma2", &listed, 3), Ok(vec![n, w, w]));
        let message = windows("gemma2", &listed, 4).expect_err("one entry is missing");
        assert!(message.contains("gemma2.attention.sliding_window_pattern` has 3 entries for 4 layers"), "{message}");
    }

    #[test]
    fn a_gemma_3_without_a_window_has_one_rope() {
        for pairs in [&[][..], &[(WINDOW, GgufValue::Unsigned(0))]] {
            let layers = testing::with_keys("gemma3", pairs, |keys| layers(keys, 7)).expect("no window");
            assert_eq!(layers, [LayerView { window: None, rope: 0 }; 7]);
        }
    }

    #[test]
    fn windows_that_say_nothing_or_too_much() {
        let refused = |family, pairs: &[(&str, GgufValue)], part: &str| {
            let message = windows(family, pairs, 2).expect_err(part);
            assert!(message.contains(part), "{message}");
        };
        let number = |number| GgufValue::Unsigned(number);
        refused("llama", &[(WINDOW, number(4096))], "`llama.attention.sliding_window` is 4096");
        refused("gemma2", &[(WINDOW, number(0))], "`gemma2.attention.sliding_window` is 0");
        refused("gemma3", &[(WINDOW, GgufValue::Signed(-1))], "`gemma3.attention.sliding_window` is -1");
        refused("gemma3", &[(WINDOW, GgufValue::Float(5.0))], "`gemma3.attention.sliding_window` is 5");
        refused("gemma3", &[(PATTERN, number(2))], "`gemma3.attention.sliding_window_pattern` is 2");
        let none = [(WINDOW, number(4)), (PATTERN, number(0))];
        refused("gemma2", &none, "`gemma2.attention.sliding_window_pattern` is 0");
    }
}
