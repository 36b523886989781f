//! A mute while the disk does not answer.

use super::*;
use crate::data_dir::gate::WriteGate;

fn in_queue(id: i32, mut item: Item) -> Item {
    item.place.queue.id = id;
    item
}

#[tokio::test]
async fn while_the_disk_stands_still_a_mute_waits_with_what_is_behind_it_and_other_rooms_go_on() {
    // Given a disk that does not answer, and a mute in room 1
    let mut story = Story::new();
    let gate = WriteGate::default();
    let mut running = story.start_on(gate.open_data_dir(story.folder.path()));
    gate.shut();
    let command = format!(r#"{{"type":"shutUp","peer":"{STUDENT}","roomId":"1"}}"#);
    let mute = in_queue(1, story.sent(TEACHER, "command", &command));
    let mute_all = format!(r#"{{"type":"shutUp","peer":"{STUDENT}"}}"#);
    let mute_all = in_queue(3, story.sent(TEACHER, "command", &mute_all));
    story.clock.advance(Duration::from_secs(1));
    let behind = in_queue(1, story.sent(STUDENT, "message", &chat("1", "behind the mute")));
    let elsewhere = in_queue(2, story.sent(STUDENT, "message", &chat("2", "in another queue")));
    for item in [mute, mute_all, behind, elsewhere] {
        running.items.send(item).await.unwrap();
    }

    // Then the other room goes on by the mutes on the disk, and nobody hears of the new mute
    let made = running.made().await;
    assert_eq!(made.bound.message.tag(), "message/2");
    running.rests().await;
    let room = || RoomId::parse("1").unwrap();
    assert_eq!(running.handle.mutes(room()).await.unwrap(), []);
    assert!(!story.folder.path().join("mutes.json").exists());

    // When the disk answers, then the mutes are delivered, and the line behind them is refused
    gate.open();
    let mut tags = Vec::new();
    for _ in 0..6 {
        let made = running.made().await;
        let reason = body(&made)["reason"].as_str().map(str::to_owned);
        tags.push((made.bound.message.tag().to_owned(), reason));
    }
    let p2p = format!("p2p/{STUDENT}");
    let refused = tags.iter().position(|(tag, reason)| *tag == p2p && reason.as_deref() == Some("muted"));
    let muted = tags.iter().position(|(tag, reason)| *tag == p2p && reason.is_none());
    assert!(muted.unwrap() < refused.unwrap(), "{tags:?}");
    assert_eq!(running.handle.mutes(room()).await.unwrap().len(), 2);
    let written = std::fs::read_to_string(story.folder.path().join("mutes.json")).unwrap();
    assert_eq!(written.matches("sourceId").count(), 2, "{written}");
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_mute_that_the_disk_does_not_take() {
    let mut story = Story::new();
    let gate = WriteGate::default();
    let running = story.start_on(gate.open_data_dir(story.folder.path()));
    gate.shut();
    let command = format!(r#"{{"type":"shutUp","peer":"{STUDENT}","roomId":"1"}}"#);
    running.items.send(story.sent(TEACHER, "command", &command)).await.unwrap();
    tokio::time::timeout(Duration::from_secs(5), running.die()).await.unwrap();
    gate.open();
}
