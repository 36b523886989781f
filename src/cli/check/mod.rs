//! `roombridge check`: says whether a configuration would work, before a bridge runs with it.

mod rocketmq;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use secrecy::ExposeSecret;

use super::output::Report;
use super::target::rules_to_read_by;
use super::{FAILED, in_file, in_words, start_log};
use crate::binding::{BindingSettings, RuleSet};
use crate::config::{ArchiveConfig, Config, ProcessEnvironment};
use crate::data_dir::DataDirView;
use crate::model::{MqttMessage, MqttProperties, Qos, TopicFilter};
use crate::mqtt;
use crate::piece_store::{PieceStore, StoreError, may_write};
use crate::telemetry::Severity;

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The configuration file.
    #[arg(long, short, env = "ROOMBRIDGE_CONFIG", value_name = "FILE")]
    config: PathBuf,
    /// Also try what `run` does: connect to the MQTT broker (under another client id) and subscribe there, ask RocketMQ whether each
    /// topic can be written and read (nothing is stored), and use the archive's store, where it leaves one small object.
    #[arg(long)]
    connect: bool,
    /// Publish one message on this MQTT topic (QoS 1, not retained) and wait for it, because some brokers grant a subscription and
    /// never deliver. A running bridge knows it by its mark and does not store it.
    #[arg(long, value_name = "TOPIC", requires = "connect")]
    canary: Option<String>,
    /// Publish it although data_dir is not at hand, so that it bears no mark: a running bridge stores it like any other.
    #[arg(long, requires = "canary")]
    canary_stored: bool,
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
    // Refused before anything is tried.
    let canary = arguments.canary.as_deref().map(|topic| canary(&config, topic, arguments.canary_stored));
    let canary = canary.transpose()?;
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
        let filters: Vec<TopicFilter> = rules.filters().cloned().collect();
        let offers_enough = mqtt_offers_enough(&mut report, &config, &filters).await;
        all &= offers_enough && subscriptions_will_do(&mut report, &config, &filters, canary.as_ref()).await;
        all &= rocketmq::topics_will_do(&mut report, &config, &rules).await;
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
async fn mqtt_offers_enough(report: &mut Report, config: &Config, filters: &[TopicFilter]) -> bool {
    let filters = filters.iter().map(ToString::to_string).collect();
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

/// Whether the MQTT broker grants what the bridge subscribes to.
async fn subscriptions_will_do(
    report: &mut Report,
    config: &Config,
    filters: &[TopicFilter],
    canary: Option<&MqttMessage>,
) -> bool {
    let tried = match mqtt::try_subscribe(&config.mqtt, filters, canary).await {
        Ok(tried) => tried,
        Err(error) => return report_result(report, "MQTT subscriptions", Err::<String, _>(error)),
    };
    let untried = if canary.is_none() { "; whether it delivers was not tried (--canary)" } else { "" };
    let mut all = true;
    for (filter, granted) in tried.filters {
        let told = match granted {
            // A warning tells it.
            Ok(Qos::AtMostOnce) => continue,
            Ok(qos) => Ok(format!("granted with QoS {}{untried}", qos.level())),
            Err(wrong) => Err(anyhow::Error::msg(wrong)),
        };
        all &= report_result(report, &format!("MQTT subscription {filter}"), told);
    }
    for warning in tried.warnings {
        report.line(format_args!("WARN  MQTT: {warning}"));
    }
    let Some(canary) = canary else { return all };
    let what = format!("MQTT message on {}", canary.topic);
    let Some(came) = tried.canary else {
        report.line(format_args!(
            "WARN  {what}: not published, because no subscription that would bring it is granted"
        ));
        return false;
    };
    let came = came.map(|()| "published, and delivered".to_owned());
    all & report_result(report, &what, came.map_err(anyhow::Error::msg))
}

/// The message that is published, with the mark of this deployment, so that a running bridge does not store it.
fn canary(config: &Config, topic: &str, may_be_stored: bool) -> anyhow::Result<MqttMessage> {
    let is_heard = |filter: &str| TopicFilter::parse(filter).is_ok_and(|filter| filter.matches(topic));
    if topic.contains(['+', '#']) || !config.bindings.iter().any(|binding| is_heard(&binding.filter)) {
        bail!(
            "--canary {topic}: the bridge subscribes to nothing that brings this topic; name one that it hears, such as room/message/check"
        );
    }
    let id = format!("check-{}", std::process::id());
    let payload = format!("roombridge {id}").into_bytes();
    let user = match rules_with_key(config) {
        Ok(rules) => vec![rules.mark_of_ours(topic, &id, &payload)],
        Err(_) if may_be_stored => Vec::new(),
        Err(error) => {
            return Err(error.context(
                "--canary: without the key of this deployment the message bears no mark, so a running bridge would store it; run \
                 this where data_dir is, or set origin.key, or take --canary-stored to have one message stored",
            ));
        }
    };
    let properties = MqttProperties { user, ..MqttProperties::default() };
    Ok(MqttMessage { topic: topic.to_owned(), payload: payload.into(), qos: Qos::AtLeastOnce, properties })
}

fn rules_with_key(config: &Config) -> anyhow::Result<RuleSet> {
    let origin_key = match &config.origin.key {
        Some(key) => key.expose_secret().as_bytes().to_vec(),
        None => DataDirView::open(&config.data_dir)?.origin_key()?.with_context(|| {
            format!("{} holds no origin key, so the bridge never ran there", config.data_dir.display())
        })?,
    };
    let settings = BindingSettings { origin_key, max_message_bytes: config.rocketmq.max_message_bytes };
    Ok(RuleSet::compile(&config.bindings, settings)?)
}

fn report_result<E: Into<anyhow::Error>>(report: &mut Report, what: &str, result: Result<String, E>) -> bool {
    let is_well = result.is_ok();
    match result {
        Ok(detail) => report.line(format_args!("ok    {what}: {detail}")),
        Err(error) => report.line(format_args!("FAIL  {what}: {}", in_words(&error.into()))),
    }
    is_well
}
