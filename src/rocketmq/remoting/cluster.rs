//! The servers of one RocketMQ cluster, and a connection to each that was needed.
//!
//! Promises: one connection for each server, opened by whoever needs it first; after a failure of the transport the next call
//! opens a new one; a server that is away is asked at most once in 100 ms, however many lanes try; a name server that does not
//! answer makes room for the next one of the list.
//! Must never: retry a request for a broker.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tokio::runtime::Handle;
use tokio::task::JoinError;
use tokio::time::Instant;

use super::connection::{CallError, Connection};
use super::frame::{Answer, Request};
use super::route::{BrokerAddresses, ClusterInfo, Route, from_json};
use super::signature::Keys;

const GET_ROUTE: i32 = 105;
const GET_CLUSTER: i32 = 106;
const HEARTBEAT: i32 = 34;
const SUCCESS: i32 = 0;
/// While a server is away, all of its lanes try again and again. Together they connect at most once in this time.
const CONNECT_AT_MOST_EVERY: Duration = Duration::from_millis(100);
const CONNECT: Duration = Duration::from_secs(2);
/// A broker closes a connection on which nothing came for 120 s, and a firewall may forget it without a word.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(30);

/// What to know about the cluster before the first request.
pub(crate) struct ClusterOptions {
    /// `host:port` of each.
    pub name_servers: Vec<String>,
    pub keys: Option<Keys>,
    /// How long each request may take; connecting has 2 s.
    pub timeout: Duration,
    /// Which producer an administrator sees on a broker: the client's name, and its group.
    pub client: String,
    pub group: String,
    /// Where the connections' tasks run; `None`: on the runtime of whoever opens one.
    pub runtime: Option<Handle>,
}

/// A question to the name server was not answered as it should be.
#[allow(clippy::missing_docs_in_private_items, reason = "each text says what is wrong")]
#[derive(Debug, thiserror::Error)]
pub(crate) enum NameServerError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("the name server answered with code {}: {}", .0.code, .0.remark)]
    Refused(Answer),
    #[error("the name server's answer cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
}

/// See the head of this file.
pub(crate) struct Cluster {
    name_servers: Vec<Arc<str>>,
    /// Which of them is asked: an index that goes on when one fails.
    name_server: AtomicUsize,
    keys: Option<Arc<Keys>>,
    timeout: Duration,
    heartbeat: Bytes,
    runtime: Option<Handle>,
    servers: Mutex<HashMap<Arc<str>, Arc<Server>>>,
}

/// The connection to one server.
#[derive(Default)]
struct Server {
    /// Locked while a connection is opened, so that all callers together open one.
    current: tokio::sync::Mutex<Current>,
}

#[derive(Default)]
struct Current {
    connection: Option<Arc<Connection>>,
    failed: Option<(Instant, CallError)>,
}

impl Cluster {
    pub(crate) fn new(options: ClusterOptions) -> Self {
        let heartbeat = json!({
            "clientID": options.client,
            "consumerDataSet": [],
            "producerDataSet": [{ "groupName": options.group }],
            "heartbeatFingerprint": 0,
            "withoutSub": false,
        });
        Self {
            name_servers: options.name_servers.iter().map(|address| address.as_str().into()).collect(),
            name_server: AtomicUsize::new(0),
            keys: options.keys.map(Arc::new),
            timeout: options.timeout,
            heartbeat: heartbeat.to_string().into(),
            runtime: options.runtime,
            servers: Mutex::default(),
        }
    }

    /// Asks the server at that address, once.
    pub(crate) async fn call(&self, address: &str, request: Request<'_>) -> Result<Answer, CallError> {
        let server = self.server(address);
        let connection = server.connection(address, self).await?;
        let answer = connection.call(request, self.timeout).await;
        if answer.as_ref().is_err_and(CallError::is_of_the_transport) {
            server.forget(&connection).await;
        }
        answer
    }

    /// Where the topic is; `None`: no broker that is up has it.
    pub(crate) async fn route(&self, topic: &str) -> Result<Option<Route>, NameServerError> {
        const TOPIC_NOT_EXIST: i32 = 17;
        let answer = self.ask_name_server(|| Request {
            code: GET_ROUTE,
            // Without it a name server of 5.x writes JSON that only Apache's library reads.
            fields: vec![("topic", Cow::Borrowed(topic)), ("acceptStandardJsonOnly", Cow::Borrowed("true"))],
            body: Bytes::new(),
        });
        match answer.await? {
            answer if answer.code == SUCCESS => Ok(Some(from_json(&answer.body)?)),
            answer if answer.code == TOPIC_NOT_EXIST => Ok(None),
            answer => Err(NameServerError::Refused(answer)),
        }
    }

