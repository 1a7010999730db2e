//! What may change in a recipe when a run by it goes on: where its data lie, how it is watched, and how many steps it has, as
//! far as the steps already done would have been the same.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::error::LabError;
use crate::recipe::{DataChoice, PositionChoice, Recipe};

/// Refuses to go on by the recipe `now` with a run that was begun by another, if one of the `done` steps would have gone
/// otherwise by it. That both read the same data is known by their digest, not looked at here.
pub(crate) fn check(begun: &Recipe, now: &Recipe, done: u64) -> Result<(), LabError> {
    let refused = |reason: String| Err(LabError::Request(reason));
    let mut same = begun.clone();
    if let (DataChoice::Prepared { directory, .. }, DataChoice::Prepared { directory: moved, .. }) =
        (&mut same.data, &now.data)
    {
        directory.clone_from(moved);
    }
    same.watch = now.watch;
    same.training.steps = now.training.steps;
    if same != *now {
        let json = |recipe| serde_json::to_value(recipe).unwrap_or_default();
        let difference = difference("", &json(&same), &json(now)).unwrap_or_else(|| "the recipe has changed".into());
        return refused(format!("{difference}; resume with the recipe that it was begun with, or begin another run"));
    }
    let positions = |recipe: &Recipe| recipe.training.seq_len.max(recipe.watch.seq_len);
    if now.model.position == PositionChoice::Learned && positions(begun) != positions(now) {
        let (begun, now) = (begun.watch.seq_len, now.watch.seq_len);
        return refused(format!("watch.seq_len was {begun} and is {now}: as many positions are learned; leave it"));
    }
    let (of_begun, of_now) = (begun.training.steps, now.training.steps);
    if of_now < done {
        return refused(format!("training.steps is {of_now}, and {done} steps are done already"));
    }
    let rate = |step, steps| now.optimizer.learning_rate_at(step, steps);
    match (0..done).find(|&step| rate(step, of_begun) != rate(step, of_now)) {
        Some(step) => refused(format!(
            "training.steps was {of_begun} and is {of_now}: the cosine that the learning rate follows would have been another \
             from step {step} on; keep the steps, or begin another run. With schedule = \"constant\" a run can be extended"
        )),
        None => Ok(()),
    }
}

/// The first key whose value differs, and how.
fn difference(path: &str, begun: &Value, now: &Value) -> Option<String> {
    if begun == now {
        return None;
    }
    if let (Value::Object(begun), Value::Object(now)) = (begun, now) {
        let keys: BTreeSet<&String> = begun.keys().chain(now.keys()).collect();
        let of = |values: &serde_json::Map<String, Value>, key: &str| values.get(key).cloned().unwrap_or_default();
        return keys.into_iter().find_map(|key| {
            let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            difference(&below, &of(begun, key), &of(now, key))
        });
    }
    let shown = |value: &Value| if value.is_null() { "left out".to_owned() } else { value.to_string() };
    Some(format!("{path} was {} and is {}", shown(begun), shown(now)))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::optimizer::Schedule;
    use crate::recipe_file;

    fn recipe() -> Recipe {
        let text = "[model]\nlayers = 2\nd_model = 8\nheads = 2\n[data]\nsource = \"prepared\"\ndirectory = \"here\"\n\
                    [training]\nsteps = 100\nsequences = 2\nseq_len = 8\n[optimizer]\nwarmup = 10\n\
                    [watch]\nseq_len = 8\n";
        recipe_file::parse(text, Path::new("a recipe")).expect("a recipe")
    }

    /// What is said of a change after so many steps.
    fn said(change: impl Fn(&mut Recipe), done: u64) -> String {
        let mut now = recipe();
        change(&mut now);
        check(&recipe(), &now, done).map_or_else(|error| error.to_string(), |()| String::new())
    }

    #[test]
    fn what_leaves_the_past_as_it_was_may_change() {
        assert_eq!(said(|_| {}, 100), "");
        let moved = |recipe: &mut Recipe| {
            recipe.watch.every = 7;
            recipe.watch.seq_len = 16;
            if let DataChoice::Prepared { directory, .. } = &mut recipe.data {
                *directory = "there".into();
            }
        };
        assert_eq!(said(moved, 50), "");
        // The rate rises alike whatever follows, and is the highest at step 10.
        assert_eq!(said(|recipe| recipe.training.steps = 200, 11), "");
    }

    #[test]
    fn what_would_change_the_past_is_named() {
        let longer = said(|recipe| recipe.training.steps = 200, 12);
        assert!(longer.contains("steps was 100 and is 200") && longer.contains("from step 11 on"), "{longer}");
        assert_eq!(
            said(|recipe| recipe.training.steps = 40, 50),
            "training.steps is 40, and 50 steps are done already"
        );
        let layers = said(|recipe| recipe.model.layers = 3, 0);
        assert!(layers.starts_with("model.layers was 2 and is 3; resume with"), "{layers}");
        let heads = said(|recipe| recipe.model.kv_heads = Some(1), 0);
        assert!(heads.starts_with("model.kv_heads was left out and is 1"), "{heads}");
        let bos = |recipe: &mut Recipe| {
            if let DataChoice::Prepared { bos, .. } = &mut recipe.data {
                *bos = false;
            }
        };
        assert!(said(bos, 0).starts_with("data.bos was true and is false"));
    }

    #[test]
    fn a_constant_rate_lets_a_run_be_extended_and_learned_positions_stay() {
        let mut begun = recipe();
        begun.optimizer.schedule = Schedule::Constant;
        begun.model.position = PositionChoice::Learned;
        let mut now = begun.clone();
        now.training.steps = 1000;
        assert!(check(&begun, &now, 100).is_ok());
        now.watch.seq_len = 9;
        let error = check(&begun, &now, 100).expect_err("another table").to_string();
        assert!(error.starts_with("watch.seq_len was 8 and is 9"), "{error}");
    }
}
