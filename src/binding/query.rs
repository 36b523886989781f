//! Where `history` has to look in RocketMQ for a room or a tag.
//!
//! Promises: every binding that can yield the room is looked at; a query has a tag only if all messages of the room under
//! that binding have it, else the reader reads the whole topic and compares rooms; a topic to which other programs may
//! write is always read whole.
//! Must never: accept a name that asks for more than one room: `*` and `a||b` mean several tags to RocketMQ.

use std::borrow::Cow;

use super::levels::{Known, Levels};
use super::rules::{Rule, RuleSet};
use super::template::Piece;
use crate::model::Kind;

/// One RocketMQ topic to read, with all of its queues. The reader must compare the room again, because RocketMQ filters by a
/// hash of the tag.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct RoomQuery {
    /// The RocketMQ topic.
    pub topic: String,
    /// Only messages of this tag; `None` = the tag does not tell the room, so read the whole topic and compare rooms.
    pub tag: Option<String>,
    /// Whether other programs may write to the topic, with any tag: then read it whole, and compare where messages are heard.
    pub shared: bool,
    /// Only messages of this room; `None` = the question was for a tag, and the room does not matter.
    pub room: Option<String>,
    /// The kind of all of these messages; `None` = the binding does not fix it.
    #[serde(serialize_with = "kind_name")]
    pub kind: Option<Kind>,
}

/// Why there is nothing to read.
#[allow(clippy::missing_docs_in_private_items, reason = "each text says what is wrong")]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    #[error(
        "{room:?} is no room: a room is not empty, not * alone, and holds no ||, /, +, # or control character"
    )]
    Room { room: String },
    #[error(
        "{tag:?} is no stored tag: a tag is not empty, not * alone, and holds no |, control character or outer space; type it as history --json shows it"
    )]
    Tag { tag: String },
    #[error("{mqtt_topic:?} is no MQTT topic: name one, without + and #, as it was published")]
    MqttTopic { mqtt_topic: String },
    #[error(
        "no binding takes messages of the MQTT topic {mqtt_topic:?}; `roombridge explain TOPIC` shows what becomes of a topic"
    )]
    NotBound { mqtt_topic: String },
    #[error("no binding yields room {room:?}; `roombridge explain TOPIC` shows which room a topic has")]
    NoBinding { room: String },
    #[error(
        "binding {binding} takes its RocketMQ topic from each message, so it is not known where to look; give the binding a literal topic"
    )]
    TopicUnknown { binding: usize },
}

impl RuleSet {
    /// Where the messages of one room lie. The room is given as people see it, not encoded.
    ///
    /// A binding without a literal RocketMQ topic is left out if another one can answer.
    pub fn room_queries(&self, room: &str) -> Result<Vec<RoomQuery>, QueryError> {
        let forbidden = |c: char| matches!(c, '/' | '+' | '#') || c.is_control();
        if room.is_empty() || room == "*" || room.contains("||") || room.contains(forbidden) {
            return Err(QueryError::Room { room: room.to_owned() });
        }
        let mut queries: Vec<RoomQuery> = Vec::new();
        let mut unknown = None;
        for rule in &self.rules {
            let Some((tag, kind)) = rule.read_room(room) else {
                continue;
            };
            let Some(topic) = rule.fixed_topic.as_deref() else {
                unknown.get_or_insert(rule.number);
                continue;
            };
            add(
                &mut queries,
                RoomQuery { topic: topic.to_owned(), tag, shared: false, room: Some(room.to_owned()), kind },
            );
        }
        if let (true, Some(binding)) = (queries.is_empty(), unknown) {
            return Err(QueryError::TopicUnknown { binding });
        }
        self.shared_topics(Some(room)).for_each(|whole| add(&mut queries, whole));
        if queries.is_empty() {
            return Err(QueryError::NoBinding { room: room.to_owned() });
        }
        Ok(queries)
    }

    /// Where the messages of one MQTT topic lie; the reader must compare the topic. It is the only way to what has neither room nor
    /// tag, as messages on the bare parent topic have neither.
    pub fn mqtt_topic_queries(&self, mqtt_topic: &str) -> Result<Vec<RoomQuery>, QueryError> {
        if mqtt_topic.is_empty() || mqtt_topic.contains(['+', '#', '\0']) {
            return Err(QueryError::MqttTopic { mqtt_topic: mqtt_topic.to_owned() });
        }
        let levels = Levels::of(mqtt_topic);
        let place = self.rule_for(mqtt_topic).and_then(|rule| rule.place(&levels).ok());
        let own = place.map(|place| RoomQuery {
            topic: place.topic.to_string(),
            tag: Some(place.tag.into_owned()).filter(|tag| !tag.is_empty()),
            shared: false,
            room: None,
            kind: Some(place.kind),
        });
        let mut queries: Vec<RoomQuery> = own.into_iter().collect();
        self.shared_topics(None).for_each(|whole| add(&mut queries, whole));
        if queries.is_empty() {
            return Err(QueryError::NotBound { mqtt_topic: mqtt_topic.to_owned() });
        }
        Ok(queries)
    }

