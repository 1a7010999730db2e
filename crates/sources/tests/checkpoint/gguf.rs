//! GGUF files, sound and damaged.

use sinkscope_sources::SourceError;
use sinkscope_sources::checkpoint::{Checkpoint, DType, GgufValue, Metadata, Tensor};

use crate::write::{Gguf, f32_bytes, text};

fn sound() -> Gguf {
    Gguf::new()
        .text("general.architecture", "llama")
        .pair("llama.block_count", 4, &2u32.to_le_bytes())
        .tensor("first", &[4, 2], 0, &f32_bytes(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]))
        .tensor("second", &[3], 0, &f32_bytes(&[8.0, 9.0, 10.0]))
}

fn open(file: &[u8]) -> Result<Checkpoint, SourceError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a-model.gguf");
    std::fs::write(&path, file).unwrap();
    Checkpoint::open_path(&path)
}

/// Asserts that the file is refused with a message that holds all of `parts` and the path.
fn refused(file: &Gguf, parts: &[&str]) {
    refused_bytes(&file.bytes(), parts);
}

fn refused_bytes(file: &[u8], parts: &[&str]) {
    let message = open(file).unwrap_err().to_string();
    assert!(message.contains("a-model.gguf"), "{message}");
    for part in parts {
        assert!(message.contains(part), "{part:?} not in {message:?}");
    }
}

#[test]
fn tensors_are_read_in_versions_2_and_3() {
    for version in [2, 3] {
        let checkpoint = open(&Gguf { version, ..sound() }.bytes()).unwrap();
        assert_eq!(checkpoint.name(), "a-model");
        assert_eq!(checkpoint.tensors().map(Tensor::len).sum::<usize>(), 11);
        assert_eq!(checkpoint.tensors().map(Tensor::name).collect::<Vec<_>>(), ["first", "second"]);
        let first = checkpoint.tensor("first").unwrap();
        assert_eq!((first.shape(), first.rows(), first.row_len()), (&[2, 4][..], 2, 4));
        assert_eq!((first.dtype(), first.stored_bytes()), (DType::F32, 32));
        let mut row = [0.0; 4];
        first.decode_rows(1..2, &mut row).unwrap();
        assert_eq!(row, [4.0, 5.0, 6.0, 7.0]);
        first.release();
        first.decode_rows(1..2, &mut row).unwrap();
        assert_eq!(row, [4.0, 5.0, 6.0, 7.0], "pages come back after a release");
        let second = checkpoint.require("second").unwrap();
        assert_eq!((second.shape(), second.rows(), second.row_len()), (&[3][..], 1, 3));
        assert_eq!(second.decode().unwrap(), [8.0, 9.0, 10.0]);
        assert!(checkpoint.require("third").unwrap_err().to_string().contains("tensor third: is missing"));
    }
}

#[test]
fn every_kind_of_metadata_is_read() {
    let array = |kind: u32, len: u64, items: &[u8]| [&kind.to_le_bytes()[..], &len.to_le_bytes(), items].concat();
    let file = sound()
        .pair("u8", 0, &[255])
        .pair("i8", 1, &[255])
        .pair("u16", 2, &[1, 2])
        .pair("i16", 3, &[254, 255])
        .pair("i32", 5, &(-3i32).to_le_bytes())
        .pair("f32", 6, &1.5f32.to_le_bytes())
        .pair("bool", 7, &[1])
        .pair("u64", 10, &u64::MAX.to_le_bytes())
        .pair("i64", 11, &i64::MIN.to_le_bytes())
        .pair("f64", 12, &2.5f64.to_le_bytes())
        .pair("bytes", 9, &array(0, 2, &[1, 255]))
        .pair("small", 9, &array(1, 2, &[1, 255]))
        .pair("ints", 9, &array(5, 1, &(-7i32).to_le_bytes()))
        .pair("floats", 9, &array(6, 1, &0.5f32.to_le_bytes()))
        .pair("bools", 9, &array(7, 2, &[0, 1]))
        .pair("texts", 9, &array(8, 2, &[text("a"), text("ü")].concat()))
        .pair("long", 9, &array(10, 1, &9u64.to_le_bytes()));
    let checkpoint = open(&file.bytes()).unwrap();
    let Metadata::Gguf(metadata) = checkpoint.metadata() else { panic!("not GGUF") };
    let expected = [
        ("u8", GgufValue::Unsigned(255)),
        ("i8", GgufValue::Signed(-1)),
        ("u16", GgufValue::Unsigned(0x0201)),
        ("i16", GgufValue::Signed(-2)),
        ("i32", GgufValue::Signed(-3)),
        ("f32", GgufValue::Float(1.5)),
        ("bool", GgufValue::Bool(true)),
        ("u64", GgufValue::Unsigned(u64::MAX)),
        ("i64", GgufValue::Signed(i64::MIN)),
        ("f64", GgufValue::Float(2.5)),
        ("bytes", GgufValue::Integers(vec![1, 255])),
        ("small", GgufValue::Integers(vec![1, -1])),
        ("ints", GgufValue::Integers(vec![-7])),
        ("floats", GgufValue::Floats(vec![0.5])),
        ("bools", GgufValue::Bools(vec![false, true])),
        ("texts", GgufValue::Texts(vec!["a".into(), "ü".into()])),
        ("long", GgufValue::Integers(vec![9])),
        ("general.architecture", GgufValue::Text("llama".into())),
    ];
    for (key, value) in expected {
        assert_eq!(metadata.0.get(key), Some(&value), "{key}");
    }
}

