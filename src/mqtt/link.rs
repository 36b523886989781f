//! A connection on which we publish, with what keeps it alive: the downlink's, and that of a replay.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior};

use super::connection::{Connection, LinkError};
use super::limits::Limits;
use super::target::Target;
use super::watchdog::{Health, Watchdog};
use super::wire::{FromBroker, ToBroker, WritePacketError};
use crate::model::MqttMessage;

const GOODBYE_DEADLINE: Duration = Duration::from_secs(2);

/// An open connection on which we publish, its keep-alive and what its broker allows.
pub(crate) struct Link {
    connection: Connection,
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
        Ok(Self { connection, watchdog, ticks, limits: connack.limits })
    }

    /// Where the broker is, of all the addresses that its name may have.
    pub(crate) fn address(&self) -> SocketAddr {
        self.connection.address()
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Puts a PUBLISH into the outbox: with QoS 1, or with QoS 0 if the packet identifier is 0.
    pub(crate) fn publish(
        &mut self,
        message: &MqttMessage,
        packet_id: u16,
        expiry_s: Option<u32>,
    ) -> Result<(), WritePacketError> {
        self.connection.push(&ToBroker::Publish { message, packet_id, expiry_s })
    }

    /// Bytes that wait to be written.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.connection.waiting_bytes()
    }

    /// The next packet of what was read; `None` until [`Self::serve`] has read more.
    pub(crate) fn next_packet(&mut self) -> Result<Option<FromBroker>, LinkError> {
        self.connection.next_packet()
    }

    /// Writes, reads, pings; returns when something was read or written. May be cancelled at any time.
    pub(crate) async fn serve(&mut self) -> Result<(), LinkError> {
        tokio::select! {
            biased;
            _ = self.ticks.tick() => self.tick(),
            served = self.connection.serve(true) => {
                served?;
                self.watchdog.note_traffic();
                Ok(())
            }
        }
    }

    fn tick(&mut self) -> Result<(), LinkError> {
        let writes_stand = self.connection.take_writes_stand();
        match self.watchdog.second_passed(true, writes_stand) {
            Health::Dead => return Err(LinkError::Silent),
            Health::PingDue => {
                if let Err(error) = self.connection.push(&ToBroker::Ping) {
                    return Err(LinkError::Protocol(error.to_string()));
                }
            }
            Health::Well => {}
        }
        Ok(())
    }

    /// Ends with a DISCONNECT, behind what waits to be written. True if the broker has read all of it and closed.
    pub(crate) async fn say_goodbye(mut self) -> bool {
        if self.connection.push(&ToBroker::Goodbye { ends_session: false }).is_err() {
            return false;
        }
        let finished = self.connection.finish();
        matches!(tokio::time::timeout(GOODBYE_DEADLINE, finished).await, Ok(Ok(())))
    }
}
