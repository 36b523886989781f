//! What a search finds, in which order, and when it says that this is not all.

use std::time::Duration;

use super::oracle::{DAY_MS, Oracle, Said, said};
use super::{filled, index, texts, writer};
use crate::index::*;
use crate::model::{Clock, ManualClock};

/// Rule 31: a search asks the newest month first, and its pages go on in the months before.
#[test]
fn pages_go_on_over_months_without_a_gap_or_a_copy() {
    let folder = tempfile::tempdir().unwrap();
    let (mut oracle, mut open) = (Oracle::default(), writer(&folder));
    for number in 0..90 {
        let text = Some(format!("hello {number}"));
        oracle.add(&mut open, Said { later_ms: DAY_MS, text, ..said(number) });
    }
    oracle.commit(&mut open);
    let index = index(&folder);
    let query = Query::parse("hello").unwrap();
    let (mut before, mut all) = (None, Vec::new());
    loop {
        let asked = SearchAsked { query: Some(&query), limit: 7, before, ..SearchAsked::default() };
        let found = index.search(&asked).unwrap();
        assert_eq!(found.total, if before.is_none() { Total::Exact(90) } else { Total::Unknown });
        all.extend(texts(&oracle, &found.rows).into_iter().map(str::to_owned));
        before = found.next;
        if before.is_none() {
            break;
        }
    }
    assert_eq!(all, (0..90).rev().map(|number| format!("hello {number}")).collect::<Vec<_>>());
    assert!(file::months_in(folder.path()).unwrap().len() >= 3);
}

/// Rule 3: what is asked for takes the way of what is indexed, and the text has the last word.
#[test]
fn a_search_finds_one_two_and_more_characters_and_the_text_decides() {
    let folder = tempfile::tempdir().unwrap();
    let texts_said = ["今天讲勾股定理", "勾股和股定以及定理", "Ｈｅｌｌｏ世界", "hello world", "world hello"];
    let oracle = filled(&folder, &texts_said.map(|text| ("1", text)));
    let index = index(&folder);
    for (words, found, hits) in [
        ("股", &[1, 0][..], &[1, 0][..]),
        ("勾股", &[1, 0], &[1, 0]),
        // The pairs stand in both, the word in one.
        ("勾股定理", &[1, 0], &[0]),
        ("HELLO", &[4, 3, 2], &[4, 3, 2]),
        ("\"hello world\"", &[4, 3], &[3]),
        ("hello -世界", &[4, 3], &[4, 3]),
        ("hello -\"world hello\"", &[4, 3, 2], &[3, 2]),
        ("nobody", &[], &[]),
    ] {
        let query = Query::parse(words).unwrap();
        let asked = SearchAsked { query: Some(&query), limit: 10, ..SearchAsked::default() };
        let answer = index.search(&asked).unwrap();
        let said: Vec<_> = found.iter().map(|number| texts_said[*number]).collect();
        assert_eq!(texts(&oracle, &answer.rows), said, "{words}");
        let said: Vec<_> = said.into_iter().filter(|text| query.matches(text)).collect();
        assert_eq!(said, hits.iter().map(|number| texts_said[*number]).collect::<Vec<_>>(), "{words}");
        let count = found.len() as u64;
        let total = if query.is_exact() { Total::Exact(count) } else { Total::AtMost(count) };
        assert_eq!(answer.total, total, "{words}");
    }
}

/// Rule 25.
#[test]
fn only_the_beginning_of_a_long_text_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let long = format!("near\0nul {} far", "x ".repeat(40_000));
    filled(&folder, &[("1", &long)]);
    let index = index(&folder);
    for (words, count) in [("near", 1), ("nul", 1), ("far", 0)] {
        let query = Query::parse(words).unwrap();
        let asked = SearchAsked { query: Some(&query), limit: 10, ..SearchAsked::default() };
        assert_eq!(index.search(&asked).unwrap().total, Total::Exact(count), "{words}");
        assert_eq!(query.matches(&long), count > 0, "{words}");
    }
}

