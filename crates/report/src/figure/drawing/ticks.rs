//! What is written along an axis: as many numbers as find room, decades, names.

use super::number::written;
use super::place::Place;
use super::text::{self, LINE, SMALL};
use crate::figure::{Axis, Scale};

/// Pixels between two labels side by side.
const APART: f64 = 9.0;
/// Pixels between two numbers of a level axis at least, and of an upright one.
const STRIDE: [f64; 2] = [45.0, 26.0];
/// The longest a name may be along an upright axis, and when it stands up along a level one.
const LONGEST: [f64; 2] = [280.0, 130.0];

/// What is written along an axis.
#[derive(Debug, Default)]
pub(super) struct Ticks {
    /// With labels, in their order.
    pub labelled: Vec<Tick>,
    /// Pixels of those without.
    pub minor: Vec<f64>,
    /// Whether the labels stand up.
    pub turned: bool,
}

/// A label and its pixel.
#[derive(Debug, Clone)]
pub(super) struct Tick {
    pub at: f64,
    pub label: String,
}

/// What is written along `axis`; `level` if it runs to the right.
pub(super) fn ticks(axis: &Axis, place: &Place, level: bool) -> Ticks {
    match &axis.scale {
        Scale::Names(names) => named(names, place, level),
        Scale::Linear | Scale::Log => numbered(place, level),
    }
}

/// Numbers along a place.
pub(super) fn numbered(place: &Place, level: bool) -> Ticks {
    let most = (place.length() / STRIDE[usize::from(!level)]).max(1.0);
    let (low, high) = place.ends();
    let candidates = match (place.is_log(), high - low) {
        (false, _) => even(low, high, most),
        (true, decades) if decades < 0.6 => {
            let [low, high] = [low, high].map(|power| 10f64.powf(power));
            even(low, high, most)
        }
        (true, decades) if decades < 2.0 => {
            [&[1, 2, 3, 5, 7][..], &[1, 2, 5], &[1, 3], &[1]].map(|factors| decimal(low, high, factors, 1)).into()
        }
        (true, _) => [1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 50, 100, 200].map(|by| decimal(low, high, &[1], by)).into(),
    };
    let all = candidates.into_iter().map(|values| laid_out(&values, place));
    let mut chosen = Vec::new();
    for labels in all {
        if labels.len() < 2 && !chosen.is_empty() {
            break;
        }
        let fits = labels.len() as f64 <= most * 1.5 + 1.0 && apart(&labels, level);
        chosen = labels;
        if fits {
            break;
        }
    }
    Ticks { minor: minor(place, &chosen), labelled: chosen, turned: false }
}

/// Values a round step apart, from about `most` of them to few.
fn even(low: f64, high: f64, most: f64) -> Vec<Vec<(f64, f64)>> {
    let span = high - low;
    let first = (span / most).log10().floor() as i32;
    let steps = (first..first + 4).flat_map(|power| [1.0, 2.0, 5.0].map(|factor| (factor, power)));
    let steps = steps.filter(|(factor, power)| {
        let step = factor * 10f64.powi(*power);
        step * most >= span * 0.999 && step <= span
    });
    steps
        .map(|(factor, power)| {
            let of = |index: f64| {
                // Division by a whole power gives 0.3 where multiplication gives 0.30000000000000004.
                if power < 0 { index * factor / 10f64.powi(-power) } else { index * factor * 10f64.powi(power) }
            };
            let step = of(1.0);
            let indices = (low / step - 1e-6).ceil() as i64..=(high / step + 1e-6).floor() as i64;
            indices.take(100).map(|index| (of(index as f64), step)).collect()
        })
        .collect()
}

/// Multiples of every `by`-th power of ten.
fn decimal(low: f64, high: f64, factors: &[u32], by: i32) -> Vec<(f64, f64)> {
    let powers = (low.floor() as i32..=high.ceil() as i32).filter(|power| power.rem_euclid(by) == 0);
    let values = powers.flat_map(|power| factors.iter().map(move |&factor| (f64::from(factor), power)));
    values
        .filter(|(factor, power)| (low - 1e-9..=high + 1e-9).contains(&(factor.log10() + f64::from(*power))))
        .map(|(factor, power)| (factor * 10f64.powi(power), 10f64.powi(power)))
        .collect()
}

fn laid_out(values: &[(f64, f64)], place: &Place) -> Vec<Tick> {
    let largest = values.iter().map(|(value, _)| value.abs()).fold(0.0, f64::max);
    let tick = |&(value, step): &(f64, f64)| {
        // Numbers of an even axis are written alike; on a logarithmic one each is on its own.
        let largest = if place.is_log() { value } else { largest };
        Some(Tick { at: place.within(value)?, label: written(value, step, largest) })
    };
    values.iter().filter_map(tick).collect()
}

