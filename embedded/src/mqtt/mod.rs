//! The embedded MQTT broker: MQTT 3.1.1 and 5 over TCP and WebSocket on 127.0.0.1. An [`crate::AccessControl`] decides who
//! may connect.
//!
//! Promises: sessions, retained messages and queued messages are in the data folder after a graceful stop. Each delivery to
//! an MQTT 5 client has the sender's client id in the user property `x-mqtt-client-id`, and the sender's label in
//! [`SENDER_PROPERTY`]. A refused request is answered, and then the connection is closed.
//! Must never listen on another address.

mod broker;
mod connection;
mod connections;
mod handshake;
mod own_topics;
mod stage;
mod stream;
mod transport;
mod turns;

use std::net::TcpListener as StdListener;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{broadcast, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use self::broker::Broker;
use self::transport::{Serving, Transport};
use crate::EmbeddedError;
use crate::access::ClientPolicy;
use crate::data_folder::DataFolder;
use crate::error::with_causes;
use crate::ports::{Listener, MQTT_TCP, MQTT_WEBSOCKET, reserve};

const FOLDER: &str = "mqtt";
const START_SECONDS: u64 = 60;
const BACKLOG: u32 = 1024;
/// At a stop, connections get so long to end; the store gets the rest of [`STOP_DEADLINE`].
const CLOSE_DEADLINE: Duration = Duration::from_secs(4);
const STOP_DEADLINE: Duration = Duration::from_secs(5);

/// User property of each delivery: `LABEL#CONNECTION` of the sender.
pub const SENDER_PROPERTY: &str = "x-mqtt-sender";

pub struct MqttBrokerOptions {
    /// 0 takes a free port.
    pub tcp_port: u16,
    /// 0 takes a free port.
    pub websocket_port: u16,
    /// The broker writes into the subfolder `mqtt`.
    pub data_dir: PathBuf,
    pub client_policy: ClientPolicy,
}

/// A running broker. Dropping it starts a graceful stop without waiting for its end.
pub struct MqttBroker {
    tcp_port: u16,
    websocket_port: u16,
    broker: Arc<Broker>,
    stop: StopOnDrop,
    run: JoinHandle<()>,
    /// Closed when `run` has ended, for whatever reason.
    ended: watch::Receiver<()>,
}

struct StopOnDrop(broadcast::Sender<()>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        // The send fails only if nothing runs any more.
        let _ = self.0.send(());
    }
}

pub fn start_mqtt_broker(
    options: MqttBrokerOptions,
) -> BoxFuture<'static, Result<MqttBroker, EmbeddedError>> {
    Box::pin(start(options))
}

async fn start(options: MqttBrokerOptions) -> Result<MqttBroker, EmbeddedError> {
    let tcp = reserve(MQTT_TCP, options.tcp_port)?;
    let websocket = reserve(MQTT_WEBSOCKET, options.websocket_port)?;
    let folder = DataFolder::open(options.data_dir.join(FOLDER))?;
    let broker =
        timeout(Duration::from_secs(START_SECONDS), Broker::open(options.client_policy, folder.path()))
            .await
            .map_err(|_| EmbeddedError::NotReady { what: MQTT_TCP.what, seconds: START_SECONDS })?
            .map_err(|error| EmbeddedError::MqttStart {
                folder: folder.path().to_path_buf(),
                reason: with_causes(&error),
            })?;
    let broker = Arc::new(broker);
    let (tcp, tcp_port) = listener(MQTT_TCP, tcp)?;
    let (websocket, websocket_port) = listener(MQTT_WEBSOCKET, websocket)?;
    let stop = StopOnDrop(broker.stop.clone());
    let listeners = [(Transport::Tcp, tcp), (Transport::WebSocket, websocket)];
    let (running, ended) = watch::channel(());
    let running = run(Arc::clone(&broker), listeners, broker.stop.subscribe(), folder, running);
    Ok(MqttBroker { tcp_port, websocket_port, run: tokio::spawn(running), ended, broker, stop })
}

fn listener(listener: Listener, reserved: StdListener) -> Result<(TcpListener, u16), EmbeddedError> {
    let opened = || {
        reserved.set_nonblocking(true)?;
        let port = reserved.local_addr()?.port();
        // A whole class connects at once. With the usual backlog of 128, each connection beyond it would wait a second longer.
        let socket = TcpSocket::from_std_stream(OwnedFd::from(reserved).into());
        Ok((socket.listen(BACKLOG)?, port))
    };
    opened().map_err(|source| EmbeddedError::Bind {
        what: listener.what,
        port: 0,
        flag: listener.flag,
        source,
    })
}

async fn run(
    broker: Arc<Broker>,
    listeners: [(Transport, TcpListener); 2],
    mut stop: broadcast::Receiver<()>,
    folder: DataFolder,
    _running: watch::Sender<()>,
) {
    let mut upkeep = broker.upkeep();
    let serving = Serving::default();
    let mut accepting = JoinSet::new();
    for (transport, listener) in listeners {
        accepting.spawn(transport.accept_connections(listener, Arc::clone(&broker), Arc::clone(&serving)));
    }
    tokio::select! {
        // An error means that nobody can stop the broker any more, so it stops.
        _ = stop.recv() => {}
        // These end only by a panic.
        Some(_) = accepting.join_next() => tracing::error!("a listener of the embedded MQTT broker has died"),
        Some(_) = upkeep.join_next() => tracing::error!("the upkeep of the embedded MQTT broker has died"),
    }

    accepting.shutdown().await;
    broker.connections.cut_silent();
    let mut open = std::mem::take(&mut *serving.lock().unwrap_or_else(PoisonError::into_inner));
    let all_ended = async { while open.join_next().await.is_some() {} };
    if timeout(CLOSE_DEADLINE, all_ended).await.is_err() {
        tracing::warn!("connections of the embedded MQTT broker did not end in time and are cut off");
    }
    // Waits for the tasks, because nobody else can open the store while a task has it.
    open.shutdown().await;
    upkeep.shutdown().await;
    // Writes the messages that the last connections queued.
    if let Err(error) = broker.storage.shutdown().await {
        tracing::error!(%error, "the embedded MQTT broker could not write its queues");
    }
    drop(folder);
}

impl MqttBroker {
    pub fn tcp_port(&self) -> u16 {
        self.tcp_port
    }

    pub fn websocket_port(&self) -> u16 {
        self.websocket_port
    }

    /// Closes the connection of this number, for example because its token has expired; a connection that took over from it
    /// stays. Its will is sent, and the client may connect again. Does not wait for the end, which
    /// [`crate::ClientEventKind::Gone`] reports.
    pub fn disconnect(&self, connection: u64) {
        self.broker.connections.cut(connection);
    }

    /// Returns when the broker has ended, whether it was asked to or not.
    pub fn ended(&self) -> BoxFuture<'static, ()> {
        let mut ended = self.ended.clone();
        Box::pin(async move { while ended.changed().await.is_ok() {} })
    }

    /// Stops gracefully. After 5 s the broker is cut off, and what it has not written then is lost, as in a crash.
    pub fn shutdown(self) -> BoxFuture<'static, ()> {
        Box::pin(self.stop())
    }

    async fn stop(self) {
        let Self { stop, mut run, .. } = self;
        drop(stop);
        if timeout(STOP_DEADLINE, &mut run).await.is_err() {
            tracing::warn!("the embedded MQTT broker did not stop in time and is cut off");
            run.abort();
        }
    }
}
