//! `roombridge spool`: shows the messages that wait on the local disk for RocketMQ.

mod drain;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use indicatif::{HumanBytes, HumanCount};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::output::Stdout;
use super::target::TargetArgs;
use super::times::local_zone;
use crate::archive::visible;
use crate::config::SpoolConfig;
use crate::data_dir::DataDirView;
use crate::model::WhenFull;
use crate::spool::{SPOOL_FILE, SpoolInspection, TopicInspection};
use crate::storage;

const EXAMPLES: &str = "\
Examples:
  roombridge spool -c config/roombridge.toml          what is in it; works while the bridge runs
  roombridge spool drain -c config/roombridge.toml    send it all to RocketMQ while the bridge is stopped

JSON fields: path, enabled, messages, bytes, damaged, file_bytes, free_bytes, full (absent, or bytes, messages, disk),
limits (max_bytes, max_messages, topic_bytes, min_free_bytes, max_age_s, when_full), topics (topic, messages, bytes,
oldest_at).
This command cannot tell whether a running bridge has put its spool out of use after an error of the disk;
/readyz and the log tell.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub(crate) struct SpoolArgs {
    #[command(subcommand)]
    command: Option<Command>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: TargetArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Send everything to RocketMQ, in order, while the bridge is stopped. A running bridge does this by itself.
    ///
    /// The command waits while RocketMQ is away. Ctrl-C stops it, and nothing is lost: the rest stays in the spool
    /// (exit code 3).
    Drain(drain::DrainArgs),
}

pub(crate) async fn run(arguments: SpoolArgs) -> anyhow::Result<ExitCode> {
    if let Some(Command::Drain(arguments)) = arguments.command {
        return drain::run(arguments).await;
    }
    let config = arguments.target.on_disk()?.config;
    // A missing folder is an error, because it is more often a mistake in the configuration than an empty spool.
    DataDirView::open(&config.data_dir)?;
    let path = config.data_dir.join(SPOOL_FILE);
    let inspection = SpoolInspection::read(&path)?;
    let view = SpoolView {
        path: path.display().to_string(),
        free_bytes: storage::free_bytes(&config.data_dir)?,
        inspection: &inspection,
        config: &config.spool,
    };
    let mut out = Stdout;
    if arguments.json {
        writeln!(out, "{}", serde_json::to_string(&view.report())?)?;
    } else {
        view.write(&mut out, &local_zone())?;
    }
    Ok(ExitCode::SUCCESS)
}

struct SpoolView<'a> {
    path: String,
    free_bytes: u64,
    inspection: &'a SpoolInspection,
    config: &'a SpoolConfig,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report<'a> {
    path: &'a str,
    enabled: bool,
    messages: u64,
    bytes: u64,
    damaged: u64,
    file_bytes: u64,
    free_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    full: Option<&'static str>,
    limits: Limits,
    topics: Vec<Topic<'a>>,
}

#[derive(Debug, Serialize)]
struct Limits {
    max_bytes: u64,
    max_messages: u64,
    topic_bytes: u64,
    min_free_bytes: u64,
    /// 0 = never.
    max_age_s: u64,
    when_full: &'static str,
}

#[derive(Debug, Serialize)]
struct Topic<'a> {
    topic: &'a str,
    messages: u64,
    bytes: u64,
    /// RFC 3339, UTC, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest_at: Option<String>,
}

