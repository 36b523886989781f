//! Says on which MQTT topic, and so in which room, a message is heard that another program wrote to a downlink's topic.
//!
//! Promises: downlink and archive use this same code, so the history of a room holds what the room heard, whatever tag,
//! keys and queue the producer chose.

use std::borrow::Cow;

use super::escape;
use super::levels::Levels;
use super::rules::RuleSet;
use crate::config::DownlinkConfig;
use crate::model::{Kind, StoredMessage, StoredProperties};

/// Under which topic and in which room a message of another program is heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MqttDestination {
    /// The topic that it is published on.
    pub mqtt_topic: String,
    /// The room that hears it; `None` = no room.
    pub room: Option<String>,
    /// What it is for.
    pub kind: Kind,
    /// The tag that the bridge would give to a message from this MQTT topic.
    pub tag: String,
}

/// The sub-topic on which a message is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SubTopic<'a> {
    /// Without slashes around it; `None` = the bare parent topic.
    pub name: Option<&'a str>,
    pub is_p2p: bool,
}

/// Reads the sub-topic from the decoded properties: from those of ApsaraMQ, else from that of Apache rocketmq-mqtt, which
/// names the whole topic.
pub(super) fn sub_topic<'a>(properties: &'a StoredProperties, rocketmq_topic: &str) -> SubTopic<'a> {
    let second = match properties.get("mqttSecondTopic") {
        Some(sub) => Some(sub.trim_matches('/')),
        None => properties.get("originMqttTopic").and_then(|whole| below(whole, rocketmq_topic)),
    };
    let second = second.filter(|sub| !sub.is_empty());
    let is_p2p = second.is_some_and(|sub| sub.starts_with("p2p/"));
    let real = properties.get("mqttRealTopic").map(|real| real.trim_matches('/'));
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

/// The levels below the first one, which must be the RocketMQ topic, as Apache rocketmq-mqtt writes it.
fn below<'a>(whole: &'a str, first: &str) -> Option<&'a str> {
    let rest = whole.strip_prefix(first)?.strip_prefix('/')?;
    Some(rest.trim_end_matches('/'))
}

impl RuleSet {
    /// Adds the downlinks. Other programs may write to their topics, so the tags there prove nothing.
    pub fn with_downlinks(mut self, downlinks: &[DownlinkConfig]) -> Self {
        self.parents =
            downlinks.iter().map(|downlink| (downlink.topic.clone(), downlink.mqtt_topic.clone())).collect();
        self
    }

    /// Where the message is heard; `None` if no downlink reads its topic. `properties`: those of the message, decoded.
    pub fn mqtt_destination(
        &self,
        message: &StoredMessage,
        properties: &StoredProperties,
    ) -> Option<MqttDestination> {
        let parent = self.parents.get(&message.topic)?;
        let sub = sub_topic(properties, &message.topic).name;
        let mqtt_topic = below_parent(parent, sub);
        // The vendor's rules for rooms and tags count from one parent level, however many the configured parent has.
        let documented = below_parent(&message.topic, sub);
        let levels = Levels::of(&documented);
        let (kind, tag) = (levels.default_kind(), levels.below_first().unwrap_or_default());
        let default = MqttDestination {
            room: levels.default_room(kind).map(str::to_owned),
            kind,
            tag: escape::tag(tag.into()).into_owned(),
            mqtt_topic: mqtt_topic.clone(),
        };
        let rule = self.rule_for(&mqtt_topic);
        let levels = Levels::of(&mqtt_topic);
        let place = rule.and_then(|rule| rule.place(&levels).ok());
        // A binding for this topic may name rooms and tags in another way, and then it decides.
        match place.filter(|place| place.room.is_some() || default.room.is_none()) {
            Some(place) => {
                let (room, tag) = (place.room.map(Cow::into_owned), place.tag.into_owned());
                let kind = place.kind;
                Some(MqttDestination { room, kind, tag, mqtt_topic: mqtt_topic.clone() })
            }
            None => Some(default),
        }
    }
}
