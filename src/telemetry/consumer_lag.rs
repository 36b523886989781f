//! The metrics of consumer groups: how far each is behind, and whether that is known.

use prometheus::IntGaugeVec;

use super::register::Register;

/// The lag of each configured group. Labels: group and topic, as the configuration writes them.
#[derive(Debug)]
pub struct ConsumerLag {
    messages: IntGaugeVec,
    up: IntGaugeVec,
}

impl ConsumerLag {
    pub(super) fn new(register: &Register) -> Result<Self, prometheus::Error> {
        Ok(Self {
            messages: register.gauges(
                "roombridge_consumer_lag_messages",
                "Stored messages that a consumer group has not committed; absent while that is not known",
                &["group", "topic"],
            )?,
            up: register.gauges(
                "roombridge_consumer_lag_up",
                "1 while the lag of a consumer group is known",
                &["group", "topic"],
            )?,
        })
    }

    /// `None` = not known. The series then goes away, because people would take an old number for the present one.
    pub fn set(&self, group: &str, topic: &str, messages: Option<u64>) {
        let labels = [group, topic];
        self.up.with_label_values(&labels).set(i64::from(messages.is_some()));
        match messages {
            Some(messages) => {
                let messages = i64::try_from(messages).unwrap_or(i64::MAX);
                self.messages.with_label_values(&labels).set(messages);
            }
            None => {
                // There is nothing to remove if it was never known.
                let _ = self.messages.remove_label_values(&labels);
            }
        }
    }
}
