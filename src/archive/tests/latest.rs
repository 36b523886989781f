//! The newest messages, page by page.

use proptest::prelude::*;

use super::*;
use crate::archive::latest as look;

const NOON_MS: u64 = 1_795_514_400_000;
const HOUR_MS: u64 = 3_600_000;

fn asked(limit: usize, before: Option<Before>) -> LatestQuery<'static> {
    LatestQuery {
        query: room("1"),
        wanted: &|_| true,
        limit,
        before,
        time: Duration::from_secs(5),
        now_ms: NOON_MS,
    }
}

fn text(record: &Record) -> String {
    match &record.payload {
        Payload::Text(text) | Payload::Base64(text) => text.clone(),
    }
}

/// All pages, the newest page first.
async fn pages(memory: &Memory, limit: usize) -> Vec<Vec<String>> {
    let (mut pages, mut before) = (Vec::new(), None);
    loop {
        let found = look(memory, asked(limit, before)).await.unwrap();
        assert!(!found.ran_out_of_time);
        pages.push(found.records.iter().map(text).collect());
        match found.before {
            // As it travels in an address.
            Some(older) => before = Some(older.to_string().parse().unwrap()),
            None => return pages,
        }
    }
}

#[tokio::test]
async fn the_newest_come_first_page_by_page_over_any_silence() {
    let mut memory = Memory::default();
    for (number, ago_ms) in [(1, 5_000 * HOUR_MS), (2, 26 * HOUR_MS), (3, HOUR_MS), (4, 1_000)] {
        memory.store(number as i32 % 2, NOON_MS - ago_ms, "1", Some(number), &number.to_string());
        memory.store(number as i32 % 2, NOON_MS - ago_ms, "2", Some(number + 50), "of another");
    }
    // a broker's clock that is ahead
    memory.store(0, NOON_MS + HOUR_MS, "1", Some(5), "5");
    assert_eq!(pages(&memory, 2).await, [vec!["4", "5"], vec!["2", "3"], vec!["1"]]);
    assert_eq!(pages(&memory, 5).await, [vec!["1", "2", "3", "4", "5"]]);
}

#[tokio::test]
async fn a_copy_is_left_out_and_a_message_stands_where_it_was_first() {
    let mut memory = Memory::default();
    memory.store(0, NOON_MS - 3 * HOUR_MS, "1", Some(1), "first");
    memory.store(0, NOON_MS - 2 * HOUR_MS, "1", Some(2), "second");
    memory.store(0, NOON_MS - 1_000, "1", Some(1), "first");
    memory.store(0, NOON_MS, "1", Some(1), "first");
    assert_eq!(pages(&memory, 5).await, [["first", "second"]]);
}

/// Rule 15, as far as the search came by both: in one span of time, and in two.
#[tokio::test]
async fn two_bodies_under_one_id_are_both_on_the_page_and_marked() {
    let mut memory = Memory::default();
    memory.store(0, NOON_MS - 3 * HOUR_MS, "1", Some(1), "old");
    memory.store(0, NOON_MS - 2 * HOUR_MS, "1", Some(2), "other");
    memory.store(0, NOON_MS - 3_000, "1", Some(3), "new");
    memory.store(0, NOON_MS - 2_000, "1", Some(1), "forged");
    memory.store(0, NOON_MS - 1_000, "1", Some(3), "forged");
    memory.store(0, NOON_MS, "1", Some(1), "old");
    let shown = |found: Latest| {
        let records = found.records.iter();
        records.map(|record| (text(record), record.conflict)).collect::<Vec<_>>()
    };
    let is = |text: &str, conflict| (text.to_owned(), conflict);
    let whole = look(&memory, asked(9, None)).await.unwrap();
    let expected =
        [is("old", true), is("other", false), is("new", true), is("forged", true), is("forged", true)];
    assert_eq!(shown(whole), expected);
    // The first of the two is on no page yet, but in the same span.
    let newest = look(&memory, asked(2, None)).await.unwrap();
    assert_eq!(shown(newest), [is("forged", true), is("old", true)]);
}

