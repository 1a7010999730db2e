//! The command line as typed. Values are checked when a request is made of them, in `request`.

mod help;

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use sinkscope_anatomy::definitions::{SINK_EPSILON, SPIKE_RATIO};
use sinkscope_kernels::matmul::Precision;
use sinkscope_lab::data::prepare::HeldOut;
use sinkscope_sources::data::{DEFAULT_SEQ_LEN, DEFAULT_SEQUENCES};

use self::help::{
    ANATOMY_EXAMPLES, CENSUS_EXAMPLES, EXIT_STATUS, FAMILIES_HELP, PREPARE_HELP, PROBE_EXAMPLES, REPORT_HELP,
    SCHEMA_HELP, STUDY_HELP, TRAIN_HELP, operate_help,
};

/// Look at a transformer language model and say where its massive activations and attention sinks are.
#[derive(Debug, Parser)]
#[command(name = "sinkscope", version, max_term_width = 100, after_help = EXIT_STATUS)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

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
    #[command(after_help = operate_help())]
    Operate(OperateArguments),

    /// Train a small model by a recipe, and watch its spikes and sinks being born
    #[command(after_help = TRAIN_HELP)]
    Train(TrainArguments),

    /// Train the rows of a study, each with several seeds, and tabulate them beside the paper's
    #[command(after_help = STUDY_HELP)]
    Study(StudyArguments),

    /// Prepare data to train on
    Data(DataArguments),

    /// Make one page of everything that commands left in directories
    #[command(after_help = REPORT_HELP)]
    Report(ReportArguments),

    /// List the families of models that can be read, and what confirmed each
    #[command(after_help = FAMILIES_HELP)]
    Families(FamiliesArguments),

    /// Print the JSON schema of the outputs
    #[command(after_help = SCHEMA_HELP)]
    Schema(SchemaArguments),
}

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
    #[arg(long, value_name = "E", default_value_t = SINK_EPSILON, allow_negative_numbers = true)]
    pub epsilon: f64,

    /// Draw queries and keys of these heads, LAYER.HEAD, in a plane (t-SNE) [default: of the strongest sink head, and of the
    /// weakest in its layer]
    #[arg(long, value_name = "HEADS", value_delimiter = ',')]
    pub tsne: Vec<String>,
}

#[derive(Debug, Args)]
pub struct TrainArguments {
    /// The recipe, a .toml file
    #[arg(required_unless_present = "template")]
    pub recipe: Option<PathBuf>,

    /// The directory of the run
    #[arg(long, value_name = "RUN", required_unless_present = "template")]
    pub out: Option<PathBuf>,

    /// Train so many steps instead of the recipe's
    #[arg(long, value_name = "N")]
    pub steps: Option<u64>,

    /// Print a recipe to begin with, every key in it
    #[arg(long, exclusive = true)]
    pub template: bool,

    /// Go on from the newest whole checkpoint; begin anew if there is none
    #[arg(long)]
    pub resume: bool,

    #[command(flatten)]
    pub process: ProcessArguments,
}

#[derive(Debug, Args)]
pub struct StudyArguments {
    /// The study, a .toml file
    #[arg(required_unless_present = "template")]
    pub study: Option<PathBuf>,

    /// The directory of runs and tables
    #[arg(long, value_name = "DIR", required_unless_present_any = ["tables", "template"])]
    pub out: Option<PathBuf>,

    /// Replace the tables of another study in that directory
    #[arg(long, requires = "out")]
    pub force: bool,

    /// Print a study to begin with, every key in it
    #[arg(long, exclusive = true)]
    pub template: bool,

    /// Run so many at a time, the threads divided among them
    #[arg(long, value_name = "K", default_value_t = 1)]
    pub jobs: usize,

    /// Who runs: this machine, or a Slurm cluster, to which every run is submitted as a job
    #[arg(long, value_enum, default_value_t = Launcher::Local)]
    pub launcher: Launcher,

    /// Keep summaries in RESULTS/STUDY
    #[arg(long, value_name = "RESULTS", default_value = "results")]
    pub results: PathBuf,

    /// Run this row only; may be repeated
    #[arg(long = "row", value_name = "NAME")]
    pub rows: Vec<String>,

    /// Run this seed only; may be repeated
    #[arg(long = "seed", value_name = "S")]
    pub seeds: Vec<u64>,

    /// Run nothing: only the tables, of the summaries that there are
    #[arg(long, conflicts_with_all = ["rows", "seeds", "jobs", "launcher"])]
    pub tables: bool,

    #[command(flatten)]
    pub process: ProcessArguments,
}

/// Who runs a study.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Launcher {
    /// This process.
    Local,
    /// Jobs of a Slurm cluster, --threads cores each.
    Slurm,
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
    #[arg(value_name = "OPERATION", help = "What to do: NAME[=VALUE][@PLACE][+MODIFIER], any number of them")]
    pub operations: Vec<String>,

    #[command(flatten)]
    pub text: TextArguments,

    /// Take means, smoothing and static scales from this text (or file of token ids, .json) instead of the other sequences
    #[arg(long, value_name = "FILE")]
    pub calibration: Option<PathBuf>,

    /// Also write the model with the weights that the operation changes, as a directory that transformers loads
    #[arg(long, value_name = "DIR")]
    pub save: Option<PathBuf>,

    /// Do not try what advice says: exempting the layers that break costs a run for each quantisation
    #[arg(long)]
    pub no_trials: bool,

    /// A head is a sink if a key receives more than this share of its attention
    #[arg(long, value_name = "E", default_value_t = SINK_EPSILON, allow_negative_numbers = true)]
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

