//! Notices a broker that hangs up again and again right after it has let us in. That is what one of two clients sees that have
//! the same client id and throw each other out.
//!
//! Some brokers do not tell the loser that its session was taken: Mosquitto 2.0.11 only hangs up. A hang-up may have other causes,
//! so the bridge does not stay away: it connects again, after longer pauses, and `/readyz` and the log say so.

use std::time::Duration;

use tokio::time::Instant;

/// A connection that lived so long was not cut off at its beginning. Longer than the longest pause of a reconnect.
const LASTING: Duration = Duration::from_secs(5);
/// After so many short connections in a row, another client may be using our client id.
const SUSPICIOUS: u32 = 5;

/// Since when there is a connection, and how many short ones in a row came before it.
#[derive(Debug, Default)]
pub(crate) struct HangUps {
    connected: Option<Instant>,
    in_a_row: u32,
}

impl HangUps {
    pub(crate) fn connected(&mut self) {
        self.connected = Some(Instant::now());
    }

    /// The connection was lost, or none was made.
    pub(crate) fn lost(&mut self) {
        let was_short = self.connected.take().is_some_and(|since| since.elapsed() < LASTING);
        self.in_a_row = if was_short { self.in_a_row + 1 } else { 0 };
    }

    pub(crate) fn are_suspicious(&self) -> bool {
        self.in_a_row >= SUSPICIOUS
    }

    /// True once, when a connection lasts after suspicious ones.
    pub(crate) fn are_over(&mut self) -> bool {
        let lasts = self.connected.is_some_and(|since| since.elapsed() >= LASTING);
        let over = lasts && self.are_suspicious();
        if lasts {
            self.in_a_row = 0;
        }
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn five_short_connections_in_a_row_are_suspicious_until_one_lasts() {
        let mut hang_ups = HangUps::default();
        for _ in 0..5 {
            assert!(!hang_ups.are_suspicious());
            hang_ups.connected();
            tokio::time::advance(Duration::from_secs(1)).await;
            hang_ups.lost();
        }
        assert!(hang_ups.are_suspicious() && !hang_ups.are_over());

        hang_ups.connected();
        tokio::time::advance(LASTING).await;
        assert!(hang_ups.are_over() && !hang_ups.are_over());
        assert!(!hang_ups.are_suspicious());
    }

    #[tokio::test(start_paused = true)]
    async fn a_broker_that_is_away_is_not_suspicious() {
        let mut hang_ups = HangUps::default();
        for _ in 0..20 {
            hang_ups.connected();
            hang_ups.lost();
            hang_ups.lost();
        }
        assert!(!hang_ups.are_suspicious());
    }
}
