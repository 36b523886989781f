//! Readiness: whether the bridge can do its work now, and if not, what is missing and since when.
//!
//! Ready means that a message can be taken in and acknowledged: the bridge is subscribed, and RocketMQ or the spool takes it.
//!
//! Promises: setters are cheap enough to be called for each message; a time shown is that of the change, not of the last
//! call.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use crate::model::{Clock, SystemClock};

/// The shared state: rooms set it, `http` shows it.
pub struct Readiness {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

struct State {
    mqtt_connected: Condition,
    /// Why the last attempt to connect failed.
    mqtt_problem: Option<String>,
    mqtt_limits: Vec<BrokerLimit>,
    mqtt_subscribed: Condition,
    filters_missing: Vec<String>,
    /// Sentences, each with the time at which it became true, milliseconds since 1970-01-01 UTC.
    subscription_problems: Vec<(String, u64)>,
    rocketmq_reachable: Condition,
    /// Why the last look for RocketMQ failed.
    rocketmq_problem: Option<String>,
    /// What RocketMQ answers instead of storing, by topic, each with the time of the first such answer.
    topic_problems: BTreeMap<String, (String, u64)>,
    /// `None` = there is no spool.
    spool_accepts: Option<Condition>,
    note: Option<(String, u64)>,
    data_dir_note: Option<String>,
    archive_notes: Vec<String>,
}

#[derive(Clone, Copy)]
struct Condition {
    met: bool,
    /// Wall time of the last change, milliseconds since 1970-01-01 UTC.
    since_ms: u64,
}

/// Something that we need from the MQTT broker and that it does not offer, with its consequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerLimit {
    /// What it means for this configuration.
    pub severity: Severity,
    /// One sentence for people.
    pub text: String,
}

/// What a limit means for this configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It changes nothing.
    Remark,
    /// The bridge works, but promises less.
    Warning,
    /// The bridge cannot keep a promise, so it is not ready.
    Fatal,
}

/// What `/readyz` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReadinessReport {
    /// Whether a message can be taken in and acknowledged now.
    pub ready: bool,
    /// Whether something is missing or needs attention; `missing` says what.
    pub degraded: bool,
    /// The way in.
    pub mqtt: MqttReadiness,
    /// The way out.
    pub rocketmq: RocketMqReadiness,
    /// What stands in for RocketMQ while it is away.
    pub spool: SpoolReadiness,
    /// What is missing, in sentences for people.
    pub missing: Vec<String>,
}

/// The state of the MQTT side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MqttReadiness {
    /// Whether there is a connection to the broker.
    pub connected: bool,
    /// Whether there is a connection and all subscriptions are granted.
    pub subscribed: bool,
    /// What the broker does not offer, even if this configuration does not need it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<String>,
}

/// The state of RocketMQ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RocketMqReadiness {
    /// Whether RocketMQ answers.
    pub reachable: bool,
}

/// The state of the spool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SpoolReadiness {
    /// Whether there is a spool that is neither full nor out of use.
    pub accepts: bool,
}

impl Default for Readiness {
    fn default() -> Self {
        Self::new(Arc::new(SystemClock::default()))
    }
}

impl std::fmt::Debug for Readiness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Readiness").field(&self.report()).finish()
    }
}

