//! Sizes in bytes as people type them: `1500000`, `512M`, `2G`, `1.5GiB`.

/// The units, each 1024 of the one before.
const UNITS: [char; 4] = ['K', 'M', 'G', 'T'];

/// Parses a number of bytes: decimal, with a suffix K, M, G or T (powers of 1024, either case, also as `KiB` or `KB`) or
/// none. A fraction needs a suffix.
pub fn parse(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a size; expected bytes, or a number with K, M, G or T, such as 512M or 2G");
    let upper = text.trim().to_ascii_uppercase();
    let end = upper.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(upper.len());
    let (number, suffix) = upper.split_at(end);
    let power = match suffix {
        "" | "B" => 0,
        _ => {
            let unit = suffix.chars().next().and_then(|first| UNITS.iter().position(|unit| *unit == first));
            let unit = unit.ok_or_else(wrong)?;
            if !matches!(&suffix[1..], "" | "B" | "IB") {
                return Err(wrong());
            }
            unit + 1
        }
    };
    let factor = 1_u64 << (10 * power);
    let bytes = if let Ok(whole) = number.parse::<u64>() {
        whole.checked_mul(factor)
    } else {
        let fraction = number.parse::<f64>().ok().filter(|_| power > 0).ok_or_else(wrong)?;
        Some(fraction * factor as f64).filter(|bytes| *bytes < u64::MAX as f64).map(|bytes| bytes as u64)
    };
    match bytes {
        None => Err(format!("{text:?} is more bytes than can be counted")),
        Some(0) => Err(format!("{text:?} is no memory at all; at least 1 byte is needed")),
        Some(bytes) => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn sizes_are_binary() {
        let cases = [
            ("1500000", 1_500_000),
            ("7B", 7),
            ("1k", 1024),
            ("512M", 512 << 20),
            ("2G", 2 << 30),
            ("2GiB", 2 << 30),
            ("3gb", 3 << 30),
            ("1.5G", 3 << 29),
            (" 1T ", 1 << 40),
        ];
        for (text, bytes) in cases {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in
            ["", "G", "two", "-1", "1Q", "1GX", "1.5", "1e9", "0", "0G", "0.0M", "99999999999T", "1 G i", "é", "1é"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
