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
    let looked_up = |text: &String| {
        let wrong = || places.invalid(KEY, format!("holds {text:?}, which is no host:port"), FORM);
        in_ascii_with_port(text).ok_or_else(wrong)
    };
    name_servers.iter().map(looked_up).collect()
}

/// The host as it is looked up, and the port. `None`: it is no host:port.
fn in_ascii_with_port(text: &str) -> Option<String> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse::<u16>().ok().filter(|port| *port > 0)?;
    let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().ok().map(|_| host.to_owned())?,
        // Only a URL has a host in % and digits.
        None if host.contains('%') => return None,
        // Looked at in its ASCII form: the same name may be written in many ways, and with letters that are none by themselves.
        None => in_ascii(host).filter(|host| is_name(host))?,
    };
    Some(format!("{host}:{port}"))
}

fn is_name(host: &str) -> bool {
    let is_legal = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-' | '_');
    !host.is_empty() && host.chars().all(is_legal)
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
