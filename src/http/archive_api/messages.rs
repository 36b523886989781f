//! `GET /api/v1/rooms/{room}/messages`: what was said in a room, page by page from the newest, or in a range of time.
//!
//! The lines are short: the fields of schema 1 that a reader needs, under the same names. A page of a thousand is then a fifth of what
//! all fields would be, and names no machine (RocketMQ's properties do).

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::response::Json;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::Api;
use super::asked::{Asked, Times, kind_of, limit_of};
use super::error::ApiError;
use super::rights::Shown;
use super::why::{Partial, Why, WhyCode};
use crate::archive::{Before, HistoryError, HistoryQuery, Latest, LatestQuery, Record, latest, rfc3339};

const MAX_MESSAGES: usize = 1000;
const DEFAULT_MESSAGES: usize = 200;
/// Then what is found is the answer, and says so.
const TIME: Duration = Duration::from_secs(5);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MessagesAsked {
    from: Option<String>,
    to: Option<String>,
    kind: Option<String>,
    from_client: Option<String>,
    /// Instead of `from` and `to`.
    lesson: Option<String>,
    limit: Option<usize>,
    /// The `before` of an earlier answer.
    before: Option<String>,
}

/// A page, oldest first.
#[derive(Serialize)]
pub(super) struct Messages {
    room: String,
    messages: Vec<ShortLine>,
    #[serde(flatten)]
    partial: Partial,
    /// Where the page with older messages begins; null if there is none.
    before: Option<String>,
}

/// As in the archive, without what only a program needs that copies messages.
#[derive(Serialize)]
pub(super) struct ShortLine {
    id: Option<String>,
    at: String,
    room: Option<String>,
    kind: &'static str,
    client_id: Option<String>,
    mqtt_topic: String,
    conflict: bool,
    body: Option<String>,
    body_base64: Option<String>,
}

impl ShortLine {
    pub(super) fn of(record: Record) -> Self {
        let (body, body_base64) = match String::from_utf8(record.bytes.to_vec()) {
            Ok(text) => (Some(text), None),
            Err(error) => (None, Some(STANDARD.encode(error.as_bytes()))),
        };
        Self {
            id: record.id.map(|id| id.to_string()),
            at: rfc3339(record.time_ms),
            room: record.room,
            kind: record.kind.as_str(),
            client_id: record.client_id,
            mqtt_topic: record.mqtt_topic,
            conflict: record.conflict,
            body,
            body_base64,
        }
    }
}

pub(super) async fn messages(
    State(api): State<Arc<Api>>,
    Path(room): Path<String>,
    shown: Shown,
    Asked(asked): Asked<MessagesAsked>,
) -> Result<Json<Messages>, ApiError> {
    let caller = api.reader_of(&shown, &room)?;
    let places = api.places_of(&room)?;
    let _permit = api.limits.enter(caller.key)?;
    let limit = limit_of(asked.limit, DEFAULT_MESSAGES, MAX_MESSAGES)?;
    let shows = api.shows(&caller);
    let times = Times::of(asked.from.as_deref(), asked.to.as_deref())?;
    let kind = asked.kind.as_deref().map(kind_of).transpose()?;
    let client = asked.from_client.as_deref();
    let lesson = asked.lesson.as_deref();
    // The last lesson goes on, and its page is still the same.
    let question =
        format!("messages {:?} {room:?} {times:?} {lesson:?} {kind:?} {client:?}", caller.is_operator());
    let before = asked.before.as_deref().map(|cursor| api.cursors.read(&question, cursor)).transpose()?;
    // Only we can have written it.
    let before = before.map(|place| place.parse::<Before>().map_err(|()| ApiError::OldCursor)).transpose()?;
    if shows.private {
        caller.audit(&format!("messages of room {room:?}, private ones included"));
    }
    let times = api.times_of(&room, lesson, times, false).await?;
    let reader = api.reader().await;
    let (rules, Times { from_ms, to_ms }) = (Some(api.parts.rules.clone()), times);
    let query = LatestQuery {
        query: HistoryQuery { places, rules, from_ms, to_ms, kind, partial: true, ..HistoryQuery::default() },
        wanted: &|record| {
            shows.hold(record.kind, &record.mqtt_topic)
                && client.is_none_or(|client| record.client_id.as_deref() == Some(client))
        },
        limit,
        before,
        time: TIME,
        now_ms: api.parts.clock.wall_ms(),
    };
    let latest = match latest(&reader, query).await {
        Ok(latest) => latest,
        // Nothing was stored there yet.
        Err(HistoryError::NoTopic { .. }) => Latest::default(),
        Err(error) => return Err(error.into()),
    };
    Ok(Json(Messages {
        room,
        partial: reasons(&latest).into(),
        before: latest.before.map(|before| api.cursors.make(&question, &before.to_string())),
        messages: latest.records.into_iter().map(ShortLine::of).collect(),
    }))
}

fn reasons(latest: &Latest) -> Vec<Why> {
    let late = "the time was over; ask for the next page with `before`, or for a shorter range";
    let late = latest.ran_out_of_time.then(|| Why::new(WhyCode::Late, late));
    let away = latest.away.iter().map(String::as_str);
    late.into_iter().chain(Why::of_reading(away, &latest.missing)).collect()
}
