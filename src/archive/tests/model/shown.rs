//! What a history shows of a room, and what it must show.

use std::collections::BTreeMap;

use super::oracle::{Offsets, Said};
use super::rocketmq::{State, TOPIC};
use crate::archive::{History, HistoryError, HistoryQuery, Record};
use crate::binding::RoomQuery;
use crate::model::{Kind, MessageId};
use crate::piece::Place;
use crate::pipeline::ports::Reader;

/// A line of a history.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Shown {
    id: Option<MessageId>,
    body: String,
    duplicates: u64,
    pub conflict: bool,
}

/// What a history of that room must show of what is archived, in the order of ids and bodies.
pub(super) fn lines_of(places: &BTreeMap<Place, Offsets>, room: &str, state: &State) -> Vec<Shown> {
    let mut times: BTreeMap<(Option<MessageId>, String), u64> = BTreeMap::new();
    for said in places.values().flat_map(BTreeMap::values) {
        if let Said::Line(uid) = said
            && let Some(line) = state.said.get(uid).filter(|line| line.room == room)
        {
            *times.entry((line.id, line.body.clone())).or_default() += 1;
        }
    }
    let mut shown = Vec::new();
    for ((id, body), times_stored) in &times {
        // What has no id has no copies.
        let (lines, duplicates) = if id.is_some() { (1, times_stored - 1) } else { (*times_stored, 0) };
        let conflict = id.is_some() && times.keys().filter(|(other, _)| other == id).count() > 1;
        shown.extend((0..lines).map(|_| Shown { id: *id, body: body.clone(), duplicates, conflict }));
    }
    shown
}

/// What it shows.
pub(super) async fn history_of(reader: &dyn Reader, room: &str) -> Result<Vec<Shown>, HistoryError> {
    let place = RoomQuery {
        topic: TOPIC.to_owned(),
        tag: None,
        shared: false,
        room: Some(room.to_owned()),
        kind: None,
    };
    let query = HistoryQuery { places: vec![place], kind: Some(Kind::Message), ..HistoryQuery::default() };
    let mut history = History::open(reader, query, &mut |_| ()).await?;
    let mut shown = Vec::new();
    while let Some(Record { id, bytes, duplicates, conflict, .. }) = history.next().await? {
        let body = String::from_utf8_lossy(&bytes).into_owned();
        shown.push(Shown { id, body, duplicates, conflict });
    }
    shown.sort();
    Ok(shown)
}
