//! Hugging Face directories, sound and damaged.

use std::path::Path;

use sinkscope_sources::SourceError;
use sinkscope_sources::checkpoint::{Checkpoint, DType, Metadata, Tensor};
use tempfile::TempDir;

use crate::write::{Gguf, f32_bytes, safetensors, safetensors_raw};

const CONFIG: &str = r#"{"model_type": "llama"}"#;

fn directory(files: &[(&str, &[u8])]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

fn with_weights(weights: &[u8]) -> TempDir {
    directory(&[("config.json", CONFIG.as_bytes()), ("model.safetensors", weights)])
}

/// Asserts that the directory is refused with a message that holds all of `parts`.
fn refused(folder: &TempDir, parts: &[&str]) {
    let message = Checkpoint::open_path(folder.path()).unwrap_err().to_string();
    assert!(message.contains(folder.path().to_str().unwrap()), "{message}");
    for part in parts {
        assert!(message.contains(part), "{part:?} not in {message:?}");
    }
}

fn halves() -> Vec<u8> {
    // 1.0, -2.0 as F16 and 1.0, -3.0 as BF16.
    let half = [0x00, 0x3c, 0x00, 0xc0];
    let brain = [0x80, 0x3f, 0x40, 0xc0];
    safetensors(&[
        ("half", "F16", &[2, 1], &half),
        ("brain", "BF16", &[2], &brain),
        ("full", "F32", &[1, 2, 3], &f32_bytes(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])),
        ("mask", "BOOL", &[3], &[1, 0, 1]),
        ("scalar", "F32", &[], &f32_bytes(&[7.0])),
    ])
}

#[test]
fn a_single_file_is_read() {
    let folder = with_weights(&halves());
    let checkpoint = Checkpoint::open(folder.path().to_str().unwrap()).unwrap();
    assert_eq!(checkpoint.path(), folder.path());
    assert_eq!(checkpoint.name(), folder.path().file_name().unwrap().to_str().unwrap());
    let Metadata::HuggingFace { folder: named, config } = checkpoint.metadata() else { panic!("not a directory") };
    assert_eq!((named.as_path(), config["model_type"].as_str()), (folder.path(), Some("llama")));
    assert_eq!(checkpoint.tensors().map(Tensor::name).collect::<Vec<_>>(), ["brain", "full", "half", "scalar"]);
    assert_eq!(checkpoint.tensors().map(Tensor::len).sum::<usize>(), 11);
    let tensor = |name: &str| checkpoint.tensor(name).unwrap();
    assert_eq!((tensor("half").dtype(), tensor("half").decode().unwrap()), (DType::F16, vec![1.0, -2.0]));
    assert_eq!((tensor("brain").dtype(), tensor("brain").decode().unwrap()), (DType::Bf16, vec![1.0, -3.0]));
    assert_eq!((tensor("full").rows(), tensor("full").row_len()), (2, 3));
    let mut row = [0.0; 3];
    tensor("full").decode_rows(1..2, &mut row).unwrap();
    assert_eq!(row, [4.0, 5.0, 6.0]);
    assert_eq!((tensor("scalar").rows(), tensor("scalar").decode().unwrap()), (1, vec![7.0]));
    let message = checkpoint.require("mask").unwrap_err().to_string();
    assert!(message.contains("tensor mask: is stored as BOOL"), "{message}");
}

#[test]
fn tensors_can_be_shared_between_threads_and_outlive_the_checkpoint() {
    let folder = with_weights(&halves());
    let tensor = Checkpoint::open_path(folder.path()).unwrap().tensor("full").unwrap().clone();
    std::thread::scope(|scope| {
        for row in 0..2 {
            let tensor = &tensor;
            scope.spawn(move || tensor.decode_rows(row..row + 1, &mut [0.0; 3]).unwrap());
        }
    });
}

fn index(map: &[(&str, &str)]) -> String {
    let map: serde_json::Map<_, _> = map.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
    serde_json::json!({"metadata": {"total_size": 8}, "weight_map": map}).to_string()
}

fn shard(name: &str, value: f32) -> Vec<u8> {
    safetensors(&[(name, "F32", &[1], &f32_bytes(&[value]))])
}

