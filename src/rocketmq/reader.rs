//! The client that stored messages are read back with, and the brokers that it can ask.
//!
//! Promises: belongs to no consumer group, commits nothing, creates nothing; each call ends within the timeout of the
//! connection.
//! Must never: use a pull consumer of the client (its rebalancing joins a group, and its shutdown takes seconds for
//! each queue).

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cheetah_string::CheetahString;
use rocketmq_client_rust::{ClientInstanceHandle, ClientResult};
use rocketmq_protocol::protocol::route::topic_route_data::TopicRouteData;

use super::client::{Connector, OpenClient, StartError};
use super::failure::kind_of;
use super::seen_brokers::SeenBrokers;
use crate::model::{FailureKind, KnownBrokers, QueueName};
use crate::pipeline::ports::ReadError;

const WRITABLE: u32 = 1 << 1;
pub(super) const MASTER: u64 = 0;
const STOP: Duration = Duration::from_secs(2);

/// Reads stored messages back from a RocketMQ cluster, queue by queue and offset by offset; see `reader_port`.
pub struct RocketMqReader {
    connector: Arc<Connector>,
    /// Locked while a client is built, so that only one is built.
    current: tokio::sync::Mutex<Option<Arc<Client>>>,
    /// By topic and broker name; each call of `queues` reads them again.
    brokers: Mutex<HashMap<(String, Arc<str>), Address>>,
    seen: SeenBrokers,
}

/// The server that answers for a broker's name.
#[derive(Clone)]
pub(super) struct Address {
    pub broker: CheetahString,
    /// `false` = a replica, which can be read while its master is away but may lack the newest messages.
    pub is_master: bool,
}

pub(super) struct Client {
    open: OpenClient,
    pub handle: ClientInstanceHandle,
}

impl RocketMqReader {
    /// Starts a client. Only the first call shows whether RocketMQ answers.
    pub async fn start(connector: Arc<Connector>) -> Result<Self, ReaderStartError> {
        let client = open(&connector).await?;
        Ok(Self {
            connector,
            current: tokio::sync::Mutex::new(Some(Arc::new(client))),
            brokers: Mutex::default(),
            seen: SeenBrokers::default(),
        })
    }

    /// Adds the brokers that earlier processes saw, so that the reader knows which are away.
    pub fn with_known_brokers(mut self, known: KnownBrokers) -> Self {
        self.seen = SeenBrokers::new(known);
        self
    }

    /// Closes the connections; waits two seconds at most.
    pub async fn stop(self) {
        if let Some(client) = self.current.lock().await.take() {
            client.close().await;
        }
    }

    pub(super) async fn client(&self, what: &str) -> Result<Arc<Client>, ReadError> {
        let mut current = self.current.lock().await;
        if let Some(client) = &*current {
            return Ok(client.clone());
        }
        let client = open(&self.connector)
            .await
            .map_err(|error| failed(what, FailureKind::Unknown, error.to_string()))?;
        let client = Arc::new(client);
        *current = Some(client.clone());
        Ok(client)
    }

