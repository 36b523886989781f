//! The broker behind the listeners: router, store and upkeep of the crate `mqtt5`.
//!
//! The crate's own server is not used. It tells its hooks only a client id, and its WebSocket listener does one handshake
//! after the other, so a single silent caller would keep everybody else out.
//!
//! Promises: no two connections have the same number or channel id.
//! Must never open a port by itself.

use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mqtt5::broker::config::BrokerConfig;
use mqtt5::broker::resource_monitor::{ResourceLimits, ResourceMonitor};
use mqtt5::broker::router::MessageRouter;
use mqtt5::broker::storage::{DynamicStorage, FileBackend, QueueLimits, StorageBackend};
use mqtt5::broker::sys_topics::{BrokerStats, SysTopicsProvider};
use tokio::sync::broadcast;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::connections::Connections;
use super::handshake::RefusedHandshakes;
use super::turns::Turns;
use crate::access::ClientPolicy;

const QUEUE_LIMITS: QueueLimits = QueueLimits { max_messages: 1_000_000, max_bytes: 1 << 30 };
/// Unacknowledged messages to one client. With the crate's default of 64, a client that acknowledges late gets a third of its
/// speed.
const OUTBOUND_INFLIGHT: u16 = 1000;
/// The largest packet, as large as the bridge takes. The sender of a larger message is refused; else the message would be
/// dropped later.
const PACKET_BYTES: usize = 16 << 20;
/// The largest retained message, as large as the largest line in a classroom.
const RETAINED_BYTES: usize = 64 << 10;
const SESSIONS_NEVER_EXPIRE: u32 = u32::MAX;
const SYS_TOPICS_INTERVAL: Duration = Duration::from_secs(10);
const CLEANUP_INTERVAL: Duration = Duration::from_secs(3600);

pub(super) struct Broker {
    pub(super) router: Arc<MessageRouter>,
    pub(super) storage: Arc<DynamicStorage>,
    pub(super) stats: Arc<BrokerStats>,
    pub(super) monitor: Arc<ResourceMonitor>,
    /// Each connection gets a copy with its own hooks.
    pub(super) config: BrokerConfig,
    pub(super) client_policy: ClientPolicy,
    pub(super) connections: Connections,
    pub(super) turns: Turns,
    pub(super) refused_handshakes: RefusedHandshakes,
    pub(super) stop: broadcast::Sender<()>,
    last_connection: AtomicU64,
    /// Random number of this run, which keeps the channel ids of two runs apart.
    run: u64,
}

impl Broker {
    pub(super) async fn open(client_policy: ClientPolicy, folder: &Path) -> mqtt5::Result<Self> {
        let storage = FileBackend::with_queue_limits(folder, QUEUE_LIMITS).await?;
        let storage = Arc::new(DynamicStorage::File(storage));
        let router = MessageRouter::with_storage(Arc::clone(&storage))
            .with_fallback_queue_limits(QUEUE_LIMITS)
            .with_retained_limits(client_policy.max_retained, RETAINED_BYTES);
        router.recover_sessions(SESSIONS_NEVER_EXPIRE).await?;
        storage.cleanup_expired().await?;
        router.initialize().await?;
        Ok(Self {
            router: Arc::new(router),
            storage,
            stats: Arc::new(BrokerStats::new()),
            monitor: Arc::new(ResourceMonitor::new(Self::no_limits())),
            config: BrokerConfig::default()
                .with_max_packet_size(PACKET_BYTES)
                .with_max_outbound_inflight(OUTBOUND_INFLIGHT),
            connections: Connections::new(client_policy.max_connections),
            turns: Turns::new(),
            refused_handshakes: RefusedHandshakes::default(),
            client_policy,
            stop: broadcast::channel(1).0,
            last_connection: AtomicU64::new(0),
            run: RandomState::new().hash_one(()),
        })
    }

    /// The tasks that publish the `$SYS` topics, and remove expired sessions and messages.
    pub(super) fn upkeep(&self) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        let topics = SysTopicsProvider::new(Arc::clone(&self.router), Arc::clone(&self.stats));
        tasks.spawn(async move {
            topics.publish_static_topics().await;
            loop {
                sleep(SYS_TOPICS_INTERVAL).await;
                topics.publish_dynamic_topics().await;
            }
        });
        let (router, storage) = (Arc::clone(&self.router), Arc::clone(&self.storage));
        tasks.spawn(async move {
            loop {
                sleep(CLEANUP_INTERVAL).await;
                if let Err(error) = storage.cleanup_expired().await {
                    tracing::error!(%error, "the embedded MQTT broker could not clean its store up");
                }
                router.sweep_sessions().await;
            }
        });
        tasks
    }

    /// Whether hooks are needed. Without them, the crate does less work for each PUBLISH.
    pub(super) fn has_hooks(&self) -> bool {
        self.client_policy.events.is_some() || !self.client_policy.p2p_parents.is_empty()
    }

    /// A number and a channel id that no other connection has.
    pub(super) fn next_connection(&self) -> (u64, String) {
        let number = self.last_connection.fetch_add(1, Ordering::Relaxed) + 1;
        (number, format!("{:016x}{number:016x}", self.run))
    }

    /// Turns the crate's own limits off: [`Connections`] limits connections, and the classroom limits messages.
    fn no_limits() -> ResourceLimits {
        ResourceLimits {
            max_connections: usize::MAX,
            max_connections_per_ip: usize::MAX,
            max_message_rate_per_client: 0,
            max_bandwidth_per_client: 0,
            max_connection_rate: u32::MAX,
            rate_limit_window: Duration::from_secs(1),
        }
    }
}
