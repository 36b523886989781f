//! Whether a queue is still the one that was read, for everybody who remembers an offset.
//!
//! An offset alone proves nothing: a topic that was emptied or made anew, a broker that came back with an older store and
//! a replica that took its master's place all count on from smaller numbers. Once there are more messages than before,
//! an old offset is legal again, and everything below it would be skipped in silence (hazard 20). So who remembers an
//! offset also remembers who lies just before it.

use std::fmt;

use super::ports::{ReadError, Reader};
use crate::model::{FailureKind, QueueName, StoredMessage};

/// What a reader remembers of a queue, and what it finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Compared {
    /// One can read on. The name of the message just before, if it is still there.
    Same {
        /// Names the message before the offset; `None` = there is none, or it was deleted.
        last: Option<String>,
    },
    /// One has to begin anew, with the first message.
    Changed(Change),
}

/// How a queue is no longer as it was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Change {
    /// How the change was seen.
    pub cause: Cause,
    /// The first offset that it holds now.
    pub first: u64,
    /// The offset after the last one that it holds now.
    pub end: u64,
}

/// Why the offset leads nowhere, or elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The queue ends before the offset.
    Shorter,
    /// Messages behind the offset were deleted before they were read.
    UnreadDeleted,
    /// Another message lies before the offset than the one that lay there.
    AnotherBefore,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Shorter => "it is shorter",
            Self::UnreadDeleted => "messages that were not read yet are gone",
            Self::AnotherBefore => "another message lies in the last one's place",
        })
    }
}

/// Compares with one answer of the broker. `offset`: the next one to read; `last`: the name of the message before it,
/// where it is known.
///
/// # Errors
///
/// The broker does not answer, or counts the message before and does not hand it out: then nothing is known.
pub(crate) async fn compare(
    reader: &dyn Reader,
    topic: &str,
    queue: &QueueName,
    offset: u64,
    last: Option<&str>,
) -> Result<Compared, ReadError> {
    let before = offset.saturating_sub(1);
    let page = reader.pull(topic, queue, None, before, 1).await?;
    let changed = |cause| {
        let (first, end) = (page.first, page.end);
        Ok(Compared::Changed(Change { cause, first, end }))
    };
    if page.end < offset {
        return changed(Cause::Shorter);
    }
    if page.first > offset {
        return changed(Cause::UnreadDeleted);
    }
    if page.first == offset {
        return Ok(Compared::Same { last: None });
    }
    let found = page.messages.first();
    match (found.filter(|found| found.queue_offset == before).map(StoredMessage::name), last) {
        (Some(found), Some(last)) if found != last => changed(Cause::AnotherBefore),
        (None, Some(_)) if page.next_offset <= before => Err(ReadError {
            what: format!("topic {topic}, queue {queue} at offset {before}"),
            cause: "the broker counts a message there but does not hand it out".to_owned(),
            kind: FailureKind::Unknown,
        }),
        (found, _) => Ok(Compared::Same { last: found }),
    }
}
