//! What a bridge will do with the topics of its configuration, tried on RocketMQ: nothing is stored, and nothing is created.

use std::collections::BTreeMap;

use super::super::output::Report;
use super::report_result;
use crate::app::archived_topics;
use crate::binding::RuleSet;
use crate::config::Config;
use crate::model::FailureKind;
use crate::pipeline::ports::{ReadError, Reader};
use crate::rocketmq::{ALWAYS_ASKABLE, Connector, RocketMqReader, is_there};

/// What the configuration wants of a topic.
#[derive(Debug, Clone, Copy, Default)]
struct Use {
    is_written: bool,
    /// The bridge itself reads it; of other topics only people read.
    is_followed: bool,
    /// The archiver reads it, and RocketMQ deletes what it did not get.
    is_archived: bool,
}

/// What the look at a topic says.
enum Looked {
    /// It will do.
    Well(String),
    /// The bridge works, and something is missing all the same.
    Lacks(String),
    /// The bridge will not do what the configuration says.
    Fails(String),
}

/// Says of each topic whether it will do; whether all will.
pub(super) async fn topics_will_do(report: &mut Report, config: &Config, rules: &RuleSet) -> bool {
    let reader = RocketMqReader::new(&Connector::new(&config.rocketmq));
    let topics = topics_of(config, rules);
    let mut all = true;
    // A bridge runs without its topic for dead letters, but not without RocketMQ.
    let is_for_dead_letters = |topic: &String| config.dead_letter.topic.as_ref() == Some(topic);
    if topics.keys().all(is_for_dead_letters) {
        let there = is_there(&reader, ALWAYS_ASKABLE).await;
        let there =
            there.map(|()| "it answers; the configuration names no topic for messages to try".to_owned());
        all = report_result(report, "RocketMQ", there);
    }
    for (topic, used) in topics {
        let what = format!("RocketMQ topic {topic}");
        match look_at(report, &reader, config, &topic, used).await {
            Looked::Well(detail) => report.line(format_args!("ok    {what}: {detail}")),
            Looked::Lacks(detail) => report.line(format_args!("WARN  {what}: {detail}")),
            Looked::Fails(detail) => {
                report.line(format_args!("FAIL  {what}: {detail}"));
                all = false;
            }
        }
    }
    all
}

fn topics_of(config: &Config, rules: &RuleSet) -> BTreeMap<String, Use> {
    let mut topics: BTreeMap<String, Use> = BTreeMap::new();
    let audit = config.classroom.as_ref().map(|classroom| classroom.audit_topic.clone());
    for topic in rules.literal_topics().into_iter().chain(config.dead_letter.topic.clone()).chain(audit) {
        topics.entry(topic).or_default().is_written = true;
    }
    // The topics with notices about clients are not among them: they exist only where another product writes them.
    let down = config.downlinks.iter().map(|downlink| downlink.topic.clone());
    for topic in down.chain(config.classroom.as_ref().map(|classroom| classroom.send_topic.clone())) {
        topics.entry(topic).or_default().is_followed = true;
    }
    if config.archive.is_some() {
        for topic in archived_topics(config, rules) {
            topics.entry(topic).or_default().is_archived = true;
        }
    }
    topics
}

async fn look_at(
    report: &mut Report,
    reader: &RocketMqReader,
    config: &Config,
    topic: &str,
    used: Use,
) -> Looked {
    let mut may = Vec::new();
    if used.is_written {
        match reader.try_write(topic, &config.rocketmq.producer_group).await {
            Ok(queues) => may.push(format!("{queues} queues can be written to")),
            Err(error) => return not_written(config, topic, error),
        }
    }
    match try_read(reader, topic).await {
        Ok(queues) => may.push(format!("{queues} queues can be read")),
        Err(error) if used.is_followed || used.is_archived => return not_read(config, topic, used, &error),
        Err(error) => report.line(format_args!(
            "WARN  RocketMQ topic {topic}: messages are stored, but history and replay will not show them: {error}"
        )),
    }
    for withheld in reader.withheld(topic).await.unwrap_or_default() {
        let count = withheld.offsets.end - withheld.offsets.start;
        report.line(format_args!(
            "WARN  RocketMQ topic {topic}: {count} messages of queue {} are handed out to nobody; give the topic its read queues \
             back (mqadmin updateTopic -r)",
            withheld.queue
        ));
    }
    Looked::Well(may.join(", "))
}

fn not_written(config: &Config, topic: &str, error: ReadError) -> Looked {
    let ReadError { what, cause, kind } = error;
    if kind == FailureKind::TopicMissing && config.rocketmq.create_topics {
        return created_later(config, topic);
    }
    let cause = format!("no message can be sent to {what}: {cause}");
    match config.dead_letter.topic.as_deref() == Some(topic) {
        // The bridge runs without it.
        true => Looked::Lacks(format!("dead letters stay on this disk: {cause}")),
        false => Looked::Fails(cause),
    }
}

/// Of a topic that the bridge or the archiver reads.
fn not_read(config: &Config, topic: &str, used: Use, error: &ReadError) -> Looked {
    if error.kind == FailureKind::TopicMissing {
        return match used.is_followed {
            true if config.rocketmq.create_topics => created_later(config, topic),
            true => Looked::Fails(error.to_string()),
            false => not_there_to_archive(config),
        };
    }
    Looked::Fails(match (used.is_followed, used.is_archived) {
        (true, false) => error.to_string(),
        (true, true) => format!("neither the bridge nor the archive gets its messages: {error}"),
        (false, _) => format!(
            "the archive gets none of its messages, and RocketMQ deletes them when their time is over: {error}"
        ),
    })
}

/// The archiver waits for a topic that does not exist. Where one is named, its name may be wrong.
fn not_there_to_archive(config: &Config) -> Looked {
    let is_named = config.archive.as_ref().is_some_and(|archive| archive.topics.is_some());
    match is_named {
        true => Looked::Lacks(
            "it does not exist, so nothing of it is archived; create it, or correct archive.topics"
                .to_owned(),
        ),
        false => Looked::Well("it does not exist yet, so there is nothing of it to archive".to_owned()),
    }
}

/// A bridge creates what it writes and what it follows.
fn created_later(config: &Config, topic: &str) -> Looked {
    Looked::Well(format!(
        "it does not exist yet; the bridge creates it with {} queues, if access control gives the right Create on \
         Topic:{topic}",
        config.rocketmq.queues_per_new_topic
    ))
}

/// All that a reader asks for: the queues, their offsets, and messages, of which there are none where it asks.
async fn try_read(reader: &RocketMqReader, topic: &str) -> Result<usize, ReadError> {
    let queues = reader.queues(topic).await?;
    let Some(first) = queues.first() else {
        return Err(ReadError {
            what: format!("topic {topic}"),
            cause: "no queue of it can be read; check brokerPermission of its brokers, and its own permission and \
                    readQueueNums (mqadmin updateTopic)"
                .to_owned(),
            kind: FailureKind::NoPermission,
        });
    };
    let (_, end) = reader.offsets(topic, first).await?;
    reader.pull(topic, first, None, end, 1).await?;
    Ok(queues.len())
}
