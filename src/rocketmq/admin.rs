//! Administration: creates a topic on every broker of the cluster.
//!
//! Promises: each request ends within a deadline; to create a topic that exists changes nothing.
//! Must never: run while a message waits for it, delete anything, or let the broker create a topic from its own template.

use std::borrow::Cow;

use bytes::Bytes;

use super::reader::{MASTER, RocketMqReader};
use super::remoting::Request;
use crate::model::FailureKind;
use crate::pipeline::ports::ReadError;

const UPDATE_AND_CREATE_TOPIC: i32 = 17;
const READABLE_AND_WRITABLE: &str = "6";

impl RocketMqReader {
    /// Creates the topic with so many queues on each broker, unless it exists.
    pub(super) async fn create_topic(&self, name: &str, queues: u32) -> Result<(), ReadError> {
        // To create it again would change its number of queues, and so move rooms between queues.
        match self.route(name).await {
            Ok(_) => return Ok(()),
            Err(error) if error.kind == FailureKind::TopicMissing => {}
            Err(error) => return Err(error),
        }
        let what = format!("creating topic {name}");
        for broker in self.brokers(&what).await? {
            let Some(master) = broker.broker_addrs.get(&MASTER) else { continue };
            let what = format!("{what} on broker {}", broker.broker_name);
            self.answer(&what, master, creation(name, queues), &format!("Create on Topic:{name}")).await?;
        }
        Ok(())
    }
}

fn creation(name: &str, queues: u32) -> Request<'_> {
    let queues = queues.to_string();
    let fields = vec![
        ("topic", Cow::Borrowed(name)),
        ("defaultTopic", Cow::Borrowed("TBW102")),
        ("readQueueNums", Cow::Owned(queues.clone())),
        ("writeQueueNums", Cow::Owned(queues)),
        ("perm", Cow::Borrowed(READABLE_AND_WRITABLE)),
        ("topicFilterType", Cow::Borrowed("SINGLE_TAG")),
        ("topicSysFlag", Cow::Borrowed("0")),
        ("order", Cow::Borrowed("false")),
    ];
    Request { code: UPDATE_AND_CREATE_TOPIC, fields, body: Bytes::new() }
}
