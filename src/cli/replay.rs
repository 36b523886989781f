//! `roombridge replay`: plays a room again, to the terminal or to MQTT.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use indicatif::ProgressBar;
use jiff::SignedDuration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::history::{RangeArgs, searching, withheld_by};
use super::keyboard::{Key, Keyboard};
use super::lesson_choice::LessonArgs;
use super::missing::MissingJson;
use super::output::{Stdout, aside, is_read_at_once, progress_bar};
use super::target::{Sources, Target, TargetArgs};
use super::times::{local_zone, moment_ms};
use super::{INCOMPLETE, STOPPED_EARLY};
use crate::archive::{
    Control, Ended, HistoryQuery, LineOutput, MqttOutput, Position, Prefix, Readers, Replay, ReplayError,
    ReplayEvent, ReplayHandle, ReplayOutput, ReplayParts, Speed,
};
use crate::model::SystemClock;
use crate::mqtt::ReplayPublisher;

const EXAMPLES: &str = "\
Examples:
  roombridge replay 123456                          at the original pace, to the terminal
  roombridge replay 123456 --speed x4               four times as fast
  roombridge replay 123456 --lesson last --start +12m30s --skip-silence 10s
                                                    the last lesson from its minute 12:30; no pause is longer than 10 s
  roombridge replay 123456 --from 10m --speed max --follow
                                                    the last ten minutes, and then what is said now
  roombridge replay 123456 --to-mqtt replay         to MQTT: room/message/123456 comes on replay/room/message/123456

Keys, if standard input is a terminal: space pauses and goes on, left and right move by 10 s, up and down double and halve
the speed, q ends.

A message replayed to MQTT keeps its payload, user properties and content type. It has the user property rbReplay with
the id of the original, and no message expiry. A prefix is refused if roombridge would store its topics again.";

const KEYS: &str = "keys: space pause, left/right 10 s, up/down speed, q end";

const QOS_0_ONLY: &str = "the MQTT broker allows QoS 0 only: the replay is published with QoS 0, and what is lost on its way \
                          is not sent again";

const BAR: &str = "replaying  {bar:40} {pos} of {len}  {elapsed}  {msg}";
/// What an arrow moves by.
const STEP_MS: i64 = 10_000;

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ReplayArgs {
    /// The room, as it stands in the MQTT topic.
    room: String,
    /// 1 is the original pace; 4 or x4 is four times as fast; max makes no pauses.
    #[arg(long, default_value = "1", value_name = "FACTOR")]
    speed: Speed,
    /// Begin there: +12m30s after the first message, at a time (written like --from), or at a message id.
    #[arg(long, value_name = "PLACE", value_parser = place, allow_hyphen_values = true)]
    start: Option<Position>,
    /// Shorten each pause that is longer than this, for example 10s.
    #[arg(long, value_name = "LENGTH", value_parser = length)]
    skip_silence: Option<Duration>,
    /// Go on with what is said now, until Ctrl-C.
    #[arg(long, conflicts_with_all = ["to", "partial"])]
    follow: bool,
    #[command(flatten)]
    lesson: LessonArgs,
    #[command(flatten)]
    range: RangeArgs,
    /// Publish on MQTT with QoS 1 instead of writing lines: each message on PREFIX/{its topic}.
    #[arg(long, value_name = "PREFIX")]
    to_mqtt: Option<String>,
    /// Print one JSON object per line, with the fields of `roombridge history --json`; what is missing comes first, as there.
    #[arg(long, conflicts_with = "to_mqtt")]
    json: bool,
    #[command(flatten)]
    target: TargetArgs,
}

