//! Prints the claims of a token, for people and for scripts.
//!
//! Must never: let a stranger's text control the terminal.

use std::fmt::Write as _;
use std::io::{self, Write};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::access::{Claims, Role};
use crate::archive::visible;

/// The printed form of claims, which a stranger may have written.
#[derive(Debug, Serialize)]
pub(crate) struct PrintedClaims<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<&'a str>,
    access_key: &'a str,
    instance: &'a str,
    resources: &'a [String],
    actions: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    nonce: &'a str,
    /// RFC 3339, UTC, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    pub expired: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub genuine: Option<bool>,
    #[serde(skip)]
    expires_at_ms: u64,
}

impl<'a> PrintedClaims<'a> {
    pub(crate) fn of(claims: &'a Claims, now_ms: u64) -> Self {
        Self {
            token: None,
            access_key: &claims.access_key,
            instance: &claims.instance,
            resources: &claims.resources,
            actions: claims.actions.as_str(),
            client_id: claims.client_id.as_deref(),
            role: claims.role.map(Role::as_str),
            nonce: claims.nonce.as_str(),
            expires_at: timestamp(claims.expires_at_ms).map(|at| format!("{at:.3}")),
            expired: now_ms >= claims.expires_at_ms,
            genuine: None,
            expires_at_ms: claims.expires_at_ms,
        }
    }

    pub(crate) fn json(&self) -> serde_json::Result<String> {
        Ok(ascii(&serde_json::to_string(self)?))
    }

    pub(crate) fn write(&self, out: &mut dyn Write, now_ms: u64, zone: &TimeZone) -> io::Result<()> {
        let client_id = self.client_id.map_or("any client".into(), visible);
        let role = self.role.unwrap_or("by the group of the client id");
        let role = match (self.client_id, self.role) {
            (Some(_), None) => Role::Student.as_str(),
            _ => role,
        };
        writeln!(out, "client      {client_id}")?;
        writeln!(out, "role        {role}")?;
        writeln!(out, "actions     {}", self.actions)?;
        for resource in self.resources {
            writeln!(out, "resource    {}", visible(resource))?;
        }
        writeln!(out, "access key  {}", visible(self.access_key))?;
        writeln!(out, "instance    {}", visible(self.instance))?;
        writeln!(out, "nonce       {}", visible(self.nonce))?;
        writeln!(out, "expires     {}", expiry(self.expires_at_ms, now_ms, zone))
    }
}

/// The same JSON with escapes for everything beyond ASCII, so that it cannot control the terminal.
fn ascii(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for character in json.chars() {
        if matches!(character, ' '..='~') {
            out.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\u{unit:04x}");
            }
        }
    }
    out
}

fn expiry(at_ms: u64, now_ms: u64, zone: &TimeZone) -> String {
    let Some(at) = timestamp(at_ms) else {
        return "never, as it seems: the time is beyond the calendar".to_owned();
    };
    let at = at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S %:z");
    let span = in_words(at_ms.abs_diff(now_ms));
    if now_ms >= at_ms { format!("{at}: EXPIRED, {span} ago") } else { format!("{at}, in {span}") }
}

/// The time in words, in the largest unit of which there are at least two.
fn in_words(ms: u64) -> String {
    let seconds = ms / 1000;
    [(86_400, "days"), (3_600, "hours"), (60, "minutes")]
        .iter()
        .find(|(unit, _)| seconds >= 2 * unit)
        .map_or_else(|| format!("{seconds} seconds"), |(unit, name)| format!("{} {name}", seconds / unit))
}

fn timestamp(ms: u64) -> Option<Timestamp> {
    Timestamp::from_millisecond(i64::try_from(ms).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_said_in_the_largest_unit_that_fits_twice() {
        for (ms, words) in [
            (0, "0 seconds"),
            (119_999, "119 seconds"),
            (120_000, "2 minutes"),
            (59 * 60_000, "59 minutes"),
            (7_200_000, "2 hours"),
            (30 * 86_400_000, "30 days"),
        ] {
            assert_eq!(in_words(ms), words);
        }
    }

    #[test]
    fn an_expiry_says_the_moment_and_whether_it_is_over() {
        let now_ms = 1_767_268_800_000;
        assert_eq!(
            expiry(now_ms + 3_600_000, now_ms, &TimeZone::UTC),
            "2026-01-01 13:00:00 +00:00, in 60 minutes"
        );
        assert_eq!(
            expiry(now_ms, now_ms + 7_200_000, &TimeZone::UTC),
            "2026-01-01 12:00:00 +00:00: EXPIRED, 2 hours ago"
        );
        assert!(expiry(u64::MAX, now_ms, &TimeZone::UTC).contains("beyond the calendar"));
    }

    #[test]
    fn json_beyond_ascii_is_the_same_json_and_harmless() {
        let text = "学\u{1b}\u{9b}\u{202e}😀\"\\";
        let json = ascii(&serde_json::to_string(text).unwrap());
        assert!(json.is_ascii() && !json.chars().any(char::is_control), "{json}");
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
    }
}
