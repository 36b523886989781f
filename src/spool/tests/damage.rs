//! Damaged files: what is readable comes back, what is not is counted, nothing panics and nothing refuses to start.

use std::collections::BTreeMap;
use std::fs;

use proptest::prelude::*;
use rusqlite::Connection;

use super::*;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
}

/// What a power cut leaves: the files as they are while the spool is open.
fn crash_image(folder: &SpoolFolder, name: &str) -> SpoolFolder {
    let mut image = SpoolFolder::new();
    image.settings = SpoolSettings { path: image.beside(name), ..folder.settings.clone() };
    for suffix in ["", "-wal"] {
        let from = crate::storage::beside(folder.path(), suffix);
        fs::copy(from, crate::storage::beside(image.path(), suffix)).unwrap();
    }
    image
}

#[tokio::test]
async fn nothing_that_was_acknowledged_is_missing_after_a_crash() {
    let mut folder = SpoolFolder::new();
    let spool = folder.open();
    for slot in 0..8 {
        spool.put(messages(slot, 0..50)).await.unwrap();
        let mut image = crash_image(&folder, "image");
        let (after, report) = image.open_with_report();
        assert_eq!(report.depth.messages, 50 * (u64::from(slot) + 1));
        let taken = after.take_all(vec![slot]).await;
        assert_eq!(taken.rows.len(), 50);
        assert_eq!(taken.rows[49].1, message(slot, "49"));
    }
}

fn in_file(folder: &SpoolFolder, sql: &str) -> usize {
    Connection::open(folder.path()).unwrap().execute(sql, []).unwrap()
}

/// Hazard 13: one damaged row is set aside; its neighbours are sent.
#[tokio::test]
async fn a_row_with_other_bytes_is_set_aside_and_counted() {
    let mut folder = SpoolFolder::new();
    let spool = folder.open();
    spool.put(messages(1, 0..5)).await.unwrap();
    assert_eq!(in_file(&folder, "UPDATE messages SET body = x'66' WHERE number = 2"), 1);
    assert_eq!(in_file(&folder, "UPDATE messages SET tag = 17 WHERE number = 3"), 1);
    let taken = spool.take_all(vec![1]).await;
    assert_eq!(texts(&taken.rows), ["0", "1", "4"]);
    assert_eq!(taken.damaged, 2);
    assert_eq!(spool.depth().messages, 3);
    spool.remove(topic(), keys(&taken.rows)).await.unwrap();
    spool.close();
    let kept = "SELECT count(*) FROM damaged";
    let kept: i64 = Connection::open(folder.path()).unwrap().query_row(kept, [], |row| row.get(0)).unwrap();
    assert_eq!(kept, 2);
    assert_eq!(folder.open().depth(), Depth::default());
}

/// Rows that an operator deleted with `sqlite3` do not stay in the depth for ever.
#[tokio::test]
async fn rows_that_are_gone_are_counted_out() {
    let mut folder = SpoolFolder::new();
    let spool = folder.open();
    spool.put(messages(1, 0..5)).await.unwrap();
    in_file(&folder, "DELETE FROM messages WHERE number IN (1, 4)");
    let taken = spool.take_all(vec![1]).await;
    assert_eq!((texts(&taken.rows).join(""), taken.damaged), ("023".to_owned(), 2));
    assert_eq!(spool.depth().messages, 3);
}

#[tokio::test]
async fn a_file_that_is_no_database_is_set_aside() {
    let mut folder = SpoolFolder::new();
    fs::write(folder.path(), "this is not a database, but it is long enough to be read as one".repeat(99))
        .unwrap();
    let (spool, report) = folder.open_with_report();
    let salvage = report.salvaged.unwrap();
    assert_eq!((salvage.rows, salvage.missing), (0, None));
    assert_eq!(salvage.set_aside, folder.beside("spool.sqlite3.corrupt-1"));
    assert!(salvage.set_aside.exists());
    spool.put(messages(1, 0..1)).await.unwrap();
    spool.close();
    assert_eq!(folder.open_with_report().1.salvaged, None);
}

#[tokio::test]
async fn a_salvage_that_was_cut_off_is_finished_or_begun_anew() {
    let mut folder = SpoolFolder::new();
    let spool = folder.open();
    spool.put(messages(1, 0..5)).await.unwrap();
    spool.close();
    // Cut off while it copied: the damaged file is still in its folder.
    fs::write(folder.beside("spool.sqlite3.salvage"), "half").unwrap();
    let (spool, report) = folder.open_with_report();
    assert_eq!(report.depth.messages, 5);
    assert!(!folder.beside("spool.sqlite3.salvage").exists());
    spool.close();
    // Cut off before the last rename.
    fs::rename(folder.path(), folder.beside("spool.sqlite3.salvage")).unwrap();
    assert_eq!(folder.open_with_report().1.depth.messages, 5);
}

