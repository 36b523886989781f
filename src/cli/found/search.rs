//! `roombridge search`: finds lines by their words.

use std::ops::Range;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use serde::Serialize;

use super::Indexed;
use crate::archive::{CONFLICT, local_time, rfc3339, visible};
use crate::cli::INCOMPLETE;
use crate::cli::history::kind;
use crate::cli::output::{Report, aside, is_shown};
use crate::cli::target::TargetArgs;
use crate::cli::times::{local_zone, moment_ms};
use crate::index::{Order, Query, RANKED, RowId, Snippet, Total};
use crate::model::{Clock, Kind, SystemClock};
use crate::search::{Answer, Hit, Wanted, search};

const EXAMPLES: &str = "\
Examples:
  roombridge search \"勾股定理\" --room 123456          words, or any characters of a script without blanks
  roombridge search 'homework -answer'                a minus leaves lines with a word out
  roombridge search '\"page 12\"' --from-client GID_teacher@@@001 --since 7d
  roombridge search fractions --best                  of the newest 10,000 hits the shortest lines first

Words may stand anywhere in a line; what stands in quotes, or touches, must stand together. Capital and small letters,
full and half width are the same.

JSON (--json): one object with hits (room, at, id, kind, client_id, mqtt_topic, conflict (another line has this id and
another body), text, marks as pairs of character positions in text, cut_before, cut_after, rocketmq_topic, broker, queue_id,
generation, queue_offset, replay), total (exactly, at_most, over, or null), is_partial, is_of_newest_only, gone, not_indexed_yet (null = not known) and next, which --before takes for
older hits. The exit code is 4 if the answer is not whole.";

/// How long a search may take.
const TIME: Duration = Duration::from_secs(10);
/// So many characters of a line are shown.
const WIDTH: usize = 100;

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct SearchArgs {
    /// What to look for; all of it, in one or more arguments.
    #[arg(required = true)]
    words: Vec<String>,
    /// Only in this room.
    #[arg(long)]
    room: Option<String>,
    /// Only what this client said.
    #[arg(long, value_name = "CLIENT_ID")]
    from_client: Option<String>,
    /// Only this kind: message or system.
    #[arg(long, value_parser = kind)]
    kind: Option<Kind>,
    /// Said at or after this time: 7d (ago), '2026-11-24 10:00' (local), or RFC 3339.
    #[arg(
        long,
        visible_alias = "from",
        value_name = "TIME",
        value_parser = moment_ms,
        allow_hyphen_values = true
    )]
    since: Option<u64>,
    /// Said before this time.
    #[arg(long, value_name = "TIME", value_parser = moment_ms, allow_hyphen_values = true)]
    to: Option<u64>,
    /// The shortest lines first, instead of the newest.
    #[arg(long, conflicts_with = "before")]
    best: bool,
    /// At most so many hits.
    #[arg(long, value_name = "N", default_value = "20", value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    /// Hits older than those of an earlier answer, which ended with this.
    #[arg(long, value_name = "ROW")]
    before: Option<RowId>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: TargetArgs,
}

