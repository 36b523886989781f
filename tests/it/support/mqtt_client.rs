//! MQTT 5 publishers that know which of their messages the broker acknowledged.
//!
//! They reconnect, and send again what was not acknowledged; `publish_engine` is how.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rumqttc::v5::MqttOptions;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::PublishProperties;

use super::mosquitto::Mosquitto;
use super::ports::wait_until;
use super::publish_engine::{Engine, Pace, Phase, Shared};

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
        Message {
            topic: topic.into(),
            payload: payload.into(),
            qos: QoS::AtLeastOnce,
            retain: false,
            properties,
        }
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
    let messages =
        messages.into_iter().map(|(topic, payload)| Message::new(topic, payload).qos(qos)).collect();
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
        format!(
            "{acknowledged} acknowledged and {refused} refused of {} on {} connections",
            self.made, self.connections
        )
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
        let shared = Arc::new(Shared::default());
        let mut engine = Engine::new(target.options(client_id), pace, make, shared.clone());
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
        self.shared.set_phase(Phase::Finishing);
        let start = Instant::now();
        while self.thread.as_ref().is_some_and(|thread| !thread.is_finished()) {
            assert!(
                start.elapsed() < DEADLINE,
                "{} still waits: {}",
                self.client_id,
                self.published().progress()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
        self.published()
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.shared.set_phase(Phase::Abandoned);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
