//! One connection to the MQTT broker. Every connection of the bridge is one of these, whatever it is for.
//!
//! It is not rumqttc's event loop, which was measured: that one writes each PUBACK by a system call of its own; it chooses at
//! random between ten packets to read and one PUBACK to write, so that a broker which sends beyond the receive maximum starves
//! the PUBACKs (Mosquitto 2.0.11 releases 1,000 messages of a backlog for each PUBACK); and it cannot stop reading.
//!
//! Promises: packets leave in the order in which they were pushed, as many in one write as there are; a call that is
//! cancelled loses nothing; nothing of a connection is seen after its failure.
//! Must never: acknowledge, retry or reconnect by itself.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

use super::mqtt5;
use super::target::Target;
use super::wire::{Connack, FromBroker, Goodbye, ReadPacketError, Refusal, ToBroker, WritePacketError};
use crate::happy_eyeballs::{self, ConnectError};
use crate::model::quoted;

/// The time that name lookup, TCP, TLS and CONNACK may take together.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// Small, because a message that waits in the bridge keeps the whole block in memory in which it was read.
const READ_AT_ONCE_BYTES: usize = 16 * 1024;

/// Why there is no connection, or no longer.
#[allow(clippy::missing_docs_in_private_items, reason = "each text says what is wrong")]
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error(
        "no TCP connection to the MQTT broker at {place}: {cause}; check that it runs at mqtt.url and that no firewall stands \
         between"
    )]
    Connect { place: String, cause: ConnectError },
    #[error("TLS to the MQTT broker failed: {0}")]
    Tls(String),
    #[error(transparent)]
    Refused(Refusal),
    #[error(
        "this broker seems to speak only MQTT 3.1.1: it closes the connection without an answer to CONNECT, and roombridge needs \
         MQTT 5; use a broker with MQTT 5; if it has it, check whether its port wants TLS (mqtts://), and its log"
    )]
    NoAnswer,
    #[error(
        "this broker seems to speak only MQTT 3.1.1: it does not answer CONNECT within {} s, and roombridge needs MQTT 5; use a \
         broker with MQTT 5; if it has it, check whether its port wants TLS (mqtts://), and whether it hangs",
        CONNECT_DEADLINE.as_secs()
    )]
    Unanswered,
    #[error(
        "what answers at mqtt.url does not speak MQTT ({0}); check host and port, and whether the port wants TLS (mqtts://)"
    )]
    NotMqtt(String),
    #[error("the connection to the MQTT broker was lost: {0}; see its log, and the network between")]
    Io(io::Error),
    #[error("the MQTT broker closed the connection and gave no reason; see its log")]
    Closed,
    #[error("the MQTT broker disconnects us: {0}")]
    Disconnected(Goodbye),
    #[error(
        "the MQTT broker is silent: it answers no PINGREQ; see whether it hangs, and whether a firewall forgets connections"
    )]
    Silent,
    #[error(
        "the MQTT broker cannot take a message now: {0}; see its limits and its log; the message is sent again"
    )]
    NotNow(String),
    #[error(
        "the MQTT broker sent what MQTT 5 does not allow: {0}; if that comes again, look for a newer version of the broker"
    )]
    Protocol(String),
    #[error("CONNECT cannot be written: {0}; check mqtt.client_id, mqtt.username and mqtt.password")]
    Unwritable(WritePacketError),
}

impl From<io::Error> for LinkError {
    // The text holds the cause, so it is no source, which would be printed once more.
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// An open connection, after its CONNACK.
pub(crate) struct Connection {
    stream: Box<dyn Stream>,
    address: SocketAddr,
    /// What was read and is no whole packet yet.
    received: BytesMut,
    /// The largest packet that we take.
    max_packet_bytes: u32,
    /// Packets that wait to be written. Bounded by its users: a PUBACK for each message, and hardly anything else.
    outbox: BytesMut,
    /// The largest packet that the broker takes.
    broker_max_packet_bytes: Option<u32>,
    unflushed: bool,
    /// Something was written since [`Self::take_writes_stand`] was asked last.
    has_written: bool,
}

impl Connection {
    /// Connects. Name lookup, TCP, TLS and CONNACK have one deadline together; the error says which of them it was.
    pub(crate) async fn open(target: &Target) -> Result<(Self, Connack), LinkError> {
        let deadline = Instant::now() + CONNECT_DEADLINE;
        let tcp = happy_eyeballs::connect(&target.place, CONNECT_DEADLINE).await;
        let tcp = tcp.map_err(|cause| LinkError::Connect { place: target.place.clone(), cause })?;
        tcp.set_nodelay(true)?;
        let address = tcp.peer_addr()?;
        let stream: Box<dyn Stream> = match &target.tls {
            Some(tls) => Box::new(tls.connect(tcp, deadline).await.map_err(LinkError::Tls)?),
            None => Box::new(tcp),
        };
        let mut connection = Self {
            stream,
            address,
            received: BytesMut::new(),
            max_packet_bytes: target.connect.max_packet_bytes,
            outbox: BytesMut::new(),
            broker_max_packet_bytes: None,
            unflushed: false,
            has_written: false,
        };
        connection.push(&ToBroker::Connect(&target.connect)).map_err(LinkError::Unwritable)?;
        let answered = timeout_at(deadline, connection.connack()).await.unwrap_or(Err(LinkError::Unanswered));
        let connack = answered.map_err(|error| before_any_answer(error, &connection.received))?;
        connection.broker_max_packet_bytes = connack.limits.max_packet_bytes;
        Ok((connection, connack))
    }

