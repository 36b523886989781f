//! `GET /api/v1/rooms`: all rooms of the index. For operators only, because the names of rooms alone say who has lessons.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Json;
use serde::{Deserialize, Serialize};

use super::Api;
use super::asked::{Asked, limit_of, time_ms};
use super::error::ApiError;
use super::rights::Shown;
use crate::archive::rfc3339;
use crate::index::RoomSummary;

const MAX_ROOMS: usize = 10_000;
const DEFAULT_ROOMS: usize = 1000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RoomsAsked {
    since: Option<String>,
    limit: Option<usize>,
    /// The `after` of an earlier answer.
    after: Option<String>,
}

/// A page, sorted by name.
#[derive(Serialize)]
pub(super) struct Rooms {
    rooms: Vec<Room>,
    /// Where the next page begins; null if there is none.
    after: Option<String>,
}

#[derive(Serialize)]
struct Room {
    room: String,
    first_at: String,
    last_at: String,
    lines: u64,
    people: u64,
    lessons: u64,
}

impl Room {
    fn of(summary: &RoomSummary) -> Self {
        Self {
            room: summary.room.to_string(),
            first_at: rfc3339(summary.first_at_ms),
            last_at: rfc3339(summary.last_at_ms),
            lines: summary.lines,
            people: summary.people,
            lessons: summary.lessons,
        }
    }
}

pub(super) async fn rooms(
    State(api): State<Arc<Api>>,
    shown: Shown,
    Asked(asked): Asked<RoomsAsked>,
) -> Result<Json<Rooms>, ApiError> {
    let caller = api.operator(&shown, "the list of rooms")?;
    let permit = api.limits.enter(caller.key)?;
    let limit = limit_of(asked.limit, DEFAULT_ROOMS, MAX_ROOMS)?;
    let since_ms = asked.since.as_deref().map(|text| time_ms("since", text)).transpose()?;
    let question = format!("rooms {since_ms:?}");
    let after = asked.after.as_deref().map(|cursor| api.cursors.read(&question, cursor)).transpose()?;
    caller.audit("the list of rooms");
    let gap_ms = api.gap_ms();
    let all = api.ask_index(permit, move |index| index.rooms(since_ms, gap_ms)).await?;
    let is_later = |summary: &&RoomSummary| after.as_deref().is_none_or(|after| &*summary.room > after);
    let mut rooms: Vec<_> = all.iter().filter(is_later).take(limit + 1).map(Room::of).collect();
    let has_more = rooms.len() > limit;
    rooms.truncate(limit);
    let last = rooms.last().filter(|_| has_more);
    let after = last.map(|last| api.cursors.make(&question, &last.room));
    Ok(Json(Rooms { rooms, after }))
}
