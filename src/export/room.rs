//! Writes the messages of one room, or of one query, as lines.

use super::ExportError;
use crate::archive::{ReadProgress, StoredMessages};
use crate::binding::read_back;
use crate::model::{Kind, StoredMessage};
use crate::piece::{at_ms, line_of};

/// Takes lines; each ends with a line feed.
pub(crate) trait Lines {
    /// Writes one.
    fn write(&mut self, line: &[u8]) -> Result<(), ExportError>;
}

/// What was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Exported {
    /// Lines that were written, copies included.
    pub lines: u64,
    /// Lines that are meant for one client, and were left out.
    pub private_left_out: u64,
    /// The earliest and the latest time of a line, milliseconds since 1970-01-01 UTC; `None` = there is no line.
    pub span_ms: Option<(u64, u64)>,
}

/// A message as a line, and what decides about it.
pub(super) struct MadeLine {
    pub at_ms: u64,
    pub is_private: bool,
    pub bytes: Vec<u8>,
}

impl MadeLine {
    pub(crate) fn of(message: &StoredMessage) -> Result<Self, ExportError> {
        let recorded = read_back(message);
        let bytes = line_of(message, &recorded).map_err(|error| ExportError::Line {
            topic: message.topic.clone(),
            queue: message.queue.clone(),
            offset: message.queue_offset,
            cause: error.to_string(),
        })?;
        let is_private = recorded.kind == Kind::P2p;
        Ok(Self { at_ms: at_ms(&recorded, message.stored_ms), is_private, bytes })
    }
}

/// Writes all of them. `with_private`: also what one client alone was told.
pub(crate) async fn export_room(
    messages: &mut StoredMessages<'_>,
    with_private: bool,
    lines: &mut dyn Lines,
    progress: &mut (dyn FnMut(ReadProgress) + Send),
) -> Result<Exported, ExportError> {
    let mut exported = Exported::default();
    while let Some((_, message)) = messages.next().await? {
        let line = MadeLine::of(&message)?;
        if line.is_private && !with_private {
            exported.private_left_out += 1;
            continue;
        }
        lines.write(&line.bytes)?;
        exported.lines += 1;
        let (first, last) = exported.span_ms.unwrap_or((line.at_ms, line.at_ms));
        exported.span_ms = Some((first.min(line.at_ms), last.max(line.at_ms)));
        progress(messages.progress());
    }
    Ok(exported)
}
