//! The rule set: the compiled bindings, which say what a message becomes.
//!
//! Promises: a binding that can never work is refused when the configuration is read; the error names its number and the
//! remedy.
//! Must never: try a later binding once a filter has matched, or bind the same topic in two different ways.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use super::escape;
use super::levels::{Known, Levels, Parts, slot_of};
use super::limits;
use super::origin::{MAX_HOPS, Signer};
use super::properties::{self, MARK};
use super::template::{Template, TemplateError};
use crate::config::{BindingConfig, SenderSource};
use crate::model::{
    DeadReason, Envelope, FilterReason, Kind, MessageId, OutgoingMessage, OutgoingProperties, TopicFilter,
    TopicFilterError,
};

/// What the properties of a message take, beside topic, tag and session, and without MQTT 5 properties of the publisher.
const MORE_BYTES: usize = 512;

/// What the bindings need beside their text.
#[derive(Clone)]
pub struct BindingSettings {
    /// The deployment's secret, with which `rbOrigin` is made.
    pub origin_key: Vec<u8>,
    /// RocketMQ's limit for a message, body and properties together.
    pub max_message_bytes: usize,
}

/// Hides the key.
impl std::fmt::Debug for BindingSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BindingSettings")
            .field("max_message_bytes", &self.max_message_bytes)
            .finish_non_exhaustive()
    }
}

/// Why the bindings cannot be used. `binding` counts from 1 in the order of the configuration.
#[allow(clippy::missing_docs_in_private_items, reason = "each text says what is wrong")]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    #[error("binding {binding}: filter {filter:?} cannot be used: {cause}")]
    Filter { binding: usize, filter: String, cause: TopicFilterError },
    #[error("binding {binding}: {key} = {template:?} cannot be used: {cause}")]
    Template { binding: usize, key: &'static str, template: String, cause: TemplateError },
    #[error("binding {binding}: {cause}; give the binding another topic")]
    Topic { binding: usize, cause: String },
    #[error(
        "binding {binding}: sender level {level} does not exist, because topics of its filter have {count} level(s), counted from 0"
    )]
    Sender { binding: usize, level: usize, count: usize },
    #[error(
        "the origin key is empty, so anybody could mark messages as ours; set origin.key or origin.key_file"
    )]
    OriginKey,
}

/// One message as RocketMQ is to store it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    /// The RocketMQ topic.
    pub topic: Arc<str>,
    /// What it is for; a label of metrics.
    pub kind: Kind,
    /// Slot of its order key, 0 to 255.
    pub slot: u8,
    /// KEYS holds the room, if there is one, and the message id. The body is the payload, or one byte that stands for an empty
    /// one.
    pub message: OutgoingMessage,
}

/// Why a message is not stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotStored {
    /// It is not meant to be stored.
    Filtered(FilterReason),
    /// It can never be stored.
    Dead {
        /// Entry of the closed list.
        reason: DeadReason,
        /// One sentence for people.
        detail: String,
    },
}

/// The compiled bindings; shared by all tasks.
#[derive(Debug, Clone)]
pub struct RuleSet {
    pub(super) rules: Vec<Rule>,
    version: String,
    pub(super) signer: Signer,
    pub(super) max_message_bytes: usize,
    /// By RocketMQ topic of each downlink, the MQTT topic below which its messages are published.
    pub(super) parents: BTreeMap<String, String>,
}

/// One compiled binding.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    /// From 1, as people count the bindings of a configuration.
    pub number: usize,
    pub filter: TopicFilter,
    topic: Template,
    /// The RocketMQ topic, if it is the same for all messages.
    pub fixed_topic: Option<Arc<str>>,
    pub tag: Template,
    pub room: Option<Template>,
    pub kind: Option<Template>,
    pub order_key: Option<Template>,
    order_key_field: Option<String>,
    pub sender: Option<SenderSource>,
}

/// Where a message belongs by its topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Destination<'a> {
    pub topic: Arc<str>,
    pub kind: Kind,
    pub room: Option<Cow<'a, str>>,
    pub order_key: Cow<'a, str>,
    pub slot: u8,
    pub tag: Cow<'a, str>,
}

impl RuleSet {
    /// Refuses bindings that can never work.
    pub fn compile(bindings: &[BindingConfig], settings: BindingSettings) -> Result<Self, RuleError> {
        let rules = bindings.iter().zip(1..).map(|(binding, number)| Rule::compile(number, binding));
        let signer = Signer::new(&settings.origin_key).ok_or(RuleError::OriginKey)?;
        Ok(Self {
            rules: rules.collect::<Result<_, _>>()?,
            version: version_of(bindings),
            signer,
            max_message_bytes: settings.max_message_bytes,
            parents: BTreeMap::new(),
        })
    }

