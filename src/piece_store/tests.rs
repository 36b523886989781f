use super::double::{Fate, Objects, Question};
use super::*;

use std::sync::atomic::{AtomicU64, Ordering};

use futures::FutureExt;

use crate::model::{LostCause, QueueName};
use crate::piece::{Lost, PieceWriter, Place};

fn place() -> Place {
    Place { topic: "room%1".to_owned(), queue: QueueName { broker: "broker.a".into(), id: 3 }, generation: 0 }
}

fn empty_piece(from: u64, store_ms: u64) -> Bytes {
    PieceWriter::new(place(), from, store_ms).finish(from).unwrap().1.into()
}

fn key(from: u64) -> PieceKey {
    PieceKey::new(place(), 0, from, 0)
}

#[tokio::test]
async fn of_two_who_create_one_piece_one_wins_and_both_know() {
    let folder = tempfile::tempdir().unwrap();
    let local = PieceStore::in_folder(&folder.path().join("archive")).unwrap();
    for store in [local, PieceStore::in_memory()] {
        assert_eq!(store.create(&key(7), empty_piece(7, 1)).await.unwrap(), Created::Ours);
        // A retry whose first answer was lost.
        assert_eq!(store.create(&key(7), empty_piece(7, 1)).await.unwrap(), Created::Ours);
        assert_eq!(store.create(&key(7), empty_piece(7, 2)).await.unwrap(), Created::Another);
        assert_eq!(store.whole(&key(7)).await.unwrap(), empty_piece(7, 1));
    }
}

/// RocketMQ keeps what the archive does not take; the spool has nobody behind it.
#[tokio::test]
async fn pieces_leave_room_for_the_spool_on_a_disk_that_they_share() {
    let (archive, data_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = || PieceStore::in_folder(archive.path()).unwrap();
    let all = free_bytes(archive.path()).unwrap();
    let full = store().leaving_free(2 * all, data_dir.path()).create(&key(7), empty_piece(7, 1)).await;
    let Err(StoreError::NoRoom { least, .. }) = full else { panic!("{full:?}") };
    assert_eq!(least, 2 * all);
    // With room, or on another disk, it is written.
    let roomy = store().leaving_free(all / 100, data_dir.path());
    assert_eq!(roomy.create(&key(7), empty_piece(7, 1)).await.unwrap(), Created::Ours);
    let elsewhere = store().leaving_free(2 * all, FilePath::new("/proc"));
    assert_eq!(elsewhere.create(&key(8), empty_piece(8, 1)).await.unwrap(), Created::Ours);
}

#[tokio::test]
async fn pieces_are_listed_in_order_and_strangers_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let store = PieceStore::in_folder(folder.path()).unwrap();
    for from in [100, 9, 10] {
        store.create(&key(from), empty_piece(from, 0)).await.unwrap();
    }
    fs::write(PathBuf::from(store.address(&key(9))).with_file_name("notes.txt"), "mine").unwrap();
    let listed = store.pieces("room%1").await.unwrap();
    assert_eq!(listed.iter().map(|piece| piece.key.from).collect::<Vec<_>>(), [9, 10, 100]);
    assert_eq!(store.all_pieces().await.unwrap(), listed);
    assert!(store.pieces("room").await.unwrap().is_empty());
    let directory = store.directory(&listed[1]).await.unwrap();
    assert_eq!((directory.from, directory.place()), (10, place()));
}

#[tokio::test]
async fn claims_are_numbered_and_are_no_pieces() {
    let folder = tempfile::tempdir().unwrap();
    let local = PieceStore::in_folder(folder.path()).unwrap();
    let Place { topic, queue, .. } = place();
    for store in [local.clone(), PieceStore::in_memory()] {
        assert_eq!(store.claims(&topic, &queue).await.unwrap(), 0);
        assert_eq!(store.claim(0, &key(7)).await.unwrap(), Created::Ours);
        assert_eq!(store.claim(0, &key(8)).await.unwrap(), Created::Another);
        assert_eq!(store.claim(1, &key(8)).await.unwrap(), Created::Ours);
        assert_eq!(store.claims(&topic, &queue).await.unwrap(), 2);
        assert_eq!(store.claimed(&topic, &queue, 0).await.unwrap(), key(7));
        let another = QueueName { id: 4, ..queue.clone() };
        assert_eq!(store.claims(&topic, &another).await.unwrap(), 0);
        assert!(store.all_pieces().await.unwrap().is_empty());
    }
    // Somebody has changed one.
    let claim = folder.path().join("v1/topic=room.251/claims/q=broker.2ea.3/00000001.json");
    fs::write(&claim, r#"{"piece":"v1/nothing"}"#).unwrap();
    let error = local.claimed(&topic, &queue, 1).await.unwrap_err().to_string();
    assert!(error.contains("00000001.json") && error.contains("names no piece"), "{error}");
}

#[tokio::test]
async fn a_damaged_piece_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let store = PieceStore::in_folder(folder.path()).unwrap();
    store.create(&key(9), empty_piece(9, 0)).await.unwrap();
    fs::write(PathBuf::from(store.address(&key(9))), "no piece at all, but long enough for a tail").unwrap();
    let listed = store.pieces("room%1").await.unwrap();
    let error = store.directory(&listed[0]).await.unwrap_err().to_string();
    assert!(error.contains(&key(9).to_string()) && error.contains("archive verify"), "{error}");
    assert!(matches!(store.verify(&key(9)).await, Err(StoreError::Damaged { .. })));
    assert!(matches!(store.verify(&key(8)).await, Err(StoreError::Missing { .. })));
}