pub(crate) async fn run(arguments: ReplayArgs) -> anyhow::Result<ExitCode> {
    let target = arguments.target.find().await?;
    let mut query = arguments.range.of_room(&target, &arguments.room)?;
    let prefix = arguments.to_mqtt.as_deref().map(|text| prefix(&target, text)).transpose()?;
    let sources = target.sources()?;
    arguments.lesson.narrow(&mut query, &target, &sources, &arguments.room, arguments.follow).await?;
    let Played { count, code } = play(&arguments, &target, &sources, query, prefix).await?;
    match (count, &arguments.to_mqtt) {
        (0, _) => aside(format_args!("nothing found for {}", arguments.room)),
        (1, Some(prefix)) => aside(format_args!("1 message published under {prefix}/")),
        (count, Some(prefix)) => aside(format_args!("{count} messages published under {prefix}/")),
        (_, None) => {}
    }
    Ok(code)
}

fn prefix(target: &Target, text: &str) -> anyhow::Result<Prefix> {
    let rules = target.rules()?;
    Ok(Prefix::new(text, rules.filters())?)
}

/// What became of it.
struct Played {
    count: u64,
    code: ExitCode,
}

async fn play(
    arguments: &ReplayArgs,
    target: &Target,
    sources: &Sources,
    query: HistoryQuery,
    prefix: Option<Prefix>,
) -> anyhow::Result<Played> {
    let clock = SystemClock::default();
    let parts = ReplayParts {
        readers: Readers {
            until_now: sources.reader(),
            follow: arguments.follow.then_some(sources.rocketmq()),
        },
        query,
        start: arguments.start,
        speed: arguments.speed,
        longest_silence: arguments.skip_silence,
        clock: &clock,
    };
    let opened = searching(async |progress| Replay::open(parts, progress).await).await;
    let opened = opened.map_err(as_of_a_history);
    if arguments.json {
        let missing = match &opened {
            Ok((replay, _)) => MissingJson::of(replay.missing(), replay.away()),
            Err(error) => MissingJson::of(withheld_by(error), std::iter::empty()),
        };
        if !missing.is_nothing() {
            writeln!(Stdout, "{}", serde_json::to_string(&missing)?)?;
        }
    }
    let (mut replay, handle) = opened?;
    for broker in replay.away() {
        aside(format_args!("RocketMQ broker {broker} is away: what it holds of this is missing"));
    }
    for missing in replay.missing() {
        aside(missing);
    }
    let is_whole = replay.missing().is_empty() && replay.away().next().is_none();
    let bar = progress_bar(BAR);
    bar.set_length(handle.state().total);
    let played = match prefix {
        Some(prefix) => {
            let mut publisher = ReplayPublisher::connect(&target.config.mqtt).await?;
            if !publisher.is_acknowledged() {
                bar.suspend(|| aside(QOS_0_ONLY));
            }
            let mut output = MqttOutput { publisher: &mut publisher, prefix };
            let played = play_to(&mut replay, &handle, &mut output, &bar).await;
            publisher.disconnect().await;
            played
        }
        None => {
            let mut out = BesideBar { bar: bar.clone(), line: Vec::new() };
            let mut output = LineOutput { out: &mut out, json: arguments.json, zone: local_zone() };
            play_to(&mut replay, &handle, &mut output, &bar).await
        }
    };
    bar.finish_and_clear();
    let Played { count, code } = played?;
    let is_to_tell = !is_whole && code == ExitCode::SUCCESS;
    Ok(Played { count, code: if is_to_tell { ExitCode::from(INCOMPLETE) } else { code } })
}

/// The error of a replay; that of its history is where [`withheld_by`] looks for it.
fn as_of_a_history(error: ReplayError) -> anyhow::Error {
    match error {
        ReplayError::History(error) => error.into(),
        ReplayError::Read(_)
        | ReplayError::Cut { .. }
        | ReplayError::NoSuchMessage(_)
        | ReplayError::Write(_)
        | ReplayError::Publish(_) => error.into(),
    }
}

