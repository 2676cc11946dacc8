//! HTTP's dates.

use chrono::{DateTime, NaiveDateTime};

/// `Sun, 06 Nov 1994 08:49:37 GMT` and its two obsolete forms (RFC 9110, 5.6.7), in seconds since
/// the epoch.
pub fn http_date(text: &str) -> Option<i64> {
    let text = text.trim();
    for format in [
        "%a, %d %b %Y %H:%M:%S GMT",
        "%A, %d-%b-%y %H:%M:%S GMT",
        "%a %b %e %H:%M:%S %Y",
    ] {
        if let Ok(time) = NaiveDateTime::parse_from_str(text, format) {
            return Some(time.and_utc().timestamp());
        }
    }
    DateTime::parse_from_rfc2822(text)
        .ok()
        .map(|time| time.timestamp())
}

#[cfg(test)]
mod tests {
    use super::http_date;

    #[test]
    fn each_form_of_a_date_is_read() {
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            assert_eq!(http_date(text), Some(784_111_777), "{text}");
        }
        assert_eq!(http_date("yesterday"), None);
    }
}
