//! Reading back from a real Apache RocketMQ.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use roombridge::testing::config::{Config, RocketMqConfig};
use roombridge::testing::model::{FailureKind, OutgoingProperties, QueueName, Sent};
use roombridge::testing::pipeline::ports::{Batch, OutgoingMessage, Page, ReadError, Reader, Sink};
use roombridge::testing::rocketmq::{Connector, Producer, RocketMqReader};

use crate::support::apache::{ApacheOptions, ApacheRocketMq};
use crate::support::java::NewMessage;

fn config(rocketmq: &ApacheRocketMq) -> RocketMqConfig {
    let text = format!(
        "[mqtt]\nurl = \"mqtt://127.0.0.1:1\"\nclient_id = \"x\"\n[rocketmq]\nname_servers = [\"{}\"]\n",
        rocketmq.name_server()
    );
    Config::from_toml("test", &text, &std::collections::BTreeMap::new()).unwrap().rocketmq
}

/// Stores `body` under `tag`, to queue 0 of the topic.
async fn store(producer: &Producer, queue: &QueueName, topic: &str, messages: &[(&str, &str)]) {
    let outgoing = |(tag, body): &(&str, &str)| {
        let mut properties = OutgoingProperties::new("room id", tag, 0);
        properties.push("rbSeq", "1");
        OutgoingMessage { properties, body: Bytes::copy_from_slice(body.as_bytes()) }
    };
    let messages = messages.iter().map(outgoing).collect();
    let sent =
        producer.send(Arc::new(Batch { topic: Arc::from(topic), queue: queue.clone(), messages })).await;
    assert!(sent.iter().all(|sent| matches!(sent, Sent::Stored)), "{sent:?}");
}

/// RocketMQ shows what it confirmed some milliseconds later.
async fn wait_until_shown(reader: &dyn Reader, topic: &str, queue: &QueueName, end: u64) {
    let start = Instant::now();
    while reader.offsets(topic, queue).await.unwrap().1 < end {
        assert!(start.elapsed() < Duration::from_secs(10), "fewer than {end} messages are shown");
    }
}

/// All of the queue, as a history reads it.
async fn read(reader: &dyn Reader, topic: &str, queue: &QueueName, tag: Option<&str>) -> Vec<String> {
    let (mut next, end) = reader.offsets(topic, queue).await.unwrap();
    let mut bodies = Vec::new();
    let start = Instant::now();
    while next < end {
        let page: Page = reader.pull(topic, queue, tag, next, 2).await.unwrap();
        bodies.extend(page.messages.iter().map(|message| String::from_utf8(message.body.to_vec()).unwrap()));
        next = page.next_offset;
        assert!(start.elapsed() < Duration::from_secs(10), "the pulls do not come forward");
    }
    bodies
}

#[tokio::test(flavor = "multi_thread")]
async fn one_tag_is_read_page_by_page_and_the_end_of_a_queue_answers_at_once() {
    let rocketmq = ApacheRocketMq::shared();
    rocketmq.create_topic("reader", 2);
    let config = config(rocketmq);
    let connector = Connector::new(&config);
    let reader = Arc::new(RocketMqReader::new(&connector));
    let queues = reader.queues("reader").await.unwrap();
    assert_eq!(queues.len(), 2);
    let queue = &queues[0];
    let producer = Producer::new(config, &connector, reader.clone());
    // "Aa" and "BB" have one hash in Java: the broker's filter takes the one for the other
    store(&producer, queue, "reader", &[("Aa", "1"), ("BB", "2"), ("Aa", "3"), ("other", "4"), ("Aa", "5")])
        .await;
    wait_until_shown(&*reader, "reader", queue, 5).await;

    assert_eq!(read(&*reader, "reader", queue, Some("Aa")).await, ["1", "3", "5"]);
    assert_eq!(read(&*reader, "reader", queue, Some("BB")).await, ["2"]);
    assert_eq!(read(&*reader, "reader", queue, None).await, ["1", "2", "3", "4", "5"]);
    assert_eq!(read(&*reader, "reader", &queues[1], None).await, [""; 0]);

    let first = reader.pull("reader", queue, None, 0, 1).await.unwrap().messages.remove(0);
    assert_eq!((first.keys.as_str(), first.tag.as_str(), first.queue_offset), ("room id", "Aa", 0));
    assert_eq!(&first.properties["rbSeq"], "1");
    assert_eq!(reader.offset_at("reader", queue, first.stored_ms).await.unwrap(), 0);
    assert_eq!(reader.offset_at("reader", queue, first.stored_ms + 60_000).await.unwrap(), 5);

    let start = Instant::now();
    let end = reader.pull("reader", queue, None, 5, 1).await.unwrap();
    assert_eq!(end, Page { messages: Vec::new(), next_offset: 5, first: 0, end: 5 });
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());

    // An offset that the queue does not hold leads nowhere: neither to the end nor to the beginning.
    let beyond = reader.pull("reader", queue, None, 9, 1).await.unwrap();
    assert_eq!((beyond.messages.len(), beyond.next_offset), (0, 9));
    assert!(!beyond.holds(9), "{beyond:?}");

    let missing = reader.queues("no-such-topic").await.unwrap_err();
    assert_eq!(missing.kind, FailureKind::TopicMissing, "{missing}");
    let two_tags = reader.pull("reader", queue, Some("Aa||BB"), 0, 1).await.unwrap_err();
    assert!(two_tags.to_string().contains("one tag"), "{two_tags}");
    drop(reader);
}

