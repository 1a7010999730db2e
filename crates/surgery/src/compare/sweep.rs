//! Sweeps: how many tokens must stay as they are.

use crate::operation::Operation;
use crate::results::{Sweep, SweepStep, Variant};

/// What may be left of the loss that keeping tokens takes away, for them to be enough.
const LEFT: f64 = 0.1;

/// The sweeps among operations whose steps are the variants, in order.
pub(super) fn sweeps(operations: &[Operation], variants: &[Variant]) -> Vec<Sweep> {
    let mut sweeps = Vec::new();
    let mut first = 0;
    for operation in operations {
        let Some(kept) = &operation.sweep else {
            first += 1;
            continue;
        };
        let steps: Vec<SweepStep> =
            kept.clone().enumerate().map(|(step, kept)| SweepStep { kept, variant: first + step }).collect();
        first += steps.len();
        let enough = enough(&steps, variants);
        sweeps.push(Sweep { name: operation.typed.clone(), steps, enough });
    }
    sweeps
}

/// The fewest tokens with which nearly all is won back that keeping tokens wins back.
fn enough(steps: &[SweepStep], variants: &[Variant]) -> Option<usize> {
    let loss = |step: &SweepStep| variants.get(step.variant)?.delta_nll;
    let first = variants.get(steps.first()?.variant)?;
    let most = first.delta_nll?;
    let least = steps.iter().filter_map(loss).fold(most, f64::min);
    // A gain within the interval of the first step may be chance.
    let certain = first.delta_ci95.map_or(most, |[low, _]| low);
    if least >= certain {
        return None;
    }
    let enough = steps.iter().find(|step| loss(step).is_some_and(|loss| loss - least <= LEFT * (most - least)));
    enough.map(|step| step.kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enough_is_where_nearly_all_is_won_back() {
        let variant = |delta: f64| Variant {
            delta_nll: Some(delta),
            delta_ci95: Some([delta - 0.1, delta + 0.1]),
            ..Variant::default()
        };
        let operations =
            ["drop-first", "cache=int4+keep=0..3", "cache=int2+keep=1..2"].map(|typed| typed.parse().expect("one"));
        let variants = [0.0, 1.0, 0.5, 0.04, 0.0, 0.3, 0.29].map(variant);
        let found = sweeps(&operations, &variants);
        let steps: Vec<(usize, usize)> = found[0].steps.iter().map(|step| (step.kept, step.variant)).collect();
        assert_eq!(steps, [(0, 1), (1, 2), (2, 3), (3, 4)]);
        assert_eq!((found[0].enough, found[1].enough), (Some(2), None));
        assert_eq!(found[1].steps[0].variant, 5);
    }
}
