//! What is missing in an answer, for machines.

use serde::Serialize;

use crate::archive::Missing;

/// One object of JSON. A sum of nothing is left out.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct MissingJson {
    /// Messages that RocketMQ has and hands out to nobody.
    #[serde(skip_serializing_if = "is_none")]
    pub not_handed_out: u64,
    /// Messages that were gone before they were archived.
    #[serde(skip_serializing_if = "is_none")]
    pub lost: u64,
    /// Before that store time, milliseconds since 1970-01-01 UTC, something of what was asked for is not kept any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept_from_ms: Option<u64>,
    /// RocketMQ brokers that are away, with what they hold.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub away: Vec<String>,
}

impl MissingJson {
    pub(super) fn of<'a>(missing: &[Missing], away: impl Iterator<Item = &'a str>) -> Self {
        let mut json = Self { away: away.map(str::to_owned).collect(), ..Self::default() };
        for missing in missing {
            match missing {
                Missing::Withheld { messages, .. } => json.not_handed_out += messages,
                Missing::Lost { offsets, .. } => json.lost += offsets.end - offsets.start,
                Missing::Older { kept_from_ms, .. } => {
                    json.kept_from_ms = json.kept_from_ms.max(Some(*kept_from_ms));
                }
            }
        }
        json
    }

    pub(super) fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

fn is_none(count: &u64) -> bool {
    *count == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::QueueName;

    fn queue(id: i32) -> QueueName {
        QueueName { broker: "a".into(), id }
    }

    #[test]
    fn each_thing_that_is_missing_has_a_field_and_the_others_are_left_out() {
        let topic = || "room".to_owned();
        let older = |id, kept_from_ms| Missing::Older { topic: topic(), queue: queue(id), kept_from_ms };
        let lost =
            Missing::Lost { topic: topic(), queue: queue(0), offsets: 4..9, after_ms: None, before_ms: None };
        let withheld =
            Missing::Withheld { topic: topic(), queues: vec![queue(7)], messages: 3, may_be_read: true };
        let json = |missing: &[Missing], away: &[&str]| {
            serde_json::to_value(MissingJson::of(missing, away.iter().copied())).unwrap()
        };
        assert_eq!(json(&[], &[]), serde_json::json!({}));
        assert_eq!(json(&[withheld], &[]), serde_json::json!({ "not_handed_out": 3 }));
        assert_eq!(
            json(&[older(1, 700), lost, older(2, 900)], &["b"]),
            serde_json::json!({ "lost": 5, "kept_from_ms": 900, "away": ["b"] })
        );
    }
}
