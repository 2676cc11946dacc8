//! Values on the command line: from text to what is meant, or a reason why not.

use std::net::IpAddr;
use std::str::FromStr;

use super::build::Call;
use crate::build::PullPolicy;
use crate::catalog::Millis;
use crate::executor::Resource;
use crate::gc::policy::Room;
use crate::oci::Platform;
use crate::store::Store;

/// `KEY`, `KEY:asc` or `KEY:desc`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SortKey {
    /// The column.
    pub key: String,
    /// Whether the largest comes first.
    pub descending: bool,
}

impl FromStr for SortKey {
    type Err = String;

    fn from_str(text: &str) -> Result<SortKey, String> {
        let (key, descending) = match text.split_once(':') {
            None => (text, false),
            Some((key, "asc")) => (key, false),
            Some((key, "desc")) => (key, true),
            Some((_, order)) => return Err(format!("{order:?} is no order: asc or desc")),
        };
        Ok(SortKey {
            key: key.to_ascii_lowercase(),
            descending,
        })
    }
}

/// `KEY=VALUE`; without `=`, the value is empty.
pub fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    if key.is_empty() {
        return Err("a label has a name before its '='".to_owned());
    }
    Ok((key.to_owned(), value.to_owned()))
}

/// `KEY=VALUE`, or `KEY` alone, whose value is then the environment's.
pub fn build_arg(text: &str) -> Result<(String, Option<String>), String> {
    let (key, value) = match text.split_once('=') {
        Some((key, value)) => (key, Some(value.to_owned())),
        None => (text, None),
    };
    if key.is_empty() {
        return Err("a build argument has a name before its '='".to_owned());
    }
    Ok((key.to_owned(), value))
}

/// When base images are pulled: docker's truth values, or podman's and buildah's words.
pub fn pull(text: &str) -> Result<PullPolicy, String> {
    match text {
        "true" | "always" => Ok(PullPolicy::Always),
        "newer" | "ifnewer" => Ok(PullPolicy::Newer),
        "false" | "missing" | "ifmissing" => Ok(PullPolicy::Missing),
        "never" => Ok(PullPolicy::Never),
        _ => Err("always, newer, missing or never".to_owned()),
    }
}

/// An image name that can be a tag, as it is stored.
pub fn tag(text: &str) -> Result<String, String> {
    Store::tag_name(text).map_err(|error| error.to_string())
}

/// `os/architecture[/variant]`, with docker's other names for some architectures.
pub fn platform(text: &str) -> Result<Platform, String> {
    let mut parts = text.split('/');
    let (os, architecture, variant) = match (parts.next(), parts.next(), parts.next(), parts.next())
    {
        (Some(os), Some(architecture), variant, None)
            if !os.is_empty() && !architecture.is_empty() && variant != Some("") =>
        {
            (os, architecture, variant)
        }
        _ => {
            return Err(
                "a platform is os/architecture or os/architecture/variant: linux/arm64".to_owned(),
            );
        }
    };
    let architecture = match architecture.to_ascii_lowercase().as_str() {
        "x86_64" | "x86-64" => "amd64".to_owned(),
        "aarch64" => "arm64".to_owned(),
        "i386" => "386".to_owned(),
        other => other.to_owned(),
    };
    // containerd's normalisation: v8 is what arm64 always is.
    let variant = variant
        .map(str::to_ascii_lowercase)
        .filter(|variant| !(architecture == "arm64" && variant == "v8"))
        // And v7 is what arm alone means.
        .or_else(|| (architecture == "arm").then(|| "v7".to_owned()));
    Ok(Platform {
        architecture,
        os: os.to_ascii_lowercase(),
        variant,
    })
}

/// `NAME:ADDRESS` or `NAME=ADDRESS`, an IPv6 address with or without brackets.
pub fn host(text: &str) -> Result<(String, IpAddr), String> {
    let wrong = || "an entry is NAME:ADDRESS: db:10.0.0.7".to_owned();
    let (name, address) = text
        .split_once('=')
        .or_else(|| text.split_once(':'))
        .filter(|(name, _)| !name.is_empty() && !name.contains(char::is_whitespace))
        .ok_or_else(wrong)?;
    let bare = address
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(address);
    let address = bare
        .parse()
        .map_err(|_| format!("{address:?} is no IP address; {}", wrong()))?;
    Ok((name.to_owned(), address))
}

