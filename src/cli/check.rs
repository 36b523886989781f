//! `roombridge check`: says whether a configuration would work, before it does.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;

use super::target::rules_to_read_by;
use super::{FAILED, in_file};
use crate::config::{Config, ProcessEnvironment};
use crate::mqtt;
use crate::pipeline::ports::Reader;
use crate::rocketmq::{Connector, RocketMqReader};
use crate::telemetry;

#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The configuration file.
    #[arg(long, short, env = "ROOMBRIDGE_CONFIG", value_name = "FILE")]
    config: PathBuf,
    /// Also connect to the MQTT broker (under another client id, without subscribing) and to RocketMQ.
    #[arg(long)]
    connect: bool,
}

pub async fn run(arguments: CheckArgs) -> anyhow::Result<ExitCode> {
    let config = Config::load(&arguments.config, &ProcessEnvironment)?;
    telemetry::init(&config.log, &[])?;
    let rules = rules_to_read_by(&config).map_err(|error| in_file(error.into(), &arguments.config))?;
    println!(
        "ok    {}: {} bindings",
        arguments.config.display(),
        config.bindings.len()
    );
    if !arguments.connect {
        return Ok(ExitCode::SUCCESS);
    }
    let mut all = report("MQTT", mqtt::try_connect(&config.mqtt).await);
    for topic in rules.literal_topics() {
        all &= report(
            &format!("RocketMQ topic {topic}"),
            topic_is_there(&config, &topic).await,
        );
    }
    Ok(if all {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(FAILED)
    })
}

async fn topic_is_there(config: &Config, topic: &str) -> anyhow::Result<String> {
    let connector = Arc::new(Connector::new(&config.rocketmq)?);
    let reader = RocketMqReader::start(connector).await?;
    let queues = reader.queues(topic).await?;
    let first = queues.first().context("no queue of it can be read")?;
    reader.offsets(topic, first).await?;
    Ok(format!("{} queues", queues.len()))
}

fn report(what: &str, result: anyhow::Result<String>) -> bool {
    match result {
        Ok(detail) => {
            println!("ok    {what}: {detail}");
            true
        }
        Err(error) => {
            println!("FAIL  {what}: {error:#}");
            false
        }
    }
}
