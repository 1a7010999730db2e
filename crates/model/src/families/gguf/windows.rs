//! Which layers see only a window.

use super::keys::Keys;
use crate::architecture::LayerView;
use crate::error::ModelError;
use sinkscope_sources::checkpoint::GgufValue;

pub(in crate::families) const WINDOW: &str = "attention.sliding_window";
const PATTERN: &str = "attention.sliding_window_pattern";

/// The window of a family that has it or not. 0 stands for none: converters write it for Phi-4.
pub(in crate::families) fn window(keys: &Keys<'_>) -> Result<Option<usize>, ModelError> {
    Ok(keys.count(WINDOW)?.filter(|&window| window > 0))
}

/// The layers of a model of which some slide. The pattern is a period, whose last layer sees everything, or says for each
/// layer whether it slides. Without a window none does.
pub(in crate::families) fn windows(
    keys: &Keys<'_>,
    count: usize,
    default_period: usize,
    window: Option<usize>,
) -> Result<Vec<LayerView>, ModelError> {
    let slides = match keys.get(PATTERN) {
        Some(GgufValue::Bools(slides)) if slides.len() == count => slides.clone(),
        Some(GgufValue::Bools(slides)) => {
            let reason = format!("key `{}` has {} entries for {count} layers", keys.name(PATTERN), slides.len());
            return Err(ModelError::malformed(keys.path, reason));
        }
        None if window.is_none() => vec![false; count],
        _ => {
            let period = keys.size(PATTERN)?.unwrap_or(default_period);
            (0..count).map(|layer| !(layer + 1).is_multiple_of(period)).collect()
        }
    };
    match keys.get(PATTERN) {
        Some(value) if window.is_none() && slides.contains(&true) => {
            let wanted = format!("a window (`{}`) beside it", keys.name(WINDOW));
            Err(keys.wrong(PATTERN, value, &wanted))
        }
        _ => Ok(slides.into_iter().map(|slides| LayerView { window: window.filter(|_| slides), rope: 0 }).collect()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use sinkscope_sources::checkpoint::{Checkpoint, GgufMetadata};

    /// The windows of layers that alternate with a period of 2 unless the keys say otherwise.
    fn layers(pairs: &[(&str, GgufValue)], count: usize) -> Result<Vec<Option<usize>>, String> {
        let named = pairs.iter().map(|(key, value)| (format!("f.{key}"), value.clone()));
        let metadata = GgufMetadata(named.collect());
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/gguf/gemma2.gguf");
        let checkpoint = Checkpoint::open_path(Path::new(file)).expect("a fixture");
        let keys = Keys::new(&metadata, &checkpoint, "f", &[]);
        let layers = window(&keys).and_then(|window| windows(&keys, count, 2, window));
        let layers = layers.map_err(|error| error.to_string())?;
        Ok(layers.into_iter().map(|layer| layer.window).collect())
    }

    #[test]
    fn windows_alternate_as_the_file_or_else_the_family_says() {
        let window = (WINDOW, GgufValue::Unsigned(8));
        let (w, n) = (Some(8), None);
        assert_eq!(layers(std::slice::from_ref(&window), 4), Ok(vec![w, n, w, n]));
        let every_third = [window.clone(), (PATTERN, GgufValue::Unsigned(3))];
        assert_eq!(layers(&every_third, 4), Ok(vec![w, w, n, w]));
        let listed = [window, (PATTERN, GgufValue::Bools(vec![false, true, true]))];
        assert_eq!(layers(&listed, 3), Ok(vec![n, w, w]));
        let message = layers(&listed, 4).expect_err("one entry is missing");
        assert!(message.contains("f.attention.sliding_window_pattern` has 3 entries for 4 layers"), "{message}");
        for pairs in [&[][..], &[(WINDOW, GgufValue::Unsigned(0))]] {
            assert_eq!(layers(pairs, 3), Ok(vec![n, n, n]));
        }
    }

    #[test]
    fn windows_that_say_nothing_or_too_much() {
        let refused = |pairs: &[(&str, GgufValue)], part: &str| {
            let message = layers(pairs, 2).expect_err(part);
            assert!(message.contains(part), "{message}");
        };
        let number = |number| GgufValue::Unsigned(number);
        refused(&[(WINDOW, GgufValue::Signed(-1))], "`f.attention.sliding_window` is -1");
        refused(&[(WINDOW, GgufValue::Float(5.0))], "`f.attention.sliding_window` is 5");
        refused(&[(PATTERN, number(2))], "`f.attention.sliding_window_pattern` is 2");
        refused(&[(WINDOW, number(4)), (PATTERN, number(0))], "`f.attention.sliding_window_pattern` is 0");
    }
}
