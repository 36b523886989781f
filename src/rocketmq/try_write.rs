//! Asks brokers whether they would take our messages, and stores none.
//!
//! A broker looks at rights first and at the queue's number after that. So a send to a queue that cannot exist is refused for the queue
//! where we may write, and for the right where we may not.

use std::borrow::Cow;
use std::collections::BTreeSet;

use bytes::Bytes;

use super::failure::kind_of_answer;
use super::reader::{RocketMqReader, failed, refused};
use super::remoting::Request;
use crate::model::{FailureKind, QueueName};
use crate::pipeline::ports::ReadError;

const SEND_MESSAGE_V2: i32 = 310;
/// A negative number would mean any queue.
const NO_QUEUE: i32 = i32::MAX;

impl RocketMqReader {
    /// Whether each broker of the topic would take messages of this producer group. Gives the number of queues.
    pub(crate) async fn try_write(&self, topic: &str, group: &str) -> Result<usize, ReadError> {
        let queues = self.writable_queues(topic).await?;
        let what = |broker: &str| format!("topic {topic} on broker {broker}");
        if queues.is_empty() {
            let cause = "no queue of it can be written to; check brokerPermission of its brokers, and its own permission and \
                         writeQueueNums (mqadmin updateTopic)";
            return Err(failed(&format!("topic {topic}"), FailureKind::NoPermission, cause.to_owned()));
        }
        let brokers: BTreeSet<_> = queues.iter().map(|queue| queue.broker.clone()).collect();
        for broker in brokers {
            let address = self.address(topic, &QueueName { broker: broker.clone(), id: 0 }).await?;
            let what = what(&broker);
            let answer = self.ask(&what, &address.broker, send_nowhere(topic, group, &broker)).await?;
            if kind_of_answer(answer.code, &answer.remark) != FailureKind::QueueMissing {
                return Err(refused(&what, &answer, &format!("Pub on Topic:{topic}")));
            }
        }
        Ok(queues.len())
    }
}

fn send_nowhere<'a>(topic: &'a str, group: &'a str, broker: &'a str) -> Request<'a> {
    let fields = vec![
        ("a", Cow::Borrowed(group)),
        ("b", Cow::Borrowed(topic)),
        ("c", Cow::Borrowed("TBW102")),
        ("d", Cow::Borrowed("4")),
        ("e", Cow::Owned(NO_QUEUE.to_string())),
        ("f", Cow::Borrowed("0")),
        ("g", Cow::Borrowed("0")),
        ("h", Cow::Borrowed("0")),
        ("i", Cow::Borrowed("")),
        ("j", Cow::Borrowed("0")),
        ("k", Cow::Borrowed("false")),
        ("m", Cow::Borrowed("false")),
        ("n", Cow::Borrowed(broker)),
    ];
    Request { code: SEND_MESSAGE_V2, fields, body: Bytes::from_static(b"never stored") }
}
