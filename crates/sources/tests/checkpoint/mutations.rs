//! Damaged at random, a file is either refused or its tensors can be read: never a panic, never a read out of bounds.

use std::path::Path;

use proptest::prelude::*;
use sinkscope_sources::checkpoint::Checkpoint;

use crate::write::{Gguf, f32_bytes, safetensors};

fn gguf() -> Vec<u8> {
    let texts = [&8u32.to_le_bytes()[..], &1u64.to_le_bytes(), &crate::write::text("a")].concat();
    Gguf::new()
        .text("general.architecture", "llama")
        .pair("n", 4, &2u32.to_le_bytes())
        .pair("tokens", 9, &texts)
        .tensor("a", &[32, 2], 3, &[0x11; 40])
        .tensor("b", &[3], 0, &f32_bytes(&[8.0, 9.0, 10.0]))
        .tensor("c", &[256], 14, &[0x22; 210])
        .bytes()
}

fn weights() -> Vec<u8> {
    safetensors(&[
        ("a", "F32", &[2, 2], &f32_bytes(&[1.0, 2.0, 3.0, 4.0])),
        ("b", "F16", &[4], &[0; 8]),
        ("c", "BF16", &[1, 2], &[0; 4]),
        ("d", "BOOL", &[3], &[0; 3]),
    ])
}

/// A file with some bytes replaced (numbers that are likely to hurt among them), then cut or lengthened.
fn damaged(whole: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        any::<u8>(),
        Just(0),
        Just(1),
        Just(255),
        Just(0x7f),
        Just(0x80),
        prop::char::range('!', '~').prop_map(|c| c as u8)
    ];
    let len = whole.len();
    let replaced = prop::collection::vec((0..len, byte), 0..6);
    let cut = prop_oneof![4 => Just(len), 1 => 0..len, 1 => len..len + 64];
    (replaced, cut).prop_map(move |(replaced, cut)| {
        let mut file = whole.clone();
        for (at, byte) in replaced {
            file[at] = byte;
        }
        file.resize(cut, 0);
        file
    })
}

/// Opens the model and reads all there is.
fn read_all(path: &Path) {
    let Ok(checkpoint) = Checkpoint::open_path(path) else { return };
    for tensor in checkpoint.tensors() {
        // Only a file with empty dimensions can claim more rows than it has bytes.
        assert!(tensor.stored_bytes() <= 4096, "{tensor:?}");
        let _ = tensor.decode();
        tensor.release();
    }
    checkpoint.sha256().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn damaged_gguf_files_are_refused_or_read(file in damaged(gguf())) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        std::fs::write(&path, file).unwrap();
        read_all(&path);
    }

    #[test]
    fn damaged_safetensors_files_are_refused_or_read(file in damaged(weights())) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), "{}").unwrap();
        std::fs::write(folder.path().join("model.safetensors"), file).unwrap();
        read_all(folder.path());
    }
}
