//! `roombridge check`: says whether a configuration would work, before a bridge runs with it.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;

use super::output::Report;
use super::target::rules_to_read_by;
use super::{FAILED, in_file, in_words, start_log};
use crate::config::{ArchiveConfig, Config, ProcessEnvironment};
use crate::mqtt;
use crate::piece_store::{PieceStore, StoreError, may_write};
use crate::pipeline::ports::Reader;
use crate::rocketmq::{Connector, RocketMqReader};
use crate::telemetry::Severity;

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The configuration file.
    #[arg(long, short, env = "ROOMBRIDGE_CONFIG", value_name = "FILE")]
    config: PathBuf,
    /// Also connect to the MQTT broker (under another client id, without subscribing), to RocketMQ and to the archive's
    /// store, where it leaves one small object.
    #[arg(long)]
    connect: bool,
}

pub(crate) async fn run(arguments: CheckArgs) -> anyhow::Result<ExitCode> {
    let config = Config::load(&arguments.config, &ProcessEnvironment)?;
    start_log(&config.log)?;
    let rules = rules_to_read_by(&config).map_err(|error| in_file(error.into(), &arguments.config))?;
    let mut report = Report::default();
    report.line(format_args!("ok    {}: {} bindings", arguments.config.display(), config.bindings.len()));
    for remark in rules.remarks() {
        report.line(format_args!("note  {remark}"));
    }
    let mut all = true;
    if let Some(archive) = &config.archive {
        let (what, store) = archive_is_there(archive);
        let (opened, store) = match store {
            Ok(store) => (Ok("can be opened".to_owned()), store),
            Err(error) => (Err(error), None),
        };
        all &= report_result(&mut report, &what, opened);
        if let (true, Some(store)) = (arguments.connect, store) {
            let tried = store.try_out().await.map(|()| "creates once, reads, lists and removes".to_owned());
            all &= report_result(&mut report, &what, tried);
        }
    }
    if arguments.connect {
        let filters = rules.filters().map(ToString::to_string).collect();
        all &= mqtt_offers_enough(&mut report, &config, filters).await;
        for topic in rules.literal_topics() {
            all &= report_result(
                &mut report,
                &format!("RocketMQ topic {topic}"),
                topic_is_there(&config, &topic).await,
            );
        }
    }
    report.end(if all { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

/// What the archive is, and its store if that can be tried. A folder that is missing is not made.
fn archive_is_there(archive: &ArchiveConfig) -> (String, Result<Option<PieceStore>, StoreError>) {
    match &archive.bucket {
        Some(bucket) => {
            let what = format!("archive s3://{}/{}", bucket.name, bucket.prefix);
            (what, PieceStore::open(archive).map(Some))
        }
        None => {
            let store = may_write(&archive.dir).and_then(|()| match archive.dir.is_dir() {
                true => PieceStore::open(archive).map(Some),
                false => Ok(None),
            });
            (format!("archive {}", archive.dir.display()), store)
        }
    }
}

/// Whether the MQTT broker admits us and offers everything that our promises need.
async fn mqtt_offers_enough(report: &mut Report, config: &Config, filters: Vec<String>) -> bool {
    let tried = mqtt::try_connect(&config.mqtt, filters, config.goes_down_bytes()).await;
    let (result, limits) = match tried {
        Ok(offer) => (Ok(offer.text), offer.limits),
        Err(error) => (Err(error), Vec::new()),
    };
    let mut enough = report_result(report, "MQTT", result);
    for limit in limits {
        let word = match limit.severity {
            Severity::Remark => "note",
            Severity::Warning => "WARN",
            Severity::Fatal => "FAIL",
        };
        report.line(format_args!("{word}  MQTT: {}", limit.text));
        enough &= limit.severity != Severity::Fatal;
    }
    enough
}

async fn topic_is_there(config: &Config, topic: &str) -> anyhow::Result<String> {
    let reader = RocketMqReader::new(&Connector::new(&config.rocketmq));
    let queues = reader.queues(topic).await?;
    let first = queues.first().context("no queue of it can be read")?;
    reader.offsets(topic, first).await?;
    Ok(format!("{} queues", queues.len()))
}

fn report_result<E: Into<anyhow::Error>>(report: &mut Report, what: &str, result: Result<String, E>) -> bool {
    let is_well = result.is_ok();
    match result {
        Ok(detail) => report.line(format_args!("ok    {what}: {detail}")),
        Err(error) => report.line(format_args!("FAIL  {what}: {}", in_words(&error.into()))),
    }
    is_well
}
