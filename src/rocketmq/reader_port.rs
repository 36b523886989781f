//! The pipeline's port [`Reader`] on a RocketMQ cluster.
//!
//! Promises: a pull at the end of a queue answers at once; a pull by tag gives messages of exactly this tag.
//! Must never: skip a stored message without an error.

use std::borrow::Cow;

use bytes::Bytes;
use futures::future::BoxFuture;

use super::reader::{Address, RocketMqReader, describe, failed, offset, queue_names, refused};
use super::remoting::{Request, Unreadable, take_message};
use crate::model::{FailureKind, QueueName, StoredMessage, their_words};
use crate::pipeline::ports::{Page, ReadError, Reader, Withheld};

const PULL_MESSAGE: i32 = 11;
const SEARCH_OFFSET_BY_TIMESTAMP: i32 = 29;
const GET_MAX_OFFSET: i32 = 30;
const GET_MIN_OFFSET: i32 = 31;
/// Answers to a pull. Found; no message there; messages there, but none with the tag; an offset that the queue does not hold.
const FOUND: i32 = 0;
const PULL_NOT_FOUND: i32 = 19;
const PULL_RETRY_IMMEDIATELY: i32 = 20;
const PULL_OFFSET_MOVED: i32 = 21;
/// What a replica answers that may not be read.
const SYSTEM_BUSY: i32 = 2;
/// RocketMQ's own group for tools. Every broker knows it, so nothing has to be created for reading.
const GROUP: &str = "TOOLS_CONSUMER";
/// Says to the broker that the request carries its own filter, and that it must answer at once even without messages.
const FILTER_WITH_REQUEST: &str = "4";
/// Bound of one answer. Without it the broker logs a warning for each pull; its own limit is 256 KiB by default.
const PAGE_BYTES: &str = "16777216";
/// As many messages as a broker gives at once by default, whatever is asked for.
const USUAL_PAGE: usize = 32;
pub(super) const READABLE: u32 = 1 << 2;

impl Reader for RocketMqReader {
    fn queues<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<Vec<QueueName>, ReadError>> {
        Box::pin(async move {
            let route = self.route(topic).await?;
            let readable = route.queue_datas.iter().filter(|data| data.perm & READABLE != 0);
            let mut queues: Vec<QueueName> =
                readable.flat_map(|data| queue_names(&data.broker_name, data.read_queue_nums)).collect();
            queues.sort();
            Ok(queues)
        })
    }

    fn away<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<Vec<String>, ReadError>> {
        Box::pin(self.away_of(topic))
    }

    fn withheld<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<Vec<Withheld>, ReadError>> {
        Box::pin(self.withheld_of(topic))
    }

    fn offsets<'a>(
        &'a self,
        topic: &'a str,
        queue: &'a QueueName,
    ) -> BoxFuture<'a, Result<(u64, u64), ReadError>> {
        Box::pin(async move {
            let min = self.offset_of(topic, queue, GET_MIN_OFFSET, Vec::new());
            let max = self.end_of(topic, queue);
            tokio::try_join!(min, max)
        })
    }

    fn offset_at<'a>(
        &'a self,
        topic: &'a str,
        queue: &'a QueueName,
        stored_ms: u64,
    ) -> BoxFuture<'a, Result<u64, ReadError>> {
        Box::pin(async move {
            let time = ("timestamp", Cow::Owned(i64::try_from(stored_ms).unwrap_or(i64::MAX).to_string()));
            // Of several messages of one time, the first.
            let first = ("boundaryType", Cow::Borrowed("LOWER"));
            self.offset_of(topic, queue, SEARCH_OFFSET_BY_TIMESTAMP, vec![time, first]).await
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
            let answer = self.ask(&what(), &address.broker, request).await?;
            if !matches!(answer.code, FOUND | PULL_NOT_FOUND | PULL_RETRY_IMMEDIATELY | PULL_OFFSET_MOVED) {
                if !address.is_master && answer.code == SYSTEM_BUSY {
                    return Err(replica_refuses(&what(), &address, &answer.remark));
                }
                let right = format!("Sub on Topic:{topic} and on Group:{GROUP}");
                return Err(refused(&what(), &answer, &right));
            }
            let number = |field: &str| {
                let unsaid = || wrong("the broker's answer does not say where its messages begin and end");
                answer.number(field).map(offset).ok_or_else(unsaid)
            };
            let empty = Page {
                messages: Vec::new(),
                next_offset: from_offset,
                first: number("minOffset")?,
                end: number("maxOffset")?,
            };
            if !address.is_master && !empty.holds(from_offset) {
                return Err(replica_lacks_offset(&what(), &address, &empty));
            }
            match answer.code {
                FOUND => {}
                // The next offset counts only if the broker looked at messages and left them out. If it has nothing, or not
                // this offset, it also names another one; to go on from there would skip messages.
                PULL_RETRY_IMMEDIATELY => {
                    let looked_at = number("nextBeginOffset")?.min(empty.end);
                    let next_offset = looked_at.max(from_offset);
                    return Ok(Page { next_offset, ..empty });
                }
                _ => return Ok(empty),
            }
            let (mut messages, damage) = take_messages(answer.body, queue);
            // The next pull begins right after the last message that can be read, so that one finds nothing but the damage.
            let Some(last) = messages.last() else {
                let damage = damage.map_or_else(|| "there is none".to_owned(), |damage| damage.to_string());
                return Err(wrong(&format!("the message there cannot be read: {damage}")));
            };
            let next_offset = last.queue_offset + 1;
            // The broker filters by a hash of the tag, and different tags can have the same hash.
            messages.retain(|message| tag.is_none_or(|tag| message.tag == tag));
            Ok(Page { messages, next_offset, ..empty })
        })
    }
}

