//! `prepare`: files of tokens against the tokeniser of the `tokenizers` crate, and what they promise.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;

use serde_json::json;
use sinkscope_lab::data::prepare::HeldOut;
use sinkscope_lab::data::{Manifest, Separator};
use tokenizers::Tokenizer;

use crate::{on_threads, prepared, request, stories};

fn tokens(directory: &Path, split: &str) -> Vec<u32> {
    let bytes = fs::read(directory.join(format!("{split}.bin"))).expect("there");
    bytes.chunks_exact(2).map(|pair| u32::from(u16::from_le_bytes([pair[0], pair[1]]))).collect()
}

fn starts(directory: &Path, split: &str) -> Vec<usize> {
    let bytes = fs::read(directory.join(format!("{split}.idx"))).expect("there");
    bytes.chunks_exact(8).map(|number| u64::from_le_bytes(number.try_into().expect("eight")) as usize).collect()
}

/// The documents of a split, as text.
fn documents(directory: &Path, split: &str) -> Vec<String> {
    let tokenizer = Tokenizer::from_file(directory.join("tokenizer.json")).expect("a tokeniser");
    let (tokens, starts) = (tokens(directory, split), starts(directory, split));
    let documents = starts.windows(2).map(|document| {
        assert_eq!(tokens[document[0]], 0, "each document begins with <s>");
        tokenizer.decode(&tokens[document[0] + 1..document[1]], false).expect("ids of the vocabulary")
    });
    assert_eq!(starts.last(), Some(&tokens.len()));
    documents.collect()
}

fn files(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(directory)
        .expect("a directory")
        .map(|entry| {
            let entry = entry.expect("an entry");
            (entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path()).expect("a file"))
        })
        .collect();
    files.sort();
    files
}

#[test]
fn every_document_is_in_one_split_whole() {
    let home = tempfile::tempdir().expect("a directory");
    let (text, out) = (home.path().join("stories.txt"), home.path().join("out"));
    fs::write(&text, stories().join("\x0C")).expect("written");
    let manifest = prepared(&request(vec![text], &out)).expect("prepared");
    let (train, val) = (documents(&out, "train"), documents(&out, "val"));
    assert_eq!((train.len() as u64, val.len() as u64), (manifest.train.documents, manifest.val.documents));
    assert!((15..=45).contains(&val.len()), "{} of 300 held out", val.len());
    let all: BTreeSet<String> = train.iter().chain(&val).cloned().collect();
    assert_eq!(all, stories().into_iter().collect());
    assert_eq!(train.len() + val.len(), 300);
    let bytes: usize = val.iter().map(String::len).sum();
    assert_eq!(manifest.held_out_bytes, bytes as u64);
    assert_eq!(manifest.bytes, stories().iter().map(|story| story.len() as u64).sum::<u64>());
    assert_eq!(Manifest::read(&out).expect("data.json"), manifest);
    let names: Vec<String> = files(&out).into_iter().map(|(name, _)| name).collect();
    let expected =
        ["data.json", "tokenizer.json", "tokenizer_config.json", "train.bin", "train.idx", "val.bin", "val.idx"];
    assert_eq!(names, expected);
}

#[test]
fn tokens_are_those_of_the_tokeniser() {
    let home = tempfile::tempdir().expect("a directory");
    let (text, out) = (home.path().join("stories.txt"), home.path().join("out"));
    // Long enough to be read in parts; with letters, signs and spaces of every kind, and `<s>` spelled out.
    let page =
        "Der Fu\u{df}  g\u{e4}nger's  <s> \u{6e2f}\u{53e3}\u{3000}\u{1F600}\t\tit's 1234 \u{bd}?!\r\n\r\n  x=[1];\n"
            .repeat(4000);
    fs::write(&text, format!("{page}\x0Canother\x0Cand another")).expect("written");
    let mut request = request(vec![text], &out);
    request.vocabulary = 290;
    prepared(&request).expect("prepared");
    let mut tokenizer = Tokenizer::from_file(out.join("tokenizer.json")).expect("a tokeniser");
    tokenizer.set_encode_special_tokens(true);
    let mut found = BTreeSet::new();
    for split in ["train", "val"] {
        let (tokens, starts) = (tokens(&out, split), starts(&out, split));
        found.extend(starts.windows(2).map(|document| tokens[document[0] + 1..document[1]].to_vec()));
    }
    let expected = [page.as_str(), "another", "and another"]
        .map(|text| tokenizer.encode_fast(text, false).expect("any text").get_ids().to_vec());
    assert!(found == expected.into_iter().collect(), "the tokens differ");
}

