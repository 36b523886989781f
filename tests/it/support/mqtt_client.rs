//! MQTT 5 publishers that know which of their messages the broker acknowledged.
//!
//! On every new connection they start with a fresh client and send again, in order, what was not acknowledged:
//! rumqttc's own resending loses messages when the broker forgets the session, and can stand still for ever.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rumqttc::Outgoing;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, PubAckReason, PubRecReason, PublishProperties};
use rumqttc::v5::{AsyncClient, ConnectionError, Event, MqttOptions};

use super::mosquitto::Mosquitto;
use super::ports::wait_until;

/// Unacknowledged messages on one connection; Mosquitto's receive maximum lowers it where that is smaller.
const IN_FLIGHT: u16 = 100;
/// How long `publish_all` and `finish` wait for the last acknowledgement.
const DEADLINE: Duration = Duration::from_secs(60);

/// Which broker, and as whom.
#[derive(Clone)]
pub struct Target {
    pub port: u16,
    pub credentials: Option<(String, String)>,
}

impl From<u16> for Target {
    fn from(port: u16) -> Self {
        Target { port, credentials: None }
    }
}

impl From<&Mosquitto> for Target {
    fn from(broker: &Mosquitto) -> Self {
        Target { port: broker.port(), credentials: broker.credentials().cloned() }
    }
}

impl Target {
    pub fn options(&self, client_id: &str) -> MqttOptions {
        let mut options = MqttOptions::new(client_id, "127.0.0.1", self.port);
        options.set_keep_alive(Duration::from_secs(30)).set_max_packet_size(Some(64 << 20));
        if let Some((user, password)) = &self.credentials {
            options.set_credentials(user, password);
        }
        options
    }
}

/// What to publish; QoS 1 unless said otherwise.
#[derive(Clone)]
pub struct Message {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: QoS,
    pub retain: bool,
    pub properties: PublishProperties,
}

impl Message {
    pub fn new(topic: impl Into<String>, payload: impl Into<Vec<u8>>) -> Message {
        let properties = PublishProperties::default();
        Message { topic: topic.into(), payload: payload.into(), qos: QoS::AtLeastOnce, retain: false, properties }
    }

    pub fn qos(mut self, qos: QoS) -> Message {
        self.qos = qos;
        self
    }

    pub fn retain(mut self) -> Message {
        self.retain = true;
        self
    }

    pub fn user_property(mut self, name: &str, value: &str) -> Message {
        self.properties.user_properties.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn content_type(mut self, content_type: &str) -> Message {
        self.properties.content_type = Some(content_type.to_owned());
        self
    }

    pub fn expires_after_s(mut self, seconds: u32) -> Message {
        self.properties.message_expiry_interval = Some(seconds);
        self
    }

    pub fn response_topic(mut self, topic: &str, correlation_data: &[u8]) -> Message {
        self.properties.response_topic = Some(topic.to_owned());
        self.properties.correlation_data = Some(correlation_data.to_vec().into());
        self
    }
}

/// Publishes all, and returns only when the broker acknowledged each of them (QoS 0: when they left the socket).
#[track_caller]
pub fn publish_all<T, P>(target: impl Into<Target>, client_id: &str, messages: Vec<(T, P)>, qos: QoS)
where
    T: Into<String>,
    P: Into<Vec<u8>>,
{
    let messages = messages.into_iter().map(|(topic, payload)| Message::new(topic, payload).qos(qos)).collect();
    publish_messages(target, client_id, messages);
}

/// The same with properties, retain and a QoS for each message.
#[track_caller]
pub fn publish_messages(target: impl Into<Target>, client_id: &str, messages: Vec<Message>) {
    let total = messages.len() as u64;
    let make = move |number: u64| messages[number as usize].clone();
    let published = Publisher::launch(target.into(), client_id, Pace::AllAtOnce { total }, make).finish();
    assert!(published.refused.is_empty(), "{client_id}: the broker refused {:?}", published.refused);
    assert_eq!(published.acknowledged.len() as u64, total, "{client_id}: not all messages were acknowledged");
}

/// What a publisher did; messages are numbered from 0.
#[derive(Debug, Clone, Default)]
pub struct Published {
    /// Numbers below this one were handed to the client at least once.
    pub made: u64,
    /// PUBACK or PUBCOMP came (QoS 0: written to the socket).
    pub acknowledged: BTreeSet<u64>,
    /// The broker answered with an error, which is its last word.
    pub refused: BTreeMap<u64, String>,
    /// More than 1 = the link was lost in between, and some messages may have been sent twice.
    pub connections: u32,
}

impl Published {
    fn progress(&self) -> String {
        let (acknowledged, refused) = (self.acknowledged.len(), self.refused.len());
        format!("{acknowledged} acknowledged and {refused} refused of {} on {} connections", self.made, self.connections)
    }
}

/// A publisher in a thread of its own. It reconnects and sends again what was not acknowledged.
pub struct Publisher {
    client_id: String,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Publisher {
    /// Publishes `per_second` messages a second; `make` builds number 0, 1, 2, ... and always the same for a number.
    pub fn paced<F>(target: impl Into<Target>, client_id: &str, per_second: u32, make: F) -> Publisher
    where
        F: Fn(u64) -> Message + Send + 'static,
    {
        Publisher::launch(target.into(), client_id, Pace::PerSecond { per_second }, make)
    }

    fn launch<F>(target: Target, client_id: &str, pace: Pace, make: F) -> Publisher
    where
        F: Fn(u64) -> Message + Send + 'static,
    {
        let shared = Arc::new(Shared { published: Mutex::default(), phase: AtomicU8::new(RUNNING) });
        let options = target.options(client_id);
        let waiting = BTreeSet::new();
        let mut engine = Engine { options, pace, make, started: Instant::now(), waiting, shared: shared.clone() };
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime can be made").block_on(engine.run());
        });
        Publisher { client_id: client_id.to_owned(), shared, thread: Some(thread) }
    }

