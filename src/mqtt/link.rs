//! A connection on which we publish, with what keeps it alive: the downlink's, and that of a replay.

use std::time::Duration;

use rumqttc::v5::mqttbytes::Error as PacketError;
use rumqttc::v5::mqttbytes::v5::{Disconnect, DisconnectReasonCode, Packet, PingReq, Publish};
use tokio::time::{Interval, MissedTickBehavior};

use super::connection::{Connection, LinkError, Outbox};
use super::incoming::Incoming;
use super::limits::Limits;
use super::target::Target;
use super::watchdog::{Sign, Watchdog};

const GOODBYE_DEADLINE: Duration = Duration::from_secs(2);

/// See the module's words.
pub(crate) struct Link {
    connection: Connection,
    outbox: Outbox,
    watchdog: Watchdog,
    ticks: Interval,
    limits: Limits,
}

impl Link {
    /// Connects, with the deadline of [`Connection::open`].
    pub(crate) async fn open(target: &Target) -> Result<Self, LinkError> {
        let (connection, connack) = Connection::open(target).await?;
        let mut watchdog = Watchdog::new(target.keep_alive);
        watchdog.connected(connack.limits.server_keep_alive_s);
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self { connection, outbox: Outbox::new(&connack), watchdog, ticks, limits: connack.limits })
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Puts a PUBLISH into the outbox.
    pub(crate) fn publish(&mut self, publish: Publish) -> Result<(), PacketError> {
        self.outbox.push(&Packet::Publish(publish))
    }

    /// Bytes that wait to be written.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.outbox.len_bytes()
    }

    /// The next packet of what was read; `None` until [`Self::serve`] has read more.
    pub(crate) fn next_packet(&mut self) -> Result<Option<Incoming>, LinkError> {
        self.connection.next_packet()
    }

    /// Writes, reads, pings; returns when something was read or written. May be cancelled at any time.
    pub(crate) async fn serve(&mut self) -> Result<(), LinkError> {
        tokio::select! {
            biased;
            _ = self.ticks.tick() => self.tick(),
            served = self.connection.serve(&mut self.outbox, true) => {
                served?;
                self.watchdog.heard();
                Ok(())
            }
        }
    }

    fn tick(&mut self) -> Result<(), LinkError> {
        let writes_stand = self.outbox.len_bytes() > 0 && !self.connection.take_has_written();
        match self.watchdog.second_passed(true, writes_stand) {
            Sign::Dead => Err(LinkError::Silent),
            Sign::PingDue => self.outbox.push(&Packet::PingReq(PingReq)).map_err(LinkError::Protocol),
            Sign::Well => Ok(()),
        }
    }

    /// Ends with a DISCONNECT, behind what waits to be written. True if the broker has read all of it and closed.
    pub(crate) async fn say_goodbye(mut self) -> bool {
        let disconnect = Disconnect::new(DisconnectReasonCode::NormalDisconnection);
        if self.outbox.push(&Packet::Disconnect(disconnect)).is_err() {
            return false;
        }
        let finished = self.connection.finish(&mut self.outbox);
        matches!(tokio::time::timeout(GOODBYE_DEADLINE, finished).await, Ok(Ok(())))
    }
}
