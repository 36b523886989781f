//! `roombridge spool drain`: runs the uplink of a bridge without its MQTT side until the spool is empty.
//!
//! Promises: order, retries and dead letters are those of a running bridge, because it is the same code; a stop at any
//! moment loses nothing.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use indicatif::{HumanCount, ProgressBar};
use serde::Serialize;
use tokio::sync::{mpsc, watch};

use crate::app::{self, UplinkBuilder};
use crate::cli::output::{Report, aside, progress_bar};
use crate::cli::target::rules_to_read_by;
use crate::cli::{FAILED, STOPPED_EARLY, in_file, start_log};
use crate::config::{Config, ProcessEnvironment};
use crate::data_dir::{DataDir, DataDirError, DataDirView};
use crate::lifecycle::Lifecycle;
use crate::model::{Clock, SystemClock};
use crate::pipeline::{Intake, LinkState, ReceiptNumber, Uplink, intake};
use crate::rocketmq::{Connector, Producer, RocketMqReader};
use crate::spool::{DEAD_LETTERS_FILE, LocalDeadLetters, Overflow, SqliteSpool};
use crate::telemetry::{EndCounts, Metrics, Readiness};

const BAR: &str = "draining  {bar:40} {pos} of {len}  {per_sec}  {eta}";
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// More than in a running bridge, because no new messages compete with them.
const BATCHES_AT_ONCE: usize = 32;

#[derive(Debug, Args)]
pub(crate) struct DrainArgs {
    /// The configuration file of the bridge that is stopped.
    #[arg(long, short, env = "ROOMBRIDGE_CONFIG", value_name = "FILE")]
    config: PathBuf,
    /// Print one JSON object at the end: at_start, stored, dead_lettered, dropped, left, seconds.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Summary {
    at_start: u64,
    stored: u64,
    dead_lettered: u64,
    dropped: u64,
    left: u64,
    seconds: f64,
}

pub(crate) async fn run(arguments: DrainArgs) -> anyhow::Result<ExitCode> {
    let mut config = Config::load(&arguments.config, &ProcessEnvironment)?;
    start_log(&config.log)?;
    // The setting is for new messages; those that are in the spool must be sent in any case.
    config.spool.enabled = true;
    // A missing folder is a mistake in the configuration, so it is not created here.
    DataDirView::open(&config.data_dir)?;
    let data_dir = hold(&config)?;
    let lifecycle = Lifecycle::new(config.shutdown.drain);
    lifecycle.listen_for_signals()?;

    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let spool = app::open_spool(&config, clock.clone())?.context("there is no spool")?;
    let started = Instant::now();
    let at_start = spool.depth().messages;
    let metrics = Arc::new(Metrics::new(&[])?);
    let poisoned = if at_start > 0 {
        let (intake, uplink) = uplink(&config, data_dir, &spool, &metrics, clock, &lifecycle)
            .await
            .map_err(|error| in_file(error, &arguments.config))?;
        let uplink = lifecycle.spawn("the drain", uplink.run(lifecycle.stop_now.clone()));
        let bar = progress_bar(BAR);
        bar.set_length(at_start);
        let poisoned = until_empty(&*spool, &bar, &lifecycle).await;
        // Dropping the intake tells the uplink to end: sends that are under way finish, and nothing more is read. The drain is
        // cancelled first, so that this end does not count as a failure.
        lifecycle.drain.cancel();
        drop(intake);
        uplink.await.context("the drain ended unexpectedly; please report this")?;
        bar.finish_and_clear();
        poisoned
    } else {
        None
    };
    let left = spool.depth().messages;
    if let Some(spool) = Arc::into_inner(spool) {
        tokio::task::spawn_blocking(|| spool.close()).await?;
    }
    let EndCounts { stored, dead_lettered, dropped, .. } = metrics.ends();
    let summary =
        Summary { at_start, stored, dead_lettered, dropped, left, seconds: started.elapsed().as_secs_f64() };
    let mut report = Report::default();
    report.line(text_of(&summary, arguments.json)?);
    report.end(if let Some(what) = lifecycle.failure() {
        aside(format_args!("error: {what}; please report this with the log"));
        ExitCode::from(FAILED)
    } else if let Some(why) = poisoned {
        aside(format_args!("error: {why}; docs/SPOOL.md says what to do"));
        ExitCode::from(FAILED)
    } else if left == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(STOPPED_EARLY)
    })
}

