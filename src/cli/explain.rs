//! `roombridge explain`: shows what becomes of messages on an MQTT topic. Needs no connection.

use std::process::ExitCode;

use clap::Args;

use super::output;
use super::target::TargetArgs;

const EXAMPLES: &str = "\
Examples:
  roombridge explain room/message/123456
  roombridge explain -c config/roombridge.toml roomSend/command --json";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ExplainArgs {
    /// The MQTT topic, as a client would publish to it.
    topic: String,
    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: TargetArgs,
}

pub(crate) async fn run(arguments: ExplainArgs) -> anyhow::Result<ExitCode> {
    let explanation = arguments.target.offline()?.rules()?.explain(&arguments.topic);
    if arguments.json {
        output::line(serde_json::to_string(&explanation)?)?;
    } else {
        output::line(explanation)?;
    }
    Ok(ExitCode::SUCCESS)
}