async fn play_to(
    replay: &mut Replay<'_>,
    handle: &ReplayHandle,
    output: &mut dyn ReplayOutput,
    bar: &ProgressBar,
) -> anyhow::Result<Played> {
    let keyboard = Keyboard::open();
    if keyboard.is_some() && is_read_at_once() {
        bar.suspend(|| aside(KEYS));
    }
    let (quit, driving) = drive(keyboard, handle.clone())?;
    let mut shown = Shown::new(bar.clone());
    let ended = replay.run(output, &mut |event| shown.show(event)).await;
    driving.abort();
    // The terminal is as it was when its keyboard is dropped, which must not come after the end of the process.
    let _ = driving.await;
    shown.tell_left_out();
    let state = handle.state();
    let code = match ended? {
        Ended::Stopped if !quit.is_cancelled() && !state.is_live => {
            let at = state.position_ms.zip(state.begin_ms).map_or(0, |(at, begin)| at.saturating_sub(begin));
            aside(format_args!("stopped; --start +{} goes on from there", spelled(at)));
            ExitCode::from(STOPPED_EARLY)
        }
        Ended::Stopped | Ended::Whole => ExitCode::SUCCESS,
    };
    Ok(Played { count: state.played, code })
}

type Driving = (CancellationToken, JoinHandle<()>);

/// Passes keys and signals on to the replay; the token says that it was a key that ended it. A second signal ends the process, because
/// the output may hang.
fn drive(mut keyboard: Option<Keyboard>, handle: ReplayHandle) -> anyhow::Result<Driving> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let quit = CancellationToken::new();
    let told = quit.clone();
    let restore = keyboard.as_ref().map(Keyboard::restorer);
    let driving = tokio::spawn(async move {
        let mut is_stopping = false;
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                key = next_key(&mut keyboard) => {
                    if key == Some(Key::Quit) {
                        told.cancel();
                    }
                    if !pressed(key, &handle).await {
                        keyboard = None;
                    }
                    continue;
                }
            }
            if std::mem::replace(&mut is_stopping, true) {
                if let Some(restore) = &restore {
                    restore();
                }
                std::process::exit(i32::from(STOPPED_EARLY));
            }
            let handle = handle.clone();
            tokio::spawn(async move { handle.tell(Control::Stop).await });
        }
    });
    Ok((quit, driving))
}

async fn next_key(keyboard: &mut Option<Keyboard>) -> Option<Key> {
    match keyboard {
        Some(keyboard) => keyboard.next().await,
        None => std::future::pending().await,
    }
}

/// `false`: no more keys come.
async fn pressed(key: Option<Key>, handle: &ReplayHandle) -> bool {
    let state = handle.state();
    let Some(key) = key else { return false };
    let control = match key {
        Key::Space if state.is_paused => Control::Resume,
        Key::Space => Control::Pause,
        Key::Left => Control::Seek(Position::By(-STEP_MS)),
        Key::Right => Control::Seek(Position::By(STEP_MS)),
        Key::Up => Control::Speed(state.speed.times(2.0)),
        Key::Down => Control::Speed(state.speed.times(0.5)),
        Key::Quit => Control::Stop,
    };
    handle.tell(control).await
}

/// What the bar shows, and what is said at the end.
struct Shown {
    bar: ProgressBar,
    shortened: u64,
    left_out: Duration,
    is_in_trouble: bool,
}

impl Shown {
    fn new(bar: ProgressBar) -> Self {
        Self { bar, shortened: 0, left_out: Duration::ZERO, is_in_trouble: false }
    }

