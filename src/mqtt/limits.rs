//! What a broker's CONNACK takes away from what we asked for, and what follows from it for this configuration.

use super::properties::{self, Property};
use crate::model::Qos;
use crate::telemetry::{BrokerLimit, Severity};

/// The properties of a CONNACK (MQTT 5.0, section 3.2.2.3), where one is absent its default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Limits {
    /// `None`: as long as we asked.
    pub session_expiry_s: Option<u32>,
    /// PUBLISHes that may be on their way to the broker.
    pub receive_maximum: u16,
    pub maximum_qos: Qos,
    pub retain_available: bool,
    pub max_packet_bytes: Option<u32>,
    pub assigned_client_id: Option<String>,
    pub wildcards_available: bool,
    pub identifiers_available: bool,
    pub shared_available: bool,
    /// `None`: ours counts.
    pub server_keep_alive_s: Option<u16>,
}

/// What the bridge needs of the broker.
#[derive(Debug, Clone)]
pub(crate) struct Needs {
    pub session_expiry_s: u32,
    pub filters: Vec<String>,
    /// The largest message that may go down, in bytes; `None`: nothing goes down.
    pub publishes_bytes: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            session_expiry_s: None,
            receive_maximum: u16::MAX,
            maximum_qos: Qos::ExactlyOnce,
            retain_available: true,
            max_packet_bytes: None,
            assigned_client_id: None,
            wildcards_available: true,
            identifiers_available: true,
            shared_available: true,
            server_keep_alive_s: None,
        }
    }
}

impl Limits {
    /// Values that MQTT forbids (a packet size of 0 and its like) are as good as absent.
    pub(crate) fn of(connack: &[Property]) -> Self {
        let mut limits = Self::default();
        for property in connack {
            match property {
                Property::Double(properties::SESSION_EXPIRY, seconds) => {
                    limits.session_expiry_s = Some(*seconds)
                }
                Property::Double(properties::MAXIMUM_PACKET_SIZE, bytes) if *bytes > 0 => {
                    limits.max_packet_bytes = Some(*bytes);
                }
                Property::Word(properties::RECEIVE_MAXIMUM, count) if *count > 0 => {
                    limits.receive_maximum = *count
                }
                Property::Word(properties::SERVER_KEEP_ALIVE, seconds) => {
                    limits.server_keep_alive_s = Some(*seconds);
                }
                Property::Byte(properties::MAXIMUM_QOS, level) => {
                    limits.maximum_qos = Qos::from_level(*level).unwrap_or(Qos::ExactlyOnce);
                }
                Property::Byte(properties::RETAIN_AVAILABLE, flag) => limits.retain_available = *flag != 0,
                Property::Byte(properties::WILDCARD_AVAILABLE, flag) => {
                    limits.wildcards_available = *flag != 0
                }
                Property::Byte(properties::IDENTIFIERS_AVAILABLE, flag) => {
                    limits.identifiers_available = *flag != 0;
                }
                Property::Byte(properties::SHARED_AVAILABLE, flag) => limits.shared_available = *flag != 0,
                Property::Text(properties::ASSIGNED_CLIENT_ID, id) => {
                    limits.assigned_client_id = Some(id.clone())
                }
                Property::Byte(..)
                | Property::Word(..)
                | Property::Double(..)
                | Property::Text(..)
                | Property::Binary(..)
                | Property::SubscriptionIdentifier(_)
                | Property::User(..) => {}
            }
        }
        limits
    }

    /// Whether the broker would hang up for a SUBSCRIBE with that filter (MQTT 5.0, section 3.2.2.3.11).
    pub(crate) fn forbids(&self, filter: &str) -> bool {
        !self.wildcards_available && filter.contains(['+', '#'])
    }

    /// One sentence for each, with what follows from it.
    pub(crate) fn against(&self, needs: &Needs) -> Vec<BrokerLimit> {
        let mut all = Vec::new();
        let mut say = |severity, text: String| all.push(BrokerLimit { severity, text });
        let asked_s = needs.session_expiry_s;
        match self.session_expiry_s {
            Some(0) => say(
                Severity::Fatal,
                format!(
                    "the MQTT broker keeps no session for us (session expiry 0 s, mqtt.session_expiry_s asks for {asked_s} s): \
                     what is published while the bridge is away will be lost; allow sessions that outlive their connection \
                     in the broker"
                ),
            ),
            Some(kept_s) if kept_s < asked_s => say(
                Severity::Warning,
                format!(
                    "the MQTT broker keeps our session for {kept_s} s only (mqtt.session_expiry_s asks for {asked_s} s): what is \
                     published while the bridge is away for longer will be lost; raise the broker's limit for sessions"
                ),
            ),
            Some(_) | None => {}
        }
        if let Some(id) = &self.assigned_client_id {
            say(
                Severity::Warning,
                format!(
                    "the MQTT broker gives us the client id {id:?} instead of mqtt.client_id: our session is not kept \
                     under our name"
                ),
            );
        }
        if self.maximum_qos == Qos::AtMostOnce {
            let down = match needs.publishes_bytes {
                Some(_) => ", and what goes down is published with QoS 0, without an acknowledgement",
                None => "",
            };
            say(
                Severity::Warning,
                format!(
                    "the MQTT broker allows QoS 0 only: it does not send again what is lost on its way to us{down}; \
                     allow QoS 1 in the broker"
                ),
            );
        }
        let forbidden: Vec<_> = needs.filters.iter().filter(|filter| self.forbids(filter)).collect();
        if !self.wildcards_available {
            match forbidden.is_empty() {
                true => say(
                    Severity::Remark,
                    "the MQTT broker allows no wildcards in subscriptions; no filter here has one".to_owned(),
                ),
                false => say(
                    Severity::Fatal,
                    format!(
                        "the MQTT broker allows no wildcards in subscriptions, so we cannot subscribe to {forbidden:?}: \
                         nothing of it is received; allow wildcards in the broker, or give each [[binding]] a filter \
                         without + and #"
                    ),
                ),
            }
        }
        if let Some(bytes) = self.max_packet_bytes {
            match needs.publishes_bytes {
                Some(largest) if largest > u64::from(bytes) => say(
                    Severity::Warning,
                    format!(
                        "the MQTT broker takes packets of {bytes} bytes at most, and RocketMQ's messages may have {largest} \
                         bytes (rocketmq.max_message_bytes): larger ones become dead letters (too_large_for_mqtt)"
                    ),
                ),
                Some(_) | None => {
                    say(Severity::Remark, format!("the MQTT broker takes packets of {bytes} bytes at most"))
                }
            }
        }
        if !self.retain_available {
            say(
                Severity::Remark,
                "the MQTT broker keeps no retained messages: who publishes one there is disconnected; the bridge \
                 publishes none"
                    .to_owned(),
            );
        }
        if !self.shared_available {
            say(
                Severity::Remark,
                "the MQTT broker has no shared subscriptions; the bridge uses none".to_owned(),
            );
        }
        if !self.identifiers_available {
            say(Severity::Remark, "the MQTT broker has no subscription identifiers".to_owned());
        }
        all
    }
}
