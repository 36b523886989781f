//! Turns raw values into settings: adds defaults, and checks ranges and contradictions.
//!
//! Promises: every default stands here and nowhere else in the code; every error says what to do.
//! Must never: check the syntax of filters and templates; `binding` does that.

mod archive;
mod bindings;
mod check;
mod classroom;
mod mqtt;
mod rocketmq;
mod spool;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::document::Places;
use super::error::ConfigError;
use super::raw::{RawConfig, RawHttp, RawLog, RawOrigin, RawPipeline, RawShutdown};
use super::settings::{
    Config, HttpConfig, LogConfig, LogFormat, OriginConfig, PipelineConfig, ShutdownConfig,
};
use check::{number, secret, without_tilde};

pub(super) fn config(raw: RawConfig, places: &Places) -> Result<Config, ConfigError> {
    let mqtt = mqtt::mqtt(raw.mqtt, places)?;
    let rocketmq = rocketmq::rocketmq(raw.rocketmq, places)?;
    let limits = Limits {
        receive_maximum: usize::from(mqtt.receive_maximum),
        max_packet_bytes: mqtt.max_packet_bytes as usize,
        max_message_bytes: rocketmq.max_message_bytes,
    };
    let bindings = bindings::bindings(raw.binding, places)?;
    let dead_letter = spool::dead_letter(raw.dead_letter, limits.max_message_bytes, &bindings, places)?;
    let downlinks = classroom::downlinks(raw.downlink, dead_letter.topic.as_deref(), places)?;
    let access = classroom::access(raw.access, places)?;
    let login = classroom::login(raw.login, access.as_ref(), places)?;
    let classroom = classroom::classroom(raw.classroom, &bindings, &downlinks, places)?;
    let archive = archive::archive(raw.archive, places)?;
    let served = (classroom.is_some(), archive.is_some());
    Ok(Config {
        data_dir: data_dir(raw.data_dir, places)?,
        pipeline: pipeline(&raw.pipeline, &limits, places)?,
        spool: spool::spool(&raw.spool, limits.max_message_bytes, places)?,
        dead_letter,
        http: http(raw.http, places)?,
        log: log(raw.log, places)?,
        shutdown: shutdown(&raw.shutdown, places)?,
        origin: origin(raw.origin, places)?,
        web: classroom::web(raw.web, access.as_ref(), &login, served, places)?,
        archive,
        classroom,
        login,
        access,
        downlinks,
        bindings,
        mqtt,
        rocketmq,
    })
}

/// Limits of MQTT and RocketMQ, which the settings of the pipeline between them must fit.
struct Limits {
    receive_maximum: usize,
    max_packet_bytes: usize,
    max_message_bytes: usize,
}

fn data_dir(raw: Option<PathBuf>, places: &Places) -> Result<PathBuf, ConfigError> {
    match raw {
        Some(path) if path.as_os_str().is_empty() => {
            Err(places.invalid("data_dir", "is empty", "name a directory, or remove the key"))
        }
        Some(path) => without_tilde(places, "data_dir", path),
        None => Ok(PathBuf::from("./roombridge-data")),
    }
}

fn pipeline(raw: &RawPipeline, limits: &Limits, places: &Places) -> Result<PipelineConfig, ConfigError> {
    // The default shrinks with the message limit, so that a smaller limit alone is no contradiction.
    let default_batch_bytes = (1024 * 1024).min(limits.max_message_bytes);
    let pipeline = PipelineConfig {
        batch_messages: number(places, "pipeline.batch_messages", raw.batch_messages, 128, 1..=1024)?,
        batch_bytes: number(
            places,
            "pipeline.batch_bytes",
            raw.batch_bytes,
            default_batch_bytes,
            1024..=128 * 1024 * 1024,
        )?,
        linger: Duration::from_millis(number(places, "pipeline.linger_ms", raw.linger_ms, 0, 0..=1000)?),
        intake_messages: number(
            places,
            "pipeline.intake_messages",
            raw.intake_messages,
            50_000,
            1..=10_000_000,
        )?,
        intake_bytes: number(
            places,
            "pipeline.intake_bytes",
            raw.intake_bytes,
            64 * 1024 * 1024,
            1024..=64 * 1024 * 1024 * 1024,
        )?,
    };
    fits(
        places,
        ("pipeline.batch_bytes", pipeline.batch_bytes),
        ("rocketmq.max_message_bytes", limits.max_message_bytes),
        "RocketMQ would refuse the batch",
    )?;
    fits(
        places,
        ("mqtt.receive_maximum", limits.receive_maximum),
        ("pipeline.intake_messages", pipeline.intake_messages),
        "the broker could send more than the intake holds",
    )?;
    fits(
        places,
        ("mqtt.max_packet_bytes", limits.max_packet_bytes),
        ("pipeline.intake_bytes", pipeline.intake_bytes),
        "one large message could never enter the intake",
    )?;
    Ok(pipeline)
}

fn fits(
    places: &Places,
    (small_key, small): (&str, usize),
    (large_key, large): (&str, usize),
    consequence: &str,
) -> Result<(), ConfigError> {
    if small <= large {
        return Ok(());
    }
    let problem =
        format!("= {small} is more than {large_key} = {large} ({}): {consequence}", places.of(large_key));
    Err(places.invalid(small_key, problem, format!("lower {small_key} or raise {large_key}")))
}

fn http(raw: RawHttp, places: &Places) -> Result<HttpConfig, ConfigError> {
    let Some(listen) = raw.listen else {
        return Ok(HttpConfig { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 9464)) });
    };
    let listen = listen.parse().map_err(|_| {
        let problem = format!("= {listen:?} is no address and port");
        places.invalid("http.listen", problem, "write it as \"127.0.0.1:9464\" or \"[::1]:9464\"")
    })?;
    Ok(HttpConfig { listen })
}

fn log(raw: RawLog, places: &Places) -> Result<LogConfig, ConfigError> {
    let level = raw.level.unwrap_or_else(|| "info".to_owned());
    if let Err(error) = tracing_subscriber::EnvFilter::builder().parse(&level) {
        let remedy =
            "write error, warn, info, debug or trace, or a directive such as \"info,roombridge::mqtt=debug\"";
        return Err(places.invalid("log.level", format!("= {level:?} is no log filter ({error})"), remedy));
    }
    let format = match raw.format.as_deref() {
        None | Some("text") => LogFormat::Text,
        Some("json") => LogFormat::Json,
        Some(other) => {
            let problem = format!("= {other:?} is no log format");
            return Err(places.invalid("log.format", problem, "write \"text\" or \"json\""));
        }
    };
    Ok(LogConfig { level, format })
}

fn shutdown(raw: &RawShutdown, places: &Places) -> Result<ShutdownConfig, ConfigError> {
    let drain_s = number(places, "shutdown.drain_s", raw.drain_s, 20, 1..=3600)?;
    Ok(ShutdownConfig { drain: Duration::from_secs(drain_s) })
}

fn origin(raw: RawOrigin, places: &Places) -> Result<OriginConfig, ConfigError> {
    Ok(OriginConfig { key: secret(places, ("origin.key", raw.key), ("origin.key_file", raw.key_file))? })
}
