//! Times as people write and read them on the command line.
//!
//! Promises: a time that could mean two moments, or none, is refused with the moments it could mean; a time that is shown
//! names its offset, and can be pasted back as an argument.

use std::sync::Once;

use jiff::civil::DateTime;
use jiff::fmt::temporal::DateTimeParser;
use jiff::tz::{AmbiguousOffset, Disambiguation, TimeZone};
use jiff::{Span, Timestamp, Zoned};

use super::output::aside;

const HOW_TO_WRITE: &str = "write a span ago (15m, 2h, 1d), a local time ('2026-11-24 10:00'), or RFC 3339";

/// A local time happens twice when clocks go back, and never when they go forward.
static WITHOUT_A_GUESS: DateTimeParser = DateTimeParser::new().disambiguation(Disambiguation::Reject);

/// The time zone of this machine. One line on standard error says so where `TZ` is not understood and UTC is taken.
pub(crate) fn local_zone() -> TimeZone {
    static TOLD: Once = Once::new();
    zone_of_tz().unwrap_or_else(|not_understood| {
        TOLD.call_once(|| aside(format_args!("{not_understood}; times are shown in UTC")));
        TimeZone::UTC
    })
}

fn zone_of_tz() -> Result<TimeZone, String> {
    match (TimeZone::try_system(), std::env::var_os("TZ")) {
        (Ok(zone), _) => Ok(zone),
        (Err(error), Some(tz)) => Err(format!(
            "the time zone TZ={} is not understood ({error}): set TZ to a name such as Asia/Shanghai whose file is in \
             /usr/share/zoneinfo (package tzdata), or to a rule such as CST-8",
            tz.to_string_lossy()
        )),
        // A small container has neither TZ nor /etc/localtime: its time is UTC, as for every other program there.
        (Err(_), None) => Ok(TimeZone::UTC),
    }
}

/// Reads a time, as milliseconds since 1970-01-01 UTC.
pub(crate) fn moment_ms(text: &str) -> Result<u64, String> {
    let moment = parse_moment(text, Timestamp::now(), zone_of_tz)?;
    u64::try_from(moment.as_millisecond()).map_err(|_| "a time before 1970 is not understood".to_owned())
}

fn parse_moment(
    text: &str,
    now: Timestamp,
    zone: impl Fn() -> Result<TimeZone, String>,
) -> Result<Timestamp, String> {
    let text = text.trim();
    if text.contains('[') {
        return in_named_zone(text);
    }
    if let Ok(timestamp) = join_offset(text).parse::<Timestamp>() {
        return Ok(timestamp);
    }
    if let Ok(local) = text.parse::<DateTime>() {
        return of_local(local, &zone()?);
    }
    let span: Span = text.parse().map_err(|_| HOW_TO_WRITE.to_owned())?;
    if text.starts_with('+') {
        return Err(format!("{text} from now has not been yet; {HOW_TO_WRITE}"));
    }
    // `15m`, `15m ago`, `-15m`: what was said lies behind us.
    let now = now.to_zoned(zone().unwrap_or(TimeZone::UTC));
    now.checked_sub(span.abs()).map(|moment| moment.timestamp()).map_err(|error| error.to_string())
}

/// `2026-11-24T10:00[Europe/Berlin]`, with an offset or without; the two must agree.
fn in_named_zone(text: &str) -> Result<Timestamp, String> {
    let moment: Result<Zoned, _> = WITHOUT_A_GUESS.parse_zoned(join_offset(text));
    moment.map(|zoned| zoned.timestamp()).map_err(|error| error.to_string())
}

fn of_local(local: DateTime, zone: &TimeZone) -> Result<Timestamp, String> {
    let moment = zone.to_ambiguous_zoned(local);
    match moment.offset() {
        AmbiguousOffset::Unambiguous { .. } => {
            moment.unambiguous().map(|zoned| zoned.timestamp()).map_err(|error| error.to_string())
        }
        AmbiguousOffset::Gap { before, after } => Err(format!(
            "{local} did not happen here: clocks went from offset {before} to {after}; write it with an offset, as {local}{before}"
        )),
        AmbiguousOffset::Fold { before, after } => Err(format!(
            "{local} happened twice here, because clocks went back: write {local}{before} or {local}{after}"
        )),
    }
}