    pub fn published(&self) -> Published {
        self.shared.published().clone()
    }

    pub fn acknowledged_count(&self) -> u64 {
        self.shared.published().acknowledged.len() as u64
    }

    #[track_caller]
    pub fn wait_acknowledged(&self, count: u64, deadline: Duration) {
        let what = format!("{count} messages of {} are acknowledged", self.client_id);
        wait_until(&what, deadline, || self.acknowledged_count() >= count);
    }

    /// Makes no new messages, waits until the broker answered for all that were made, and disconnects.
    #[track_caller]
    pub fn finish(self) -> Published {
        self.shared.phase.store(FINISHING, Ordering::Relaxed);
        let start = Instant::now();
        while self.thread.as_ref().is_some_and(|thread| !thread.is_finished()) {
            assert!(start.elapsed() < DEADLINE, "{} still waits: {}", self.client_id, self.published().progress());
            std::thread::sleep(Duration::from_millis(2));
        }
        self.published()
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.shared.phase.store(ABANDONED, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

const RUNNING: u8 = 0;
const FINISHING: u8 = 1;
const ABANDONED: u8 = 2;

struct Shared {
    published: Mutex<Published>,
    phase: AtomicU8,
}

impl Shared {
    fn published(&self) -> MutexGuard<'_, Published> {
        self.published.lock().expect("nobody panics while holding the report")
    }
}

enum Pace {
    AllAtOnce { total: u64 },
    PerSecond { per_second: u32 },
}

struct Engine<F> {
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
    async fn run(&mut self) {
        while self.one_connection().await.is_err() && self.phase() != ABANDONED {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// `Ok` when there is nothing left to do, `Err` when the link was lost.
    async fn one_connection(&mut self) -> Result<(), ConnectionError> {
        self.options.set_outgoing_inflight_upper_limit(IN_FLIGHT);
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
                        if self.phase() == ABANDONED {
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

    fn phase(&self) -> u8 {
        self.shared.phase.load(Ordering::Relaxed)
    }

    fn feed(&mut self, link: &mut Link) {
        while link.window.front().is_some_and(|number| !self.waiting.contains(number)) {
            link.window.pop_front();
        }
        while link.window.len() < link.window_limit && link.queued.len() < link.window_limit {
            let Some(number) = link.resend.pop_front().or_else(|| self.next_new()) else { break };
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
            Pace::PerSecond { .. } if self.phase() != RUNNING => 0,
            Pace::PerSecond { per_second } => (self.started.elapsed().as_secs_f64() * f64::from(per_second)) as u64,
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
        self.phase() != RUNNING && all_made && self.waiting.is_empty()
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
            Event::Incoming(Packet::PubComp(complete)) => self.settle(link.in_flight.remove(&complete.pkid), None),
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
