//! The servers of one RocketMQ cluster, and a connection to each that was needed.
//!
//! Promises: one connection for each server, opened for whoever needs it first; a caller that nobody polls holds nobody else up; after a failure of the transport the next call
//! opens a new one; a server that is away is asked at most once in 100 ms, however many lanes try; a name server that is silent for
//! 250 ms does not hold up the next one of the list.
//! Must never: retry a request for a broker.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::future::{BoxFuture, Shared};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use serde_json::json;
use tokio::runtime::Handle;
use tokio::task::JoinError;
use tokio::time::Instant;

use super::connection::{CallError, Connection};
use super::frame::{Answer, Request};
use super::route::{BrokerAddresses, ClusterInfo, Route, from_json};
use super::signature::Keys;
use crate::model::their_words;

const GET_ROUTE: i32 = 105;
const GET_CLUSTER: i32 = 106;
const HEARTBEAT: i32 = 34;
const SUCCESS: i32 = 0;
/// While a server is away, all of its lanes try again and again. Together they connect at most once in this time.
const CONNECT_AT_MOST_EVERY: Duration = Duration::from_millis(100);
const CONNECT: Duration = Duration::from_secs(2);
/// A name server that is silent for so long is not waited for alone: the next one is asked beside it.
const NEXT_AFTER: Duration = Duration::from_millis(250);
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
    /// None of them, each with its reason.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    NoAnswer(Vec<CallError>),
    #[error("the name server answered with code {}: {}", .0.code, their_words(&.0.remark))]
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
///
/// No caller owns a turn: a page that was asked for ahead may not be polled for minutes, and a lock that it waits for, or holds, would
/// then stand still for everybody. So the lock is held for no wait, and a task of its own opens the connection.
#[derive(Default)]
struct Server {
    current: Mutex<Current>,
}

#[derive(Default)]
struct Current {
    connection: Option<Arc<Connection>>,
    /// While one is opened, for all callers together.
    opening: Option<Opening>,
    failed: Option<(Instant, CallError)>,
}

type Opening = Shared<BoxFuture<'static, Result<Arc<Connection>, CallError>>>;

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
            server.forget(&connection);
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

    /// Each of the name servers at most once, beginning with the one that answered last; the first answer counts.
    async fn ask_name_server<'a>(
        &self,
        request: impl Fn() -> Request<'a>,
    ) -> Result<Answer, NameServerError> {
        let preferred = self.name_server.load(Ordering::Relaxed);
        let (before, from) = self.name_servers.split_at(preferred.min(self.name_servers.len()));
        let mut to_ask: VecDeque<_> = from.iter().chain(before).collect();
        let (mut asked, mut failed) = (FuturesUnordered::new(), Vec::new());
        loop {
            if let Some(address) = to_ask.pop_front() {
                let request = request();
                asked.push(async move { (address, self.call(address, request).await) });
            }
            tokio::select! {
                biased;
                Some((address, answer)) = asked.next() => match answer {
                    Ok(answer) => {
                        self.prefer(preferred, address);
                        return Ok(answer);
                    }
                    Err(error) => failed.push(error),
                },
                () = tokio::time::sleep(NEXT_AFTER), if !to_ask.is_empty() => {}
                else => return Err(NameServerError::NoAnswer(failed)),
            }
        }
    }

    /// It is asked first from now on.
    fn prefer(&self, before: usize, address: &Arc<str>) {
        let Some(at) = self.name_servers.iter().position(|known| known == address) else { return };
        // Another caller may have gone on already.
        let changed = self.name_server.compare_exchange(before, at, Ordering::Relaxed, Ordering::Relaxed);
        if changed.is_ok_and(|before| before != at)
            && let Some(silent) = self.name_servers.get(before)
        {
            tracing::warn!(%silent, asked = %address, "a RocketMQ name server does not answer; another one is asked first now");
        }
    }

    /// Opens a connection, whoever waits for it.
    fn open(&self, address: &str, server: Arc<Server>) -> Opening {
        let address: Arc<str> = address.into();
        let opening = Connection::open(address.clone(), self.keys.clone(), CONNECT);
        let heartbeat = match self.name_servers.contains(&address) {
            true => None,
            false => Some((self.heartbeat.clone(), self.timeout)),
        };
        let of_task = server.clone();
        let opening = async move {
            let opened = opening.await.map(Arc::new);
            if let (Ok(connection), Some((body, timeout))) = (&opened, heartbeat) {
                keep_alive(connection, body, timeout);
            }
            of_task.lock().has_opened(&opened);
            opened
        };
        let task = match &self.runtime {
            Some(runtime) => runtime.spawn(opening),
            None => tokio::spawn(opening),
        };
        let ended = move |error: JoinError| {
            let ended = Err(CallError::Connect { address, cause: error.to_string().into() });
            server.lock().has_opened(&ended);
            ended
        };
        task.map(|opened| opened.unwrap_or_else(ended)).boxed().shared()
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
}

/// Tells the broker now and then that the producer is there; ends with the connection.
fn keep_alive(connection: &Arc<Connection>, body: Bytes, timeout: Duration) {
    let connection = Arc::downgrade(connection);
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

impl Server {
    fn lock(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn connection(
        self: &Arc<Self>,
        address: &str,
        cluster: &Cluster,
    ) -> Result<Arc<Connection>, CallError> {
        let opening = {
            let mut current = self.lock();
            if let Some(connection) = current.connection.as_ref().filter(|connection| !connection.has_ended())
            {
                return Ok(connection.clone());
            }
            if let Some((at, error)) = &current.failed
                && at.elapsed() < CONNECT_AT_MOST_EVERY
            {
                return Err(error.clone());
            }
            current.opening.get_or_insert_with(|| cluster.open(address, self.clone())).clone()
        };
        opening.await
    }

    /// The next call opens a new connection. Other calls on the old one have their answer or their deadline. Does nothing if
    /// somebody has replaced it already.
    fn forget(&self, failed: &Arc<Connection>) {
        let mut current = self.lock();
        if current.connection.as_ref().is_some_and(|current| Arc::ptr_eq(current, failed)) {
            current.connection = None;
        }
    }
}

impl Current {
    fn has_opened(&mut self, opened: &Result<Arc<Connection>, CallError>) {
        *self = match opened {
            Ok(connection) => Self { connection: Some(connection.clone()), ..Self::default() },
            Err(error) => Self { failed: Some((Instant::now(), error.clone())), ..Self::default() },
        };
    }
}

#[cfg(test)]
mod tests;
