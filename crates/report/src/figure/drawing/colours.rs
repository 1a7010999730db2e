//! Colours of a heat map: even to the eye, in grey and for the colour-blind too.

use super::canvas::Ink;

/// Of what is not known.
pub(super) const UNKNOWN: Ink = [221, 221, 221];

/// Viridis (van der Walt and Smith, 2015) at equal distances.
const VIRIDIS: [Ink; 11] = [
    [68, 1, 84],
    [72, 36, 117],
    [65, 68, 135],
    [53, 95, 141],
    [42, 120, 142],
    [33, 145, 140],
    [34, 168, 132],
    [68, 191, 112],
    [122, 209, 81],
    [189, 223, 38],
    [253, 231, 37],
];

/// The colour of a share from 0 to 1; grey if it is not a number.
pub(super) fn of(share: f64) -> Ink {
    if share.is_nan() {
        return UNKNOWN;
    }
    let along = share.clamp(0.0, 1.0) * (VIRIDIS.len() - 1) as f64;
    let below = (along as usize).min(VIRIDIS.len() - 2);
    let mut ink = VIRIDIS[below];
    for (channel, &to) in ink.iter_mut().zip(&VIRIDIS[below + 1]) {
        let from = f64::from(*channel);
        *channel = (from + (f64::from(to) - from) * (along - below as f64)).round() as u8;
    }
    ink
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_grow_lighter_from_first_to_last() {
        assert_eq!((of(0.0), of(1.0), of(-3.0), of(7.0)), (VIRIDIS[0], VIRIDIS[10], VIRIDIS[0], VIRIDIS[10]));
        assert_eq!(of(f64::NAN), UNKNOWN);
        let light = |share: f64| {
            let [red, green, blue] = of(share).map(|channel| (f64::from(channel) / 255.0).powf(2.2));
            0.2126 * red + 0.7152 * green + 0.0722 * blue
        };
        assert!((0..100).all(|step| light(f64::from(step) / 100.0) < light(f64::from(step + 1) / 100.0)));
    }
}
