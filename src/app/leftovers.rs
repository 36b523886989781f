//! Says how a bridge ended: which messages are left, where they are, and what becomes of them.

use crate::telemetry::Metrics;

/// How a bridge ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Everything that came in is acknowledged; what is in the spool is on this machine's disk.
    Drained,
    /// The deadline passed, a second signal came, or the MQTT broker was away, so some messages will come again.
    StoppedEarly,
}

/// What a stopped bridge leaves, in messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Leftovers {
    /// Came from MQTT and have no end: neither stored, nor in the spool, nor dead letters.
    pub without_end: u64,
    /// Have an end, but no PUBACK was sent.
    pub pubacks_unsent: u64,
    /// Came from RocketMQ, and the MQTT broker has not sent a PUBACK.
    pub down: u64,
    pub in_spool: u64,
    /// Became dead letters in this run, in both directions.
    pub dead_lettered: u64,
}

impl Leftovers {
    pub(super) fn of(metrics: &Metrics, in_spool: u64) -> Self {
        let count = |gauge: i64| u64::try_from(gauge).unwrap_or(0);
        Self {
            without_end: count(metrics.in_flight.get()),
            pubacks_unsent: count(metrics.pubacks_unsent.get()),
            down: count(metrics.downlink.in_flight.get()),
            in_spool,
            dead_lettered: metrics.ends().dead_lettered + metrics.downlink.dead_lettered_count(),
        }
    }

    fn ended(self) -> Ended {
        if self.without_end + self.pubacks_unsent + self.down == 0 {
            Ended::Drained
        } else {
            Ended::StoppedEarly
        }
    }

    /// Logs it, and gives how the bridge ended.
    pub(super) fn log(self) -> Ended {
        let ended = self.ended();
        match ended {
            Ended::Drained => tracing::info!("{}", self.sentence()),
            Ended::StoppedEarly => tracing::warn!("{}", self.sentence()),
        }
        ended
    }

    fn sentence(self) -> String {
        let mut parts = vec![match self.ended() {
            Ended::Drained if self.in_spool == 0 => {
                "stopped: everything that came in has ended and is acknowledged".to_owned()
            }
            Ended::Drained => "stopped: everything that came in is acknowledged".to_owned(),
            Ended::StoppedEarly => "stopped early".to_owned(),
        }];
        let mut add = |count: u64, what: &str| {
            if count > 0 {
                let messages = if count == 1 { "message" } else { "messages" };
                parts.push(format!("{count} {messages} {what}"));
            }
        };
        add(
            self.without_end,
            "that came in without an end and without a PUBACK, which the MQTT broker delivers again if it keeps our session",
        );
        add(
            self.pubacks_unsent,
            "with an end but without a PUBACK, because there was no connection to send it on: the MQTT broker delivers them again \
             if it keeps our session, as copies",
        );
        add(
            self.down,
            "from RocketMQ without the MQTT broker's PUBACK, which the next start publishes again",
        );
        add(
            self.in_spool,
            "in the spool, on this disk only, which the next start sends to RocketMQ (or `roombridge spool drain`)",
        );
        add(self.dead_lettered, "of this run among the dead letters (`roombridge deadletter list`)");
        parts.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_said_with_its_figure_and_decides_the_exit_code() {
        let nothing = Leftovers::default();
        assert_eq!(nothing.ended(), Ended::Drained);
        assert_eq!(nothing.sentence(), "stopped: everything that came in has ended and is acknowledged");

        let spooled = Leftovers { in_spool: 40, dead_lettered: 1, ..nothing };
        assert_eq!(spooled.ended(), Ended::Drained);
        let sentence = spooled.sentence();
        assert!(
            sentence
                .starts_with("stopped: everything that came in is acknowledged; 40 messages in the spool")
        );
        assert!(sentence.contains("1 message of this run among the dead letters"));

        let early = [
            (Leftovers { without_end: 3, ..spooled }, "3 messages that came in without an end"),
            (Leftovers { pubacks_unsent: 4, ..spooled }, "4 messages with an end but without a PUBACK"),
            (Leftovers { down: 5, ..spooled }, "5 messages from RocketMQ"),
        ];
        for (left, words) in early {
            assert_eq!(left.ended(), Ended::StoppedEarly);
            let sentence = left.sentence();
            assert!(
                sentence.starts_with("stopped early; ")
                    && sentence.contains(words)
                    && sentence.contains("40 messages in"),
                "{sentence}"
            );
        }
    }
}
