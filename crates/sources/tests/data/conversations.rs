//! Conversations through chat templates, against what `transformers` 5.24.0 makes of them (`scripts/make_chat_fixtures.py`).

use std::fs;
use std::path::{Path, PathBuf};

use chrono::DateTime;
use serde_json::{Value, json};
use sinkscope_sources::SourceError;
use sinkscope_sources::checkpoint::{GgufMetadata, GgufValue, Metadata};
use sinkscope_sources::data::{self, BosPolicy, Data, TextRequest};
use sinkscope_sources::tokenizer::{ChatTemplate, Tokenizer};
use tempfile::TempDir;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn json_file(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// A directory with a tokeniser, a template, and a file of conversations.
struct Chat {
    folder: TempDir,
    tokenizer: Tokenizer,
    /// When templates run.
    now: i64,
}

impl Chat {
    fn new(base: &str, settings: &Value) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::copy(fixtures().join("tokenizers").join(base).join("tokenizer.json"), folder.path().join("tokenizer.json"))
            .unwrap();
        fs::write(folder.path().join("tokenizer_config.json"), settings.to_string()).unwrap();
        let tokenizer = Tokenizer::from_metadata(&metadata(folder.path()), folder.path()).unwrap().unwrap();
        Self { folder, tokenizer, now: 0 }
    }

    fn chatml() -> Self {
        let template = "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}";
        Self::new("smollm", &json!({"bos_token": "<|im_start|>", "chat_template": template}))
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    fn template(&self) -> Result<ChatTemplate, SourceError> {
        let template = ChatTemplate::from_metadata(&metadata(self.folder.path()), self.folder.path())?;
        Ok(template.at(DateTime::from_timestamp(self.now, 0).unwrap()))
    }

    fn load(&self, content: &str, request: TextRequest<'_>) -> Result<Data, SourceError> {
        let (file, template) = (self.write("chat.jsonl", content), self.template()?);
        let request = TextRequest { chat: Some((&file, &template)), ..request };
        data::load(&request, Some(&self.tokenizer), usize::MAX)
    }

    /// Why conversations are refused, without the directory.
    fn refusal(&self, content: &str) -> String {
        let error = self.load(content, TextRequest { seq_len: Some(2), ..TextRequest::default() }).unwrap_err();
        error.to_string().replace(&format!("{}/", self.folder.path().display()), "")
    }
}

fn metadata(folder: &Path) -> Metadata {
    Metadata::HuggingFace { folder: folder.to_owned(), config: json!({}) }
}

#[test]
fn templates_write_what_they_write_in_transformers() {
    let fixture = json_file(&fixtures().join("chats.json"));
    let mut wrong = Vec::new();
    for case in fixture["cases"].as_array().unwrap() {
        let (name, base) = (case["name"].as_str().unwrap(), case["base"].as_str().unwrap());
        let mut chat = Chat::new(base, &case["settings"]);
        chat.now = fixture["now"].as_i64().unwrap();
        let conversations = fixture["conversations"].as_array().unwrap().iter();
        for (index, (conversation, expected)) in conversations.zip(case["expected"].as_array().unwrap()).enumerate() {
            let ids: Option<Vec<u32>> = serde_json::from_value(expected["ids"].clone()).unwrap();
            let seq_len = ids.as_ref().map_or(2, Vec::len);
            let request = TextRequest { seq_len: Some(seq_len), sequences: Some(1), ..TextRequest::default() };
            let found = chat.load(&conversation.to_string(), request);
            match (found, ids) {
                (Ok(found), Some(ids)) if found.batch.tokens == ids => {}
                (Err(_), None) => {}
                (Ok(found), _) => {
                    let text: String = found.batch.tokens.iter().map(|&id| chat.tokenizer.decode_token(id)).collect();
                    wrong.push(format!("{name} {base} {index}: {text:?}, expected {expected}"));
                }
                (Err(error), _) => wrong.push(format!("{name} {base} {index}: {error}, expected {expected}")),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_conversation_is_a_document_and_gets_no_second_bos() {
    let chat = Chat::chatml();
    let line = json!([{"role": "user", "content": "a"}]).to_string();
    let one = chat.tokenizer.encode("<|im_start|>user\na<|im_end|>\n").unwrap();
    let lines = format!("{line}\n\n{{\"messages\": {line}}}\n");
    let all = TextRequest { seq_len: Some(one.len()), sequences: Some(2), ..TextRequest::default() };
    let loaded = chat.load(&lines, all).unwrap();
    assert_eq!(loaded.batch.tokens, [&one[..], &one].concat());
    assert!(loaded.bos);
    let said = loaded.chat.unwrap();
    assert_eq!((said.template, said.conversations, said.adds_bos), ("tokenizer_config.json", 2, false));
    assert_eq!(loaded.special_tokens, 4);
    // The second sequence begins within a conversation, the first with the template's own BOS.
    let halves = TextRequest { seq_len: Some(one.len() - 1), ..all };
    let loaded = chat.load(&lines, TextRequest { bos: BosPolicy::Always, ..halves }).unwrap();
    let (head, cut) = (one[0], one.len() - 1);
    assert_eq!(loaded.batch.tokens[..=cut], [&one[..cut], &[head]].concat());
    assert_eq!(loaded.batch.tokens[cut + 1], one[cut]);
    assert!(loaded.bos && loaded.chat.unwrap().adds_bos);
    assert!(!chat.load(&lines, halves).unwrap().bos);
}

#[test]
fn what_is_no_conversation_is_refused_by_line_and_field() {
    let chat = Chat::chatml();
    let good = json!([{"role": "user", "content": ""}]).to_string();
    let cases = [
        ("{", "chat.jsonl: line 2, column 1: EOF while parsing an object; each line is a conversation, "),
        ("7", "chat.jsonl: line 2: it is a number; each line is a conversation, {\"messages\": [{\"role\": ..."),
        (r#"{"conversations": []}"#, "chat.jsonl: line 2: field `messages` is missing; "),
        (r#"{"messages": "hello"}"#, "chat.jsonl: line 2: field `messages` is a string, not a list; "),
        ("[]", "chat.jsonl: line 2: there are no messages; "),
        (r#"[{"role": "user", "content": "a"}, 3]"#, "chat.jsonl: line 2: message 1: it is a number, not an object; "),
        (r#"[{"from": "human", "value": "a"}]"#, "chat.jsonl: line 2: message 0: field `role` is missing; "),
        (r#"[{"role": 1, "content": "a"}]"#, "chat.jsonl: line 2: message 0: field `role` is a number, not a string; "),
        (r#"[{"role": "user", "content": null}]"#, "chat.jsonl: line 2: message 0: field `content` is missing; "),
        (
            r#"[{"role": "user", "content": {}}]"#,
            "chat.jsonl: line 2: message 0: field `content` is an object, not a string",
        ),
        (
            r#"[{"role": "user", "content": [{"type": "image"}]}]"#,
            "chat.jsonl: line 2: message 0: field `content`: part 0 is",
        ),
        (
            r#"{"tools": [{}], "messages": [{"role": "user", "content": "a"}]}"#,
            "chat.jsonl: line 2: field `tools` is given",
        ),
    ];
    for (line, start) in cases {
        let message = chat.refusal(&format!("{good}\n{line}"));
        assert!(message.starts_with(start), "{message}");
    }
    let file = chat.write("chat.txt", "hello");
    let template = chat.template().unwrap();
    let request = TextRequest { chat: Some((&file, &template)), ..TextRequest::default() };
    let message = data::load(&request, Some(&chat.tokenizer), 9).unwrap_err().to_string();
    assert!(message.contains("does not name a file of conversations; supported are .jsonl"), "{message}");
    let message = data::load(&TextRequest { text: Some(&file), ..request }, Some(&chat.tokenizer), 9).unwrap_err();
    assert!(message.to_string().starts_with("both a text ("), "{message}");
}

#[test]
fn what_a_template_refuses_names_line_and_reason() {
    let message = |template: &str| {
        let chat = Chat::new("smollm", &json!({"chat_template": template}));
        chat.refusal(&json!([{"role": "user", "content": "a"}]).to_string())
    };
    let begin = "chat.jsonl: line 1: the chat template does not take this conversation: ";
    for (template, reason) in [
        ("\n{{ raise_exception('Only whales!') }}", "invalid operation: Only whales! (in tokenizer_config.json:2)"),
        ("{{ messages[0].content.swap_all() }}", "unknown method: string has no method named swap_all"),
        ("{{ strftime_now('%Q') }}", "invalid operation: strftime_now cannot write the format \"%Q\""),
        ("{{ messages | tojson(depth=3) }}", "too many arguments: unknown keyword argument"),
    ] {
        let message = message(template);
        assert!(message.starts_with(&format!("{begin}{reason}")), "{message}");
    }
    let message = message("{% for %}");
    assert!(message.starts_with("tokenizer_config.json: the chat template cannot be read: syntax error"), "{message}");
}

#[test]
fn a_template_is_looked_for_where_transformers_looks() {
    let found = |settings: Value| {
        let chat = Chat::new("smollm", &settings);
        chat.template()
            .map(|template| template.origin())
            .map_err(|error| error.to_string().replace(&chat.folder.path().display().to_string(), "model"))
    };
    let named =
        |name: &str| json!({"chat_template": [{"name": name, "template": "a"}, {"name": "rag", "template": "b"}]});
    assert_eq!(found(named("default")), Ok("tokenizer_config.json"));
    let without = "model/tokenizer_config.json: has chat templates (tool_use, rag), but none that is called `default`";
    assert_eq!(found(named("tool_use")), Err(without.to_owned()));
    let nowhere = "model: has no chat template (no chat_template.jinja, and no `chat_template` in tokenizer_config.json), so it \
                   takes no conversations; give text with --text";
    assert_eq!(found(json!({"chat_template": null})), Err(nowhere.to_owned()));
    assert!(found(json!({"chat_template": 3})).unwrap_err().contains("`chat_template` is neither a string nor a list"));

    let chat = Chat::chatml();
    chat.write("chat_template.jinja", "{{ messages[0].content }}\r\n!");
    assert_eq!(chat.template().unwrap().origin(), "chat_template.jinja");
    let request = TextRequest { seq_len: Some(3), ..TextRequest::default() };
    let loaded = chat.load(r#"[{"role": "user", "content": "a"}]"#, request).unwrap();
    assert_eq!(loaded.batch.tokens, chat.tokenizer.encode("a\n!").unwrap());

    let gguf = |key: &str, value: GgufValue| {
        let keys = GgufMetadata([(key.to_owned(), value)].into());
        let template = ChatTemplate::from_metadata(&Metadata::Gguf(keys), Path::new("m.gguf"));
        template.map(|template| template.origin()).map_err(|error| error.to_string())
    };
    assert_eq!(gguf("tokenizer.chat_template", GgufValue::Text("a".into())), Ok("tokenizer.chat_template"));
    assert!(
        gguf("a", GgufValue::Bool(true)).unwrap_err().contains("has no chat template (no key tokenizer.chat_template)")
    );
    assert!(gguf("tokenizer.chat_template.rag", GgufValue::Text("a".into())).unwrap_err().contains("(rag), but none"));
}

#[test]
fn special_tokens_that_a_text_spells_out_are_counted() {
    let chat = Chat::chatml();
    let special = |text: &str, bos: BosPolicy| {
        let file = chat.write("a.txt", text);
        let request = TextRequest { text: Some(&file), seq_len: Some(6), bos, ..TextRequest::default() };
        data::load(&request, Some(&chat.tokenizer), usize::MAX).unwrap().special_tokens
    };
    let text = "a<|im_end|>c<|im_start|>d e f g";
    assert_eq!(special(text, BosPolicy::Never), 2);
    assert_eq!(special("a b c d e f g h", BosPolicy::Never), 0);
    // Tokens that are put before sequences are not of the text.
    assert_eq!(special("a b c d e f g h", BosPolicy::Always), 0);
}
