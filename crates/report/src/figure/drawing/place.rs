//! Where a value stands on an axis.

use crate::figure::{Axis, Scale};

/// Values beyond this are drawn as if they were this, so that differences stay finite.
const FARTHEST: f64 = 1e300;
/// A range narrower than this share of its values is one value.
const NARROWEST: f64 = 1e-10;
/// Lines beyond an axis go on no farther than this many lengths of it.
const BEYOND: f64 = 1e4;

/// An axis laid out on paper.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    log: bool,
    first: f64,
    last: f64,
    length: f64,
    upwards: bool,
}

/// What the found range of an axis has to hold.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// These.
    pub values: Vec<f64>,
    /// Zero; on a logarithmic scale, room below the least.
    pub zero: bool,
    /// No room around the values.
    pub tight: bool,
}

impl Place {
    /// An axis of `length` pixels; `upwards`: the first value is at its end.
    pub(super) fn new(axis: &Axis, wanted: &Wanted, length: f64, upwards: bool) -> Self {
        let log = axis.scale == Scale::Log;
        let [first, last] = given(axis).unwrap_or_else(|| match &axis.scale {
            Scale::Names(names) => [-0.5, names.len().max(1) as f64 - 0.5],
            Scale::Log => found_log(wanted),
            Scale::Linear => found(wanted),
        });
        Self { log, first, last, length, upwards }
    }

    /// The pixel of a value, which may be beyond the ends; `None` where there is none.
    pub(super) fn of(&self, value: f64) -> Option<f64> {
        let share = self.share(value)?;
        Some(self.length * if self.upwards { 1.0 - share } else { share })
    }

    /// The pixel of a value, or of the nearest end.
    pub(super) fn within(&self, value: f64) -> Option<f64> {
        if value.is_nan() {
            return None;
        }
        let below = self.log && value <= 0.0;
        let pixel = if below { self.start() } else { self.of(value.clamp(-FARTHEST, FARTHEST))? };
        Some(pixel.clamp(0.0, self.length))
    }

    /// Whether a value is between the ends.
    pub(super) fn holds(&self, value: f64) -> bool {
        self.share(value).is_some_and(|share| (-1e-9..=1.0 + 1e-9).contains(&share))
    }

    /// The pixel where bars begin.
    pub(super) fn base(&self) -> f64 {
        if self.log { self.start() } else { self.within(0.0).unwrap_or_else(|| self.start()) }
    }

    /// Its length in pixels.
    pub(super) fn length(&self) -> f64 {
        self.length
    }

    /// Whether places follow from logarithms.
    pub(super) fn is_log(&self) -> bool {
        self.log
    }

    /// The lesser and the larger end, as logarithms to base ten if it is logarithmic.
    pub(super) fn ends(&self) -> (f64, f64) {
        (self.first.min(self.last), self.first.max(self.last))
    }

    /// Where between the first and last value a value stands, from 0 to 1 and beyond.
    pub(super) fn share(&self, value: f64) -> Option<f64> {
        if !value.is_finite() || self.log && value <= 0.0 {
            return None;
        }
        let value = if self.log { value.log10() } else { value.clamp(-FARTHEST, FARTHEST) };
        Some(((value - self.first) / (self.last - self.first)).clamp(-BEYOND, BEYOND))
    }

    /// The pixel of the lesser end.
    fn start(&self) -> f64 {
        if self.upwards == (self.first < self.last) { self.length } else { 0.0 }
    }
}

/// The range an axis asks for, if it is one.
fn given(axis: &Axis) -> Option<[f64; 2]> {
    let [first, last] = axis.range?;
    let usable = |value: f64| value.is_finite() && value.abs() <= FARTHEST && (axis.scale != Scale::Log || value > 0.0);
    if !usable(first) || !usable(last) {
        return None;
    }
    let half = if first < last { 0.5 } else { -0.5 };
    let [first, last] = match axis.scale {
        Scale::Linear => [first, last],
        Scale::Log => [first.log10(), last.log10()],
        Scale::Names(_) => [first - half, last + half],
    };
    let wide = (last - first).abs() > NARROWEST * first.abs().max(last.abs());
    wide.then_some([first, last])
}

