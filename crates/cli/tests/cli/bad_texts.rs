//! Texts and token ids that a model cannot be shown.

use serde_json::json;

use crate::tiny::Tiny;
use crate::{refused_without_trace, run_in};

#[test]
fn token_ids() {
    let tiny = Tiny::new("llama");
    let refused = |content: &str| {
        let tokens = tiny.write("ids.json", content);
        refused_without_trace(&tiny, &["--tokens", &tokens])
    };
    let absent = refused_without_trace(&tiny, &["--tokens", tiny.path("absent.json").to_str().expect("UTF-8")]);
    let tokens = tiny.tokens(2, 12);
    let other_length = refused_without_trace(&tiny, &["--tokens", &tokens, "--seq-len", "11"]);
    let too_many = refused_without_trace(&tiny, &["--tokens", &tokens, "--sequences", "3"]);
    insta::assert_snapshot!(
        [
            absent,
            other_length,
            too_many,
            refused(""),
            refused("{}"),
            refused(r#"{"tokens": []}"#),
            refused(r#"{"tokens": [[1], [2]]}"#),
            refused(r#"{"tokens": [[1, 2, 3], [4, 5]]}"#),
            refused(r#"{"tokens": [[1, 2, 3], [4, 5, 32]]}"#),
            refused(r#"{"tokens": [[1, -2, 3]]}"#),
            refused(r#"{"tokens": [[1, 2.5, 3]]}"#),
            refused(r#"{"tokens": [["a", "b"]]}"#),
        ]
        .concat()
    );
}

#[test]
fn texts() {
    let tiny = Tiny::new("llama");
    let refused = |name: &str, content: &[u8]| {
        let text = tiny.write(name, content);
        refused_without_trace(&tiny, &["--text", &text, "--seq-len", "8"])
    };
    let absent = refused_without_trace(&tiny, &["--text", tiny.path("absent.txt").to_str().expect("UTF-8")]);
    insta::assert_snapshot!(
        [
            absent,
            refused("empty.txt", b""),
            refused("blank.txt", b" \n\n "),
            refused("short.txt", b"the ship sails"),
            refused("latin.txt", b"the ship sails \xe0 dawn"),
            refused("text.docx", b"PK"),
            refused("text.txt.gz", b"not gzip"),
            refused("text.txt.zst", b"not zstandard"),
            refused("text.parquet", b"not parquet"),
            refused("lines.jsonl", br#"{"words": "the ship"}"#),
            refused("lines.jsonl", b"the ship"),
        ]
        .concat()
    );
}

/// Rotary positions go on: a warning. Learned ones end: an error.
#[test]
fn sequences_longer_than_the_positions() {
    let rotary = Tiny::new("llama");
    rotary.configure(|config| config["max_position_embeddings"] = json!(11));
    let tokens = rotary.tokens(2, 12);
    let (status, stdout, stderr) = run_in(&rotary, &["--tokens", &tokens]);
    assert_eq!(status, 0, "{stderr}");
    assert!(stdout.contains("Perplexity"), "{stdout}");
    assert!(stderr.contains("12 tokens") && stderr.contains("11 positions"), "{stderr}");
    assert_eq!(run_in(&rotary, &["--tokens", &tokens, "--quiet"]).2, "");

    let learned = Tiny::new("gpt2");
    let mut positions = 0;
    learned.configure(|config| positions = config["n_positions"].as_u64().expect("a number") as usize);
    assert_eq!(run_in(&learned, &["--tokens", &learned.tokens(1, positions)]).0, 0);
    std::fs::remove_dir_all(learned.path("out")).expect("written before");
    let message = refused_without_trace(&learned, &["--tokens", &learned.tokens(1, positions + 1)]);
    assert!(message.contains(&format!("{} tokens", positions + 1)), "{message}");
    assert!(message.contains(&format!("{positions} learned positions")), "{message}");
}
