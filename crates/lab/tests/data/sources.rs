//! Sources of text: each window once an epoch, batches that are functions, and damage that is found.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use sinkscope_lab::data::{IGNORED, Packing, Source, SourceKind, SourceRequest};

use crate::{on_threads, prepared, request, stories};

fn directory(home: &Path) -> PathBuf {
    let (text, out) = (home.join("stories.txt"), home.join("out"));
    fs::write(&text, stories().join("\x0C")).expect("written");
    prepared(&request(vec![text], &out)).expect("prepared");
    out
}

fn open(kind: SourceKind, packing: Packing, bos: bool, seed: u64) -> Source {
    Source::open(&SourceRequest { kind, packing, bos, seed }).expect("it opens")
}

fn rows(tokens: &[u32], seq_len: usize) -> Vec<Vec<u32>> {
    tokens.chunks(seq_len).map(<[u32]>::to_vec).collect()
}

#[test]
fn an_epoch_has_every_window_once() {
    let home = tempfile::tempdir().expect("a directory");
    let directory = directory(home.path());
    let bytes = fs::read(directory.join("train.bin")).expect("there");
    let stream: Vec<u32> =
        bytes.chunks_exact(2).map(|pair| u32::from(u16::from_le_bytes([pair[0], pair[1]]))).collect();
    let (seq_len, count) = (13, (stream.len() - 1) / 13);
    let source = open(SourceKind::Prepared { directory }, Packing::Stream, false, 5);
    assert_eq!((source.vocabulary(), source.bos()), (300, 0));
    let of_epoch = |epoch: usize| -> Vec<Vec<u32>> {
        let steps = epoch * count..(epoch + 1) * count;
        steps
            .flat_map(|step| {
                source
                    .training(step as u64, 1, seq_len)
                    .expect("read")
                    .inputs
                    .chunks(13)
                    .map(<[u32]>::to_vec)
                    .collect::<Vec<_>>()
            })
            .collect()
    };
    let sorted = |mut windows: Vec<Vec<u32>>| {
        windows.sort();
        windows
    };
    let expected = sorted(rows(&stream[..count * seq_len], seq_len));
    let (first, second) = (of_epoch(0), of_epoch(1));
    assert_ne!(first, second);
    assert_eq!(sorted(first), expected);
    assert_eq!(sorted(second), expected);
}

#[test]
fn batches_are_functions_of_seed_and_step() {
    let home = tempfile::tempdir().expect("a directory");
    let directory = directory(home.path());
    for kind in [SourceKind::Prepared { directory }, SourceKind::BuiltIn { vocabulary: 300 }] {
        for packing in [Packing::Stream, Packing::Document] {
            let source = open(kind.clone(), packing, true, 1);
            let forwards: Vec<_> = (0..20).map(|step| source.training(step, 4, 16).expect("read")).collect();
            let again = open(kind.clone(), packing, true, 1);
            for step in (0..20).rev() {
                let _ = again.held_out(3, 9).expect("read");
                let batch = on_threads(1, || again.training(step, 4, 16)).expect("read");
                assert_eq!(batch, forwards[step as usize], "{kind:?}, {packing:?}, step {step}");
                assert!(batch.inputs.chunks(16).all(|row| row[0] == source.bos()));
            }
            assert_eq!(source.held_out(3, 16).expect("read"), again.held_out(3, 16).expect("read"));
            assert_eq!(source.identity(), again.identity());
            let other = open(kind.clone(), packing, true, 2);
            assert_ne!(other.training(0, 4, 16).expect("read"), forwards[0]);
            assert_eq!(other.held_out(3, 16).expect("read"), source.held_out(3, 16).expect("read"));
            // Two small batches are one large one.
            let halves: Vec<u32> = (6..8).flat_map(|step| source.training(step, 2, 16).expect("read").inputs).collect();
            assert_eq!(halves, forwards[3].inputs);
        }
    }
}

#[test]
fn targets_follow_inputs() {
    let home = tempfile::tempdir().expect("a directory");
    let directory = directory(home.path());
    for (packing, bos) in
        [(Packing::Stream, false), (Packing::Stream, true), (Packing::Document, true), (Packing::Document, false)]
    {
        let source = open(SourceKind::Prepared { directory: directory.clone() }, packing, bos, 3);
        for batch in [source.training(7, 8, 12).expect("read"), source.held_out(8, 12).expect("read")] {
            assert_eq!((batch.inputs.len(), batch.targets.len()), (96, 96));
            for (inputs, targets) in batch.inputs.chunks(12).zip(batch.targets.chunks(12)) {
                for position in 0..11 {
                    assert!(targets[position] == inputs[position + 1] || targets[position] == IGNORED);
                }
                assert!(targets[0] < 300, "each sequence predicts something");
                if packing == Packing::Stream {
                    assert!(!targets.contains(&IGNORED));
                }
            }
        }
    }
}

