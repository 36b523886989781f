//! A broker's answer about how far a consumer group is, queue by queue.
//!
//! Promises: reads the map as Apache's JSON library writes it, with objects as its keys, and as JSON allows it, with texts that
//! hold these objects; an answer without the map is an error, not a group without queues.

use serde::Deserialize;
use serde::de::Error as _;

const TABLE: &[u8] = b"\"offsetTable\"";

/// The key of the map.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StatsQueue {
    pub topic: String,
    pub queue_id: i32,
}

/// Its value.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StatsOffsets {
    pub broker_offset: i64,
    pub consumer_offset: i64,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Key {
    Queue(StatsQueue),
    Text(String),
}

/// All queues of which the broker tells.
pub(crate) fn queues_of_stats(body: &[u8]) -> Result<Vec<(StatsQueue, StatsOffsets)>, serde_json::Error> {
    let named = body.windows(TABLE.len()).position(|part| part == TABLE);
    let mut rest = match named.and_then(|at| body.get(at + TABLE.len()..)) {
        Some(table) => after(after(table, b':')?, b'{')?,
        None => return Err(serde_json::Error::custom("there is no offsetTable")),
    };
    let mut queues = Vec::new();
    while after(rest, b'}').is_err() {
        if !queues.is_empty() {
            rest = after(rest, b',')?;
        }
        let queue = match take(&mut rest)? {
            Key::Queue(queue) => queue,
            Key::Text(text) => serde_json::from_str(&text)?,
        };
        rest = after(rest, b':')?;
        queues.push((queue, take(&mut rest)?));
    }
    Ok(queues)
}

/// The next value of the JSON.
fn take<T: for<'de> Deserialize<'de>>(rest: &mut &[u8]) -> Result<T, serde_json::Error> {
    let mut values = serde_json::Deserializer::from_slice(rest).into_iter();
    let value = values.next().unwrap_or_else(|| Err(serde_json::Error::custom("it ends too early")))?;
    *rest = rest.get(values.byte_offset()..).unwrap_or_default();
    Ok(value)
}

/// What follows that sign, which must be the next one.
fn after(rest: &[u8], sign: u8) -> Result<&[u8], serde_json::Error> {
    let rest = rest.trim_ascii_start();
    rest.strip_prefix(&[sign])
        .ok_or_else(|| serde_json::Error::custom(format!("{:?} is missing", char::from(sign))))
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::collections::HashMap;

    use proptest::prelude::*;
    use rocketmq_model::message::MessageQueue;
    use rocketmq_protocol::protocol::admin::consume_stats::ConsumeStats;
    use rocketmq_protocol::protocol::admin::offset_wrapper::OffsetWrapper;

    /// As a broker of 5.5.0 wrote it.
    const OF_5: &str = r#"{"consumeTps":0.0,"offsetTable":{{"brokerName":"broker-a","queueId":0,"topic":"room"}:{"brokerOffset":7,"consumerOffset":5,"lastTimestamp":0,"pullOffset":7},{"brokerName":"broker-a","queueId":1,"topic":"room"}:{"brokerOffset":3,"consumerOffset":-1,"lastTimestamp":0,"pullOffset":3}}}"#;

    fn queue(queue_id: i32, broker_offset: i64, consumer_offset: i64) -> (StatsQueue, StatsOffsets) {
        (StatsQueue { topic: "room".to_owned(), queue_id }, StatsOffsets { broker_offset, consumer_offset })
    }

    #[test]
    fn the_answer_of_apaches_broker_is_read() {
        assert_eq!(queues_of_stats(OF_5.as_bytes()).unwrap(), [queue(0, 7, 5), queue(1, 3, -1)]);
        let none = br#"{"offsetTable":{},"consumeTps":0.0}"#;
        assert_eq!(queues_of_stats(none).unwrap(), []);
    }

    #[test]
    fn an_answer_that_is_cut_or_has_no_table_is_an_error() {
        assert!(queues_of_stats(b"{}").is_err());
        let table_end = OF_5.len() - 2;
        for end in 0..table_end {
            assert!(queues_of_stats(&OF_5.as_bytes()[..end]).is_err(), "{end}");
        }
    }

    proptest! {
        #[test]
        fn what_the_client_library_writes_is_read(
            queues in prop::collection::btree_map(("[a-z%|_-]{1,9}", 0..9_i32), any::<(i64, i64)>(), 0..5),
            as_java in any::<bool>(),
        ) {
            let offsets = |(broker, consumer)| {
                let mut offsets = OffsetWrapper::new();
                offsets.set_broker_offset(broker);
                offsets.set_consumer_offset(consumer);
                offsets
            };
            let table: HashMap<_, _> = queues
                .iter()
                .map(|((topic, id), of)| (MessageQueue::from_parts(topic.as_str(), "broker-a", *id), offsets(*of)))
                .collect();
            let stats = ConsumeStats { offset_table: table, consume_tps: 0.5 };
            let body = if as_java { stats.to_java_compatible_json().unwrap() } else { serde_json::to_string(&stats).unwrap() };
            let found = queues_of_stats(body.as_bytes()).unwrap();
            let found: std::collections::BTreeMap<_, _> = found
                .into_iter()
                .map(|(queue, of)| ((queue.topic, queue.queue_id), (of.broker_offset, of.consumer_offset)))
                .collect();
            prop_assert_eq!(found, queues);
        }
    }
}
