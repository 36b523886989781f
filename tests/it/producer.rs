//! One send and its answer, with a RocketMQ that lies: what the pipeline hears of each message of a batch.

use std::sync::Arc;

use bytes::Bytes;
use roombridge::testing::config::Config;
use roombridge::testing::model::{FailureKind, NotDurable, OutgoingProperties, QueueName, Sent};
use roombridge::testing::pipeline::ports::{Batch, OutgoingMessage, Reader, Sink};
use roombridge::testing::rocketmq::{Connector, Producer, RocketMqReader};

use crate::support::apache::ApacheRocketMq;
use crate::support::lying_rocketmq::{Lie, LyingRocketMq, code};

/// The bridge's producer behind the proxy, and a topic with two queues.
struct Story {
    lying: LyingRocketMq,
    producer: Producer,
    topic: &'static str,
    queue: QueueName,
}

impl Story {
    async fn begin(topic: &'static str) -> Story {
        let rocketmq = ApacheRocketMq::shared();
        rocketmq.create_topic(topic, 2);
        let lying = LyingRocketMq::start(rocketmq);
        let text = format!(
            "[mqtt]\nurl = \"mqtt://127.0.0.1:1\"\nclient_id = \"x\"\n[rocketmq]\nname_servers = [\"{}\"]\n\
             send_timeout_ms = 3000\n",
            lying.name_server()
        );
        let config = Config::from_toml("test", &text, &std::collections::BTreeMap::new()).unwrap().rocketmq;
        let connector = Connector::new(&config);
        let reader = Arc::new(RocketMqReader::new(&connector));
        let queue = reader.queues(topic).await.unwrap().remove(1);
        Story { lying, producer: Producer::new(config, &connector, reader), topic, queue }
    }

    async fn send(&self, bodies: &[&'static str]) -> Vec<Sent> {
        let message = |body: &&'static str| OutgoingMessage {
            properties: OutgoingProperties::new(body, "", 0),
            body: Bytes::from_static(body.as_bytes()),
        };
        let messages = bodies.iter().map(message).collect();
        let batch = Batch { topic: self.topic.into(), queue: self.queue.clone(), messages };
        self.producer.send(Arc::new(batch)).await
    }

    /// Queue and body of everything that is stored, as Apache's client sees it.
    fn stored(&self, count: usize) -> Vec<(u32, String)> {
        let patience = std::time::Duration::from_secs(10);
        let mut stored = ApacheRocketMq::shared().read_at_least(self.topic, count, patience);
        stored.sort_by_key(|message| message.queue_offset);
        let body = |body: &[u8]| String::from_utf8(body.to_vec()).unwrap();
        stored.iter().map(|message| (message.queue_id, body(&message.body))).collect()
    }
}

/// Hazard 7: the batch may be stored, and nobody says so. It is sent again to the same queue, on a new connection, so that the
/// late answer finds nobody who would take it for his own.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_none_and_the_next_attempt_has_a_connection_of_its_own() {
    let story = Story::begin("lost_answer").await;
    assert_eq!(story.send(&["0"]).await, [Sent::Stored]);
    let connections = story.lying.told().connections;

    story.lying.lie_times(Lie::Swallow, 1);
    assert_eq!(story.send(&["1", "2"]).await, vec![Sent::Failed(FailureKind::Timeout); 2]);
    assert_eq!(story.lying.told().lies, 1, "one attempt for one call");
    assert_eq!(story.send(&["1", "2"]).await, [Sent::Stored, Sent::Stored]);
    assert_eq!(story.lying.told().connections, connections + 1);

    let queue = story.queue.id as u32;
    let wanted: Vec<_> = ["0", "1", "2", "1", "2"].map(|body| (queue, body.to_owned())).into();
    assert_eq!(story.stored(5), wanted);
}

/// Hazard 8: the master has it, which is neither SEND_OK nor a refusal.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_durable_is_told_as_that() {
    let story = Story::begin("not_durable").await;
    for (code, why) in [
        (code::FLUSH_DISK_TIMEOUT, NotDurable::FlushDiskTimeout),
        (code::SLAVE_NOT_AVAILABLE, NotDurable::SlaveNotAvailable),
        (code::FLUSH_SLAVE_TIMEOUT, NotDurable::FlushSlaveTimeout),
    ] {
        story.lying.lie_times(Lie::StoredBut(code), 1);
        assert_eq!(story.send(&["a", "b"]).await, vec![Sent::NotDurable(why); 2], "code {code}");
    }
    assert_eq!(story.lying.told().sends, 3, "the producer tries nothing again");
}

/// Hazards 6 and 9: RocketMQ answers for the batch, and the pipeline hears it of each message.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_told_of_each_message_with_rocketmqs_words() {
    let story = Story::begin("refusal").await;
    story.lying.lie(Lie::IllegalWith(b"bad".to_vec()));
    let answers = story.send(&["good", "bad", "well"]).await;
    assert_eq!(answers.len(), 3);
    for answer in answers {
        let Sent::Refused(refusal) = answer else { panic!("{answer:?}") };
        assert_eq!(refusal.kind, FailureKind::MessageIllegal);
        assert!(refusal.remark.contains("a lie, code 13"), "{refusal:?}");
    }
    assert_eq!(story.send(&["good", "well"]).await, [Sent::Stored, Sent::Stored]);
}