#[test]
fn documents_held_out_are_in_no_training_batch() {
    let home = tempfile::tempdir().expect("a directory");
    let directory = directory(home.path());
    let source = open(SourceKind::Prepared { directory }, Packing::Document, true, 0);
    // Long enough for most of a story, which is like no other.
    let held_out: BTreeSet<_> = rows(&source.held_out(8, 40).expect("read").inputs, 40).into_iter().collect();
    assert_eq!(held_out.len(), 8);
    for step in 0..100 {
        let batch = source.training(step, 8, 40).expect("read");
        assert!(rows(&batch.inputs, 40).iter().all(|row| !held_out.contains(row)));
    }
}

#[test]
fn the_built_in_text_needs_no_file() {
    let bytes = open(SourceKind::BuiltIn { vocabulary: 257 }, Packing::Stream, false, 0);
    assert_eq!(bytes.vocabulary(), 257);
    assert!(bytes.training(0, 8, 128).is_ok() && bytes.held_out(4, 128).is_ok());
    let learned = open(SourceKind::BuiltIn { vocabulary: 512 }, Packing::Stream, false, 0);
    assert_ne!(bytes.identity().sha256, learned.identity().sha256);
    let tokenizer = tokenizers::Tokenizer::from_bytes(learned.tokenizer().expect("a tokeniser")).expect("it loads");
    assert_eq!(tokenizer.get_vocab_size(true), 512);
    let text = tokenizer.decode(&learned.training(0, 1, 64).expect("read").inputs, true).expect("text");
    assert!(text.split_whitespace().count() > 10, "{text}");
    let request = SourceRequest {
        kind: SourceKind::BuiltIn { vocabulary: 50_000 },
        packing: Packing::Stream,
        bos: false,
        seed: 0,
    };
    let message = Source::open(&request).expect_err("too large").to_string();
    assert!(message.contains("the text supports"), "{message}");
}

#[test]
fn shapes_that_cannot_be_are_refused() {
    let source = open(SourceKind::BuiltIn { vocabulary: 300 }, Packing::Stream, true, 0);
    for (sequences, seq_len, expected) in
        [(0, 8, "a batch of 0"), (1, 1, "a sequence length of 1"), (1, 1 << 20, "gives 0 sequences")]
    {
        for outcome in [source.training(0, sequences, seq_len), source.held_out(sequences, seq_len)] {
            let message = outcome.expect_err(expected).to_string();
            assert!(message.contains(expected), "{message}");
        }
    }
    assert!(source.training(u64::MAX, 2, 8).is_ok(), "there is no last step");
}

#[test]
fn damage_is_found() {
    let home = tempfile::tempdir().expect("a directory");
    let whole = directory(home.path());
    let refused = |damage: &dyn Fn(&Path)| {
        let copy = home.path().join("copy");
        let _ = fs::remove_dir_all(&copy);
        fs::create_dir(&copy).expect("made");
        for entry in fs::read_dir(&whole).expect("a directory") {
            let entry = entry.expect("an entry");
            fs::copy(entry.path(), copy.join(entry.file_name())).expect("copied");
        }
        damage(&copy);
        let kind = SourceKind::Prepared { directory: copy };
        let request = SourceRequest { kind, packing: Packing::Stream, bos: false, seed: 0 };
        Source::open(&request).expect_err("damaged").to_string()
    };
    let change = |path: PathBuf, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = fs::read(&path).expect("there");
        change(&mut bytes);
        fs::write(path, bytes).expect("written");
    };
    let message = refused(&|copy| change(copy.join("train.bin"), &|bytes| bytes[100] ^= 1));
    assert!(message.contains("train.bin: its SHA-256"), "{message}");
    let message = refused(&|copy| change(copy.join("val.bin"), &|bytes| bytes.truncate(bytes.len() - 1)));
    assert!(message.contains("val.bin: has ") && message.contains("data.json says"), "{message}");
    let message = refused(&|copy| change(copy.join("val.idx"), &|bytes| bytes[9] ^= 1));
    assert!(message.contains("val.idx: its SHA-256"), "{message}");
    let message = refused(&|copy| change(copy.join("tokenizer.json"), &|bytes| bytes.push(b' ')));
    assert!(message.contains("tokenizer.json: its SHA-256"), "{message}");
    let message = refused(&|copy| fs::remove_file(copy.join("train.idx")).expect("removed"));
    assert!(message.contains("train.idx: is missing"), "{message}");
    let message = refused(&|copy| fs::remove_file(copy.join("data.json")).expect("removed"));
    assert!(message.contains("no data.json in it"), "{message}");
    let message = refused(&|copy| fs::write(copy.join("data.json"), "{}").expect("written"));
    assert!(message.contains("data.json: not a record of prepared data"), "{message}");
    let message = refused(&|copy| {
        let path = copy.join("data.json");
        let text = fs::read_to_string(&path).expect("there").replace("\"layout\": 1", "\"layout\": 2");
        fs::write(path, text).expect("written");
    });
    assert!(message.contains("layout 2 is not known"), "{message}");
}
