//! Publishes the messages of a replay on a connection of its own.
//!
//! One message at a time, each acknowledged before the next: a replay keeps the order of its room, and what it says it
//! has played has reached the broker. It does not reconnect, since a message sent twice would be heard twice.

use std::time::Duration;

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{ConnectReturnCode, Packet, PubAckReason, PublishProperties};
use rumqttc::v5::{AsyncClient, Event, EventLoop};

use super::options::{OptionsError, options};
use crate::archive::{PublishError, Publisher, ReplayMessage};
use crate::config::MqttConfig;
use crate::pipeline::ports::BoxFuture;

const DEADLINE: Duration = Duration::from_secs(10);
const QUEUE: usize = 8;

/// The replay could not connect.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error(transparent)]
    Options(#[from] OptionsError),
    #[error("could not connect to the MQTT broker at {place}: {cause}; check mqtt.url and the credentials")]
    Failed { place: String, cause: String },
}

/// A [`Publisher`] on an MQTT broker.
pub struct ReplayPublisher {
    client: AsyncClient,
    events: EventLoop,
}

impl ReplayPublisher {
    /// Connects under a client id of its own, so that a running bridge keeps its session.
    pub async fn connect(config: &MqttConfig) -> Result<Self, ConnectError> {
        let client_id = format!("{}-replay-{}", config.client_id, std::process::id());
        let (client, mut events) = AsyncClient::new(options(config, &client_id)?, QUEUE);
        let failed = |cause: String| {
            Err(ConnectError::Failed {
                place: format!("{}:{}", config.host, config.port),
                cause,
            })
        };
        let connected = tokio::time::timeout(DEADLINE, async {
            loop {
                match events.poll().await {
                    Ok(Event::Incoming(Packet::ConnAck(answer))) => return Ok(answer.code),
                    Ok(_) => {}
                    Err(error) => return Err(error),
                }
            }
        });
        match connected.await {
            Ok(Ok(ConnectReturnCode::Success)) => Ok(Self { client, events }),
            Ok(Ok(refused)) => failed(format!("it refused: {refused:?}")),
            Ok(Err(error)) => failed(error.to_string()),
            Err(_) => failed(format!("no answer within {} s", DEADLINE.as_secs())),
        }
    }

    /// Says goodbye; waits a second at most.
    pub async fn disconnect(mut self) {
        if self.client.try_disconnect().is_err() {
            return;
        }
        let _ = tokio::time::timeout(Duration::from_secs(1), async {
            while self.events.poll().await.is_ok() {}
        })
        .await;
    }

    async fn publish_and_wait(&mut self, message: ReplayMessage) -> Result<(), String> {
        let properties = PublishProperties {
            user_properties: message.user_properties,
            content_type: message.content_type,
            ..PublishProperties::default()
        };
        self.client
            .try_publish_with_properties(
                message.topic,
                QoS::AtLeastOnce,
                false,
                message.payload,
                properties,
            )
            .map_err(|error| error.to_string())?;
        loop {
            match self.events.poll().await {
                Ok(Event::Incoming(Packet::PubAck(ack))) => return answer(ack.reason),
                Ok(Event::Incoming(Packet::Disconnect(bye))) => {
                    return Err(format!("the broker closed the connection: {:?}", bye.reason_code));
                }
                Ok(_) => {}
                Err(error) => return Err(format!("the connection was lost: {error}")),
            }
        }
    }
}

impl Publisher for ReplayPublisher {
    fn publish(&mut self, message: ReplayMessage) -> BoxFuture<'_, Result<(), PublishError>> {
        Box::pin(async move {
            let topic = message.topic.clone();
            let published = tokio::time::timeout(DEADLINE, self.publish_and_wait(message)).await;
            let cause = match published {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(cause)) => cause,
                Err(_) => format!("no PUBACK within {} s", DEADLINE.as_secs()),
            };
            Err(PublishError { topic, cause })
        })
    }
}

fn answer(reason: PubAckReason) -> Result<(), String> {
    match reason {
        // Nobody listening is no failure: the audience may come later, or not.
        PubAckReason::Success | PubAckReason::NoMatchingSubscribers => Ok(()),
        PubAckReason::NotAuthorized => Err("the broker does not permit publishing there".to_owned()),
        other => Err(format!("the broker refused it: {other:?}")),
    }
}
