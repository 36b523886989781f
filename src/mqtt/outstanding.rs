//! The messages that the publisher was given and that have no end yet, in order, and which of them were sent on this connection.
//!
//! Promises: messages are sent in the order in which they were given; after a lost connection everything without an end
//! is sent again, in the same order; a message for which the broker ends the connection is found and given up, so that it cannot
//! hold the others for ever (MQTT gives no other sign for it).

use std::collections::VecDeque;

use super::wire::PublishVerdict;
use crate::model::Qos;
use crate::pipeline::ports::{Published, Publishing};

/// After so many lost connections in a row without any PUBACK, only the oldest message is sent.
const SUSPECT_AFTER: u32 = 3;
/// After so many, the oldest message is taken for the one that the broker hangs up for.
const GIVE_UP_AFTER: u32 = 6;

/// The messages without an end, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct Outstanding {
    messages: VecDeque<Entry>,
    /// How many from the front were sent on this connection.
    sent: usize,
    last_packet_id: u16,
    /// Connections in a row that were lost before any message had ended on them.
    lost_in_a_row: u32,
    ended_on_this_connection: bool,
    /// The present broker allows QoS 0 only.
    qos_0_only: bool,
}

#[derive(Debug)]
struct Entry {
    publishing: Publishing,
    /// 0: not sent on this connection.
    packet_id: u16,
}

/// What a PUBACK means.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Acknowledged {
    Ended(u64, Published),
    /// The broker cannot take it now: connect anew and begin with the oldest.
    TryAgain(String),
    /// No message waits for it.
    Unknown,
}