struct ClosedSpool {
    folder: SpoolFolder,
    by_slot: BTreeMap<u8, Vec<SpoolMessage>>,
    total: u64,
}

fn written_and_closed() -> ClosedSpool {
    let mut folder = SpoolFolder::new();
    let mut by_slot: BTreeMap<u8, Vec<SpoolMessage>> = BTreeMap::new();
    runtime().block_on(async {
        let spool = folder.open();
        for round in 0..20 {
            for slot in 0..6 {
                let body = "b".repeat(usize::from(slot) * 700 + 10);
                let batch: Vec<_> = (0..4).map(|n| message(slot, &format!("{round}-{n}-{body}"))).collect();
                spool.put(batch.clone()).await.unwrap();
                by_slot.entry(slot).or_default().extend(batch);
            }
        }
        spool.close();
    });
    let total = by_slot.values().map(|messages| messages.len() as u64).sum();
    ClosedSpool { folder, by_slot, total }
}

/// Opens a damaged file, drains it, and checks what came against what was written.
fn drain_and_check(written: &ClosedSpool, mut folder: SpoolFolder, missing_is_known: bool) {
    runtime().block_on(async {
        let (spool, report) = folder.open_with_report();
        let mut damaged = 0;
        let mut readable = 0;
        for (slot, expected) in &written.by_slot {
            let mut expected = expected.iter();
            loop {
                let taken = spool.take(topic(), vec![*slot], 50, usize::MAX).await.unwrap();
                damaged += taken.damaged;
                for (_, message) in &taken.rows {
                    assert!(expected.any(|other| other == message), "not written, or out of order");
                    readable += 1;
                }
                if !taken.more && taken.rows.is_empty() {
                    break;
                }
            }
        }
        assert!(readable + damaged <= written.total);
        let missing = report.salvaged.map_or(Some(0), |salvage| salvage.missing);
        if let (true, Some(missing)) = (missing_is_known, missing) {
            assert_eq!(readable + missing + damaged, written.total);
        }
        assert_eq!(spool.depth().messages, readable, "what is lent is what is left");
        spool.close();
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Hazard 13: a file cut off anywhere gives back what is readable and counts the rest.
    #[test]
    fn a_file_cut_off_anywhere_loses_only_what_is_cut_off(cut in 0.0_f64..1.0) {
        let written = written_and_closed();
        let image = SpoolFolder::new();
        let mut bytes = fs::read(written.folder.path()).unwrap();
        bytes.truncate((bytes.len() as f64 * cut) as usize);
        fs::write(image.path(), &bytes).unwrap();
        // An empty file cannot be told from a new one.
        drain_and_check(&written, image, !bytes.is_empty());
    }

    /// Hazard 13: pages full of rubbish, at a start or met later.
    #[test]
    fn overwritten_places_lose_only_what_was_there(places in prop::collection::vec((0.0_f64..1.0, 1_usize..6000), 1..4)) {
        let written = written_and_closed();
        let image = SpoolFolder::new();
        let mut bytes = fs::read(written.folder.path()).unwrap();
        for (at, length) in places {
            let from = (bytes.len() as f64 * at) as usize;
            let to = (from + length).min(bytes.len());
            bytes[from..to].fill(0xA7);
        }
        fs::write(image.path(), &bytes).unwrap();
        drain_and_check(&written, image, false);
    }

    /// A log cut off anywhere: each lane keeps a beginning of what was written.
    #[test]
    fn a_log_cut_off_anywhere_loses_only_its_end(cut in 0.0_f64..1.0) {
        let mut folder = SpoolFolder::new();
        let image = runtime().block_on(async {
            let spool = folder.open();
            for round in 0..10 {
                spool.put(messages(1, round * 10..round * 10 + 10)).await.unwrap();
            }
            let image = crash_image(&folder, "image");
            spool.close();
            image
        });
        let log = crate::storage::beside(image.path(), "-wal");
        let mut bytes = fs::read(&log).unwrap();
        bytes.truncate((bytes.len() as f64 * cut) as usize);
        fs::write(&log, &bytes).unwrap();
        let mut image = image;
        runtime().block_on(async {
            let spool = image.open();
            let taken = spool.take_all(vec![1]).await;
            let expected: Vec<String> = (0..taken.rows.len()).map(|number| number.to_string()).collect();
            assert_eq!(texts(&taken.rows), expected);
            assert_eq!(taken.damaged, 0);
            spool.close();
        });
    }
}
