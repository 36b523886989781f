//! `roombridge replay`: plays a room again, to the terminal or to MQTT.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use indicatif::ProgressBar;
use jiff::tz::TimeZone;

use super::history::{RangeArgs, open_history};
use super::output::{Stdout, aside, progress_bar};
use super::target::{Target, TargetArgs};
use crate::archive::{
    History, HistoryQuery, LineOutput, MqttOutput, Prefix, ReplayError, ReplayEvent, ReplayOutput, Speed,
    replay,
};
use crate::model::SystemClock;
use crate::mqtt::ReplayPublisher;
use crate::pipeline::ports::Reader;

const EXAMPLES: &str = "\
Examples:
  roombridge replay 123456                          at the original pace, to the terminal
  roombridge replay 123456 --speed x4               four times as fast
  roombridge replay 123456 --to-mqtt replay         to MQTT: room/message/123456 comes on replay/room/message/123456

A message replayed to MQTT keeps its payload, user properties and content type. It has the user property rbReplay with
the id of the original, and no message expiry. A prefix is refused if roombridge would store its topics again.";

const QOS_0_ONLY: &str = "the MQTT broker allows QoS 0 only: the replay is published with QoS 0, and what is lost on its way \
                          is not sent again";

const BAR: &str = "replaying  {bar:40} {pos} of {len}  {elapsed}  {msg}";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ReplayArgs {
    /// The room, as it stands in the MQTT topic.
    room: String,
    /// 1 is the original pace; 4 or x4 is four times as fast; max makes no pauses.
    #[arg(long, default_value = "1", value_name = "FACTOR")]
    speed: Speed,
    #[command(flatten)]
    range: RangeArgs,
    /// Publish on MQTT with QoS 1 instead of writing lines: each message on PREFIX/{its topic}.
    #[arg(long, value_name = "PREFIX")]
    to_mqtt: Option<String>,
    /// Print one JSON object per line, with the fields of `roombridge history --json`.
    #[arg(long, conflicts_with = "to_mqtt")]
    json: bool,
    #[command(flatten)]
    target: TargetArgs,
}

pub(crate) async fn run(arguments: ReplayArgs) -> anyhow::Result<ExitCode> {
    let target = arguments.target.find().await?;
    let query = arguments.range.query(&target, Some(&arguments.room), None, None)?;
    let prefix = arguments.to_mqtt.as_deref().map(|text| prefix(&target, text)).transpose()?;
    let sources = target.sources()?;
    let played = play(&arguments, &target, sources.reader(), query, prefix).await;
    sources.tell_lost().await;
    match (played?, &arguments.to_mqtt) {
        (0, _) => aside(format_args!("nothing found for {}", arguments.room)),
        (1, Some(prefix)) => aside(format_args!("1 message published under {prefix}/")),
        (count, Some(prefix)) => aside(format_args!("{count} messages published under {prefix}/")),
        (_, None) => {}
    }
    Ok(ExitCode::SUCCESS)
}

fn prefix(target: &Target, text: &str) -> anyhow::Result<Prefix> {
    let rules = target.rules()?;
    Ok(Prefix::new(text, rules.filters())?)
}

async fn play(
    arguments: &ReplayArgs,
    target: &Target,
    reader: &dyn Reader,
    query: HistoryQuery,
    prefix: Option<Prefix>,
) -> anyhow::Result<u64> {
    let mut history = open_history(reader, query).await?;
    let bar = progress_bar(BAR);
    bar.set_length(history.len());
    let played = match prefix {
        Some(prefix) => {
            let mut publisher = ReplayPublisher::connect(&target.config.mqtt).await?;
            if !publisher.is_acknowledged() {
                bar.suspend(|| aside(QOS_0_ONLY));
            }
            let mut output = MqttOutput { publisher: &mut publisher, prefix };
            let played = play_to(&mut history, arguments.speed, &mut output, &bar).await;
            publisher.disconnect().await;
            played
        }
        None => {
            let mut out = BesideBar { bar: bar.clone(), line: Vec::new() };
            let mut output = LineOutput { out: &mut out, json: arguments.json, zone: TimeZone::system() };
            play_to(&mut history, arguments.speed, &mut output, &bar).await
        }
    };
    bar.finish_and_clear();
    Ok(played?)
}

async fn play_to(
    history: &mut History<'_>,
    speed: Speed,
    output: &mut dyn ReplayOutput,
    bar: &ProgressBar,
) -> Result<u64, ReplayError> {
    let bar = bar.clone();
    let mut watch = move |event| match event {
        ReplayEvent::Pause(length) => bar.set_message(format!("(pause of {} s)", whole_seconds(length))),
        ReplayEvent::Played(count) => {
            bar.set_message("");
            bar.set_position(count);
        }
    };
    replay(history, speed, &SystemClock::default(), output, &mut watch).await
}

fn whole_seconds(length: Duration) -> u64 {
    length.as_secs_f64().round() as u64
}

/// Standard output, line by line. The progress bar is hidden while a line is written.
struct BesideBar {
    bar: ProgressBar,
    line: Vec<u8>,
}

impl Write for BesideBar {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.line.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let line = std::mem::take(&mut self.line);
        self.bar.suspend(|| {
            Stdout.write_all(&line)?;
            Stdout.flush()
        })
    }
}
