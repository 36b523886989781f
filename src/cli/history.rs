//! `roombridge history`: shows what was said in a room.

use std::io::{BufWriter, Write};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::bail;
use clap::Args;
use jiff::tz::TimeZone;

use super::INCOMPLETE;
use super::lesson_choice::LessonArgs;
use super::missing::MissingJson;
use super::output::{Stdout, aside, progress_bar};
use super::target::{Target, TargetArgs};
use super::times::{local_zone, moment_ms};
use crate::archive::{History, HistoryError, HistoryQuery, Missing, ReadProgress};
use crate::binding::{RoomQuery, RuleSet};
use crate::classroom::{ClassTopic, LessonEdge};
use crate::model::{Kind, RoomId};
use crate::pipeline::ports::Reader;

const EXAMPLES: &str = "\
Examples:
  roombridge history 123456                                      all of room 123456
  roombridge history 123456 --limit 20                           the last 20 messages
  roombridge history 123456 --from 2h --to 30m                   from 2 hours ago to 30 minutes ago
  roombridge history 123456 --from '2026-11-24 10:00' --json     one JSON object per line
  roombridge history 123456 --lesson last                        the last lesson; `roombridge lessons 123456` lists them
  roombridge history --tag command                               what belongs to no room
  roombridge history --mqtt-topic room                           what was published on just that MQTT topic

JSON fields: id, room, kind, mqtt_topic, rocketmq_topic, tag, broker, queue_id, queue_offset, received_at, stored_at,
qos, client_id, properties, payload or payload_base64, duplicates, conflict, lost_before, maybe_copy_of. A field that is not known
is absent. Copies, with one id and one body, are shown as one message, where the first copy is stored; `duplicates` counts the
others. `conflict` is true where the range holds another body under this id: anybody who can write to RocketMQ can write any id,
so both are shown. Otherwise it is absent.

--from and --to mean when a message was said: its arrival at the bridge, if that lies between 7 days before and 60 s after
the time at which RocketMQ stored it, else that time. So what waited in the spool counts for when it was said.

What is gone for good is named on standard error, and the exit code is 4: older messages than are kept, and messages that
RocketMQ gave up before they were archived. `lost_before` counts the latter at the next message of their queue.

What RocketMQ has and does not hand out, because the topic has fewer read queues than before, ends the command with 1, and so does
a broker that is away; --partial shows the rest.

Where anything is missing, --json writes one line first, with only these fields, as far as they apply: not_handed_out (messages),
lost (messages), kept_from_ms (what was asked for and is older than that store time is not kept any more), away (brokers).

A topic of a [[downlink]] is read whole, because other producers choose their tags. With many messages this takes a
while; --from shortens it. There --tag also finds what others published on the sub-topic of that tag.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct HistoryArgs {
    /// The room, as it stands in the MQTT topic.
    #[arg(required_unless_present_any = ["tag", "mqtt_topic"], conflicts_with_all = ["tag", "mqtt_topic"])]
    room: Option<String>,
    /// Read one RocketMQ tag instead of a room, for example command or status.
    #[arg(long)]
    tag: Option<String>,
    /// Read one MQTT topic instead of a room, for example room or room/message/7/private.
    #[arg(long, value_name = "TOPIC", conflicts_with = "tag")]
    mqtt_topic: Option<String>,
    #[command(flatten)]
    lesson: LessonArgs,
    #[command(flatten)]
    range: RangeArgs,
    /// Show only the last N messages of the range.
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Print one JSON object per line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: TargetArgs,
}

// No doc comment: clap would show it as the description of each command that flattens this in.
#[derive(Debug, Args)]
pub(crate) struct RangeArgs {
    /// Show messages said at or after this time: 2h or 15m (ago), '2026-11-24 10:00' (local), or RFC 3339; [Europe/Berlin] may follow.
    #[arg(long, value_name = "TIME", value_parser = moment_ms, allow_hyphen_values = true)]
    from: Option<u64>,
    /// Show messages said before this time; written like --from.
    #[arg(long, value_name = "TIME", value_parser = moment_ms, allow_hyphen_values = true)]
    to: Option<u64>,
    /// Show only this kind: message, command, status, system, p2p or other.
    #[arg(long, value_parser = kind)]
    kind: Option<Kind>,
    /// Show what is there although a RocketMQ broker that holds a part of it is away, or RocketMQ does not hand out a part of it.
    /// Standard error names the part.
    #[arg(long)]
    partial: bool,
}

#[derive(Clone, Copy)]
enum Asked<'a> {
    Room(&'a str),
    Tag(&'a str),
    MqttTopic(&'a str),
}

impl<'a> Asked<'a> {
    fn name(self) -> &'a str {
        match self {
            Self::Room(name) | Self::Tag(name) | Self::MqttTopic(name) => name,
        }
    }

    fn mqtt_topic(self) -> Option<&'a str> {
        match self {
            Self::MqttTopic(topic) => Some(topic),
            Self::Room(_) | Self::Tag(_) => None,
        }
    }
}

impl HistoryArgs {
    fn asked(&self) -> anyhow::Result<Asked<'_>> {
        match (&self.room, &self.tag, &self.mqtt_topic) {
            (Some(room), None, None) => Ok(Asked::Room(room)),
            (None, Some(tag), None) => Ok(Asked::Tag(tag)),
            (None, None, Some(topic)) => Ok(Asked::MqttTopic(topic)),
            _ => bail!("name one room, or one tag with --tag, or one MQTT topic with --mqtt-topic"),
        }
    }
}

impl RangeArgs {
    pub(crate) fn is_partial(&self) -> bool {
        self.partial
    }

