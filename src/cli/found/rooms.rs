//! `roombridge rooms`: every room, RocketMQ's and older ones.

use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use serde::Serialize;

use super::Indexed;
use crate::archive::{local_minute, rfc3339, visible};
use crate::cli::INCOMPLETE;
use crate::cli::output::{Report, aside};
use crate::cli::target::TargetArgs;
use crate::cli::times::{local_zone, moment_ms};
use crate::index::RoomSummary;

const EXAMPLES: &str = "\
Examples:
  roombridge rooms                   every room, the one that spoke last at the end
  roombridge rooms --since 7d        what was said in the last week

JSON fields, one object per line: room, first_at, last_at, lines, people, lessons. lines counts copies, too. If the index
has not seen everything yet, standard error says so, and the exit code is 4.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RoomsArgs {
    /// Count only what was said then or later: 7d (ago), '2026-11-24 10:00' (local), or RFC 3339.
    #[arg(long, value_name = "TIME", value_parser = moment_ms, allow_hyphen_values = true)]
    since: Option<u64>,
    /// Print one JSON object per line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: TargetArgs,
}

#[derive(Serialize)]
struct RoomJson<'a> {
    room: &'a str,
    first_at: String,
    last_at: String,
    lines: u64,
    people: u64,
    lessons: u64,
}

pub(crate) async fn run(arguments: RoomsArgs) -> anyhow::Result<ExitCode> {
    let target = arguments.target.find().await?;
    let sources = target.sources()?;
    let indexed = Indexed::open(&target, &sources)?;
    let behind = indexed.tell_behind(&target).await?;
    let (index, since, gap_ms) = (indexed.index.clone(), arguments.since, indexed.gap_ms);
    let asked = tokio::task::spawn_blocking(move || index.rooms(since, gap_ms)).await;
    let mut rooms = asked.context("the index gave no answer")??;
    rooms.sort_by(|a, b| (a.last_at_ms, &a.room).cmp(&(b.last_at_ms, &b.room)));
    let mut report = Report::default();
    if !arguments.json {
        table(&rooms, &mut report);
    } else {
        for room in &rooms {
            report.line(serde_json::to_string(&json_of(room))?);
        }
    }
    report.end(if behind == Some(0) { ExitCode::SUCCESS } else { ExitCode::from(INCOMPLETE) })
}

fn json_of(summary: &RoomSummary) -> RoomJson<'_> {
    RoomJson {
        room: &summary.room,
        first_at: rfc3339(summary.first_at_ms),
        last_at: rfc3339(summary.last_at_ms),
        lines: summary.lines,
        people: summary.people,
        lessons: summary.lessons,
    }
}

fn table(rooms: &[RoomSummary], report: &mut Report) {
    if rooms.is_empty() {
        return aside("no room has said anything");
    }
    let zone = local_zone();
    let width = rooms.iter().map(|room| visible(&room.room).chars().count()).max().unwrap_or(0).max(4);
    report.line(format_args!(
        "{:width$}  {:23}  {:23}  {:>9}  {:>6}  {:>7}",
        "ROOM", "FIRST", "LAST", "LINES", "PEOPLE", "LESSONS"
    ));
    for room in rooms {
        report.line(format_args!(
            "{:width$}  {:23}  {:23}  {:>9}  {:>6}  {:>7}",
            visible(&room.room),
            local_minute(room.first_at_ms, &zone),
            local_minute(room.last_at_ms, &zone),
            room.lines,
            room.people,
            room.lessons
        ));
    }
}
