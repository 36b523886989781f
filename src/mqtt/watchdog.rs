//! Notices a connection on which nothing moves, and says when to ping. Counts seconds, so that it needs no clock.

use std::time::Duration;

/// A connection on which nothing has moved for so many keep-alive times counts as dead.
const SILENT_TIMES: u64 = 2;

/// How a connection does, after one more second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Health {
    Well,
    PingDue,
    Dead,
}

/// The seconds since something moved on a connection, and since the last ping.
#[derive(Debug)]
pub(crate) struct Watchdog {
    configured_s: u64,
    keep_alive_s: u64,
    since_ping_s: u64,
    silent_s: u64,
    had_traffic: bool,
}

impl Watchdog {
    pub(crate) fn new(keep_alive: Duration) -> Self {
        let keep_alive_s = keep_alive.as_secs();
        Self { configured_s: keep_alive_s, keep_alive_s, since_ping_s: 0, silent_s: 0, had_traffic: false }
    }

    /// A new connection, whose broker may ask for a shorter keep-alive.
    pub(crate) fn connected(&mut self, server_keep_alive_s: Option<u16>) {
        let asked_s = server_keep_alive_s.map_or(0, u64::from);
        *self = Self::new(Duration::from_secs(self.configured_s));
        if asked_s > 0 {
            self.keep_alive_s = asked_s.min(self.configured_s);
        }
    }

    /// Something was read from the connection.
    pub(crate) fn note_traffic(&mut self) {
        self.had_traffic = true;
    }

    /// `reading`: we read what the broker sends. `writes_stand`: something waits to be written and nothing has left.
    pub(crate) fn second_passed(&mut self, reading: bool, writes_stand: bool) -> Health {
        let alive = (self.had_traffic || !reading) && !writes_stand;
        self.had_traffic = false;
        self.silent_s = if alive { 0 } else { self.silent_s + 1 };
        if self.silent_s > SILENT_TIMES * self.keep_alive_s {
            return Health::Dead;
        }
        self.since_ping_s += 1;
        // Pings leave one second early, because a tick may come a little late.
        if self.since_ping_s + 1 >= self.keep_alive_s {
            self.since_ping_s = 0;
            return Health::PingDue;
        }
        Health::Well
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEP_ALIVE_S: u64 = 5;

    fn seconds_until(watchdog: &mut Watchdog, wanted: Health, reading: bool, writes_stand: bool) -> u64 {
        (1..100).find(|_| watchdog.second_passed(reading, writes_stand) == wanted).unwrap_or(100)
    }

    fn watchdog() -> Watchdog {
        Watchdog::new(Duration::from_secs(KEEP_ALIVE_S))
    }

    #[test]
    fn pings_leave_within_the_keep_alive_time_that_the_broker_asks_for() {
        assert_eq!(seconds_until(&mut watchdog(), Health::PingDue, true, false), 4);
        let mut asked = watchdog();
        asked.connected(Some(3));
        assert_eq!(seconds_until(&mut asked, Health::PingDue, true, false), 2);
        asked.connected(Some(0));
        assert_eq!(seconds_until(&mut asked, Health::PingDue, true, false), 4);
    }

    #[test]
    fn silence_of_twice_the_keep_alive_time_is_death_and_a_word_is_life() {
        let mut watchdog = watchdog();
        for _ in 0..2 * KEEP_ALIVE_S {
            assert_ne!(watchdog.second_passed(true, false), Health::Dead);
        }
        watchdog.note_traffic();
        assert_eq!(seconds_until(&mut watchdog, Health::Dead, true, false), 2 * KEEP_ALIVE_S + 2);
    }

    #[test]
    fn who_is_not_read_is_not_silent_but_must_read_us() {
        assert_eq!(seconds_until(&mut watchdog(), Health::Dead, false, false), 100);
        assert_eq!(seconds_until(&mut watchdog(), Health::Dead, false, true), 2 * KEEP_ALIVE_S + 1);
    }
}
