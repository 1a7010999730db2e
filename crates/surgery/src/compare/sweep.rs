//! Sweeps: how many tokens must stay as they are.

use crate::operation::Operation;
use crate::results::{Sweep, SweepStep, Variant};

/// How many times the worth of an average token a first token may be worth where enough of them are kept.
const WORTH: f64 = 2.0;

/// The sweeps among operations whose steps are the variants, in order.
pub(super) fn sweeps(operations: &[Operation], variants: &[Variant], seq_len: usize) -> Vec<Sweep> {
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
        let enough = enough(&steps, variants, seq_len);
        sweeps.push(Sweep { name: operation.typed.clone(), steps, enough });
    }
    sweeps
}

/// The fewest first tokens beyond which those up to the last are worth, on average, no more than twice an average token: what is
/// lost over the tokens that are left.
fn enough(steps: &[SweepStep], variants: &[Variant], seq_len: usize) -> Option<usize> {
    let loss = |step: &SweepStep| variants.get(step.variant)?.delta_nll;
    let first = variants.get(steps.first()?.variant)?;
    let last = steps.last()?;
    let least = loss(last)?;
    // A loss that may be none is not worth a token.
    if first.delta_ci95.map_or(first.delta_nll?, |[low, _]| low) <= 0.0 {
        return None;
    }
    let enough = steps.iter().filter(|step| step.kept < last.kept).find(|step| {
        loss(step).is_some_and(|loss| {
            let won = (loss - least) / (last.kept - step.kept) as f64;
            won <= WORTH * loss / (seq_len - step.kept) as f64
        })
    });
    enough.map(|step| step.kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enough_is_where_a_token_is_worth_what_any_other_is() {
        let variant = |delta: f64| Variant {
            delta_nll: Some(delta),
            delta_ci95: Some([delta - 0.1, delta + 0.1]),
            ..Variant::default()
        };
        let operations = ["drop-first", "cache=int4+keep=0..3", "cache=int2+keep=1..2", "cache=int8+keep=0..1"];
        let operations = operations.map(|typed| typed.parse().expect("one"));
        let variants = [0.0, 1.0, 0.5, 0.2, 0.195, 0.64, 0.63, 0.05, 0.0].map(variant);
        let found = sweeps(&operations, &variants, 64);
        let steps: Vec<(usize, usize)> = found[0].steps.iter().map(|step| (step.kept, step.variant)).collect();
        assert_eq!(steps, [(0, 1), (1, 2), (2, 3), (3, 4)]);
        // 0.005 for the third token, of 0.2 for 62; the first of 0.64 for 63 is worth as much.
        assert_eq!((found[0].enough, found[1].enough), (Some(2), Some(1)));
        assert_eq!(found[2].enough, None, "a loss that may be none");
        assert_eq!(found[1].steps[0].variant, 5);
        let steep = [1.0, 0.9, 0.5].map(variant);
        assert_eq!(sweeps(&["cache=int4+keep=0..2".parse().expect("one")], &steep, 64)[0].enough, None);
    }
}