impl SpoolView<'_> {
    fn bytes(&self) -> u64 {
        self.inspection.topics.iter().map(|topic| topic.bytes).sum()
    }

    /// The limit that is reached. (A large message may find no room a little earlier.)
    fn full(&self) -> Option<&'static str> {
        if self.bytes() >= self.config.max_bytes {
            Some("bytes")
        } else if self.inspection.messages() >= self.config.max_messages {
            Some("messages")
        } else if self.free_bytes < self.config.min_free_bytes {
            Some("disk")
        } else {
            None
        }
    }

    fn report(&self) -> Report<'_> {
        Report {
            path: &self.path,
            enabled: self.config.enabled,
            messages: self.inspection.messages(),
            bytes: self.bytes(),
            damaged: self.inspection.damaged,
            file_bytes: self.inspection.file_bytes,
            free_bytes: self.free_bytes,
            full: self.full(),
            limits: Limits {
                max_bytes: self.config.max_bytes,
                max_messages: self.config.max_messages,
                topic_bytes: self.config.topic_bytes,
                min_free_bytes: self.config.min_free_bytes,
                max_age_s: self.config.max_age.map_or(0, |age| age.as_secs()),
                when_full: when_full(self.config.when_full),
            },
            topics: self.inspection.topics.iter().map(topic).collect(),
        }
    }

    fn write(&self, out: &mut dyn Write, zone: &TimeZone) -> io::Result<()> {
        let config = self.config;
        if self.inspection.topics.is_empty() {
            writeln!(out, "the spool is empty")?;
        } else {
            writeln!(out, "{:<32} {:>12} {:>12}  OLDEST", "TOPIC", "MESSAGES", "BYTES")?;
        }
        for topic in &self.inspection.topics {
            writeln!(
                out,
                "{:<32} {:>12} {:>12}  {}",
                visible(&topic.topic),
                HumanCount(topic.messages).to_string(),
                HumanBytes(topic.bytes).to_string(),
                oldest(topic).map_or_else(String::new, |at| local_time(at, zone))
            )?;
        }
        writeln!(
            out,
            "\nmessages  {} of {}",
            HumanCount(self.inspection.messages()),
            HumanCount(config.max_messages)
        )?;
        writeln!(out, "bytes     {} of {}", HumanBytes(self.bytes()), HumanBytes(config.max_bytes))?;
        writeln!(
            out,
            "disk      {} free, of which {} are left alone",
            HumanBytes(self.free_bytes),
            HumanBytes(config.min_free_bytes)
        )?;
        let file = HumanBytes(self.inspection.file_bytes);
        writeln!(out, "file      {} ({file})", visible(&self.path))?;
        if self.inspection.damaged > 0 {
            let damaged = HumanCount(self.inspection.damaged);
            writeln!(out, "damaged   {damaged} messages set aside in the file; docs/SPOOL.md says more")?;
        }
        self.write_state(out)
    }

    fn write_state(&self, out: &mut dyn Write) -> io::Result<()> {
        let then = when_full(self.config.when_full);
        match self.full() {
            _ if !self.config.enabled => writeln!(out, "state     off: spool.enabled is false"),
            Some(limit) => writeln!(out, "state     full ({limit}); spool.when_full is {then}"),
            None => writeln!(out, "state     has room; when full: {then}"),
        }
    }
}

fn topic(topic: &TopicInspection) -> Topic<'_> {
    Topic {
        topic: &topic.topic,
        messages: topic.messages,
        bytes: topic.bytes,
        oldest_at: oldest(topic).map(|at| format!("{at:.3}")),
    }
}

fn oldest(topic: &TopicInspection) -> Option<Timestamp> {
    let ms = i64::try_from(topic.oldest_spooled_ms?).ok()?;
    Timestamp::from_millisecond(ms).ok()
}

fn local_time(at: Timestamp, zone: &TimeZone) -> String {
    at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S %:z").to_string()
}

fn when_full(when_full: WhenFull) -> &'static str {
    match when_full {
        WhenFull::Hold => "hold",
        WhenFull::DropOldest => "drop_oldest",
        WhenFull::DropNewest => "drop_newest",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn config() -> SpoolConfig {
        Config::for_dev().unwrap().spool
    }

    fn inspection(messages: u64, bytes: u64) -> SpoolInspection {
        SpoolInspection {
            topics: vec![TopicInspection {
                topic: "room\u{1b}".to_owned(),
                lanes: 2,
                messages,
                bytes,
                oldest_spooled_ms: Some(1_767_268_800_000),
            }],
            damaged: 1,
            file_bytes: 8192,
        }
    }

    fn text(inspection: &SpoolInspection, config: &SpoolConfig, free_bytes: u64) -> String {
        let view = SpoolView { path: "/data/spool.sqlite3".to_owned(), free_bytes, inspection, config };
        let mut out = Vec::new();
        view.write(&mut out, &TimeZone::UTC).unwrap();
        String::from_utf8(out).unwrap() + &serde_json::to_string(&view.report()).unwrap()
    }

    #[test]
    fn each_limit_that_is_reached_is_named() {
        let (config, plenty) = (config(), 1 << 40);
        let text_of = |messages, bytes, free| text(&inspection(messages, bytes), &config, free);
        assert!(text_of(1, 1, plenty).contains("has room; when full: hold"));
        assert!(!text_of(1, 1, plenty).contains("\"full\""));
        assert!(text_of(1, config.max_bytes, plenty).contains("full (bytes); spool.when_full is hold"));
        assert!(text_of(config.max_messages, 1, plenty).contains("\"full\":\"messages\""));
        assert!(text_of(1, 1, config.min_free_bytes - 1).contains("\"full\":\"disk\""));
        let off = SpoolConfig { enabled: false, ..config.clone() };
        assert!(text(&inspection(1, 1), &off, plenty).contains("spool.enabled is false"));
    }

    #[test]
    fn a_topic_is_shown_with_its_oldest_message_and_cannot_command_a_terminal() {
        let text = text(&inspection(1234, 2048), &config(), 1 << 40);
        for words in [
            "1,234",
            "2.00 KiB",
            "2026-01-01 12:00:00 +00:00",
            "\"oldest_at\":\"2026-01-01T12:00:00.000Z\"",
            "1 messages set aside",
        ] {
            assert!(text.contains(words), "{words:?} is missing in: {text}");
        }
        assert!(!text.contains('\u{1b}'));
    }

    #[test]
    fn an_empty_spool_is_said_to_be_empty() {
        assert!(text(&SpoolInspection::default(), &config(), 1 << 40).starts_with("the spool is empty"));
    }
}
