//! What a bridge will do with the topics of its configuration, tried on RocketMQ: nothing is stored, and nothing is created.

use std::collections::BTreeMap;

use anyhow::bail;

use super::super::output::Report;
use super::report_result;
use crate::binding::RuleSet;
use crate::config::Config;
use crate::model::FailureKind;
use crate::pipeline::ports::{ReadError, Reader};
use crate::rocketmq::{Connector, RocketMqReader};

/// What the configuration wants of a topic.
#[derive(Debug, Clone, Copy, Default)]
struct Use {
    is_written: bool,
    /// The bridge itself reads it; of other topics only people read.
    is_followed: bool,
}

/// Says of each topic whether it will do; whether all will.
pub(super) async fn topics_will_do(report: &mut Report, config: &Config, rules: &RuleSet) -> bool {
    let reader = RocketMqReader::new(&Connector::new(&config.rocketmq));
    let mut all = true;
    for (topic, used) in topics_of(config, rules) {
        let what = format!("RocketMQ topic {topic}");
        let looked = look_at(report, &reader, config, &topic, used).await;
        match looked {
            // The bridge runs without it.
            Err(error) if config.dead_letter.topic.as_deref() == Some(&topic) => {
                report.line(format_args!("WARN  {what}: dead letters stay on this disk: {error}"));
            }
            looked => all &= report_result(report, &what, looked),
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
    topics
}

async fn look_at(
    report: &mut Report,
    reader: &RocketMqReader,
    config: &Config,
    topic: &str,
    used: Use,
) -> anyhow::Result<String> {
    let rocketmq = &config.rocketmq;
    let mut may = Vec::new();
    if used.is_written {
        match reader.try_write(topic, &rocketmq.producer_group).await {
            Ok(queues) => may.push(format!("{queues} queues can be written to")),
            Err(error) if error.kind == FailureKind::TopicMissing && rocketmq.create_topics => {
                return Ok(format!(
                    "it does not exist yet; its first message creates it with {} queues, if access control gives the right \
                     Create on Topic:{topic}",
                    rocketmq.queues_per_new_topic
                ));
            }
            Err(ReadError { what, cause, .. }) => bail!("no message can be sent to {what}: {cause}"),
        }
    }
    match (try_read(reader, topic).await, used.is_followed) {
        (Ok(queues), _) => may.push(format!("{queues} queues can be read")),
        (Err(error), true) => return Err(error.into()),
        (Err(error), false) => report.line(format_args!(
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
    Ok(may.join(", "))
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
