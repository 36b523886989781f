//! An I/O or fsync error that is no lack of room: nothing more is taken in, what is readable is still sent.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::storage::StorageError;

fn breakable(folder: &mut SpoolFolder) -> Arc<AtomicBool> {
    let broken = Arc::new(AtomicBool::new(false));
    let seen = broken.clone();
    folder.before_commit = Some(Box::new(move || {
        if seen.load(Ordering::SeqCst) {
            return Err(StorageError::Io("fsync: input/output error".to_owned()));
        }
        Ok(())
    }));
    broken
}

/// Hazard 13: after an fsync error nothing is acknowledged any more, and what is in the file is drained.
#[tokio::test]
async fn a_failed_fsync_stops_the_intake_but_not_the_drain() {
    let mut folder = SpoolFolder::new();
    let broken = breakable(&mut folder);
    let spool = folder.open();
    spool.put(messages(1, 0..3)).await.unwrap();
    broken.store(true, Ordering::SeqCst);
    let refused = spool.put(messages(1, 3..4)).await;
    assert!(matches!(refused, Err(SpoolError::Poisoned(_))), "{refused:?}");
    assert!(spool.poisoned().unwrap().contains("fsync"));

    // The disk works again, but what it lost meanwhile is not known.
    broken.store(false, Ordering::SeqCst);
    assert!(matches!(spool.put(messages(1, 3..4)).await, Err(SpoolError::Poisoned(_))));
    let taken = spool.take_all(vec![1]).await;
    assert_eq!(texts(&taken.rows), ["0", "1", "2"]);
    spool.remove(topic(), keys(&taken.rows)).await.unwrap();
    assert_eq!(spool.depth(), Depth::default());
    assert_eq!(spool.take_all(vec![1]).await, Taken::default());
    spool.close();

    let (spool, report) = folder.open_with_report();
    assert_eq!(report.depth.messages, 3, "removed in memory only: they are sent once more");
    assert_eq!(spool.poisoned(), None);
    spool.put(messages(1, 3..4)).await.unwrap();
}

#[tokio::test]
async fn all_of_a_group_are_refused_when_its_commit_fails() {
    let mut folder = SpoolFolder::new();
    let broken = breakable(&mut folder);
    let spool = folder.open();
    broken.store(true, Ordering::SeqCst);
    let (one, two) = tokio::join!(spool.put(messages(1, 0..1)), spool.put(messages(2, 0..1)));
    assert!(matches!(one, Err(SpoolError::Poisoned(_))));
    assert!(matches!(two, Err(SpoolError::Poisoned(_))));
    assert_eq!(spool.depth(), Depth::default());
}

/// Hazard 13: the deadline answered that nothing is written, so the messages are sent from memory. That the disk took
/// them after all is the next process's business: copies with the same ids.
#[tokio::test]
async fn what_a_hung_disk_takes_after_the_deadline_is_no_row_of_this_process() {
    let mut folder = SpoolFolder::new();
    let (release, hung) = std::sync::mpsc::channel::<()>();
    let (enter, entered) = std::sync::mpsc::channel();
    folder.before_commit = Some(Box::new(move || {
        let _ = enter.send(());
        let _ = hung.recv();
        Ok(())
    }));
    let spool = folder.open();
    let mut put = spool.append(topic(), messages(1, 0..3), 0, false);
    assert!(futures::poll!(&mut put).is_pending());
    entered.recv().unwrap();
    // A paused clock jumps to the deadline, because nothing else moves.
    tokio::time::pause();
    let refused = put.await;
    assert!(matches!(refused, Err(SpoolError::Poisoned(_))), "{refused:?}");

    tokio::time::resume();
    drop(release);
    spool.remove(topic(), Vec::new()).await.unwrap();
    assert_eq!(spool.depth(), Depth::default());
    assert_eq!(spool.take_all(vec![1]).await, Taken::default());
    spool.close();

    let (_spool, report) = folder.open_with_report();
    assert_eq!(report.depth.messages, 3);
}
