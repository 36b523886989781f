//! What a history cannot show, because it is gone for good: older messages, and ranges that were lost.

use std::fmt;
use std::ops::Range;

use super::cursor::Sought;
use super::record::rfc3339;
use crate::model::QueueName;
use crate::pipeline::ports::{ReadError, Reader, Wanted};

/// One thing that is missing in a history, told in one sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Missing {
    /// Messages that RocketMQ had deleted, or did not give out, before they were archived. Of which room they were, nobody knows.
    Lost {
        /// RocketMQ topic.
        topic: String,
        /// The queue.
        queue: QueueName,
        /// Their offsets.
        offsets: Range<u64>,
        /// When the message before them was stored, milliseconds since 1970-01-01 UTC; `None` = there is none.
        after_ms: Option<u64>,
        /// When the message behind them was stored, milliseconds since 1970-01-01 UTC; `None` = there is none yet.
        before_ms: Option<u64>,
    },
    /// Messages that RocketMQ has and does not hand out. Of which room they are, nobody knows.
    Withheld {
        /// RocketMQ topic.
        topic: String,
        /// The queues; not empty.
        queues: Vec<QueueName>,
        /// How many, in all of them.
        messages: u64,
        /// Whether the topic has too few read queues; else it may not be read.
        may_be_read: bool,
    },
    /// What was said between the asked beginning and this time.
    Older {
        /// RocketMQ topic.
        topic: String,
        /// The queue.
        queue: QueueName,
        /// The first message that is kept was stored then, milliseconds since 1970-01-01 UTC.
        kept_from_ms: u64,
    },
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost { topic, queue, offsets, after_ms, before_ms } => {
                let count = offsets.end - offsets.start;
                let messages = if count == 1 { "1 message".to_owned() } else { format!("{count} messages") };
                write!(f, "{messages} of topic {topic}, queue {queue}")?;
                match (after_ms.map(rfc3339), before_ms.map(rfc3339)) {
                    (Some(after), Some(before)) => write!(f, ", between {after} and {before},")?,
                    (Some(after), None) => write!(f, ", after {after},")?,
                    (None, Some(before)) => write!(f, ", before {before},")?,
                    (None, None) => {}
                }
                write!(f, " are lost: RocketMQ gave them up before they were archived")
            }
            Self::Withheld { topic, queues, messages, may_be_read } => {
                let last = queues.iter().map(|queue| queue.id).max().unwrap_or(0);
                let names: Vec<_> = queues.iter().map(ToString::to_string).collect();
                let (verb, names) = (if *messages == 1 { "message" } else { "messages" }, names.join(", "));
                write!(f, "RocketMQ does not hand out {messages} {verb} of topic {topic} ({names}): ")?;
                match may_be_read {
                    true => write!(
                        f,
                        "the topic has fewer read queues than before; give it at least {} (mqadmin updateTopic -t {topic} -r {})",
                        last + 1,
                        last + 1
                    ),
                    false => write!(
                        f,
                        "nobody may read there; check brokerPermission of the broker, and the topic's permission (mqadmin \
                         updateTopicPerm -t {topic} -p 6)"
                    ),
                }
            }
            Self::Older { topic, queue, kept_from_ms } => write!(
                f,
                "what topic {topic}, queue {queue} held before {} is not kept any more",
                rfc3339(*kept_from_ms)
            ),
        }
    }
}

impl Missing {
    /// How many messages RocketMQ has and does not hand out.
    pub(crate) fn withheld(&self) -> u64 {
        match self {
            Self::Withheld { messages, .. } => *messages,
            Self::Lost { .. } | Self::Older { .. } => 0,
        }
    }
}

/// What RocketMQ has of a topic and does not hand out.
pub(crate) async fn withheld_of(reader: &dyn Reader, topic: &str) -> Result<Vec<Missing>, ReadError> {
    let (few, closed): (Vec<_>, Vec<_>) =
        reader.withheld(topic).await?.into_iter().partition(|withheld| withheld.may_be_read);
    let told = [(true, few), (false, closed)].into_iter().filter(|(_, withheld)| !withheld.is_empty());
    Ok(told
        .map(|(may_be_read, withheld)| Missing::Withheld {
            topic: topic.to_owned(),
            messages: withheld.iter().map(|queue| queue.offsets.end - queue.offsets.start).sum(),
            queues: withheld.into_iter().map(|withheld| withheld.queue).collect(),
            may_be_read,
        })
        .collect())
}

/// What is missing in a range of a queue that was read, as far as it can belong to the time that was asked for.
pub(super) async fn missing_of(
    reader: &dyn Reader,
    sought: &Sought,
    range: Range<u64>,
    from_ms: Option<u64>,
    to_ms: Option<u64>,
) -> Result<Vec<Missing>, ReadError> {
    let Sought { topic, queue, .. } = sought;
    let mut missing = Vec::new();
    if let Some(from_ms) = from_ms
        && range.start > 0
        && reader.offsets(topic, queue).await?.0 == range.start
    {
        let kept_from_ms = stored_at(reader, sought, range.start).await?;
        let (topic, queue) = (topic.clone(), queue.clone());
        let is_later = kept_from_ms.filter(|kept_from_ms| *kept_from_ms > from_ms);
        missing.extend(is_later.map(|kept_from_ms| Missing::Older { topic, queue, kept_from_ms }));
    }
    for offsets in reader.lost(topic, queue, range) {
        let after_ms = match offsets.start.checked_sub(1) {
            Some(before) => stored_at(reader, sought, before).await?,
            None => None,
        };
        let before_ms = stored_at(reader, sought, offsets.end).await?;
        let is_too_old = from_ms.zip(before_ms).is_some_and(|(from, before)| before < from);
        let is_too_new = to_ms.zip(after_ms).is_some_and(|(to, after)| after >= to);
        if !is_too_old && !is_too_new {
            let (topic, queue) = (topic.clone(), queue.clone());
            missing.push(Missing::Lost { topic, queue, offsets, after_ms, before_ms });
        }
    }
    Ok(missing)
}

/// When the message at that offset was stored; `None`: there is none, or it is not given out.
async fn stored_at(reader: &dyn Reader, sought: &Sought, offset: u64) -> Result<Option<u64>, ReadError> {
    let page = reader.read_on(&sought.topic, &sought.queue, Wanted::default(), (offset, 0), 1).await?;
    let found = page.messages.first().map(|found| &found.message);
    Ok(found.filter(|found| found.queue_offset == offset).map(|found| found.stored_ms))
}
