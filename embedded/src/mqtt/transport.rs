//! The listeners of the broker: each caller gets a place, a deadline and a task of its own.
//!
//! Promises: a caller without a CONNECT is cut off after 8 s, whether it is silent, slow, or in the middle of a WebSocket
//! handshake. No caller waits for another one. The end of a connection is reported, whatever its reason.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mqtt5::broker::auth::AuthProvider;
use mqtt5::broker::client_handler::ClientHandler;
use mqtt5::broker::transport::BrokerTransport;
use mqtt5::broker::websocket_server::{WebSocketServerConfig, accept_websocket_connection};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::broker::Broker;
use super::connection::Connection;
use super::handshake::WEBSOCKET_PATH;
use super::stream::{GuardedStream, Handshake};

const CONNECT_DEADLINE: Duration = Duration::from_secs(8);
/// The pause after a failed accept. That happens when the process has too many open files; some will be closed soon.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(50);

#[derive(Clone, Copy)]
pub(super) enum Transport {
    Tcp,
    WebSocket,
}

/// The tasks of the connections; dropping the set ends them.
pub(super) type Serving = Arc<Mutex<JoinSet<()>>>;

impl Transport {
    /// Accepts connections until the task is aborted.
    pub(super) async fn accept_connections(
        self,
        listener: TcpListener,
        broker: Arc<Broker>,
        serving: Serving,
    ) {
        loop {
            match listener.accept().await {
                Ok((stream, remote)) => {
                    let connection = Arc::new(Connection::new(Arc::clone(&broker), remote));
                    if broker.connections.arrived(connection.number, &connection.stage) {
                        let mut serving = serving.lock().unwrap_or_else(PoisonError::into_inner);
                        while serving.try_join_next().is_some() {}
                        serving.spawn(self.serve(connection, stream));
                    } else {
                        tracing::debug!(%remote, "turned away: the MQTT broker has no place left");
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "the embedded MQTT broker could not accept a connection");
                    broker.connections.cut_oldest_silent();
                    sleep(PAUSE_AFTER_FAILURE).await;
                }
            }
        }
    }

    async fn serve(self, connection: Arc<Connection>, stream: TcpStream) {
        // A task of its own, so that the end is reported even if the broker's code panics.
        let mut work = JoinSet::new();
        work.spawn(self.work(Arc::clone(&connection), stream));
        if timeout(CONNECT_DEADLINE, work.join_next()).await.is_err() {
            if connection.client_id().is_none() {
                connection.stage.cut();
            }
            work.join_next().await;
        }
        connection.broker.connections.left(connection.number);
        connection.ended().await;
    }

    async fn work(self, connection: Arc<Connection>, stream: TcpStream) {
        let remote = connection.remote;
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, %remote, "the packets of a connection may be delayed");
        }
        let stream = GuardedStream::new(stream, Arc::clone(&connection));
        let transport = match self {
            Self::Tcp => BrokerTransport::WebSocket(Box::new(stream)),
            Self::WebSocket => {
                let handshake = Handshake::new(Mutex::new(Some(Vec::new())));
                let stream = stream.keep_handshake(Arc::clone(&handshake));
                let allowed = &connection.broker.client_policy.allowed_origins;
                let mut config = WebSocketServerConfig::new().with_path(WEBSOCKET_PATH);
                if let Some(origins) = allowed {
                    config = config.with_allowed_origins(origins.clone());
                }
                let accepted = accept_websocket_connection(stream, &config, remote).await;
                // What follows is no handshake, and is not kept.
                let handshake = handshake.lock().unwrap_or_else(PoisonError::into_inner).take();
                match accepted {
                    Ok(stream) => BrokerTransport::websocket(stream),
                    Err(error) => {
                        let (bytes, error) = (handshake.unwrap_or_default(), error.to_string());
                        connection.broker.refused_handshakes.tell(&bytes, allowed.as_deref(), &error, remote);
                        return;
                    }
                }
            }
        };
        let broker = Arc::clone(&connection.broker);
        let mut config = broker.config.clone();
        if broker.has_hooks() {
            config = config.with_event_handler(connection.clone());
        }
        let handler = ClientHandler::new(
            transport,
            remote,
            Arc::new(config),
            Arc::clone(&broker.router),
            connection as Arc<dyn AuthProvider>,
            Some(Arc::clone(&broker.storage)),
            Arc::clone(&broker.stats),
            Arc::clone(&broker.monitor),
            broker.stop.subscribe(),
        );
        if let Err(error) = handler.run().await {
            tracing::debug!(%error, %remote, "an MQTT connection ended");
        }
    }
}