    /// The topic filters to subscribe to, in the order of the bindings.
    pub fn filters(&self) -> impl Iterator<Item = &TopicFilter> {
        self.rules.iter().map(|rule| &rule.filter)
    }

    /// A hash of the bindings, 8 hex digits: equal texts, equal version. Written to each message as `rbRules`.
    #[cfg(any(test, feature = "testing"))]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The RocketMQ topics that stand literally in the configuration, without duplicates.
    pub fn literal_topics(&self) -> Vec<String> {
        let mut topics: Vec<String> = Vec::new();
        for topic in self.rules.iter().filter_map(|rule| rule.fixed_topic.as_deref()) {
            if !topics.iter().any(|known| known == topic) {
                topics.push(topic.to_owned());
            }
        }
        topics
    }

    /// What the message becomes in RocketMQ, or why it is not stored.
    pub fn bind(&self, envelope: &Envelope) -> Result<Bound, NotStored> {
        self.bind_into(envelope, String::new())
    }

    /// The same, with the properties in a buffer that was used before. Runs for every message.
    pub(crate) fn bind_into(&self, envelope: &Envelope, buffer: String) -> Result<Bound, NotStored> {
        let levels = Levels::of(&envelope.topic);
        let rule = self.rule_for(&envelope.topic).ok_or(NotStored::Filtered(FilterReason::NoRule))?;
        let hop = self.next_hop(envelope)?;
        let place = rule.place(&levels)?;
        // Checked before the body is hashed, so that a message that is much too large costs little.
        limits::check_sizes(0, envelope.payload.len(), self.max_message_bytes).map_err(dead)?;

        let keys = keys_of(place.room.as_deref(), envelope.id);
        let body = properties::body_of(&envelope.payload);
        let context = properties::Context {
            envelope,
            levels: &levels,
            kind: place.kind,
            sender: rule.sender.as_ref(),
            id: id_of_keys(&keys),
            hop,
            rules: &self.version,
            topic: &place.topic,
            body: &body,
            signer: &self.signer,
        };
        // Topic, tag and session stand in it several times; the rest is about as long for each message.
        let more_bytes = MORE_BYTES + 3 * envelope.topic.len() + envelope.arrival.session.as_str().len();
        let named = OutgoingProperties::new_in(buffer, &keys, &place.tag, more_bytes);
        let message = OutgoingMessage { properties: properties::write(named, &context), body };
        limits::check_sizes(message.properties_bytes(), message.body.len(), self.max_message_bytes)
            .map_err(dead)?;
        let slot = rule.slot_in(&envelope.payload).unwrap_or(place.slot);
        Ok(Bound { topic: place.topic, kind: place.kind, slot, message })
    }

    /// 1; more if the message went through the bridge before and another program copied it to this topic.
    fn next_hop(&self, envelope: &Envelope) -> Result<u8, NotStored> {
        let mut user = envelope.properties.user.iter();
        let mark = user
            .find(|(name, _)| name == MARK)
            .and_then(|(_, value)| self.signer.read_mark(&envelope.payload, value));
        match mark {
            None => Ok(1),
            Some(mark) if mark.topic == envelope.topic => {
                Err(NotStored::Filtered(FilterReason::FromRocketmq))
            }
            Some(mark) if mark.hop >= MAX_HOPS => Err(NotStored::Filtered(FilterReason::HopLimit)),
            Some(mark) => Ok(mark.hop + 1),
        }
    }

    /// The user property by which a bridge knows a message on that MQTT topic for one of its own, and does not store it.
    pub(crate) fn mark_of_ours(&self, topic: &str, id: &str, payload: &[u8]) -> (String, String) {
        (MARK.to_owned(), self.signer.mark(topic, id, 1, payload))
    }

    /// The first rule whose filter matches.
    pub(super) fn rule_for(&self, topic: &str) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.filter.matches(topic))
    }
}