impl RocketMqReader {
    /// The offset after the last message; 0 for a queue that is not there.
    pub(super) async fn end_of(&self, topic: &str, queue: &QueueName) -> Result<u64, ReadError> {
        self.offset_of(topic, queue, GET_MAX_OFFSET, Vec::new()).await
    }

    /// Asks for one offset of a queue.
    async fn offset_of(
        &self,
        topic: &str,
        queue: &QueueName,
        code: i32,
        more: Vec<(&'static str, Cow<'static, str>)>,
    ) -> Result<u64, ReadError> {
        let Address { broker, .. } = self.address(topic, queue).await?;
        let what = describe(topic, queue);
        let mut fields = queue_fields(topic, queue);
        fields.extend(more);
        let request = Request { code, fields, body: Bytes::new() };
        let answer = self.answer(&what, &broker, request, &format!("Get on Topic:{topic}")).await?;
        let unsaid = || failed(&what, FailureKind::Unknown, "the broker's answer has no offset".to_owned());
        answer.number("offset").map(offset).ok_or_else(unsaid)
    }
}

fn queue_fields<'a>(topic: &'a str, queue: &'a QueueName) -> Vec<(&'static str, Cow<'a, str>)> {
    vec![
        ("topic", Cow::Borrowed(topic)),
        ("queueId", Cow::Owned(queue.id.to_string())),
        ("bname", Cow::Borrowed(&*queue.broker)),
    ]
}

fn pull_request<'a>(
    topic: &'a str,
    queue: &'a QueueName,
    tag: Option<&'a str>,
    from_offset: u64,
    limit: u32,
) -> Request<'a> {
    let mut fields = queue_fields(topic, queue);
    let number = |number: i64| Cow::Owned(number.to_string());
    fields.extend([
        ("consumerGroup", Cow::Borrowed(GROUP)),
        ("queueOffset", number(i64::try_from(from_offset).unwrap_or(i64::MAX))),
        ("maxMsgNums", number(i32::try_from(limit).unwrap_or(i32::MAX).into())),
        ("sysFlag", Cow::Borrowed(FILTER_WITH_REQUEST)),
        ("commitOffset", Cow::Borrowed("0")),
        ("suspendTimeoutMillis", Cow::Borrowed("0")),
        ("subscription", Cow::Borrowed(tag.unwrap_or("*"))),
        ("subVersion", Cow::Borrowed("0")),
        ("expressionType", Cow::Borrowed("TAG")),
        ("maxMsgBytes", Cow::Borrowed(PAGE_BYTES)),
    ]);
    Request { code: PULL_MESSAGE, fields, body: Bytes::new() }
}

/// All messages up to the first one that cannot be read, and what is wrong with that one.
fn take_messages(mut body: Bytes, queue: &QueueName) -> (Vec<StoredMessage>, Option<Unreadable>) {
    let mut messages = Vec::with_capacity(USUAL_PAGE);
    while !body.is_empty() {
        match take_message(&mut body, queue) {
            Ok(message) => messages.push(message),
            Err(damage) => return (messages, Some(damage)),
        }
    }
    (messages, None)
}

/// The error for a replica that serves no readers, which calls itself busy.
fn replica_refuses(what: &str, address: &Address, remark: &str) -> ReadError {
    let (replica, words) = (&address.broker, their_words(remark));
    let cause = format!(
        "the master is away, and its replica {replica} serves no readers ({words}); start the master, or set \
         slaveReadEnable=true on the replica"
    );
    failed(what, FailureKind::Transport, cause)
}

/// The error for a replica that lacks the offset. Reading goes on when the master is back, or when another broker is master.
fn replica_lacks_offset(what: &str, address: &Address, page: &Page) -> ReadError {
    let (replica, first, end) = (&address.broker, page.first, page.end);
    let cause = format!(
        "the master is away, and its replica {replica} has only the offsets from {first} up to {end}; start the master"
    );
    failed(what, FailureKind::Transport, cause)
}