/// A history looks at many directories, and waits for each.
#[tokio::test]
async fn one_question_brings_a_directory_and_two_a_long_one() {
    let (objects, questions) = (Objects::default(), Arc::new(AtomicU64::new(0)));
    let counted = questions.clone();
    let store = objects.through(Arc::new(move |question| {
        counted.fetch_add(u64::from(matches!(question, Question::Get(_))), Ordering::Relaxed);
        async { Fate::Answered }.boxed()
    }));
    for (first, ranges, expected) in [(0, 1, 1), (1_000_000, 20_000, 2)] {
        let (mut writer, mut next) = (PieceWriter::new(place(), first, 0), first);
        for number in 0..ranges {
            let to = next + 1 + number * 7919 % 1000;
            writer.lose(Lost { from: next, to, cause: LostCause::Deleted });
            next = to;
        }
        let (written, piece) = writer.finish(next).unwrap();
        store.create(&key(first), piece.into()).await.unwrap();
        let listed = store.pieces("room%1").await.unwrap();
        questions.store(0, Ordering::Relaxed);
        assert_eq!(store.directory(listed.last().unwrap()).await.unwrap(), written);
        assert_eq!(questions.load(Ordering::Relaxed), expected);
    }
}

/// A put of S3 that is told 409 was not stored; one whose answer was lost was, and its retry is told 412.
#[tokio::test(start_paused = true)]
async fn a_creation_that_was_in_doubt_ends_as_what_is_there() {
    use super::double::{Fate, Objects, puts};
    for (fates, wanted) in [
        (vec![Fate::Conflict, Fate::Conflict], true),
        (vec![Fate::Conflict; 9], false),
        (vec![Fate::Refused], false),
        (vec![Fate::AnswerLost], false),
        (vec![Fate::Slow(DEADLINE * 2)], false),
    ] {
        let objects = Objects::default();
        let created = objects.through(puts(fates.clone())).create(&key(7), empty_piece(7, 1)).await;
        assert_eq!(matches!(created, Ok(Created::Ours)), wanted, "{fates:?}: {created:?}");
        // The next attempt.
        assert_eq!(objects.plain().create(&key(7), empty_piece(7, 1)).await.unwrap(), Created::Ours);
        assert_eq!(objects.plain().create(&key(7), empty_piece(7, 2)).await.unwrap(), Created::Another);
    }
}

#[tokio::test]
async fn what_a_killed_process_left_is_removed_when_it_is_a_day_old() {
    let folder = tempfile::tempdir().unwrap();
    let store = PieceStore::in_folder(folder.path()).unwrap();
    store.create(&key(9), empty_piece(9, 0)).await.unwrap();
    let piece = PathBuf::from(store.address(&key(9)));
    let left = piece.with_file_name("00000000000000000010.0000.jsonl.zst#1");
    let mine = piece.with_file_name("notes#1");
    for file in [&left, &mine] {
        fs::write(file, "half").unwrap();
    }
    assert_eq!(store.remove_leftovers().await.unwrap(), 0);
    assert!(left.exists());
    let later = std::time::SystemTime::now() + Duration::from_secs(25 * 3600);
    assert_eq!(super::leftovers::remove_in(folder.path(), later).unwrap(), 1);
    assert!(!left.exists() && mine.exists() && piece.exists());
}

#[tokio::test]
async fn a_piece_that_is_gone_is_removed_without_a_word() {
    let folder = tempfile::tempdir().unwrap();
    for store in [PieceStore::in_folder(folder.path()).unwrap(), PieceStore::in_memory()] {
        store.create(&key(9), empty_piece(9, 0)).await.unwrap();
        store.remove(&key(9)).await.unwrap();
        store.remove(&key(9)).await.unwrap();
        assert!(store.all_pieces().await.unwrap().is_empty());
    }
}
