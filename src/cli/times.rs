//! Times as people write and read them on the command line.
//!
//! Promises: a time that could mean two moments, or none, is refused with the moments it could mean; a time that is shown
//! names its offset, and can be pasted back as an argument.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::sync::Once;

use jiff::civil::DateTime;
use jiff::fmt::temporal::DateTimeParser;
use jiff::tz::{AmbiguousOffset, Disambiguation, TimeZone};
use jiff::{Span, Timestamp, Zoned};

use super::output::aside;

const HOW_TO_WRITE: &str = "write a span ago (15m, 2h, 1d), a local time ('2026-11-24 10:00'), or RFC 3339";

/// Where a machine keeps its time zone; see localtime(5).
const LOCALTIME: &str = "/etc/localtime";

/// A local time happens twice when clocks go back, and never when they go forward.
static WITHOUT_A_GUESS: DateTimeParser = DateTimeParser::new().disambiguation(Disambiguation::Reject);

/// The time zone of this machine. One line on standard error says so where `TZ` is not understood and UTC is taken.
pub(crate) fn local_zone() -> TimeZone {
    zone_of_machine().unwrap_or_else(utc_with_a_word)
}

fn utc_with_a_word(not_understood: String) -> TimeZone {
    static TOLD: Once = Once::new();
    TOLD.call_once(|| aside(format_args!("{not_understood}; UTC is taken")));
    TimeZone::UTC
}

fn zone_of_machine() -> Result<TimeZone, String> {
    zone_of(std::env::var_os("TZ").as_deref(), Path::new(LOCALTIME))
}

fn zone_of(tz: Option<&OsStr>, localtime: &Path) -> Result<TimeZone, String> {
    match tz {
        // Compose files pass a variable that nobody set as an empty text, which jiff takes for UTC.
        Some(tz) if tz.is_empty() => Ok(zone_in(localtime)),
        Some(tz) => TimeZone::try_system().map_err(|error| {
            format!(
                "the time zone TZ={} is not understood ({error}): set TZ to a name such as Asia/Shanghai whose file is in \
                 /usr/share/zoneinfo (package tzdata), or to a rule such as CST-8",
                tz.to_string_lossy()
            )
        }),
        // A small container has neither TZ nor /etc/localtime: its time is UTC, as for every other program there.
        None => Ok(TimeZone::try_system().unwrap_or(TimeZone::UTC)),
    }
}

/// The zone that this file links to, or is a copy of; UTC if there is no such file.
fn zone_in(localtime: &Path) -> TimeZone {
    let target = fs::read_link(localtime).ok();
    let name = target.as_deref().and_then(Path::to_str).and_then(|target| target.rsplit_once("zoneinfo/"));
    if let Some((_, name)) = name
        && let Ok(zone) = TimeZone::get(name)
    {
        return zone;
    }
    let copied = fs::read(localtime).ok().and_then(|zone| TimeZone::tzif("Local", &zone).ok());
    copied.unwrap_or(TimeZone::UTC)
}

/// Reads a time, as milliseconds since 1970-01-01 UTC.
pub(crate) fn moment_ms(text: &str) -> Result<u64, String> {
    let moment = parse_moment(text, Timestamp::now(), zone_of_machine)?;
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
    let span = text.parse::<Span>();
    if text.contains(':') && (span.is_ok() || is_of_numbers(text)) {
        return Err(format!(
            "{text} could be a time of day or a length of time: write the day in front of a time of day \
             ('2026-11-24 10:00'), or the units of a length, which means so long ago (10h 30m)"
        ));
    }
    let span = span.map_err(|_| HOW_TO_WRITE.to_owned())?;
    if text.starts_with('+') {
        return Err(format!("{text} from now has not been yet; {HOW_TO_WRITE}"));
    }
    // Only a day or more is longer or shorter where clocks change.
    let zone = if has_days(&span) { zone().unwrap_or_else(utc_with_a_word) } else { TimeZone::UTC };
    // `15m`, `15m ago`, `-15m`: what was said lies behind us.
    let moment = now.to_zoned(zone).checked_sub(span.abs());
    moment.map(|moment| moment.timestamp()).map_err(|error| error.to_string())
}

/// `10:00:00`, `10:00`, `1:30`: jiff reads the first one as ten hours.
fn is_of_numbers(text: &str) -> bool {
    text.chars().all(|letter| letter.is_ascii_digit() || matches!(letter, ':' | '.' | ','))
}

