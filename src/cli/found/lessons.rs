//! `roombridge lessons`: the lessons of a room.

use std::process::ExitCode;

use clap::Args;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::Indexed;
use crate::archive::{local_second, rfc3339, visible};
use crate::cli::INCOMPLETE;
use crate::cli::output::{Report, aside};
use crate::cli::target::TargetArgs;
use crate::cli::times::local_zone;
use crate::search::{Lesson, lessons_of};

const EXAMPLES: &str = "\
Examples:
  roombridge lessons 123456
  roombridge replay 123456 --lesson last               --lesson takes last, a day, or an id of this list
  roombridge history 123456 --lesson 2026-11-20

A lesson is what was said in a room without a pause longer than archive.lesson_gap_s. Its id is that of its first message,
and stays when late lines come; revision, the number of its lines, then rises. `roombridge lesson start|end` marks one.

JSON fields, one object per line: id, title, begin_at, end_at, length_s, lines, revision, people (list of client_id and
lines), begun_by_mark, ended_by_mark. A field that is not known is null.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct LessonsArgs {
    /// The room, as it stands in the MQTT topic.
    room: String,
    /// Print one JSON object per line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: TargetArgs,
}

#[derive(Serialize)]
struct PersonJson<'a> {
    client_id: &'a str,
    lines: u64,
}

#[derive(Serialize)]
struct LessonJson<'a> {
    id: Option<String>,
    title: Option<&'a str>,
    begin_at: String,
    end_at: String,
    length_s: f64,
    lines: u64,
    revision: u64,
    people: Vec<PersonJson<'a>>,
    begun_by_mark: bool,
    ended_by_mark: bool,
}

pub(crate) async fn run(arguments: LessonsArgs) -> anyhow::Result<ExitCode> {
    let target = arguments.target.find().await?;
    let sources = target.sources()?;
    let indexed = Indexed::open(&target, &sources)?;
    let behind = indexed.tell_behind(&target).await?;
    let lessons = lessons_of(&indexed.index, &indexed.whole, &arguments.room, indexed.gap_ms).await?;
    let mut report = Report::default();
    if arguments.json {
        for lesson in &lessons {
            report.line(serde_json::to_string(&json_of(lesson))?);
        }
    } else if lessons.is_empty() {
        aside(format_args!("no lesson found in {}", arguments.room));
    } else {
        for line in lesson_lines(&lessons, &local_zone()) {
            report.line(line);
        }
    }
    report.end(if behind == Some(0) { ExitCode::SUCCESS } else { ExitCode::from(INCOMPLETE) })
}

fn json_of(lesson: &Lesson) -> LessonJson<'_> {
    let span = &lesson.span;
    LessonJson {
        id: lesson.id.map(|id| id.to_string()),
        title: lesson.title.as_deref(),
        begin_at: rfc3339(span.begin_ms),
        end_at: rfc3339(span.end_ms),
        length_s: (span.end_ms - span.begin_ms) as f64 / 1000.0,
        lines: span.lines,
        revision: span.lines,
        people: span
            .people
            .iter()
            .map(|(client_id, lines)| PersonJson { client_id, lines: *lines })
            .collect(),
        begun_by_mark: span.is_begun_by_mark,
        ended_by_mark: span.is_ended_by_mark,
    }
}

/// A table for people, its head first.
pub(crate) fn lesson_lines(lessons: &[Lesson], zone: &TimeZone) -> Vec<String> {
    let mut lines =
        vec![format!("{:26}  {:>9}  {:>7}  {:>6}  {:33}  TITLE", "BEGIN", "LENGTH", "LINES", "PEOPLE", "ID")];
    for Lesson { span, id, title } in lessons {
        let id = id.map_or_else(|| "-".to_owned(), |id| id.to_string());
        let title = title.as_deref().map(visible).unwrap_or_default();
        let line = format!(
            "{:26}  {:>9}  {:>7}  {:>6}  {id:33}  {title}",
            local_second(span.begin_ms, zone),
            length((span.end_ms - span.begin_ms) / 1000),
            span.lines,
            span.people.len(),
        );
        lines.push(line.trim_end().to_owned());
    }
    lines
}

fn length(seconds: u64) -> String {
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{hours}:{minutes:02}:{seconds:02}")
}
