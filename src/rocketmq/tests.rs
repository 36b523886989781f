//! What follows from answers that no Apache broker of our stories gives: a server answers them that is name server and broker at once.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::config::Config;
use crate::model::{FailureKind, OutgoingMessage, OutgoingProperties, QueueName};
use crate::pipeline::ports::{Batch, Reader, Sink, Withheld};

const PULL_MESSAGE: i64 = 11;
const UPDATE_AND_CREATE_TOPIC: i64 = 17;
const GET_MAX_OFFSET: i64 = 30;
const GET_MIN_OFFSET: i64 = 31;
const GET_ROUTE: i64 = 105;
const GET_CLUSTER: i64 = 106;

const TOPIC_NOT_EXIST: i64 = 17;
/// As a broker of 5.5.0 with ACL 2.0 says it.
const NO_POLICY: &str =
    "User:roombridge has no permission to access Topic:room from 127.0.0.1, no matched policies.";

/// What the server answers.
struct Said {
    code: i64,
    remark: &'static str,
    fields: Value,
    body: Value,
}

impl Said {
    fn no(code: i64, remark: &'static str) -> Self {
        Self { code, remark, fields: Value::Null, body: Value::Null }
    }

    fn body(body: Value) -> Self {
        Self { code: 0, remark: "", fields: Value::Null, body }
    }

    fn offset(offset: u64) -> Self {
        Self { code: 0, remark: "", fields: json!({ "offset": offset.to_string() }), body: Value::Null }
    }

    /// The topic has so many queues on broker `a`, of which the server with that number is up: 0 is the master.
    fn route(address: &str, server: u64, queues: i32) -> Self {
        Self::body(json!({
            "brokerDatas": [{ "brokerName": "a", "brokerAddrs": { (server.to_string()): address } }],
            "queueDatas": [{ "brokerName": "a", "perm": 6, "readQueueNums": queues, "writeQueueNums": queues }],
        }))
    }

    /// Broker `a` is up.
    fn cluster(address: &str) -> Self {
        Self::body(json!({
            "brokerAddrTable": { "a": { "brokerName": "a", "brokerAddrs": { "0": address } } },
        }))
    }
}

/// Starts the server, which answers by address of its own, code and fields of the request. Gives the address.
async fn server(script: impl Fn(&str, i64, &Value) -> Said + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (script, own) = (Arc::new(script), address.clone());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (script, own) = (script.clone(), own.clone());
            tokio::spawn(async move {
                while let Some((code, opaque, fields)) = next_request(&mut stream).await {
                    let said = (*script)(&own, code, &fields);
                    answer(&mut stream, opaque, said).await;
                }
            });
        }
    });
    address
}

/// Code, number and fields.
async fn next_request(stream: &mut TcpStream) -> Option<(i64, i64, Value)> {
    let length = stream.read_u32().await.ok()? as usize;
    let header_bytes = stream.read_u32().await.ok()? as usize;
    let mut rest = vec![0; length - 4];
    stream.read_exact(&mut rest).await.ok()?;
    let header: Value = serde_json::from_slice(&rest[..header_bytes]).unwrap();
    let number = |name: &str| header[name].as_i64().unwrap();
    Some((number("code"), number("opaque"), header["extFields"].clone()))
}

async fn answer(stream: &mut TcpStream, opaque: i64, said: Said) {
    let Said { code, remark, fields, body } = said;
    let header = json!({ "code": code, "flag": 1, "opaque": opaque, "remark": remark, "extFields": fields });
    let (header, body) = (header.to_string(), if body.is_null() { String::new() } else { body.to_string() });
    stream.write_u32((4 + header.len() + body.len()) as u32).await.unwrap();
    stream.write_u32(header.len() as u32).await.unwrap();
    stream.write_all(header.as_bytes()).await.unwrap();
    stream.write_all(body.as_bytes()).await.unwrap();
}

fn reader_of(address: &str) -> RocketMqReader {
    RocketMqReader::new(&Connector::to_name_server(address))
}

fn queue(id: i32) -> QueueName {
    QueueName { broker: "a".into(), id }
}

#[tokio::test]
async fn who_may_not_create_a_topic_is_told_which_right_is_missing() {
    let address = server(|own, code, _| match code {
        GET_ROUTE => Said::no(TOPIC_NOT_EXIST, "no topic route info in name server"),
        GET_CLUSTER => Said::cluster(own),
        UPDATE_AND_CREATE_TOPIC => Said::no(16, NO_POLICY),
        _ => Said::no(1, "not in this story"),
    })
    .await;
    let refused = reader_of(&address).create_topic("room", 4).await.unwrap_err();
    assert_eq!(refused.kind, FailureKind::NoPermission, "{refused}");
    let told = refused.to_string();
    for words in ["creating topic room on broker a", NO_POLICY, "need the right Create on Topic:room"] {
        assert!(told.contains(words), "{told}");
    }
}

