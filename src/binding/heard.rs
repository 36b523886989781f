//! Where a message of a topic that others may write is heard on MQTT, and which room that is.
//!
//! Promises: the way down and the archive go by the same properties, so what a room hears is in its history, whatever
//! tag, keys and queue the producer chose.

use std::collections::BTreeMap;

use super::escape;
use super::levels::Levels;
use super::rules::RuleSet;
use crate::config::DownlinkConfig;
use crate::model::{Kind, StoredMessage};

/// See the module's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeardAs {
    pub mqtt_topic: String,
    pub room: Option<String>,
    pub kind: Kind,
    /// The tag that a message which came from this MQTT topic would have.
    pub tag: String,
}

/// The sub-topic that a message goes down on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SubTopic<'a> {
    /// Without slashes around it; `None` = the bare parent topic.
    pub name: Option<&'a str>,
    pub is_p2p: bool,
}

/// By its (decoded) properties: those of ApsaraMQ first, then Apache rocketmq-mqtt's, which names the whole topic.
pub(super) fn sub_topic<'a>(properties: &'a BTreeMap<String, String>, rocketmq_topic: &str) -> SubTopic<'a> {
    let own = |name: &str| properties.get(name).map(String::as_str);
    let second = match own("mqttSecondTopic") {
        Some(sub) => Some(sub.trim_matches('/')),
        None => own("originMqttTopic").and_then(|whole| below(whole, rocketmq_topic)),
    };
    let second = second.filter(|sub| !sub.is_empty());
    let is_p2p = second.is_some_and(|sub| sub.starts_with("p2p/"));
    let real = own("mqttRealTopic").map(|real| real.trim_matches('/'));
    let name = if is_p2p { second } else { real.or(second) };
    SubTopic { name, is_p2p }
}

/// `parent/sub`, or the bare parent.
pub(super) fn below_parent(parent: &str, sub: Option<&str>) -> String {
    match sub {
        Some(sub) => format!("{parent}/{sub}"),
        None => parent.to_owned(),
    }
}

/// Apache rocketmq-mqtt names the whole topic, whose first level is the RocketMQ topic.
fn below<'a>(whole: &'a str, first: &str) -> Option<&'a str> {
    let rest = whole.strip_prefix(first)?.strip_prefix('/')?;
    Some(rest.trim_end_matches('/'))
}

impl RuleSet {
    /// Others may write the topics of these downlinks, so that there a tag proves nothing.
    pub fn with_downlinks(mut self, downlinks: &[DownlinkConfig]) -> Self {
        self.parents =
            downlinks.iter().map(|downlink| (downlink.topic.clone(), downlink.mqtt_topic.clone())).collect();
        self
    }

    /// `None` if its topic does not go down. `properties`: its own, decoded.
    pub fn heard(&self, message: &StoredMessage, properties: &BTreeMap<String, String>) -> Option<HeardAs> {
        let parent = self.parents.get(&message.topic)?;
        let sub = sub_topic(properties, &message.topic).name;
        let mqtt_topic = below_parent(parent, sub);
        // As the documents have it: one level for the parent, whatever the bridge puts in its place.
        let documented = below_parent(&message.topic, sub);
        let levels = Levels::of(&documented);
        let (kind, tag) = (levels.default_kind(), levels.below_first().unwrap_or_default());
        let default = HeardAs {
            room: levels.default_room(kind).map(str::to_owned),
            kind,
            tag: escape::tag(tag.to_owned()),
            mqtt_topic: mqtt_topic.clone(),
        };
        let rule = self.rule_for(&mqtt_topic);
        let place = rule.and_then(|rule| rule.place(&Levels::of(&mqtt_topic)).ok());
        // A binding may name rooms in its own way.
        match place.filter(|place| place.room.is_some() || default.room.is_none()) {
            Some(place) => Some(HeardAs { room: place.room, kind: place.kind, tag: place.tag, mqtt_topic }),
            None => Some(default),
        }
    }
}
