//! The event loop behind the publishers of `mqtt_client`.
//!
//! On every new connection it starts with a fresh client and sends again, in order, what was not acknowledged:
//! rumqttc's own resending loses messages when the broker forgets the session, and can stand still for ever.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rumqttc::Outgoing;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, PubAckReason, PubRecReason};
use rumqttc::v5::{AsyncClient, ConnectionError, Event, MqttOptions};

use super::mqtt_client::{Message, Published};

/// Unacknowledged messages on one connection; the broker's receive maximum lowers it where that is smaller.
const IN_FLIGHT: u16 = 100;

/// What the publisher and its thread tell each other.
#[derive(Default)]
pub struct Shared {
    published: Mutex<Published>,
    phase: Mutex<Phase>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub enum Phase {
    #[default]
    Running,
    /// No new messages; end when all are answered.
    Finishing,
    /// End at once.
    Abandoned,
}

impl Shared {
    pub fn published(&self) -> MutexGuard<'_, Published> {
        self.published.lock().expect("nobody panics while holding the report")
    }

    pub fn set_phase(&self, phase: Phase) {
        *self.phase.lock().expect("nobody panics while holding the phase") = phase;
    }

    fn phase(&self) -> Phase {
        *self.phase.lock().expect("nobody panics while holding the phase")
    }
}

pub enum Pace {
    AllAtOnce { total: u64 },
    PerSecond { per_second: u32 },
}

pub struct Engine<F> {
    options: MqttOptions,
    pace: Pace,
    make: F,
    started: Instant,
    /// Made and not answered yet.
    waiting: BTreeSet<u64>,
    shared: Arc<Shared>,
}

/// What belongs to one connection and dies with it.
struct Link {
    client: AsyncClient,
    resend: VecDeque<u64>,
    /// Handed to the client with QoS 1 or 2, oldest first, from the oldest that is not settled. Never longer than the
    /// window: rumqttc gives packet identifiers in turn, and would use one again that a QoS 2 message still holds.
    window: VecDeque<u64>,
    window_limit: usize,
    /// Handed to the client, not yet written. It writes them in this order.
    queued: VecDeque<u64>,
    in_flight: HashMap<u16, u64>,
    disconnecting: bool,
}

impl Link {
    /// Nothing is handed to the client before the CONNACK set `window_limit`.
    fn new(client: AsyncClient, resend: VecDeque<u64>) -> Link {
        let (window, queued, in_flight) = (VecDeque::new(), VecDeque::new(), HashMap::new());
        Link { client, resend, window, window_limit: 0, queued, in_flight, disconnecting: false }
    }
}

impl<F: Fn(u64) -> Message> Engine<F> {
    pub fn new(mut options: MqttOptions, pace: Pace, make: F, shared: Arc<Shared>) -> Engine<F> {
        options.set_outgoing_inflight_upper_limit(IN_FLIGHT);
        Engine { options, pace, make, started: Instant::now(), waiting: BTreeSet::new(), shared }
    }

    pub async fn run(&mut self) {
        while self.one_connection().await.is_err() && self.shared.phase() != Phase::Abandoned {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// `Ok` when there is nothing left to do, `Err` when the link was lost.
    async fn one_connection(&mut self) -> Result<(), ConnectionError> {
        let (client, mut events) = AsyncClient::new(self.options.clone(), 4 * usize::from(IN_FLIGHT));
        let mut link = Link::new(client, self.waiting.iter().copied().collect());
        let mut tick = tokio::time::interval(Duration::from_millis(1));
        loop {
            // A started poll is never cancelled: it may hold half a written packet.
            let mut poll = std::pin::pin!(events.poll());
            let event = loop {
                tokio::select! {
                    event = &mut poll => break event?,
                    _ = tick.tick() => {
                        if self.shared.phase() == Phase::Abandoned {
                            return Ok(());
                        }
                        self.feed(&mut link);
                    }
                }
            };
            match event {
                Event::Incoming(Packet::ConnAck(connack)) => {
                    self.shared.published().connections += 1;
                    let receive_maximum = connack.properties.and_then(|properties| properties.receive_max);
                    link.window_limit = usize::from(receive_maximum.unwrap_or(IN_FLIGHT).min(IN_FLIGHT));
                }
                Event::Outgoing(Outgoing::Disconnect) => return Ok(()),
                other => self.note(other, &mut link),
            }
        }
    }

    fn feed(&mut self, link: &mut Link) {
        while link.window.front().is_some_and(|number| !self.waiting.contains(number)) {
            link.window.pop_front();
        }
        while link.window.len() < link.window_limit && link.queued.len() < link.window_limit {
            let Some(number) = link.resend.pop_front().or_else(|| self.next_new()) else {
                break;
            };
            let Message { topic, payload, qos, retain, properties } = (self.make)(number);
            let handed = link.client.try_publish_with_properties(topic, qos, retain, payload, properties);
            handed.expect("the channel has more room than we use, and test topics are valid");
            link.queued.push_back(number);
            if qos != QoS::AtMostOnce {
                link.window.push_back(number);
            }
        }
        if self.is_done() && !link.disconnecting {
            link.disconnecting = link.client.try_disconnect().is_ok();
        }
    }

    /// The number of a message that is due now and was never sent.
    fn next_new(&mut self) -> Option<u64> {
        let due = match self.pace {
            Pace::AllAtOnce { total } => total,
            Pace::PerSecond { .. } if self.shared.phase() != Phase::Running => 0,
            Pace::PerSecond { per_second } => {
                (self.started.elapsed().as_secs_f64() * f64::from(per_second)) as u64
            }
        };
        let mut published = self.shared.published();
        let number = published.made;
        if number >= due {
            return None;
        }
        published.made += 1;
        self.waiting.insert(number);
        Some(number)
    }

    fn is_done(&self) -> bool {
        let all_made = match self.pace {
            Pace::AllAtOnce { total } => self.shared.published().made == total,
            Pace::PerSecond { .. } => true,
        };
        self.shared.phase() != Phase::Running && all_made && self.waiting.is_empty()
    }

    fn note(&mut self, event: Event, link: &mut Link) {
        match event {
            Event::Outgoing(Outgoing::Publish(0)) => {
                let number = link.queued.pop_front();
                self.settle(number, None);
            }
            Event::Outgoing(Outgoing::Publish(identifier)) => {
                let number = link.queued.pop_front().expect("only our messages are written");
                link.in_flight.insert(identifier, number);
            }
            Event::Incoming(Packet::PubAck(ack)) => {
                let fine = matches!(ack.reason, PubAckReason::Success | PubAckReason::NoMatchingSubscribers);
                let refusal = (!fine).then(|| format!("{:?}", ack.reason));
                self.settle(link.in_flight.remove(&ack.pkid), refusal);
            }
            Event::Incoming(Packet::PubRec(rec)) => {
                let fine = matches!(rec.reason, PubRecReason::Success | PubRecReason::NoMatchingSubscribers);
                if !fine {
                    self.settle(link.in_flight.remove(&rec.pkid), Some(format!("{:?}", rec.reason)));
                }
            }
            Event::Incoming(Packet::PubComp(complete)) => {
                self.settle(link.in_flight.remove(&complete.pkid), None)
            }
            _ => {}
        }
    }

    fn settle(&mut self, number: Option<u64>, refusal: Option<String>) {
        let Some(number) = number else { return };
        self.waiting.remove(&number);
        let mut published = self.shared.published();
        match refusal {
            None => drop(published.acknowledged.insert(number)),
            Some(reason) => drop(published.refused.insert(number, reason)),
        }
    }
}