    /// Waits for the answer until a deadline, and explains a failure to people.
    pub(super) async fn answer<T>(
        &self,
        what: &str,
        client: &Arc<Client>,
        request: impl Future<Output = ClientResult<T>> + Send,
    ) -> Result<T, ReadError> {
        // The client's own timeouts do not cover finding the address and connecting.
        let limit = self.connector.timeout() + Duration::from_secs(1);
        let (kind, cause, answered) = match tokio::time::timeout(limit, request).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => (
                kind_of(&error),
                self.connector.explain(&error).await,
                error.broker_response_code().is_some(),
            ),
            Err(_) => (FailureKind::Timeout, format!("no answer within {} ms", limit.as_millis()), false),
        };
        if !answered {
            self.forget(client).await;
        }
        Err(failed(what, kind, cause))
    }

    /// Drops a client that got no answer. After an outage an old client needs seconds to find its broker again; a new one finds
    /// it at once.
    async fn forget(&self, failed: &Arc<Client>) {
        let mut current = self.current.lock().await;
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, failed)) {
            *current = None;
            self.brokers.lock().unwrap_or_else(PoisonError::into_inner).clear();
            let failed = failed.clone();
            tokio::spawn(async move { failed.close().await });
        }
    }

    pub(super) fn timeout_ms(&self) -> u64 {
        self.connector.timeout().as_millis() as u64
    }

    pub(super) async fn route(&self, topic: &str) -> Result<TopicRouteData, ReadError> {
        let what = format!("topic {topic}");
        let client = self.client(&what).await?;
        let route = self.answer(&what, &client, client.handle.topic_route(topic, self.timeout_ms())).await?;
        let Some(route) = route else {
            return Err(self.absent(what, &client).await);
        };
        self.seen.note(topic, &route);
        let mut brokers = self.brokers.lock().unwrap_or_else(PoisonError::into_inner);
        for broker in &route.broker_datas {
            let addresses = broker.broker_addrs();
            let master = addresses.get(&MASTER);
            if let Some(address) = master.or_else(|| addresses.values().min()) {
                let address = Address { broker: address.clone(), is_master: master.is_some() };
                let name = Arc::from(broker.broker_name().as_str());
                brokers.insert((topic.to_owned(), name), address);
            }
        }
        Ok(route)
    }

    /// The queues that can be written now, sorted: those of brokers whose master is up.
    pub async fn writable_queues(&self, topic: &str) -> Result<Vec<QueueName>, ReadError> {
        let route = self.route(topic).await?;
        let writable = route.queue_datas.iter().filter(|data| data.perm() & WRITABLE != 0);
        let mut queues: Vec<QueueName> = writable
            .flat_map(|data| {
                let broker: Arc<str> = Arc::from(data.broker_name().as_str());
                (0..data.write_queue_nums() as i32)
                    .map(move |id| QueueName { broker: Arc::clone(&broker), id })
            })
            .collect();
        queues.sort();
        Ok(queues)
    }

    /// The error for a topic without a route. A name server forgets the topics of brokers that are away, so the topic may still
    /// exist.
    async fn absent(&self, what: String, client: &Arc<Client>) -> ReadError {
        let cluster = self.answer(&what, client, client.handle.broker_cluster_info(self.timeout_ms())).await;
        match cluster {
            Ok(cluster) if cluster.broker_addr_table.as_ref().is_none_or(|brokers| brokers.is_empty()) => {
                failed(
                    &what,
                    FailureKind::Transport,
                    "the name server knows no broker; is the RocketMQ broker running?".to_owned(),
                )
            }
            Ok(_) => ReadError {
                what,
                cause: "there is no such topic on the brokers that are there; check its name, or create it"
                    .to_owned(),
                kind: FailureKind::TopicMissing,
            },
            Err(error) => error,
        }
    }

    /// Who answers for that queue now.
    pub(super) async fn address(&self, topic: &str, queue: &QueueName) -> Result<Address, ReadError> {
        let key = (topic.to_owned(), Arc::clone(&queue.broker));
        let known = || self.brokers.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some(address) = known() {
            return Ok(address);
        }
        self.route(topic).await?;
        known().ok_or_else(|| ReadError {
            what: describe(topic, queue),
            cause: format!("broker {} is not there at the moment", queue.broker),
            kind: FailureKind::Transport,
        })
    }

    /// Brokers of the topic whose master is away.
    pub(super) async fn away_of(&self, topic: &str) -> Result<Vec<String>, ReadError> {
        let mut away = self.seen.of(topic);
        if !away.is_empty() {
            let there = self.masters(topic).await?;
            // A broker that is up without the topic has deleted it, so its messages will not come back.
            away.retain(|broker| !there.contains(broker));
        }
        Ok(Vec::from_iter(away))
    }

    /// The brokers whose master the name server knows, whatever topics they have.
    async fn masters(&self, topic: &str) -> Result<HashSet<String>, ReadError> {
        let what = format!("topic {topic}");
        let client = self.client(&what).await?;
        let asking = client.handle.broker_cluster_info(self.timeout_ms());
        let table = self.answer(&what, &client, asking).await?.broker_addr_table;
        let brokers = table.unwrap_or_default().into_iter();
        let with_master = brokers.filter(|(_, broker)| broker.broker_addrs().contains_key(&MASTER));
        Ok(with_master.map(|(name, _)| name.to_string()).collect())
    }
}

/// Why the reader could not start.
#[allow(clippy::missing_docs_in_private_items, reason = "each text says what is wrong")]
#[derive(Debug, thiserror::Error)]
pub enum ReaderStartError {
    #[error(transparent)]
    Threads(#[from] StartError),
    #[error("could not connect to RocketMQ: {0}")]
    Client(String),
}

async fn open(connector: &Connector) -> Result<Client, ReaderStartError> {
    let open = connector.open()?;
    let (runtime, config) = (open.runtime(), open.client_config());
    let made = ClientInstanceHandle::get_or_create(&runtime, open.number(), config, connector.rpc_hook());
    let started = match made {
        Ok(handle) => handle.start().await.map(|()| handle),
        Err(error) => Err(error),
    };
    match started {
        Ok(handle) => Ok(Client { open, handle }),
        Err(error) => {
            open.close();
            Err(ReaderStartError::Client(connector.explain(&error).await))
        }
    }
}

impl Client {
    async fn close(&self) {
        let _ = tokio::time::timeout(STOP, self.handle.shutdown_owned()).await;
        self.open.close();
    }
}

pub(super) fn failed(what: &str, kind: FailureKind, cause: String) -> ReadError {
    ReadError { what: what.to_owned(), cause, kind }
}

pub(super) fn describe(topic: &str, queue: &QueueName) -> String {
    format!("topic {topic}, queue {queue}")
}

/// RocketMQ's numbers are signed; a negative offset means that there is no message.
pub(super) fn offset(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
