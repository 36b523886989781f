//! The folder, its lock, and a disk that does not answer.

use std::time::Duration;

use super::gate::WriteGate;
use super::*;
use crate::model::QueueName;

fn at(offset: u64) -> Positions {
    let queue = QueueName { broker: "a".into(), id: 0 };
    let mut positions = Positions::default();
    positions.set("room", &queue, Position { offset, last: None });
    positions
}

/// In real time: the thread does not know tokio's.
async fn until(reached: impl Fn() -> bool) {
    tokio::time::timeout(Duration::from_secs(10), async {
        while !reached() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
}

#[test]
fn a_second_process_is_kept_off() {
    let folder = tempfile::tempdir().unwrap();
    let held = DataDir::open(folder.path()).unwrap();
    let error = DataDir::open(folder.path()).unwrap_err();
    assert!(error.to_string().contains("another roombridge"), "{error}");
    drop(held);
    DataDir::open(folder.path()).unwrap();
}

#[tokio::test]
async fn what_was_written_is_there_for_the_next_process() {
    let folder = tempfile::tempdir().unwrap();
    let mut tables = QueueTables::default();
    let queues = (0..4).map(|id| QueueName { broker: "a".into(), id }).collect();
    tables.topics.insert("room".into(), TopicQueues::first(queues));
    let key = {
        let data_dir = DataDir::open(folder.path()).unwrap();
        assert!(data_dir.session().unwrap().is_none());
        data_dir.save_queue_tables(&tables).await.unwrap();
        data_dir.origin_key().unwrap()
    };
    let data_dir = DataDir::open(folder.path()).unwrap();
    assert_eq!(data_dir.queue_tables().unwrap(), tables);
    assert_eq!(data_dir.origin_key().unwrap(), key);
}

#[test]
fn a_damaged_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("session.json"), "{").unwrap();
    let error = DataDir::open(folder.path()).unwrap().session().unwrap_err();
    assert!(error.to_string().contains("session.json"), "{error}");
}

#[tokio::test]
async fn a_disk_that_stands_still_holds_only_the_answers_and_keeps_the_newest() {
    // Given a disk that does not answer in the middle of a write
    let folder = tempfile::tempdir().unwrap();
    let gate = WriteGate::default();
    let data_dir = gate.open_data_dir(folder.path());
    gate.shut();
    let first = data_dir.save_positions("down", &at(1));
    until(|| gate.is_reached()).await;

    // When more is asked for, then nobody waits for it who does not want the answer, and the file waits once
    let mut later: Vec<_> = (2..100).map(|offset| data_dir.save_positions("down", &at(offset))).collect();
    let mutes = data_dir.save_mutes("{}");
    let unwritten = data_dir.unwritten().unwrap();
    assert_eq!(unwritten.files, ["positions-down.json", "positions-down.json", "mutes.json"]);
    assert!(data_dir.positions("down").unwrap() == Positions::default());
    let last = later.pop().unwrap();
    drop(later);

    // When it goes on, then all are answered, and the last content is there
    gate.open();
    first.await.unwrap();
    last.await.unwrap();
    assert_eq!(data_dir.positions("down").unwrap(), at(99));
    mutes.await.unwrap();
    data_dir.idle().await;
    assert_eq!(data_dir.unwritten(), None);
}

#[tokio::test]
async fn a_folder_that_is_let_go_while_its_disk_stands_still_stays_locked_until_all_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let gate = WriteGate::default();
    let data_dir = gate.open_data_dir(folder.path());
    gate.shut();
    drop(data_dir.save_positions("down", &at(1)));
    drop(data_dir.save_mutes("{}"));
    drop(data_dir);
    let error = DataDir::open(folder.path()).unwrap_err();
    assert!(error.to_string().contains("another roombridge"), "{error}");
    gate.open();
    until(|| DataDir::open(folder.path()).is_ok()).await;
    let data_dir = DataDir::open(folder.path()).unwrap();
    assert_eq!(data_dir.positions("down").unwrap(), at(1));
    assert_eq!(data_dir.mutes().unwrap().as_deref(), Some(r#"{"version":1}"#));
}

#[tokio::test]
async fn a_write_that_fails_says_what_and_why_and_the_next_one_is_tried() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let data_dir = DataDir::open(&path).unwrap();
    fs::rename(&path, folder.path().join("elsewhere")).unwrap();
    let error = data_dir.save_mutes("{}").await.unwrap_err().to_string();
    assert!(error.contains("mutes.json") && error.contains("No such file"), "{error}");
    fs::rename(folder.path().join("elsewhere"), &path).unwrap();
    data_dir.save_mutes("{}").await.unwrap();
}

#[tokio::test]
async fn a_thread_that_dies_leaves_nobody_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = DataDir::open_with(folder.path(), Some(Box::new(|_| panic!("on purpose")))).unwrap();
    let (first, second) = (data_dir.save_mutes("{}"), data_dir.save_positions("down", &at(1)));
    for saving in [first, second] {
        let error = saving.await.unwrap_err();
        assert!(matches!(error, DataDirError::WriterEnded { .. }), "{error}");
    }
    data_dir.writer_ended().await;
    data_dir.idle().await;
    let error = data_dir.save_mutes("{}").await.unwrap_err();
    assert!(matches!(error, DataDirError::WriterEnded { .. }), "{error}");
}
