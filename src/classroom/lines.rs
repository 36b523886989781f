//! Reads the bodies that clients publish: chat lines, fences, commands.
//!
//! Promises: as tolerant as the vendor's pages need it (`roomId` may be text or number, unknown fields may be there), and
//! strict in everything else. An accepted body is one JSON object that every reader understands alike: valid UTF-8, none of
//! our fields twice, at most 127 levels deep. Any bytes lead to an answer, never to a panic.
//!
//! Must never: decide who may do what; `judge` does that.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::mutes::MAX_MUTE_S;
use super::request::Reason;
use crate::model::{ClientId, MAX_NAME_CHARACTERS, RoomId};

/// The vendor's limit for a message.
pub(crate) const MAX_BODY_BYTES: usize = 64 * 1024;

const PEER: &str = "peer";
const ROOM: &str = "roomId";
const TYPE: &str = "type";
const MESSAGE: &str = "msg";
const NAME: &str = "name";
const REFERENCE: &str = "ref";
const SECONDS: &str = "seconds";
const CHANNEL: &str = "channel";
const KNOWN: [&str; 8] = [PEER, ROOM, TYPE, MESSAGE, NAME, REFERENCE, SECONDS, CHANNEL];

/// Why a request is refused, with one sentence for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The entry of the closed list, for programs.
    pub reason: Reason,
    /// The sentence for people.
    pub detail: Cow<'static, str>,
    /// End of the mute that is the reason, milliseconds since 1970-01-01 UTC; `None` if there is no mute or no end.
    pub until_ms: Option<u64>,
}

impl Refusal {
    pub(crate) fn new(reason: Reason, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { reason, detail: detail.into(), until_ms: None }
    }
}

fn malformed(detail: impl Into<Cow<'static, str>>) -> Refusal {
    Refusal::new(Reason::Malformed, detail)
}

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ClientRequest {
    Chat { room: RoomId, name: Option<String> },
    Fence { room: RoomId, reference: String },
    Mute { target: ClientId, room: Option<RoomId>, seconds: Option<u64> },
    Unmute { target: ClientId, room: Option<RoomId> },
    Hello { room: RoomId, channel: String, name: Option<String> },
    Bye { room: RoomId, channel: String },
}

/// One body, read. Room and reference are set where possible even if the rest is refused, because the answer needs them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RequestBody {
    /// The room that it names, if the name is legal.
    pub room: Option<RoomId>,
    /// `ref`: a text by which the client recognises the answer.
    pub reference: Option<String>,
    /// As the client wrote it; in a mute, the client that is to be muted.
    pub peer: Option<String>,
    /// What it asks for, or why it is refused.
    pub request: Result<ClientRequest, Refusal>,
}

impl RequestBody {
    /// `sub_topic` = `message` or `command`.
    pub(crate) fn read(sub_topic: &str, body: &[u8]) -> Self {
        match Fields::read(body) {
            Ok(fields) => Self {
                room: fields.optional_room().ok().flatten(),
                reference: fields.short_text(REFERENCE).ok().flatten(),
                peer: fields.text(PEER).ok().flatten().map(str::to_owned),
                request: fields.request(sub_topic),
            },
            Err(refusal) => Self { room: None, reference: None, peer: None, request: Err(refusal) },
        }
    }
}

/// The fields that we know, with their values.
struct Fields {
    known: BTreeMap<&'static str, Value>,
    /// The first of them that has half a character or a number that is too large.
    unreadable: Option<&'static str>,
}

impl Fields {
    fn read(body: &[u8]) -> Result<Self, Refusal> {
        if body.len() > MAX_BODY_BYTES {
            return Err(malformed("the message is larger than 64 KiB"));
        }
        let text = std::str::from_utf8(body).map_err(|_| malformed("the message is not UTF-8"))?;
        let mut json = serde_json::Deserializer::from_str(text);
        let fields = json.deserialize_map(FieldsVisitor);
        let read = fields.and_then(|fields| json.end().map(|()| fields));
        let written = read.map_err(|_| {
            malformed(
                "the message is not one JSON object, nests deeper than 127 levels or has one of our fields twice",
            )
        })?;
        let (mut known, mut unreadable) = (BTreeMap::new(), None);
        for (name, value) in written {
            match serde_json::from_str(value.get()) {
                Ok(value) => _ = known.insert(name, value),
                Err(_) => _ = unreadable.get_or_insert(name),
            }
        }
        Ok(Self { known, unreadable })
    }

