//! What a broker does not give of what we asked for, and what follows from it for this configuration.

use crate::model::Qos;
use crate::telemetry::{BrokerLimit, Severity};

/// What a broker allows on one connection. The default is what it allows where its CONNACK says nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// How long the broker keeps the session; `None`: as long as we asked.
    pub session_expiry_s: Option<u32>,
    /// How many PUBLISHes we may send before we have their PUBACKs.
    pub receive_maximum: u16,
    pub maximum_qos: Qos,
    pub retain_available: bool,
    pub max_packet_bytes: Option<u32>,
    pub assigned_client_id: Option<String>,
    pub wildcards_available: bool,
    pub identifiers_available: bool,
    pub shared_available: bool,
    /// The keep-alive time that the broker asks for; `None`: ours counts.
    pub server_keep_alive_s: Option<u16>,
}

/// What the bridge needs of the broker.
#[derive(Debug, Clone)]
pub(crate) struct Needs {
    /// How long the broker must keep the session, in seconds, as CONNECT asks for it.
    pub session_expiry_s: u32,
    /// The topic filters that are subscribed to.
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
    /// Whether the broker would hang up for a SUBSCRIBE with that filter (MQTT 5.0, section 3.2.2.3.11).
    pub(crate) fn forbids(&self, filter: &str) -> bool {
        !self.wildcards_available && filter.contains(['+', '#'])
    }

    /// What the broker does not give and we asked for: one sentence for each, with what follows from it.
    pub(crate) fn against(&self, needs: &Needs) -> Vec<BrokerLimit> {
        let mut limits = self.of_the_session(needs);
        limits.extend(self.of_the_qos(needs));
        limits.extend(self.of_the_filters(needs));
        limits.extend(self.of_the_packets(needs));
        limits.extend(self.that_nothing_here_needs());
        limits
    }

    fn of_the_session(&self, needs: &Needs) -> Vec<BrokerLimit> {
        let mut limits = Vec::new();
        let asked_s = needs.session_expiry_s;
        match self.session_expiry_s {
            Some(0) => limits.push(fatal(format!(
                "the MQTT broker keeps no session for us (session expiry 0 s, mqtt.session_expiry_s asks for {asked_s} s): \
                 what is published while the bridge is away will be lost; allow sessions that outlive their connection \
                 in the broker"
            ))),
            Some(kept_s) if kept_s < asked_s => limits.push(warning(format!(
                "the MQTT broker keeps our session for {kept_s} s only (mqtt.session_expiry_s asks for {asked_s} s): what is \
                 published while the bridge is away for longer will be lost; raise the broker's limit for sessions"
            ))),
            Some(_) | None => {}
        }
        if let Some(id) = &self.assigned_client_id {
            limits.push(warning(format!(
                "the MQTT broker gives us the client id {id:?} instead of mqtt.client_id: our session is not kept \
                 under our name"
            )));
        }
        limits
    }

    fn of_the_qos(&self, needs: &Needs) -> Option<BrokerLimit> {
        let down = match needs.publishes_bytes {
            Some(_) => ", and what goes down is published with QoS 0, without an acknowledgement",
            None => "",
        };
        (self.maximum_qos == Qos::AtMostOnce).then(|| {
            warning(format!(
                "the MQTT broker allows QoS 0 only: it does not send again what is lost on its way to us{down}; \
                 allow QoS 1 in the broker"
            ))
        })
    }

    fn of_the_filters(&self, needs: &Needs) -> Option<BrokerLimit> {
        let forbidden: Vec<_> = needs.filters.iter().filter(|filter| self.forbids(filter)).collect();
        match (self.wildcards_available, forbidden.is_empty()) {
            (true, _) => None,
            (false, true) => Some(remark(
                "the MQTT broker allows no wildcards in subscriptions; no filter here has one".to_owned(),
            )),
            (false, false) => Some(fatal(format!(
                "the MQTT broker allows no wildcards in subscriptions, so we cannot subscribe to {forbidden:?}: \
                 nothing of it is received; allow wildcards in the broker, or give each [[binding]] a filter \
                 without + and #"
            ))),
        }
    }

    fn of_the_packets(&self, needs: &Needs) -> Option<BrokerLimit> {
        let bytes = self.max_packet_bytes?;
        Some(match needs.publishes_bytes {
            Some(largest) if largest > u64::from(bytes) => warning(format!(
                "the MQTT broker takes packets of {bytes} bytes at most, and RocketMQ's messages may have {largest} \
                 bytes (rocketmq.max_message_bytes): larger ones become dead letters (too_large_for_mqtt)"
            )),
            Some(_) | None => remark(format!("the MQTT broker takes packets of {bytes} bytes at most")),
        })
    }

    fn that_nothing_here_needs(&self) -> impl Iterator<Item = BrokerLimit> {
        let missing = [
            (
                self.retain_available,
                "the MQTT broker keeps no retained messages: who publishes one there is disconnected; the bridge \
                 publishes none",
            ),
            (self.shared_available, "the MQTT broker has no shared subscriptions; the bridge uses none"),
            (self.identifiers_available, "the MQTT broker has no subscription identifiers"),
        ];
        missing.into_iter().filter(|(available, _)| !available).map(|(_, text)| remark(text.to_owned()))
    }
}

fn fatal(text: String) -> BrokerLimit {
    BrokerLimit { severity: Severity::Fatal, text }
}

fn warning(text: String) -> BrokerLimit {
    BrokerLimit { severity: Severity::Warning, text }
}

fn remark(text: String) -> BrokerLimit {
    BrokerLimit { severity: Severity::Remark, text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(limits: &Limits, filters: &[&str]) -> Vec<(Severity, String)> {
        let filters = filters.iter().map(|filter| (*filter).to_owned()).collect();
        let needs = Needs { session_expiry_s: 100, filters, publishes_bytes: None };
        limits.against(&needs).into_iter().map(|limit| (limit.severity, limit.text)).collect()
    }

    #[test]
    fn what_nobody_here_needs_is_a_remark_and_what_is_needed_is_more() {
        let no_wildcards = Limits { wildcards_available: false, ..Limits::default() };
        let [(severity, text)] = &said(&no_wildcards, &["room/1"])[..] else { panic!("one limit") };
        assert!(*severity == Severity::Remark && text.contains("no filter here has one"), "{text}");
        let [(severity, text)] = &said(&no_wildcards, &["room/1", "room/#"])[..] else { panic!("one limit") };
        assert!(
            *severity == Severity::Fatal && text.contains("room/#") && !text.contains("room/1"),
            "{text}"
        );
    }

    #[test]
    fn a_session_that_is_kept_for_less_than_we_ask_is_a_warning_and_none_is_worse() {
        for (kept_s, severity) in [(0, Some(Severity::Fatal)), (99, Some(Severity::Warning)), (100, None)] {
            let limits = Limits { session_expiry_s: Some(kept_s), ..Limits::default() };
            assert_eq!(said(&limits, &[]).first().map(|(severity, _)| *severity), severity, "{kept_s} s");
        }
    }
}
