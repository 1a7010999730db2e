//! What an operation changes of the weights, written as a model directory that other programs load.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use safetensors::tensor::{Dtype, View};
use serde_json::Value;
use sinkscope_model::architecture::{NormKind, NormPlacement};
use sinkscope_model::blocks::Projection;
use sinkscope_model::{Model, ModelError};
use sinkscope_sources::checkpoint::{Metadata, Tensor};

use crate::error::SurgeryError;
use crate::locked;
use crate::operation::{Kind, Operation, WhichTokens};
use crate::plan::{Planner, last};
use crate::quantise::{Scheme, Weights, name, weights_of};

/// Files of a model directory that say how text becomes tokens, and how tokens are drawn.
const COMPANIONS: [&str; 10] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "generation_config.json",
    "chat_template.jinja",
    "chat_template.json",
];

/// What becomes of a linear layer's weights.
#[derive(Debug, Clone)]
enum Change {
    Quantised(Weights),
    /// These inputs give nothing.
    Silenced(Vec<usize>),
    /// No input gives anything.
    Nothing,
}

/// Weights that an operation changes, not yet written.
#[derive(Debug)]
pub struct ChangedWeights<'m> {
    model: &'m Model,
    operation: String,
    /// By name of the tensor.
    changes: BTreeMap<String, Vec<(usize, Projection, Change)>>,
    to: PathBuf,
}

impl<'m> ChangedWeights<'m> {
    /// Of one operation, to be written to a directory that is not there yet, or is empty.
    ///
    /// # Errors
    /// [`SurgeryError::Operation`] if the operation changes more than weights, or none, or the model is not one that can be
    /// written back; [`SurgeryError::Save`] if the directory is there.
    pub fn new(planner: &Planner<'m>, operations: &[Operation], to: &Path) -> Result<Self, SurgeryError> {
        let [operation] = operations else {
            return Err(ModelError::Request(format!(
                "--save writes the weights of one operation, and {} were named",
                operations.len()
            ))
            .into());
        };
        let refused = |reason: String| SurgeryError::Operation {
            operation: operation.typed.clone(),
            reason: format!("--save: {reason}"),
        };
        let model = planner.model;
        if let Metadata::Gguf(_) = model.checkpoint().metadata() {
            return Err(refused(format!(
                "{} is a GGUF file; only a Hugging Face directory is written back",
                model.checkpoint().path().display()
            )));
        }
        let changes = changes(planner, operation).map_err(|why| match why {
            Why::Error(error) => error,
            Why::Reason(reason) => refused(reason),
        })?;
        let mut by_tensor: BTreeMap<String, Vec<(usize, Projection, Change)>> = BTreeMap::new();
        for (block, projection, change) in changes {
            by_tensor.entry(model.linear_tensor(block, projection)).or_default().push((block, projection, change));
        }
        let taken = fs::read_dir(to).map(|mut entries| entries.next().is_some());
        match taken {
            Ok(true) => {
                let source =
                    io::Error::new(io::ErrorKind::AlreadyExists, "it holds files already; name another directory");
                return Err(SurgeryError::Save { path: to.to_owned(), source });
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(SurgeryError::Save { path: to.to_owned(), source: error });
            }
            _ => {}
        }
        Ok(Self { model, operation: operation.typed.clone(), changes: by_tensor, to: to.to_owned() })
    }

