//! Publishes the messages of a replay on a connection of its own.
//!
//! It publishes one message at a time and waits for its PUBACK: a replay keeps the order of its room, and every message that it
//! counts as played has reached the broker. It does not reconnect, because a message that is sent twice would be heard twice. A
//! task serves the connection, so that the broker does not take a long pause of the replay for the end of the client.

use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::connection::LinkError;
use super::link::Link;
use super::target::Target;
use super::tls::TlsError;
use super::wire::{FromBroker, PublishVerdict, WritePacketError};
use crate::config::MqttConfig;
use crate::model::{MqttMessage, Qos};
use crate::pipeline::ports::{PublishError, Publisher};

const DEADLINE: Duration = Duration::from_secs(10);

/// The replay could not connect.
#[allow(clippy::missing_docs_in_private_items, reason = "each text says what is wrong")]
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("could not connect to {place}: {cause}")]
    Failed { place: String, cause: LinkError },
}

/// A [`Publisher`] on an MQTT broker.
pub struct ReplayPublisher {
    requests: mpsc::Sender<Request>,
    /// Gives the link back when no more requests can come.
    serving: JoinHandle<Result<Link, LinkError>>,
    is_acknowledged: bool,
}

struct Request {
    message: MqttMessage,
    answer: oneshot::Sender<Result<(), String>>,
}

impl ReplayPublisher {
    /// Connects under a client id of its own, so that a running bridge keeps its session.
    pub async fn connect(config: &MqttConfig) -> Result<Self, ConnectError> {
        let client_id = format!("{}-replay-{}", config.client_id, std::process::id());
        let target = Target::without_session(config, &client_id)?;
        let opened = Link::open(&target).await;
        let link = opened.map_err(|cause| ConnectError::Failed { place: target.place.clone(), cause })?;
        let is_acknowledged = link.limits().maximum_qos != Qos::AtMostOnce;
        let (requests, taken) = mpsc::channel(1);
        Ok(Self { requests, serving: tokio::spawn(serve(link, taken, is_acknowledged)), is_acknowledged })
    }

    /// False if the broker allows QoS 0 only: then a message counts as published when it is written.
    pub fn is_acknowledged(&self) -> bool {
        self.is_acknowledged
    }

    /// Says goodbye; waits two seconds at most.
    pub async fn disconnect(self) {
        drop(self.requests);
        if let Ok(Ok(link)) = self.serving.await {
            link.say_goodbye().await;
        }
    }

    async fn publish_and_wait(&mut self, message: MqttMessage) -> Result<(), String> {
        let (answer, answered) = oneshot::channel();
        // This fails only when the connection is gone, and then the task knows why.
        let _ = self.requests.send(Request { message, answer }).await;
        if let Ok(answer) = answered.await {
            return answer;
        }
        Err(match (&mut self.serving).await {
            Ok(Err(error)) => format!("the connection was lost: {error}"),
            Ok(Ok(_)) | Err(_) => "the connection is gone".to_owned(),
        })
    }
}

impl Publisher for ReplayPublisher {
    fn publish(&mut self, message: MqttMessage) -> BoxFuture<'_, Result<(), PublishError>> {
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

/// Serves requests until no more can come, or the connection fails.
async fn serve(
    mut link: Link,
    mut requests: mpsc::Receiver<Request>,
    is_acknowledged: bool,
) -> Result<Link, LinkError> {
    let mut packet_id: u16 = 0;
    let mut open: Option<oneshot::Sender<Result<(), String>>> = None;
    loop {
        if let Some(packet) = link.next_packet()? {
            if let FromBroker::Puback(puback) = packet
                && puback.packet_id == packet_id
                && let Some(answer) = open.take()
            {
                // Who asked may have given up.
                let _ = answer.send(match puback.verdict {
                    PublishVerdict::Accepted => Ok(()),
                    PublishVerdict::NotPermitted(reason) => {
                        Err(format!("the broker does not permit publishing there: {reason}"))
                    }
                    PublishVerdict::Refused(reason)
                    | PublishVerdict::TooLarge(reason)
                    | PublishVerdict::NotNow(reason) => Err(format!("the broker refuses it: {reason}")),
                });
            }
            continue;
        }
        if !is_acknowledged && link.waiting_bytes() == 0 {
            open.take().map(|answer| answer.send(Ok(())));
        }
        tokio::select! {
            request = requests.recv(), if open.is_none() => {
                let Some(Request { message, answer }) = request else {
                    return Ok(link);
                };
                packet_id = packet_id.checked_add(1).unwrap_or(1);
                let id = if is_acknowledged { packet_id } else { 0 };
                match link.publish(&message, id, message.properties.message_expiry_s) {
                    Ok(()) => open = Some(answer),
                    Err(error) => {
                        let _ = answer.send(Err(cannot_be_written(&error)));
                    }
                }
            }
            served = link.serve() => served?,
        }
    }
}

fn cannot_be_written(error: &WritePacketError) -> String {
    match error {
        WritePacketError::TooLarge { packet_bytes, max_bytes } => {
            format!("its packet has {packet_bytes} bytes, and the broker takes {max_bytes} at most")
        }
        WritePacketError::Invalid(reason) => reason.clone(),
    }
}
