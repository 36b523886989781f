//! The downlink's connection: publishes what it is given, in order, and tells what became of each message.
//!
//! A connection of its own beside the subscriber's, so that PUBACKs of either side never wait for the other's messages.
//!
//! Promises: QoS 1 ends with its PUBACK, whose reason is read; what has no end is published again after a reconnect, in
//! order; at most [`WINDOW`] messages are on their way, and fewer if the broker asks for it; a message leaves with what is
//! left of its life, or not at all. A broker that allows QoS 0 only gets QoS 0.
//! Must never: give a message up because the broker is away; wait for a broker when nothing is left to publish.

use std::sync::Arc;
use std::time::Duration;

use rumqttc::v5::mqttbytes::Error as PacketError;
use rumqttc::v5::mqttbytes::v5::Publish;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::connection::LinkError;
use super::incoming::Incoming;
use super::link::Link;
use super::outstanding::{Acknowledged, Outstanding};
use super::target::{Target, TargetError};
use super::translate::to_publish;
use crate::config::MqttConfig;
use crate::pipeline::Retry;
use crate::pipeline::ports::{Published, Publishing};
use crate::telemetry::Metrics;

const WINDOW: usize = 500;
/// What waits to be written; more is taken from the queue when it has left.
const OUTBOX_BYTES: usize = 1 << 20;
const SAY_AGAIN_AFTER: Duration = Duration::from_secs(30);

/// See the module's words.
pub struct DownlinkPublisher {
    target: Target,
    work: Work,
    ends: mpsc::UnboundedSender<(u64, Published)>,
    metrics: Arc<Metrics>,
    has_connected: bool,
    said: Option<tokio::time::Instant>,
}

/// What is to be published. Its giver bounds how many have no end.
struct Work {
    messages: mpsc::Receiver<Publishing>,
    /// More may be given to us.
    open: bool,
    outstanding: Outstanding,
}

impl Work {
    fn is_done(&self) -> bool {
        !self.open && self.outstanding.is_empty()
    }

    /// Takes what comes while something else is waited for; `None` as soon as there is nothing left to do.
    async fn meanwhile<T>(&mut self, waited_for: impl Future<Output = T>) -> Option<T> {
        tokio::pin!(waited_for);
        while !self.is_done() {
            tokio::select! {
                biased;
                message = self.messages.recv(), if self.open => self.take(message),
                done = &mut waited_for => return Some(done),
            }
        }
        None
    }

    fn take(&mut self, message: Option<Publishing>) {
        match message {
            Some(publishing) => self.outstanding.push(publishing),
            None => self.open = false,
        }
    }
}

impl DownlinkPublisher {
    /// `ends` is unbounded because no more can end than was given.
    pub fn new(
        config: &MqttConfig,
        messages: mpsc::Receiver<Publishing>,
        ends: mpsc::UnboundedSender<(u64, Published)>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, TargetError> {
        let client_id = format!("{}-down", config.client_id);
        Ok(Self {
            target: Target::without_session(config, &client_id)?,
            work: Work { messages, open: true, outstanding: Outstanding::default() },
            ends,
            metrics,
            has_connected: false,
            said: None,
        })
    }

    /// Runs until nothing more can come and everything has ended, or until `stop_now`.
    pub async fn run(mut self, stop_now: CancellationToken) {
        tokio::select! {
            () = stop_now.cancelled() => {}
            () = self.publish_all() => {}
        }
    }

    async fn publish_all(&mut self) {
        let mut retry = Retry::reconnect();
        while !self.work.is_done() {
            let Err(error) = self.serve_one_connection(&mut retry).await else {
                continue;
            };
            self.say(&error);
            if let Some(number) = self.work.outstanding.disconnected() {
                let word = format!("the broker hangs up whenever it comes ({error})");
                self.end(number, Published::Refused(word));
            }
            self.work.meanwhile(tokio::time::sleep(retry.next_pause())).await;
        }
    }

    /// Until it fails, or until there is nothing left to do.
    async fn serve_one_connection(&mut self, retry: &mut Retry) -> Result<(), LinkError> {
        let Some(opened) = self.work.meanwhile(Link::open(&self.target)).await else {
            return Ok(());
        };
        let mut link = opened?;
        if std::mem::replace(&mut self.has_connected, true) {
            self.metrics.downlink.reconnects_total.inc();
        }
        self.work.outstanding.connected(link.limits().maximum_qos);
        while !self.work.is_done() {
            self.fill(&mut link);
            if let Some(packet) = link.next_packet()? {
                self.handle(packet, retry)?;
                continue;
            }
            if link.waiting_bytes() == 0 {
                for number in self.work.outstanding.written() {
                    self.end(number, Published::Acknowledged);
                }
            }
            tokio::select! {
                biased;
                message = self.work.messages.recv(), if self.work.open => self.work.take(message),
                served = link.serve() => served?,
            }
        }
        link.say_goodbye().await;
        Ok(())
    }

    fn fill(&mut self, link: &mut Link) {
        let window = usize::from(link.limits().receive_maximum).min(WINDOW);
        while link.waiting_bytes() < OUTBOX_BYTES
            && let Some((publishing, packet_id)) = self.work.outstanding.next(window)
        {
            let end = match publish_of(publishing, packet_id) {
                None => Published::Expired,
                Some(publish) => match link.publish(publish) {
                    Ok(()) => continue,
                    Err(PacketError::OutgoingPacketTooLarge { .. }) => Published::TooLarge,
                    Err(error) => Published::Refused(error.to_string()),
                },
            };
            if let Some(number) = self.work.outstanding.refuse_newest() {
                self.end(number, end);
            }
        }
    }

    fn handle(&mut self, packet: Incoming, retry: &mut Retry) -> Result<(), LinkError> {
        let Incoming::PubAck(puback) = packet else {
            return Ok(());
        };
        match self.work.outstanding.acknowledged(puback.packet_id, &puback.answer) {
            Acknowledged::Ended(number, end) => {
                retry.reset();
                self.end(number, end);
                Ok(())
            }
            Acknowledged::TryAgain(reason) => Err(LinkError::NotNow(reason)),
            Acknowledged::Unknown => Ok(()),
        }
    }

    fn end(&self, number: u64, end: Published) {
        // Whoever listens is gone only when the process ends.
        let _ = self.ends.send((number, end));
    }

    fn say(&mut self, error: &LinkError) {
        let now = tokio::time::Instant::now();
        if self.said.is_none_or(|said| now > said + SAY_AGAIN_AFTER) {
            self.said = Some(now);
            tracing::warn!(%error, "the downlink has no connection to the MQTT broker; trying again");
        }
    }
}

/// With what is left of its life at this moment; `None` = nothing.
fn publish_of(publishing: &Publishing, packet_id: u16) -> Option<Publish> {
    let left_s = publishing.left_s();
    let mut publish = to_publish(&publishing.message, packet_id);
    if let Some(properties) = &mut publish.properties {
        properties.message_expiry_interval = left_s;
    }
    (left_s != Some(0)).then_some(publish)
}

#[cfg(test)]
#[path = "publisher_tests.rs"]
mod tests;
