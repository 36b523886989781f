//! The subscriptions of a bridge, tried by `roombridge check --connect` and taken back.

use std::time::Duration;

use anyhow::{Context, bail};
use tokio::time::{Instant, timeout_at};

use super::connection::Connection;
use super::limits::Limits;
use super::target::Target;
use super::wire::{FromBroker, PublishVerdict, SubscribeVerdict, ToBroker};
use crate::config::MqttConfig;
use crate::model::{MqttMessage, Qos};

/// For each answer, and for the message to come.
const ANSWER: Duration = Duration::from_secs(10);
/// A check that dies leaves a session with subscriptions, which must not gather messages.
const SESSION_S: u32 = 5;
const GOODBYE: Duration = Duration::from_secs(1);
const CANARY_PACKET: u16 = u16::MAX;

/// What a broker says to the bridge's subscriptions.
#[derive(Debug)]
pub(crate) struct Tried {
    /// Each filter, and what was granted, or the broker's reason.
    pub filters: Vec<(String, Result<Qos, String>)>,
    /// Whether the message came that was published; `None`: none was.
    pub canary: Option<Result<(), String>>,
}

/// Subscribes under a client id of its own, with the CONNECT of a bridge, and publishes `canary` if there is one.
pub(crate) async fn try_subscribe(
    config: &MqttConfig,
    filters: &[String],
    canary: Option<&MqttMessage>,
) -> anyhow::Result<Tried> {
    let client_id = format!("{}-check-{}", config.client_id, std::process::id());
    let mut target = Target::with_new_session(config, &client_id)?;
    target.connect.session_expiry_s = Some(SESSION_S);
    let (connection, connack) = Connection::open(&target).await.context("could not connect again")?;
    let mut trial = Trial { connection, limits: connack.limits, canary, has_come: false };
    let mut granted = Vec::new();
    for (number, filter) in (1..).zip(filters) {
        granted.push((filter.clone(), trial.subscribe(number, filter).await?));
    }
    let canary = match canary {
        Some(message) => Some(trial.publish(message).await?),
        None => None,
    };
    for (number, filter) in (1..).zip(filters) {
        let _ = trial.connection.push(&ToBroker::Unsubscribe { packet_id: number, filter: filter.clone() });
    }
    if trial.connection.push(&ToBroker::Goodbye { ends_session: true }).is_ok() {
        let _ = tokio::time::timeout(GOODBYE, trial.connection.finish()).await;
    }
    Ok(Tried { filters: granted, canary })
}

struct Trial<'a> {
    connection: Connection,
    limits: Limits,
    canary: Option<&'a MqttMessage>,
    /// The canary, back from the broker.
    has_come: bool,
}

impl Trial<'_> {
    async fn subscribe(&mut self, packet_id: u16, filter: &str) -> anyhow::Result<Result<Qos, String>> {
        let identifier = self.limits.identifiers_available.then_some(u32::from(packet_id));
        let filter = filter.to_owned();
        self.connection.push(&ToBroker::Subscribe { packet_id, filter, identifier })?;
        let deadline = Instant::now() + ANSWER;
        loop {
            let Ok(packet) = timeout_at(deadline, self.next()).await else {
                return Ok(Err(format!("no answer within {} s", ANSWER.as_secs())));
            };
            if let FromBroker::Suback(suback) = packet?
                && suback.packet_id == packet_id
            {
                return Ok(match suback.verdict {
                    SubscribeVerdict::Granted(qos) => Ok(qos),
                    SubscribeVerdict::IdentifiersNotSupported(reason)
                    | SubscribeVerdict::Refused(reason)
                    | SubscribeVerdict::Unclear(reason) => Err(reason),
                });
            }
        }
    }

    async fn publish(&mut self, message: &MqttMessage) -> anyhow::Result<Result<(), String>> {
        let packet_id = if self.limits.maximum_qos == Qos::AtMostOnce { 0 } else { CANARY_PACKET };
        self.connection.push(&ToBroker::Publish { message, packet_id, expiry_s: Some(SESSION_S) })?;
        let deadline = Instant::now() + ANSWER;
        while !self.has_come {
            let Ok(packet) = timeout_at(deadline, self.next()).await else {
                return Ok(Err(format!(
                    "the message was published and did not come back within {} s; give the user of mqtt.username the right to read \
                     this topic",
                    ANSWER.as_secs()
                )));
            };
            if let FromBroker::Puback(puback) = packet? {
                match puback.verdict {
                    PublishVerdict::Accepted => {}
                    PublishVerdict::NotPermitted(reason)
                    | PublishVerdict::Refused(reason)
                    | PublishVerdict::TooLarge(reason)
                    | PublishVerdict::NotNow(reason) => {
                        return Ok(Err(format!("the broker does not take the message: {reason}")));
                    }
                }
            }
        }
        Ok(Ok(()))
    }

    /// The next packet; a message is noted and acknowledged.
    async fn next(&mut self) -> anyhow::Result<FromBroker> {
        loop {
            let Some(packet) = self.connection.next_packet()? else {
                self.connection.serve(true).await?;
                continue;
            };
            if let FromBroker::Refused(refusal) = packet {
                bail!(refusal);
            }
            if let FromBroker::Publish(publish) = &packet {
                let is_canary =
                    |canary: &MqttMessage| canary.topic == publish.topic && canary.payload == publish.payload;
                self.has_come |= self.canary.is_some_and(is_canary);
                if publish.qos == Qos::AtLeastOnce {
                    self.connection.push(&ToBroker::Ack { packet_id: publish.packet_id })?;
                }
            }
            return Ok(packet);
        }
    }
}