#[tokio::test]
async fn rocketmq_is_there_for_a_user_who_may_only_publish_and_not_where_nobody_answers() {
    let address = server(|own, code, _| match code {
        GET_ROUTE => Said::route(own, 0, 4),
        _ => Said::no(16, NO_POLICY),
    })
    .await;
    let reader = reader_of(&address);
    let refused = reader.offsets("room", &queue(0)).await.unwrap_err();
    assert_eq!(refused.kind, FailureKind::NoPermission, "a reader is refused: {refused}");
    is_there(&reader, "room").await.unwrap();

    let nobody = is_there(&reader_of("127.0.0.1:1"), "room").await.unwrap_err();
    assert_eq!(nobody.kind, FailureKind::Transport, "{nobody}");
}

/// Its master is away; a pause would not help.
#[tokio::test]
async fn a_replica_that_serves_no_readers_is_not_called_busy() {
    for (number, kind, words) in [
        (
            1,
            FailureKind::Transport,
            "serves no readers (not now); start the master, or set slaveReadEnable=true",
        ),
        (0, FailureKind::Busy, "the broker is busy; try again later"),
    ] {
        let address = server(move |own, code, _| match code {
            GET_ROUTE => Said::route(own, number, 1),
            PULL_MESSAGE => Said::no(2, "not now"),
            _ => Said::no(1, "not in this story"),
        })
        .await;
        let refused = reader_of(&address).pull("room", &queue(0), None, 0, 1).await.unwrap_err();
        assert_eq!(refused.kind, kind, "server {number}: {refused}");
        assert!(refused.to_string().contains(words), "server {number}: {refused}");
    }
}

#[tokio::test]
async fn a_message_is_found_far_behind_the_last_queue_that_a_topic_has_left() {
    // Given a topic that had 64 queues and has 4, and a message in number 60
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let address = server(move |own, code, fields| match code {
        GET_ROUTE => Said::route(own, 0, 4),
        GET_MAX_OFFSET => {
            counted.fetch_add(1, Ordering::Relaxed);
            Said::offset(u64::from(fields["queueId"] == "60"))
        }
        GET_MIN_OFFSET => Said::offset(0),
        _ => Said::no(1, "not in this story"),
    })
    .await;
    let reader = reader_of(&address);

    // Then it is found, by a bounded number of questions, which are not put again for a while
    let withheld = Withheld { queue: queue(60), offsets: 0..1, may_be_read: true };
    for _ in 0..2 {
        assert_eq!(reader.withheld("room").await.unwrap(), std::slice::from_ref(&withheld));
        let questions = asked.load(Ordering::Relaxed);
        assert!((60..=100).contains(&questions), "{questions} questions");
    }
}

/// What is logged on the thread of a test.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_deleted_topic_that_cannot_be_created_again_is_in_the_log_with_the_brokers_words() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);

    // Given a topic that is deleted when its queues are known
    let is_deleted = AtomicUsize::new(0);
    let address = server(move |own, code, _| match code {
        GET_ROUTE if is_deleted.fetch_add(1, Ordering::Relaxed) == 0 => Said::route(own, 0, 1),
        GET_CLUSTER => Said::cluster(own),
        UPDATE_AND_CREATE_TOPIC => Said::no(16, NO_POLICY),
        _ => Said::no(TOPIC_NOT_EXIST, "topic[room] not exist"),
    })
    .await;
    let (config, connector) = (Config::for_dev().unwrap().rocketmq, Connector::to_name_server(&*address));
    assert!(config.create_topics);
    let producer = Producer::new(config, &connector, Arc::new(RocketMqReader::new(&connector)));

    // When a message is sent, then it is not stored, and the log says why the topic is not made anew
    let message =
        OutgoingMessage { properties: OutgoingProperties::new("1", "", 0), body: Bytes::from_static(b"hi") };
    let batch = Batch { topic: "room".into(), queue: queue(0), messages: vec![message] };
    let sent = producer.send(Arc::new(batch)).await;
    assert_eq!(sent[0].failure(), Some(FailureKind::TopicMissing), "{sent:?}");
    let told = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(told.contains("could not be created again"), "{told}");
    assert!(told.contains(NO_POLICY) && told.contains("the right Create on Topic:room"), "{told}");
}
