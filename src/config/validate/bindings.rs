//! The array `[[binding]]`.

use std::collections::HashMap;

use super::check::{filled, number, required};
use crate::config::document::Places;
use crate::config::error::ConfigError;
use crate::config::raw::{RawBinding, RawSender};
use crate::config::settings::{BindingConfig, SenderSource};

const DEFAULT_FILTER: &str = "room/#";

pub(super) fn bindings(raw: Vec<RawBinding>, places: &Places) -> Result<Vec<BindingConfig>, ConfigError> {
    if raw.is_empty() {
        let raw = RawBinding { filter: Some(DEFAULT_FILTER.to_owned()), ..RawBinding::default() };
        return Ok(vec![binding(0, raw, places)?]);
    }
    let bindings: Vec<BindingConfig> = raw
        .into_iter()
        .enumerate()
        .map(|(index, raw)| binding(index, raw, places))
        .collect::<Result<_, _>>()?;
    let mut seen = HashMap::new();
    for (index, binding) in bindings.iter().enumerate() {
        let key = format!("binding[{index}].filter");
        if let Some(first) = seen.insert(binding.filter.as_str(), key.clone()) {
            let problem = format!("= {:?} stands twice (first at {})", binding.filter, places.of(&first));
            return Err(places.invalid(&key, problem, "keep one of the two bindings"));
        }
    }
    Ok(bindings)
}

fn binding(index: usize, raw: RawBinding, places: &Places) -> Result<BindingConfig, ConfigError> {
    let key = |name: &str| format!("binding[{index}].{name}");
    let text = |name: &str, value| filled(places, &key(name), value);
    Ok(BindingConfig {
        filter: required(
            places,
            &key("filter"),
            raw.filter,
            "write an MQTT topic filter, for example \"room/#\"",
        )?,
        topic: text("topic", raw.topic)?.unwrap_or_else(|| "{0}".to_owned()),
        tag: text("tag", raw.tag)?.unwrap_or_else(|| "{sub}".to_owned()),
        room: text("room", raw.room)?,
        kind: text("kind", raw.kind)?,
        order_key: text("order_key", raw.order_key)?,
        order_key_field: text("order_key_field", raw.order_key_field)?,
        sender: raw.sender.map(|raw| sender(&key("sender"), raw, places)).transpose()?,
    })
}

fn sender(key: &str, raw: RawSender, places: &Places) -> Result<SenderSource, ConfigError> {
    match (raw.topic_level, raw.user_property, raw.json_field) {
        (Some(level), None, None) => number(places, &format!("{key}.topic_level"), Some(level), 0, 0..=127)
            .map(SenderSource::TopicLevel),
        (None, Some(name), None) => {
            required(places, &format!("{key}.user_property"), Some(name), "").map(SenderSource::UserProperty)
        }
        (None, None, Some(name)) => {
            required(places, &format!("{key}.json_field"), Some(name), "").map(SenderSource::JsonField)
        }
        _ => Err(places.invalid(
            key,
            "must name exactly one source",
            "write { topic_level = 3 }, { user_property = \"name\" } or { json_field = \"name\" }",
        )),
    }
}