/// What every command that computes takes.
#[derive(Debug, Args)]
pub struct ProcessArguments {
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

/// What every command that looks at a model takes.
#[derive(Debug, Args)]
pub struct RunArguments {
    /// A .gguf file, a Hugging Face model directory, a hub id such as HuggingFaceTB/SmolLM2-135M, or `demo`, the small model
    /// inside the program, which is also taken if this is left out
    pub model: Option<String>,

    /// Seed of everything random
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub seed: u64,

    /// Memory for activations and weights, in bytes or with K, M, G or T (of 1024) [default: half of RAM]
    #[arg(long, value_name = "BYTES")]
    pub memory: Option<String>,

    /// Write the results as JSON, and tables as Parquet and CSV, into this directory
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,

    /// Replace results of another model, text or request in that directory
    #[arg(long, requires = "out")]
    pub force: bool,

    /// Compute the model as if these settings and tensors, which are not understood, were not there: names with commas
    /// between, in which `*` stands for any part
    #[arg(long, value_name = "KEYS", value_delimiter = ',')]
    pub allow_unknown: Vec<String>,

    #[command(flatten)]
    pub process: ProcessArguments,
}

/// What every command that runs a model on a text takes.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct TextArguments {
    /// Take the text of this file: .txt, .jsonl, .ndjson, .json or .parquet, each also .gz or .zst; or of standard input (-)
    #[arg(long, value_name = "FILE", conflicts_with = "tokens")]
    pub text: Option<PathBuf>,

    /// The field of JSON or column of Parquet that holds the text; a.b leads into objects, structs and lists [default: text]
    #[arg(long, value_name = "NAME", requires = "text")]
    pub text_field: Option<String>,

    /// Take the conversations of this file, one a line: JSON, {"messages": [{"role": ..., "content": ...}, ...]}, as the model's
    /// own chat template writes them
    #[arg(long, value_name = "FILE", conflicts_with_all = ["text", "tokens"])]
    pub chat: Option<PathBuf>,

    /// Take the token ids of this file: JSON, {"tokens": [[ids of one sequence], ...]}
    #[arg(long, value_name = "FILE")]
    pub tokens: Option<PathBuf>,

    #[arg(long, value_name = "T", help = seq_len_help())]
    pub seq_len: Option<usize>,

    #[arg(long, value_name = "N", help = sequences_help())]
    pub sequences: Option<usize>,

    /// Begin each sequence with the beginning-of-sequence token; `auto` does as the model's tokeniser, and
    /// with --chat as its template
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = Bos::Auto)]
    pub bos: Bos,

    /// A token spikes if its largest activation is this many times the typical token's
    #[arg(long, value_name = "R", default_value_t = SPIKE_RATIO, allow_negative_numbers = true)]
    pub spike_ratio: f64,

    /// How exact products are: `highest`, all 24 bits of f32; `high`, operands of 16 bits; or `medium`, of the 8 of
    /// bf16. The lower, the faster on machines with AMX and the same elsewhere
    #[arg(long, value_parser = precision_parser(), value_name = "P", default_value = Precision::default().name())]
    pub precision: Precision,
}

fn seq_len_help() -> String {
    format!("Tokens per sequence [default: {DEFAULT_SEQ_LEN}; of a file of token ids its own]")
}

fn sequences_help() -> String {
    format!(
        "Number of sequences [default: as many as the text gives, at most {DEFAULT_SEQUENCES}; of a file of token ids all]"
    )
}

fn held_out_help() -> String {
    let usual = HeldOut::default().share();
    format!("Hold out this share of the text, in whole documents, at least one [default: {usual} of the documents]")
}

fn precision_parser() -> impl TypedValueParser<Value = Precision> {
    let called = |name: &str| Precision::ALL.into_iter().find(|precision| precision.name() == name);
    let names = PossibleValuesParser::new(Precision::ALL.map(Precision::name));
    names.try_map(move |name| called(&name).ok_or_else(|| format!("there is no precision {name}")))
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
    /// Text: .txt, .jsonl, .ndjson, .json or .parquet files, each also .gz or .zst, or directories of them
    #[arg(value_name = "INPUT", required = true)]
    pub inputs: Vec<PathBuf>,

    /// Number of tokens, `<s>` and the 256 bytes included
    #[arg(long, value_name = "V")]
    pub vocab_size: usize,

    /// Write into this directory, which is empty or not there
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,

    /// The field of JSON or column of Parquet that holds the text; a.b leads into objects, structs and lists [default: text]
    #[arg(long, value_name = "NAME")]
    pub text_field: Option<String>,

    /// What ends a document of a .txt file
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = DocumentSeparator::Pages)]
    pub document_separator: DocumentSeparator,

    #[arg(long, value_name = "SHARE", allow_negative_numbers = true, help = held_out_help())]
    pub held_out: Option<f64>,

    /// Seed of the choice of documents held out
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub seed: u64,

    #[command(flatten)]
    pub process: ProcessArguments,
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

#[derive(Debug, Args)]
pub struct ReportArguments {
    /// Directories that commands wrote with --out, and directories of runs
    #[arg(required = true, value_name = "DIR")]
    pub directories: Vec<PathBuf>,

    /// Directory of report.html [default: the first DIR]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,

    /// Write every figure as SVG and PDF too, into figures/ beside the page
    #[arg(long)]
    pub figures: bool,
}

#[derive(Debug, Args)]
pub struct FamiliesArguments {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct SchemaArguments {
    /// The file whose schema is wanted [default: all]
    #[arg(value_name = "FILE")]
    pub output: Option<String>,
}
