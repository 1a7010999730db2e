//! The vocabulary probe: which tokens spike at one position, each vocabulary item tried there (Table 2).
//!
//! Every item stands alone behind the same prefix; without one it stands at position 0. All share everything but
//! themselves, and nothing after the last step-up block is computed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinkscope_model::Model;
use sinkscope_model::pass::{Continuations, Step};

use crate::error::AnatomyError;
use crate::magnitude::scan_rows;
use crate::not_finite::check_step;
use crate::results::{Lifecycle, Spikes};
use crate::spikes::is_spike;

/// Items listed at each end.
pub const LISTED: usize = 20;

/// From which value on, after which block, an item spikes: what a text says (`M_b` is no property of the weights).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Calibration {
    /// The last step-up block of the strongest stage; its peak block if no block steps up.
    pub block: usize,
    /// R `M_b` there.
    pub threshold: f64,
    /// `M_b` there.
    pub typical_token_largest: f64,
}

/// What the probe found; block, threshold and counts are `None` if the text shows no stage, so that there is nothing to
/// probe for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Probe {
    /// The last step-up block of the strongest stage.
    pub block: Option<usize>,
    /// R `M_b`.
    pub threshold: Option<f64>,
    /// `M_b`.
    pub typical_token_largest: Option<f64>,
    /// Position of the items.
    pub position: usize,
    /// Number of items.
    pub vocabulary: usize,
    /// Items that spike.
    pub spiking: Option<usize>,
    /// Share of them.
    pub share: Option<f64>,
    /// The items of lowest value, lowest first.
    pub lowest: Vec<ProbedToken>,
    /// The items of highest value, highest first.
    pub highest: Vec<ProbedToken>,
    /// Every item by id; in `probe.parquet`.
    #[serde(skip)]
    pub items: Vec<ProbedItem>,
}

/// An item that is listed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProbedToken {
    /// Token id.
    pub id: u32,
    /// Token text (empty if no tokeniser is at hand).
    pub text: String,
    /// `max_k |H_b[k]|`.
    pub value: f32,
}

/// One item.
#[derive(Debug, Clone, PartialEq)]
pub struct ProbedItem {
    /// Text (empty if no tokeniser is at hand).
    pub text: String,
    /// `max_k |H_b[k]|`.
    pub value: f32,
    /// The channel that has it.
    pub channel: usize,
    /// Whether that is a spike.
    pub spikes: bool,
}

impl Calibration {
    /// From an examined text; `None` if it shows no stage.
    pub fn new(spikes: &Spikes, lifecycle: &Lifecycle) -> Option<Self> {
        let stage = spikes.stages.first()?;
        let block = stage.whole_after();
        let measured = lifecycle.blocks.iter().find(|measured| measured.block == block)?;
        let typical = measured.residual.typical_token_largest;
        Some(Self { block, threshold: spikes.ratio * typical, typical_token_largest: typical })
    }
}

/// Tries every vocabulary item at the position after `prefix`, on the current threads. `text` gives the text of an id;
/// residuals stay within `memory` bytes; `progress(done, total)` counts blocks.
///
/// # Errors
/// If an id of the prefix lies beyond the vocabulary, the position is out of the model's reach, a weight is not finite, or an
/// item's residual comes out infinite or undefined.
pub fn probe(
    model: &Model,
    calibration: Option<&Calibration>,
    prefix: &[u32],
    memory: u64,
    text: &dyn Fn(u32) -> String,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<Probe, AnatomyError> {
    let a = model.architecture();
    let mut found = Probe {
        block: None,
        threshold: None,
        typical_token_largest: None,
        position: prefix.len(),
        vocabulary: a.vocabulary,
        spiking: None,
        share: None,
        lowest: Vec::new(),
        highest: Vec::new(),
        items: Vec::new(),
    };
    let Some(calibration) = calibration else { return Ok(found) };
    let ids: Vec<u32> = (0..a.vocabulary as u32).collect();
    let spike_ratio = calibration.threshold / calibration.typical_token_largest;
    let mut finite = Ok(());
    let mut look = |step: &Step<'_>| {
        if finite.is_ok() {
            finite = check_step(step, &ids, prefix.len(), text);
        }
        if step.block == calibration.block {
            let (maxima, _) = scan_rows(step.residual, a.d_model);
            for (id, (value, channel)) in step.candidates.clone().zip(maxima.largest.into_iter().zip(maxima.channel)) {
                let spikes = is_spike(value, calibration.typical_token_largest, spike_ratio);
                found.items.push(ProbedItem { text: text(id as u32), value, channel: channel as usize, spikes });
            }
        }
    };
    Continuations::new(model, prefix, memory).with_progress(progress).run(&ids, calibration.block, &mut look)?;
    finite?;
    let spiking = found.items.iter().filter(|item| item.spikes).count();
    let mut order = ids;
    order.sort_by(|&a, &b| found.items[a as usize].value.total_cmp(&found.items[b as usize].value));
    let listed = |&id: &u32| {
        let item = &found.items[id as usize];
        ProbedToken { id, text: item.text.clone(), value: item.value }
    };
    found.lowest = order.iter().take(LISTED).map(listed).collect();
    found.highest = order.iter().rev().take(LISTED).map(listed).collect();
    found.block = Some(calibration.block);
    found.threshold = Some(calibration.threshold);
    found.typical_token_largest = Some(calibration.typical_token_largest);
    found.spiking = Some(spiking);
    found.share = Some(spiking as f64 / a.vocabulary as f64);
    Ok(found)
}
