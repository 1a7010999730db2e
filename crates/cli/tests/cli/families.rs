//! `sinkscope families`.

use serde_json::Value;

use crate::run;

#[test]
fn are_listed_with_what_confirmed_them() {
    let (status, stdout, stderr) = run(&["families"]);
    assert_eq!((status, stderr.as_str()), (0, ""));
    insta::assert_snapshot!(stdout);
}

#[test]
fn as_json_they_keep_to_their_schema() {
    let json = |arguments: &[&str]| {
        let (status, stdout, _) = run(arguments);
        assert_eq!(status, 0);
        serde_json::from_str::<Value>(&stdout).expect("JSON")
    };
    let listed = json(&["families", "--json"]);
    let validator = jsonschema::validator_for(&json(&["schema", "families.json"])).expect("a schema");
    assert!(validator.is_valid(&listed));
    let llama = &listed["families"][0];
    assert_eq!(llama["family"], "llama");
    assert_eq!(llama["gguf"]["names"], serde_json::json!(["llama"]));
    let points = &llama["hugging_face"]["confirmed"]["points"];
    assert_eq!(*points, serde_json::json!(["residuals", "attention", "logits"]));
}
