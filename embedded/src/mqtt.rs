//! The embedded MQTT broker: MQTT 3.1.1 and 5 over TCP and WebSocket on 127.0.0.1, everybody may connect.
//!
//! Promises: sessions, retained messages and queued messages are in the data folder after a graceful stop. Each
//! delivery to an MQTT 5 client carries the sender's client id in the user property `x-mqtt-client-id`.
//! Must never listen on another address.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mqtt5::broker::config::{BrokerConfig, StorageBackend, StorageConfig, WebSocketConfig};
use mqtt5::broker::server::{BrokerShutdownHandle, MqttBroker as Server};
use mqtt5::broker::storage::DynamicStorage;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::data_folder::DataFolder;
use crate::error::with_causes;
use crate::ports::{MQTT_TCP, MQTT_WEBSOCKET, reserve};
use crate::{BoxFuture, EmbeddedError};

const FOLDER: &str = "mqtt";
const WEBSOCKET_PATH: &str = "/mqtt";
const QUEUED_MESSAGES_PER_CLIENT: usize = 1_000_000;
const QUEUED_BYTES_PER_CLIENT: usize = 1 << 30;
/// The broker's own 64 keeps a receiver that acknowledges late at a third of its speed.
const OUTBOUND_INFLIGHT: u16 = 1000;
/// What the bridge takes; a larger message is refused to its sender instead of being dropped on the way.
const PACKET_BYTES: usize = 16 << 20;
const START_SECONDS: u64 = 60;
const STOP_DEADLINE: Duration = Duration::from_secs(5);

pub struct MqttBrokerOptions {
    /// 0 takes a free port.
    pub tcp_port: u16,
    /// 0 takes a free port.
    pub websocket_port: u16,
    /// The broker writes into the subfolder `mqtt`.
    pub data_dir: PathBuf,
}

/// A running broker. Dropping it starts a graceful stop without waiting for its end.
pub struct MqttBroker {
    tcp_port: u16,
    websocket_port: u16,
    stop: StopOnDrop,
    run: JoinHandle<mqtt5::Result<()>>,
    storage: Option<Arc<DynamicStorage>>,
    folder: DataFolder,
}

struct StopOnDrop(BrokerShutdownHandle);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.shutdown();
    }
}

pub fn start_mqtt_broker(options: MqttBrokerOptions) -> BoxFuture<Result<MqttBroker, EmbeddedError>> {
    Box::pin(start(options))
}

async fn start(options: MqttBrokerOptions) -> Result<MqttBroker, EmbeddedError> {
    drop((
        reserve(MQTT_TCP, options.tcp_port)?,
        reserve(MQTT_WEBSOCKET, options.websocket_port)?,
    ));
    let folder = DataFolder::open(options.data_dir.join(FOLDER))?;
    let failed = |reason: String| EmbeddedError::MqttStart {
        folder: folder.path().to_path_buf(),
        reason,
    };

    let config = settings(&options, folder.path());
    let mut server = Server::with_config(config)
        .await
        .map_err(|error| failed(with_causes(&error)))?;
    let tcp = server
        .local_addr()
        .ok_or_else(|| failed("no TCP listener".to_owned()))?;
    // The broker only warns when it cannot bind its WebSocket.
    let websocket = server.ws_local_addr().ok_or(EmbeddedError::AddressInUse {
        what: MQTT_WEBSOCKET.what,
        port: options.websocket_port,
        flag: MQTT_WEBSOCKET.flag,
    })?;

    let stop = StopOnDrop(server.shutdown_handle());
    let storage = server.storage();
    let mut ready = server.ready_receiver();
    let run = tokio::spawn(async move {
        let ended = server.run().await;
        if let Err(error) = &ended {
            tracing::error!(%error, "the embedded MQTT broker ended");
        }
        ended
    });
    let waited = async { ready.wait_for(|ready| *ready).await.map(|_| ()) };
    match timeout(Duration::from_secs(START_SECONDS), waited).await {
        Ok(Ok(())) => {}
        // The sender goes with the broker, so `run` has ended or is about to.
        Ok(Err(_)) => return Err(failed(reason_of_end(run).await)),
        Err(_) => {
            run.abort();
            return Err(EmbeddedError::NotReady {
                what: MQTT_TCP.what,
                seconds: START_SECONDS,
            });
        }
    }
    Ok(MqttBroker {
        tcp_port: tcp.port(),
        websocket_port: websocket.port(),
        stop,
        run,
        storage,
        folder,
    })
}

fn settings(options: &MqttBrokerOptions, folder: &Path) -> BrokerConfig {
    let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let storage = StorageConfig::new()
        .with_backend(StorageBackend::File)
        .with_base_dir(folder.to_path_buf())
        .with_max_queued_messages_per_client(QUEUED_MESSAGES_PER_CLIENT)
        .with_max_queued_bytes_per_client(QUEUED_BYTES_PER_CLIENT);
    let websocket = WebSocketConfig::new()
        .with_bind_address(local(options.websocket_port))
        .with_path(WEBSOCKET_PATH)
        .with_tls(false);
    let mut config = BrokerConfig::default()
        .with_bind_address(local(options.tcp_port))
        .with_websocket(websocket)
        .with_storage(storage)
        .with_max_packet_size(PACKET_BYTES)
        .with_max_outbound_inflight(OUTBOUND_INFLIGHT);
    config.auth_config.allow_anonymous = true;
    config
}

async fn reason_of_end(run: JoinHandle<mqtt5::Result<()>>) -> String {
    match run.await {
        Ok(Ok(())) => "it stopped at once".to_owned(),
        Ok(Err(error)) => with_causes(&error),
        Err(error) => with_causes(&error),
    }
}

impl MqttBroker {
    pub fn tcp_port(&self) -> u16 {
        self.tcp_port
    }

    pub fn websocket_port(&self) -> u16 {
        self.websocket_port
    }

    /// Graceful; after 5 s the broker is cut off, and what it had not written yet is lost as in a crash.
    pub fn shutdown(self) -> BoxFuture<()> {
        Box::pin(self.stop())
    }

    async fn stop(self) {
        let Self {
            stop,
            mut run,
            storage,
            folder,
            ..
        } = self;
        drop(stop);
        let graceful = async {
            let ended = (&mut run).await;
            // The broker flushes while its connections are still closing; what those queued comes after.
            if let Some(storage) = &storage
                && let Err(error) = storage.shutdown().await
            {
                tracing::error!(%error, "the embedded MQTT broker could not write its queues");
            }
            ended
        };
        if timeout(STOP_DEADLINE, graceful).await.is_err() {
            tracing::warn!("the embedded MQTT broker did not stop in time and is cut off");
            run.abort();
        }
        drop((storage, folder));
    }
}
