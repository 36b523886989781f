//! Which RocketMQ topics the classroom writes about its clients, and which are archived.

use std::collections::BTreeSet;

use crate::binding::RuleSet;
use crate::config::{ClassroomConfig, Config};
use crate::live_class::LiveClass;

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
