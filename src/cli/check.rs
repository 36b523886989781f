//! `roombridge check`: says whether a configuration would work, before it does.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;

use super::output::Report;
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
    let mut report = Report::default();
    report.line(format_args!(
        "ok    {}: {} bindings",
        arguments.config.display(),
        config.bindings.len()
    ));
    let mut all = true;
    if arguments.connect {
        all &= tell(&mut report, "MQTT", mqtt::try_connect(&config.mqtt).await);
        for topic in rules.literal_topics() {
            all &= tell(
                &mut report,
                &format!("RocketMQ topic {topic}"),
                topic_is_there(&config, &topic).await,
            );
        }
    }
    report.end(if all {
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

fn tell(report: &mut Report, what: &str, result: anyhow::Result<String>) -> bool {
    match &result {
        Ok(detail) => report.line(format_args!("ok    {what}: {detail}")),
        Err(error) => report.line(format_args!("FAIL  {what}: {error:#}")),
    }
    result.is_ok()
}