impl Rule {
    fn compile(number: usize, config: &BindingConfig) -> Result<Self, RuleError> {
        let filter = TopicFilter::parse(&config.filter).map_err(|cause| RuleError::Filter {
            binding: number,
            filter: config.filter.clone(),
            cause,
        })?;
        let known = Known::of(&filter);
        let count = known.count();
        let parse = |key, text: &str, count| {
            Template::parse(text)
                .and_then(|template| template.check_against(count).map(|()| template))
                .map_err(|cause| RuleError::Template {
                    binding: number,
                    key,
                    template: text.to_owned(),
                    cause,
                })
        };
        let optional =
            |key, text: &Option<String>| text.as_ref().map(|text| parse(key, text, count)).transpose();
        // `{sub}` is the default tag, so it is allowed for topics of one level too, which have no sub-topic.
        let tag = parse("tag", &config.tag, if config.tag == "{sub}" { None } else { count })?;
        let topic = parse("topic", &config.topic, count)?;
        let fixed_topic = topic.render(&known).map(Arc::<str>::from);
        if let Some(Err(cause)) = fixed_topic.as_deref().map(limits::check_topic) {
            return Err(RuleError::Topic { binding: number, cause });
        }
        if let (Some(SenderSource::TopicLevel(level)), Some(count)) = (&config.sender, count)
            && *level >= count
        {
            return Err(RuleError::Sender { binding: number, level: *level, count });
        }
        Ok(Self {
            number,
            topic,
            fixed_topic,
            tag,
            room: optional("room", &config.room)?,
            kind: optional("kind", &config.kind)?,
            order_key: optional("order_key", &config.order_key)?,
            order_key_field: config.order_key_field.clone(),
            sender: config.sender.clone(),
            filter,
        })
    }

    pub(crate) fn place<'a>(&'a self, levels: &'a Levels<'_>) -> Result<Destination<'a>, NotStored> {
        let topic = match &self.fixed_topic {
            Some(topic) => Arc::clone(topic),
            None => {
                let name = self.topic.render(levels).ok_or(NotStored::Filtered(FilterReason::NoRule))?;
                limits::check_topic(&name)
                    .map_err(|detail| NotStored::Dead { reason: DeadReason::IllegalTopic, detail })?;
                Arc::from(&*name)
            }
        };
        let kind = self.kind_of(levels);
        let room = match &self.room {
            Some(template) => template.render(levels).filter(|room| !room.is_empty()),
            None => levels.default_room(kind).map(Cow::Borrowed),
        };
        let own_order_key = self.order_key.as_ref().and_then(|template| template.render(levels));
        let order_key = own_order_key
            .filter(|key| !key.is_empty())
            .or_else(|| room.clone())
            .unwrap_or_else(|| levels.default_order_key().into());
        Ok(Destination {
            topic,
            kind,
            slot: slot_of(&order_key),
            room,
            order_key,
            tag: self.tag_of(levels).unwrap_or_default(),
        })
    }

    /// The slot of the room that the payload names; `None` if the binding does not ask for it, or the payload names none.
    fn slot_in(&self, payload: &[u8]) -> Option<u8> {
        let field = self.order_key_field.as_ref()?;
        properties::json_room(payload, field).map(|room| slot_of(room.as_str()))
    }

    pub(crate) fn tag_of<'a>(&'a self, parts: &'a impl Parts) -> Option<Cow<'a, str>> {
        self.tag.render(parts).map(escape::tag)
    }

    fn kind_of(&self, levels: &Levels<'_>) -> Kind {
        match &self.kind {
            Some(template) => template.render(levels).map_or(Kind::Other, |name| Kind::from_name(&name)),
            None => levels.default_kind(),
        }
    }
}

/// `{room} {id}` or `{id}`.
pub(super) fn keys_of(room: Option<&str>, id: MessageId) -> String {
    const ID_BYTES: usize = 33;
    let mut keys = String::with_capacity(room.map_or(0, |room| room.len() + 1) + ID_BYTES);
    if let Some(room) = room {
        escape::push_key(&mut keys, room);
        keys.push(' ');
    }
    id.push_to(&mut keys);
    keys
}

/// The last of KEYS.
pub(super) fn id_of_keys(keys: &str) -> &str {
    keys.rsplit(' ').next().unwrap_or_default()
}

fn dead((reason, detail): (DeadReason, String)) -> NotStored {
    NotStored::Dead { reason, detail }
}

/// The hash of the bindings. NUL separates their texts, because no filter can hold it.
fn version_of(bindings: &[BindingConfig]) -> String {
    let mut text = String::from("rules 1");
    for binding in bindings {
        let optional = [&binding.room, &binding.kind, &binding.order_key, &binding.order_key_field];
        let sender = match &binding.sender {
            None => String::new(),
            Some(SenderSource::TopicLevel(level)) => format!("topic_level {level}"),
            Some(SenderSource::UserProperty(name)) => format!("user_property {name}"),
            Some(SenderSource::JsonField(name)) => format!("json_field {name}"),
            Some(SenderSource::EmbeddedBroker) => "embedded_broker".to_owned(),
        };
        let required = [&binding.filter, &binding.topic, &binding.tag, &sender].map(String::as_str);
        for part in required.into_iter().chain(optional.map(|part| part.as_deref().unwrap_or_default())) {
            text.push('\0');
            text.push_str(part);
        }
    }
    format!("{:08x}", xxh3_64(text.as_bytes()) >> 32)
}