impl Outstanding {
    pub(crate) fn push(&mut self, publishing: Publishing) {
        self.messages.push_back(Entry { publishing, packet_id: 0 });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// The next message to send, if the window has room, with its packet identifier; 0 is QoS 0.
    pub(crate) fn next(&mut self, window: usize) -> Option<(&Publishing, u16)> {
        let window = if self.lost_in_a_row >= SUSPECT_AFTER { 1 } else { window };
        if self.sent >= window {
            return None;
        }
        let in_use = |id: u16| self.messages.iter().take(self.sent).any(|entry| entry.packet_id == id);
        let mut packet_id = self.last_packet_id;
        loop {
            packet_id = packet_id.checked_add(1).unwrap_or(1);
            if !in_use(packet_id) {
                break;
            }
        }
        let entry = self.messages.get_mut(self.sent)?;
        self.last_packet_id = packet_id;
        entry.packet_id = packet_id;
        self.sent += 1;
        let id =
            if self.qos_0_only || entry.publishing.message.qos == Qos::AtMostOnce { 0 } else { packet_id };
        Some((&entry.publishing, id))
    }

    /// The message that [`Self::next`] gave out last cannot be written.
    pub(crate) fn refuse_newest(&mut self) -> Option<u64> {
        self.sent = self.sent.checked_sub(1)?;
        let entry = self.messages.remove(self.sent)?;
        Some(entry.publishing.number)
    }

    /// Everything that was sent is written, so messages with QoS 0 have ended: these.
    pub(crate) fn written(&mut self) -> Vec<u64> {
        let mut ended = Vec::new();
        let mut index = 0;
        while index < self.sent {
            let qos = self.messages.get(index).map(|entry| entry.publishing.message.qos);
            if self.qos_0_only || qos == Some(Qos::AtMostOnce) {
                self.sent -= 1;
                ended.extend(self.messages.remove(index).map(|entry| entry.publishing.number));
            } else {
                index += 1;
            }
        }
        ended
    }

    pub(crate) fn acknowledged(&mut self, packet_id: u16, verdict: PublishVerdict) -> Acknowledged {
        let mut sent = self.messages.iter().take(self.sent);
        let Some(index) = sent.position(|entry| entry.packet_id == packet_id) else {
            return Acknowledged::Unknown;
        };
        let end = match verdict {
            PublishVerdict::Accepted => Published::Acknowledged,
            PublishVerdict::NotPermitted(reason) | PublishVerdict::Refused(reason) => {
                Published::Refused(reason)
            }
            PublishVerdict::TooLarge(_) => Published::TooLarge,
            PublishVerdict::NotNow(reason) => return Acknowledged::TryAgain(reason),
        };
        self.ended_on_this_connection = true;
        self.sent -= 1;
        match self.messages.remove(index) {
            Some(entry) => Acknowledged::Ended(entry.publishing.number, end),
            None => Acknowledged::Unknown,
        }
    }

    /// There is a connection to a broker that allows that QoS at most.
    pub(crate) fn connected(&mut self, maximum_qos: Qos) {
        self.qos_0_only = maximum_qos == Qos::AtMostOnce;
        self.ended_on_this_connection = false;
    }

    /// The connection is gone, and everything is to be sent again. Returns the message for which the broker hangs up, if one was
    /// found.
    pub(crate) fn disconnected(&mut self) -> Option<u64> {
        let had_sent = std::mem::take(&mut self.sent) > 0;
        if self.ended_on_this_connection {
            self.lost_in_a_row = 0;
        } else if had_sent {
            self.lost_in_a_row += 1;
        }
        self.ended_on_this_connection = false;
        if self.lost_in_a_row < GIVE_UP_AFTER {
            return None;
        }
        self.lost_in_a_row = 0;
        Some(self.messages.pop_front()?.publishing.number)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::model::{MqttMessage, MqttProperties};

    fn publishing(number: u64, qos: Qos) -> Publishing {
        let message = MqttMessage {
            topic: "room/message/1".to_owned(),
            payload: Bytes::new(),
            qos,
            properties: MqttProperties::default(),
        };
        Publishing::new(number, message)
    }

    fn outstanding(numbers: std::ops::Range<u64>) -> Outstanding {
        let mut outstanding = Outstanding::default();
        for number in numbers {
            outstanding.push(publishing(number, Qos::AtLeastOnce));
        }
        outstanding.connected(Qos::ExactlyOnce);
        outstanding
    }

    fn send(outstanding: &mut Outstanding, window: usize) -> Vec<(u64, u16)> {
        let mut sent = Vec::new();
        while let Some((publishing, packet_id)) = outstanding.next(window) {
            sent.push((publishing.number, packet_id));
        }
        sent
    }

    #[test]
    fn after_a_lost_connection_everything_open_leaves_again_in_order() {
        let mut outstanding = outstanding(0..5);
        assert_eq!(send(&mut outstanding, 3), [(0, 1), (1, 2), (2, 3)]);
        let ended = outstanding.acknowledged(2, PublishVerdict::Accepted);
        assert_eq!(ended, Acknowledged::Ended(1, Published::Acknowledged));
        assert_eq!(send(&mut outstanding, 3), [(3, 4)]);

        assert_eq!(outstanding.disconnected(), None);
        outstanding.connected(Qos::ExactlyOnce);
        let again: Vec<u64> = send(&mut outstanding, 3).into_iter().map(|(number, _)| number).collect();
        assert_eq!(again, [0, 2, 3]);
    }

    /// Hazard 20: a denied publish would be taken for delivered, if nobody read the reason.
    #[test]
    fn a_refusal_is_an_end_and_a_full_broker_is_none() {
        let mut outstanding = outstanding(0..2);
        send(&mut outstanding, 10);
        let denied =
            outstanding.acknowledged(1, PublishVerdict::NotPermitted("0x87 not authorized".to_owned()));
        assert_eq!(denied, Acknowledged::Ended(0, Published::Refused("0x87 not authorized".to_owned())));
        let full = outstanding.acknowledged(2, PublishVerdict::NotNow("0x97 quota exceeded".to_owned()));
        assert_eq!(full, Acknowledged::TryAgain("0x97 quota exceeded".to_owned()));
        assert!(!outstanding.is_empty());
        assert_eq!(outstanding.acknowledged(9, PublishVerdict::Accepted), Acknowledged::Unknown);
    }

    /// Hazard 20: a message that the broker hangs up for comes again for ever.
    #[test]
    fn the_message_that_the_broker_hangs_up_for_is_found() {
        let mut outstanding = outstanding(0..3);
        let mut blamed = None;
        for round in 0..GIVE_UP_AFTER {
            outstanding.connected(Qos::ExactlyOnce);
            let sent = send(&mut outstanding, 10);
            assert_eq!(sent.len(), if round < SUSPECT_AFTER { 3 } else { 1 });
            blamed = outstanding.disconnected();
        }
        assert_eq!(blamed, Some(0));
        outstanding.connected(Qos::ExactlyOnce);
        assert_eq!(send(&mut outstanding, 10).len(), 2, "the others go on");
    }

    #[test]
    fn a_broker_that_is_away_is_no_proof_against_a_message() {
        let mut outstanding = outstanding(0..1);
        for _ in 0..100 {
            outstanding.connected(Qos::ExactlyOnce);
            assert_eq!(outstanding.disconnected(), None, "nothing had been sent");
        }
    }

    #[test]
    fn qos_0_ends_when_it_is_written() {
        let mut outstanding = outstanding(0..1);
        outstanding.push(publishing(7, Qos::AtMostOnce));
        assert_eq!(send(&mut outstanding, 10), [(0, 1), (7, 0)]);
        assert_eq!(outstanding.written(), [7]);
        assert_eq!(outstanding.written(), Vec::<u64>::new());
        let ended = outstanding.acknowledged(1, PublishVerdict::Accepted);
        assert_eq!(ended, Acknowledged::Ended(0, Published::Acknowledged));
    }

    #[test]
    fn a_broker_that_allows_qos_0_only_gets_qos_0_until_another_allows_more() {
        let mut outstanding = outstanding(0..2);
        outstanding.connected(Qos::AtMostOnce);
        assert_eq!(send(&mut outstanding, 1), [(0, 0)]);
        assert_eq!(outstanding.written(), [0]);
        outstanding.disconnected();
        outstanding.connected(Qos::AtLeastOnce);
        assert_eq!(send(&mut outstanding, 1), [(1, 2)]);
        assert_eq!(outstanding.written(), Vec::<u64>::new());
    }
}
