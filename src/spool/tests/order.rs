//! What comes back is what went in, in order, once.

use futures::FutureExt;

use super::*;
use crate::model::OutgoingProperties;

/// Hazard 11: a lane comes back strictly in the order of its appends, over takes, removals and restarts.
#[tokio::test]
async fn a_slot_comes_back_in_order_also_after_a_restart() {
    let mut folder = SpoolFolder::new();
    let spool = folder.open();
    spool.put(messages(7, 0..10)).await.unwrap();
    let first = spool.take(topic(), vec![7], 4, usize::MAX).await.unwrap();
    assert_eq!(texts(&first.rows), ["0", "1", "2", "3"]);
    spool.remove(topic(), keys(&first.rows)).await.unwrap();
    spool.put(messages(7, 10..12)).await.unwrap();
    spool.close();

    let (spool, report) = folder.open_with_report();
    assert_eq!(report.depth.messages, 8);
    assert_eq!(report.salvaged, None);
    let rest = spool.take_all(vec![7]).await;
    assert_eq!(texts(&rest.rows), ["4", "5", "6", "7", "8", "9", "10", "11"]);
    let numbers: Vec<u64> = rest.rows.iter().map(|(key, _)| key.number).collect();
    assert_eq!(numbers, (4..12).collect::<Vec<_>>());
    spool.remove(topic(), keys(&rest.rows)).await.unwrap();
    assert_eq!(spool.depth(), Depth::default());
}

#[tokio::test]
async fn a_message_comes_back_byte_for_byte() {
    let mut folder = SpoolFolder::new();
    let spool = folder.open();
    let mut odd = message(255, "nul \0, quotes \" ' and 中文");
    odd.kind = Kind::P2p;
    odd.message.body = Bytes::from((0..=255).collect::<Vec<u8>>());
    odd.message.properties = OutgoingProperties::new(odd.message.keys(), "%7C\0", 0);
    odd.message.properties.push("quote\"\\", "line\nend");
    let large = SpoolMessage {
        message: OutgoingMessage {
            body: Bytes::from(vec![9; 1 << 20]),
            properties: OutgoingProperties::new("key", "", 0),
        },
        ..odd.clone()
    };
    spool.put(vec![odd.clone(), large.clone()]).await.unwrap();
    let taken = spool.take_all(vec![255]).await;
    let back: Vec<SpoolMessage> = taken.rows.into_iter().map(|(_, message)| message).collect();
    assert!(back == [odd, large], "a message changed on its way");
}

#[tokio::test]
async fn numbers_are_never_given_again() {
    let mut folder = SpoolFolder::new();
    let spool = folder.open();
    spool.put(messages(1, 0..3)).await.unwrap();
    let taken = spool.take_all(vec![1]).await;
    spool.remove(topic(), keys(&taken.rows)).await.unwrap();
    spool.close();
    let spool = folder.open();
    let appended = spool.put(messages(1, 3..4)).await.unwrap();
    assert_eq!(appended.rows, [Row::Written(RowKey { slot: 1, number: 3 })]);
}

#[tokio::test]
async fn a_row_is_lent_once_and_a_restart_lends_it_again() {
    let mut folder = SpoolFolder::new();
    let spool = folder.open();
    spool.put(messages(1, 0..3)).await.unwrap();
    assert_eq!(spool.take_all(vec![1]).await.rows.len(), 3);
    assert_eq!(spool.take_all(vec![1]).await, Taken::default());
    assert_eq!(spool.depth().messages, 3, "lent rows are still in the spool");
    spool.close();
    assert_eq!(folder.open().take_all(vec![1]).await.rows.len(), 3);
}

/// Hazard 11: the batch in flight goes to the disk first, and stays with the one who sends it.
#[tokio::test]
async fn rows_that_are_lent_from_the_start_are_not_given_out() {
    let mut folder = SpoolFolder::new();
    let spool = folder.open();
    spool.put(messages(1, 0..2)).await.unwrap();
    let appended = spool.append(topic(), messages(1, 2..6), 2, false).await.unwrap();
    let taken = spool.take_all(vec![1]).await;
    assert_eq!(texts(&taken.rows), ["0", "1", "4", "5"]);
    let Row::Written(sent) = appended.rows[0] else {
        panic!("not written");
    };
    spool.remove(topic(), vec![sent]).await.unwrap();
    assert_eq!(spool.depth().messages, 5);
    assert!(!taken.more);
}

/// A take whose caller goes away before the answer is there lends nothing for ever.
#[tokio::test]
async fn rows_that_nobody_waits_for_are_lent_again() {
    let mut folder = SpoolFolder::new();
    let spool = folder.open();
    spool.put(messages(1, 0..3)).await.unwrap();
    {
        let _the_reader_waits = spool.shared.lending();
        let gone = spool.take(topic(), vec![1], 2, usize::MAX).now_or_never();
        assert_eq!(gone, None, "asked, and not waited for");
    }
    assert_eq!(texts(&spool.take_all(vec![1]).await.rows), ["0", "1", "2"]);
}

