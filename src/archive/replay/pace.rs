//! Says when each message of a replay is due. Pure: the caller tells the time.
//!
//! A replay has a time of its own, the played time: the original one, in which each silence lasts at most as long as is wanted. What is
//! due when is computed from one anchor, the moment of the last change, and not from the message before: so nothing adds up over hours,
//! and a message that was late makes no other one late.

use std::time::Duration;

use super::speed::Speed;

/// One replay's pace. All moments are those of a monotonic clock.
#[derive(Debug)]
pub(in crate::archive) struct Pace {
    speed: Speed,
    /// A silence that was longer lasts so long; `None` = all last as long as they did.
    longest_silence: Option<Duration>,
    /// `None`: the next message begins the replay.
    anchor: Option<Anchor>,
    /// `None`: no message was played, and nobody said where to begin.
    latest: Option<Stand>,
    /// Since when it rests.
    paused: Option<Duration>,
}

/// At this moment the played time was this.
#[derive(Debug, Clone, Copy)]
struct Anchor {
    moment: Duration,
    played: Duration,
}

/// How far it is.
#[derive(Debug, Clone, Copy)]
struct Stand {
    played: Duration,
    /// The latest original time so far, milliseconds since 1970-01-01 UTC. It never goes back, even if the clock of a broker did.
    at_ms: u64,
}

/// When a message is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::archive) enum Due {
    /// After this time; zero = now.
    In(Duration),
    /// When somebody goes on.
    Paused,
}

impl Pace {
    pub(crate) fn new(speed: Speed, longest_silence: Option<Duration>) -> Self {
        Self { speed, longest_silence, anchor: None, latest: None, paused: None }
    }

    /// The replay goes on from this original time, at once; `None`: from the next message.
    pub(crate) fn begin_at(&mut self, at_ms: Option<u64>) {
        let played = self.latest.map_or(Duration::ZERO, |latest| latest.played);
        self.latest = at_ms.map(|at_ms| Stand { played, at_ms });
        self.anchor = None;
    }

    /// When the message of that original time is due.
    pub(crate) fn due(&mut self, at_ms: u64, now: Duration) -> Due {
        let latest = *self.latest.get_or_insert(Stand { played: Duration::ZERO, at_ms });
        let anchor = *self.anchor.get_or_insert(Anchor { moment: now, played: latest.played });
        if self.paused.is_some() {
            return Due::Paused;
        }
        let Speed::Times(_) = self.speed else {
            return Due::In(Duration::ZERO);
        };
        let played = latest.played.saturating_add(self.silence(latest, at_ms));
        let due = anchor.moment.saturating_add(self.speed.scaled(played.saturating_sub(anchor.played)));
        Due::In(due.saturating_sub(now))
    }

    /// How much of the silence before that message is left out.
    pub(crate) fn left_out(&self, at_ms: u64) -> Duration {
        let Some(latest) = self.latest else { return Duration::ZERO };
        whole_silence(latest, at_ms).saturating_sub(self.silence(latest, at_ms))
    }

    /// The message of that original time was played.
    pub(crate) fn passed(&mut self, at_ms: u64) {
        let Some(latest) = self.latest else { return };
        let played = latest.played.saturating_add(self.silence(latest, at_ms));
        self.latest = Some(Stand { played, at_ms: latest.at_ms.max(at_ms) });
    }

    /// Where it is now in the original time; `next_ms`: that of the next message, which it has not reached.
    pub(crate) fn position_ms(&self, next_ms: u64, now: Duration) -> Option<u64> {
        let latest = self.latest?;
        let since = self.played_at(now).saturating_sub(latest.played).as_millis() as u64;
        Some(latest.at_ms.saturating_add(since).min(next_ms.max(latest.at_ms)))
    }

    pub(crate) fn speed(&self) -> Speed {
        self.speed
    }

    pub(crate) fn set_speed(&mut self, speed: Speed, now: Duration) {
        if self.anchor.is_some() {
            let moment = self.paused.unwrap_or(now);
            self.anchor = Some(Anchor { moment, played: self.played_at(now) });
        }
        self.speed = speed;
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused.is_some()
    }

    pub(crate) fn pause(&mut self, now: Duration) {
        self.paused.get_or_insert(now);
    }

    pub(crate) fn resume(&mut self, now: Duration) {
        let Some(since) = self.paused.take() else { return };
        if let Some(anchor) = &mut self.anchor {
            // An anchor that was set during the pause has seen a part of it only.
            let rested = now.saturating_sub(since.max(anchor.moment));
            anchor.moment = anchor.moment.saturating_add(rested);
        }
    }

    fn played_at(&self, now: Duration) -> Duration {
        let latest = self.latest.map_or(Duration::ZERO, |latest| latest.played);
        let (Some(anchor), Speed::Times(_)) = (self.anchor, self.speed) else {
            return latest;
        };
        let gone = self.paused.unwrap_or(now).saturating_sub(anchor.moment);
        anchor.played.saturating_add(self.speed.gone_by(gone))
    }

    fn silence(&self, latest: Stand, at_ms: u64) -> Duration {
        let whole = whole_silence(latest, at_ms);
        self.longest_silence.map_or(whole, |longest| whole.min(longest))
    }
}

fn whole_silence(latest: Stand, at_ms: u64) -> Duration {
    Duration::from_millis(at_ms.saturating_sub(latest.at_ms))
}
