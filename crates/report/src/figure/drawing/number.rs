//! Numbers along an axis: 23,000, 0.25, −3, 1e6.

use crate::number::thousands;

/// Numbers are written with an exponent where one is this large.
const LARGE: f64 = 1e6;
/// And where none is this large: a thousandth still is, however it was rounded.
const SMALL: f64 = 0.999e-3;

/// `value` among its like: they are `step` apart, the largest is `largest`.
pub(super) fn written(value: f64, step: f64, largest: f64) -> String {
    let magnitude = value.abs();
    if magnitude < step * 1e-6 || magnitude == 0.0 {
        return "0".to_owned();
    }
    let sign = if value < 0.0 { "−" } else { "" };
    let places = (step.log10() + 1e-9).floor() as i32;
    if !(SMALL..LARGE).contains(&largest) {
        let digits = ((magnitude.log10() + 1e-9).floor() as i32 - places).clamp(0, 15) as usize;
        let text = format!("{magnitude:.digits$e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let mantissa = if mantissa.contains('.') { mantissa.trim_end_matches('0') } else { mantissa };
        let mantissa = mantissa.trim_end_matches('.');
        return format!("{sign}{mantissa}e{}", exponent.replace('-', "−"));
    }
    let decimals = (-places).clamp(0, 15) as usize;
    let text = format!("{magnitude:.decimals$}");
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    format!("{sign}{}{rest}", thousands(whole))
}

#[cfg(test)]
mod tests {
    use super::written;

    #[test]
    fn numbers_are_short() {
        assert_eq!(written(23_000.0, 1000.0, 25_000.0), "23,000");
        assert_eq!(written(-0.25, 0.05, 1.0), "−0.25");
        assert_eq!(written(1e-18, 0.05, 1.0), "0");
        assert_eq!(written(1.5e6, 5e5, 3e6), "1.5e6");
        assert_eq!(written(2e6, 5e5, 3e6), "2e6");
        assert_eq!(written(5e5, 5e5, 3e6), "5e5");
        assert_eq!(written(-2e-5, 1e-5, 5e-5), "−2e−5");
        assert_eq!(written(1e-3, 1e-3, 1e3), "0.001");
        assert_eq!(written(300.0, 100.0, 400.0), "300");
    }
}
