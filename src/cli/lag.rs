//! `roombridge lag`: how far consumer groups are behind.

use std::io::Write;
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;

use super::output::Stdout;
use super::target::TargetArgs;
use crate::config::LagConfig;
use crate::rocketmq::{Admin, AdminError, GroupLag};

const EXAMPLES: &str = "\
Examples:
  roombridge lag -c config/roombridge.toml           the groups of [[rocketmq.lag]]
  roombridge lag --group classroom --topic roomSend  one group";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct LagArgs {
    /// Ask for this consumer group instead of the configured ones.
    #[arg(long, requires = "topic")]
    group: Option<String>,
    /// The RocketMQ topic that the group consumes.
    #[arg(long, requires = "group")]
    topic: Option<String>,
    /// One JSON object per line: group, topic, messages, queues.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: TargetArgs,
}

pub async fn run(arguments: LagArgs) -> anyhow::Result<ExitCode> {
    let target = arguments.target.find().await?;
    let groups = match (arguments.group, arguments.topic) {
        (Some(group), Some(topic)) => vec![LagConfig { group, topic }],
        _ => target.config.rocketmq.lag.clone(),
    };
    if groups.is_empty() {
        bail!("no consumer group to ask for: give --group and --topic, or configure [[rocketmq.lag]]");
    }
    let admin = Admin::start(target.connector()?).await?;
    let lags = read(&admin, &groups).await;
    admin.stop().await;
    write(&mut Stdout, &lags?, arguments.json)?;
    Ok(ExitCode::SUCCESS)
}

async fn read(admin: &Admin, groups: &[LagConfig]) -> Result<Vec<GroupLag>, AdminError> {
    let mut lags = Vec::with_capacity(groups.len());
    for LagConfig { group, topic } in groups {
        lags.push(admin.lag(group, topic).await?);
    }
    Ok(lags)
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
        let never = if lag.queues.is_empty() {
            "  (never consumed)"
        } else {
            ""
        };
        writeln!(
            out,
            "{:<32} {:<32} {:>12}{never}",
            lag.group, lag.topic, lag.messages
        )?;
    }
    Ok(())
}
