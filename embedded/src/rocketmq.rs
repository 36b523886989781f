//! The embedded RocketMQ: a name server and one broker on 127.0.0.1.
//!
//! Promises: once started, it takes messages at once, or within 10 seconds if the broker's first word to the name server is
//! lost; an acknowledged message is on the disk and is kept for ever. Only the admin API creates topics.
//!
//! Name server and broker run in a thread of their own with a runtime of their own, because they must own their runtime and
//! it may only be closed outside of async code.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use rocketmq_broker::{BrokerBootstrap, Running};
use rocketmq_observability::{TelemetryHandle, TelemetryRuntimeGuard};
use rocketmq_runtime::{ChildServiceContext, RuntimeConfig, RuntimeOwner};
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::EmbeddedError;
use crate::data_folder::DataFolder;
use crate::error::with_causes;
use crate::ports::RocketMqPorts;
use crate::rocketmq_settings::{self as settings, LOCAL_ADDRESS};

const FOLDER: &str = "rocketmq";
/// Groups of free ports that are tried, if others take the ports in the meantime.
const START_ATTEMPTS: u32 = 3;
/// Bound of a start. After a crash, a large store is read through before the broker is ready.
const START_SECONDS: u64 = 60;
/// Bound of a stop. Right after a load, a stop of 9 s was measured.
const STOP_DEADLINE: Duration = Duration::from_secs(15);
const RUNTIME_STOP_DEADLINE: Duration = Duration::from_secs(1);
const POLL_INTERVAL: Duration = Duration::from_millis(5);
const LOOK_AFTER_IT_EVERY: Duration = Duration::from_millis(500);
/// Debug builds of the broker nest their futures deeply.
const STACK_BYTES: usize = 8 << 20;

pub struct RocketMqOptions {
    /// 0 takes a free port.
    pub name_server_port: u16,
    /// 0 takes a free group: the broker also listens on this port - 2 and + 1.
    pub broker_port: u16,
    /// RocketMQ writes into the subfolder `rocketmq`.
    pub data_dir: PathBuf,
}

/// A running name server and broker. Dropping it starts a graceful stop without waiting for its end.
pub struct RocketMq {
    ports: RocketMqPorts,
    stop: oneshot::Sender<()>,
    /// Closed when its thread has ended, for whatever reason.
    ended: watch::Receiver<()>,
}

pub fn start_rocketmq(options: RocketMqOptions) -> BoxFuture<'static, Result<RocketMq, EmbeddedError>> {
    Box::pin(start(options))
}

async fn start(options: RocketMqOptions) -> Result<RocketMq, EmbeddedError> {
    let wants_free_port = options.name_server_port == 0 || options.broker_port == 0;
    // Ports come before the folder: if another `dev` is running, the error about the port helps more.
    let mut ports = RocketMqPorts::choose(options.name_server_port, options.broker_port)?;
    let folder = Arc::new(DataFolder::open(options.data_dir.join(FOLDER))?);
    let mut attempt = 1;
    loop {
        let reason = match launch(Arc::clone(&folder), ports).await? {
            Ok(running) => return Ok(running),
            Err(reason) => reason,
        };
        if !wants_free_port || attempt == START_ATTEMPTS {
            let folder = folder.path().to_path_buf();
            return Err(EmbeddedError::RocketMqStart { folder, reason });
        }
        tracing::warn!(%reason, ?ports, "the embedded RocketMQ did not start, trying other ports");
        ports = RocketMqPorts::choose(options.name_server_port, options.broker_port)?;
        attempt += 1;
    }
}

/// Starts name server and broker. The inner error says why they did not start on these ports.
async fn launch(
    folder: Arc<DataFolder>,
    ports: RocketMqPorts,
) -> Result<Result<RocketMq, String>, EmbeddedError> {
    let (ready_sender, ready) = oneshot::channel();
    let (stop, stop_receiver) = oneshot::channel();
    let (ended_sender, mut ended) = watch::channel(());
    let spawned = std::thread::Builder::new()
        .name("rocketmq-owner".to_owned())
        .stack_size(STACK_BYTES)
        .spawn(move || {
            own_pair(&folder, ports, ready_sender, stop_receiver);
            drop(folder);
            drop(ended_sender);
        });
    if let Err(error) = spawned {
        return Ok(Err(with_causes(&error)));
    }
    let reason = match timeout(Duration::from_secs(START_SECONDS), ready).await {
        Ok(Ok(Ok(()))) => return Ok(Ok(RocketMq { ports, stop, ended })),
        Ok(Ok(Err(reason))) => reason,
        Ok(Err(_)) => "its thread ended".to_owned(),
        Err(_) => {
            return Err(EmbeddedError::NotReady { what: "RocketMQ", seconds: START_SECONDS });
        }
    };
    // The next attempt opens the same files, so this one must have ended.
    let _ = timeout(STOP_DEADLINE, ended.changed()).await;
    Ok(Err(reason))
}