/// The same when the answer is there already and nobody has fetched it.
#[tokio::test]
async fn rows_that_nobody_received_are_lent_again() {
    let mut folder = SpoolFolder::new();
    let spool = folder.open();
    spool.put(messages(1, 0..3)).await.unwrap();
    let mut gone = spool.take(topic(), vec![1], 2, usize::MAX);
    {
        let _the_reader_waits = spool.shared.lending();
        assert_eq!((&mut gone).now_or_never(), None, "asked, and not waited for");
    }
    let behind = spool.take_all(vec![1]).await;
    assert_eq!(texts(&behind.rows), ["2"], "answers come in order, so the first is there");
    drop(gone);
    assert_eq!(texts(&spool.take_all(vec![1]).await.rows), ["0", "1"]);
}

#[tokio::test]
async fn a_take_keeps_its_limits_and_serves_all_slots() {
    let mut folder = SpoolFolder::new();
    let spool = folder.open();
    spool.put(messages(1, 0..100)).await.unwrap();
    spool.put(messages(2, 0..3)).await.unwrap();
    let taken = spool.take(topic(), vec![1, 2, 3], 10, usize::MAX).await.unwrap();
    assert_eq!(taken.rows.len(), 10);
    assert!(taken.more);
    let taken = spool.take(topic(), vec![1, 2, 3], 10, usize::MAX).await.unwrap();
    assert_eq!(texts(&taken.rows[..3]), ["0", "1", "2"], "slot 2 waits for no hundred");
    assert_eq!(taken.rows[0].0.slot, 2);
    assert_eq!(taken.rows.len(), 10);

    let one = spool.take(topic(), vec![1], 10, 1).await.unwrap();
    assert_eq!(one.rows.len(), 1, "at least one");
    let size = one.rows[0].1.message.encoded_bytes();
    let two = spool.take(topic(), vec![1], 10, 2 * size + size / 2).await.unwrap();
    assert_eq!(two.rows.len(), 2);
}

#[tokio::test]
async fn another_topic_is_another_lane() {
    let mut folder = SpoolFolder::new();
    let spool = folder.open();
    spool.put(messages(1, 0..1)).await.unwrap();
    let other: Arc<str> = Arc::from("command");
    spool.append(other.clone(), messages(1, 5..6), 0, false).await.unwrap();
    let lanes = spool.lanes().await.unwrap();
    assert_eq!(lanes.len(), 2);
    assert_eq!(texts(&spool.take_all(vec![1]).await.rows), ["0"]);
    let taken = spool.take(other, vec![1], 9, usize::MAX).await.unwrap();
    assert_eq!(texts(&taken.rows), ["5"]);
}

#[tokio::test]
async fn the_newest_rows_are_shown_lent_or_not() {
    let mut folder = SpoolFolder::new();
    let spool = folder.open();
    spool.put(messages(1, 0..6)).await.unwrap();
    spool.take(topic(), vec![1], 5, usize::MAX).await.unwrap();
    let lane = LaneKey { topic: topic(), slot: 1 };
    let newest = spool.newest(lane.clone(), None, 2).await.unwrap();
    assert_eq!(texts(&newest), ["5", "4"]);
    let older = spool.newest(lane, Some(4), 10).await.unwrap();
    assert_eq!(texts(&older), ["3", "2", "1", "0"]);
}

/// Hazard 12: a wall clock a day ahead, or set back, deletes nothing; time in which the spool runs does.
#[tokio::test]
async fn a_wall_clock_that_jumps_deletes_nothing() {
    let mut folder = SpoolFolder::new();
    folder.settings.max_age = Some(Duration::from_secs(3600));
    let spool = folder.open();
    spool.put(messages(1, 0..2)).await.unwrap();
    folder.clock.set_wall_ms(1_700_000_000_000 + 86_400_000);
    let taken = spool.take_all(vec![1]).await;
    assert_eq!((taken.rows.len(), taken.expired), (2, 0));
    spool.close();

    folder.clock.set_wall_ms(0);
    let spool = folder.open();
    folder.clock.advance(Duration::from_secs(3000));
    spool.put(messages(2, 0..1)).await.unwrap();
    spool.close();
    // A later process goes on with the age that the file remembers.
    let spool = folder.open();
    folder.clock.advance(Duration::from_secs(700));
    let taken = spool.take_all(vec![1, 2]).await;
    assert_eq!((texts(&taken.rows), taken.expired), (vec!["0".to_owned()], 2));
    assert_eq!(spool.depth().messages, 1);
    spool.close();
    assert_eq!(folder.open().depth().messages, 1);
}
