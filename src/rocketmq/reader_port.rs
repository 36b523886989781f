//! The pipeline's port [`Reader`] on a RocketMQ cluster.
//!
//! Promises: a pull at the end of a queue answers at once; a pull by tag gives messages of exactly this tag.
//! Must never: skip a stored message without an error.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use rocketmq_model::common::boundary_type::BoundaryType;
use rocketmq_model::common::message::MessageTrait;
use rocketmq_model::common::message::message_ext::MessageExt;
use rocketmq_model::common::message::message_queue::MessageQueue;
use rocketmq_model::result::PullStatus;
use rocketmq_protocol::protocol::header::namesrv::topic_operation_header::TopicRequestHeader;
use rocketmq_protocol::protocol::header::pull_message_request_header::PullMessageRequestHeader;
use rocketmq_protocol::rpc::rpc_request_header::RpcRequestHeader;

use super::reader::{Address, RocketMqReader, describe, failed, offset};
use crate::model::{FailureKind, QueueName, StoredMessage};
use crate::pipeline::ports::{Page, ReadError, Reader};

/// RocketMQ's own group for tools. Every broker knows it, so nothing has to be created for reading.
const GROUP: &str = "TOOLS_CONSUMER";
/// Says to the broker that the request carries its own filter, and that it must answer at once even without messages.
const FILTER_WITH_REQUEST: i32 = 1 << 2;
/// Bound of one answer. Without it the broker logs a warning for each pull; its own limit is 256 KiB by default.
const PAGE_BYTES: i32 = 16 << 20;
const READABLE: u32 = 1 << 2;

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
                return Err(replica_lacks_offset(&what(), &address, &empty));
            }
            match outcome.pull_status() {
                PullStatus::Found => {}
                // The next offset counts only if the broker looked at messages and left them out. If it has nothing, or not
                // this offset, it also names another one; to go on from there would skip messages.
                PullStatus::NoMatchedMsg => {
                    let looked_at = outcome.next_begin_offset().min(empty.end);
                    let next_offset = looked_at.max(from_offset);
                    return Ok(Page { next_offset, ..empty });
                }
                PullStatus::NoNewMsg | PullStatus::OffsetIllegal => return Ok(empty),
            }
            let found = outcome.into_messages().unwrap_or_default();
            // The client stops without an error at a message that it cannot decode. So the next pull begins right after the
            // last message that we have, and a pull without any message is an error.
            let last = found.last().ok_or_else(|| wrong("the message there cannot be decoded"))?;
            let next_offset = offset(last.queue_offset()) + 1;
            // The broker filters by a hash of the tag, and different tags can have the same hash.
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

/// The error for a replica that lacks the offset. Reading goes on when the master is back, or when another broker is master.
fn replica_lacks_offset(what: &str, address: &Address, page: &Page) -> ReadError {
    let (replica, first, end) = (&address.broker, page.first, page.end);
    let cause = format!(
        "the master is away, and its replica {replica} has only the offsets from {first} up to {end}; start the master"
    );
    failed(what, FailureKind::Transport, cause)
}

fn client_queue(topic: &str, queue: &QueueName) -> MessageQueue {
    MessageQueue::from_parts(topic, queue.broker.as_ref(), queue.id)
}
