//! What operations wait for: the residual where they begin, means, magnitudes and inputs of the untouched model.

use std::collections::BTreeSet;
use std::sync::Arc;

use sinkscope_anatomy::results::Stage;
use sinkscope_model::pass::ErasedTap;
use sinkscope_sources::data::TokenBatch;

use super::Run;
use crate::edits::{Change, RowEdit};
use crate::error::SurgeryError;
use crate::operation::Operation;
use crate::plan::{self, Edited, Plan, Planner};
use crate::quantise::{MagnitudeTap, MaximaTap, QuantisedLayers, UntouchedInputs};
use crate::taps::{KeepTap, RowsTap};

impl Run<'_> {
    /// Once more through the first blocks: the residual where operations begin, as far as memory allows, and the rows whose
    /// means they wait for.
    pub(super) fn keep(&mut self, plans: &mut [Plan]) -> Result<KeepTap, SurgeryError> {
        let starts: BTreeSet<usize> = plans.iter().map(Plan::start).filter(|&start| start > 0).collect();
        let bytes = starts.len() * self.batch.tokens.len() * self.model.architecture().d_model * size_of::<f32>();
        let fits = (bytes as u64) <= self.around.memory / 2;
        let mut residuals = KeepTap::new(starts.into_iter().filter(|_| fits));
        // With a text of its own to calibrate on, nothing waits for this one.
        let waiting = plans.iter().enumerate().filter(|_| self.request.calibration.is_none());
        let smoothing = waiting.clone().filter_map(|(index, plan)| Some((index, plan.smoothing()?)));
        let smoothed = smoothing.clone().filter_map(|(_, layers)| layers.blocks().last().copied()).max();
        let mut wanted: Vec<(usize, RowsTap)> = waiting
            .filter_map(|(index, plan)| Some((index, rows_of(plan.waiting()?, self.batch.seq_len, None))))
            .collect();
        let mut maxima: Vec<(usize, MaximaTap)> = smoothing
            .map(|(index, layers)| {
                let left_out = if layers.keeps_spikes { layers.spikes.clone() } else { Vec::new() };
                (index, maxima_of(layers, self.batch.seq_len, left_out, true))
            })
            .collect();
        let last = residuals.residuals.keys().max().copied();
        let last = last.max(wanted.iter().filter_map(|(_, tap)| tap.rows.keys().max().copied()).max());
        if let Some(last) = last.max(smoothed) {
            let start = self.begin("the blocks before the operations");
            let mut taps: Vec<&mut dyn ErasedTap> = vec![&mut residuals];
            taps.extend(wanted.iter_mut().map(|(_, tap)| tap as &mut dyn ErasedTap));
            taps.extend(maxima.iter_mut().map(|(_, tap)| tap as &mut dyn ErasedTap));
            self.pass().ending_after(last.next_multiple_of(2)).run(self.batch, &mut taps)?;
            self.end("prefix", start);
        }
        for (index, rows) in wanted {
            fill_in(&mut plans[index], &rows, self.batch.sequences, true);
        }
        for (index, maxima) in maxima {
            smooth(&mut plans[index], maxima);
        }
        Ok(residuals)
    }

    /// Means over another text.
    pub(super) fn calibrate(
        &mut self,
        calibration: &TokenBatch,
        planner: &Planner<'_>,
        (operations, plans): (&[Operation], &mut [Plan]),
    ) -> Result<(), SurgeryError> {
        if plans.iter().all(|plan| plan.waiting().is_none() && plan.smoothing().is_none()) {
            return Ok(());
        }
        let untouched = self.examine(calibration, &mut [])?;
        let mut wanted: Vec<(usize, RowsTap)> = Vec::new();
        let mut maxima: Vec<(usize, MaximaTap)> = Vec::new();
        for (index, (plan, operation)) in plans.iter().zip(operations).enumerate() {
            if let Some(edit) = plan.waiting() {
                let tokens = planner.corresponding(operation, calibration, untouched.shown())?;
                wanted.push((index, rows_of(edit, calibration.seq_len, Some(tokens))));
            }
            if let Some(layers) = plan.smoothing() {
                let left_out = planner.corresponding(operation, calibration, untouched.shown())?;
                maxima.push((index, maxima_of(layers, calibration.seq_len, left_out, false)));
            }
        }
        let start = self.begin("calibrating");
        let mut taps: Vec<&mut dyn ErasedTap> = wanted.iter_mut().map(|(_, tap)| tap as &mut dyn ErasedTap).collect();
        taps.extend(maxima.iter_mut().map(|(_, tap)| tap as &mut dyn ErasedTap));
        self.pass().run(calibration, &mut taps)?;
        self.end("calibration", start);
        for (index, rows) in wanted {
            fill_in(&mut plans[index], &rows, self.batch.sequences, false);
        }
        for (index, maxima) in maxima {
            smooth(&mut plans[index], maxima);
        }
        Ok(())
    }

    /// What the untouched model gives its linear layers, for those that are quantised.
    pub(super) fn look_at_inputs(
        &mut self,
        magnitudes: MagnitudeTap,
        stage: Option<&Stage>,
        plans: &mut [Plan],
    ) -> Result<(), SurgeryError> {
        let start = self.begin("the inputs of linear layers");
        let spikes =
            stage.map_or_else(|| vec![false; self.batch.tokens.len()], |stage| plan::marked(stage, self.batch));
        let inputs = Arc::new(UntouchedInputs::of_sample(self.model, self.batch, magnitudes, &spikes)?);
        for plan in plans {
            if let Plan::Quantised { layers, .. } = plan {
                layers.untouched = Some(Arc::clone(&inputs));
            }
        }
        self.end("sample", start);
        Ok(())
    }
}

/// The rows whose means an edit waits for; of other tokens than its own if they are given.
fn rows_of(edit: &RowEdit, seq_len: usize, tokens: Option<Vec<bool>>) -> RowsTap {
    let tokens = tokens.unwrap_or_else(|| edit.tokens.clone());
    RowsTap::new(edit.point, edit.blocks.iter().copied(), seq_len, tokens)
}

/// What smoothing is calibrated with.
fn maxima_of(layers: &QuantisedLayers, seq_len: usize, left_out: Vec<bool>, of_others: bool) -> MaximaTap {
    MaximaTap::new(layers.blocks(), seq_len, left_out, of_others)
}

/// Gives layers what smoothing waited for.
fn smooth(plan: &mut Plan, maxima: MaximaTap) {
    if let Plan::Quantised { layers, .. } = plan {
        layers.maxima = Some(maxima);
    }
}

/// Gives an edit the means that it waited for.
fn fill_in(plan: &mut Plan, rows: &RowsTap, sequences: usize, of_others: bool) {
    if let Plan::Edited { edited: Edited::ToMeans(edit), .. } = plan {
        let means = rows.rows.keys().map(|&block| (block, rows.means(block, sequences, of_others)));
        edit.change = Change::Replace(means.collect());
    }
}
