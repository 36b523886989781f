//! Reads stored messages back from RocketMQ, queue by queue and offset by offset.
//!
//! Promises: belongs to no consumer group, commits nothing, creates nothing; each call ends within the timeout of the
//! connection; a pull at the end of a queue answers at once; only messages of exactly the asked tag come out.
//! Must never: use a pull consumer of the client (its rebalancing joins a group, and its shutdown takes seconds for
//! each queue), or skip a stored message without an error.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cheetah_string::CheetahString;
use rocketmq_client_rust::{ClientInstanceHandle, ClientResult};
use rocketmq_model::common::boundary_type::BoundaryType;
use rocketmq_model::common::message::MessageTrait;
use rocketmq_model::common::message::message_ext::MessageExt;
use rocketmq_model::common::message::message_queue::MessageQueue;
use rocketmq_model::result::PullStatus;
use rocketmq_protocol::protocol::header::namesrv::topic_operation_header::TopicRequestHeader;
use rocketmq_protocol::protocol::header::pull_message_request_header::PullMessageRequestHeader;
use rocketmq_protocol::protocol::route::topic_route_data::TopicRouteData;
use rocketmq_protocol::rpc::rpc_request_header::RpcRequestHeader;

use super::client::{Connector, OpenClient, StartError};
use super::failure::kind_of;
use super::seen_brokers::SeenBrokers;
use crate::model::{FailureKind, KnownBrokers, QueueName, StoredMessage};
use crate::pipeline::ports::{BoxFuture, Page, ReadError, Reader};

/// RocketMQ's own group for tools: every broker knows it, so that nothing has to be created for reading.
const GROUP: &str = "TOOLS_CONSUMER";
/// The filter of a pull comes with the request, and the broker must not hold the request until messages arrive.
const FILTER_WITH_REQUEST: i32 = 1 << 2;
/// The broker's own limit for one answer is 256 KiB by default; without a bound of ours it logs a warning for each pull.
const PAGE_BYTES: i32 = 16 << 20;
const READABLE: u32 = 1 << 2;
const WRITABLE: u32 = 1 << 1;
pub(super) const MASTER: u64 = 0;
const STOP: Duration = Duration::from_secs(2);

/// A [`Reader`] on a RocketMQ cluster.
pub struct RocketMqReader {
    connector: Arc<Connector>,
    /// Held while a client is built, so that one is built and not several.
    current: tokio::sync::Mutex<Option<Arc<Client>>>,
    /// By topic and broker name; read anew by each call of `queues`.
    brokers: Mutex<HashMap<(String, Arc<str>), Address>>,
    pub(super) seen: SeenBrokers,
}

/// Who answers for a broker's name.
#[derive(Clone)]
struct Address {
    broker: CheetahString,
    /// A replica can be read while its master is away; it may not have all that the master has.
    is_master: bool,
}

pub(super) struct Client {
    open: OpenClient,
    pub handle: ClientInstanceHandle,
}

impl RocketMqReader {
    /// Starts a client; whether RocketMQ answers shows the first call.
    pub async fn start(connector: Arc<Connector>) -> Result<Self, ReaderStartError> {
        let client = open(&connector).await?;
        Ok(Self {
            connector,
            current: tokio::sync::Mutex::new(Some(Arc::new(client))),
            brokers: Mutex::default(),
            seen: SeenBrokers::default(),
        })
    }

