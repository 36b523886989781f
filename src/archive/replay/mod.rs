//! Plays a history again: at its original pace, faster, slower, or without pauses; and goes on into what is said now.
//!
//! The original pace is the one in which the messages were received, because that is what a listener in the room heard. A
//! message never comes early. If the output is slow, late messages come at once and none is left out. A [`ReplayHandle`] pauses it,
//! moves it and changes its speed; any number of replays run beside each other, each with its own reader, and read no further than their
//! listeners have heard.

mod control;
mod error;
mod feed;
mod output;
pub(super) mod pace;
mod seek;
mod speed;
mod tail;

use std::time::Duration;

use tokio::sync::mpsc;

use super::history::ReadProgress;
use super::missing::Missing;
use super::query::HistoryQuery;
use super::record::Record;
use crate::model::{Clock, MessageId};
use crate::pipeline::ports::ReadError;

pub(crate) use control::{Control, Position, ReplayHandle, ReplayState};
use control::{Driven, handle};
pub(crate) use error::ReplayError;
pub(crate) use feed::Readers;
use feed::{Feed, Next};
#[cfg(test)]
pub(crate) use output::BadPrefix;
pub(crate) use output::{LineOutput, MqttOutput, Prefix, ReplayOutput};
use pace::{Due, Pace};
pub(crate) use speed::{BadSpeed, Speed};

/// A silence longer than this is announced, so that nobody takes it for a hang.
const LONG_PAUSE: Duration = Duration::from_secs(5);
/// Sleep at most so long before looking at the clock again.
const NAP: Duration = Duration::from_millis(500);

/// What to play, and how.
pub(crate) struct ReplayParts<'a> {
    /// Where to read.
    pub readers: Readers<'a>,
    /// The whole range that can be played; without a limit.
    pub query: HistoryQuery,
    /// Where to begin; `None` = with the first message.
    pub start: Option<Position>,
    /// How fast.
    pub speed: Speed,
    /// A silence that was longer lasts so long; `None` = all last as long as they did.
    pub longest_silence: Option<Duration>,
    /// Says what is due.
    pub clock: &'a dyn Clock,
}

/// What a replay reports while it runs.
#[derive(Debug)]
pub(crate) enum ReplayEvent {
    /// A silence of this length begins, longer than [`LONG_PAUSE`].
    Pause(Duration),
    /// So much of the silence that begins is left out.
    LeftOut(Duration),
    /// So many records were played so far.
    Played(u64),
    /// It was paused, resumed, moved, or has another speed.
    Changed(ReplayState),
    /// All that there was has been played; from now on what comes.
    Live,
    /// RocketMQ does not answer; it is asked again.
    Trouble(ReadError),
    /// It was to go on at a message that is not there, and stays where it was.
    NotThere(MessageId),
}

/// Reports to whoever watches.
pub(crate) type Watch<'a> = &'a mut (dyn FnMut(ReplayEvent) + Send);

/// How a replay ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Everything was played.
    Whole,
    /// It was told to stop.
    Stopped,
}

/// One replay; see the head of this file.
pub(crate) struct Replay<'a> {
    readers: Readers<'a>,
    query: HistoryQuery,
    clock: &'a dyn Clock,
    pace: Pace,
    feed: Feed<'a>,
    /// Read, and not yet played.
    held: Option<Box<Record>>,
    begin_ms: Option<u64>,
    played: u64,
    is_live: bool,
    controls: mpsc::Receiver<Control>,
    state: tokio::sync::watch::Sender<ReplayState>,
}

/// Why the replay does not wait any longer.
enum Step {
    Play,
    /// It was moved: another record may be next.
    Moved,
    Stop,
}

impl<'a> Replay<'a> {
    /// Reads what there is, and goes to the start.
    pub(crate) async fn open(
        parts: ReplayParts<'a>,
        progress: &mut (dyn FnMut(ReadProgress) + Send),
    ) -> Result<(Self, ReplayHandle), ReplayError> {
        let ReplayParts { readers, query, start, speed, longest_silence, clock } = parts;
        let feed = Feed::open(readers, query.clone(), progress).await?;
        let total = feed.history().len();
        let (handle, Driven { controls, state }) = handle(ReplayState {
            begin_ms: None,
            position_ms: None,
            played: 0,
            total,
            speed,
            is_paused: false,
            is_live: false,
        });
        let pace = Pace::new(speed, longest_silence);
        let (held, begin_ms, played, is_live) = (None, None, 0, false);
        let mut replay =
            Self { readers, query, clock, pace, feed, held, begin_ms, played, is_live, controls, state };
        replay.read_first().await?;
        if let Some(start) = start {
            replay.go_to(start).await?;
        }
        Ok((replay, handle))
    }

    /// RocketMQ brokers that are away, so that their part is missing; empty unless the query is `partial`.
    pub(crate) fn away(&self) -> impl Iterator<Item = &str> {
        self.feed.history().away()
    }

    /// What was there once and cannot be read any more, so that this may not be all.
    pub(crate) fn missing(&self) -> &[Missing] {
        self.feed.history().missing()
    }

