//! Moments in a plan's JSON: RFC 3339, to the millisecond.

use chrono::{DateTime, SecondsFormat};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serializer};

use crate::catalog::Millis;

fn text(time: Millis) -> Option<String> {
    let time = DateTime::from_timestamp_millis(time)?;
    Some(time.to_rfc3339_opts(SecondsFormat::AutoSi, true))
}

fn parse(text: &str) -> Result<Millis, String> {
    match DateTime::parse_from_rfc3339(text) {
        Ok(time) => Ok(time.timestamp_millis()),
        Err(error) => Err(format!("{text:?} is no time: {error}")),
    }
}

/// For `#[serde(with)]` on a moment.
pub(super) fn serialize<S: Serializer>(time: &Millis, serializer: S) -> Result<S::Ok, S::Error> {
    optional::serialize(&Some(*time), serializer)
}

/// See [`serialize`].
pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Millis, D::Error> {
    optional::deserialize(deserializer)?.ok_or_else(|| D::Error::custom("a time is missing"))
}

/// For `#[serde(with)]` on a moment that need not be known.
pub(super) mod optional {
    use super::*;

    pub(in super::super) fn serialize<S: Serializer>(
        time: &Option<Millis>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        // What is beyond the calendar is not known.
        match time.and_then(text) {
            Some(text) => serializer.serialize_str(&text),
            None => serializer.serialize_none(),
        }
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Millis>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| parse(&text).map_err(D::Error::custom))
            .transpose()
    }
}
