//! A full spool, a full file, a full disk: what is held is held, what is dropped is counted, and it heals.

use super::*;

fn row_size() -> u64 {
    super::super::row::row_bytes(&message(1, "0").message)
}

#[tokio::test]
async fn a_full_spool_holds_and_heals_when_rows_leave() {
    let mut folder = SpoolFolder::new();
    folder.settings.max_messages = 3;
    let spool = folder.open();
    spool.put(messages(1, 0..3)).await.unwrap();
    let refused = spool.put(messages(1, 3..4)).await;
    assert!(matches!(refused, Err(SpoolError::Full(_))), "{refused:?}");
    assert_eq!(spool.depth().messages, 3, "nothing was written");
    let taken = spool.take(topic(), vec![1], 1, usize::MAX).await.unwrap();
    spool.remove(topic(), keys(&taken.rows)).await.unwrap();
    spool.put(messages(1, 3..4)).await.unwrap();
    assert_eq!(texts(&spool.take_all(vec![1]).await.rows), ["1", "2", "3"]);
}

/// Nobody has to write to learn it.
#[tokio::test]
async fn who_asks_for_room_hears_of_the_limits() {
    let mut folder = SpoolFolder::new();
    folder.settings.max_messages = 40;
    let spool = folder.open();
    spool.put(messages(1, 0..39)).await.unwrap();
    let full = spool.room().await;
    assert!(matches!(full, Err(SpoolError::Full(_))), "room for one is too little: {full:?}");
    let taken = spool.take(topic(), vec![1], 1, usize::MAX).await.unwrap();
    spool.remove(topic(), keys(&taken.rows)).await.unwrap();
    assert_eq!(spool.room().await, Ok(()));
}

#[tokio::test]
async fn bytes_are_a_limit_too() {
    let mut folder = SpoolFolder::new();
    folder.settings.max_bytes = 3 * row_size();
    let spool = folder.open();
    spool.put(messages(1, 0..3)).await.unwrap();
    assert!(matches!(spool.put(messages(2, 0..1)).await, Err(SpoolError::Full(_))));
    assert_eq!(spool.depth().bytes, 3 * row_size());
}

/// One request beyond the limit does not fail its neighbours of the same commit.
#[tokio::test]
async fn in_a_group_only_what_does_not_fit_fails() {
    let mut folder = SpoolFolder::new();
    folder.settings.max_messages = 5;
    let spool = folder.open();
    let (small, large, last) = tokio::join!(
        spool.put(messages(1, 0..2)),
        spool.put(messages(2, 0..9)),
        spool.put(messages(3, 0..3)),
    );
    assert!(small.is_ok() && last.is_ok(), "{small:?} {last:?}");
    assert!(matches!(large, Err(SpoolError::Full(_))));
    assert_eq!(spool.depth().messages, 5);
}

/// Hazard 3: one topic does not take the whole spool.
#[tokio::test]
async fn a_topic_keeps_to_its_share_where_asked() {
    let mut folder = SpoolFolder::new();
    folder.settings.topic_bytes = 2 * row_size();
    let spool = folder.open();
    let put = |topic: &str, share| spool.append(Arc::from(topic), messages(1, 0..1), 0, share);
    put("room", true).await.unwrap();
    put("room", true).await.unwrap();
    assert_eq!(put("room", true).await, Err(SpoolError::TopicShare));
    put("command", true).await.unwrap();
    put("room", false).await.unwrap();
}

#[tokio::test]
async fn the_newest_is_dropped_where_the_user_chose_so() {
    let mut folder = SpoolFolder::new();
    folder.settings.max_messages = 3;
    folder.settings.when_full = WhenFull::DropNewest;
    let spool = folder.open();
    let appended = spool.put(messages(1, 0..5)).await.unwrap();
    assert!(matches!(
        appended.rows[..],
        [Row::Written(_), Row::Written(_), Row::Written(_), Row::Dropped, Row::Dropped]
    ));
    assert_eq!(texts(&spool.take_all(vec![1]).await.rows), ["0", "1", "2"]);
}

#[tokio::test]
async fn the_oldest_of_any_lane_gives_way_and_is_counted() {
    let mut folder = SpoolFolder::new();
    folder.settings.max_messages = 4;
    folder.settings.when_full = WhenFull::DropOldest;
    let spool = folder.open();
    for (slot, number) in [(1, 0), (2, 1), (1, 2), (2, 3)] {
        spool.put(messages(slot, number..number + 1)).await.unwrap();
        folder.clock.advance(Duration::from_millis(10));
    }
    let appended = spool.put(messages(3, 4..6)).await.unwrap();
    assert_eq!(appended.dropped_oldest, 2);
    assert_eq!(texts(&spool.take_all(vec![1]).await.rows), ["2"]);
    assert_eq!(texts(&spool.take_all(vec![2]).await.rows), ["3"]);
    assert_eq!(spool.depth().messages, 4);
    spool.close();
    assert_eq!(folder.open().depth().messages, 4);
}