impl Readiness {
    /// Starts with nothing connected.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let absent = Condition { met: false, since_ms: clock.wall_ms() };
        let state = State {
            mqtt_connected: absent,
            mqtt_problem: None,
            mqtt_limits: Vec::new(),
            mqtt_subscribed: absent,
            filters_missing: Vec::new(),
            subscription_problems: Vec::new(),
            rocketmq_reachable: absent,
            rocketmq_problem: None,
            topic_problems: BTreeMap::new(),
            spool_accepts: None,
            note: None,
            data_dir_note: None,
            archive_notes: Vec::new(),
        };
        Self { clock, state: Mutex::new(state) }
    }

    pub fn set_mqtt_connected(&self, met: bool) {
        self.set(|state| &mut state.mqtt_connected, met);
    }

    /// Says why there is no connection; shown until there is one.
    pub fn set_mqtt_problem(&self, problem: String) {
        self.lock().mqtt_problem = Some(problem);
    }

    /// Says what the broker of the present connection does not offer. `true` if that has changed.
    pub fn set_mqtt_limits(&self, limits: Vec<BrokerLimit>) -> bool {
        let mut state = self.lock();
        let changed = state.mqtt_limits != limits;
        state.mqtt_limits = limits;
        changed
    }

    /// Whether the broker has granted all subscriptions.
    pub fn set_mqtt_subscribed(&self, met: bool) {
        self.set(|state| &mut state.mqtt_subscribed, met);
    }

    /// Says which filters are not granted on the present connection, each with what is known of it.
    pub fn set_filters_missing(&self, filters: Vec<String>) {
        self.lock().filters_missing = filters;
    }

    /// Says which subscriptions the broker refused or granted with a lower QoS, one sentence each. Returns the new ones.
    pub fn set_subscription_problems(&self, problems: Vec<String>) -> Vec<String> {
        let now_ms = self.clock.wall_ms();
        let mut state = self.lock();
        let before = std::mem::take(&mut state.subscription_problems);
        let since = |problem: &String| {
            before.iter().find(|(known, _)| known == problem).map(|(_, since_ms)| *since_ms)
        };
        let new_problems = problems.iter().filter(|problem| since(problem).is_none()).cloned().collect();
        state.subscription_problems = problems
            .into_iter()
            .map(|problem| (since(&problem).unwrap_or(now_ms), problem))
            .map(|(since_ms, problem)| (problem, since_ms))
            .collect();
        new_problems
    }

    pub fn set_rocketmq_reachable(&self, met: bool) {
        self.set(|state| &mut state.rocketmq_reachable, met);
    }

    /// Says why RocketMQ is not reachable; shown until it is.
    pub fn set_rocketmq_problem(&self, problem: String) {
        self.lock().rocketmq_problem = Some(problem);
    }

    /// Says in one sentence why RocketMQ, which answers, stores nothing in a topic; `None` when it does. Of many topics some are told.
    pub fn set_topic_problem(&self, topic: &str, problem: Option<String>) {
        const TOLD_TOPICS: usize = 16;
        let mut state = self.lock();
        let problems = &mut state.topic_problems;
        match problem {
            Some(problem) if problems.len() < TOLD_TOPICS || problems.contains_key(topic) => {
                let now_ms = self.clock.wall_ms();
                problems.entry(topic.to_owned()).or_insert_with(|| (String::new(), now_ms)).0 = problem;
            }
            Some(_) => {}
            None => drop(problems.remove(topic)),
        }
    }

    /// Whether the spool takes messages and has them on the disk. Not called if the configuration turns the spool off.
    pub fn set_spool_accepts(&self, met: bool) {
        let now = Condition { met: !met, since_ms: self.clock.wall_ms() };
        self.set(|state| state.spool_accepts.get_or_insert(now), met);
    }

    /// One sentence about something that a person must know or do; `None` when it is over.
    pub fn set_note(&self, note: Option<String>) {
        let mut state = self.lock();
        if state.note.as_ref().map(|(note, _)| note) != note.as_ref() {
            state.note = note.map(|note| (note, self.clock.wall_ms()));
        }
    }

    /// One sentence while the disk of the `data_dir` does not answer; `None` when it does. Work that does not need the disk
    /// goes on, so this does not change `ready`.
    pub fn set_data_dir_note(&self, note: Option<String>) {
        self.lock().data_dir_note = note;
    }

    /// Sentences about what will be lost before it is archived. Messages are taken in all the same, so this does not change `ready`.
    pub fn set_archive_notes(&self, notes: Vec<String>) {
        self.lock().archive_notes = notes;
    }

    pub fn is_ready(&self) -> bool {
        self.report().ready
    }

    pub fn report(&self) -> ReadinessReport {
        let state = self.lock();
        let mut missing = Vec::new();
        let problem = state.mqtt_problem.iter().filter(|_| !state.mqtt_connected.met);
        let mut require = |condition: Condition, sentence: &str| {
            if !condition.met {
                missing.push(format!("{sentence} since {}", time(condition.since_ms)));
            }
        };
        require(state.mqtt_connected, "not connected to the MQTT broker");
        require(state.mqtt_subscribed, &not_subscribed(&state.filters_missing));
        require(state.rocketmq_reachable, "RocketMQ is not reachable");
        if let Some(accepts) = state.spool_accepts {
            require(accepts, "the spool takes nothing in");
        }
        missing.extend(problem.cloned());
        missing.extend(state.rocketmq_problem.iter().filter(|_| !state.rocketmq_reachable.met).cloned());
        let limits = state.mqtt_limits.iter();
        missing.extend(
            limits.clone().filter(|limit| limit.severity > Severity::Remark).map(|limit| limit.text.clone()),
        );
        let broken = limits.clone().any(|limit| limit.severity == Severity::Fatal);
        let notes =
            state.subscription_problems.iter().chain(state.topic_problems.values()).chain(&state.note);
        missing.extend(notes.map(|(note, since_ms)| format!("{note} (since {})", time(*since_ms))));
        missing.extend(state.data_dir_note.clone());
        missing.extend(state.archive_notes.iter().cloned());
        let spool_accepts = state.spool_accepts.is_some_and(|accepts| accepts.met);
        let subscribed = state.mqtt_connected.met && state.mqtt_subscribed.met;
        ReadinessReport {
            ready: subscribed && !broken && (state.rocketmq_reachable.met || spool_accepts),
            degraded: !missing.is_empty(),
            mqtt: MqttReadiness {
                connected: state.mqtt_connected.met,
                subscribed: state.mqtt_subscribed.met,
                limits: limits.map(|limit| limit.text.clone()).collect(),
            },
            rocketmq: RocketMqReadiness { reachable: state.rocketmq_reachable.met },
            spool: SpoolReadiness { accepts: spool_accepts },
            missing,
        }
    }

    fn set(&self, choose: impl FnOnce(&mut State) -> &mut Condition, met: bool) {
        let mut state = self.lock();
        let condition = choose(&mut state);
        if condition.met != met {
            *condition = Condition { met, since_ms: self.clock.wall_ms() };
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// So many filters are named, so that the sentence can be read.
const FILTERS_NAMED: usize = 5;

fn not_subscribed(filters: &[String]) -> String {
    let named = filters.iter().take(FILTERS_NAMED).cloned().collect::<Vec<_>>().join(", ");
    let more = match filters.len().saturating_sub(FILTERS_NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    match filters {
        [] => "not subscribed on the MQTT broker".to_owned(),
        _ => format!("not subscribed on the MQTT broker to {named}{more}"),
    }
}

fn time(wall_ms: u64) -> String {
    match i64::try_from(wall_ms).ok().and_then(|wall_ms| jiff::Timestamp::from_millisecond(wall_ms).ok()) {
        Some(time) => format!("{time:.0}"),
        None => format!("{wall_ms} ms after 1970"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::ManualClock;

    const NOON_MS: u64 = 1_767_268_800_000; // 2026-01-01T12:00:00Z

    #[test]
    fn what_is_missing_is_said_with_the_time_of_the_change() {
        // Given a bridge that became ready at noon
        let clock = Arc::new(ManualClock::at(NOON_MS));
        let readiness = Readiness::new(clock.clone());
        assert!(!readiness.report().ready);
        assert_eq!(readiness.report().missing.len(), 3);
        readiness.set_mqtt_connected(true);
        readiness.set_mqtt_subscribed(true);
        readiness.set_rocketmq_reachable(true);
        let report = readiness.report();
        assert!(report.ready && !report.degraded && report.missing.is_empty(), "{report:?}");

        // When RocketMQ goes away a minute later, and is still away after another
        clock.advance(Duration::from_secs(60));
        readiness.set_rocketmq_reachable(false);
        clock.advance(Duration::from_secs(60));
        readiness.set_rocketmq_reachable(false);

        // Then the time of the change is shown
        let report = readiness.report();
        assert!(!report.ready && report.degraded && report.mqtt.connected);
        assert_eq!(report.missing, ["RocketMQ is not reachable since 2026-01-01T12:01:00Z"]);
    }

    #[test]
    fn a_spool_that_accepts_stands_in_for_rocketmq() {
        // Given a bridge that is subscribed while RocketMQ is away
        let clock = Arc::new(ManualClock::at(NOON_MS));
        let readiness = Readiness::new(clock.clone());
        readiness.set_mqtt_connected(true);
        readiness.set_mqtt_subscribed(true);
        assert!(!readiness.is_ready() && !readiness.report().spool.accepts);

        // When the spool opens, then it is ready, and says that something is missing
        readiness.set_spool_accepts(true);
        let report = readiness.report();
        assert!(report.ready && report.degraded && report.spool.accepts, "{report:?}");
        assert_eq!(report.missing, ["RocketMQ is not reachable since 2026-01-01T12:00:00Z"]);

        // When the spool is full, then nothing can be taken in
        clock.advance(Duration::from_secs(60));
        readiness.set_spool_accepts(false);
        let report = readiness.report();
        assert!(!report.ready && !report.spool.accepts, "{report:?}");
        assert!(
            report.missing.contains(&"the spool takes nothing in since 2026-01-01T12:01:00Z".to_owned()),
            "{report:?}"
        );

        // When RocketMQ is back, then messages go there, and the spool still needs attention
        readiness.set_rocketmq_reachable(true);
        let report = readiness.report();
        assert!(report.ready && report.degraded, "{report:?}");
    }

    #[test]
    fn what_rocketmq_answers_is_told_until_it_stores_and_why_it_is_away_until_it_is_there() {
        // Given a RocketMQ that cannot be reached
        let clock = Arc::new(ManualClock::at(NOON_MS));
        let readiness = Readiness::new(clock.clone());
        readiness.set_rocketmq_problem("10.0.0.1:9876 did not answer".to_owned());
        assert!(readiness.report().missing.contains(&"10.0.0.1:9876 did not answer".to_owned()));

        // When it answers, and refuses a topic twice in other words
        readiness.set_rocketmq_reachable(true);
        readiness.set_topic_problem("room", Some("refused by 1".to_owned()));
        clock.advance(Duration::from_secs(60));
        readiness.set_topic_problem("room", Some("refused by 2".to_owned()));

        // Then only that is told, since the first answer
        let missing = readiness.report().missing;
        assert!(missing.contains(&"refused by 2 (since 2026-01-01T12:00:00Z)".to_owned()), "{missing:?}");
        assert!(!missing.iter().any(|sentence| sentence.contains("did not answer")), "{missing:?}");

        // And of very many topics only some, until they are stored
        for number in 0..100 {
            readiness.set_topic_problem(&number.to_string(), Some("refused".to_owned()));
        }
        assert!(readiness.report().missing.len() < 25);
        readiness.set_topic_problem("room", None);
        assert!(!readiness.report().missing.iter().any(|sentence| sentence.contains("refused by 2")));
    }

    #[test]
    fn without_connection_the_spool_does_not_make_ready() {
        let readiness = Readiness::default();
        readiness.set_spool_accepts(true);
        readiness.set_mqtt_connected(true);
        assert!(!readiness.is_ready());
    }

    #[test]
    fn what_is_not_subscribed_is_named_with_its_reason() {
        let readiness = Readiness::new(Arc::new(ManualClock::at(NOON_MS)));
        readiness.set_mqtt_connected(true);
        let names = |count: usize| (0..count).map(|number| format!("\"{number}/#\" (0x87)")).collect();
        let said = |readiness: &Readiness| readiness.report().missing.remove(0);
        assert_eq!(said(&readiness), "not subscribed on the MQTT broker since 2026-01-01T12:00:00Z");
        readiness.set_filters_missing(names(1));
        let one = "not subscribed on the MQTT broker to \"0/#\" (0x87) since 2026-01-01T12:00:00Z";
        assert_eq!(said(&readiness), one);
        readiness.set_filters_missing(names(7));
        assert!(said(&readiness).contains("\"4/#\" (0x87) and 2 more since"), "{}", said(&readiness));
        readiness.set_mqtt_subscribed(true);
        assert_eq!(said(&readiness), "RocketMQ is not reachable since 2026-01-01T12:00:00Z");
    }

    #[test]
    fn a_note_is_shown_until_it_is_taken_back() {
        let readiness = Readiness::new(Arc::new(ManualClock::at(NOON_MS)));
        readiness.set_note(Some("session taken over by another client; send SIGHUP to reconnect".to_owned()));
        let missing = readiness.report().missing;
        assert!(missing.iter().any(|sentence| sentence.contains("SIGHUP") && sentence.contains("12:00:00Z")));
        readiness.set_note(None);
        assert!(!readiness.report().missing.iter().any(|sentence| sentence.contains("SIGHUP")));
    }
}