fn sharded(index: &str, shards: &[(&str, Vec<u8>)]) -> TempDir {
    let folder = directory(&[("config.json", CONFIG.as_bytes()), ("model.safetensors.index.json", index.as_bytes())]);
    for (name, bytes) in shards {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

#[test]
fn shards_are_read_together() {
    let folder = sharded(
        &index(&[("a", "2.safetensors"), ("b", "1.safetensors")]),
        &[("1.safetensors", shard("b", 1.0)), ("2.safetensors", shard("a", 2.0))],
    );
    let checkpoint = Checkpoint::open_path(folder.path()).unwrap();
    assert_eq!(checkpoint.tensor("a").unwrap().decode().unwrap(), [2.0]);
    assert_eq!(checkpoint.tensor("b").unwrap().decode().unwrap(), [1.0]);
    for (file, bytes) in [("1.safetensors", "abc"), ("2.safetensors", "")] {
        std::fs::write(folder.path().join(file), bytes).unwrap();
    }
    // python: sha256(sha256(b"abc").digest() + sha256(b"").digest()).hexdigest()
    let expected = "6f1290896ee81a0349174d19f4473d267a10289c40480861d5c42affffbd79f9";
    assert_eq!(checkpoint.sha256().unwrap(), expected);
}

#[test]
fn shards_that_disagree_with_their_index_are_refused() {
    let one = || ("1.safetensors", shard("a", 1.0));
    let map = index(&[("a", "1.safetensors"), ("b", "2.safetensors")]);
    refused(&sharded(&map, &[one()]), &["2.safetensors", "does not exist", "2 shards"]);
    let wrong = ("2.safetensors", shard("c", 1.0));
    // A tied head, say, is named and not stored: what is missing is missed by whoever needs it.
    let checkpoint = Checkpoint::open_path(sharded(&map, &[one(), wrong]).path()).unwrap();
    let message = checkpoint.require("b").unwrap_err().to_string();
    assert!(message.contains("tensor b: is in none of the shards, though model.safetensors.index.json"), "{message}");
    assert_eq!(checkpoint.names().collect::<Vec<_>>(), ["a", "c", "b"]);
    let twice = ("2.safetensors", safetensors(&[("a", "F32", &[0], &[]), ("b", "F32", &[0], &[])]));
    refused(&sharded(&map, &[one(), twice]), &["2.safetensors", "tensor a", "also in 1.safetensors"]);
    let swapped = index(&[("a", "2.safetensors"), ("b", "1.safetensors")]);
    refused(&sharded(&swapped, &[one(), ("2.safetensors", shard("b", 1.0))]), &["tensor a", "is in 1.safetensors"]);
    for path in ["../1.safetensors", "/etc/1.safetensors", ""] {
        refused(&sharded(&index(&[("a", path)]), &[]), &["index.json", "same directory"]);
    }
    refused(&sharded("{}", &[]), &["index.json", "weight_map"]);
    refused(&sharded("", &[]), &["index.json", "empty"]);
    refused(&sharded(&index(&[]), &[]), &["index.json", "weight_map"]);
    refused(&sharded("{\n  \"weight_map\": 3}", &[]), &["index.json", "line 2 column"]);
}

#[test]
fn a_directory_without_a_whole_model_says_what_is_needed() {
    refused(&directory(&[]), &["no config.json", "model.safetensors"]);
    refused(&directory(&[("config.json", b"{}")]), &["no model.safetensors"]);
    let torch: [(&str, &[u8]); 2] = [("config.json", b"{}"), ("pytorch_model.bin", b"x")];
    refused(&directory(&torch), &["pytorch_model.bin", "safetensors is needed"]);
    refused(&directory(&[("x.gguf", b"GGUF")]), &["x.gguf", "path of the file itself"]);
    let adapter: [(&str, &[u8]); 2] = [("config.json", b"{}"), ("adapter_model.safetensors", b"x")];
    refused(&directory(&adapter), &["adapter_model.safetensors"]);
    let of_base = br#"{"base_model_name_or_path": "owner/base"}"#;
    let adapter: [(&str, &[u8]); 2] = [("adapter_config.json", of_base), ("adapter_model.safetensors", b"x")];
    refused(&directory(&adapter), &["adapter of owner/base", "merge"]);
    let only_weights = directory(&[("model.safetensors", &halves())]);
    refused(&only_weights, &["no config.json"]);
    let file = only_weights.path().join("model.safetensors");
    let message = Checkpoint::open_path(&file).unwrap_err().to_string();
    assert!(message.contains("give the directory"), "{message}");
}

#[test]
fn a_config_that_cannot_be_read_is_named_with_line_and_column() {
    let config = |text: &str| directory(&[("config.json", text.as_bytes()), ("model.safetensors", &halves())]);
    refused(&config("{\n  \"a\": nope\n}"), &["config.json", "line 2 column 9"]);
    refused(&config(""), &["config.json", "empty"]);
    refused(&config("[]"), &["config.json", "not a JSON object"]);
}

#[test]
fn a_missing_or_empty_file_says_what_a_model_is() {
    let folder = directory(&[("empty.gguf", b""), ("config.json", b"{}"), ("model.safetensors", b"")]);
    let open = |name: &str| Checkpoint::open(folder.path().join(name).to_str().unwrap()).unwrap_err();
    let missing = open("missing.gguf");
    assert!(matches!(missing, SourceError::Io { .. }));
    assert!(missing.to_string().contains("missing.gguf") && missing.to_string().contains("hub id"), "{missing}");
    assert!(open("empty.gguf").to_string().contains("is empty"));
    refused(&folder, &["model.safetensors", "is empty"]);
    // Nothing of that name here, and too plainly a file to be asked of the hub.
    assert!(matches!(Checkpoint::open("no-such-folder/model.gguf"), Err(SourceError::Io { .. })));
    assert!(Checkpoint::open("").is_err());
}

#[test]
fn a_file_that_is_no_gguf_is_refused() {
    let folder = directory(&[("model.bin", b"PK\x03\x04 and so on")]);
    let message = Checkpoint::open_path(&folder.path().join("model.bin")).unwrap_err().to_string();
    assert!(message.contains("not a GGUF file"), "{message}");
    // The content decides, not the name.
    let gguf = Gguf::new().tensor("a", &[1], 0, &f32_bytes(&[1.0])).bytes();
    std::fs::write(folder.path().join("model.bin"), gguf).unwrap();
    assert!(Checkpoint::open_path(&folder.path().join("model.bin")).is_ok());
}

#[test]
fn safetensors_cut_off_anywhere_are_refused() {
    let whole = halves();
    for len in 0..whole.len() {
        let folder = with_weights(&whole[..len]);
        let message = Checkpoint::open_path(folder.path()).unwrap_err().to_string();
        let says = ["truncated", "empty"].iter().any(|word| message.contains(word));
        assert!(says && message.contains("model.safetensors"), "{len}: {message}");
    }
}

#[test]
fn safetensors_with_wrong_offsets_are_refused() {
    let one = |dtype: &str, shape: &str, start: u64, end: u64| {
        let header = format!(r#"{{"w":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{start},{end}]}}}}"#);
        with_weights(&safetensors_raw(&header, &[0; 16]))
    };
    assert!(Checkpoint::open_path(one("F32", "[4]", 0, 16).path()).is_ok());
    refused(&one("F32", "[5]", 0, 20), &["model.safetensors", "tensor w", "20", "16", "truncated"]);
    refused(&one("F32", "[4]", u64::MAX - 15, u64::MAX), &["tensor w", "truncated"]);
    refused(&one("F32", "[3]", 0, 12), &["model.safetensors", "truncated or damaged"]);
    refused(&one("F32", "[3]", 4, 16), &["\"w\"", "offsets"]);
    refused(&one("F32", "[4]", 16, 0), &["\"w\"", "offsets"]);
    refused(&one("F32", "[5]", 0, 16), &["model.safetensors", "not valid"]);
    refused(&one("F32", "[4611686018427387904, 4]", 0, 16), &["model.safetensors", "overflow"]);
    let two = r#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,12]},"b":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}"#;
    refused(&with_weights(&safetensors_raw(two, &[0; 16])), &["\"b\"", "overlap"]);
}

#[test]
fn files_that_are_not_safetensors_are_refused() {
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n";
    refused(&with_weights(pointer), &["Git LFS pointer"]);
    refused(&with_weights(b"PK\x03\x04 and then something"), &["not safetensors"]);
    refused(&with_weights(&safetensors_raw("{not json", &[])), &["header", "damaged"]);
    refused(&with_weights(&safetensors(&[("mask", "BOOL", &[1], &[1])])), &["no tensors"]);
}

#[test]
fn unsupported_types_are_named() {
    let eight = safetensors(&[("w", "F64", &[1], &[0; 8])]);
    refused(&with_weights(&eight), &["tensor w", "F64", "F32, F16 and BF16"]);
    refused(&with_weights(&safetensors(&[("w", "F8_E4M3", &[1], &[0])])), &["tensor w", "F8_E4M3"]);
}

#[test]
fn nan_weights_are_found_on_decoding() {
    for (dtype, bytes) in
        [("F32", f32_bytes(&[1.0, f32::NAN])), ("F16", vec![0, 0x3c, 0, 0x7e]), ("BF16", vec![0, 0, 0xc0, 0x7f])]
    {
        let folder = with_weights(&safetensors(&[("w", dtype, &[1, 2], &bytes)]));
        let checkpoint = Checkpoint::open_path(folder.path()).unwrap();
        let message = checkpoint.tensor("w").unwrap().decode().unwrap_err().to_string();
        assert!(message.contains("model.safetensors: tensor w: the value at row 0, column 1 is NaN"), "{message}");
    }
}

#[test]
fn the_name_of_a_directory_does_not_depend_on_how_it_is_written() {
    let folder = with_weights(&halves());
    let name = folder.path().file_name().unwrap().to_str().unwrap();
    for path in [folder.path().join(""), folder.path().join("."), Path::new(folder.path()).join("..").join(name)] {
        assert_eq!(Checkpoint::open_path(&path).unwrap().name(), name);
    }
}
