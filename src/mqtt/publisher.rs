//! The downlink's connection: publishes what it is given, in order, and tells what became of each message.
//!
//! A connection of its own beside the subscriber's, so that PUBACKs of either side never wait for the other's messages.
//!
//! Promises: QoS 1 ends with its PUBACK, whose reason is read; what has no end is published again after a reconnect, in
//! order; at most [`WINDOW`] messages are on their way, and fewer if the broker asks for it; a message leaves with what is
//! left of its life, or not at all.
//! Must never: give a message up because the broker is away.

use std::sync::Arc;
use std::time::Duration;

use rumqttc::v5::mqttbytes::Error as PacketError;
use rumqttc::v5::mqttbytes::v5::{ConnAck, Disconnect, DisconnectReasonCode, Packet, PingReq, Publish};
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::connection::{Connection, LinkError, Outbox};
use super::options::OptionsError;
use super::outstanding::{Acknowledged, Outstanding};
use super::target::Target;
use super::translate::to_publish;
use super::watchdog::{Sign, Watchdog};
use crate::config::MqttConfig;
use crate::pipeline::Retry;
use crate::pipeline::ports::{Published, Publishing};
use crate::telemetry::Metrics;

const WINDOW: usize = 500;
/// What waits to be written; more is taken from the queue when it has left.
const OUTBOX_BYTES: usize = 1 << 20;
const GOODBYE_DEADLINE: Duration = Duration::from_secs(2);
const SAY_AGAIN_AFTER: Duration = Duration::from_secs(30);

/// See the module's words.
pub struct DownlinkPublisher {
    target: Target,
    messages: mpsc::Receiver<Publishing>,
    ends: mpsc::UnboundedSender<(u64, Published)>,
    metrics: Arc<Metrics>,
    outstanding: Outstanding,
    /// More may be given to us.
    open: bool,
    has_connected: bool,
    said: Option<tokio::time::Instant>,
}

/// One connection and what belongs to it.
struct Link {
    connection: Connection,
    outbox: Outbox,
    watchdog: Watchdog,
    ticks: Interval,
    window: usize,
}

impl DownlinkPublisher {
    /// `ends` is unbounded because no more can end than was given.
    pub fn new(
        config: &MqttConfig,
        messages: mpsc::Receiver<Publishing>,
        ends: mpsc::UnboundedSender<(u64, Published)>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, OptionsError> {
        let client_id = format!("{}-down", config.client_id);
        Ok(Self {
            target: Target::without_session(config, &client_id)?,
            messages,
            ends,
            metrics,
            outstanding: Outstanding::default(),
            open: true,
            has_connected: false,
            said: None,
        })
    }

    /// Runs until nothing more can come and everything has ended, or until `stop_now`.
    pub async fn run(mut self, stop_now: CancellationToken) {
        let mut retry = Retry::reconnect();
        while self.open || !self.outstanding.is_empty() {
            let served = tokio::select! {
                () = stop_now.cancelled() => return,
                served = self.serve_one_connection(&mut retry) => served,
            };
            let Err(error) = served else { continue };
            self.say(&error);
            if let Some(number) = self.outstanding.disconnected() {
                let word = format!("the broker hangs up whenever it comes ({error})");
                self.end(number, Published::Refused(word));
            }
            tokio::select! {
                () = stop_now.cancelled() => return,
                () = tokio::time::sleep(retry.next_pause()) => {}
            }
        }
    }

    /// Until it fails, or until there is nothing left to do.
    async fn serve_one_connection(&mut self, retry: &mut Retry) -> Result<(), LinkError> {
        let (connection, connack) = Connection::open(&self.target).await?;
        let mut link = Link::new(connection, &connack, self.target.keep_alive);
        if std::mem::replace(&mut self.has_connected, true) {
            self.metrics.downlink.reconnects_total.inc();
        }
        self.outstanding.connected();
        while self.open || !self.outstanding.is_empty() {
            self.fill(&mut link);
            if let Some(packet) = link.connection.next_packet()? {
                self.handle(packet, retry)?;
                continue;
            }
            if link.outbox.len_bytes() == 0 {
                for number in self.outstanding.written() {
                    self.end(number, Published::Acknowledged);
                }
            }
            tokio::select! {
                biased;
                _ = link.ticks.tick() => link.tick()?,
                message = self.messages.recv(), if self.open => match message {
                    Some(publishing) => self.outstanding.push(publishing),
                    None => self.open = false,
                },
                served = link.connection.serve(&mut link.outbox, true) => {
                    served?;
                    link.watchdog.heard();
                }
            }
        }
        link.say_goodbye().await;
        Ok(())
    }

    fn fill(&mut self, link: &mut Link) {
        while link.outbox.len_bytes() < OUTBOX_BYTES
            && let Some((publishing, packet_id)) = self.outstanding.next(link.window)
        {
            let end = match publish_of(publishing, packet_id) {
                None => Published::Expired,
                Some(publish) => match link.outbox.push(&Packet::Publish(publish)) {
                    Ok(()) => continue,
                    Err(PacketError::OutgoingPacketTooLarge { .. }) => Published::TooLarge,
                    Err(error) => Published::Refused(error.to_string()),
                },
            };
            if let Some(number) = self.outstanding.refuse_newest() {
                self.end(number, end);
            }
        }
    }

    fn handle(&mut self, packet: Packet, retry: &mut Retry) -> Result<(), LinkError> {
        let Packet::PubAck(puback) = packet else {
            return Ok(());
        };
        match self.outstanding.acknowledged(puback.pkid, puback.reason) {
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

impl Link {
    fn new(connection: Connection, connack: &ConnAck, keep_alive: Duration) -> Self {
        let properties = connack.properties.as_ref();
        let mut watchdog = Watchdog::new(keep_alive);
        watchdog.connected(properties.and_then(|properties| properties.server_keep_alive));
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let window = properties
            .and_then(|properties| properties.receive_max)
            .map_or(WINDOW, usize::from);
        Self {
            connection,
            outbox: Outbox::new(connack),
            watchdog,
            ticks,
            window: window.clamp(1, WINDOW),
        }
    }

    fn tick(&mut self) -> Result<(), LinkError> {
        let writes_stand = self.outbox.len_bytes() > 0 && !self.connection.take_has_written();
        match self.watchdog.second_passed(true, writes_stand) {
            Sign::Dead => Err(LinkError::Silent),
            Sign::PingDue => self
                .outbox
                .push(&Packet::PingReq(PingReq))
                .map_err(LinkError::Protocol),
            Sign::Well => Ok(()),
        }
    }

    async fn say_goodbye(mut self) {
        let disconnect = Disconnect::new(DisconnectReasonCode::NormalDisconnection);
        if self.outbox.push(&Packet::Disconnect(disconnect)).is_ok() {
            let _ = tokio::time::timeout(GOODBYE_DEADLINE, self.connection.finish(self.outbox)).await;
        }
    }
}
