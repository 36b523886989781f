//! Where the queues of a topic are, and who answers for them; stored messages are read back through it.
//!
//! Promises: belongs to no consumer group, commits nothing, creates nothing; each call ends within the timeout of the
//! connection; an address that failed is asked for again before it is used again.
//! Must never: retry.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::connector::Connector;
use super::failure::{kind_of_answer, meaning, no_name_server, unanswered};
use super::remoting::{Answer, BrokerAddresses, Cluster, NameServerError, Request, Route};
use super::seen_brokers::SeenBrokers;
use crate::model::{FailureKind, KnownBrokers, QueueName};
use crate::pipeline::ports::{ReadError, Withheld};

const WRITABLE: u32 = 1 << 1;
pub(super) const MASTER: u64 = 0;
const SUCCESS: i32 = 0;

/// By topic and broker name.
type Addresses = HashMap<String, HashMap<Arc<str>, Known>>;

/// Reads stored messages back from a RocketMQ cluster, queue by queue and offset by offset; see `reader_port`.
pub struct RocketMqReader {
    cluster: Arc<Cluster>,
    name_servers: String,
    addresses: Mutex<Addresses>,
    seen: Arc<SeenBrokers>,
    /// What `withheld` found, and when, by topic.
    pub(super) withheld: Mutex<HashMap<String, (Instant, Vec<Withheld>)>>,
}

/// The server that answers for a broker's name.
#[derive(Debug, Clone)]
pub(super) struct Address {
    pub broker: Arc<str>,
    /// `false` = a replica, which can be read while its master is away but may lack the newest messages.
    pub is_master: bool,
}

struct Known {
    address: Address,
    /// It failed, so the name server is asked again. Where that does not answer, this is still the best guess.
    is_stale: bool,
}

impl RocketMqReader {
    /// Connects to nothing yet: the first call shows whether RocketMQ answers.
    pub fn new(connector: &Connector) -> Self {
        Self {
            cluster: connector.cluster(),
            name_servers: connector.name_servers(),
            addresses: Mutex::default(),
            seen: Arc::default(),
            withheld: Mutex::default(),
        }
    }

    /// Adds the brokers that earlier processes saw, so that the reader knows which are away.
    pub fn with_known_brokers(mut self, known: KnownBrokers) -> Self {
        self.seen = Arc::new(SeenBrokers::new(known));
        self
    }

    /// Another one that remembers the same brokers, over the connections of `connector`.
    pub fn beside(&self, connector: &Connector) -> Self {
        Self { seen: self.seen.clone(), ..Self::new(connector) }
    }

    /// Asks the server at that address; an answer with another code than success is given, too.
    pub(super) async fn ask(
        &self,
        what: &str,
        address: &str,
        request: Request<'_>,
    ) -> Result<Answer, ReadError> {
        self.cluster.call(address, request).await.map_err(|error| {
            self.distrust(address);
            failed(what, error.kind(), format!("{} ({error})", unanswered(&error)))
        })
    }

    /// The same, and any other code than success is an error. `right`: what ACLs must grant for it.
    pub(super) async fn answer(
        &self,
        what: &str,
        address: &str,
        request: Request<'_>,
        right: &str,
    ) -> Result<Answer, ReadError> {
        let answer = self.ask(what, address, request).await?;
        if answer.code == SUCCESS { Ok(answer) } else { Err(refused(what, &answer, right)) }
    }

    fn name_server_failed(&self, what: &str, error: &NameServerError) -> ReadError {
        let names = &self.name_servers;
        match error {
            NameServerError::NoAnswer(calls) => {
                failed(what, FailureKind::Transport, no_name_server(names, calls))
            }
            NameServerError::Refused(answer) => refused(what, answer, ""),
            NameServerError::Unreadable(_) => {
                failed(what, FailureKind::Unknown, format!("{error}; is {names} a RocketMQ name server?"))
            }
        }
    }

    pub(super) async fn route(&self, topic: &str) -> Result<Route, ReadError> {
        let what = format!("topic {topic}");
        let route = self.cluster.route(topic).await;
        let Some(route) = route.map_err(|error| self.name_server_failed(&what, &error))? else {
            self.lock_addresses().remove(topic);
            return Err(self.absent(what).await);
        };
        self.seen.note(topic, &route);
        let mut addresses = HashMap::new();
        for broker in &route.broker_datas {
            let master = broker.broker_addrs.get(&MASTER);
            if let Some(address) = master.or_else(|| broker.broker_addrs.values().min()) {
                let address = Address { broker: address.as_str().into(), is_master: master.is_some() };
                addresses.insert(Arc::from(broker.broker_name.as_str()), Known { address, is_stale: false });
            }
        }
        self.lock_addresses().insert(topic.to_owned(), addresses);
        Ok(route)
    }

