//! `roombridge lag`: shows how far consumer groups are behind.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;

use super::output::Stdout;
use super::target::TargetArgs;
use crate::config::LagConfig;
use crate::data_dir::known_brokers;
use crate::rocketmq::{GroupLag, RocketMqReader};

const EXAMPLES: &str = "\
Examples:
  roombridge lag -c config/roombridge.toml           the groups of [[rocketmq.lag]]
  roombridge lag --group classroom --topic roomSend  one group

A lag is known only if each broker that has the topic answers. If a lag is not known, the command ends with 1.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct LagArgs {
    /// Ask for this consumer group instead of the configured ones.
    #[arg(long, requires = "topic")]
    group: Option<String>,
    /// The RocketMQ topic that the group consumes.
    #[arg(long, requires = "group")]
    topic: Option<String>,
    /// Print one JSON object per line: group, topic, messages, queues.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: TargetArgs,
}

pub(crate) async fn run(arguments: LagArgs) -> anyhow::Result<ExitCode> {
    let target = arguments.target.find().await?;
    let groups = match (arguments.group, arguments.topic) {
        (Some(group), Some(topic)) => vec![LagConfig { group, topic }],
        _ => target.config.rocketmq.lag.clone(),
    };
    if groups.is_empty() {
        bail!("no consumer group to ask for: give --group and --topic, or configure [[rocketmq.lag]]");
    }
    let known = known_brokers(&target.config.data_dir)?;
    let reader = RocketMqReader::new(&target.connector());
    let (mut lags, mut unknown) = (Vec::new(), Vec::new());
    let nowhere = BTreeSet::new();
    for LagConfig { group, topic } in &groups {
        let brokers = known.get(topic).unwrap_or(&nowhere);
        match reader.lag(group, topic, brokers).await {
            Ok(lag) => lags.push(lag),
            Err(error) => unknown.push(error.to_string()),
        }
    }
    if !lags.is_empty() {
        write(&mut Stdout, &lags, arguments.json)?;
    }
    if !unknown.is_empty() {
        bail!(unknown.join("\n"));
    }
    Ok(ExitCode::SUCCESS)
}

fn write(out: &mut dyn Write, lags: &[GroupLag], json: bool) -> anyhow::Result<()> {
    if json {
        for lag in lags {
            writeln!(out, "{}", serde_json::to_string(lag)?)?;
        }
        return Ok(());
    }
    writeln!(out, "{:<32} {:<32} {:>12}", "GROUP", "TOPIC", "BEHIND")?;
    for lag in lags {
        let never = if lag.never_consumed() { "  (never consumed)" } else { "" };
        writeln!(out, "{:<32} {:<32} {:>12}{never}", lag.group, lag.topic, lag.messages)?;
    }
    Ok(())
}
