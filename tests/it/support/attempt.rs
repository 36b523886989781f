//! One MQTT 5 connection that tries something and is told what the broker thinks of it.

use std::time::Duration;

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{LastWill, Packet};
use rumqttc::v5::{AsyncClient, Event, EventLoop};
use tokio::runtime::Runtime;

use super::mqtt_client::Target;

const PATIENCE: Duration = Duration::from_secs(10);

pub struct Attempt {
    runtime: Runtime,
    client: AsyncClient,
    events: EventLoop,
}

impl Attempt {
    /// Connects, or says why not.
    pub fn connect(target: impl Into<Target>, client_id: &str) -> Result<Attempt, String> {
        Attempt::connect_with_will(target, client_id, None)
    }

    pub fn connect_with_will(
        target: impl Into<Target>,
        client_id: &str,
        will_topic: Option<&str>,
    ) -> Result<Attempt, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime can be made");
        let mut options = target.into().options(client_id);
        options.set_clean_start(true);
        if let Some(topic) = will_topic {
            options.set_last_will(LastWill::new(topic, "gone", QoS::AtLeastOnce, false, None));
        }
        let (client, events) = AsyncClient::new(options, 100);
        let mut attempt = Attempt { runtime, client, events };
        match attempt.next(|packet| matches!(packet, Packet::ConnAck(_))) {
            Ok(Packet::ConnAck(answer)) if format!("{:?}", answer.code) == "Success" => Ok(attempt),
            Ok(other) => Err(format!("{other:?}")),
            Err(error) => Err(error),
        }
    }

    /// The answer to the subscription, or how the connection ended.
    pub fn subscribe(&mut self, filter: &str) -> Result<String, String> {
        self.client.try_subscribe(filter, QoS::AtLeastOnce).expect("room in the queue");
        match self.next(|packet| matches!(packet, Packet::SubAck(_)))? {
            Packet::SubAck(answer) => Ok(format!("{:?}", answer.return_codes[0])),
            other => Err(format!("{other:?}")),
        }
    }

    /// The answer to the PUBLISH, or how the connection ended.
    pub fn publish(&mut self, topic: &str, body: impl Into<Vec<u8>>) -> Result<String, String> {
        let body = body.into();
        self.client.try_publish(topic, QoS::AtLeastOnce, false, body).expect("room in the queue");
        match self.next(|packet| matches!(packet, Packet::PubAck(_)))? {
            Packet::PubAck(answer) => Ok(format!("{:?}", answer.reason)),
            other => Err(format!("{other:?}")),
        }
    }

    /// Whether the broker ends the connection by itself.
    pub fn is_cut(&mut self) -> bool {
        self.next(|_| false).is_err_and(|error| !error.contains("still"))
    }

    fn next(&mut self, wanted: impl Fn(&Packet) -> bool) -> Result<Packet, String> {
        let events = &mut self.events;
        self.runtime.block_on(async {
            let waiting = async {
                loop {
                    match events.poll().await {
                        Ok(Event::Incoming(packet)) if wanted(&packet) => return Ok(packet),
                        Ok(_) => {}
                        Err(error) => return Err(error.to_string()),
                    }
                }
            };
            tokio::time::timeout(PATIENCE, waiting)
                .await
                .unwrap_or_else(|_| Err("it still stands".to_owned()))
        })
    }
}