    /// With what earlier processes saw, so that it can tell who is away.
    pub fn knowing(mut self, known: KnownBrokers) -> Self {
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

    /// Waits for the answer within a deadline, and puts the cause of a failure in words.
    pub(super) async fn answer<T>(
        &self,
        what: &str,
        client: &Arc<Client>,
        request: impl Future<Output = ClientResult<T>> + Send,
    ) -> Result<T, ReadError> {
        // The client has timeouts of its own, but not for finding the address and connecting.
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

    /// A client that lived through an outage finds its broker again only seconds after its return, a fresh one at once.
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

    /// The queues that can be written now, sorted: those on brokers whose master is there.
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

    /// A name server forgets the topics of brokers that are away, so no route is not yet no topic.
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

    async fn address(&self, topic: &str, queue: &QueueName) -> Result<Address, ReadError> {
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
}

/// The reader could not be started.
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

impl Reader for RocketMqReader {
    fn queues<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<Vec<QueueName>, ReadError>> {
        Box::pin(async move {
            let route = self.route(topic).await?;
            let mut queues: Vec<QueueName> = route
                .queue_datas
                .iter()
                .filter(|data| data.perm() & READABLE != 0)
                .flat_map(|data| {
                    let broker: Arc<str> = Arc::from(data.broker_name().as_str());
                    (0..data.read_queue_nums() as i32)
                        .map(move |id| QueueName { broker: Arc::clone(&broker), id })
                })
                .collect();
            queues.sort();
            Ok(queues)
        })
    }

    fn away<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<Vec<String>, ReadError>> {
        Box::pin(self.away_of(topic))
    }

    fn offsets<'a>(
        &'a self,
        topic: &'a str,
        queue: &'a QueueName,
    ) -> BoxFuture<'a, Result<(u64, u64), ReadError>> {
        Box::pin(async move {
            let Address { broker, .. } = self.address(topic, queue).await?;
            let name = client_queue(topic, queue);
            let what = describe(topic, queue);
            let client = self.client(&what).await?;
            let min = client.handle.min_offset(&broker, &name, self.timeout_ms());
            let min = self.answer(&what, &client, min).await?;
            let max = client.handle.max_offset(&broker, &name, self.timeout_ms());
            let max = self.answer(&what, &client, max).await?;
            Ok((offset(min), offset(max)))
        })
    }

    fn offset_at<'a>(
        &'a self,
        topic: &'a str,
        queue: &'a QueueName,
        stored_ms: u64,
    ) -> BoxFuture<'a, Result<u64, ReadError>> {
        Box::pin(async move {
            let Address { broker, .. } = self.address(topic, queue).await?;
            let name = client_queue(topic, queue);
            let time = i64::try_from(stored_ms).unwrap_or(i64::MAX);
            let what = describe(topic, queue);
            let client = self.client(&what).await?;
            let search =
                client.handle.search_offset(&broker, &name, time, BoundaryType::Lower, self.timeout_ms());
            Ok(offset(self.answer(&what, &client, search).await?))
        })
    }

    fn pull<'a>(
        &'a self,
        topic: &'a str,
        queue: &'a QueueName,
        tag: Option<&'a str>,
        from_offset: u64,
        limit: u32,
    ) -> BoxFuture<'a, Result<Page, ReadError>> {
        Box::pin(async move {
            let what = || format!("{} from offset {from_offset} on", describe(topic, queue));
            let wrong =
                |cause: &str| ReadError { what: what(), cause: cause.to_owned(), kind: FailureKind::Unknown };
            if tag.is_some_and(|tag| tag.is_empty() || tag == "*" || tag.contains("||")) {
                return Err(wrong("the tag must be one tag: not empty, not *, without ||"));
            }
            let address = self.address(topic, queue).await?;
            let request = pull_request(topic, queue, tag, from_offset, limit);
            let client = self.client(&what()).await?;
            let pull = client.handle.pull_outcome_from_broker(&address.broker, request, self.timeout_ms());
            let outcome = self.answer(&what(), &client, pull).await?;
            let empty = Page {
                messages: Vec::new(),
                next_offset: from_offset,
                first: outcome.min_offset(),
                end: outcome.max_offset(),
            };
            if !address.is_master && !empty.holds(from_offset) {
                return Err(behind(&what(), &address, &empty));
            }
            match outcome.pull_status() {
                PullStatus::Found => {}
                // Only what the broker looked at and left out leads on. Where it has nothing, or no such offset, it names
                // another one to go on from, and everything until there would be skipped.
                PullStatus::NoMatchedMsg => {
                    let looked_at = outcome.next_begin_offset().min(empty.end);
                    let next_offset = looked_at.max(from_offset);
                    return Ok(Page { next_offset, ..empty });
                }
                PullStatus::NoNewMsg | PullStatus::OffsetIllegal => return Ok(empty),
            }
            let found = outcome.into_messages().unwrap_or_default();
            // The client stops at a message that it cannot decode and says nothing; so the next pull begins right
            // after the last one that we have, and a pull that brings none is an error.
            let last = found.last().ok_or_else(|| wrong("the message there cannot be decoded"))?;
            let next_offset = offset(last.queue_offset()) + 1;
            // The broker filters by the hash of the tag, which different tags can share.
            let wanted = |message: &StoredMessage| tag.is_none_or(|tag| message.tag == tag);
            let messages = found.iter().map(|message| stored(message, queue)).filter(wanted).collect();
            Ok(Page { messages, next_offset, ..empty })
        })
    }
}

fn pull_request(
    topic: &str,
    queue: &QueueName,
    tag: Option<&str>,
    from_offset: u64,
    limit: u32,
) -> PullMessageRequestHeader {
    PullMessageRequestHeader {
        consumer_group: GROUP.into(),
        topic: topic.into(),
        queue_id: queue.id,
        queue_offset: i64::try_from(from_offset).unwrap_or(i64::MAX),
        max_msg_nums: i32::try_from(limit).unwrap_or(i32::MAX),
        sys_flag: FILTER_WITH_REQUEST,
        subscription: Some(tag.unwrap_or("*").into()),
        expression_type: Some("TAG".into()),
        max_msg_bytes: Some(PAGE_BYTES),
        topic_request: Some(TopicRequestHeader {
            lo: None,
            rpc: Some(RpcRequestHeader {
                broker_name: Some(queue.broker.as_ref().into()),
                ..RpcRequestHeader::default()
            }),
        }),
        ..PullMessageRequestHeader::default()
    }
}

fn stored(message: &MessageExt, queue: &QueueName) -> StoredMessage {
    let properties: BTreeMap<String, String> =
        message.properties().iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    StoredMessage {
        topic: message.topic().to_string(),
        tag: message.get_tags().map(|tag| tag.to_string()).unwrap_or_default(),
        keys: message.get_keys().map(|keys| keys.to_string()).unwrap_or_default(),
        queue: queue.clone(),
        queue_offset: offset(message.queue_offset()),
        stored_ms: offset(message.store_timestamp()),
        born_ms: offset(message.born_timestamp()),
        properties,
        body: message.body().unwrap_or_default(),
    }
}

/// It goes on when the master is back, or another broker is the master.
fn behind(what: &str, address: &Address, page: &Page) -> ReadError {
    let (replica, first, end) = (&address.broker, page.first, page.end);
    let cause = format!(
        "the master is away, and its replica {replica} has only the offsets from {first} up to {end}; start the master"
    );
    failed(what, FailureKind::Transport, cause)
}

fn failed(what: &str, kind: FailureKind, cause: String) -> ReadError {
    ReadError { what: what.to_owned(), cause, kind }
}

fn client_queue(topic: &str, queue: &QueueName) -> MessageQueue {
    MessageQueue::from_parts(topic, queue.broker.as_ref(), queue.id)
}

fn describe(topic: &str, queue: &QueueName) -> String {
    format!("topic {topic}, queue {queue}")
}

/// RocketMQ counts with signed numbers; a negative one means that there is nothing.
pub(super) fn offset(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
