//! What one member heard of the lesson, and whether it was every line, once, in each sender's order.
//!
//! A line is known by its number in the body. A copy of a message has the `rbId` of the first, so a line must come
//! once, and with the same id to everybody.

use std::collections::HashSet;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

/// Who speak; the others listen.
pub const SENDERS: usize = 10;

/// What is said: the body of the classroom, and what this tool knows the line by.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    pub peer: String,
    pub room_id: String,
    pub msg: String,
    /// Counts through all senders in turn: its sender is the rest by [`SENDERS`].
    pub line: usize,
    /// By the clock of [`crate::member::Lesson`].
    pub sent_us: u64,
}

/// The same, as far as a listener reads it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Known {
    line: usize,
    sent_us: u64,
}

/// The `rbId` of each line, as whoever heard it first has heard it.
pub struct Ids(Vec<OnceLock<String>>);

impl Ids {
    pub fn of(lines: usize) -> Ids {
        Ids((0..lines).map(|_| OnceLock::new()).collect())
    }

    /// Lines that have the id of another one.
    pub fn shared(&self) -> usize {
        let known: Vec<_> = self.0.iter().filter_map(OnceLock::get).collect();
        let different: HashSet<_> = known.iter().collect();
        known.len() - different.len()
    }
}

pub struct Heard {
    seen: Vec<bool>,
    newest: [Option<usize>; SENDERS],
    /// Of each line, when it came first.
    pub latencies_us: Vec<u32>,
    pub duplicates: usize,
    pub out_of_order: usize,
    /// Lines without an id, or with another id than everybody else's, and what is no line at all.
    pub strange: usize,
}

impl Heard {
    pub fn nothing_of(lines: usize) -> Heard {
        Heard {
            seen: vec![false; lines],
            newest: [None; SENDERS],
            latencies_us: Vec::with_capacity(lines),
            duplicates: 0,
            out_of_order: 0,
            strange: 0,
        }
    }

    /// True if it is a line that had not come before.
    pub fn take(&mut self, body: &[u8], id: Option<&str>, now_us: u64, ids: &Ids) -> bool {
        let known = serde_json::from_slice::<Known>(body).ok();
        let (Some(Known { line, sent_us }), Some(id)) = (known, id) else {
            self.strange += 1;
            return false;
        };
        let (Some(seen), Some(first_id)) = (self.seen.get_mut(line), ids.0.get(line)) else {
            self.strange += 1;
            return false;
        };
        if first_id.get_or_init(|| id.to_owned()) != id {
            self.strange += 1;
        }
        if std::mem::replace(seen, true) {
            self.duplicates += 1;
            return false;
        }
        let newest = &mut self.newest[line % SENDERS];
        if newest.is_some_and(|newest| newest > line) {
            self.out_of_order += 1;
        }
        *newest = (*newest).max(Some(line));
        let latency_us = now_us.saturating_sub(sent_us);
        self.latencies_us.push(u32::try_from(latency_us).unwrap_or(u32::MAX));
        true
    }
}

/// A check that cannot fail is worth nothing: each fault is shown to it before it is believed.
pub fn try_the_instrument() {
    let ids = Ids::of(2 * SENDERS);
    let body = |line: usize| format!(r#"{{"line":{line},"sentUs":1000}}"#).into_bytes();
    let mut heard = Heard::nothing_of(2 * SENDERS);
    assert!(heard.take(&body(0), Some("a"), 1700, &ids));
    assert!(heard.take(&body(1), Some("b"), 1800, &ids));
    assert!(heard.take(&body(SENDERS), Some("c"), 1900, &ids));
    assert_eq!((heard.duplicates, heard.out_of_order, heard.strange), (0, 0, 0));
    assert_eq!(heard.latencies_us, [700, 800, 900]);
    assert_eq!(ids.shared(), 0);

    assert!(!heard.take(&body(1), Some("b"), 1900, &ids), "a copy is no news");
    assert_eq!((heard.duplicates, heard.out_of_order, heard.strange), (1, 0, 0));
    assert!(!heard.take(&body(1), Some("other"), 1900, &ids), "under another id");
    assert_eq!((heard.duplicates, heard.strange), (2, 1));
    assert!(!heard.take(b"{}", Some("d"), 1900, &ids) && !heard.take(&body(2), None, 1900, &ids));
    assert!(!heard.take(&body(2 * SENDERS), Some("e"), 1900, &ids), "never said");
    assert_eq!(heard.strange, 4);
    assert!(heard.take(&body(SENDERS + 3), Some("f"), 1900, &ids));
    assert!(heard.take(&body(3), Some("f"), 1900, &ids), "late, and it is one");
    assert_eq!((heard.out_of_order, ids.shared()), (1, 1));
}