/// Bytes with docker's binary units: `64m`, `1.5g`, `4096`.
pub fn memory(text: &str) -> Result<u64, String> {
    let lower = text.to_ascii_lowercase();
    let digits = lower
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(lower.len());
    let (number, unit) = lower.split_at(digits);
    let unit = unit.trim_end_matches("ib").trim_end_matches('b').trim();
    let power = match unit {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        _ => {
            return Err(format!(
                "{text:?} is no size: a number with b, k, m, g or t"
            ));
        }
    };
    let number: f64 = number
        .parse()
        .map_err(|_| format!("{text:?} is no size: a number with b, k, m, g or t"))?;
    Ok(
        (number * f64::from(1u32 << (10 * power.min(3))) * if power == 4 { 1024.0 } else { 1.0 })
            as u64,
    )
}

/// `NAME=SOFT[:HARD]`, as docker's `--ulimit`.
pub fn ulimit(text: &str) -> Result<(Resource, u64, u64), String> {
    let (name, limits) = text
        .split_once('=')
        .ok_or("a limit is NAME=SOFT or NAME=SOFT:HARD: nofile=1024:4096")?;
    let resource = match name {
        "as" => Resource::As,
        "core" => Resource::Core,
        "cpu" => Resource::Cpu,
        "data" => Resource::Data,
        "fsize" => Resource::Fsize,
        "locks" => Resource::Locks,
        "memlock" => Resource::Memlock,
        "msgqueue" => Resource::Msgqueue,
        "nice" => Resource::Nice,
        "nofile" => Resource::Nofile,
        "nproc" => Resource::Nproc,
        "rss" => Resource::Rss,
        "rtprio" => Resource::Rtprio,
        "rttime" => Resource::Rttime,
        "sigpending" => Resource::Sigpending,
        "stack" => Resource::Stack,
        _ => return Err(format!("there is no limit called {name:?}")),
    };
    let number = |text: &str| match text {
        "-1" | "unlimited" => Ok(u64::MAX),
        _ => text
            .parse()
            .map_err(|_| format!("{text:?} is neither a number nor unlimited")),
    };
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let (soft, hard) = (number(soft)?, number(hard)?);
    if soft > hard {
        return Err(format!(
            "the soft limit {soft} is above the hard one {hard}"
        ));
    }
    Ok((resource, soft, hard))
}

/// A moment: an age before `now` (`24h`, `7d`, `1h30m`), a date, an RFC 3339 time, or seconds since
/// the epoch.
pub fn moment(text: &str, now: Millis) -> Result<Millis, String> {
    if let Some(age) = age(text) {
        return Ok(now.saturating_sub(age));
    }
    if let Ok(time) = chrono::DateTime::parse_from_rfc3339(text) {
        return Ok(time.timestamp_millis());
    }
    if let Ok(date) = text.parse::<chrono::NaiveDate>() {
        let midnight = date.and_time(chrono::NaiveTime::MIN);
        return Ok(midnight.and_utc().timestamp_millis());
    }
    if let Ok(seconds) = text.parse::<i64>() {
        return Ok(seconds.saturating_mul(1000));
    }
    Err(format!(
        "{text:?} is neither an age (90m, 24h, 7d) nor a time (2024-05-01, 2024-05-01T12:00:00Z)"
    ))
}

/// Milliseconds of an age: numbers with `s`, `m`, `h`, `d` or `w`, one after the other.
pub fn age(text: &str) -> Option<Millis> {
    let mut total: Millis = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: Millis = rest[..digits].parse().ok()?;
        let mut characters = rest[digits..].chars();
        let unit = match characters.next()? {
            's' => 1_000,
            'm' => 60_000,
            'h' => 3_600_000,
            'd' => 86_400_000,
            'w' => 604_800_000,
            _ => return None,
        };
        total = total.checked_add(number.checked_mul(unit)?)?;
        rest = characters.as_str();
    }
    (!text.is_empty()).then_some(total)
}

/// How long: `90m`, `24h`, `7d`; in milliseconds.
pub fn duration(text: &str) -> Result<Millis, String> {
    age(text).ok_or_else(|| format!("{text:?} is no age: 90m, 24h, 7d"))
}

/// How long to wait: an age, or `forever`.
pub fn patience(text: &str) -> Result<Millis, String> {
    match text {
        "forever" => Ok(Millis::MAX),
        _ => duration(text),
    }
}

/// Room on a disk: a part of the file system (`10%`), or bytes in units as they are shown, which
/// are decimal (`50GB`, `1.5tb`, `4096`), or binary ones (`50GiB`).
pub fn room(text: &str) -> Result<Room, String> {
    let bad =
        || format!("{text:?} is neither a size (50GB, 512MiB) nor a part of the file system (10%)");
    if let Some(percent) = text.strip_suffix('%') {
        let percent: u8 = percent.parse().map_err(|_| bad())?;
        return match percent {
            0..=100 => Ok(Room::Percent(percent)),
            _ => Err(format!("{text:?} is more than all of the file system")),
        };
    }
    let lower = text.to_ascii_lowercase();
    let digits = lower
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(lower.len());
    let (number, unit) = lower.split_at(digits);
    let (letter, base) = match unit.strip_suffix("ib") {
        Some(letter) if !letter.is_empty() => (letter, 1024_f64),
        _ => (unit.strip_suffix('b').unwrap_or(unit), 1000_f64),
    };
    let power = match letter {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return Err(bad()),
    };
    let number: f64 = number.parse().map_err(|_| bad())?;
    let bytes = number * base.powi(power);
    // More than any disk holds is a slip.
    if !bytes.is_finite() || bytes > 1e18 {
        return Err(bad());
    }
    Ok(Room::Bytes(bytes as u64))
}