    fn show(&mut self, event: ReplayEvent) {
        match event {
            ReplayEvent::Pause(length) => {
                self.bar.set_message(format!("(pause of {} s)", whole_seconds(length)));
            }
            ReplayEvent::LeftOut(length) => {
                self.shortened += 1;
                self.left_out += length;
            }
            ReplayEvent::Played(count) => {
                self.is_in_trouble = false;
                self.bar.set_message("");
                self.bar.set_position(count);
            }
            ReplayEvent::Changed(state) => {
                let at = state.position_ms.zip(state.begin_ms).map(|(at, begin)| at.saturating_sub(begin));
                let rests = if state.is_paused { "paused" } else { "playing" };
                self.bar.set_length(state.total.max(state.played));
                self.bar.set_message(format!("({rests} at {}, {})", spelled(at.unwrap_or(0)), state.speed));
            }
            ReplayEvent::Live => self.bar.set_message("(live)"),
            ReplayEvent::Trouble(error) => {
                if !std::mem::replace(&mut self.is_in_trouble, true) {
                    self.bar.suspend(|| aside(format_args!("{error}; trying again")));
                }
            }
            ReplayEvent::NotThere(id) => self.bar.set_message(format!("(no message {id})")),
        }
    }

    fn tell_left_out(&self) {
        let seconds = whole_seconds(self.left_out);
        match self.shortened {
            0 => {}
            1 => aside(format_args!("1 pause was shortened by {seconds} s")),
            count => aside(format_args!("{count} pauses were shortened, by {seconds} s in all")),
        }
    }
}

/// `12m30s`, as --start takes it.
fn spelled(ms: u64) -> String {
    match (ms / 60_000, ms / 1000 % 60) {
        (0, seconds) => format!("{seconds}s"),
        (minutes, seconds) => format!("{minutes}m{seconds}s"),
    }
}

fn place(text: &str) -> Result<Position, String> {
    if let Some(offset) = text.strip_prefix('+') {
        return length(offset).map(Position::Offset);
    }
    if let Ok(id) = text.parse() {
        return Ok(Position::Message(id));
    }
    moment_ms(text)
        .map(Position::At)
        .map_err(|error| format!("{error}; or a length after the first message (+12m30s), or a message id"))
}

fn length(text: &str) -> Result<Duration, String> {
    let length = text.parse::<SignedDuration>().ok().and_then(|length| Duration::try_from(length).ok());
    length.ok_or_else(|| "write a length such as 10s, 12m30s or 1h".to_owned())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::{HistoryError, Missing};
    use crate::model::QueueName;

    /// A program reads nothing else of a replay that is refused.
    #[test]
    fn what_a_replay_is_refused_for_is_found_for_programs_as_that_of_a_history() {
        let missing_of = |error: ReplayError| {
            let error = as_of_a_history(error);
            MissingJson::of(withheld_by(&error), std::iter::empty())
        };
        let queue = QueueName { broker: "a".into(), id: 7 };
        let (topic, queues) = ("room".to_owned(), vec![queue]);
        let withheld = Missing::Withheld { topic, queues, messages: 5, may_be_read: true };
        let refused = missing_of(HistoryError::Withheld(withheld).into());
        assert_eq!(refused, MissingJson { not_handed_out: 5, ..MissingJson::default() });
        assert!(missing_of(HistoryError::TooMany.into()).is_nothing());
        assert!(missing_of(io::Error::from(io::ErrorKind::BrokenPipe).into()).is_nothing());
    }

    #[test]
    fn a_place_is_a_length_a_time_or_a_message() {
        assert_eq!(place("+12m30s"), Ok(Position::Offset(Duration::from_secs(750))));
        assert_eq!(place("+1h"), Ok(Position::Offset(Duration::from_secs(3600))));
        assert_eq!(place("2026-11-24T10:00:00Z"), Ok(Position::At(1_795_514_400_000)));
        assert!(matches!(place("00000000000000aa-1"), Ok(Position::Message(_))));
        for wrong in ["+", "+-10s", "+x", "tomorrow", ""] {
            assert!(place(wrong).is_err(), "{wrong}");
        }
        // What is told at a stop is what --start takes.
        for ms in [0, 59_000, 750_000, 7_200_000] {
            assert_eq!(place(&format!("+{}", spelled(ms))), Ok(Position::Offset(Duration::from_millis(ms))));
        }
    }
}
