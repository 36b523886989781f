//! Which RocketMQ topics the classroom writes about its clients, which are archived, and how those that are missing are created.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::binding::RuleSet;
use crate::config::{ClassroomConfig, Config};
use crate::live_class::LiveClass;
use crate::model::FailureKind;
use crate::pipeline::Retry;
use crate::pipeline::ports::{ReadError, Sink};
use crate::telemetry::Readiness;

/// No message waits for these topics, so RocketMQ is asked for them no more often.
const LEAST_PAUSE: Duration = Duration::from_secs(1);

/// The topics that the configuration names, else those where rooms are heard and the classroom's records. What clients send to the
/// classroom is not among them, because what was heard of it is.
pub(crate) fn archived_topics(config: &Config, rules: &RuleSet) -> Vec<String> {
    if let Some(topics) = config.archive.as_ref().and_then(|archive| archive.topics.clone()) {
        return topics;
    }
    let mut topics: BTreeSet<String> = rules.literal_topics().into_iter().collect();
    topics.extend(config.downlinks.iter().map(|downlink| downlink.topic.clone()));
    if let Some(classroom) = &config.classroom {
        topics.remove(&classroom.send_topic);
        topics.extend(status_topics(classroom));
        topics.insert(classroom.audit_topic.clone());
    }
    topics.into_iter().collect()
}

/// Who came and who went.
pub(super) fn status_topics(classroom: &ClassroomConfig) -> Vec<String> {
    let groups = classroom.teacher_groups.iter().chain(&classroom.student_groups);
    LiveClass::status_topics(&groups.cloned().collect::<Vec<_>>())
}

/// Creates topics through a sink that creates what it is asked for.
pub(super) struct TopicCreation {
    sink: Arc<dyn Sink>,
    readiness: Arc<Readiness>,
    /// Those that are not there yet.
    left: Vec<String>,
    /// Why the last of them could not be created.
    failed: Option<FailureKind>,
    /// What is in the log: each cause once for each topic.
    logged: HashSet<(String, FailureKind)>,
    retry: Retry,
}

impl TopicCreation {
    pub(super) fn new(sink: Arc<dyn Sink>, readiness: Arc<Readiness>, topics: Vec<String>) -> Self {
        let (logged, retry) = (HashSet::new(), Retry::send());
        Self { sink, readiness, left: topics, failed: None, logged, retry }
    }

    /// Asks for each one that is not there, once. Whether all are there now.
    pub(super) async fn try_all(&mut self) -> bool {
        self.failed = None;
        for topic in std::mem::take(&mut self.left) {
            match self.sink.queues(&topic).await {
                Ok(_) => self.is_there(&topic),
                Err(error) => {
                    self.is_not_there(&topic, &error);
                    self.failed = Some(error.kind);
                    self.left.push(topic);
                }
            }
        }
        self.failed.is_none()
    }

    /// Tries again, after pauses that grow up to the longest one for the cause, until all are there; ends with `stop`.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let trying = async {
            while let Some(kind) = self.failed {
                tokio::time::sleep(self.retry.next_pause_after(kind).max(LEAST_PAUSE)).await;
                self.try_all().await;
            }
            // A task that ends before the stop counts as dead.
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = trying => {}
        }
    }

    fn is_there(&self, topic: &str) {
        if self.logged.iter().any(|(logged, _)| logged == topic) {
            self.readiness.set_topic_problem(topic, None);
            tracing::info!(topic, "the RocketMQ topic is there now");
        }
    }

    fn is_not_there(&mut self, topic: &str, error: &ReadError) {
        // That RocketMQ is away is told by who watches it.
        if error.kind.is_an_answer() {
            let problem = format!("RocketMQ topic {topic} is not there: {}", error.cause);
            self.readiness.set_topic_problem(topic, Some(problem));
        }
        if self.logged.insert((topic.to_owned(), error.kind)) {
            tracing::warn!(topic, %error, "a RocketMQ topic could not be created; it is tried again");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::future::BoxFuture;

    use super::*;
    use crate::model::{QueueName, Sent};
    use crate::pipeline::ports::Batch;

    /// Creates nothing the first times that it is asked.
    struct Refusing {
        refusals: usize,
        asked: AtomicUsize,
    }

    impl Sink for Refusing {
        fn queues<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<Vec<QueueName>, ReadError>> {
            let refused = ReadError {
                what: format!("creating topic {topic}"),
                cause: "the broker answered with code 16 (no policy)".to_owned(),
                kind: FailureKind::NoPermission,
            };
            let is_refused = self.asked.fetch_add(1, Ordering::Relaxed) < self.refusals;
            Box::pin(async move { if is_refused { Err(refused) } else { Ok(Vec::new()) } })
        }

        fn send(&self, batch: Arc<Batch>) -> BoxFuture<'static, Vec<Sent>> {
            let answers = vec![Sent::Stored; batch.messages.len()];
            Box::pin(std::future::ready(answers))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_topic_that_could_not_be_created_is_told_and_tried_again_until_it_is_there() {
        // Given a broker that refuses to create the topic of a downlink three times
        let sink = Arc::new(Refusing { refusals: 3, asked: AtomicUsize::new(0) });
        let readiness = Arc::new(Readiness::default());
        let told = || readiness.report().missing.join("; ");
        let mut creation = TopicCreation::new(sink.clone(), readiness.clone(), vec!["down".to_owned()]);

        // Then /readyz has its words after the first time
        assert!(!creation.try_all().await);
        let words = "RocketMQ topic down is not there: the broker answered with code 16 (no policy)";
        assert!(told().contains(words), "{}", told());

        // And the topic is there after some pauses, which are not short
        let stop = CancellationToken::new();
        let running = tokio::spawn(creation.run(stop.clone()));
        tokio::time::sleep(Duration::from_millis(900)).await;
        assert_eq!(sink.asked.load(Ordering::Relaxed), 1);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(sink.asked.load(Ordering::Relaxed), 4, "once more than it refused");
        assert!(!told().contains("topic down"), "{}", told());

        // And the task ends with the stop, and not before
        assert!(!running.is_finished());
        stop.cancel();
        running.await.unwrap();
    }
}
