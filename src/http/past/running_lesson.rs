//! How far back the pages of a class see: students see the running lesson.
//!
//! Where the lesson began is known from the index. While there is no index, everything that RocketMQ keeps is shown, as it always was.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::index::{Index, IndexError, LessonSpan};

/// No lesson is longer.
const LESSON_MS: u64 = 24 * 3_600_000;
/// A whole class joins at once, and the begin of its lesson stays where it is.
const KNOWN_FOR: Duration = Duration::from_secs(5);
/// More rooms than begin a lesson in that time.
const KNOWN_ROOMS: usize = 1000;

/// Finds where the running lesson of a room began.
pub(crate) struct RunningLesson {
    /// The folder of the index.
    folder: PathBuf,
    gap: Duration,
    /// While one asks, those who ask after the same lesson wait for the answer.
    known: Mutex<HashMap<String, (Instant, Option<u64>)>>,
}

impl RunningLesson {
    /// `gap`: a longer silence ends a lesson.
    pub(crate) fn new(folder: PathBuf, gap: Duration) -> Self {
        Self { folder, gap, known: Mutex::default() }
    }

    /// Nothing that was said before this time is of the running lesson, milliseconds since 1970-01-01 UTC. `None`: there is no index, so
    /// nobody knows.
    pub(in crate::http) async fn begin_ms(&self, room: &str, now_ms: u64) -> Option<u64> {
        let mut known = self.known.lock().await;
        if let Some((asked, begin_ms)) = known.get(room)
            && asked.elapsed() < KNOWN_FOR
        {
            return *begin_ms;
        }
        let gap_ms = self.gap.as_millis() as u64;
        let begin_ms = self.ask(room.to_owned(), gap_ms, now_ms).await.unwrap_or_else(|error| {
            // A lesson of yesterday must not be shown because a file is damaged.
            tracing::warn!(%error, room, "where the lesson began is not known; its pages get what was said in the last lesson_gap_s");
            Some(now_ms.saturating_sub(gap_ms))
        });
        if known.len() >= KNOWN_ROOMS {
            known.clear();
        }
        known.insert(room.to_owned(), (Instant::now(), begin_ms));
        begin_ms
    }

    async fn ask(&self, room: String, gap_ms: u64, now_ms: u64) -> Result<Option<u64>, String> {
        let folder = self.folder.clone();
        let asked = tokio::task::spawn_blocking(move || {
            let since_ms = now_ms.saturating_sub(LESSON_MS);
            let Some(index) = Index::open(&folder)? else { return Ok(None) };
            let lessons = index.lessons(&room, gap_ms, Some(since_ms))?;
            Ok(Some(begin_of(lessons.last(), gap_ms, now_ms).unwrap_or(since_ms)))
        });
        let answer: Result<Result<_, IndexError>, _> = asked.await;
        answer.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
    }
}

/// If the last lesson is over, what comes after it is of a new one, which the index may not know yet.
fn begin_of(last: Option<&LessonSpan>, gap_ms: u64, now_ms: u64) -> Option<u64> {
    let last = last?;
    let is_running = !last.is_ended_by_mark && now_ms.saturating_sub(last.end_ms) <= gap_ms;
    Some(if is_running { last.begin_ms } else { last.end_ms.saturating_add(1) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::{IndexWriter, NewRow};
    use crate::model::{Kind, QueueName};
    use crate::piece::Place;

    const GAP: Duration = Duration::from_secs(1800);
    const NOW_MS: u64 = 1_795_168_800_000;
    const MINUTE_MS: u64 = 60_000;

    /// An index of lines of room 7 that were said so many minutes ago.
    fn said(minutes_ago: &[u64]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let mut index = IndexWriter::open(folder.path(), 0).unwrap();
        let queue = QueueName { broker: "a".into(), id: 0 };
        let place = Place { topic: "room".to_owned(), queue, generation: 0 };
        for (offset, minutes) in minutes_ago.iter().enumerate() {
            let at_ms = NOW_MS - minutes * MINUTE_MS;
            let row = NewRow {
                place: &place,
                offset: offset as u64,
                name: "name",
                at_ms,
                eff_ms: at_ms,
                rooms: &["7"],
                client_id: Some("anna"),
                kind: Kind::Message,
                id: None,
                text: Some("hello"),
                is_line: true,
                mark: None,
            };
            index.add(&row).unwrap();
        }
        index.commit().unwrap();
        folder
    }

    async fn begin_minutes_ago(minutes_ago: &[u64], room: &str) -> f64 {
        let folder = said(minutes_ago);
        let lesson = RunningLesson::new(folder.path().to_owned(), GAP);
        let begin_ms = lesson.begin_ms(room, NOW_MS).await.unwrap();
        (NOW_MS - begin_ms) as f64 / MINUTE_MS as f64
    }

    #[tokio::test]
    async fn a_lesson_that_runs_is_seen_from_its_begin_and_one_that_is_over_is_not() {
        assert_eq!(begin_minutes_ago(&[200, 90, 70, 50, 20], "7").await, 90.0);
        let over = begin_minutes_ago(&[90, 70, 31], "7").await;
        assert!((30.9..31.0).contains(&over), "what comes behind it is seen: {over}");
        assert_eq!(begin_minutes_ago(&[20], "another").await, 24.0 * 60.0);
    }

    #[tokio::test]
    async fn without_an_index_nobody_knows_and_with_a_damaged_one_little_is_seen() {
        let empty = tempfile::tempdir().unwrap();
        let lesson = |folder: &std::path::Path| RunningLesson::new(folder.to_owned(), GAP);
        assert_eq!(lesson(empty.path()).begin_ms("7", NOW_MS).await, None);
        let folder = said(&[90, 70, 50, 20]);
        for file in std::fs::read_dir(folder.path()).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "sqlite3") {
                std::fs::write(path, vec![b'x'; 8192]).unwrap();
            }
        }
        assert_eq!(lesson(folder.path()).begin_ms("7", NOW_MS).await, Some(NOW_MS - 30 * MINUTE_MS));
    }
}
