//! A RocketMQ broker that is away, and with it a part of the messages.

use super::*;

/// Missing messages are always reported.
#[tokio::test]
async fn a_broker_that_is_away_is_an_error_or_is_named_with_what_is_there() {
    let mut memory = Memory::default();
    memory.store(0, 1_000, "1", Some(1), "here");
    memory.away = vec!["b".to_owned()];
    let Err(error) = History::open(&memory, room("1"), &mut |_| {}).await else {
        panic!("less was given in silence");
    };
    assert!(
        error.to_string().contains("broker b is away") && error.to_string().contains("--partial"),
        "{error}"
    );

    let query = HistoryQuery { partial: true, ..room("1") };
    let mut history = History::open(&memory, query.clone(), &mut |_| {}).await.unwrap();
    assert_eq!(Vec::from_iter(history.away()), ["b"]);
    assert_eq!(&history.next().await.unwrap().unwrap().bytes[..], b"here");

    // nothing at all is there
    drop(history);
    memory.queues.clear();
    let history = History::open(&memory, query, &mut |_| {}).await.unwrap();
    assert!(history.len() == 0 && history.away().count() == 1);
}