/// Apache's client compresses a body of more than 4096 bytes without being asked to.
#[tokio::test(flavor = "multi_thread")]
async fn what_apaches_client_compressed_is_read_as_it_was() {
    // given large messages of another program, compressed in each way that RocketMQ knows, and a small one
    let rocketmq = ApacheRocketMq::shared();
    rocketmq.create_topic("compressed", 1);
    let large = |kind: &str| format!("{kind} ").repeat(20_000).into_bytes();
    let sent = |kind: &'static str| {
        NewMessage::new("compressed", large(kind))
            .tags(kind)
            .property("who", "Lehrer \u{e4}")
            .compression(kind)
    };
    let small = NewMessage::new("compressed", "small").tags("small");
    rocketmq.send(&[sent("ZLIB"), sent("LZ4"), sent("ZSTD"), small]);

    // when they are read
    let reader = RocketMqReader::new(&Connector::new(&config(rocketmq)));
    let queue = reader.queues("compressed").await.unwrap().remove(0);
    wait_until_shown(&reader, "compressed", &queue, 4).await;
    let page = reader.pull("compressed", &queue, None, 0, 32).await.unwrap();

    // then they are what Apache's own client reads
    let theirs = rocketmq.read("compressed");
    assert_eq!((page.messages.len(), theirs.len()), (4, 4));
    for (ours, theirs) in page.messages.iter().zip(&theirs) {
        assert!(ours.body == theirs.body, "{}", ours.tag);
        assert_eq!(Some(ours.tag.as_str()), theirs.tags.as_deref());
        assert_eq!(ours.stored_ms as i64, theirs.store_timestamp);
        assert_eq!(ours.born_ms as i64, theirs.born_timestamp);
        for (name, value) in ours.properties.sorted() {
            assert_eq!(theirs.property(name), Some(value), "{name}");
        }
    }
    assert!(page.messages[1].body == large("LZ4"));
    assert_eq!(&page.messages[0].properties["who"], "Lehrer \u{e4}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_away_is_no_missing_topic_and_is_read_again_at_once_when_it_is_back() {
    // given a topic, and a reader that knows its broker
    let mut rocketmq = ApacheRocketMq::start_with(ApacheOptions::default());
    rocketmq.create_topic("away", 1);
    let connector = Connector::new(&config(&rocketmq));
    let reader = RocketMqReader::new(&connector);
    let queue = reader.queues("away").await.unwrap().remove(0);
    reader.offsets("away", &queue).await.unwrap();

    // when the broker is killed
    rocketmq.kill_broker();
    let lost = reader.offsets("away", &queue).await.unwrap_err();
    let forgotten =
        until(&reader, |result| matches!(result, Err(error) if error.cause.contains("no broker"))).await;

    // then both answers say so, and neither says that the topic does not exist
    assert!(lost.kind != FailureKind::TopicMissing && lost.to_string().contains("broker"), "{lost}");
    assert_ne!(forgotten.unwrap_err().kind, FailureKind::TopicMissing);

    // and when it is back, a fresh client finds it without the old one's pause of seconds
    rocketmq.start_broker();
    let start = Instant::now();
    until(&reader, |result| result.is_ok()).await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());

    // and an absent name server is named
    rocketmq.kill_broker();
    rocketmq.kill_name_server();
    let nobody =
        until(&reader, |result| matches!(result, Err(error) if error.cause.contains("name server"))).await;
    assert!(nobody.unwrap_err().to_string().contains(&rocketmq.name_server()));
}

async fn until(
    reader: &RocketMqReader,
    expected: impl Fn(&Result<Vec<QueueName>, ReadError>) -> bool,
) -> Result<Vec<QueueName>, ReadError> {
    let start = Instant::now();
    loop {
        let result = reader.queues("away").await;
        if expected(&result) {
            return result;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "{result:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