    /// The topics to which other programs may write, each read whole.
    fn shared_topics(&self, room: Option<&str>) -> impl Iterator<Item = RoomQuery> {
        self.parents.keys().map(move |topic| RoomQuery {
            topic: topic.clone(),
            tag: None,
            shared: true,
            room: room.map(str::to_owned),
            kind: None,
        })
    }

    /// Where what is said to a room on this MQTT topic lies. A topic can be shared by all rooms, as that of the notices is.
    pub fn topic_query(&self, room: &str, mqtt_topic: &str) -> Option<RoomQuery> {
        let levels = Levels::of(mqtt_topic);
        let place = self.rule_for(mqtt_topic)?.place(&levels).ok()?;
        Some(RoomQuery {
            topic: place.topic.to_string(),
            tag: Some(place.tag.into_owned()),
            shared: self.parents.contains_key(&*place.topic),
            room: Some(room.to_owned()),
            kind: Some(place.kind),
        })
    }

    /// Where the messages of one tag lie. The tag is given as it is stored.
    pub fn tag_queries(&self, tag: &str) -> Result<Vec<RoomQuery>, QueryError> {
        let forbidden = |c: char| c == '|' || c.is_control();
        if tag.is_empty() || tag == "*" || tag.trim() != tag || tag.contains(forbidden) {
            return Err(QueryError::Tag { tag: tag.to_owned() });
        }
        let topics = self.literal_topics();
        if let (true, Some(rule)) = (topics.is_empty(), self.rules.first()) {
            return Err(QueryError::TopicUnknown { binding: rule.number });
        }
        let shared = self.parents.keys().filter(|topic| !topics.contains(topic));
        let query = |topic: &String| RoomQuery {
            topic: topic.clone(),
            tag: Some(tag.to_owned()),
            shared: self.parents.contains_key(topic),
            room: None,
            kind: None,
        };
        Ok(topics.iter().chain(shared).map(query).collect())
    }
}

/// Adds a query. To read a topic whole finds everything that a tag would find, so overlapping queries become one.
fn add(queries: &mut Vec<RoomQuery>, mut query: RoomQuery) {
    queries.retain(|known| {
        let one_scans = known.tag.is_none() || query.tag.is_none();
        let overlaps = known.topic == query.topic && (one_scans || known.tag == query.tag);
        if overlaps {
            query.tag = query.tag.take().filter(|_| known.tag.is_some());
            query.kind = query.kind.filter(|kind| known.kind == Some(*kind));
        }
        !overlaps
    });
    queries.push(query);
}

impl Rule {
    /// Tag and kind of that room's messages, as far as they are fixed; the outer `None` = this rule never yields the room.
    fn read_room(&self, room: &str) -> Option<(Option<String>, Option<Kind>)> {
        let mut known = Known::of(&self.filter);
        match &self.room {
            None => {
                let is_message = self.learn_kind_message(&mut known);
                let fits = is_message && known.learn_count(3) && known.learn_level(2, room);
                fits.then(|| (self.fixed_tag(&known), Some(Kind::Message)))
            }
            Some(template) => {
                if let Some(Piece::Level(index)) = template.single()
                    && !known.learn_level(*index, room)
                {
                    return None;
                }
                if template.render(&known).is_some_and(|fixed| fixed != room) {
                    return None;
                }
                Some((self.fixed_tag(&known), self.fixed_kind(&known)))
            }
        }
    }

    /// Narrows `known` to kind `message`, which alone has default rooms; `false` if this rule never yields that kind.
    fn learn_kind_message(&self, known: &mut Known) -> bool {
        let message = Kind::Message.as_str();
        match &self.kind {
            None => known.learn_level(1, message),
            Some(template) => match template.single() {
                Some(Piece::Level(index)) => known.learn_level(*index, message),
                Some(Piece::Text(_) | Piece::Sub | Piece::Topic) | None => {
                    template.render(known).is_none_or(|name| name == message)
                }
            },
        }
    }

    fn fixed_tag(&self, known: &Known) -> Option<String> {
        self.tag_of(known).map(Cow::into_owned).filter(|tag| !tag.is_empty())
    }

    fn fixed_kind(&self, known: &Known) -> Option<Kind> {
        use super::levels::Parts;
        match &self.kind {
            Some(template) => template.render(known).map(|name| Kind::from_name(&name)),
            None => known.level(1).map(Kind::from_name),
        }
    }
}

fn kind_name<S: serde::Serializer>(kind: &Option<Kind>, serializer: S) -> Result<S::Ok, S::Error> {
    match kind {
        Some(kind) => serializer.serialize_some(kind.as_str()),
        None => serializer.serialize_none(),
    }
}
