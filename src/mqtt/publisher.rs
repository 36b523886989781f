//! The downlink's connection: publishes the messages that it is given, in order, and tells what became of each.
//!
//! The downlink has a connection of its own beside the subscriber's, so that PUBACKs of either side never wait for the other's
//! messages.
//!
//! Promises: a message with QoS 1 ends with its PUBACK, whose reason is read; a message without an end is published again after
//! a reconnect, in order; at most [`WINDOW`] messages are on their way, and fewer if the broker asks for it; a message leaves with
//! what is left of its life, or not at all. A broker that allows QoS 0 only gets QoS 0.
//! Must never: give a message up because the broker is away; wait for a broker when nothing is left to publish.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::connection::LinkError;
use super::link::Link;
use super::outage::Outage;
use super::outstanding::{Acknowledged, Outstanding};
use super::target::Target;
use super::tls::TlsError;
use super::wire::{FromBroker, WritePacketError};
use crate::config::MqttConfig;
use crate::pipeline::Retry;
use crate::pipeline::ports::{Published, Publishing};
use crate::telemetry::Metrics;

/// Messages that may be sent and not acknowledged.
const WINDOW: usize = 500;
/// While more bytes than that wait to be written, no further message is sent.
const OUTBOX_BYTES: usize = 1 << 20;

/// Publishes what the downlink gives it, on one connection after the other.
pub struct DownlinkPublisher {
    target: Target,
    backlog: Backlog,
    ends: mpsc::UnboundedSender<(u64, Published)>,
    metrics: Arc<Metrics>,
    has_connected: bool,
    /// For the log lines about the connection.
    outage: Outage,
}

/// What is to be published and has no end yet. Who gives the messages bounds how many there are.
struct Backlog {
    messages: mpsc::Receiver<Publishing>,
    /// False when no more messages can come.
    open: bool,
    outstanding: Outstanding,
}

impl Backlog {
    fn is_done(&self) -> bool {
        !self.open && self.outstanding.is_empty()
    }

    /// Takes messages in while it waits for something else; `None` as soon as there is nothing left to do.
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
    /// `ends` is unbounded because no more messages can end than were given.
    pub fn new(
        config: &MqttConfig,
        messages: mpsc::Receiver<Publishing>,
        ends: mpsc::UnboundedSender<(u64, Published)>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, TlsError> {
        let client_id = format!("{}-down", config.client_id);
        Ok(Self {
            target: Target::without_session(config, &client_id)?,
            backlog: Backlog { messages, open: true, outstanding: Outstanding::default() },
            ends,
            metrics,
            has_connected: false,
            outage: Outage::default(),
        })
    }

    /// Runs until no more messages can come and all have ended, or until `stop_now`.
    pub async fn run(mut self, stop_now: CancellationToken) {
        tokio::select! {
            () = stop_now.cancelled() => {}
            () = self.publish_all() => {}
        }
    }

    async fn publish_all(&mut self) {
        let mut retry = Retry::reconnect();
        while !self.backlog.is_done() {
            let Err(error) = self.serve_one_connection(&mut retry).await else {
                continue;
            };
            self.warn(&error);
            if let Some(number) = self.backlog.outstanding.disconnected() {
                let reason = format!("the broker hangs up whenever it comes ({error})");
                self.report_end(number, Published::Refused(reason));
            }
            self.backlog.meanwhile(tokio::time::sleep(retry.next_pause())).await;
        }
    }

    /// Publishes on one connection until it fails, or until there is nothing left to do.
    async fn serve_one_connection(&mut self, retry: &mut Retry) -> Result<(), LinkError> {
        let Some(opened) = self.backlog.meanwhile(Link::open(&self.target)).await else {
            return Ok(());
        };
        let mut link = opened?;
        if std::mem::replace(&mut self.has_connected, true) {
            self.metrics.downlink.reconnects_total.inc();
        }
        if let Some(failures @ 1..) = self.outage.connected() {
            tracing::info!(address = %link.address(), failures, "the downlink is connected to the MQTT broker again");
        }
        self.backlog.outstanding.connected(link.limits().maximum_qos);
        while !self.backlog.is_done() {
            if let Some(over) = self.outage.over() {
                tracing::info!(
                    failures = over.failures,
                    "the downlink's connection to the MQTT broker lasts again"
                );
            }
            self.send_due(&mut link);
            if let Some(packet) = link.next_packet()? {
                self.handle(packet, retry)?;
                continue;
            }
            if link.waiting_bytes() == 0 {
                for number in self.backlog.outstanding.written() {
                    self.report_end(number, Published::Acknowledged);
                }
            }
            tokio::select! {
                biased;
                message = self.backlog.messages.recv(), if self.backlog.open => self.backlog.take(message),
                served = link.serve() => served?,
            }
        }
        link.say_goodbye().await;
        Ok(())
    }

    /// Puts messages into the outbox, as many as it and the window have room for.
    fn send_due(&mut self, link: &mut Link) {
        let window = usize::from(link.limits().receive_maximum).min(WINDOW);
        while link.waiting_bytes() < OUTBOX_BYTES
            && let Some((publishing, packet_id)) = self.backlog.outstanding.next(window)
        {
            let left_s = publishing.left_s();
            let end = if left_s == Some(0) {
                Published::Expired
            } else {
                match link.publish(&publishing.message, packet_id, left_s) {
                    Ok(()) => continue,
                    Err(WritePacketError::TooLarge { .. }) => Published::TooLarge,
                    Err(WritePacketError::Invalid(reason)) => Published::Refused(reason),
                }
            };
            if let Some(number) = self.backlog.outstanding.refuse_newest() {
                self.report_end(number, end);
            }
        }
    }

    fn handle(&mut self, packet: FromBroker, retry: &mut Retry) -> Result<(), LinkError> {
        let FromBroker::Puback(puback) = packet else {
            return Ok(());
        };
        match self.backlog.outstanding.acknowledged(puback.packet_id, puback.verdict) {
            Acknowledged::Ended(number, end) => {
                retry.reset();
                self.report_end(number, end);
                Ok(())
            }
            Acknowledged::TryAgain(reason) => Err(LinkError::NotNow(reason)),
            Acknowledged::Unknown => Ok(()),
        }
    }

    fn report_end(&self, number: u64, end: Published) {
        // The receiver is gone only when the process ends.
        let _ = self.ends.send((number, end));
    }

    fn warn(&mut self, error: &LinkError) {
        if self.outage.failed(&error.to_string()) {
            let (broker, failures) = (&self.target.place, self.outage.failures());
            tracing::warn!(broker, failures, %error, "the downlink has no connection to the MQTT broker; trying again");
        }
    }
}

#[cfg(test)]
mod tests;
