//! `docs/MESSAGES.md` explains what can be said, and nothing else.

use std::collections::BTreeSet;

use crate::archive::{HistoryError, Missing};
use crate::model::QueueName;
use crate::rocketmq;

/// The first cells of the table under that heading, without their marks.
fn explained(heading: &str) -> BTreeSet<String> {
    let page = include_str!("../../docs/MESSAGES.md");
    let (_, section) = page.split_once(&format!("\n## {heading}\n")).expect("the page has the heading");
    let section = section.split("\n## ").next().unwrap_or_default();
    let cells = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
    cells.map(|(cell, _)| cell.to_owned()).collect()
}

fn withheld(may_be_read: bool) -> HistoryError {
    let queue = QueueName { broker: "BROKER".into(), id: 7 };
    let (topic, queues) = ("TOPIC".to_owned(), vec![queue]);
    HistoryError::Withheld(Missing::Withheld { topic, queues, messages: 5, may_be_read })
}

#[test]
fn each_message_about_rocketmq_is_explained_and_nothing_is_explained_that_is_not_said() {
    let mut said: BTreeSet<String> = rocketmq::messages().into_iter().collect();
    said.extend([true, false].map(|may_be_read| withheld(may_be_read).to_string()));
    assert_eq!(said, explained("RocketMQ"));
}