fn hold(config: &Config) -> anyhow::Result<DataDir> {
    match DataDir::open(&config.data_dir) {
        Err(DataDirError::InUse { path }) => bail!(
            "{} is in use: a bridge that runs drains its spool by itself; stop it first if the spool is to be emptied \
             without it",
            path.display()
        ),
        other => Ok(other?),
    }
}

/// The uplink, and the intake that keeps it running.
async fn uplink(
    config: &Config,
    data_dir: DataDir,
    spool: &Arc<SqliteSpool>,
    metrics: &Arc<Metrics>,
    clock: Arc<dyn Clock>,
    lifecycle: &Lifecycle,
) -> anyhow::Result<(OpenIntake, Uplink)> {
    let connector = Connector::new(&config.rocketmq);
    let reader = Arc::new(RocketMqReader::new(&connector));
    let sink = Arc::new(Producer::new(config.rocketmq.clone(), &connector, reader));
    let local =
        LocalDeadLetters::open(&config.data_dir.join(DEAD_LETTERS_FILE), config.dead_letter.max_bytes)?;
    let (intake, receiver) = intake(Arc::new(rules_to_read_by(config)?), 1, 1);
    let (settled, nothing_settled) = mpsc::channel(1);
    let (link, link_seen) = watch::channel(LinkState::Up);
    let builder = UplinkBuilder {
        config,
        metrics: metrics.clone(),
        readiness: Arc::new(Readiness::default()),
        clock,
        tables: data_dir.queue_tables()?,
        data_dir: Arc::new(data_dir),
        spool: Some(spool.clone()),
        dead_letters: Arc::new(local),
        drain_batches: BATCHES_AT_ONCE,
        lifecycle,
    };
    let dead_letters = builder.dead_letters(sink.clone());
    let uplink = builder.uplink(sink, dead_letters, receiver, settled, link_seen);
    let open_intake = OpenIntake { _intake: intake, _link: link, _nothing_settled: nothing_settled };
    Ok((open_intake, uplink))
}

/// Brings no messages; when it is dropped, the uplink ends.
struct OpenIntake {
    _intake: Intake,
    _link: watch::Sender<LinkState>,
    _nothing_settled: mpsc::Receiver<Vec<ReceiptNumber>>,
}

/// Returns when the spool is empty, a signal came, or the spool is out of use; in the last case, why it is.
async fn until_empty(spool: &dyn Overflow, bar: &ProgressBar, lifecycle: &Lifecycle) -> Option<String> {
    loop {
        let left = spool.depth().messages;
        bar.set_position(bar.length().unwrap_or_default().saturating_sub(left));
        if left == 0 {
            return spool.poisoned();
        }
        if let Some(why) = spool.poisoned() {
            return Some(why);
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = lifecycle.drain.cancelled() => return None,
        }
    }
}

fn text_of(summary: &Summary, json: bool) -> serde_json::Result<String> {
    if json {
        return serde_json::to_string(summary);
    }
    if summary.at_start == 0 {
        return Ok("the spool is empty".to_owned());
    }
    Ok(format!(
        "{} of {} messages stored in {:.1} s; {} dead letters, {} given up, {} left",
        HumanCount(summary.stored),
        HumanCount(summary.at_start),
        summary.seconds,
        HumanCount(summary.dead_lettered),
        HumanCount(summary.dropped),
        HumanCount(summary.left)
    ))
}
