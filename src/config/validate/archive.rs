//! The section `[archive]`.

use std::time::Duration;

use super::check::number;
use crate::config::document::Places;
use crate::config::error::ConfigError;
use crate::config::raw::RawArchive;
use crate::config::settings::ArchiveConfig;
use crate::model::Kind;

pub(super) fn archive(raw: RawArchive, places: &Places) -> Result<Option<ArchiveConfig>, ConfigError> {
    let cut_every_s = number(places, "archive.cut_every_s", raw.cut_every_s, 3600, 1..=86_400)?;
    let rocketmq_keeps_h = number(places, "archive.rocketmq_keeps_h", raw.rocketmq_keeps_h, 72, 1..=87_600)?;
    let leave_out = raw.leave_out.unwrap_or_else(|| vec![Kind::P2p.as_str().to_owned()]);
    let leave_out = leave_out.iter().map(|name| kind(name, places)).collect::<Result<_, _>>()?;
    if let Some(topics) = &raw.topics
        && (topics.is_empty() || topics.iter().any(String::is_empty))
    {
        return Err(places.invalid(
            "archive.topics",
            format!("= {topics:?} names no topic, or an empty one"),
            "name RocketMQ topics, or remove the key for those of the bindings",
        ));
    }
    let Some(dir) = raw.dir else {
        return Ok(None);
    };
    if dir.as_os_str().is_empty() {
        return Err(places.invalid("archive.dir", "is empty", "name a folder, or remove the key"));
    }
    Ok(Some(ArchiveConfig {
        dir,
        topics: raw.topics,
        leave_out,
        cut_every: Duration::from_secs(cut_every_s),
        rocketmq_keeps: Duration::from_secs(rocketmq_keeps_h * 3600),
    }))
}

fn kind(name: &str, places: &Places) -> Result<Kind, ConfigError> {
    name.parse().map_err(|_| {
        let known: Vec<&str> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
        let problem = format!("holds {name:?}, which is no kind");
        places.invalid("archive.leave_out", problem, format!("write some of {}, or []", known.join(", ")))
    })
}