#[test]
fn a_file_cut_off_anywhere_is_refused() {
    let whole = sound().bytes();
    for len in 0..whole.len() {
        let message = open(&whole[..len]).unwrap_err().to_string();
        assert!(message.contains("a-model.gguf"), "{len}: {message}");
        let says = ["truncated", "empty"].iter().any(|word| message.contains(word));
        assert!(says, "{len}: {message}");
    }
}

#[test]
fn wrong_magic_and_versions_are_refused() {
    refused(&Gguf { magic: *b"GGML", ..sound() }, &["not a GGUF file", "47, 47, 4d, 4c"]);
    refused(&Gguf { version: 1, ..sound() }, &["version 1"]);
    refused(&Gguf { version: 4, ..sound() }, &["version 4", "versions 2 and 3"]);
    refused(&Gguf { version: 3u32.swap_bytes(), ..sound() }, &["big-endian"]);
}

#[test]
fn absurd_counts_and_lengths_are_refused() {
    refused(&Gguf { tensor_count: Some(u64::MAX), ..sound() }, &["tensors", "room for"]);
    refused(&Gguf { pair_count: Some(1 << 40), ..sound() }, &["metadata pairs", "room for"]);
    refused(&sound().pair("k", 8, &u64::MAX.to_le_bytes()), &["\"k\"", "room for"]);
    let array = [&5u32.to_le_bytes()[..], &(1u64 << 62).to_le_bytes()].concat();
    refused(&sound().pair("k", 9, &array), &["\"k\"", "room for"]);
}

#[test]
fn metadata_that_makes_no_sense_is_refused() {
    let nested = [&9u32.to_le_bytes()[..], &0u64.to_le_bytes()].concat();
    refused(&sound().pair("deep", 9, &nested), &["\"deep\"", "array of arrays"]);
    refused(&sound().pair("odd", 13, &[0]), &["\"odd\"", "type 13"]);
    refused(&sound().pair("maybe", 7, &[2]), &["\"maybe\"", "boolean 2"]);
    refused(&sound().text("general.architecture", "gpt2"), &["\"general.architecture\" occurs twice"]);
    for alignment in [0u32, 3, 48] {
        refused(
            &sound().pair("general.alignment", 4, &alignment.to_le_bytes()),
            &["general.alignment", "power of two"],
        );
    }
    refused(&sound().pair("general.alignment", 10, &(1u64 << 63).to_le_bytes()), &["a-model"]);
    refused(&sound().pair("split.count", 2, &[3, 0]), &["3 parts"]);
}

#[test]
fn another_alignment_is_honoured() {
    for alignment in [8usize, 64] {
        let file = Gguf { alignment, ..Gguf::new() }
            .pair("general.alignment", 4, &(alignment as u32).to_le_bytes())
            .tensor("a", &[1], 0, &f32_bytes(&[1.0]))
            .tensor("b", &[1], 0, &f32_bytes(&[2.0]));
        let checkpoint = open(&file.bytes()).unwrap();
        assert_eq!(checkpoint.tensor("b").unwrap().decode().unwrap(), [2.0]);
    }
}

fn with_first(change: impl Fn(&mut crate::write::GgufTensor)) -> Gguf {
    let mut file = sound();
    change(&mut file.tensors[0]);
    file
}