fn apart(labels: &[Tick], level: bool) -> bool {
    labels.windows(2).all(|pair| {
        let needed = if level {
            f64::midpoint(text::width(&pair[0].label, SMALL), text::width(&pair[1].label, SMALL)) + APART
        } else {
            SMALL * 1.4
        };
        (pair[1].at - pair[0].at).abs() >= needed
    })
}

/// Between decades, if there is room and they are few.
fn minor(place: &Place, labelled: &[Tick]) -> Vec<f64> {
    let (low, high) = place.ends();
    if !place.is_log() || high - low < 0.6 || place.length() / (high - low) < 8.0 {
        return Vec::new();
    }
    let factors: &[u32] = if place.length() / (high - low) < 24.0 { &[1] } else { &[1, 2, 3, 4, 5, 6, 7, 8, 9] };
    let all = decimal(low, high, factors, 1).into_iter().filter_map(|(value, _)| place.within(value));
    all.filter(|at| labelled.iter().all(|tick| (tick.at - at).abs() > 0.5)).collect()
}

/// As many names as find room.
fn named(names: &[String], place: &Place, level: bool) -> Ticks {
    let shown: Vec<usize> = (0..names.len()).filter(|&index| place.holds(index as f64)).collect();
    let (low, high) = place.ends();
    let cell = place.length() / (high - low);
    let widest = text::widest(shown.iter().map(|&index| names[index].as_str()), SMALL);
    let numbers = shown.iter().all(|&index| names[index].trim().parse::<f64>().is_ok());
    let turned = level && !numbers && widest + APART > cell && widest > SMALL * LINE;
    let longest = if level && !turned { f64::MAX } else { LONGEST[usize::from(level)] };
    let needed = if level && !turned { widest + APART } else { SMALL * 1.15 };
    let by = stride((needed / cell).ceil().max(1.0) as usize);
    let kept = shown.into_iter().filter(|index| index.is_multiple_of(by));
    let tick = |index: usize| {
        let label = text::shortened(&names[index], SMALL, longest);
        Some(Tick { at: place.of(index as f64)?, label })
    };
    Ticks { labelled: kept.filter_map(tick).collect(), minor: Vec::new(), turned }
}

/// The least round number that is no smaller.
fn stride(least: usize) -> usize {
    let mut power = 1;
    loop {
        for factor in [1, 2, 5] {
            if factor * power >= least {
                return factor * power;
            }
        }
        power *= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::super::place::Wanted;
    use super::*;

    fn labels(axis: &Axis, length: f64, level: bool) -> Vec<String> {
        let place = Place::new(axis, &Wanted::default(), length, !level);
        ticks(axis, &place, level).labelled.into_iter().map(|tick| tick.label).collect()
    }

    #[test]
    fn numbers_are_round() {
        assert_eq!(
            labels(&Axis::linear("").within(0.0, 1.0), 200.0, false),
            ["0", "0.2", "0.4", "0.6", "0.8", "1"].map(padded)
        );
        assert_eq!(labels(&Axis::linear("").within(0.0, 59.0), 300.0, true), ["0", "10", "20", "30", "40", "50"]);
        assert_eq!(labels(&Axis::linear("").within(-3e4, 3e4), 150.0, true), ["−20,000", "0", "20,000"]);
        assert_eq!(labels(&Axis::log("").within(0.01, 1e3), 200.0, false), ["0.01", "0.1", "1", "10", "100", "1,000"]);
        assert_eq!(labels(&Axis::log("").within(1.0, 20.0), 200.0, false), ["1", "2", "3", "5", "7", "10", "20"]);
        assert_eq!(labels(&Axis::log("").within(90.0, 110.0), 200.0, false), ["90", "95", "100", "105", "110"]);
        assert_eq!(labels(&Axis::log("").within(1e-300, 1e300), 200.0, false).len(), 7);
    }

    fn padded(label: &str) -> String {
        if label.contains('.') || label == "0" { label.to_owned() } else { format!("{label}.0") }
    }

    #[test]
    fn names_are_thinned() {
        let blocks = Axis::names("", (0..60).map(|block| block.to_string()));
        assert_eq!(
            labels(&blocks, 300.0, true),
            ["0", "5", "10", "15", "20", "25", "30", "35", "40", "45", "50", "55"]
        );
        assert_eq!(labels(&blocks, 300.0, false).len(), 12);
        assert_eq!(labels(&Axis::names("", [""; 0]), 300.0, false).len(), 0);
    }
}