fn has_days(span: &Span) -> bool {
    span.get_days() != 0 || span.get_weeks() != 0 || span.get_months() != 0 || span.get_years() != 0
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
    use std::cell::Cell;

    use clap::{ArgMatches, CommandFactory};

    use super::*;
    use crate::archive::Position;
    use crate::cli::Arguments;

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

    /// ISO 8601 says of these what they mean: M is a month before the T, and a comma may be the decimal sign.
    #[test]
    fn a_span_of_iso_8601_is_what_the_standard_says() {
        assert_eq!(at("P1D"), "2026-11-23T04:00:00Z");
        assert_eq!(at("P1DT1H"), "2026-11-23T03:00:00Z");
        assert_eq!(at("P15M"), "2025-08-24T04:00:00Z");
        assert_eq!(at("1mo"), "2026-10-24T04:00:00Z");
        assert_eq!(at("1,5h"), at("1.5h"));
        assert_eq!(at("1.5h"), "2026-11-24T02:30:00Z");
        for refused in ["PT1H ago", "-15m ago", "15", "15 M"] {
            assert_eq!(at(refused), HOW_TO_WRITE, "{refused}");
        }
    }

    #[test]
    fn a_time_of_day_without_a_day_is_refused_with_both_ways_to_write_it() {
        for text in [
            "10:00:00",
            "10:00",
            "1:30",
            "10:00:00.5",
            "30:00:00",
            "-10:00:00",
            "+10:00:00",
            "10:00:00 ago",
            "1d 10:00:00",
        ] {
            let refused = at(text);
            assert!(refused.starts_with(&format!("{text} could be a time of day or a length")), "{refused}");
            assert!(refused.contains("'2026-11-24 10:00'") && refused.contains("10h 30m"), "{refused}");
        }
        // What is neither of the two is not called so.
        for text in ["2026-11-24 25:00", "ten:thirty", "10:00Z"] {
            assert_eq!(at(text), HOW_TO_WRITE, "{text}");
        }
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

    #[test]
    fn days_are_counted_in_the_zone_and_in_utc_where_it_is_not_understood_and_hours_ask_for_none() {
        // Clocks went back in the night before.
        let now: Timestamp = "2026-10-25T12:00:00+01:00".parse().unwrap();
        let asked = Cell::new(0);
        let moment = |text: &str, zone: Result<TimeZone, String>| {
            asked.set(0);
            let zone = || {
                asked.set(asked.get() + 1);
                zone.clone()
            };
            let moment = parse_moment(text, now, zone).unwrap();
            (moment.to_string(), asked.get())
        };
        let berlin = || TimeZone::get("Europe/Berlin").map_err(|error| error.to_string());
        let unknown = || Err("TZ=Mars".to_owned());
        assert_eq!(moment("1d", berlin()), ("2026-10-24T10:00:00Z".to_owned(), 1));
        assert_eq!(moment("1d", unknown()), ("2026-10-24T11:00:00Z".to_owned(), 1));
        for zone in [berlin(), unknown()] {
            assert_eq!(moment("24h", zone), ("2026-10-24T11:00:00Z".to_owned(), 0));
        }
    }

    #[test]
    fn an_empty_tz_counts_as_not_set() {
        let folder = tempfile::tempdir().unwrap();
        let [link, copy, none] = ["link", "copy", "none"].map(|name| folder.path().join(name));
        let now: Timestamp = "2026-11-24T12:00:00Z".parse().unwrap();
        let shanghai = Path::new("/usr/share/zoneinfo/Asia/Shanghai");
        std::os::unix::fs::symlink(shanghai, &link).unwrap();
        fs::copy(shanghai, &copy).unwrap();
        for (localtime, hours) in [(link, 8), (copy, 8), (none, 0)] {
            let zone = zone_of(Some(OsStr::new("")), &localtime).unwrap();
            assert_eq!(zone.to_offset(now), jiff::tz::offset(hours), "{}", localtime.display());
        }
    }

    /// What a command makes of its arguments, or the error that the user sees.
    fn parsed(line: &[&str]) -> Result<ArgMatches, String> {
        let line = [&["roombridge"][..], line].concat();
        let matches = Arguments::command().try_get_matches_from(line).map_err(|error| error.to_string())?;
        let (_, of_command) = matches.subcommand().expect("a command");
        Ok(of_command.clone())
    }

    #[test]
    fn a_time_ago_may_be_written_with_a_hyphen() {
        for (line, name) in [
            (&["search", "x", "--since", "-15m"][..], "since"),
            (&["search", "x", "--to", "-15m"][..], "to"),
            (&["rooms", "--since", "-15m"][..], "since"),
            (&["history", "1", "--from", "-15m"][..], "from"),
            (&["history", "1", "--to", "-15m"][..], "to"),
            (&["replay", "1", "--from", "-15m"][..], "from"),
            (&["export", "--all", "--out", "x", "--since", "-15m"][..], "since"),
        ] {
            let ms = *parsed(line).unwrap().get_one::<u64>(name).unwrap();
            let age = Timestamp::now().duration_since(Timestamp::from_millisecond(ms as i64).unwrap());
            assert!((900..960).contains(&age.as_secs()), "{line:?}: {age}");
        }
        let replay = parsed(&["replay", "1", "--start", "-15m"]).unwrap();
        assert!(matches!(replay.get_one::<Position>("start"), Some(Position::At(_))), "{replay:?}");
    }

    #[test]
    fn an_option_in_the_place_of_a_time_is_refused_by_its_name() {
        for (line, option) in [
            (&["search", "x", "--since", "--to", "2h"][..], "--since"),
            (&["search", "x", "--to", "--json"][..], "--to"),
            (&["rooms", "--since", "--json"][..], "--since"),
            (&["replay", "1", "--start", "--json"][..], "--start"),
        ] {
            let refused = parsed(line).unwrap_err();
            assert!(refused.contains(&format!("for '{option} <")), "{line:?}: {refused}");
            assert!(refused.contains("write a span ago"), "{line:?}: {refused}");
        }
    }
}