#[test]
fn tensors_that_cannot_be_are_refused() {
    refused(&with_first(|t| t.name = "second".into()), &["\"second\" occurs twice"]);
    refused(&with_first(|t| t.dims = vec![]), &["\"first\"", "0 dimensions"]);
    refused(&with_first(|t| t.dims = vec![1; 5]), &["\"first\"", "5 dimensions"]);
    refused(&with_first(|t| t.dims = vec![1 << 40, 1 << 40]), &["\"first\"", "overflows"]);
    refused(&with_first(|t| t.dims = vec![1 << 62, 1]), &["\"first\"", "overflows"]);
    refused(&with_first(|t| t.dims = vec![4, 200]), &["\"first\"", "beyond the end"]);
    refused(&with_first(|t| t.offset = 1 << 30), &["\"first\"", "beyond the end"]);
    refused(&with_first(|t| t.offset = u64::MAX - 31), &["\"first\"", "beyond the end"]);
    refused(&with_first(|t| t.offset = 4), &["\"first\"", "offset 4", "alignment 32"]);
    let mut overlapping = sound();
    overlapping.tensors[1].offset = 0;
    refused(&overlapping, &["overlap", "\"first\"", "\"second\""]);
    refused(&with_first(|t| t.dtype = 8), &["\"first\"", "rows of 4", "multiple of 32", "Q8_0"]);
}

#[test]
fn unsupported_types_are_named_with_those_supported() {
    for (number, name) in [(16, "IQ2_XXS"), (23, "IQ4_XS"), (34, "TQ1_0"), (39, "MXFP4"), (28, "F64"), (24, "I8")] {
        let expected = format!("type {number} ({name})");
        refused(&with_first(|t| t.dtype = number), &["\"first\"", &expected, "Q4_1", "Q6_K", "BF16"]);
    }
    refused(&with_first(|t| t.dtype = 999), &["type 999,"]);
}

#[test]
fn a_file_without_tensors_is_refused() {
    refused(&Gguf::new().text("general.architecture", "llama"), &["no tensors"]);
}

#[test]
fn values_that_are_not_finite_are_found_on_decoding() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut values = vec![1.0f32; 3 * 5000];
        values[2 * 5000 + 4321] = bad;
        let checkpoint = open(&Gguf::new().tensor("w", &[5000, 3], 0, &f32_bytes(&values)).bytes()).unwrap();
        let tensor = checkpoint.tensor("w").unwrap();
        let mut out = vec![0.0; 5000];
        tensor.decode_rows(0..1, &mut out).unwrap();
        for (rows, len) in [(0..3, 15000), (2..3, 5000)] {
            let message = tensor.decode_rows(rows, &mut vec![0.0; len]).unwrap_err().to_string();
            assert!(message.contains("tensor w") && message.contains("row 2, column 4321"), "{message}");
            assert!(message.contains(&bad.to_string()), "{message}");
        }
    }
    // A scale that is infinite makes a quantised block so.
    let mut block = [0x88; 34];
    block[..2].copy_from_slice(&0x7c00u16.to_le_bytes());
    let checkpoint = open(&Gguf::new().tensor("w", &[32], 8, &block).bytes()).unwrap();
    assert!(checkpoint.tensor("w").unwrap().decode().is_err());
}

#[test]
fn rows_that_do_not_exist_and_wrong_room_are_refused() {
    let checkpoint = open(&sound().bytes()).unwrap();
    let tensor = checkpoint.tensor("first").unwrap();
    let message = tensor.decode_rows(1..3, &mut [0.0; 8]).unwrap_err().to_string();
    assert!(message.contains("rows 1..3 asked of 2"), "{message}");
    #[expect(clippy::reversed_empty_ranges, reason = "what is tested")]
    let backwards = tensor.decode_rows(2..1, &mut []);
    assert!(backwards.is_err());
    assert!(tensor.decode_rows(0..1, &mut [0.0; 3]).is_err());
    tensor.release_rows(5..9);
}

#[test]
fn the_hash_is_that_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = Checkpoint::open_path(&sound().write(folder.path())).unwrap();
    std::fs::write(checkpoint.path(), "abc").unwrap();
    // SHA-256 of "abc", FIPS 180-2 appendix B.1.
    let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(checkpoint.sha256().unwrap(), expected);
}

/// Memory resident because of mapped files, in bytes.
#[cfg(target_os = "linux")]
fn resident_file_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssFile:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

#[test]
#[cfg(target_os = "linux")]
fn released_rows_do_not_stay_resident() {
    const MIB: usize = 1 << 20;
    let row = 1024;
    let rows = 64 * MIB / (4 * row);
    let file = Gguf::new().tensor("w", &[row as u64, rows as u64], 0, &vec![0; 64 * MIB]);
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = Checkpoint::open_path(&file.write(folder.path())).unwrap();
    let tensor = checkpoint.tensor("w").unwrap();
    let before = resident_file_bytes();
    let mut out = vec![0.0; 256 * row];
    for first in (0..rows).step_by(256) {
        tensor.decode_rows(first..first + 256, &mut out).unwrap();
        tensor.release_rows(first..first + 256);
        assert!(resident_file_bytes() < before + 16 * MIB, "after row {first}");
    }
}
