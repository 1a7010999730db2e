//! Trials: what advice would say is run before it is given.

use std::sync::Arc;

use super::{Run, Untouched};
use crate::divergence::Reference;
use crate::error::SurgeryError;
use crate::operation::{Kind, Operation};
use crate::plan::{Plan, Planner};
use crate::results::{LinearLayer, Variant};
use crate::taps::KeepTap;

/// What was tried for a variant.
#[derive(Debug)]
pub struct Trial {
    /// Which variant it is about.
    pub of: usize,
    /// The variant that shows it: one asked for, or one run for this.
    pub shown: Shown,
}

/// Where the variant is that shows a trial.
#[derive(Debug)]
pub enum Shown {
    /// Among those asked for.
    Asked(usize),
    /// Among the trials.
    Tried(usize),
}

/// What trials of quantised layers begin with: the untouched model, and what is known of its first blocks.
pub(super) struct Known<'k> {
    pub untouched: &'k Untouched,
    pub kept: &'k KeepTap,
    pub reference: &'k Reference<'k>,
}

impl Run<'_> {
    /// Runs every quantised variant once more without the layers that break in it.
    pub(super) fn exemptions(
        &mut self,
        planner: &Planner<'_>,
        (operations, plans): (&[Operation], &[Plan]),
        variants: &[Variant],
        known: &Known<'_>,
    ) -> Result<(Vec<Variant>, Vec<Trial>), SurgeryError> {
        let (mut tried, mut trials): (Vec<Variant>, Vec<Trial>) = (Vec::new(), Vec::new());
        for (of, (operation, plan)) in operations.iter().zip(plans).enumerate() {
            let (Plan::Quantised { layers, start }, Some(trial)) = (plan, exemption(operation, &variants[of])) else {
                continue;
            };
            if planner.check(&trial).is_err() {
                continue;
            }
            if let Some(asked) = operations.iter().position(|asked| asked.kind == trial.kind) {
                trials.push(Trial { of, shown: Shown::Asked(asked) });
                continue;
            }
            let Plan::Quantised { layers: mut fewer, .. } = planner.plan(&trial, known.untouched.shown())? else {
                continue;
            };
            fewer.maxima.clone_from(&layers.maxima);
            fewer.untouched = layers.untouched.as_ref().map(Arc::clone);
            let noted = self.positions.len();
            let plan = Plan::Quantised { layers: fewer, start: *start };
            let variant = self.variant(&trial, &plan, known)?;
            self.positions.truncate(noted);
            trials.push(Trial { of, shown: Shown::Tried(tried.len()) });
            tried.push(variant);
        }
        Ok((tried, trials))
    }
}

/// The operation without the layers that break; if none does and the loss is not of chance, without the one that loses most.
fn exemption(operation: &Operation, variant: &Variant) -> Option<Operation> {
    if !matches!(operation.kind, Kind::Quantise { .. }) {
        return None;
    }
    let layers = &variant.linear_layers;
    let mut exempt: Vec<&LinearLayer> = layers.iter().filter(|layer| layer.breaks).collect();
    if exempt.is_empty() {
        let lost = variant.delta_ci95.map_or(variant.delta_nll?, |[low, _]| low);
        let worst = layers.iter().filter(|layer| layer.error.is_some());
        exempt.extend(worst.max_by(|a, b| a.error.unwrap_or(0.0).total_cmp(&b.error.unwrap_or(0.0))));
        exempt.retain(|_| lost > 0.0);
    }
    if exempt.is_empty() || exempt.len() == layers.len() {
        return None;
    }
    with_exceptions(&operation.typed, &names(&exempt, layers)).parse().ok()
}

/// Layers by the names of their tensors, or of a projection where all of its layers are among them.
fn names(exempt: &[&LinearLayer], layers: &[LinearLayer]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for layer in exempt {
        let of_kind = |other: &&LinearLayer| other.projection == layer.projection;
        let all = layers.iter().filter(of_kind).count() == exempt.iter().copied().filter(of_kind).count();
        let name = if all && exempt.len() > 1 { &layer.projection } else { &layer.tensor };
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
}

/// The same operation with more exceptions.
fn with_exceptions(typed: &str, names: &[String]) -> String {
    const EXCEPT: &str = "+except=";
    let names = names.join(",");
    match typed.find(EXCEPT) {
        Some(at) => {
            let list = at + EXCEPT.len();
            let end = typed[list..].find(['@', '+']).map_or(typed.len(), |end| list + end);
            format!("{},{names}{}", &typed[..end], &typed[end..])
        }
        None => format!("{typed}{EXCEPT}{names}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(block: usize, projection: &str, error: f64) -> LinearLayer {
        LinearLayer {
            block,
            projection: projection.to_owned(),
            tensor: format!("blk.{block}.{projection}"),
            weights: 1,
            largest_at_spikes: None,
            largest_elsewhere: 1.0,
            error: Some(error),
            error_at_spikes: None,
            breaks: error > 0.5,
        }
    }

    fn tried(typed: &str, layers: &[(usize, &str, f64)], low: f64) -> Option<String> {
        let linear_layers = layers.iter().map(|(block, projection, error)| layer(*block, projection, *error)).collect();
        let variant =
            Variant { linear_layers, delta_nll: Some(0.2), delta_ci95: Some([low, 0.3]), ..Variant::default() };
        exemption(&typed.parse().expect("an operation"), &variant).map(|operation| operation.typed)
    }

    #[test]
    fn layers_that_break_are_exempt_and_else_the_worst() {
        let mixed = [(2, "down", 0.9), (2, "up", 0.1), (4, "down", 0.6), (4, "up", 0.7), (6, "up", 0.2)];
        assert_eq!(
            tried("quantize=w8", &mixed, 0.1).as_deref(),
            Some("quantize=w8+except=down,blk.4.up"),
            "all layers of a projection have its name"
        );
        let typed = "quantize=w8+except=layer=3@block=2-6";
        assert_eq!(tried(typed, &mixed, 0.1).as_deref(), Some("quantize=w8+except=layer=3,down,blk.4.up@block=2-6"));
        let sound = [(2, "down", 0.3), (4, "up", 0.4)];
        assert_eq!(tried("quantize=w8", &sound, 0.1).as_deref(), Some("quantize=w8+except=blk.4.up"));
        assert_eq!(tried("quantize=w8", &sound, -0.1), None, "a loss that may be none");
        assert_eq!(tried("quantize=w8", &[(2, "down", 0.9)], 0.1), None, "nothing would be left");
        assert_eq!(tried("cache=int4", &[], 0.1), None);
    }
}