fn own_pair(
    folder: &DataFolder,
    ports: RocketMqPorts,
    ready: oneshot::Sender<Result<(), String>>,
    stop: oneshot::Receiver<()>,
) {
    let owner = match build_runtime() {
        Ok(owner) => owner,
        Err(reason) => {
            let _ = ready.send(Err(reason));
            return;
        }
    };
    let context = owner.root_context().component("embedded");
    owner.block_on(async {
        match Pair::start(&context, folder, ports).await {
            Ok(pair) => {
                // If nobody waits any more, `stop` is closed, too, and both stop in order.
                let _ = ready.send(Ok(()));
                tokio::select! {
                    _ = stop => {}
                    () = pair.name_server.ended() => tracing::error!("the embedded name server has died"),
                }
                pair.stop().await;
            }
            Err(reason) => {
                let _ = ready.send(Err(reason));
            }
        }
    });
    if let Err(error) = owner.shutdown_runtime_blocking_with_timeout(RUNTIME_STOP_DEADLINE) {
        tracing::warn!(%error, "the embedded RocketMQ's runtime did not close in order");
    }
}

fn build_runtime() -> Result<RuntimeOwner, String> {
    let config = RuntimeConfig { thread_name: "rocketmq".to_owned(), ..RuntimeConfig::default() };
    let plan = RuntimeOwner::plan(config).map_err(|error| with_causes(&error))?;
    plan.build().map_err(|error| with_causes(&error))
}

struct NameServer {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), String>>,
}

impl NameServer {
    async fn start(context: &ChildServiceContext, folder: &DataFolder, port: u16) -> Result<Self, String> {
        let bootstrap =
            rocketmq_namesrv::bootstrap::Builder::new(context.component("namesrv"), TelemetryHandle::noop())
                .set_name_server_config(settings::name_server(folder.path()))
                .set_server_config(settings::listen(port))
                .build();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            let signal = async move {
                let _ = stopped.await;
            };
            bootstrap.boot_with_shutdown(signal).await.map_err(|error| with_causes(&error))
        });
        let mut server = Self { stop, task };
        // Only its open port shows that it is ready.
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_err() {
            server.check().await?;
            sleep(POLL_INTERVAL).await;
        }
        Ok(server)
    }

    /// Checks that our name server still runs. If it could not bind the port and ended, the open port is another program's.
    async fn check(&mut self) -> Result<(), String> {
        if !self.task.is_finished() {
            return Ok(());
        }
        Err(match (&mut self.task).await {
            Ok(Ok(())) => "the name server stopped at once".to_owned(),
            Ok(Err(reason)) => format!("name server: {reason}"),
            Err(error) => format!("name server: {}", with_causes(&error)),
        })
    }

    async fn ended(&self) {
        while !self.task.is_finished() {
            sleep(LOOK_AFTER_IT_EVERY).await;
        }
    }

    async fn stop(self) {
        drop(self.stop);
        let _ = self.task.await;
    }
}

struct Pair {
    name_server: NameServer,
    broker: BrokerBootstrap<Running>,
}

impl Pair {
    async fn start(
        context: &ChildServiceContext,
        folder: &DataFolder,
        ports: RocketMqPorts,
    ) -> Result<Self, String> {
        let config = settings::broker(folder.path(), ports)?;
        let mut name_server = NameServer::start(context, folder, ports.name_server).await?;
        let broker =
            rocketmq_broker::Builder::new(context.component("broker"), TelemetryRuntimeGuard::noop())
                .with_validated_config(config)
                .build();
        let started = async { Box::pin(broker.initialize()).await?.start().await };
        let failure = match Box::pin(started).await {
            Ok(broker) => match name_server.check().await {
                Ok(()) => return Ok(Self { name_server, broker }),
                Err(reason) => {
                    broker.shutdown().await;
                    return Err(reason);
                }
            },
            Err(error) => format!("broker: {}", with_causes(&error)),
        };
        name_server.stop().await;
        Err(failure)
    }

    async fn stop(self) {
        self.broker.shutdown().await;
        self.name_server.stop().await;
    }
}

impl RocketMq {
    /// The address for clients, `127.0.0.1:port`.
    pub fn name_server_address(&self) -> String {
        format!("{LOCAL_ADDRESS}:{}", self.ports.name_server)
    }

    pub fn name_server_port(&self) -> u16 {
        self.ports.name_server
    }

    pub fn broker_port(&self) -> u16 {
        self.ports.broker
    }

    /// Returns when it has ended, whether it was asked to or not.
    pub fn ended(&self) -> BoxFuture<'static, ()> {
        let mut ended = self.ended.clone();
        Box::pin(async move { while ended.changed().await.is_ok() {} })
    }

    /// Stops gracefully. After 15 s this returns, and the stop goes on in the background.
    pub fn shutdown(self) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let ended = self.ended();
            drop(self.stop);
            if timeout(STOP_DEADLINE, ended).await.is_err() {
                tracing::warn!("the embedded RocketMQ is still stopping in the background");
            }
        })
    }
}
