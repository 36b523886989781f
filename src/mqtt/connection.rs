//! One connection to the MQTT broker: rumqttc's packets on a socket of our own.
//!
//! rumqttc's event loop was measured and left: it writes each PUBACK by a system call of its own; it chooses at random
//! between ten packets to read and one PUBACK to write, so that a broker which sends beyond the receive maximum starves
//! the PUBACKs (Mosquitto 2.0.11 releases 1,000 messages of a backlog for each PUBACK); and it cannot stop reading.
//!
//! Promises: packets leave in the order in which they were pushed, as many in one write as there are; a call that is
//! cancelled loses nothing; nothing of a connection is seen after its failure.
//! Must never: acknowledge, retry or reconnect by itself.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use rumqttc::v5::mqttbytes::Error as PacketError;
use rumqttc::v5::mqttbytes::v5::{ConnAck, ConnectReturnCode, DisconnectReasonCode, Packet};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::target::Target;

/// Name lookup, TCP, TLS and CONNACK together.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// Small, because a message that waits keeps the whole block alive in which it came.
const READ_AT_ONCE_BYTES: usize = 16 * 1024;

/// Why there is no connection, or no longer.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error("the connection to the MQTT broker failed: {0}; check that it runs at mqtt.url")]
    Io(#[from] io::Error),
    #[error("TLS failed; check mqtt.url, mqtt.ca_file and the broker's certificate: {0}")]
    Tls(io::Error),
    #[error("no answer within {} s; check that an MQTT broker runs at mqtt.url", CONNECT_DEADLINE.as_secs())]
    Timeout,
    #[error("the MQTT broker refuses us: {0:?}; check mqtt.username, mqtt.password and its access rules")]
    Refused(ConnectReturnCode),
    #[error("the MQTT broker closed the connection")]
    Closed,
    #[error("the MQTT broker disconnects us: {0:?}")]
    Disconnected(DisconnectReasonCode),
    #[error("the MQTT broker is silent")]
    Silent,
    #[error("the MQTT broker cannot take a message now: {0}")]
    NotNow(String),
    #[error("the MQTT broker sent what MQTT 5 does not allow: {0}")]
    Protocol(PacketError),
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Packets that wait to be written. Bounded by its users: a PUBACK for each message, and hardly anything else.
#[derive(Debug, Default)]
pub struct Outbox {
    bytes: BytesMut,
    last_packet_id: u16,
    /// The largest packet that the broker takes.
    max_packet_bytes: Option<u32>,
}

impl Outbox {
    /// Empty, for a connection with that CONNACK.
    pub fn new(connack: &ConnAck) -> Self {
        Self {
            max_packet_bytes: connack
                .properties
                .as_ref()
                .and_then(|properties| properties.max_packet_size),
            ..Self::default()
        }
    }

    pub fn push(&mut self, packet: &Packet) -> Result<(), PacketError> {
        packet.write(&mut self.bytes, self.max_packet_bytes).map(drop)
    }

    pub fn next_packet_id(&mut self) -> u16 {
        self.last_packet_id = self.last_packet_id.checked_add(1).unwrap_or(1);
        self.last_packet_id
    }

    pub fn len_bytes(&self) -> usize {
        self.bytes.len()
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
    }
}

/// An open connection, after its CONNACK.
pub struct Connection {
    stream: Box<dyn Stream>,
    received: BytesMut,
    max_packet_bytes: u32,
    unflushed: bool,
    has_written: bool,
}

impl Connection {
    /// Connects, with a deadline.
    pub async fn open(target: &Target) -> Result<(Self, ConnAck), LinkError> {
        tokio::time::timeout(CONNECT_DEADLINE, Self::open_now(target))
            .await
            .unwrap_or(Err(LinkError::Timeout))
    }

    async fn open_now(target: &Target) -> Result<(Self, ConnAck), LinkError> {
        let tcp = TcpStream::connect((target.host.as_str(), target.port)).await?;
        tcp.set_nodelay(true)?;
        let stream: Box<dyn Stream> = match &target.tls {
            Some((connector, name)) => Box::new(
                connector
                    .connect(name.clone(), tcp)
                    .await
                    .map_err(LinkError::Tls)?,
            ),
            None => Box::new(tcp),
        };
        let mut connection = Self {
            stream,
            received: BytesMut::new(),
            max_packet_bytes: target.max_packet_bytes,
            unflushed: false,
            has_written: false,
        };
        let mut outbox = Outbox::default();
        outbox.push(&target.connect()).map_err(LinkError::Protocol)?;
        loop {
            connection.serve(&mut outbox, true).await?;
            match connection.next_packet()? {
                Some(Packet::ConnAck(connack)) if connack.code == ConnectReturnCode::Success => {
                    return Ok((connection, connack));
                }
                Some(Packet::ConnAck(connack)) => return Err(LinkError::Refused(connack.code)),
                Some(_) => return Err(LinkError::Protocol(PacketError::IncorrectPacketFormat)),
                None => {}
            }
        }
    }

    /// The next packet of what was read; `None` until [`Self::serve`] has read more.
    pub fn next_packet(&mut self) -> Result<Option<Packet>, LinkError> {
        if let Some(reason) = self.short_disconnect() {
            return Err(LinkError::Disconnected(reason));
        }
        match Packet::read(&mut self.received, Some(self.max_packet_bytes)) {
            Ok(Packet::Disconnect(disconnect)) => Err(LinkError::Disconnected(disconnect.reason_code)),
            Ok(Packet::Publish(publish)) if publish.topic.is_empty() => {
                // We announce no topic aliases, so each topic must be told.
                Err(LinkError::Protocol(PacketError::IncorrectPacketFormat))
            }
            Ok(packet) => Ok(Some(packet)),
            Err(PacketError::InsufficientBytes(missing)) => {
                self.received.reserve(missing.max(READ_AT_ONCE_BYTES));
                Ok(None)
            }
            Err(error) => Err(LinkError::Protocol(error)),
        }
    }

    /// A DISCONNECT without properties, or without a reason as well: rumqttc 0.25 cannot read these.
    fn short_disconnect(&self) -> Option<DisconnectReasonCode> {
        let reason = match *self.received {
            [0xe0, 0, ..] => 0,
            [0xe0, 1, reason, ..] => reason,
            _ => return None,
        };
        let mut with_properties = BytesMut::from(&[0xe0, 2, reason, 0][..]);
        match Packet::read(&mut with_properties, None) {
            Ok(Packet::Disconnect(disconnect)) => Some(disconnect.reason_code),
            _ => Some(DisconnectReasonCode::UnspecifiedError),
        }
    }

    /// Writes what waits and, if `reading`, reads; returns when something was read. May be cancelled at any time.
    pub async fn serve(&mut self, outbox: &mut Outbox, reading: bool) -> Result<(), LinkError> {
        poll_fn(|context| {
            if let Poll::Ready(Err(error)) = self.poll_write(context, outbox) {
                return Poll::Ready(Err(error));
            }
            if !reading {
                return Poll::Pending;
            }
            self.poll_read(context)
        })
        .await
    }

    /// Writes everything, says that nothing follows, and reads to the end: a socket that is closed with unread bytes
    /// takes back what the broker has not read yet. Without a deadline of its own.
    pub async fn finish(mut self, mut outbox: Outbox) -> Result<(), LinkError> {
        poll_fn(|context| self.poll_write(context, &mut outbox)).await?;
        self.stream.shutdown().await?;
        loop {
            self.received.clear();
            poll_fn(|context| self.poll_read(context)).await?;
        }
    }

    /// Whether anything was written since the last call.
    pub fn take_has_written(&mut self) -> bool {
        std::mem::take(&mut self.has_written)
    }

    /// Ready when all is written and flushed.
    fn poll_write(&mut self, context: &mut Context<'_>, outbox: &mut Outbox) -> Poll<Result<(), LinkError>> {
        while !outbox.bytes.is_empty() {
            match Pin::new(&mut self.stream).poll_write(context, &outbox.bytes) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(LinkError::Closed)),
                Poll::Ready(Ok(count)) => {
                    outbox.bytes.advance(count);
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