/// What to do with a Dockerfile: `build`, `check`, `check,format=json`.
pub fn call(text: &str) -> Result<Call, String> {
    let (method, format) = match text.split_once(',') {
        None => (text, "text"),
        Some((method, option)) => match option.split_once('=') {
            Some(("format", format)) => (method, format),
            _ => {
                return Err(format!(
                    "{option:?} is no option; it is format=text or format=json"
                ));
            }
        },
    };
    match (method, format) {
        ("build", _) if method == text => Ok(Call::Build),
        ("check" | "lint", "text") => Ok(Call::Check),
        ("check" | "lint", "json") => Ok(Call::CheckJson),
        ("check" | "lint", other) => Err(format!("{other:?} is no format; it is text or json")),
        _ => Err("there are build, check and check,format=json".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_ages_dates_and_times() {
        let now = 1_000_000_000_000;
        assert_eq!(moment("1h30m", now), Ok(now - 5_400_000));
        assert_eq!(moment("2w", now), Ok(now - 1_209_600_000));
        assert_eq!(moment("1970-01-02", now), Ok(86_400_000));
        assert_eq!(moment("1970-01-01T00:00:01Z", now), Ok(1000));
        assert_eq!(moment("7", now), Ok(7000));
        for bad in ["", "x", "5x", "h", "-1h", "1h30"] {
            assert!(moment(bad, now).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn room_is_decimal_or_binary_or_a_part_of_the_file_system() {
        for (text, expected) in [
            ("50GB", Room::Bytes(50_000_000_000)),
            ("50g", Room::Bytes(50_000_000_000)),
            ("1.5kB", Room::Bytes(1_500)),
            ("2MiB", Room::Bytes(2 << 20)),
            ("4096", Room::Bytes(4096)),
            ("0", Room::Bytes(0)),
            ("10%", Room::Percent(10)),
            ("100%", Room::Percent(100)),
        ] {
            assert_eq!(room(text), Ok(expected), "{text}");
        }
        for bad in [
            "", "%", "101%", "-5%", "1.5%", "x", "5q", "-1GB", "1e5", "GB", "5 GB GB", "9999999p",
        ] {
            assert!(room(bad).is_err(), "{bad:?}");
        }
        assert_eq!(duration("1h30m"), Ok(5_400_000));
        assert_eq!(patience("forever"), Ok(Millis::MAX));
        assert!(duration("forever").is_err() && patience("").is_err());
    }

    #[test]
    fn a_call_has_a_method_and_perhaps_a_format() {
        assert_eq!(call("build"), Ok(Call::Build));
        assert_eq!(call("check"), Ok(Call::Check));
        assert_eq!(call("check,format=json"), Ok(Call::CheckJson));
        for bad in [
            "outline",
            "check,json",
            "check,format=xml",
            "build,format=json",
            "",
        ] {
            assert!(call(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn memory_is_binary() {
        assert_eq!(memory("64m"), Ok(64 << 20));
        assert_eq!(memory("1.5GiB"), Ok(3 << 29));
        assert_eq!(memory("2t"), Ok(2 << 40));
        assert_eq!(memory("512"), Ok(512));
        assert!(memory("x").is_err() && memory("").is_err() && memory("1q").is_err());
    }

    #[test]
    fn limits_hosts_and_platforms_are_as_docker_has_them() {
        assert_eq!(ulimit("nofile=1:2"), Ok((Resource::Nofile, 1, 2)));
        assert_eq!(ulimit("core=-1"), Ok((Resource::Core, u64::MAX, u64::MAX)));
        assert!(ulimit("nofile=2:1").is_err() && ulimit("files=1").is_err());
        assert_eq!(host("a:::1"), Ok(("a".into(), "::1".parse().unwrap())));
        assert_eq!(host("a=[::1]"), Ok(("a".into(), "::1".parse().unwrap())));
        assert!(host("a").is_err() && host("a:b").is_err() && host(":1.1.1.1").is_err());
        assert_eq!(
            platform("linux/aarch64/v8").unwrap().to_string(),
            "linux/arm64"
        );
        assert!(platform("linux").is_err() && platform("a/b/c/d").is_err());
    }
}