#[test]
fn files_are_the_same_for_any_number_of_threads() {
    let home = tempfile::tempdir().expect("a directory");
    let text = home.path().join("stories.jsonl");
    let lines =
        vec![stories(); 40].concat().into_iter().map(|story| format!("{}\n", serde_json::json!({ "text": story })));
    fs::write(&text, lines.collect::<String>()).expect("written");
    let of = |threads: usize| {
        let out = home.path().join(threads.to_string());
        on_threads(threads, || prepared(&request(vec![text.clone()], &out))).expect("prepared");
        files(&out)
    };
    let one = of(1);
    assert!(one == of(2) && one == of(5), "the files differ");
}

#[test]
fn formats_and_directories_give_the_same_documents() {
    let home = tempfile::tempdir().expect("a directory");
    let folder = home.path().join("folder/deeper");
    fs::create_dir_all(&folder).expect("made");
    let (first, second) = (stories()[..150].to_vec(), stories()[150..].to_vec());
    fs::write(home.path().join("folder/a.txt"), first.join("\x0C")).expect("written");
    fs::write(home.path().join("folder/notes.md"), "not a text format").expect("written");
    let lines: Vec<String> = second.iter().map(|story| serde_json::json!({ "text": story }).to_string()).collect();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(lines.join("\n").as_bytes()).expect("packed");
    fs::write(folder.join("b.jsonl.gz"), packed.finish().expect("packed")).expect("written");
    let whole = home.path().join("whole.txt");
    fs::write(&whole, stories().join("\x0C")).expect("written");

    let outs = [home.path().join("of-directory"), home.path().join("of-file")];
    let manifest = prepared(&request(vec![home.path().join("folder")], &outs[0])).expect("prepared");
    prepared(&request(vec![whole], &outs[1])).expect("prepared");
    for file in ["tokenizer.json", "train.bin", "train.idx", "val.bin", "val.idx"] {
        assert!(fs::read(outs[0].join(file)).expect("there") == fs::read(outs[1].join(file)).expect("there"), "{file}");
    }
    assert_eq!(manifest.inputs.iter().map(|input| input.documents).collect::<Vec<_>>(), [150, 150]);
    assert!(manifest.inputs[0].path.ends_with("a.txt") && manifest.inputs[1].path.ends_with("b.jsonl.gz"));
}

#[test]
fn equal_documents_fall_on_one_side() {
    let home = tempfile::tempdir().expect("a directory");
    let (text, out) = (home.path().join("stories.txt"), home.path().join("out"));
    fs::write(&text, vec![stories(); 3].concat().join("\x0C")).expect("written");
    prepared(&request(vec![text], &out)).expect("prepared");
    let sides = ["train", "val"].map(|split| documents(&out, split).into_iter().collect::<BTreeSet<_>>());
    assert!(sides[0].is_disjoint(&sides[1]));
    assert_eq!(sides[0].len() + sides[1].len(), 300);
}

#[test]
fn one_document_at_least_is_held_out_and_one_is_not() {
    let home = tempfile::tempdir().expect("a directory");
    let text = home.path().join("two.txt");
    fs::write(&text, "one one one\n\ntwo two two").expect("written");
    let of = |kind: fn(f64) -> HeldOut| {
        [0.0, 0.5].into_iter().flat_map(move |share| (0..8).map(move |seed| (kind, share, seed)))
    };
    for (number, (kind, share, seed)) in of(HeldOut::Documents).chain(of(HeldOut::Text)).enumerate() {
        let mut request = request(vec![text.clone()], &home.path().join(number.to_string()));
        (request.vocabulary, request.separator) = (258, Separator::BlankLine);
        (request.held_out, request.seed) = (kind(share), seed);
        let manifest = prepared(&request).expect("prepared");
        assert_eq!((manifest.train.documents, manifest.val.documents), (1, 1), "{share}, {seed}");
    }
}