    async fn connack(&mut self) -> Result<Connack, LinkError> {
        loop {
            self.serve(true).await?;
            match self.next_packet()? {
                Some(FromBroker::Connack(connack)) => return Ok(connack),
                Some(FromBroker::Refused(refusal)) => return Err(LinkError::Refused(refusal)),
                Some(_) => {
                    return Err(LinkError::NotMqtt("it answers CONNECT with another packet".to_owned()));
                }
                None => {}
            }
        }
    }

    /// Where the broker is, of all the addresses that its name may have.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next packet of what was read; `None` until [`Self::serve`] has read more.
    pub(crate) fn next_packet(&mut self) -> Result<Option<FromBroker>, LinkError> {
        match mqtt5::read(&mut self.received, self.max_packet_bytes) {
            Ok(FromBroker::Goodbye(goodbye)) => Err(LinkError::Disconnected(goodbye)),
            Ok(packet) => Ok(Some(packet)),
            Err(ReadPacketError::Incomplete { missing_bytes }) => {
                self.received.reserve(missing_bytes.max(READ_AT_ONCE_BYTES));
                Ok(None)
            }
            Err(ReadPacketError::Malformed(what)) => Err(LinkError::Protocol(what)),
        }
    }

    /// Puts a packet into the outbox; [`Self::serve`] writes it.
    pub(crate) fn push(&mut self, packet: &ToBroker<'_>) -> Result<(), WritePacketError> {
        mqtt5::write(packet, &mut self.outbox, self.broker_max_packet_bytes)
    }

    /// Bytes that wait to be written.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.outbox.len()
    }

    /// How many PUBACKs wait to be written: hardly anything else does, and each has four bytes. A DISCONNECT has two.
    pub(crate) fn waiting_pubacks_at_most(&self) -> usize {
        self.outbox.len().saturating_sub(2).div_ceil(4)
    }

    /// Whether something waits to be written and nothing has left since the last call.
    pub(crate) fn take_writes_stand(&mut self) -> bool {
        let has_written = std::mem::take(&mut self.has_written);
        !self.outbox.is_empty() && !has_written
    }

    /// Writes what waits and, if `reading`, reads; returns when something was read. May be cancelled at any time.
    pub(crate) async fn serve(&mut self, reading: bool) -> Result<(), LinkError> {
        poll_fn(|context| {
            if let Poll::Ready(Err(error)) = self.poll_write(context) {
                // A broker that takes nothing more may have said why before it hung up.
                if reading && let Poll::Ready(Ok(())) = self.poll_read(context) {
                    return Poll::Ready(Ok(()));
                }
                return Poll::Ready(Err(error));
            }
            if !reading {
                return Poll::Pending;
            }
            self.poll_read(context)
        })
        .await
    }

    /// Ends the connection: writes everything, says that nothing follows, and reads until the broker closes, because closing a
    /// socket with unread bytes takes back what the broker has not read yet. `Ok` when the broker has read all and closed. It has
    /// no deadline of its own.
    pub(crate) async fn finish(&mut self) -> Result<(), LinkError> {
        poll_fn(|context| self.poll_write(context)).await?;
        self.stream.shutdown().await?;
        loop {
            self.received.clear();
            match poll_fn(|context| self.poll_read(context)).await {
                Ok(()) => {}
                Err(LinkError::Closed) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Ready when all is written and flushed.
    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<Result<(), LinkError>> {
        while !self.outbox.is_empty() {
            match Pin::new(&mut self.stream).poll_write(context, &self.outbox) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(LinkError::Closed)),
                Poll::Ready(Ok(count)) => {
                    self.outbox.advance(count);
                    (self.unflushed, self.has_written) = (true, true);
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                Poll::Pending => return Poll::Pending,
            }
        }
        if self.unflushed {
            match Pin::new(&mut self.stream).poll_flush(context) {
                Poll::Ready(Ok(())) => self.unflushed = false,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Result<(), LinkError>> {
        self.received.reserve(READ_AT_ONCE_BYTES);
        let read = pin!(self.stream.read_buf(&mut self.received));
        match read.poll(context) {
            Poll::Ready(Ok(0)) => Poll::Ready(Err(LinkError::Closed)),
            Poll::Ready(Ok(_)) => Poll::Ready(Ok(())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// What an error means before the broker has answered CONNECT; `received` is the beginning of what may be an answer.
fn before_any_answer(error: LinkError, received: &[u8]) -> LinkError {
    let hang_ups = [io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe, io::ErrorKind::UnexpectedEof];
    let error = match error {
        LinkError::Closed => LinkError::NoAnswer,
        LinkError::Io(error) if hang_ups.contains(&error.kind()) => LinkError::NoAnswer,
        LinkError::Protocol(what) => LinkError::NotMqtt(what),
        other => other,
    };
    match error {
        LinkError::NoAnswer | LinkError::Unanswered if !received.is_empty() => LinkError::NotMqtt(format!(
            "its answer begins with {}",
            quoted(&String::from_utf8_lossy(received))
        )),
        other => other,
    }
}

#[cfg(test)]
mod tests;