    /// Writes configuration, weights (all of them as f32) and tokeniser; all or nothing.
    ///
    /// # Errors
    /// If a weight cannot be decoded, or a file not be written.
    pub fn write(&self) -> Result<(), SurgeryError> {
        let failed = |path: &Path, source: io::Error| SurgeryError::Save { path: path.to_owned(), source };
        let name = self.to.file_name().map_or_else(|| "model".to_owned(), |name| name.to_string_lossy().into_owned());
        let beside = self.to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::create_dir_all(beside).map_err(|error| failed(beside, error))?;
        let draft = beside.join(format!(".{name}.{}.tmp", std::process::id()));
        fs::create_dir(&draft).map_err(|error| failed(&draft, error))?;
        let synced = || fs::read_dir(&draft)?.try_for_each(|entry| fs::File::open(entry?.path())?.sync_all());
        let written = self.write_into(&draft).and_then(|()| {
            synced().map_err(|error| failed(&draft, error))?;
            // An empty directory may be there.
            match fs::remove_dir(&self.to) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(&self.to, error)),
                _ => fs::rename(&draft, &self.to).map_err(|error| failed(&self.to, error)),
            }
        });
        if written.is_err() {
            // What is wrong was said; a draft that cannot be removed adds nothing to it.
            let _ = fs::remove_dir_all(&draft);
        }
        written
    }

    fn write_into(&self, folder: &Path) -> Result<(), SurgeryError> {
        let failed = |path: &Path, source: io::Error| SurgeryError::Save { path: path.to_owned(), source };
        let write = |file: &str, bytes: &[u8]| {
            let path = folder.join(file);
            fs::write(&path, bytes).map_err(|error| failed(&path, error))
        };
        let config = match self.model.checkpoint().metadata() {
            Metadata::HuggingFace { config, folder: from } => {
                for file in COMPANIONS {
                    let source = from.join(file);
                    if source.exists() {
                        fs::copy(&source, folder.join(file)).map_err(|error| failed(&source, error))?;
                    }
                }
                config
            }
            Metadata::Memory { config, tokenizer, tokenizer_config } => {
                if let Some(tokenizer) = tokenizer {
                    write("tokenizer.json", tokenizer)?;
                    write("tokenizer_config.json", tokenizer_config.to_string().as_bytes())?;
                }
                config
            }
            Metadata::Gguf(_) => return Ok(()),
        };
        write("config.json", format!("{:#}\n", in_f32(config.clone())).as_bytes())?;
        let error = Mutex::new(None);
        let tensors = self.model.checkpoint().tensors().map(|tensor| {
            let changes = self.changes.get(tensor.name()).map(Vec::as_slice).unwrap_or_default();
            (tensor.name().to_owned(), Written { model: self.model, tensor, changes, error: &error })
        });
        let path = folder.join("model.safetensors");
        let note = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        safetensors::serialize_to_file(tensors, Some(note), &path)
            .map_err(|error| failed(&path, io::Error::other(error)))?;
        match error.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
            Some(error) => Err(ModelError::into(error)),
            None => Ok(()),
        }
    }

    /// In words: how many tensors were changed by what, and where they are.
    pub fn said(&self) -> String {
        let count = self.changes.len();
        let tensors = if count == 1 { "tensor" } else { "tensors" };
        format!("{} holds the model with {count} {tensors} changed by {}", self.to.display(), self.operation)
    }
}

/// A configuration that asks for f32: changed weights are numbers that fewer bits do not hold.
fn in_f32(mut config: Value) -> Value {
    if let Some(config) = config.as_object_mut() {
        let key = if config.contains_key("dtype") { "dtype" } else { "torch_dtype" };
        config.insert(key.to_owned(), Value::from("float32"));
    }
    config
}

/// A tensor that is decoded and changed when it is written.
struct Written<'w> {
    model: &'w Model,
    tensor: &'w Tensor,
    changes: &'w [(usize, Projection, Change)],
    /// The first error; what is written after it counts for nothing.
    error: &'w Mutex<Option<ModelError>>,
}

impl Written<'_> {
    fn values(&self) -> Result<Vec<f32>, ModelError> {
        let mut stored = self.tensor.decode()?;
        self.tensor.release();
        for (block, projection, change) in self.changes {
            let linear = self.model.linear_layer(*block, *projection)?;
            let outputs = linear.outputs();
            let weights = match change {
                Change::Quantised(how) => weights_of(&linear, *how),
                Change::Nothing => vec![0.0; linear.inputs() * outputs],
                Change::Silenced(inputs) => {
                    let mut weights = linear.weight().to_vec();
                    for input in inputs {
                        weights[input * outputs..(input + 1) * outputs].fill(0.0);
                    }
                    weights
                }
            };
            self.model.put_linear(*block, *projection, &weights, &mut stored);
        }
        Ok(stored)
    }
}

