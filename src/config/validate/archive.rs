//! The section `[archive]`.

use std::time::Duration;

use super::check::{filled, number, secret, without_tilde};
use crate::config::document::Places;
use crate::config::error::ConfigError;
use crate::config::raw::RawArchive;
use crate::config::settings::{ArchiveConfig, BucketConfig, StudentsSee};
use crate::model::Kind;

/// Those of the classroom's lines and notices.
const TEXT_FIELDS: [&str; 2] = ["msg", "text"];

pub(super) fn archive(mut raw: RawArchive, places: &Places) -> Result<Option<ArchiveConfig>, ConfigError> {
    let bucket = bucket(&mut raw, places)?;
    let cut_every_s = number(places, "archive.cut_every_s", raw.cut_every_s, 3600, 1..=86_400)?;
    let rocketmq_keeps_h = number(places, "archive.rocketmq_keeps_h", raw.rocketmq_keeps_h, 72, 1..=87_600)?;
    let lesson_gap_s = number(places, "archive.lesson_gap_s", raw.lesson_gap_s, 1800, 1..=86_400)?;
    let students_see = students_see(raw.students_see.as_deref(), places)?;
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
        if bucket.is_some() {
            let remedy = "name a local folder, too: what belongs to the archive and is no piece lies there";
            return Err(places.invalid("archive.dir", "is missing", remedy));
        }
        return Ok(None);
    };
    if dir.as_os_str().is_empty() {
        return Err(places.invalid("archive.dir", "is empty", "name a folder, or remove the key"));
    }
    let dir = without_tilde(places, "archive.dir", dir)?;
    Ok(Some(ArchiveConfig {
        dir,
        bucket,
        topics: raw.topics,
        leave_out,
        cut_every: Duration::from_secs(cut_every_s),
        rocketmq_keeps: Duration::from_secs(rocketmq_keeps_h * 3600),
        lesson_gap: Duration::from_secs(lesson_gap_s),
        students_see,
        text_fields: raw.text_fields.unwrap_or_else(|| TEXT_FIELDS.map(str::to_owned).to_vec()),
    }))
}

/// `None`: the pieces lie in the folder.
fn bucket(raw: &mut RawArchive, places: &Places) -> Result<Option<BucketConfig>, ConfigError> {
    let access_key = filled(places, "archive.access_key", raw.access_key.take())?;
    let secret_key = secret(
        places,
        ("archive.secret_key", raw.secret_key.take()),
        ("archive.secret_key_file", raw.secret_key_file.take()),
    )?;
    if access_key.is_some() != secret_key.is_some() {
        let missing = if access_key.is_none() { "archive.access_key" } else { "archive.secret_key" };
        let problem = "is missing: access key and secret key belong together";
        return Err(places.invalid(missing, problem, format!("set {missing}, or remove the other")));
    }
    let endpoint = filled(places, "archive.endpoint", raw.endpoint.take())?;
    if let Some(url) = &endpoint
        && !["http://", "https://"].iter().any(|scheme| url.starts_with(scheme))
    {
        let problem = format!("= {url:?} is no address of a store");
        return Err(places.invalid("archive.endpoint", problem, "write http://HOST:PORT or https://HOST"));
    }
    let region = filled(places, "archive.region", raw.region.take())?;
    let Some(store) = raw.store.take() else {
        let of_bucket = [
            ("archive.endpoint", endpoint.is_some()),
            ("archive.region", region.is_some()),
            ("archive.access_key", access_key.is_some()),
            ("archive.single_writer", raw.single_writer.is_some()),
        ];
        return match of_bucket.iter().find(|(_, is_set)| *is_set) {
            None => Ok(None),
            Some((key, _)) => {
                let remedy = format!("set archive.store = \"s3://BUCKET/PREFIX\", or remove {key}");
                Err(places.invalid(key, "has no effect without archive.store", remedy))
            }
        };
    };
    let (name, prefix) = match store
        .strip_prefix("s3://")
        .map(|rest| rest.split_once('/').unwrap_or((rest, "")))
    {
        Some((name, prefix)) if !name.is_empty() => (name.to_owned(), prefix.trim_matches('/').to_owned()),
        Some(_) | None => {
            let problem = format!("= {store:?} is no bucket");
            let remedy = "write \"s3://BUCKET/PREFIX\", or remove the key for the folder archive.dir";
            return Err(places.invalid("archive.store", problem, remedy));
        }
    };
    let single_writer = raw.single_writer.unwrap_or(false);
    Ok(Some(BucketConfig { name, prefix, endpoint, region, access_key, secret_key, single_writer }))
}

fn students_see(name: Option<&str>, places: &Places) -> Result<StudentsSee, ConfigError> {
    match name {
        None | Some("lesson") => Ok(StudentsSee::Lesson),
        Some("all") => Ok(StudentsSee::All),
        Some(other) => {
            let problem = format!("= {other:?} is not known");
            Err(places.invalid("archive.students_see", problem, "write \"lesson\" or \"all\""))
        }
    }
}

fn kind(name: &str, places: &Places) -> Result<Kind, ConfigError> {
    name.parse().map_err(|_| {
        let known: Vec<&str> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
        let problem = format!("holds {name:?}, which is no kind");
        places.invalid("archive.leave_out", problem, format!("write some of {}, or []", known.join(", ")))
    })
}
