//! A second look: measures stages whose outlines are known, exactly, in one more pass over the same batch, however it
//! is divided into groups.
//!
//! # Memory
//!
//! 48 bytes per channel of the model and block of a run: the stage's tokens themselves are only added up.

use sinkscope_model::tap::{BlockView, Event, Place, Point, Tap};

use crate::spikes::outline::StageOutline;
use crate::spikes::stage::{ChannelSums, StageValues, peak, spike_channels};

/// The tap of a second look.
#[derive(Debug, Clone)]
pub struct StageLook {
    spike_ratio: f64,
    /// `M_b` by block.
    typical: Vec<f64>,
    stages: Vec<StageUnderLook>,
}

#[derive(Debug, Clone)]
struct StageUnderLook {
    outline: StageOutline,
    /// By block of the run: the tokens' values in the stage's channel.
    columns: Vec<Vec<f32>>,
    /// By block of the run, then by channel of the model.
    sums: Vec<Vec<ChannelSums>>,
    /// By block of the window: the sum over the tokens of the output in the stage's channel.
    outputs: Vec<f64>,
}

impl StageLook {
    /// Will measure `outlines`; `typical` is `M_b` by block, as the first look found it.
    pub fn new(outlines: Vec<StageOutline>, typical: Vec<f64>, spike_ratio: f64) -> Self {
        let under_look = |outline: StageOutline| {
            let run = outline.last_block - outline.first_block + 1;
            let window = outline.window_end - outline.first_block + 1;
            let (columns, sums) = (vec![Vec::new(); run], vec![Vec::new(); run]);
            StageUnderLook { outline, columns, sums, outputs: vec![0.0; window] }
        };
        Self { spike_ratio, typical, stages: outlines.into_iter().map(under_look).collect() }
    }

    /// The stages measured, in the order of their outlines.
    pub fn finish(self) -> Vec<(StageOutline, StageValues)> {
        let Self { spike_ratio, typical, stages } = self;
        let measured = |stage: StageUnderLook| {
            let StageUnderLook { outline, columns, mut sums, outputs } = stage;
            let peak = peak(outline.first_block, columns);
            let sums = std::mem::take(&mut sums[peak.block - outline.first_block]);
            let threshold = spike_ratio * typical[peak.block];
            let tokens = outline.tokens.len() as f64;
            let values = StageValues {
                channels: spike_channels(sums.into_iter().enumerate(), threshold),
                outputs: outputs.into_iter().map(|sum| sum / tokens).collect(),
                peak,
            };
            (outline, values)
        };
        stages.into_iter().map(measured).collect()
    }
}

impl StageUnderLook {
    /// `threshold` is R `M_b`.
    fn look(&mut self, view: &BlockView<'_>, output: &[f32], threshold: f64) {
        let window_block = view.block - self.outline.first_block;
        let group = view.sequences.start * view.seq_len..view.sequences.end * view.seq_len;
        for token in self.outline.tokens.iter().filter(|token| group.contains(token)) {
            let row = (token - group.start) * view.d_model;
            self.outputs[window_block] += f64::from(output[row + self.outline.channel]);
            if view.block <= self.outline.last_block {
                let residual = &view.residual[row..row + view.d_model];
                let in_stage_channel = residual[self.outline.channel];
                self.columns[window_block].push(in_stage_channel);
                let sums = &mut self.sums[window_block];
                sums.resize(view.d_model, ChannelSums::default());
                for (sums, value) in sums.iter_mut().zip(residual) {
                    sums.add(*value, in_stage_channel, threshold);
                }
            }
        }
    }
}

impl Tap for StageLook {
    type Partial = ();

    fn wants(&self, point: Point, block: usize) -> bool {
        let in_window =
            |stage: &StageUnderLook| (stage.outline.first_block..=stage.outline.window_end).contains(&block);
        point == Point::BlockDone && self.stages.iter().any(in_window)
    }

    fn observe(&self, _event: &Event<'_>) {}

    fn merge(&mut self, _point: Point, _place: &Place, (): ()) {}

    fn block_done(&mut self, view: &BlockView<'_>) {
        let Some(output) = view.output else { return };
        let threshold = self.spike_ratio * self.typical[view.block];
        for stage in &mut self.stages {
            if (stage.outline.first_block..=stage.outline.window_end).contains(&view.block) {
                stage.look(view, output, threshold);
            }
        }
    }
}
