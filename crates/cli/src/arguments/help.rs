//! What `--help` says beside the options.

use sinkscope_anatomy::definitions::{SINK_TOKEN_SHARE, in_percent};
use sinkscope_surgery::operation::FORMS;

pub const EXIT_STATUS: &str = "Exit status: 0 done, 1 failed while running, 2 the request or an input is wrong.";

pub const PREPARE_HELP: &str = "\
A document is an object of a .jsonl, .ndjson or .json file, a row of a .parquet file, or a part of a
.txt file:
  pages       up to a form feed, or to a blank line once it is 4 KiB long
  form-feed   up to a form feed
  blank-line  up to a blank line: a paragraph
  file        the whole file

Files:
  tokenizer.json        the tokeniser, and tokenizer_config.json
  train.bin, val.bin    token ids alone, 16 bits little-endian (32 if V exceeds 65,535), as nanoGPT
                        reads them
  train.idx, val.idx    where documents begin, in tokens, 64 bits little-endian
  data.json             counts, SHA-256 and definitions

Examples:
  sinkscope data prepare book.txt --vocab-size 1024 --out data
  sinkscope data prepare corpus --document-separator form-feed --vocab-size 4096 --out data
  sinkscope data prepare a.parquet b.jsonl.zst --vocab-size 32768 --held-out 0.01 --out data";

/// Every operation, and what it does.
fn operations() -> String {
    let lines = FORMS.iter().flat_map(|form| {
        let names = std::iter::once(form.typed).chain(std::iter::repeat(""));
        names.zip(form.says.lines()).map(|(name, line)| format!("  {name:<21} {line}\n"))
    });
    lines.collect()
}

/// The operations, where they are done, and examples.
pub fn operate_help() -> String {
    format!(
        "\
Operations:
{}
  Operations on spikes, blocks, values, attention, layers and the cache take a place: @block=B
  (from 1), @layer=L (from 0), @position=P (or all); those on spike entries also @channels=C. Each
  is a number, a range or a list (0-3,17); a block may also be a tensor's name (blk.11.ffn_down).
  NAMES are projections (down_proj), tensors or parts of their names (mlp, blk.11.ffn_down),
  layer=L and block=B. Places and modifiers stand in any order.
  A token sinks if it does so in {} of the heads or more: the `sink_tokens` of operate.json.
  An operation that makes activations infinite or undefined has no figures; its row says from
  which block, channel and position on.

Examples:
  sinkscope operate model.gguf zero-spikes mean-spikes
  sinkscope operate model.gguf zero-spikes@position=17 zero-spikes@channels=1,2,3 --text book.txt
  sinkscope operate model.gguf quantize=w8a8-tensor quantize=w8a8-tensor+keep-spikes
  sinkscope operate model.gguf quantize=w8a8-tensor+except=down_proj@layer=10-20
  sinkscope operate model.gguf cache=int4+keep=0..8 cache=int2+keep=0..8
  sinkscope operate model.gguf drop-first bos=on --sequences 32 --out results",
        operations(),
        in_percent(SINK_TOKEN_SHARE)
    )
}

pub const TRAIN_HELP: &str = "\
Files of a run:
  last/, best/          the last checkpoint and the best one, each a model that the other commands take
  metrics.jsonl         what every look at the model showed
  tensorboard/          the same for TensorBoard
  train.json            the recipe, the cost and all looks

A run that is interrupted (Ctrl-C, or kill) finishes its step and saves; --resume goes on.

Examples:
  sinkscope train recipes/nano.toml --out runs/nano
  sinkscope train recipes/tiny.toml --out runs/tiny --resume
  sinkscope anatomy runs/nano/last --tokens ids.json";

pub const STUDY_HELP: &str = "\
A study names a base recipe, what each row changes in it, seeds, and claims; see studies/. Runs go
seed by seed. Each finished run leaves a summary, RESULTS/STUDY/KEY.json, free of times and paths;
what has one, in this study or another, is not run again, on any machine. A study that is
interrupted (Ctrl-C, or kill) finishes the steps under way and saves; run again, it goes on.

Files:
  runs/ROW-SEED-KEY      a run, as of sinkscope train; the key is its summary's name
  recipes/ROW-SEED.toml  its recipe, for sinkscope train
  study.md, study.json   the table, and the claims with their verdicts
  study.csv, .parquet    one line a row of the table
  looks.csv, ...         one line a look at a run while it trained
  conditions.csv, ...    one line a condition of a claim, with interval and verdict

Examples:
  sinkscope study studies/decoupling-backcopy.toml --out runs/backcopy --jobs 2
  sinkscope study studies/table-5.toml --out runs/table-5 --row sandwich --seed 0
  sinkscope study studies/table-5.toml --tables";

pub const PROBE_EXAMPLES: &str = "\
Examples:
  sinkscope probe models/SmolLM2-135M-Instruct.Q4_1.gguf
  sinkscope probe model.gguf --prefix \"The weather was fine.\"
  sinkscope probe model.gguf --position 4 --out results";

pub const CENSUS_EXAMPLES: &str = "\
Examples:
  sinkscope census models/SmolLM2-135M-Instruct.Q4_1.gguf
  sinkscope census model.gguf --channels 507,247 --full --out results";

pub const ANATOMY_EXAMPLES: &str = "\
Examples:
  sinkscope anatomy models/SmolLM2-135M-Instruct.Q4_1.gguf
  sinkscope anatomy HuggingFaceTB/SmolLM2-135M --text book.txt --seq-len 256 --out results
  sinkscope anatomy model.gguf --tokens ids.json --only sinks,nll --memory 2G";

pub const REPORT_HELP: &str = "\
Reads anatomy.json, census.json, probe.json, operate.json, train.json (or metrics.jsonl of a run that
goes on) and study.json. Outputs of one model, by the hash of its weights, share a part of the page.

Examples:
  sinkscope report results
  sinkscope report small large --out comparison
  sinkscope report results --figures";

pub const FAMILIES_HELP: &str = "\
The other implementation computed the same as this program: what was compared, of how many
tiny random models. Configurations are published ones, which must be read.

Examples:
  sinkscope families
  sinkscope families --json";

pub const SCHEMA_HELP: &str = "\
Examples:
  sinkscope schema > schema.json
  sinkscope schema anatomy.json";
