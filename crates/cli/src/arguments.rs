//! The command line as typed. Values are checked when a request is made of them, in `request`.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

/// Look at a transformer language model and say where its massive activations and attention sinks are.
#[derive(Debug, Parser)]
#[command(name = "sinkscope", version, max_term_width = 100, after_help = EXIT_STATUS)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_STATUS: &str = "Exit status: 0 done, 1 failed while running, 2 the request or an input is wrong.";

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Examine a model: the life cycle of its spikes, their tokens and channels, its sinks, its perplexity
    #[command(after_help = ANATOMY_EXAMPLES)]
    Anatomy(AnatomyArguments),

    /// Take the census of a model: what each feed-forward block could do, from the weights alone
    #[command(after_help = CENSUS_EXAMPLES)]
    Census(CensusArguments),

    /// Try every vocabulary item at one position and say which spike there
    #[command(after_help = PROBE_EXAMPLES)]
    Probe(ProbeArguments),

    /// Change a model while it runs (its spikes, its sinks, its tokens), and compare with the untouched model
    #[command(after_help = OPERATE_HELP)]
    Operate(OperateArguments),

    /// Train a small model by a recipe, and watch its spikes and sinks being born
    #[command(after_help = TRAIN_HELP)]
    Train(TrainArguments),

    /// Train the rows of a study, each with several seeds, and tabulate them beside the paper's
    #[command(after_help = STUDY_HELP)]
    Study(StudyArguments),

    /// Prepare data to train on
    Data(DataArguments),
}

const PREPARE_HELP: &str = "\
A document is a line of a .jsonl file (field `text`), a row of a .parquet file (column `text`), or a
part of a .txt file:
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

const OPERATE_HELP: &str = "\
Operations:
  zero-spikes           spike entries become zero, right after the last step-up block
  mean-spikes           they become their mean over the other sequences (or --calibration)
  scale-spikes=F        they become F times what they were
  zero-rescale-spikes   they become zero, and the row as long as it was
  skip-block=B          the block adds nothing to the tokens that spike
  self-only@position=P  the token attends to nothing but itself, in every attention block
  forbid-sink           no other token attends to the tokens that spike
  sink-value=zero|mean  the values of the tokens that spike, in every attention block
  drop-first            the first token is left out
  repeat-first          the first token comes twice
  bos=on|off            sequences begin with the beginning-of-sequence token, or do not
  window=W[+sinks=S]    attention to the last W keys and the first S, positions those in the cache
                        (+original-positions: those in the text)
  random-tokens         every token is drawn at random
  quantize=SCHEME       the linear layers of the blocks: w8a8-tensor, w8a8-token, smooth-w8a8, w8,
                        w4-gN, w3-gN, w4a8-tensor, w4a8-token, a8-tensor, a8-token or fp8-e4m3
                        (+keep-spikes: but not at tokens that spike)
  cache=int8|int4|int2  keys and values, per token and head
                        (+keep-sinks: but not of tokens that spike)

  Those about spikes, blocks, values and attention to tokens can be done elsewhere: @block=B, @position=P (or all), @channels=C,C,...

Examples:
  sinkscope operate model.gguf zero-spikes mean-spikes
  sinkscope operate model.gguf zero-spikes@position=17 zero-spikes@channels=1,2,3 --text book.txt
  sinkscope operate model.gguf quantize=w8a8-tensor quantize=w8a8-tensor+keep-spikes
  sinkscope operate model.gguf drop-first bos=on --sequences 32 --out results";

const TRAIN_HELP: &str = "\
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

const STUDY_HELP: &str = "\
A study names a base recipe, what each row changes in it, seeds, and claims; see studies/. Runs go
seed by seed. Each finished run leaves a summary, RESULTS/STUDY/KEY.json, free of times and paths;
what has one, in this study or another, is not run again, on any machine. A study that is
interrupted (Ctrl-C, or kill) finishes the steps under way and saves; run again, it goes on.

Files:
  runs/ROW-SEED          a run, as of sinkscope train
  recipes/ROW-SEED.toml  its recipe, for sinkscope train
  study.md, study.json   the table, and the claims with their verdicts
  study.csv, .parquet    one line a row of the table
  looks.csv, ...         one line a look at a run while it trained
  conditions.csv, ...    one line a condition of a claim, with interval and verdict

Examples:
  sinkscope study studies/decoupling-backcopy.toml --out runs/backcopy --jobs 2
  sinkscope study studies/table-5.toml --out runs/table-5 --row sandwich --seed 0
  sinkscope study studies/table-5.toml --tables";

const PROBE_EXAMPLES: &str = "\
Examples:
  sinkscope probe models/SmolLM2-135M-Instruct.Q4_1.gguf
  sinkscope probe model.gguf --prefix \"The weather was fine.\"
  sinkscope probe model.gguf --position 4 --out results";