/// A lent row is on its way to RocketMQ: dropping it would count it twice.
#[tokio::test]
async fn lent_rows_never_give_way() {
    let mut folder = SpoolFolder::new();
    folder.settings.max_messages = 4;
    folder.settings.when_full = WhenFull::DropOldest;
    let spool = folder.open();
    spool.put(messages(1, 0..1)).await.unwrap();
    spool.append(topic(), messages(1, 1..3), 1, false).await.unwrap();
    spool.put(messages(2, 3..4)).await.unwrap();
    let lent = spool.take(topic(), vec![1], 1, usize::MAX).await.unwrap();
    assert_eq!(texts(&lent.rows), ["0"]);

    assert_eq!(spool.put(messages(3, 4..6)).await.unwrap().dropped_oldest, 2);
    let refused = spool.put(messages(3, 6..9)).await;
    assert!(matches!(refused, Err(SpoolError::Full(_))), "only two rows are not lent: {refused:?}");
    spool.remove(topic(), keys(&lent.rows)).await.unwrap();
    assert_eq!(texts(&spool.take_all(vec![1, 2, 3]).await.rows), ["4", "5"]);
    assert_eq!(spool.depth().messages, 3, "the two that were taken, and the one in flight");
}

/// The file itself has no room: deletes still have, and make room for appends.
#[tokio::test]
async fn a_full_file_holds_keeps_what_it_has_and_heals() {
    let mut folder = SpoolFolder::new();
    folder.max_pages = Some(64);
    let spool = folder.open();
    let body = "x".repeat(3000);
    let mut written: usize = 0;
    let refused = loop {
        match spool.put(vec![message(1, &body)]).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, SpoolError::Full(_)), "{refused:?}");
    assert_eq!(spool.poisoned(), None);
    assert_eq!(spool.depth().messages, written as u64);
    let taken = spool.take(topic(), vec![1], written / 2, usize::MAX).await.unwrap();
    spool.remove(topic(), keys(&taken.rows)).await.unwrap();
    spool.put(vec![message(1, &body)]).await.unwrap();
    spool.close();
    let spool = folder.open();
    assert_eq!(spool.take_all(vec![1]).await.rows.len(), written - written / 2 + 1);
}

#[tokio::test]
async fn a_full_file_drops_the_oldest_where_the_user_chose_so() {
    let mut folder = SpoolFolder::new();
    folder.max_pages = Some(64);
    folder.settings.when_full = WhenFull::DropOldest;
    let spool = folder.open();
    let mut dropped = 0;
    for _ in 0..200 {
        let body = "x".repeat(3000);
        dropped += spool.put(vec![message(1, &body)]).await.unwrap().dropped_oldest;
    }
    assert!(dropped > 0);
    assert_eq!(spool.depth().messages + dropped, 200);
    assert_eq!(spool.take_all(vec![1]).await.rows.len() as u64 + dropped, 200);
}

#[tokio::test]
async fn too_little_free_disk_refuses_appends_but_not_removals() {
    let mut folder = SpoolFolder::new();
    let spool = folder.open();
    spool.put(messages(1, 0..2)).await.unwrap();
    spool.close();
    folder.settings.min_free_bytes = u64::MAX;
    let spool = folder.open();
    let Err(SpoolError::Full(reason)) = spool.put(messages(1, 2..3)).await else {
        panic!("taken in");
    };
    assert!(reason.contains("min_free_bytes"), "{reason}");
    let taken = spool.take_all(vec![1]).await;
    spool.remove(topic(), keys(&taken.rows)).await.unwrap();
    assert_eq!(spool.depth(), Depth::default());
    let still = spool.room().await;
    assert!(matches!(still, Err(SpoolError::Full(_))), "{still:?}");
}

/// Removals that find no room are tried again inside, until the rows are gone from the file.
#[tokio::test]
async fn a_removal_without_room_is_tried_again_by_itself() {
    let full = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let seen = full.clone();
    let mut folder = SpoolFolder::new();
    folder.before_commit = Some(Box::new(move || {
        if seen.load(std::sync::atomic::Ordering::SeqCst) {
            return Err(crate::storage::StorageError::Full("no space left on device".to_owned()));
        }
        Ok(())
    }));
    let spool = folder.open();
    spool.put(messages(1, 0..3)).await.unwrap();
    let taken = spool.take_all(vec![1]).await;
    full.store(true, std::sync::atomic::Ordering::SeqCst);
    spool.remove(topic(), keys(&taken.rows)).await.unwrap();
    assert_eq!(spool.depth().messages, 0, "their messages have ended");
    assert_eq!(rows_in_file(folder.path()), 3);
    assert!(matches!(spool.put(messages(1, 3..4)).await, Err(SpoolError::Full(_))));
    let still = spool.room().await;
    assert!(matches!(still, Err(SpoolError::Full(_))), "{still:?}");

    full.store(false, std::sync::atomic::Ordering::SeqCst);
    eventually("the rows leave the file", || rows_in_file(folder.path()) == 0).await;
    assert_eq!(spool.room().await, Ok(()));
    spool.put(messages(1, 3..4)).await.unwrap();
    assert_eq!(spool.poisoned(), None);
}

/// A file that found no room is tried with the least that can be written.
#[tokio::test]
async fn who_asks_for_room_hears_of_the_file_although_nothing_waits_to_be_written() {
    let full = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let seen = full.clone();
    let mut folder = SpoolFolder::new();
    folder.before_commit = Some(Box::new(move || match seen.load(std::sync::atomic::Ordering::SeqCst) {
        true => Err(crate::storage::StorageError::Full("no space left on device".to_owned())),
        false => Ok(()),
    }));
    let spool = folder.open();
    assert!(spool.put(messages(1, 0..1)).await.is_err());
    for _ in 0..2 {
        let still = spool.room().await;
        assert!(matches!(still, Err(SpoolError::Full(_))), "{still:?}");
    }
    full.store(false, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(spool.room().await, Ok(()));
}

fn rows_in_file(path: &Path) -> i64 {
    let connection = crate::spool::schema::file_at(path, None).open_read_only().unwrap();
    connection.query_row("SELECT count(*) FROM messages", [], |row| row.get(0)).unwrap()
}