#[tokio::test(start_paused = true)]
async fn when_the_time_is_over_what_was_found_is_given_and_said_to_be_less() {
    /// Answers at once for what is newer than a day.
    struct Slow(Memory);
    impl Reader for Slow {
        fn queues<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<Vec<QueueName>, ReadError>> {
            self.0.queues(topic)
        }
        fn offsets<'a>(
            &'a self,
            topic: &'a str,
            queue: &'a QueueName,
        ) -> BoxFuture<'a, Result<(u64, u64), ReadError>> {
            self.0.offsets(topic, queue)
        }
        fn offset_at<'a>(
            &'a self,
            topic: &'a str,
            queue: &'a QueueName,
            stored_ms: u64,
        ) -> BoxFuture<'a, Result<u64, ReadError>> {
            self.0.offset_at(topic, queue, stored_ms)
        }
        fn pull<'a>(
            &'a self,
            topic: &'a str,
            queue: &'a QueueName,
            tag: Option<&'a str>,
            from_offset: u64,
            limit: u32,
        ) -> BoxFuture<'a, Result<Page, ReadError>> {
            Box::pin(async move {
                if self.0.queues[&queue.id][from_offset as usize].stored_ms < NOON_MS - 24 * HOUR_MS {
                    tokio::time::sleep(Duration::from_secs(60)).await;
                }
                self.0.pull(topic, queue, tag, from_offset, limit).await
            })
        }
    }
    let mut memory = Memory::default();
    memory.store(0, NOON_MS - 100 * HOUR_MS, "1", Some(1), "old");
    memory.store(0, NOON_MS - HOUR_MS, "1", Some(2), "new");
    let slow = Slow(memory);

    let found = look(&slow, asked(5, None)).await.unwrap();
    assert_eq!(found.records.iter().map(text).collect::<Vec<_>>(), ["new"]);
    assert!(found.ran_out_of_time && found.before.is_some());

    // and the rest can be asked for by whoever has the time
    let older = look(&slow.0, asked(5, found.before)).await.unwrap();
    assert_eq!(older.records.iter().map(text).collect::<Vec<_>>(), ["old"]);
    assert_eq!((older.before, older.ran_out_of_time), (None, false));
}

proptest! {
    // Each case is up to a hundred readings.
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn all_pages_together_are_the_history(
        stored in proptest::collection::vec((0..3i32, 0..40u64, 0..3u8), 1..30),
        limit in 1..7usize,
        wide in any::<bool>(),
    ) {
        let mut memory = Memory::default();
        let mut times: Vec<u64> = stored.iter().map(|(_, ago, _)| *ago).collect();
        times.sort_unstable_by(|a, b| b.cmp(a));
        let step_ms = if wide { 17 * 60_000 } else { 1 };
        let mut expected = Vec::new();
        for (number, ((queue, _, room), ago)) in stored.iter().zip(times).enumerate() {
            let text = number.to_string();
            memory.store(*queue, NOON_MS - ago * step_ms, &room.to_string(), Some(number as u64), &text);
            if *room == 1 {
                expected.push(text);
            }
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let pages = runtime.block_on(pages(&memory, limit));
        let mut together: Vec<_> = pages.iter().rev().flatten().cloned().collect();
        prop_assert!(pages.iter().all(|page| page.len() <= limit));
        let by_number = |text: &String| text.parse::<u64>().unwrap();
        together.sort_by_key(by_number);
        prop_assert_eq!(together, expected);
    }
}

#[tokio::test]
async fn a_broker_that_is_away_is_named_beside_what_is_there() {
    let mut memory = Memory::default();
    memory.store(0, NOON_MS, "1", Some(1), "here");
    memory.away = vec!["b".to_owned()];
    let error = look(&memory, asked(5, None)).await.unwrap_err().to_string();
    assert!(error.contains("broker b is away"), "{error}");
    let mut partly = asked(5, None);
    partly.query.partial = true;
    let found = look(&memory, partly).await.unwrap();
    assert_eq!(found.records.iter().map(text).collect::<Vec<_>>(), ["here"]);
    assert!(found.away.contains("b"));
}