    /// The query for a room.
    pub(crate) fn of_room(&self, target: &Target, room: &str) -> anyhow::Result<HistoryQuery> {
        self.query(target, Asked::Room(room), None)
    }

    fn query(&self, target: &Target, asked: Asked<'_>, limit: Option<u64>) -> anyhow::Result<HistoryQuery> {
        if let (Some(from), Some(to)) = (self.from, self.to)
            && from >= to
        {
            bail!("--from is not before --to, so nothing can lie between");
        }
        let rules = Arc::new(target.rules()?);
        let places = match asked {
            Asked::Tag(tag) => rules.tag_queries(tag)?,
            Asked::MqttTopic(topic) => rules.mqtt_topic_queries(topic)?,
            Asked::Room(room) => {
                let mut places = rules.room_queries(room)?;
                if let Some(classroom) = &target.config.classroom {
                    places.extend(rules.topic_query(room, &ClassTopic::System.topic(&classroom.heard_topic)));
                    places.extend(mark_queries(&rules, room, &classroom.heard_topic));
                }
                places
            }
        };
        Ok(HistoryQuery {
            places,
            rules: Some(rules),
            from_ms: self.from,
            to_ms: self.to,
            kind: self.kind,
            mqtt_topic: asked.mqtt_topic().map(str::to_owned),
            limit,
            partial: self.partial,
        })
    }
}

/// Where the lesson marks of a room lie.
fn mark_queries(rules: &RuleSet, room: &str, heard_topic: &str) -> Vec<RoomQuery> {
    let Some(id) = RoomId::parse(room) else { return Vec::new() };
    let topics = [LessonEdge::Start, LessonEdge::End].map(|edge| ClassTopic::Lesson(edge, id.clone()));
    topics.iter().filter_map(|topic| rules.topic_query(room, &topic.topic(heard_topic))).collect()
}

pub(crate) async fn run(arguments: HistoryArgs) -> anyhow::Result<ExitCode> {
    let target = arguments.target.find().await?;
    let asked = arguments.asked()?;
    let mut query = arguments.range.query(&target, asked, arguments.limit)?;
    let sources = target.sources()?;
    if let Asked::Room(room) = asked {
        arguments.lesson.narrow(&mut query, &target, &sources, room, false).await?;
    }
    let (written, is_whole) = write_history(sources.reader(), query, arguments.json).await?;
    if written == 0 {
        aside(format_args!("nothing found for {}", asked.name()));
    }
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::from(INCOMPLETE) })
}

/// Says how many lines it wrote, and whether they are all that there ever was.
async fn write_history(reader: &dyn Reader, query: HistoryQuery, json: bool) -> anyhow::Result<(u64, bool)> {
    let opened = open_history(reader, query).await;
    if json {
        let missing = match &opened {
            Ok(history) => MissingJson::of(history.missing(), history.away()),
            Err(error) => MissingJson::of(withheld_by(error), std::iter::empty()),
        };
        if !missing.is_nothing() {
            writeln!(Stdout, "{}", serde_json::to_string(&missing)?)?;
        }
    }
    let mut history = opened?;
    let is_whole = history.missing().is_empty() && history.away().next().is_none();
    for missing in history.missing() {
        aside(missing);
    }
    let mut out = BufWriter::new(Stdout);
    // JSON has no local times, and where /etc/localtime is missing it takes milliseconds to find the zone.
    let zone = if json { TimeZone::UTC } else { local_zone() };
    let mut written = 0;
    while let Some(record) = history.next().await? {
        record.write(&mut out, json, &zone)?;
        written += 1;
    }
    out.flush()?;
    Ok((written, is_whole))
}

/// What a history was refused for.
pub(super) fn withheld_by(error: &anyhow::Error) -> &[Missing] {
    match error.downcast_ref() {
        Some(HistoryError::Withheld(missing)) => std::slice::from_ref(missing),
        Some(
            HistoryError::Read(_)
            | HistoryError::NoTopic { .. }
            | HistoryError::Away { .. }
            | HistoryError::TooMany
            | HistoryError::Gone(_)
            | HistoryError::TooSlow,
        )
        | None => &[],
    }
}

/// Opens a history, with a progress bar.
async fn open_history(reader: &dyn Reader, query: HistoryQuery) -> anyhow::Result<History<'_>> {
    let history = searching(async |progress| History::open(reader, query, progress).await).await?;
    for broker in history.away() {
        aside(format_args!("RocketMQ broker {broker} is away: what it holds of this is missing"));
    }
    Ok(history)
}

/// Does the first reading of a history, with a progress bar on stderr if that is a terminal.
pub(crate) async fn searching<T, E>(
    first_reading: impl AsyncFnOnce(&mut (dyn FnMut(ReadProgress) + Send)) -> Result<T, E>,
) -> Result<T, E> {
    let bar = progress_bar("searching  {bar:40} {percent:>3} %  {elapsed}");
    let mut show = |progress: ReadProgress| {
        bar.set_length(progress.total);
        bar.set_position(progress.done);
    };
    let read = first_reading(&mut show).await;
    bar.finish_and_clear();
    read
}

pub(crate) fn kind(text: &str) -> Result<Kind, String> {
    let known = Kind::ALL.iter().copied().find(|kind| kind.as_str() == text);
    known.ok_or_else(|| {
        format!("kinds are {}", Kind::ALL.iter().map(Kind::to_string).collect::<Vec<_>>().join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_that_is_none_is_refused_with_the_list() {
        assert_eq!(kind("p2p"), Ok(Kind::P2p));
        assert!(kind("chat").unwrap_err().contains("message, command"));
    }
}