#[test]
fn a_share_of_text_is_one_of_bytes_and_not_of_documents() {
    let home = tempfile::tempdir().expect("a directory");
    let text = home.path().join("uneven.jsonl");
    // A few long documents hold most of the text.
    let lines: Vec<String> = (0..400)
        .map(|number| {
            let length = if number % 20 == 0 { 400 } else { 3 };
            json!({ "text": format!("Story {number}. {}", "the harbour, the tide. ".repeat(length)) }).to_string()
        })
        .collect();
    fs::write(&text, lines.join("\n")).expect("written");
    for (number, share) in [0.05, 0.1, 0.3, 0.5].into_iter().enumerate() {
        let mut request = request(vec![text.clone()], &home.path().join(number.to_string()));
        (request.vocabulary, request.held_out) = (270, HeldOut::Text(share));
        let manifest = prepared(&request).expect("prepared");
        let found = manifest.held_out_bytes as f64 / manifest.bytes as f64;
        assert!((found - share).abs() < 0.03, "{found} of the text for {share}");
        assert_eq!((manifest.held_out_share, manifest.held_out_of_text), (share, true));
        assert_eq!(manifest.train.documents + manifest.val.documents, 400);
    }
}

#[test]
fn the_text_may_be_in_another_field() {
    let home = tempfile::tempdir().expect("a directory");
    let write = |name: &str, field: &str| {
        let path = home.path().join(name);
        let line = |story: &String| json!({ field: story, "score": 1 }).to_string().replace(":1}", ":NaN}");
        fs::write(&path, stories().iter().map(line).collect::<Vec<_>>().join("\n")).expect("written");
        path
    };
    let mut digests = Vec::new();
    for (name, field) in [("a.jsonl", "text"), ("b.ndjson", "content"), ("c.json", "body.en")] {
        let mut request = request(vec![write(name, field)], &home.path().join(field));
        request.text_field = field.to_owned();
        let manifest = prepared(&request).expect("prepared");
        digests.push((manifest.train.tokens_sha256, manifest.val.tokens_sha256, manifest.tokenizer_sha256));
    }
    assert!(digests.iter().all(|digest| *digest == digests[0]));
}

#[test]
fn what_cannot_be_is_refused_and_leaves_nothing() {
    let home = tempfile::tempdir().expect("a directory");
    let file = |name: &str, text: &[u8]| {
        let path = home.path().join(name);
        fs::write(&path, text).expect("written");
        path
    };
    let some = file("some.txt", stories().join("\x0C").as_bytes());
    let absent = home.path().join("absent.txt");
    let (empty, blank) = (file("empty.txt", b""), file("blank.txt", b" \n\x0C\n"));
    let (single, image) = (file("single.txt", b"only this"), file("image.png", b"PNG"));
    let broken = file("broken.jsonl", b"{\"text\": \"a\"}\n{\"txet\": 1}\n");
    let cases = [
        (vec![absent], 300, 0.1, "cannot read"),
        (vec![empty], 300, 0.1, "the file is empty"),
        (vec![blank], 300, 0.1, "there is no text in it"),
        (vec![single], 300, 0.1, "holds a single document"),
        (vec![image], 300, 0.1, "does not name a text format"),
        (vec!["-".into()], 300, 0.1, "-: not a file that can be read twice"),
        (vec![some.clone(), broken], 300, 0.1, "line 2"),
        (vec![some.clone()], 256, 0.1, "a vocabulary of 256 is too small"),
        (vec![some.clone()], 20_000, 0.1, "but the text supports"),
        (vec![some.clone()], 300, 0.6, "a held-out share of 0.6"),
        (vec![some.clone()], 300, f64::NAN, "a held-out share of NaN"),
        (vec![], 300, 0.1, "no input was named"),
    ];
    for (inputs, vocabulary, held_out, expected) in cases {
        let out = home.path().join("out");
        let mut request = request(inputs, &out);
        (request.vocabulary, request.held_out) = (vocabulary, HeldOut::Text(held_out));
        let message = prepared(&request).expect_err(expected).to_string();
        assert!(message.contains(expected), "{message}");
        assert!(!out.exists() || files(&out).is_empty(), "{message}");
    }
    let full = home.path().join("full");
    fs::create_dir(&full).expect("made");
    fs::write(full.join("precious"), "").expect("written");
    let message = prepared(&request(vec![some], &full)).expect_err("not empty").to_string();
    assert!(message.contains("is not empty"), "{message}");
    assert_eq!(files(&full).len(), 1);
}
