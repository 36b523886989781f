//! One connection to the MQTT broker: each connection of ours is one of these, whatever it is for.
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
use rumqttc::v5::mqttbytes::v5::Packet;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::incoming::{self, ConnAck, Incoming};
use super::reason::{Answer, Reason};
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
    #[error("the MQTT broker refuses us: {0}; {hint}", hint = hint(.0))]
    Refused(Answer),
    #[error(
        "the MQTT broker does not speak MQTT 5: it answers in the form of MQTT 3.1.1 (code {0}); use a broker with MQTT 5"
    )]
    OnlyOlder(u8),
    #[error(
        "the MQTT broker closes the connection without an answer to CONNECT, as brokers do that do not speak MQTT 5; check that \
         mqtt.url names a broker with MQTT 5, and whether its port wants TLS (mqtts://)"
    )]
    NoAnswer,
    #[error("the MQTT broker closed the connection")]
    Closed,
    #[error("the MQTT broker disconnects us: {0}")]
    Disconnected(Answer),
    #[error("the MQTT broker is silent")]
    Silent,
    #[error("the MQTT broker cannot take a message now: {0}")]
    NotNow(String),
    #[error("the MQTT broker sent what MQTT 5 does not allow: {0}")]
    Protocol(PacketError),
}

/// What to do about a refusal.
fn hint(answer: &Answer) -> &'static str {
    match answer.reason {
        Reason::UNSUPPORTED_VERSION => "use a broker with MQTT 5",
        Reason::BAD_CLIENT_ID => "check mqtt.client_id",
        Reason::BAD_CREDENTIALS | Reason::NOT_AUTHORIZED | Reason::BAD_AUTHENTICATION_METHOD => {
            "check mqtt.username, mqtt.password and its access rules"
        }
        Reason::BANNED => "ask who runs it why mqtt.client_id or this machine is banned",
        Reason::SERVER_UNAVAILABLE
        | Reason::SERVER_BUSY
        | Reason::QUOTA_EXCEEDED
        | Reason::CONNECTION_RATE_EXCEEDED => "see the broker's load and its limits for clients",
        Reason::USE_ANOTHER_SERVER | Reason::SERVER_MOVED => {
            "set mqtt.url to the server that takes its place"
        }
        Reason::PACKET_TOO_LARGE => "raise its limit for packets",
        _ => "see the broker's log",
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Packets that wait to be written. Bounded by its users: a PUBACK for each message, and hardly anything else.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    bytes: BytesMut,
    last_packet_id: u16,
    /// The largest packet that the broker takes.
    max_packet_bytes: Option<u32>,
}

impl Outbox {
    /// Empty, for a connection with that CONNACK.
    pub(crate) fn new(connack: &ConnAck) -> Self {
        Self { max_packet_bytes: connack.limits.max_packet_bytes, ..Self::default() }
    }

    /// All of the packet, or nothing: what it has in the end counts, not what it was estimated at.
    pub(crate) fn push(&mut self, packet: &Packet) -> Result<(), PacketError> {
        let before = self.bytes.len();
        let written = packet.write(&mut self.bytes, None);
        let pkt_size = u32::try_from(self.bytes.len() - before).unwrap_or(u32::MAX);
        let fits = match self.max_packet_bytes {
            Some(max) if pkt_size > max => Err(PacketError::OutgoingPacketTooLarge { pkt_size, max }),
            Some(_) | None => Ok(()),
        };
        let pushed = written.and(fits);
        if pushed.is_err() {
            self.bytes.truncate(before);
        }
        pushed
    }

    pub(crate) fn next_packet_id(&mut self) -> u16 {
        self.last_packet_id = self.last_packet_id.checked_add(1).unwrap_or(1);
        self.last_packet_id
    }

    pub(crate) fn len_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// How many PUBACKs wait to be written: hardly anything else does, and each has four bytes. A DISCONNECT has two.
    pub(crate) fn pubacks_at_most(&self) -> usize {
        self.bytes.len().saturating_sub(2).div_ceil(4)
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
    }
}

/// An open connection, after its CONNACK.
pub(crate) struct Connection {
    stream: Box<dyn Stream>,
    received: BytesMut,
    max_packet_bytes: u32,
    unflushed: bool,
    has_written: bool,
}

impl Connection {
    /// Connects, with a deadline.
    pub(crate) async fn open(target: &Target) -> Result<(Self, ConnAck), LinkError> {
        tokio::time::timeout(CONNECT_DEADLINE, Self::open_now(target))
            .await
            .unwrap_or(Err(LinkError::Timeout))
    }

    async fn open_now(target: &Target) -> Result<(Self, ConnAck), LinkError> {
        let tcp = TcpStream::connect((target.host.as_str(), target.port)).await?;
        tcp.set_nodelay(true)?;
        let stream: Box<dyn Stream> = match &target.tls {
            Some((connector, name)) => {
                Box::new(connector.connect(name.clone(), tcp).await.map_err(LinkError::Tls)?)
            }
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
            connection.serve(&mut outbox, true).await.map_err(before_any_answer)?;
            match connection.next_packet()? {
                Some(Incoming::ConnAck(connack)) => return Ok((connection, accepted(connack)?)),
                Some(_) => return Err(LinkError::Protocol(PacketError::IncorrectPacketFormat)),
                None => {}
            }
        }
    }

    /// The next packet of what was read; `None` until [`Self::serve`] has read more.
    pub(crate) fn next_packet(&mut self) -> Result<Option<Incoming>, LinkError> {
        match incoming::read(&mut self.received, self.max_packet_bytes) {
            Ok(Incoming::Disconnect(answer)) => Err(LinkError::Disconnected(answer)),
            Ok(Incoming::Publish(publish)) if publish.topic.is_empty() => {
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

    /// Writes what waits and, if `reading`, reads; returns when something was read. May be cancelled at any time.
    pub(crate) async fn serve(&mut self, outbox: &mut Outbox, reading: bool) -> Result<(), LinkError> {
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
    /// takes back what the broker has not read yet. `Ok` when the broker has read all and closed. Without a deadline
    /// of its own.
    pub(crate) async fn finish(mut self, outbox: &mut Outbox) -> Result<(), LinkError> {
        poll_fn(|context| self.poll_write(context, outbox)).await?;
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

    /// Whether anything was written since the last call.
    pub(crate) fn take_has_written(&mut self) -> bool {
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

/// The broker let us in, or says why not. Codes below 0x80 are success, but 1 to 5 are the refusals of MQTT 3.1.1, which
/// brokers of that version give to any CONNECT.
fn accepted(connack: ConnAck) -> Result<ConnAck, LinkError> {
    let reason = connack.answer.reason;
    match reason.0 {
        code @ 1..=5 => Err(LinkError::OnlyOlder(code)),
        code if connack.older_form && reason.is_success() => Err(LinkError::OnlyOlder(code)),
        _ if reason.is_success() => Ok(connack),
        _ => Err(LinkError::Refused(connack.answer)),
    }
}

fn before_any_answer(error: LinkError) -> LinkError {
    match error {
        LinkError::Closed => LinkError::NoAnswer,
        LinkError::Io(error)
            if [io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe, io::ErrorKind::UnexpectedEof]
                .contains(&error.kind()) =>
        {
            LinkError::NoAnswer
        }
        other => other,
    }
}
