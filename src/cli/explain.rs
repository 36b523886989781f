//! `roombridge explain`: what becomes of an MQTT topic. Needs no connection.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Args;

use super::target::TargetArgs;

const EXAMPLES: &str = "\
Examples:
  roombridge explain room/message/123456
  roombridge explain -c config/roombridge.toml roomSend/command --json";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ExplainArgs {
    /// The MQTT topic, as a client would publish to it.
    topic: String,
    /// One JSON object instead of text.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: TargetArgs,
}

pub async fn run(arguments: ExplainArgs) -> anyhow::Result<ExitCode> {
    let explanation = arguments.target.offline()?.rules()?.explain(&arguments.topic);
    let mut out = io::stdout();
    if arguments.json {
        writeln!(out, "{}", serde_json::to_string(&explanation)?)?;
    } else {
        writeln!(out, "{explanation}")?;
    }
    Ok(ExitCode::SUCCESS)
}
