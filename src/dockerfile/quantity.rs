//! Durations, sizes and truth values as Go's standard library and docker's units write them.

use std::time::Duration;

/// Go's `time.ParseDuration`: `1h30m`, `1.5s`, `300ms`, `0`. `None`: malformed, negative, or
/// longer than Go can say (292 years).
pub(super) fn duration(text: &str) -> Option<Duration> {
    let unsigned = text.strip_prefix('+').unwrap_or(text);
    if unsigned == "0" || unsigned == "-0" {
        return Some(Duration::ZERO);
    }
    if unsigned.is_empty() {
        return None;
    }
    let mut nanoseconds: u128 = 0;
    let mut rest = unsigned;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let unit_length = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_length);
        nanoseconds = nanoseconds.checked_add(decimal(number, nanoseconds_of(unit)?)?)?;
        rest = tail;
    }
    let nanoseconds = u64::try_from(nanoseconds)
        .ok()
        .filter(|n| *n <= i64::MAX as u64)?;
    Some(Duration::from_nanos(nanoseconds))
}

fn nanoseconds_of(unit: &str) -> Option<u128> {
    Some(match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// The decimal number `number` times `unit`, cut to whole units of one.
fn decimal(number: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let whole: u128 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let mut sum = whole.checked_mul(unit)?;
    let mut scale = 1u128;
    for digit in fraction.bytes().take(18) {
        scale *= 10;
        sum = sum.checked_add(u128::from(digit - b'0') * unit / scale)?;
    }
    Some(sum)
}

/// docker's `units.RAMInBytes`: a number and an optional binary unit, `64m`, `1.5GiB`, `100 kb`.
pub(super) fn size(text: &str) -> Option<u64> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let bare = unit
        .strip_suffix("ib")
        .or_else(|| unit.strip_suffix('b'))
        .unwrap_or(&unit);
    // "b" itself is a unit; "ib" is not.
    let power = match (bare, unit.as_str()) {
        ("", "" | "b") => 0,
        ("k", _) => 1,
        ("m", _) => 2,
        ("g", _) => 3,
        ("t", _) => 4,
        ("p", _) => 5,
        _ => return None,
    };
    let bytes = decimal(number, 1u128 << (10 * power))?;
    u64::try_from(bytes)
        .ok()
        .filter(|bytes| *bytes <= i64::MAX as u64)
}

/// Go's `strconv.ParseBool`.
pub(super) fn truth(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_go_s() {
        let milliseconds = |text| duration(text).map(|duration| duration.as_millis());
        assert_eq!(milliseconds("1h30m"), Some(5_400_000));
        assert_eq!(milliseconds("1.5s"), Some(1_500));
        assert_eq!(milliseconds(".5s"), Some(500));
        assert_eq!(milliseconds("5.s"), Some(5_000));
        assert_eq!(milliseconds("+300ms"), Some(300));
        assert_eq!(milliseconds("0"), Some(0));
        assert_eq!(duration("3µs"), Some(Duration::from_micros(3)));
        for bad in [
            "", "5", "-5s", "1.2.3s", ".s", "s", "5x", "1e3s", "9999999h", " 1s", "1s ",
        ] {
            assert_eq!(duration(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn sizes_are_binary() {
        assert_eq!(size("64"), Some(64));
        assert_eq!(size("64b"), Some(64));
        assert_eq!(size("1k"), Some(1024));
        assert_eq!(size("1.5MiB"), Some(1_572_864));
        assert_eq!(size("100 Kb"), Some(102_400));
        for bad in ["", "k", "-1", "1x", "1 k b", "1ib", "99999999999p"] {
            assert_eq!(size(bad), None, "{bad:?}");
        }
    }
}
