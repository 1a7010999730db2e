//! Keys of a recipe that decide nothing beside its other choices: whoever writes one expects something that does not happen.

use toml::Table;

use crate::optimizer::Schedule;
use crate::recipe::{FeedForwardChoice, NormChoice, PlacementChoice, PositionChoice, QkNormChoice, Recipe};

/// A key without effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Idle {
    /// The key, with the tables that it is in.
    pub key: &'static str,
    /// Why it has none, and what would be right.
    pub reason: String,
}

impl Idle {
    /// What is said to whoever wrote it.
    pub fn refusal(&self) -> String {
        format!("{} has no effect here: {}", self.key, self.reason)
    }

    /// Whether a table has the key.
    pub fn is_in(&self, table: &Table) -> bool {
        let Some((tables, last)) = self.key.rsplit_once('.') else { return false };
        let inner = tables.split('.').try_fold(table, |table, name| table.get(name)?.as_table());
        inner.is_some_and(|table| table.contains_key(last))
    }

    fn remove_from(&self, table: &mut Table) {
        let Some((tables, last)) = self.key.rsplit_once('.') else { return };
        let inner = tables.split('.').try_fold(table, |table, name| table.get_mut(name)?.as_table_mut());
        if let Some(table) = inner {
            table.remove(last);
        }
    }
}

impl Recipe {
    /// A file that is read as this recipe: without the keys that decide nothing.
    pub(crate) fn to_toml(&self) -> Result<String, String> {
        let unwritable = |error: toml::ser::Error| format!("cannot be written as TOML: {error}");
        let mut table = Table::try_from(self).map_err(unwritable)?;
        self.idle().iter().for_each(|idle| idle.remove_from(&mut table));
        toml::to_string(&table).map_err(unwritable)
    }

    /// The keys that decide nothing in this recipe, whether they are written or not.
    pub(crate) fn idle(&self) -> Vec<Idle> {
        let (m, t, o) = (&self.model, &self.training, &self.optimizer);
        let positions = t.seq_len.max(self.watch.seq_len).saturating_add(m.registers);
        let mut idle = Vec::new();
        let mut unless = |matters: bool, key: &'static str, reason: &dyn Fn() -> String| {
            if !matters {
                idle.push(Idle { key, reason: reason() });
            }
        };
        unless(
            !matches!(m.feed_forward, FeedForwardChoice::Linear | FeedForwardChoice::Attention),
            "model.d_ffn",
            &|| {
                let why = match m.feed_forward {
                    FeedForwardChoice::Linear => "\"linear\" is one matrix of d_model x d_model",
                    _ => "\"attention\" stands in place of the blocks that would have them",
                };
                format!("there are no hidden units, feed_forward = {why}; leave it out")
            },
        );
        unless(m.norm != NormChoice::DynamicTanh, "model.norm_epsilon", &|| {
            "norm = \"dynamic-tanh\" divides by nothing that could vanish; leave it out".to_owned()
        });
        unless(
            m.placement != PlacementChoice::SandwichQkHead || m.qk_norm != QkNormChoice::None,
            "model.qk_norm",
            &|| {
                "placement = \"sandwich-qk-head\" normalises queries and keys, per head unless qk_norm says otherwise; for \
                 none of it give placement = \"output\""
                    .to_owned()
            },
        );
        unless(m.position == PositionChoice::Rotary, "model.rope_theta", &|| {
            "it is the base of rotary embeddings, and position is another; leave it out".to_owned()
        });
        unless(m.window.is_none_or(|window| window < positions), "model.window", &|| {
            format!("no sequence is longer than {positions} positions, all within the window; leave it out")
        });
        unless(m.norm == NormChoice::DynamicTanh, "model.initialisation.dynamic_tanh_alpha", &|| {
            "only norm = \"dynamic-tanh\" has an alpha; leave it out".to_owned()
        });
        unless(o.schedule != Schedule::Constant, "optimizer.final_ratio", &|| {
            "schedule = \"constant\" falls to nothing; leave it out".to_owned()
        });
        unless(o.weight_decay != 0.0 || !o.decay_all, "optimizer.decay_all", &|| {
            "weight_decay = 0, so nothing decays; leave it out".to_owned()
        });
        idle
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::recipe_file::parse;

    const RECIPE: &str = "[model]\nlayers = 1\nd_model = 8\nheads = 2\nMODEL\n[model.initialisation]\nINITIALISATION\n\
        [data]\nsource = 'bigram-backcopy'\n[training]\nsteps = 9\nsequences = 2\nseq_len = 16\n\
        [watch]\nseq_len = 16\n[optimizer]\nOPTIMIZER\n";