/// Rule 32: best first looks at the newest 10,000 hits and says so; a count ends at 1,000.
#[test]
fn best_first_prefers_short_lines_of_the_newest_hits() {
    let folder = tempfile::tempdir().unwrap();
    let (mut oracle, mut open) = (Oracle::default(), writer(&folder));
    oracle.add(&mut open, Said { text: Some("hello".to_owned()), ..said(0) });
    for number in 1..=RANKED {
        let text = if number % 5000 == 0 { "hello you" } else { "hello to all of you" };
        oracle.add(&mut open, Said { text: Some(text.to_owned()), ..said(number) });
    }
    oracle.commit(&mut open);
    let index = index(&folder);
    let query = Query::parse("hello").unwrap();
    let asked = SearchAsked { query: Some(&query), order: Order::Best, limit: 3, ..SearchAsked::default() };
    let found = index.search(&asked).unwrap();
    assert_eq!(texts(&oracle, &found.rows), ["hello you", "hello you", "hello to all of you"]);
    assert_eq!(found.rows.iter().map(|row| row.offset).collect::<Vec<_>>(), [10_000, 5000, 9999]);
    assert!(found.is_of_newest_only && !found.is_partial);
    assert_eq!((found.total, found.next), (Total::Over(RANKED), None));
    let newest = index.search(&SearchAsked { order: Order::Newest, ..asked }).unwrap();
    assert_eq!(newest.total, Total::Over(1000));
}

/// Rule 32: a search has a deadline, and says that its answer is not whole.
#[test]
fn a_search_out_of_time_says_so_and_can_go_on() {
    let folder = tempfile::tempdir().unwrap();
    filled(&folder, &[("1", "hello"), ("1", "hello")]);
    let index = index(&folder);
    let query = Query::parse("hello").unwrap();
    let clock = std::sync::Arc::new(ManualClock::at(0));
    let deadline = Deadline::after(clock.clone(), Duration::from_secs(2));
    let asked =
        SearchAsked { query: Some(&query), limit: 1, deadline: Some(deadline), ..SearchAsked::default() };
    assert!(!index.search(&asked).unwrap().is_partial);
    clock.advance(Duration::from_secs(2));
    let found = index.search(&asked).unwrap();
    assert!(found.is_partial && found.rows.is_empty());
    assert_eq!(found.total, Total::Unknown);
    assert_eq!(clock.wall_ms(), 2000);
}

/// A clock that goes on by a second whenever somebody looks at it.
struct Ticking(std::sync::atomic::AtomicU64);

impl Clock for Ticking {
    fn wall_ms(&self) -> u64 {
        0
    }

    fn monotonic(&self) -> Duration {
        Duration::from_secs(self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
    }
}

/// Rule 32: the time is looked at between two hits, and the next page begins where the time was over.
#[test]
fn a_search_that_is_cut_goes_on_with_the_next_page() {
    let folder = tempfile::tempdir().unwrap();
    let lines: Vec<_> = (0..20).map(|number| format!("hello {number}")).collect();
    let oracle = filled(&folder, &lines.iter().map(|line| ("1", line.as_str())).collect::<Vec<_>>());
    let index = index(&folder);
    let query = Query::parse("hello").unwrap();
    let (mut before, mut all, mut partial) = (None, Vec::new(), 0);
    loop {
        let deadline = Deadline::after(std::sync::Arc::new(Ticking(0.into())), Duration::from_secs(5));
        let deadline = Some(deadline);
        let asked =
            SearchAsked { query: Some(&query), limit: 100, before, deadline, ..SearchAsked::default() };
        let found = index.search(&asked).unwrap();
        partial += u32::from(found.is_partial);
        all.extend(texts(&oracle, &found.rows).into_iter().map(str::to_owned));
        before = found.next;
        if before.is_none() {
            break;
        }
    }
    assert_eq!(all, lines.into_iter().rev().collect::<Vec<_>>());
    assert!(partial >= 3, "{partial}");
}