impl View for Written<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        self.tensor.shape()
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let values = self.values().unwrap_or_else(|error| {
            locked(self.error).get_or_insert(error);
            vec![0.0; self.tensor.len()]
        });
        Cow::Owned(values.into_iter().flat_map(f32::to_le_bytes).collect())
    }

    fn data_len(&self) -> usize {
        self.tensor.len() * size_of::<f32>()
    }
}

/// Why an operation is no change of weights.
enum Why {
    Reason(String),
    Error(SurgeryError),
}

impl From<SurgeryError> for Why {
    fn from(error: SurgeryError) -> Self {
        Self::Error(error)
    }
}

/// The linear layers whose weights an operation changes.
fn changes(planner: &Planner<'_>, operation: &Operation) -> Result<Vec<(usize, Projection, Change)>, Why> {
    let no = |reason: &str| Err(Why::Reason(reason.to_owned()));
    let a = planner.model.architecture();
    match &operation.kind {
        Kind::Quantise { kept: Some(_), .. } => {
            no("tokens that are kept meet weights as they are, which no file can say")
        }
        Kind::Quantise { .. } if operation.sweep.is_some() => no("a sweep is several models"),
        Kind::Quantise { scheme: Scheme { activations: Some(_), .. }, .. } => no(
            "the scheme quantises inputs too, which no file can say; of weights alone are w8, w4-gN, w3-gN and w-FORMAT",
        ),
        Kind::Quantise { scheme: Scheme { rotate: true, .. }, .. } => {
            no("rotated weights need rotated inputs, which no file can say")
        }
        Kind::Quantise { scheme: Scheme { weights: Some(weights), .. }, layers, .. } => {
            let chosen = planner.layers(operation, layers)?;
            Ok(chosen.into_keys().map(|(block, projection)| (block, projection, Change::Quantised(*weights))).collect())
        }
        Kind::SkipHead { layer, head, tokens: WhichTokens::All } => {
            let width = a.attention(*layer).value_dim;
            let inputs = (head * width..(head + 1) * width).collect();
            Ok(vec![(2 * layer + 1, Projection::AttentionOutput, Change::Silenced(inputs))])
        }
        Kind::SkipBlock { places, tokens: WhichTokens::All } => {
            let blocks = planner.blocks(operation, places, last)?;
            let mut changes = Vec::new();
            for block in blocks {
                let projection = if block % 2 == 1 { Projection::AttentionOutput } else { Projection::Down };
                let layer = a.layer((block - 1) / 2);
                let placement = layer.norm_placement;
                let norm_adds =
                    placement == NormPlacement::Post || placement.has_output_norm() && a.norm != NormKind::RmsNorm;
                if block % 2 == 0 && !layer.feed_forward.writes() {
                    continue;
                }
                let linear = planner.model.linear_layer(block, projection).map_err(SurgeryError::from)?;
                if norm_adds || linear.bias.is_some() {
                    let what = if norm_adds { "norm" } else { "bias" };
                    let reason = format!(
                        "{} of block {block} has a {what} behind it, which still adds something",
                        name(projection)
                    );
                    return Err(Why::Reason(reason));
                }
                changes.push((block, projection, Change::Nothing));
            }
            Ok(changes)
        }
        Kind::SkipHead { .. } | Kind::SkipBlock { .. } => {
            no("it is done to some tokens alone, which no weights can say; add @position=all")
        }
        _ => no(
            "it changes no weights; quantize=w8 (w4-gN, w3-gN, w-FORMAT), skip-head=L.H and skip-block=B@position=all do",
        ),
    }
}