const CENSUS_EXAMPLES: &str = "\
Examples:
  sinkscope census models/SmolLM2-135M-Instruct.Q4_1.gguf
  sinkscope census model.gguf --channels 507,247 --full --out results";

const ANATOMY_EXAMPLES: &str = "\
Examples:
  sinkscope anatomy models/SmolLM2-135M-Instruct.Q4_1.gguf
  sinkscope anatomy HuggingFaceTB/SmolLM2-135M --text book.txt --seq-len 256 --out results
  sinkscope anatomy model.gguf --tokens ids.json --only sinks,nll --memory 2G";

#[derive(Debug, Args)]
pub struct AnatomyArguments {
    #[command(flatten)]
    pub run: RunArguments,

    #[command(flatten)]
    pub text: TextArguments,

    /// Measure only these parts: lifecycle, spikes, sinks, nll, tokens (the text itself), silu, normalisation, geometry,
    /// census (of all blocks), probe [default: all but the probe, census of the step-up and step-down blocks]
    #[arg(long, value_name = "PARTS", value_delimiter = ',')]
    pub only: Vec<String>,

    /// A head is a sink if a key receives more than this share of its attention
    #[arg(long, value_name = "E", default_value_t = 0.3, allow_negative_numbers = true)]
    pub epsilon: f64,

    /// Draw queries and keys of these heads, LAYER.HEAD, in a plane (t-SNE) [default: of the strongest sink head, and of the
    /// weakest in its layer]
    #[arg(long, value_name = "HEADS", value_delimiter = ',')]
    pub tsne: Vec<String>,
}

#[derive(Debug, Args)]
pub struct TrainArguments {
    /// The recipe, a .toml file
    pub recipe: PathBuf,

    /// The directory of the run
    #[arg(long, value_name = "RUN")]
    pub out: PathBuf,

    /// Go on from the newest whole checkpoint; begin anew if there is none
    #[arg(long)]
    pub resume: bool,

    /// Threads to compute with [default: one per core]
    #[arg(long, value_name = "K")]
    pub threads: Option<usize>,

    /// No progress bar, no report of the cost and no warnings
    #[arg(long, short, conflicts_with = "verbose")]
    pub quiet: bool,

    /// Say what is being done; twice for more
    #[arg(long, short, action = ArgAction::Count)]
    pub verbose: u8,
}

#[derive(Debug, Args)]
pub struct StudyArguments {
    /// The study, a .toml file
    pub study: PathBuf,

    /// The directory of runs and tables
    #[arg(long, value_name = "DIR", required_unless_present = "tables")]
    pub out: Option<PathBuf>,

    /// Run so many at a time, the threads divided among them
    #[arg(long, value_name = "K", default_value_t = 1)]
    pub jobs: usize,

    /// Where summaries are kept [default: `results` beside the directory of the study]
    #[arg(long, value_name = "RESULTS")]
    pub results: Option<PathBuf>,

    /// Run this row only; may be repeated
    #[arg(long = "row", value_name = "NAME")]
    pub rows: Vec<String>,

    /// Run this seed only; may be repeated
    #[arg(long = "seed", value_name = "S")]
    pub seeds: Vec<u64>,

    /// Run nothing: only the tables, of the summaries that there are
    #[arg(long, conflicts_with_all = ["rows", "seeds", "jobs"])]
    pub tables: bool,

    /// Threads to compute with [default: one per core]
    #[arg(long, value_name = "K")]
    pub threads: Option<usize>,

    /// No progress and no warnings
    #[arg(long, short, conflicts_with = "verbose")]
    pub quiet: bool,

    /// Say what is being done; twice for more
    #[arg(long, short, action = ArgAction::Count)]
    pub verbose: u8,
}

#[derive(Debug, Args)]
pub struct ProbeArguments {
    #[command(flatten)]
    pub run: RunArguments,

    #[command(flatten)]
    pub text: TextArguments,

    /// Try the items at this position, after the first tokens of the text [default: 0, or the length of the prefix]
    #[arg(long, value_name = "P")]
    pub position: Option<usize>,

    /// Try the items after this text, tokenised without BOS
    #[arg(long, value_name = "TEXT")]
    pub prefix: Option<String>,
}

#[derive(Debug, Args)]
pub struct OperateArguments {
    #[command(flatten)]
    pub run: RunArguments,