    fn request(&self, sub_topic: &str) -> Result<ClientRequest, Refusal> {
        if let Some(name) = self.unreadable {
            return Err(malformed(format!(
                "{name} cannot be read: it has half a character, or a number that is too large"
            )));
        }
        // Checked in every type of message, so that later readers can rely on a text.
        let peer = self.text(PEER)?;
        self.short_text(REFERENCE)?;
        let name = self.text(NAME)?.map(str::to_owned);
        match (sub_topic, self.text(TYPE)?) {
            ("message", None) => {
                self.text(MESSAGE)?.ok_or_else(|| malformed("a chat line needs msg"))?;
                let room = self.room()?;
                Ok(ClientRequest::Chat { room, name })
            }
            ("message", Some("fence")) => {
                Ok(ClientRequest::Fence { room: self.room()?, reference: self.needed(REFERENCE)? })
            }
            ("command", Some("shutUp")) => Ok(ClientRequest::Mute {
                target: target(peer)?,
                room: self.optional_room()?,
                seconds: self.seconds()?,
            }),
            ("command", Some("unShutUp")) => {
                Ok(ClientRequest::Unmute { target: target(peer)?, room: self.optional_room()? })
            }
            ("command", Some("hello")) => {
                Ok(ClientRequest::Hello { room: self.room()?, channel: self.needed(CHANNEL)?, name })
            }
            ("command", Some("bye")) => {
                Ok(ClientRequest::Bye { room: self.room()?, channel: self.needed(CHANNEL)? })
            }
            ("command", None) => Err(malformed("a command needs a type")),
            ("message" | "command", Some(_)) => {
                Err(Refusal::new(Reason::Unknown, "this type is not known here"))
            }
            _ => Err(Refusal::new(
                Reason::Unknown,
                "nobody listens on this topic; publish on message or command",
            )),
        }
    }

    fn text(&self, name: &'static str) -> Result<Option<&str>, Refusal> {
        match self.known.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(malformed(format!("{name} must be a text"))),
        }
    }

    fn short_text(&self, name: &'static str) -> Result<Option<String>, Refusal> {
        let text = self.text(name)?;
        if text.is_some_and(|text| text.chars().count() > MAX_NAME_CHARACTERS) {
            return Err(malformed(format!("{name} is longer than {MAX_NAME_CHARACTERS} characters")));
        }
        Ok(text.map(str::to_owned))
    }

    fn needed(&self, name: &'static str) -> Result<String, Refusal> {
        let text = self.short_text(name)?.filter(|text| !text.is_empty());
        text.ok_or_else(|| malformed(format!("{name} is missing")))
    }

    fn room(&self) -> Result<RoomId, Refusal> {
        self.optional_room()?.ok_or_else(|| malformed("roomId is missing"))
    }

    fn optional_room(&self) -> Result<Option<RoomId>, Refusal> {
        let illegal = || Refusal::new(Reason::Room, "roomId must be 1 to 64 letters, digits, _ and -");
        let text = match self.known.get(ROOM) {
            None => return Ok(None),
            Some(Value::String(text)) => Cow::Borrowed(text.as_str()),
            // The vendor's server reads it as a whole number.
            Some(Value::Number(number)) => number.as_u64().ok_or_else(illegal)?.to_string().into(),
            Some(_) => return Err(malformed("roomId must be a text or a whole number")),
        };
        RoomId::parse(&text).map(Some).ok_or_else(illegal)
    }

    fn seconds(&self) -> Result<Option<u64>, Refusal> {
        let Some(value) = self.known.get(SECONDS) else {
            return Ok(None);
        };
        let seconds = value.as_u64().filter(|seconds| (1..=MAX_MUTE_S).contains(seconds));
        seconds.map(Some).ok_or_else(|| {
            malformed(format!("seconds must be a whole number from 1 to {MAX_MUTE_S}, 30 days"))
        })
    }
}

fn target(peer: Option<&str>) -> Result<ClientId, Refusal> {
    let peer = peer.ok_or_else(|| malformed("peer is missing: who is meant?"))?;
    ClientId::parse(peer)
        .ok_or_else(|| Refusal::new(Reason::Peer, "peer is no client id that a client can have"))
}

/// How deep a body may nest, itself counted: serde_json reads no deeper, and a page hangs at 60,000 levels.
const MAX_LEVELS: usize = 127;

/// Keeps the known fields as they are written, and refuses a body that two readers could understand differently. What stands in
/// other fields, and in their names, is for others: half a character or a huge number there is no reason to refuse a line.
struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = BTreeMap<&'static str, &'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = BTreeMap::new();
        while let Some((name, value)) = map.next_entry::<&'de RawValue, &'de RawValue>()? {
            if 1 + levels(value.get()) > MAX_LEVELS {
                return Err(A::Error::custom("it nests too deep"));
            }
            // A name with half a character cannot be read, so it is none of ours.
            let Ok(name) = serde_json::from_str::<String>(name.get()) else {
                continue;
            };
            let Some(known) = KNOWN.into_iter().find(|known| *known == name) else {
                continue;
            };
            // Of a repeated field, some readers take the first and others the last: they would see different senders.
            if fields.insert(known, value).is_some() {
                return Err(A::Error::custom("a field stands there twice"));
            }
        }
        Ok(fields)
    }
}

/// How deep this nests, which is one JSON value.
fn levels(json: &str) -> usize {
    let (mut level, mut deepest) = (0_usize, 0);
    let (mut in_text, mut is_escaped) = (false, false);
    for byte in json.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = in_text,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => level += 1,
            b']' | b'}' if !in_text => level -= 1,
            _ => {}
        }
        deepest = deepest.max(level);
    }
    deepest
}
