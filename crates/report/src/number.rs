//! Numbers as people read them.

/// A count with its thousands separated: 23,844.
pub(crate) fn count(value: u64) -> String {
    thousands(&value.to_string())
}

/// Digits with thousands separated.
pub(crate) fn thousands(digits: &str) -> String {
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A measured value with three digits or more: 23,844, 121.1, 4.18, 0.0035.
pub(crate) fn value(value: f64) -> String {
    let magnitude = value.abs();
    if !value.is_finite() {
        return if value.is_nan() { "not a number" } else { "infinite" }.to_owned();
    }
    if magnitude >= 1e15 {
        return format!("{value:.3e}");
    }
    if magnitude >= 999.5 {
        let sign = if value < 0.0 { "-" } else { "" };
        return format!("{sign}{}", count(magnitude.round() as u64));
    }
    match magnitude {
        99.95.. => format!("{value:.1}"),
        0.995.. => format!("{value:.2}"),
        0.001.. => format!("{value:.4}"),
        _ if magnitude == 0.0 => "0".to_owned(),
        _ => format!("{value:.1e}"),
    }
}

/// A share of one as percent, one decimal: 79.9 %. What is not none or all never reads so.
pub(crate) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent > 0.0 && percent < 0.05 {
        "<0.1 %".to_owned()
    } else if (99.95..100.0).contains(&percent) {
        ">99.9 %".to_owned()
    } else if percent == 0.0 || percent == 100.0 {
        format!("{percent:.0} %")
    } else {
        format!("{percent:.1} %")
    }
}

/// What stands in a column of a list, of a row.
pub(crate) type CellOf<'a, R> = &'a dyn Fn(&R) -> String;

/// What is known; else nothing.
pub(crate) fn known<T>(found: Option<T>, show: impl FnOnce(T) -> String) -> String {
    found.map_or_else(String::new, show)
}

/// A share or a cosine with three decimals.
pub(crate) fn thousandths(share: f64) -> String {
    format!("{share:.3}")
}

/// Blocks by number: no block, block 3, blocks 3 and 5.
pub(crate) fn blocks(numbers: &[usize]) -> String {
    match numbers {
        [] => "no block".to_owned(),
        [block] => format!("block {block}"),
        blocks => format!("blocks {}", list(blocks)),
    }
}

/// What ends a list of which so many are not shown.
pub(crate) fn and_more(hidden: usize) -> String {
    if hidden > 0 { format!(" and {hidden} more") } else { String::new() }
}

/// A factor: 327x, 5.2x.
pub(crate) fn factor(ratio: f64) -> String {
    if !ratio.is_finite() {
        return value(ratio);
    }
    if ratio >= 99.5 {
        format!("{}x", value(ratio.round()).trim_end_matches(".0"))
    } else if ratio >= 9.95 {
        format!("{ratio:.0}x")
    } else {
        format!("{ratio:.1}x")
    }
}

/// Bytes in binary units: 412 MiB.
pub(crate) fn bytes(bytes: u64) -> String {
    let mut amount = bytes as f64;
    for unit in ["B", "KiB", "MiB"] {
        if amount < 1024.0 {
            return format!("{amount:.0} {unit}");
        }
        amount /= 1024.0;
    }
    format!("{amount:.1} GiB")
}

/// Seconds: 0.42 s, 12.3 s, 4 min 10 s.
pub(crate) fn seconds(seconds: f64) -> String {
    if seconds < 9.95 {
        format!("{seconds:.2} s")
    } else if seconds < 119.5 {
        format!("{seconds:.1} s")
    } else {
        let whole = seconds.round() as u64;
        format!("{} min {} s", whole / 60, whole % 60)
    }
}

/// Several items in a sentence: 4, 6 and 8.
pub(crate) fn list(items: &[usize]) -> String {
    let mut text = String::new();
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            text.push_str(if index + 1 == items.len() { " and " } else { ", " });
        }
        text.push_str(&item.to_string());
    }
    text
}

/// `1 token`, `2 tokens`.
pub(crate) fn counted(number: usize, singular: &str, plural: &str) -> String {
    format!("{} {}", count(number as u64), if number == 1 { singular } else { plural })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_their_meaning_at_every_size() {
        let cases = [
            (23843.939, "23,844"),
            (-5595.8, "-5,596"),
            (999.7, "1,000"),
            (121.129, "121.1"),
            (99.96, "100.0"),
            (4.1849, "4.18"),
            (0.0771, "0.0771"),
            (-0.00002, "-2.0e-5"),
            (0.0, "0"),
            (1e20, "1.000e20"),
            (f64::NAN, "not a number"),
            (f64::NEG_INFINITY, "infinite"),
        ];
        for (number, text) in cases {
            assert_eq!(value(number), text);
        }
    }

    #[test]
    fn shares_do_not_round_to_none_or_all() {
        let cases = [
            (0.0, "0 %"),
            (0.0001, "<0.1 %"),
            (0.0005, "0.1 %"),
            (0.79931, "79.9 %"),
            (0.9999, ">99.9 %"),
            (1.0, "100 %"),
        ];
        for (share, text) in cases {
            assert_eq!(percent(share), text);
        }
    }

    #[test]
    fn other_forms() {
        assert_eq!([factor(327.02), factor(12.34), factor(5.25), factor(1234.0)], ["327x", "12x", "5.2x", "1,234x"]);
        assert_eq!([bytes(512), bytes(432_013_312), bytes(3 << 30)], ["512 B", "412 MiB", "3.0 GiB"]);
        assert_eq!([seconds(0.423), seconds(12.34), seconds(250.0)], ["0.42 s", "12.3 s", "4 min 10 s"]);
        assert_eq!([list(&[4]), list(&[4, 6]), list(&[4, 6, 8])], ["4", "4 and 6", "4, 6 and 8"]);
        assert_eq!([count(7), count(1000), count(12_345_678)], ["7", "1,000", "12,345,678"]);
    }
}