    /// All brokers that are up, whatever topics they have.
    pub(crate) async fn brokers(&self) -> Result<Vec<BrokerAddresses>, NameServerError> {
        let ask = || Request { code: GET_CLUSTER, fields: Vec::new(), body: Bytes::new() };
        let answer = self.ask_name_server(ask).await?;
        if answer.code != SUCCESS {
            return Err(NameServerError::Refused(answer));
        }
        let mut info: ClusterInfo = from_json(&answer.body)?;
        for (name, broker) in &mut info.broker_addr_table {
            broker.broker_name.clone_from(name);
        }
        Ok(info.broker_addr_table.into_values().collect())
    }

    /// Each of the name servers at most once, beginning with the one that answered last.
    async fn ask_name_server<'a>(&self, request: impl Fn() -> Request<'a>) -> Result<Answer, CallError> {
        let mut failed = CallError::Unwritable("there is no name server to ask".into());
        for _ in &self.name_servers {
            let at = self.name_server.load(Ordering::Relaxed);
            let Some(address) = self.name_servers.get(at) else { break };
            match self.call(address, request()).await {
                Ok(answer) => return Ok(answer),
                Err(error) => failed = error,
            }
            let next = (at + 1) % self.name_servers.len();
            // Another caller may have gone on already.
            let _ = self.name_server.compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed);
        }
        Err(failed)
    }

    async fn open(&self, address: &str) -> Result<Connection, CallError> {
        let address: Arc<str> = address.into();
        let opening = Connection::open(address.clone(), self.keys.clone(), CONNECT);
        let Some(runtime) = &self.runtime else { return opening.await };
        let ended = |error: JoinError| CallError::Connect { address, cause: error.to_string().into() };
        runtime.spawn(opening).await.unwrap_or_else(|error| Err(ended(error)))
    }

    fn server(&self, address: &str) -> Arc<Server> {
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(server) = servers.get(address) {
            return server.clone();
        }
        let server = Arc::new(Server::default());
        servers.insert(address.into(), server.clone());
        server
    }

    /// Tells the broker now and then that the producer is there; ends with the connection.
    fn keep_alive(&self, connection: &Arc<Connection>) {
        let (connection, body, timeout) = (Arc::downgrade(connection), self.heartbeat.clone(), self.timeout);
        tokio::spawn(async move {
            loop {
                let heartbeat = Request { code: HEARTBEAT, fields: Vec::new(), body: body.clone() };
                match connection.upgrade() {
                    // A failed one ends the connection itself, or the next send does.
                    Some(connection) if !connection.has_ended() => {
                        let _ = connection.call(heartbeat, timeout).await;
                    }
                    _ => return,
                }
                tokio::time::sleep(HEARTBEAT_EVERY).await;
            }
        });
    }
}

impl Server {
    async fn connection(&self, address: &str, cluster: &Cluster) -> Result<Arc<Connection>, CallError> {
        let mut current = self.current.lock().await;
        if let Some(connection) = current.connection.as_ref().filter(|connection| !connection.has_ended()) {
            return Ok(connection.clone());
        }
        if let Some((at, error)) = &current.failed
            && at.elapsed() < CONNECT_AT_MOST_EVERY
        {
            return Err(error.clone());
        }
        match cluster.open(address).await {
            Ok(connection) => {
                let connection = Arc::new(connection);
                *current = Current { connection: Some(connection.clone()), failed: None };
                if !cluster.name_servers.iter().any(|name_server| **name_server == *address) {
                    cluster.keep_alive(&connection);
                }
                Ok(connection)
            }
            Err(error) => {
                *current = Current { connection: None, failed: Some((Instant::now(), error.clone())) };
                Err(error)
            }
        }
    }

    /// The next call opens a new connection. Other calls on the old one have their answer or their deadline. Does nothing if
    /// somebody has replaced it already.
    async fn forget(&self, failed: &Arc<Connection>) {
        let mut current = self.current.lock().await;
        if current.connection.as_ref().is_some_and(|current| Arc::ptr_eq(current, failed)) {
            current.connection = None;
        }
    }
}

#[cfg(test)]
mod tests;