/// `2026-11-24 10:00:00 +08:00`, as it is shown, without the space that RFC 3339 does not know.
fn join_offset(text: &str) -> String {
    match text.rsplit_once(' ') {
        Some((time, offset)) if time.contains(':') && offset.starts_with(['+', '-']) => {
            format!("{time}{offset}")
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_in(zone: &str, text: &str) -> String {
        let now = "2026-11-24T12:00:00+08:00".parse().unwrap();
        let zone = TimeZone::get(zone).unwrap();
        parse_moment(text, now, || Ok(zone.clone())).map_or_else(|error| error, |moment| moment.to_string())
    }

    fn at(text: &str) -> String {
        at_in("Asia/Shanghai", text)
    }

    #[test]
    fn a_moment_is_a_span_ago_a_local_time_or_rfc_3339() {
        for ago in ["15m", "15m ago", "-15m", "15 minutes ago", "PT15M", "-PT15M", " 15m "] {
            assert_eq!(at(ago), "2026-11-24T03:45:00Z", "{ago}");
        }
        assert_eq!(at("2h"), "2026-11-24T02:00:00Z");
        assert_eq!(at("1h 30m ago"), "2026-11-24T02:30:00Z");
        assert_eq!(at("1d"), "2026-11-23T04:00:00Z");
        assert_eq!(at("2026-11-24 10:00"), "2026-11-24T02:00:00Z");
        assert_eq!(at("2026-11-24 10:00:30"), "2026-11-24T02:00:30Z");
        assert_eq!(at("2026-11-24"), "2026-11-23T16:00:00Z");
        assert_eq!(at("2026-11-24T10:00:00Z"), "2026-11-24T10:00:00Z");
        assert_eq!(at("2026-11-24 10:00:00.123 +01:00"), "2026-11-24T09:00:00.123Z", "as it is shown");
        assert_eq!(at("yesterday"), HOW_TO_WRITE);
        assert_eq!(at(""), HOW_TO_WRITE);
        assert!(at("+15m").contains("has not been yet"), "{}", at("+15m"));
    }

    #[test]
    fn a_named_zone_counts_and_must_agree_with_the_offset() {
        assert_eq!(at("2026-11-24T10:00[Europe/Berlin]"), "2026-11-24T09:00:00Z");
        assert_eq!(at("2026-11-24 10:00+01:00[Europe/Berlin]"), "2026-11-24T09:00:00Z");
        let contradiction = at("2026-11-24T10:00+05:00[Europe/Berlin]");
        assert!(contradiction.contains("Europe/Berlin"), "{contradiction}");
        let unknown = at("2026-11-24T10:00[Europe/Berlim]");
        assert!(unknown.contains("Europe/Berlim"), "{unknown}");
        let twice = at("2026-10-25T02:30[Europe/Berlin]");
        assert!(!twice.ends_with('Z'), "{twice}");
    }

    #[test]
    fn a_local_time_that_was_twice_or_never_is_refused_with_the_ways_to_write_it() {
        let twice = at_in("Europe/Berlin", "2026-10-25 02:30");
        assert!(twice.contains("2026-10-25T02:30:00+02 or 2026-10-25T02:30:00+01"), "{twice}");
        let never = at_in("Europe/Berlin", "2026-03-29 02:30");
        assert!(never.contains("did not happen"), "{never}");
        assert_eq!(at_in("Europe/Berlin", "2026-10-25T02:30:00+02"), "2026-10-25T00:30:00Z");
    }

    #[test]
    fn a_time_zone_that_is_not_understood_refuses_what_needs_it_and_nothing_else() {
        let now = Timestamp::UNIX_EPOCH;
        let unknown = || Err("TZ=Mars".to_owned());
        assert_eq!(parse_moment("2026-11-24 10:00", now, unknown), Err("TZ=Mars".to_owned()));
        assert!(parse_moment("2026-11-24T10:00:00Z", now, unknown).is_ok());
    }
}