fn found(wanted: &Wanted) -> [f64; 2] {
    let values = wanted.values.iter().filter(|value| value.is_finite()).map(|value| value.clamp(-FARTHEST, FARTHEST));
    let (mut low, mut high) = values.fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)));
    if wanted.zero {
        (low, high) = (low.min(0.0), high.max(0.0));
    }
    if low > high {
        return [0.0, 1.0];
    }
    let size = low.abs().max(high.abs());
    if high - low <= NARROWEST * size || size < f64::MIN_POSITIVE * 1e10 {
        let half = if size < f64::MIN_POSITIVE * 1e10 { 1.0 } else { size * 0.1 };
        return if wanted.zero { [0.0, 1.0] } else { [low - half, high + half] };
    }
    let room = if wanted.tight { 0.0 } else { 0.04 * (high - low) };
    // Counts and shares are not below zero, and their axis need not be.
    let first = if low >= 0.0 && low < room { 0.0 } else { low - room };
    let last = if high <= 0.0 && -high < room { 0.0 } else { high + room };
    [first, last]
}

fn found_log(wanted: &Wanted) -> [f64; 2] {
    let values = wanted.values.iter().filter(|value| value.is_finite() && **value > 0.0).map(|value| value.log10());
    let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)));
    if low > high {
        return [0.0, 1.0];
    }
    let room = if wanted.tight { 0.0 } else { 0.04 * (high - low) };
    let (first, last) = if high - low < 1e-6 { (low - 0.5, high + 0.5) } else { (low - room, high + room) };
    [if wanted.zero { (low - 0.15).floor() } else { first }, last]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(axis: &Axis, values: &[f64], zero: bool) -> Place {
        Place::new(axis, &Wanted { values: values.to_vec(), zero, tight: false }, 100.0, false)
    }

    #[test]
    fn decades_are_as_long_as_one_another() {
        let place = place(&Axis::log("").within(1.0, 1e4), &[], false);
        for (power, pixel) in [(0, 0.0), (1, 25.0), (2, 50.0), (3, 75.0), (4, 100.0)] {
            assert!((place.of(10f64.powi(power)).expect("positive") - pixel).abs() < 1e-9);
        }
        assert_eq!((place.of(0.0), place.of(-1.0), place.of(f64::NAN)), (None, None, None));
        assert_eq!((place.within(0.0), place.within(f64::INFINITY)), (Some(0.0), Some(100.0)));
    }

    #[test]
    fn every_found_range_has_a_width() {
        let few: [&[f64]; 7] =
            [&[], &[f64::NAN], &[0.0], &[5.0; 3], &[f64::MAX, f64::MIN], &[f64::INFINITY, 1e-310], &[1e9, 1e9 + 1e-6]];
        for values in few {
            for zero in [false, true] {
                for axis in
                    [Axis::linear(""), Axis::log(""), Axis::names("", [""; 0]), Axis::linear("").within(2.0, 2.0)]
                {
                    let (low, high) = place(&axis, values, zero).ends();
                    assert!(low < high && (high - low).is_finite(), "{values:?}: {low} to {high}");
                }
            }
        }
    }

    #[test]
    fn bars_stand_on_zero() {
        let place = place(&Axis::linear(""), &[3.0, 4.0], true);
        assert_eq!((place.base(), place.of(0.0)), (0.0, Some(0.0)));
        let upwards =
            Place::new(&Axis::log(""), &Wanted { values: vec![20.0, 900.0], zero: true, tight: false }, 100.0, true);
        assert_eq!((upwards.base(), upwards.ends().0), (100.0, 1.0));
    }
}
