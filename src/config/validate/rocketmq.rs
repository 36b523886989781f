//! The section `[rocketmq]`.

use std::time::Duration;

use super::check::{filled, number, required, secret};
use super::mqtt::in_ascii;
use crate::config::document::Places;
use crate::config::error::ConfigError;
use crate::config::raw::{RawLag, RawRocketMq};
use crate::config::settings::{LagConfig, RocketMqConfig};

/// RocketMQ's own limit for group names.
const GROUP_NAME_BYTES: usize = 255;

pub(super) fn rocketmq(raw: RawRocketMq, places: &Places) -> Result<RocketMqConfig, ConfigError> {
    let access_key = filled(places, "rocketmq.access_key", raw.access_key)?;
    let secret_key = secret(
        places,
        ("rocketmq.secret_key", raw.secret_key),
        ("rocketmq.secret_key_file", raw.secret_key_file),
    )?;
    if access_key.is_some() != secret_key.is_some() {
        let missing = if access_key.is_none() { "rocketmq.access_key" } else { "rocketmq.secret_key" };
        let problem = "is missing: access key and secret key belong together";
        return Err(places.invalid(missing, problem, format!("set {missing}, or remove the other")));
    }
    let send_timeout_ms =
        number(places, "rocketmq.send_timeout_ms", raw.send_timeout_ms, 3000, 100..=60_000)?;
    Ok(RocketMqConfig {
        name_servers: name_servers(raw.name_servers, places)?,
        access_key,
        secret_key,
        producer_group: producer_group(raw.producer_group, places)?,
        send_timeout: Duration::from_millis(send_timeout_ms),
        create_topics: raw.create_topics.unwrap_or(false),
        queues_per_new_topic: number(
            places,
            "rocketmq.queues_per_new_topic",
            raw.queues_per_new_topic,
            8,
            // There are 256 slots, so more queues would stay empty.
            1..=256,
        )?,
        max_message_bytes: number(
            places,
            "rocketmq.max_message_bytes",
            raw.max_message_bytes,
            4 * 1024 * 1024,
            1024..=128 * 1024 * 1024,
        )?,
        accept_not_durable: raw.accept_not_durable.unwrap_or(false),
        lag: raw
            .lag
            .into_iter()
            .enumerate()
            .map(|(index, raw)| lag(index, raw, places))
            .collect::<Result<_, _>>()?,
    })
}

fn name_servers(raw: Option<Vec<String>>, places: &Places) -> Result<Vec<String>, ConfigError> {
    const KEY: &str = "rocketmq.name_servers";
    const FORM: &str = "write [\"host:9876\"], one entry for each name server";
    let name_servers = raw.unwrap_or_default();
    if name_servers.is_empty() {
        return Err(places.invalid(KEY, "is missing or empty", FORM));
    }
    match name_servers.iter().find(|name_server| !is_host_and_port(name_server)) {
        Some(wrong) => Err(places.invalid(KEY, format!("holds {wrong:?}, which is no host:port"), FORM)),
        None => Ok(name_servers.iter().map(|name_server| in_ascii_with_port(name_server)).collect()),
    }
}

fn in_ascii_with_port(name_server: &str) -> String {
    let found =
        name_server.rsplit_once(':').and_then(|(host, port)| Some(format!("{}:{port}", in_ascii(host)?)));
    found.unwrap_or_else(|| name_server.to_owned())
}

fn is_host_and_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let host_is_legal = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host.chars().all(|letter| letter.is_alphanumeric() || matches!(letter, '.' | '-' | '_'))
        }
    };
    host_is_legal && port.parse::<u16>().is_ok_and(|port| port > 0)
}

fn producer_group(raw: Option<String>, places: &Places) -> Result<String, ConfigError> {
    let group = raw.unwrap_or_else(|| "roombridge".to_owned());
    let is_legal = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '%' | '|' | '-' | '_');
    if group.is_empty() || group.len() > GROUP_NAME_BYTES || !group.chars().all(is_legal) {
        let problem = format!("= {group:?} is no name of a RocketMQ group");
        let remedy = format!("use 1 to {GROUP_NAME_BYTES} letters, digits, - and _");
        return Err(places.invalid("rocketmq.producer_group", problem, remedy));
    }
    Ok(group)
}

fn lag(index: usize, raw: RawLag, places: &Places) -> Result<LagConfig, ConfigError> {
    let key = |name: &str| format!("rocketmq.lag[{index}].{name}");
    Ok(LagConfig {
        group: required(places, &key("group"), raw.group, "name the consumer group")?,
        topic: required(places, &key("topic"), raw.topic, "name the RocketMQ topic")?,
    })
}
