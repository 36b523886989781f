//! `roombridge run`: runs the bridge beside an MQTT broker and RocketMQ.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{STOPPED_EARLY, in_file, start_log};
use crate::app::{Bridge, Ended};
use crate::config::{Config, ProcessEnvironment};
use crate::lifecycle::Lifecycle;

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The configuration file; config/roombridge.toml of the source documents every key.
    #[arg(long, short, env = "ROOMBRIDGE_CONFIG", value_name = "FILE")]
    config: PathBuf,
    /// Start although data_dir belongs to another client id. The MQTT session of that client id stays on the broker.
    #[arg(long)]
    accept_new_client_id: bool,
}

pub(crate) async fn run(arguments: RunArgs) -> anyhow::Result<ExitCode> {
    let config = Config::load(&arguments.config, &ProcessEnvironment)?;
    start_log(&config.log)?;
    let drain_deadline = config.shutdown.drain;
    let bridge = Bridge::prepare(config, arguments.accept_new_client_id)
        .await
        .map_err(|error| in_file(error, &arguments.config))?;
    let lifecycle = Lifecycle::new(drain_deadline);
    lifecycle.listen_for_signals()?;
    Ok(exit_code(bridge.run(lifecycle).await?))
}

pub(crate) fn exit_code(ended: Ended) -> ExitCode {
    match ended {
        Ended::Drained => ExitCode::SUCCESS,
        Ended::StoppedEarly => ExitCode::from(STOPPED_EARLY),
    }
}
