//! The local dead letters, and the view of a spool from outside.

use super::*;
use crate::model::{DeadLetter, DeadReason};

fn letter(id: &str, arrived_ms: u64) -> DeadLetter {
    DeadLetter {
        id: id.to_owned(),
        reason: DeadReason::TooLarge,
        detail: "5000000 bytes, RocketMQ takes 4194304".to_owned(),
        mqtt_topic: "room/message/1".to_owned(),
        rocketmq_topic: "room".to_owned(),
        arrived_ms,
        qos: 1,
        user_properties: vec![("a".to_owned(), "b\n".to_owned())],
        payload: Bytes::from_static(b"\0\xff payload"),
    }
}

fn ids(store: &LocalDeadLetters) -> Vec<String> {
    let letters = store.list(100, None).unwrap();
    letters.into_iter().map(|stored| stored.letter.id).collect()
}

#[tokio::test]
async fn a_letter_is_kept_whole_over_a_restart() {
    let folder = SpoolFolder::new();
    let path = folder.beside("dead-letters.sqlite3");
    let store = LocalDeadLetters::open(&path, 1 << 20).unwrap();
    store.store(vec![letter("one", 1), letter("two", 2)]).await.unwrap();
    drop(store);
    let store = LocalDeadLetters::open(&path, 1 << 20).unwrap();
    assert_eq!(store.get("two").unwrap().unwrap().letter, letter("two", 2));
    assert_eq!(store.get("three").unwrap(), None);
    assert_eq!(store.depth().unwrap().messages, 2);
}

/// A second process lists, resends and purges while the bridge runs.
#[tokio::test]
async fn two_openers_see_each_other() {
    let folder = SpoolFolder::new();
    let path = folder.beside("dead-letters.sqlite3");
    let bridge = LocalDeadLetters::open(&path, 1 << 20).unwrap();
    let command = LocalDeadLetters::open(&path, 1 << 20).unwrap();
    bridge.store(vec![letter("one", 1), letter("two", 2), letter("three", 3)]).await.unwrap();
    assert_eq!(ids(&command), ["one", "two", "three"]);
    let first = &command.list(1, None).unwrap()[0];
    assert_eq!(command.list(9, Some(first.number)).unwrap().len(), 2);
    assert_eq!(command.remove(&[first.number, 999]).unwrap(), 1);
    assert_eq!(command.purge(Some(3)).unwrap(), 1);
    bridge.store(vec![letter("four", 4)]).await.unwrap();
    assert_eq!(ids(&bridge), ["three", "four"]);
    assert_eq!(command.purge(None).unwrap(), 2);
    assert_eq!(bridge.depth().unwrap(), Depth::default());
}

#[tokio::test]
async fn a_full_store_refuses_and_heals_after_a_purge() {
    let folder = SpoolFolder::new();
    let store = LocalDeadLetters::open(&folder.beside("dead-letters.sqlite3"), 500).unwrap();
    store.store(vec![letter("one", 1), letter("two", 2)]).await.unwrap();
    let refused = store.store(vec![letter("three", 3)]).await;
    assert!(matches!(refused, Err(SpoolError::Full(_))), "{refused:?}");
    store.purge(Some(2)).unwrap();
    store.store(vec![letter("three", 3)]).await.unwrap();
    assert_eq!(ids(&store), ["two", "three"]);
}

/// Hazard 13: a damaged file refuses no start, and what is readable is kept.
#[test]
fn a_damaged_file_is_set_aside() {
    let folder = SpoolFolder::new();
    let path = folder.beside("dead-letters.sqlite3");
    let store = LocalDeadLetters::open(&path, 1 << 30).unwrap();
    for number in 0..40 {
        let mut letter = letter(&number.to_string(), number);
        letter.payload = Bytes::from(vec![number as u8; 3000]);
        store.store_now(&[letter]).unwrap();
    }
    drop(store);
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let store = LocalDeadLetters::open(&path, 1 << 30).unwrap();
    let kept = ids(&store).len();
    assert!(kept > 5 && kept < 40, "{kept}");
    assert_eq!(store.depth().unwrap().messages, kept as u64);
    assert!(folder.beside("dead-letters.sqlite3.corrupt-1").exists());
    store.store_now(&[letter("new", 1)]).unwrap();
}

#[tokio::test]
async fn a_spool_is_inspected_while_a_bridge_writes_it_and_after() {
    let mut folder = SpoolFolder::new();
    assert_eq!(SpoolInspection::read(folder.path()).unwrap(), SpoolInspection::default());
    let spool = folder.open();
    spool.put(messages(1, 0..3)).await.unwrap();
    folder.clock.advance(Duration::from_secs(5));
    spool.put(messages(2, 0..2)).await.unwrap();
    let seen = SpoolInspection::read(folder.path()).unwrap();
    let expected = TopicInspection {
        topic: "room".to_owned(),
        lanes: 2,
        messages: 5,
        bytes: spool.depth().bytes,
        oldest_spooled_ms: Some(1_700_000_000_000),
    };
    assert_eq!(seen.topics, [expected]);
    spool.close();
    assert_eq!(SpoolInspection::read(folder.path()).unwrap().messages(), 5);
}
