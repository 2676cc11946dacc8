//! Times as people and as programs read them.

use chrono::{DateTime, SecondsFormat};

use crate::catalog::Millis;

/// RFC 3339, UTC: `2024-05-01T12:00:00Z`.
pub fn rfc3339(time: Millis) -> String {
    match DateTime::from_timestamp_millis(time) {
        Some(time) => time.to_rfc3339_opts(SecondsFormat::AutoSi, true),
        None => "unknown".to_owned(),
    }
}

/// The same of a file's time, to the nanosecond where it has such.
pub fn rfc3339_exact(seconds: i64, nanoseconds: u32) -> String {
    match DateTime::from_timestamp(seconds, nanoseconds) {
        Some(time) => time.to_rfc3339_opts(SecondsFormat::AutoSi, true),
        None => format!("@{seconds}"),
    }
}

/// The same to the second, for people: `2024-05-01 12:00:00`, UTC.
pub fn plain(seconds: i64) -> String {
    match DateTime::from_timestamp(seconds, 0) {
        Some(time) => time.format("%Y-%m-%d %H:%M:%S").to_string(),
        None => format!("@{seconds}"),
    }
}

/// As docker's `.CreatedAt` of an image has it: `2024-05-01 12:00:00 +0000 UTC`.
pub fn dockers(time: Millis) -> String {
    match DateTime::from_timestamp_millis(time) {
        Some(time) => time.format("%Y-%m-%d %H:%M:%S +0000 UTC").to_string(),
        None => "unknown".to_owned(),
    }
}

/// A time as JSON has it, for `#[serde(serialize_with)]`.
pub fn json<S: serde::Serializer>(time: &Millis, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&rfc3339(*time))
}

/// An optional time as JSON has it.
pub fn json_option<S: serde::Serializer>(
    time: &Option<Millis>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => json(time, serializer),
        None => serializer.serialize_none(),
    }
}

/// How long ago, in docker's words: `About an hour ago`, `3 weeks ago`.
pub fn ago(time: Millis, now: Millis) -> String {
    format!("{} ago", duration(now.saturating_sub(time)))
}

/// How long, in docker's words (go-units, `HumanDuration`).
pub fn duration(millis: Millis) -> String {
    let seconds = millis.max(0) / 1000;
    let minutes = seconds / 60;
    // docker rounds hours to the nearest.
    let hours = (seconds + 1800) / 3600;
    match (seconds, minutes, hours) {
        (0, ..) => "Less than a second".to_owned(),
        (1, ..) => "1 second".to_owned(),
        (..60, ..) => format!("{seconds} seconds"),
        (_, 1, _) => "About a minute".to_owned(),
        (_, ..60, _) => format!("{minutes} minutes"),
        (.., 1) => "About an hour".to_owned(),
        (.., ..48) => format!("{hours} hours"),
        (.., ..336) => format!("{} days", hours / 24),
        (.., ..1440) => format!("{} weeks", hours / 24 / 7),
        (.., ..17520) => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_dockers() {
        const HOUR: Millis = 3_600_000;
        for (millis, expected) in [
            (999, "Less than a second"),
            (-5, "Less than a second"),
            (1000, "1 second"),
            (59_000, "59 seconds"),
            (60_000, "About a minute"),
            (59 * 60_000, "59 minutes"),
            (HOUR, "About an hour"),
            (47 * HOUR, "47 hours"),
            (48 * HOUR, "2 days"),
            (14 * 24 * HOUR, "2 weeks"),
            (60 * 24 * HOUR, "2 months"),
            (730 * 24 * HOUR, "2 years"),
        ] {
            assert_eq!(duration(millis), expected);
        }
    }

    #[test]
    fn times_are_rfc_3339_in_utc() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(1_500), "1970-01-01T00:00:01.500Z");
        assert_eq!(rfc3339(Millis::MIN), "unknown");
        assert_eq!(dockers(1_500), "1970-01-01 00:00:01 +0000 UTC");
    }
}