    fn read(model: &str, initialisation: &str, optimizer: &str) -> Result<(), String> {
        let text =
            RECIPE.replace("MODEL", model).replace("INITIALISATION", initialisation).replace("OPTIMIZER", optimizer);
        parse(&text, Path::new("r.toml")).map(|_| ()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_key_without_effect_is_refused_and_its_neighbour_with_one_is_read() {
        // Model, initialisation, optimiser with an idle key; what the error says; the same with the key at work.
        for (idle, said, at_work) in [
            (
                ["position = 'none'\nrope_theta = 10000.0", "", ""],
                "line 6: model.rope_theta",
                ["rope_theta = 10000.0", "", ""],
            ),
            (
                ["position = 'learned'\nrope_theta = 5.0", "", ""],
                "model.rope_theta",
                ["position = 'rotary'\nrope_theta = 5.0", "", ""],
            ),
            (["position = 'alibi'\nrope_theta = 5.0", "", ""], "model.rope_theta", ["position = 'alibi'", "", ""]),
            (
                ["feed_forward = 'linear'\nd_ffn = 24", "", ""],
                "one matrix",
                ["feed_forward = 'gelu'\nd_ffn = 24", "", ""],
            ),
            (["feed_forward = 'attention'\nd_ffn = 24", "", ""], "in place", ["feed_forward = 'attention'", "", ""]),
            (
                ["norm = 'dynamic-tanh'\nnorm_epsilon = 1e-5", "", ""],
                "model.norm_epsilon",
                ["norm = 'layer-norm'\nnorm_epsilon = 1e-5", "", ""],
            ),
            (
                ["placement = 'sandwich-qk-head'\nqk_norm = 'none'", "", ""],
                "model.qk_norm",
                ["placement = 'sandwich-qk-head'\nqk_norm = 'per-head'", "", ""],
            ),
            (["window = 16", "", ""], "longer than 16 positions", ["window = 15", "", ""]),
            (
                ["window = 18\nregisters = 2", "", ""],
                "longer than 18 positions",
                ["window = 17\nregisters = 2", "", ""],
            ),
            (
                ["", "dynamic_tanh_alpha = 0.5", ""],
                "line 7: model.initialisation.dynamic_tanh_alpha",
                ["norm = 'dynamic-tanh'", "dynamic_tanh_alpha = 0.5", ""],
            ),
            (
                ["", "", "schedule = 'constant'\nfinal_ratio = 0.1"],
                "optimizer.final_ratio",
                ["", "", "schedule = 'cosine'\nfinal_ratio = 0.1"],
            ),
            (
                ["", "", "weight_decay = 0.0\ndecay_all = true"],
                "optimizer.decay_all",
                ["", "", "weight_decay = 0.1\ndecay_all = true"],
            ),
        ] {
            let error = read(idle[0], idle[1], idle[2]).expect_err(said);
            assert!(error.contains(said) && error.contains("has no effect here: "), "{error}");
            read(at_work[0], at_work[1], at_work[2]).expect("a recipe");
        }
    }

    #[test]
    fn a_table_of_one_line_is_looked_into() {
        let text = RECIPE.replace("[model.initialisation]\nINITIALISATION\n", "").replace("OPTIMIZER", "");
        let text = text.replace("MODEL", "initialisation = { dynamic_tanh_alpha = 0.5 }");
        let error = parse(&text, Path::new("r.toml")).expect_err("an alpha of nothing").to_string();
        assert!(
            error.contains("r.toml: line 5: model.initialisation.dynamic_tanh_alpha has no effect here"),
            "{error}"
        );
    }

    /// A study leaves the recipe of each of its runs.
    #[test]
    fn a_recipe_that_is_written_is_read() {
        for model in [
            "",
            "norm = 'dynamic-tanh'",
            "position = 'alibi'\nfeed_forward = 'attention'",
            "placement = 'sandwich-qk-head'\ngate = { signal = 'free', granularity = 'head' }",
        ] {
            for optimizer in ["", "schedule = 'constant'"] {
                let text = RECIPE.replace("MODEL", model).replace("INITIALISATION", "").replace("OPTIMIZER", optimizer);
                let recipe = parse(&text, Path::new("r.toml")).expect("a recipe");
                let written = recipe.to_toml().expect("TOML");
                assert_eq!(parse(&written, Path::new("w.toml")).expect("what was written"), recipe, "{written}");
            }
        }
    }
}
