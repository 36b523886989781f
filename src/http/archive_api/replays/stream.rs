//! The events of a session as a stream: JSON Lines, or server-sent events for pages that read them with `fetch`.
//!
//! (`EventSource` sends no header, so a token would have to stand in the address, and then in logs.)

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use futures::stream;
use serde_json::{Value, json};

use super::session::SessionReader;

/// So often something is sent while nothing is said, so that a connection that is dead is noticed.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);

/// How events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// One JSON object a line.
    JsonLines,
    /// `event: NAME`, `data: JSON`, and an empty line.
    Sse,
}

impl Form {
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::JsonLines => "application/x-ndjson",
            Self::Sse => "text/event-stream",
        }
    }

    fn write(self, event: &Value) -> Bytes {
        let text = match self {
            Self::JsonLines => format!("{event}\n"),
            // The name is one of ours; JSON has no line break outside of its texts, and none in them.
            Self::Sse => format!("event: {}\ndata: {event}\n\n", event["event"].as_str().unwrap_or_default()),
        };
        text.into()
    }
}

/// No event: a HEAD has no body, and the length of a stream is not known.
pub(super) fn none() -> Body {
    Body::from_stream(stream::pending::<Result<Bytes, Infallible>>())
}

/// The events until the session ends. Nothing is read ahead of the reader but what the session holds.
pub(super) fn body(reader: SessionReader, form: Form) -> Body {
    let events = stream::unfold(reader, move |mut reader| async move {
        let event = match tokio::time::timeout(SIGN_OF_LIFE, reader.next()).await {
            Ok(event) => event?,
            Err(_) => json!({"event": "waiting"}),
        };
        Some((Ok::<_, Infallible>(form.write(&event)), reader))
    });
    Body::from_stream(events)
}