#[derive(Serialize)]
struct HitJson {
    room: Option<String>,
    at: String,
    id: Option<String>,
    kind: Kind,
    client_id: Option<String>,
    mqtt_topic: String,
    conflict: bool,
    text: String,
    marks: Vec<(usize, usize)>,
    cut_before: bool,
    cut_after: bool,
    rocketmq_topic: String,
    broker: String,
    queue_id: i32,
    generation: u32,
    queue_offset: u64,
    replay: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum TotalJson {
    Exactly(u64),
    AtMost(u64),
    Over(u64),
}

#[derive(Serialize)]
struct AnswerJson {
    hits: Vec<HitJson>,
    total: Option<TotalJson>,
    is_partial: bool,
    is_of_newest_only: bool,
    gone: u64,
    not_indexed_yet: Option<u64>,
    next: Option<String>,
}

pub(crate) async fn run(arguments: SearchArgs) -> anyhow::Result<ExitCode> {
    let query = Query::parse(&arguments.words.join(" "))?;
    if let (Some(since), Some(to)) = (arguments.since, arguments.to)
        && since >= to
    {
        bail!("--since is not before --to, so nothing can lie between");
    }
    let target = arguments.target.find().await?;
    let sources = target.sources()?;
    let indexed = Indexed::open(&target, &sources)?;
    let text_fields = target.config.archive.as_ref().map(|archive| archive.text_fields.clone());
    let wanted = Wanted {
        query,
        room: arguments.room,
        client_id: arguments.from_client,
        kind: arguments.kind,
        from_ms: arguments.since,
        to_ms: arguments.to,
        order: if arguments.best { Order::Best } else { Order::Newest },
        limit: arguments.limit.into(),
        before: arguments.before,
        text_fields: text_fields.unwrap_or_default(),
        time: TIME,
        width: WIDTH,
    };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let not_indexed_yet = indexed.tell_behind(&target).await?;
    let answer = search(&indexed.index, &indexed.whole, &wanted, &clock).await?;
    let is_whole = !answer.is_partial && not_indexed_yet == Some(0);
    let mut report = Report::default();
    if arguments.json {
        report.line(serde_json::to_string(&json_of(answer, not_indexed_yet))?);
    } else {
        show(&answer, &mut report);
    }
    report.end(if is_whole { ExitCode::SUCCESS } else { ExitCode::from(INCOMPLETE) })
}

fn json_of(answer: Answer, not_indexed_yet: Option<u64>) -> AnswerJson {
    let total = match answer.total {
        Total::Exact(count) => Some(TotalJson::Exactly(count)),
        Total::AtMost(count) => Some(TotalJson::AtMost(count)),
        Total::Over(count) => Some(TotalJson::Over(count)),
        Total::Unknown => None,
    };
    AnswerJson {
        hits: answer.hits.iter().map(hit_json).collect(),
        total,
        is_partial: answer.is_partial,
        is_of_newest_only: answer.is_of_newest_only,
        gone: answer.gone,
        not_indexed_yet,
        next: answer.next.map(|next| next.to_string()),
    }
}

fn hit_json(hit: &Hit) -> HitJson {
    let Snippet { text, marks, is_cut_before, is_cut_after } = &hit.snippet;
    let characters = |bytes: usize| text.get(..bytes).map_or(0, |before| before.chars().count());
    let place = &hit.row.place;
    HitJson {
        room: hit.room.as_deref().map(str::to_owned),
        at: rfc3339(hit.row.at_ms),
        id: hit.id.map(|id| id.to_string()),
        kind: hit.recorded.kind,
        client_id: hit.recorded.client_id.clone(),
        mqtt_topic: hit.recorded.mqtt_topic.clone(),
        conflict: hit.conflict,
        text: text.clone(),
        marks: marks.iter().map(|mark| (characters(mark.start), characters(mark.end))).collect(),
        cut_before: *is_cut_before,
        cut_after: *is_cut_after,
        rocketmq_topic: place.topic.clone(),
        broker: place.queue.broker.to_string(),
        queue_id: place.queue.id,
        generation: place.generation,
        queue_offset: hit.row.offset,
        replay: replay(hit),
    }
}

/// The command that plays from there.
fn replay(hit: &Hit) -> Option<String> {
    let room = hit.room.as_deref()?;
    let room = shlex::try_quote(room).ok()?;
    Some(match hit.id {
        Some(id) => format!("roombridge replay {room} --lesson {id} --start {id}"),
        None => format!("roombridge replay {room} --from {}", rfc3339(hit.row.at_ms)),
    })
}

fn show(answer: &Answer, report: &mut Report) {
    let zone = local_zone();
    let is_terminal = is_shown();
    for hit in &answer.hits {
        let room = hit.room.as_deref().unwrap_or("-");
        let who = hit.recorded.client_id.as_deref().unwrap_or("-");
        let line = marked(&hit.snippet, is_terminal);
        let conflict = if hit.conflict { CONFLICT } else { "" };
        report.line(format_args!(
            "{}  {}  {}  {line}{conflict}",
            local_time(hit.row.at_ms, &zone),
            visible(room),
            visible(who)
        ));
        if let Some(command) = replay(hit) {
            report.line(format_args!("    {}", visible(&command)));
        }
    }
    let shown = answer.hits.len();
    match answer.total {
        _ if shown == 0 => aside("nothing found"),
        Total::Exact(total) => aside(format_args!("{shown} of {total} lines")),
        Total::AtMost(total) => aside(format_args!("{shown} of at most {total} lines")),
        Total::Over(total) => aside(format_args!("{shown} of more than {total} lines")),
        Total::Unknown => aside(format_args!("{shown} lines")),
    }
    if answer.is_partial {
        aside(
            "the time was over before all was looked at: there may be more; narrow it with --room, --since or --to",
        );
    }
    if answer.is_of_newest_only {
        aside(format_args!("only the newest {RANKED} hits were compared"));
    }
    if let Some(next) = answer.next {
        aside(format_args!("--before {next} shows older ones"));
    }
}

/// The line, with what was looked for in bold on a terminal.
fn marked(snippet: &Snippet, is_terminal: bool) -> String {
    let (mut line, mut end) = (String::new(), 0);
    let part = |range: Range<usize>| visible(snippet.text.get(range).unwrap_or_default()).into_owned();
    line.push_str(if snippet.is_cut_before { "…" } else { "" });
    for mark in &snippet.marks {
        line.push_str(&part(end..mark.start));
        let (bold, plain) = if is_terminal { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
        line.push_str(&format!("{bold}{}{plain}", part(mark.clone())));
        end = mark.end;
    }
    line.push_str(&part(end..snippet.text.len()));
    line.push_str(if snippet.is_cut_after { "…" } else { "" });
    line
}
