//! A client's TCP stream as the broker sees it. We can end it from outside, and delay its CONNACK.
//!
//! Promises: after a refusal nothing more is read, but the answer is still sent; after a cut nothing is sent either. The
//! CONNACK is sent when messages of others can reach the client.
//! Must never delay anything else.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use mqtt5::broker::transport::WebSocketTransport;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::connection::Connection;
use super::stage::Stage;

/// A client may send so many bytes before its CONNACK. That is enough for a CONNECT with a will and the longest texts of MQTT,
/// but far less than the usual limit for a packet, because thousands of strangers may connect.
const BYTES_BEFORE_CONNACK: usize = 512 << 10;

/// Of a WebSocket's handshake so many bytes are kept, to say afterwards why it was refused.
const HANDSHAKE_BYTES: usize = 8 << 10;

/// The first bytes that a caller sent; `None` from the end of the handshake on.
pub(super) type Handshake = Arc<Mutex<Option<Vec<u8>>>>;

pub(super) struct GuardedStream {
    tcp: TcpStream,
    connection: Arc<Connection>,
    received: usize,
    /// `None`: they are not kept.
    handshake: Option<Handshake>,
    welcome: Welcome,
}

enum Welcome {
    ToDo,
    UnderWay(JoinHandle<()>),
    Done,
}

impl GuardedStream {
    pub(super) fn new(tcp: TcpStream, connection: Arc<Connection>) -> Self {
        Self { tcp, connection, received: 0, handshake: None, welcome: Welcome::ToDo }
    }

    /// Keeps the first bytes there.
    pub(super) fn keep_handshake(mut self, handshake: Handshake) -> Self {
        self.handshake = Some(handshake);
        self
    }

    fn keep(&self, bytes: &[u8]) {
        let Some(handshake) = &self.handshake else { return };
        if self.received < HANDSHAKE_BYTES {
            let mut handshake = handshake.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(kept) = handshake.as_mut() {
                let room = HANDSHAKE_BYTES.saturating_sub(kept.len());
                kept.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
            }
        }
    }

    /// Runs before the first bytes are written, which are the CONNACK. A client that was not admitted gets its refusal at once.
    fn poll_welcome(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            match &mut self.welcome {
                Welcome::Done => return Poll::Ready(()),
                Welcome::ToDo if self.connection.client_id().is_none() => return Poll::Ready(()),
                Welcome::ToDo => {
                    let connection = Arc::clone(&self.connection);
                    let task = tokio::spawn(async move { connection.keep_own_topics().await });
                    self.welcome = Welcome::UnderWay(task);
                }
                Welcome::UnderWay(task) => {
                    if let Err(error) = ready!(Pin::new(task).poll(context)) {
                        tracing::error!(%error, "a client's own topics could not be subscribed");
                    }
                    self.connection.stage.open();
                    self.connection.end_turn();
                    self.welcome = Welcome::Done;
                }
            }
        }
    }
}

impl AsyncRead for GuardedStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let is_over = match this.connection.stage.poll_stage(context) {
            Stage::Arriving => this.received > BYTES_BEFORE_CONNACK,
            Stage::Open => false,
            Stage::Refused | Stage::Cut => true,
        };
        if is_over {
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.tcp).poll_read(context, buffer);
        this.keep(buffer.filled().get(before..).unwrap_or_default());
        this.received = this.received.saturating_add(buffer.filled().len() - before);
        read
    }
}

impl AsyncWrite for GuardedStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.connection.stage.poll_stage(context) == Stage::Cut {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        ready!(this.poll_welcome(context));
        Pin::new(&mut this.tcp).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_shutdown(context)
    }
}

/// The crate's only transport that takes our own stream. Its name speaks of WebSocket, but the bytes are those of plain TCP.
impl WebSocketTransport for GuardedStream {
    fn peer_addr(&self) -> mqtt5::Result<SocketAddr> {
        Ok(self.connection.remote)
    }
}
