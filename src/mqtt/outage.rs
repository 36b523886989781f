//! What an outage of the MQTT broker is to people: one line for each cause, one when it is over, and a count.
//!
//! An outage begins when a connection is lost or none can be made, and is over when one lasts. Until then the same cause is told
//! once, however often it comes: a broker that disconnects us after each connection would otherwise write the log full.
//!
//! It also notices a broker that hangs up again and again right after it has let us in. That is what one of two clients sees that
//! have the same client id and throw each other out. Some brokers do not tell the loser that its session was taken: Mosquitto
//! 2.0.11 only hangs up. A hang-up may have other causes, so the bridge does not stay away: it connects again, after longer
//! pauses, and `/readyz` and the log say so.

use std::time::Duration;

use tokio::time::Instant;

use super::connection::LinkError;
use super::wire::Goodbye;

/// A connection that lived so long was not cut off at its beginning. Longer than the longest pause of a reconnect.
const LASTING: Duration = Duration::from_secs(5);
/// After so many short connections in a row, another client may be using our client id.
const SUSPICIOUS: u32 = 5;
/// So many causes of one outage are told. More would come from a broker whose words differ each time.
const CAUSES: usize = 20;

/// The outage that goes on, if one does.
#[derive(Debug, Default)]
pub(crate) struct Outage {
    connected: Option<Instant>,
    /// Short connections in a row.
    short: u32,
    /// Attempts that failed and connections that were lost.
    failures: u32,
    told: Vec<String>,
    /// The outage had a connection, and that was told.
    connection_told: bool,
}

/// An outage that is over.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Over {
    pub failures: u32,
    pub was_suspicious: bool,
}

impl Outage {
    /// There is a connection. The failures before it, if it is to be told.
    pub(crate) fn connected(&mut self) -> Option<u32> {
        self.connected = Some(Instant::now());
        let is_news = self.failures == 0 || !self.connection_told;
        self.connection_told = true;
        is_news.then_some(self.failures)
    }

    /// The connection was lost, or none was made. True if that is to be told.
    pub(crate) fn failed(&mut self, cause: &str) -> bool {
        let lived = self.connected.take().map(|since| since.elapsed());
        if lived.is_some_and(|lived| lived >= LASTING) || self.failures == 0 {
            *self = Self::default();
        }
        let was_short = lived.is_some_and(|lived| lived < LASTING);
        self.short = if was_short { self.short + 1 } else { 0 };
        self.failures += 1;
        let is_news = self.told.len() < CAUSES && !self.told.iter().any(|told| told == cause);
        if is_news {
            self.told.push(cause.to_owned());
        }
        is_news
    }

    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    pub(crate) fn is_suspicious(&self) -> bool {
        self.short >= SUSPICIOUS
    }

    /// Says once that it is over, when a connection lasts.
    pub(crate) fn over(&mut self) -> Option<Over> {
        let lasts = self.connected.is_some_and(|since| since.elapsed() >= LASTING);
        if !lasts || self.failures == 0 {
            return None;
        }
        let over = Over { failures: self.failures, was_suspicious: self.is_suspicious() };
        *self = Self { connected: self.connected, ..Self::default() };
        Some(over)
    }
}

/// The error, and the filters whose SUBSCRIBE had no answer when it came.
pub(crate) fn with_unanswered(error: &LinkError, filters: &[String]) -> String {
    match filters {
        [] => error.to_string(),
        _ => format!("{error}; it had not answered the SUBSCRIBE to {}", filters.join(", ")),
    }
}

/// The broker gave our session to another client.
pub(crate) fn taken_over(goodbye: &Goodbye) -> String {
    format!(
        "another client took the MQTT session over (same client id; the broker says {}); stop it, then send SIGHUP to connect again",
        goodbye.reason
    )
}

/// What five short connections in a row may mean. Only a hang-up without a word may be a fight over the client id.
pub(crate) fn suspicion(last: &LinkError) -> String {
    match last {
        LinkError::Closed | LinkError::Io(_) => {
            "the MQTT broker hangs up right after each connection; find out whether another client uses our mqtt.client_id"
                .to_owned()
        }
        LinkError::Disconnected(goodbye) => {
            format!("the MQTT broker disconnects us right after each connection: {goodbye}")
        }
        other => format!("each connection to the MQTT broker is lost right after it began: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn five_short_connections_in_a_row_are_suspicious_until_one_lasts() {
        let mut outage = Outage::default();
        for _ in 0..5 {
            assert!(!outage.is_suspicious());
            outage.connected();
            tokio::time::advance(Duration::from_secs(1)).await;
            outage.failed("cut");
        }
        assert!(outage.is_suspicious());

        outage.connected();
        assert_eq!(outage.over(), None);
        tokio::time::advance(LASTING).await;
        assert_eq!(outage.over(), Some(Over { failures: 5, was_suspicious: true }));
        assert!(outage.over().is_none() && !outage.is_suspicious());
    }

    #[tokio::test(start_paused = true)]
    async fn a_broker_that_is_away_is_not_suspicious() {
        let mut outage = Outage::default();
        for _ in 0..20 {
            outage.connected();
            outage.failed("cut");
            outage.failed("refused");
        }
        assert!(!outage.is_suspicious());
    }

    #[tokio::test(start_paused = true)]
    async fn each_cause_and_each_change_is_told_once_with_a_count() {
        let mut outage = Outage::default();
        assert_eq!(outage.connected(), Some(0), "the first connection");
        tokio::time::advance(LASTING).await;
        assert_eq!(outage.over(), None, "there was no outage");

        let told: Vec<bool> =
            ["cut", "refused", "refused", "cut", "busy"].map(|cause| outage.failed(cause)).to_vec();
        assert_eq!(told, [true, true, false, false, true]);
        assert_eq!(outage.connected(), Some(5), "there is a connection again");
        assert!(!outage.failed("cut"));
        assert_eq!(outage.connected(), None, "it comes and goes");

        tokio::time::advance(LASTING).await;
        assert_eq!(outage.over(), Some(Over { failures: 6, was_suspicious: false }));
        assert!(outage.failed("cut"), "the next outage is told anew");
        assert_eq!(outage.connected(), Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_lasted_ends_an_outage_also_if_it_is_lost_before_anybody_asks() {
        let mut outage = Outage::default();
        assert!(outage.failed("cut"));
        outage.connected();
        tokio::time::advance(LASTING).await;
        assert!(outage.failed("cut"), "another outage");
        assert_eq!(outage.failures(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn words_that_differ_each_time_do_not_fill_the_log() {
        let mut outage = Outage::default();
        let told = (0..1000).filter(|number| outage.failed(&format!("request {number}"))).count();
        assert_eq!((told, outage.failures()), (CAUSES, 1000));
    }
}
