//! The model that is part of the program: small, trained by `recipes/demo.toml`, with both spikes and sinks. `scripts/make_demo.py`
//! makes it anew.

use serde_json::Value;

use super::{Checkpoint, Metadata};
use crate::SourceError;

/// What the model is called, also where a path or a hub id is expected.
pub const DEMO: &str = "demo";

static CONFIG: &[u8] = include_bytes!("../../demo/config.json");
static WEIGHTS: &[u8] = include_bytes!("../../demo/model.safetensors");
static TOKENIZER: &[u8] = include_bytes!("../../demo/tokenizer.json");
static TOKENIZER_CONFIG: &[u8] = include_bytes!("../../demo/tokenizer_config.json");

pub(super) fn open() -> Result<Checkpoint, SourceError> {
    let json = |bytes: &[u8]| -> Result<Value, SourceError> {
        serde_json::from_slice(bytes).map_err(|error| SourceError::malformed(DEMO, format!("not valid JSON: {error}")))
    };
    let mut demo = Checkpoint::from_memory(DEMO, json(CONFIG)?, WEIGHTS.to_vec())?;
    if let Metadata::Memory { tokenizer, tokenizer_config, .. } = &mut demo.metadata {
        *tokenizer = Some(TOKENIZER);
        *tokenizer_config = json(TOKENIZER_CONFIG)?;
    }
    Ok(demo)
}

#[cfg(test)]
mod tests {
    use crate::checkpoint::Checkpoint;
    use crate::tokenizer::Tokenizer;

    #[test]
    fn it_opens_by_its_name_reads_text_and_stays_small() {
        let checkpoint = Checkpoint::open(super::DEMO).expect("whole");
        let tokenizer = Tokenizer::from_metadata(checkpoint.metadata(), checkpoint.path());
        let tokenizer = tokenizer.expect("whole").expect("it has one");
        assert!(tokenizer.adds_bos() && tokenizer.bos().is_some());
        let text = "The river was low.";
        let ids = tokenizer.encode(text).expect("encoded");
        assert_eq!(ids.iter().map(|&id| tokenizer.decode_token(id)).collect::<String>(), text);
        let bytes = [super::CONFIG, super::WEIGHTS, super::TOKENIZER, super::TOKENIZER_CONFIG].map(<[u8]>::len);
        assert!(bytes.iter().sum::<usize>() < 8 << 20, "{bytes:?}");
    }
}