    // Not a doc comment: brackets are links there.
    #[arg(
        value_name = "OPERATION",
        help = "What to do: NAME[=VALUE][@block=B][@position=P][@channels=C,...], any number of them"
    )]
    pub operations: Vec<String>,

    #[command(flatten)]
    pub text: TextArguments,

    /// Take means from this text (or file of token ids, .json) instead of the other sequences
    #[arg(long, value_name = "FILE")]
    pub calibration: Option<PathBuf>,

    /// A head is a sink if a key receives more than this share of its attention
    #[arg(long, value_name = "E", default_value_t = 0.3, allow_negative_numbers = true)]
    pub epsilon: f64,
}

#[derive(Debug, Args)]
pub struct CensusArguments {
    #[command(flatten)]
    pub run: RunArguments,

    /// Take the spectra of these channels too, in every feed-forward block
    #[arg(long, value_name = "CHANNELS", value_delimiter = ',')]
    pub channels: Vec<usize>,

    /// Compute every eigenvalue, not only the leading ones
    #[arg(long)]
    pub full: bool,
}

/// What every command that looks at a model takes.
#[derive(Debug, Args)]
pub struct RunArguments {
    /// A .gguf file, a Hugging Face model directory, a hub id such as HuggingFaceTB/SmolLM2-135M, or `demo`, the small model
    /// inside the program, which is also taken if this is left out
    pub model: Option<String>,

    /// Seed of everything random
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub seed: u64,

    /// Threads to compute with [default: one per core]
    #[arg(long, value_name = "K")]
    pub threads: Option<usize>,

    /// Memory for activations and weights, in bytes or with K, M, G or T (of 1024) [default: half of RAM]
    #[arg(long, value_name = "BYTES")]
    pub memory: Option<String>,

    /// Write the results as JSON, and tables as Parquet and CSV, into this directory
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,

    /// No progress bar and no warnings
    #[arg(long, short, conflicts_with = "verbose")]
    pub quiet: bool,

    /// Say what is being done; twice for more
    #[arg(long, short, action = ArgAction::Count)]
    pub verbose: u8,
}

/// What every command that looks at a model on a text takes.
#[derive(Debug, Args)]
pub struct TextArguments {
    /// Take the text of this file: .txt, .jsonl or .parquet (field `text`), each also .gz or .zst
    #[arg(long, value_name = "FILE", conflicts_with = "tokens")]
    pub text: Option<PathBuf>,

    /// Take the token ids of this file: JSON, {"tokens": [[ids of one sequence], ...]}
    #[arg(long, value_name = "FILE")]
    pub tokens: Option<PathBuf>,

    /// Tokens per sequence
    #[arg(long, value_name = "T")]
    pub seq_len: Option<usize>,

    /// Number of sequences
    #[arg(long, value_name = "N")]
    pub sequences: Option<usize>,

    /// Begin each sequence with the beginning-of-sequence token; `auto` does as the model's tokeniser
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = Bos::Auto)]
    pub bos: Bos,

    /// A token spikes if its largest activation is this many times the typical token's
    #[arg(long, value_name = "R", default_value_t = 5.0, allow_negative_numbers = true)]
    pub spike_ratio: f64,
}

#[derive(Debug, Args)]
pub struct DataArguments {
    #[command(subcommand)]
    pub command: DataCommand,
}

#[derive(Debug, Subcommand)]
pub enum DataCommand {
    /// Train a byte-level BPE tokeniser on text and write the text as tokens, some documents held out
    #[command(after_help = PREPARE_HELP)]
    Prepare(PrepareArguments),
}

#[derive(Debug, Args)]
pub struct PrepareArguments {
    /// Text: .txt, .jsonl or .parquet files, each also .gz or .zst, or directories of them
    #[arg(value_name = "INPUT", required = true)]
    pub inputs: Vec<PathBuf>,

    /// Number of tokens, `<s>` and the 256 bytes included
    #[arg(long, value_name = "V")]
    pub vocab_size: usize,

    /// Write into this directory, which is empty or not there
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,

    /// What ends a document of a .txt file
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = DocumentSeparator::Pages)]
    pub document_separator: DocumentSeparator,

    /// Hold out this share of the documents, at least one
    #[arg(long, value_name = "SHARE", default_value_t = 0.05, allow_negative_numbers = true)]
    pub held_out: f64,

    /// Seed of the choice of documents held out
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub seed: u64,

    /// Threads to work with [default: one per core]
    #[arg(long, value_name = "K")]
    pub threads: Option<usize>,

    /// No progress bar and no warnings
    #[arg(long, short, conflicts_with = "verbose")]
    pub quiet: bool,

    /// Say what is being done; twice for more
    #[arg(long, short, action = ArgAction::Count)]
    pub verbose: u8,
}

/// What ends a document of a .txt file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DocumentSeparator {
    Pages,
    FormFeed,
    BlankLine,
    File,
}

/// When sequences begin with the beginning-of-sequence token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Bos {
    Auto,
    Always,
    Never,
}
