//! What the index keeps of one message.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::binding::{RuleSet, read_back};
use crate::index::{Mark, NewRow};
use crate::model::{Kind, MessageId, StoredMessage};
use crate::piece::{Place, at_ms};

/// So much of a body is searched.
const TEXT_BYTES: usize = 64 << 10;
const LESSON_START: &str = "lesson/start/";
const LESSON_END: &str = "lesson/end/";

/// Says what the rows of messages are.
pub(super) struct Rows {
    pub rules: Arc<RuleSet>,
    pub heard: BTreeSet<String>,
    pub text_fields: Vec<String>,
}

/// A row that is on its way to the index.
pub(super) struct OwnedRow {
    pub place: Arc<Place>,
    pub offset: u64,
    pub name: String,
    pub at_ms: u64,
    pub eff_ms: u64,
    pub rooms: Vec<String>,
    pub client_id: Option<String>,
    pub kind: Kind,
    pub id: Option<MessageId>,
    pub text: Option<String>,
    pub is_line: bool,
    pub mark: Option<Mark>,
}

impl Rows {
    pub(super) fn row_of(&self, place: &Arc<Place>, eff_ms: u64, message: &StoredMessage) -> OwnedRow {
        let recorded = read_back(message);
        let at_ms = at_ms(&recorded, message.stored_ms);
        let destination = self.rules.mqtt_destination(message, &recorded.properties);
        // As a history finds them: what the message says of itself, and where a message of another program is heard.
        let mut rooms: Vec<String> = recorded.room.iter().cloned().collect();
        let also = destination.as_ref().and_then(|destination| destination.room.clone());
        rooms.extend(also.filter(|room| recorded.room.as_ref() != Some(room)));
        let kind = match destination {
            Some(destination) if recorded.id.is_none() => destination.kind,
            Some(_) | None => recorded.kind,
        };
        let is_heard = self.heard.contains(&message.topic);
        let is_text = is_heard && matches!(kind, Kind::Message | Kind::System);
        let mark = mark_of(kind, &message.tag);
        OwnedRow {
            place: place.clone(),
            offset: message.queue_offset,
            name: message.name(),
            at_ms,
            eff_ms,
            is_line: is_heard
                && mark.is_none()
                && !rooms.is_empty()
                && matches!(kind, Kind::Message | Kind::System | Kind::Command),
            rooms,
            client_id: recorded.client_id,
            kind,
            id: recorded.id,
            text: if is_text { text_of(&recorded.payload, &self.text_fields) } else { None },
            mark,
        }
    }
}

impl OwnedRow {
    /// Gives it as the index takes it.
    pub(super) fn with<T>(&self, take: impl FnOnce(&NewRow<'_>) -> T) -> T {
        let rooms: Vec<&str> = self.rooms.iter().map(String::as_str).collect();
        take(&NewRow {
            place: &self.place,
            offset: self.offset,
            name: &self.name,
            at_ms: self.at_ms,
            eff_ms: self.eff_ms,
            rooms: &rooms,
            client_id: self.client_id.as_deref(),
            kind: self.kind,
            id: self.id,
            text: self.text.as_deref(),
            is_line: self.is_line,
            mark: self.mark,
        })
    }
}

fn mark_of(kind: Kind, tag: &str) -> Option<Mark> {
    match kind {
        Kind::System if tag.starts_with(LESSON_START) => Some(Mark::Start),
        Kind::System if tag.starts_with(LESSON_END) => Some(Mark::End),
        _ => None,
    }
}

/// What a search compares: these fields of a JSON object, else the whole body if it is text.
pub(crate) fn text_of(body: &[u8], fields: &[String]) -> Option<String> {
    let whole = str::from_utf8(body).ok()?;
    // Each field by itself: half a character in one that nobody asked for, or in its name, does not hide the others.
    let found = match fields_of(whole) {
        Ok(object) => {
            let texts = fields.iter().filter_map(|field| serde_json::from_str(object.get(field)?.get()).ok());
            let texts: Vec<String> = texts.collect();
            if texts.is_empty() { Cow::Borrowed(whole) } else { texts.join("\n").into() }
        }
        // Another form of text, or no JSON.
        Err(_) => Cow::Borrowed(whole),
    };
    let end = found.floor_char_boundary(TEXT_BYTES);
    // A NUL would end the text for a part of SQLite.
    found.get(..end).map(|text| text.replace('\0', " "))
}

/// The fields of a JSON object, as they are written; those whose name cannot be read are left out. An error if it is none.
fn fields_of(text: &str) -> Result<BTreeMap<String, &RawValue>, serde_json::Error> {
    let mut json = serde_json::Deserializer::from_str(text);
    let fields = json.deserialize_map(FieldsVisitor)?;
    json.end()?;
    Ok(fields)
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = BTreeMap<String, &'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = BTreeMap::new();
        while let Some((name, value)) = map.next_entry::<&'de RawValue, &'de RawValue>()? {
            if let Ok(name) = serde_json::from_str::<String>(name.get()) {
                fields.insert(name, value);
            }
        }
        Ok(fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(body: &[u8]) -> Option<String> {
        text_of(body, &["msg".to_owned(), "text".to_owned()])
    }

    #[test]
    fn a_search_finds_the_fields_of_a_line_or_the_whole_body() {
        assert_eq!(text(br#"{"peer":"li","msg":"hello","text":"again"}"#).as_deref(), Some("hello\nagain"));
        assert_eq!(text(br#"{"peer":"li"}"#).as_deref(), Some(r#"{"peer":"li"}"#));
        assert_eq!(text(br#"{"msg":7}"#).as_deref(), Some(r#"{"msg":7}"#));
        assert_eq!(text(br#"{"msg":"\u52fe\u80a1","x":["\ud83d",1e999]}"#).as_deref(), Some("勾股"));
        assert_eq!(text(br#"{"\udc00":2,"msg":"hi","\ud83d":1}"#).as_deref(), Some("hi"));
        assert_eq!(text(br#"{"text":"hi","msg":"\ud83d"}"#).as_deref(), Some("hi"));
        assert_eq!(text(br#"{"\u006dsg":"hi"} "#).as_deref(), Some("hi"), "a name may be escaped");
        for no_object in [r#"{"msg":"hi"} x"#, r#"{"msg":"hi",}"#, r#"{"\x":1,"msg":"hi"}"#] {
            assert_eq!(text(no_object.as_bytes()).as_deref(), Some(no_object));
        }
        assert_eq!(text(br#"["msg"]"#).as_deref(), Some(r#"["msg"]"#));
        assert_eq!(text(b"plain \0 text").as_deref(), Some("plain   text"));
        assert_eq!(text(&[0xff, 0xfe]), None);
        let long = text("数".repeat(30_000).as_bytes()).unwrap();
        assert_eq!(long.len(), TEXT_BYTES - 1, "no character is cut in two");
    }
}