    /// Plays until the end, until it is told to stop, or for ever if it follows.
    pub(crate) async fn run(
        &mut self,
        output: &mut dyn ReplayOutput,
        watch: Watch<'_>,
    ) -> Result<Ended, ReplayError> {
        loop {
            match self.obey_all(watch).await? {
                Step::Stop => return Ok(Ended::Stopped),
                Step::Play | Step::Moved => {}
            }
            if self.held.is_none() {
                match self.read_next(watch).await? {
                    Step::Play => {}
                    Step::Moved => continue,
                    Step::Stop => return Ok(Ended::Stopped),
                }
            }
            let Some(at_ms) = self.held.as_ref().map(|record| record.time_ms) else {
                return Ok(Ended::Whole);
            };
            self.begin_ms.get_or_insert(at_ms);
            match self.wait_for(at_ms, watch).await? {
                Step::Play => {}
                Step::Moved => continue,
                Step::Stop => return Ok(Ended::Stopped),
            }
            let Some(record) = self.held.take() else { continue };
            output.play(&record).await?;
            self.pace.passed(at_ms);
            self.played += 1;
            self.tell_state();
            watch(ReplayEvent::Played(self.played));
        }
    }

    /// Holds the next record; holds none at the end.
    async fn read_next(&mut self, watch: Watch<'_>) -> Result<Step, ReplayError> {
        loop {
            let wait = match self.feed.next().await? {
                Next::Record(record) => {
                    self.held = Some(record);
                    return Ok(Step::Play);
                }
                Next::End => return Ok(Step::Play),
                Next::Nothing(wait) => wait,
                Next::Trouble(error, wait) => {
                    watch(ReplayEvent::Trouble(error));
                    wait
                }
            };
            if !std::mem::replace(&mut self.is_live, true) {
                self.tell_state();
                watch(ReplayEvent::Live);
            }
            tokio::select! {
                biased;
                control = self.control() => match self.obey(control, watch).await? {
                    Step::Play => {}
                    step @ (Step::Moved | Step::Stop) => return Ok(step),
                },
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Until the record of that time is due.
    async fn wait_for(&mut self, at_ms: u64, watch: Watch<'_>) -> Result<Step, ReplayError> {
        let mut is_announced = false;
        loop {
            let due = self.pace.due(at_ms, self.clock.monotonic());
            let nap = match due {
                Due::In(Duration::ZERO) => return Ok(Step::Play),
                Due::In(ahead) => {
                    if !std::mem::replace(&mut is_announced, true) {
                        self.announce(at_ms, ahead, watch);
                    }
                    ahead.min(NAP)
                }
                // Until a control comes.
                Due::Paused => NAP,
            };
            let control = tokio::select! {
                biased;
                control = self.control() => control,
                () = tokio::time::sleep(nap) => continue,
            };
            match self.obey(control, watch).await? {
                Step::Play => {}
                step @ (Step::Moved | Step::Stop) => return Ok(step),
            }
        }
    }

    fn announce(&self, at_ms: u64, ahead: Duration, watch: Watch<'_>) {
        let left_out = self.pace.left_out(at_ms);
        if !left_out.is_zero() {
            watch(ReplayEvent::LeftOut(left_out));
        }
        if ahead > LONG_PAUSE {
            watch(ReplayEvent::Pause(ahead));
        }
    }

    /// The next control. When nobody can give one any more, there is none, and a replay that is paused then ends.
    async fn control(&mut self) -> Control {
        match self.controls.recv().await {
            Some(control) => control,
            None if self.pace.is_paused() => Control::Stop,
            None => std::future::pending().await,
        }
    }

    /// Obeys the controls that wait, also where the replay never waits.
    async fn obey_all(&mut self, watch: Watch<'_>) -> Result<Step, ReplayError> {
        while let Ok(control) = self.controls.try_recv() {
            if let Step::Stop = self.obey(control, watch).await? {
                return Ok(Step::Stop);
            }
        }
        Ok(Step::Play)
    }

    async fn obey(&mut self, control: Control, watch: Watch<'_>) -> Result<Step, ReplayError> {
        let now = self.clock.monotonic();
        let step = match control {
            Control::Stop => return Ok(Step::Stop),
            Control::Pause => {
                self.pace.pause(now);
                Step::Play
            }
            Control::Resume => {
                self.pace.resume(now);
                Step::Play
            }
            Control::Speed(speed) => {
                self.pace.set_speed(speed, now);
                Step::Play
            }
            Control::Seek(position) => {
                self.seek(position, watch).await?;
                Step::Moved
            }
        };
        watch(ReplayEvent::Changed(self.tell_state()));
        Ok(step)
    }

    fn tell_state(&self) -> ReplayState {
        let state = ReplayState {
            begin_ms: self.begin_ms,
            position_ms: self.position_ms(),
            played: self.played,
            total: self.feed.history().len(),
            speed: self.pace.speed(),
            is_paused: self.pace.is_paused(),
            is_live: self.is_live,
        };
        self.state.send_replace(state);
        state
    }

    /// Without a next record it stands at the last one, however long that is ago.
    fn position_ms(&self) -> Option<u64> {
        let next_ms = self.held.as_ref().map_or(0, |record| record.time_ms);
        self.pace.position_ms(next_ms, self.clock.monotonic())
    }
}