    /// The queues that can be written now, sorted: those of brokers whose master is up.
    pub async fn writable_queues(&self, topic: &str) -> Result<Vec<QueueName>, ReadError> {
        let route = self.route(topic).await?;
        let writable = route.queue_datas.iter().filter(|data| data.perm & WRITABLE != 0);
        let mut queues: Vec<QueueName> =
            writable.flat_map(|data| queue_names(&data.broker_name, data.write_queue_nums)).collect();
        queues.sort();
        Ok(queues)
    }

    /// The error for a topic without a route. A name server forgets the topics of brokers that are away, so the topic may still
    /// exist.
    async fn absent(&self, what: String) -> ReadError {
        match self.brokers(&what).await {
            Ok(brokers) if brokers.is_empty() => failed(
                &what,
                FailureKind::Transport,
                "the name server knows no broker; is the RocketMQ broker running?".to_owned(),
            ),
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
        let known = || {
            let addresses = self.lock_addresses();
            let known = addresses.get(topic)?.get(&queue.broker)?;
            Some((known.address.clone(), known.is_stale))
        };
        let before = known();
        if let Some((address, false)) = before {
            return Ok(address);
        }
        match (self.route(topic).await, before) {
            (Ok(_), _) => known().map(|(address, _)| address).ok_or_else(|| ReadError {
                what: describe(topic, queue),
                cause: format!("broker {} is not there at the moment", queue.broker),
                kind: FailureKind::Transport,
            }),
            // Nobody says where the broker is now, so it is tried where it was.
            (Err(error), Some((address, _))) if known().is_some() => {
                tracing::debug!(%error, "the address of a broker is not known anew");
                Ok(address)
            }
            (Err(error), _) => Err(error),
        }
    }

    /// Before that address is used again, the name server is asked for it. Other brokers are not disturbed.
    pub(super) fn distrust(&self, address: &str) {
        for known in self.lock_addresses().values_mut().flat_map(HashMap::values_mut) {
            known.is_stale |= *known.address.broker == *address;
        }
    }

    fn lock_addresses(&self) -> MutexGuard<'_, Addresses> {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// All brokers that are up, whatever topics they have; none is an answer, too.
    pub(super) async fn brokers(&self, what: &str) -> Result<Vec<BrokerAddresses>, ReadError> {
        self.cluster.brokers().await.map_err(|error| self.name_server_failed(what, &error))
    }

    /// The brokers whose master the name server knows, whatever topics they have.
    async fn masters(&self, topic: &str) -> Result<HashSet<String>, ReadError> {
        let brokers = self.brokers(&format!("topic {topic}")).await?;
        let with_master = brokers.into_iter().filter(|broker| broker.broker_addrs.contains_key(&MASTER));
        Ok(with_master.map(|broker| broker.broker_name).collect())
    }
}

pub(super) fn queue_names(broker: &str, count: i32) -> impl Iterator<Item = QueueName> {
    let broker: Arc<str> = broker.into();
    (0..count).map(move |id| QueueName { broker: Arc::clone(&broker), id })
}

pub(super) fn failed(what: &str, kind: FailureKind, cause: String) -> ReadError {
    ReadError { what: what.to_owned(), cause, kind }
}

/// The server answered, and not with what was asked for.
pub(super) fn refused(what: &str, answer: &Answer, right: &str) -> ReadError {
    let kind = kind_of_answer(answer.code, &answer.remark);
    failed(what, kind, meaning(answer.code, &answer.remark, right))
}

pub(super) fn describe(topic: &str, queue: &QueueName) -> String {
    format!("topic {topic}, queue {queue}")
}

/// RocketMQ's numbers are signed; a negative offset means that there is no message.
pub(super) fn offset(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_that_fails_does_not_send_the_others_to_the_name_server() {
        let reader = RocketMqReader::new(&Connector::to_name_server("127.0.0.1:1"));
        let address = |broker: &str| Address { broker: broker.into(), is_master: true };
        for (broker, at) in [("a", "10.0.0.1:10911"), ("b", "10.0.0.2:10911")] {
            let known = Known { address: address(at), is_stale: false };
            reader.lock_addresses().entry("room".to_owned()).or_default().insert(broker.into(), known);
        }
        reader.distrust("10.0.0.1:10911");
        let stale = |broker: &str| reader.lock_addresses()["room"][broker].is_stale;
        assert!(stale("a") && !stale("b"));
    }
}
