//! Sizes in decimal units with three digits, as docker shows them: `0B`, `4.26MB`, `133MB`.

/// A size, exact or short.
pub fn shown(bytes: u64, exact: bool) -> String {
    if exact {
        bytes.to_string()
    } else {
        short(bytes)
    }
}

/// A size in decimal units.
pub fn short(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 1000 {
        return format!("{bytes}B");
    }
    let mut value = bytes as f64;
    let mut unit = 0;
    // 999.6 kB would be shown as "1000kB": it is 1 MB already.
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = if value < 9.995 {
        2
    } else if value < 99.95 {
        1
    } else {
        0
    };
    let mut number = format!("{value:.digits$}");
    if number.contains('.') {
        number.truncate(number.trim_end_matches('0').trim_end_matches('.').len());
    }
    number + UNITS[unit]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits_and_decimal_units() {
        for (bytes, expected) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (4_262_000, "4.26MB"),
            (72_800_000, "72.8MB"),
            (133_400_000, "133MB"),
            (999_600, "1MB"),
            (9_999_000, "10MB"),
            (1_500_000_000, "1.5GB"),
            (u64::MAX, "18.4EB"),
        ] {
            assert_eq!(short(bytes), expected);
        }
        assert_eq!(shown(4_262_000, true), "4262000");
    }
}
