//! A list of rows, and what it answers.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use proptest::test_runner::TestCaseError;

use crate::index::row::Month;
use crate::index::words::{fold, push_tokens};
use crate::index::*;
use crate::model::{Kind, MessageId, QueueName};
use crate::piece::Place;

pub(super) const DAY_MS: u64 = 24 * 3_600_000;
pub(super) const GAP_MS: u64 = 1_800_000;
/// 2027-01-01.
const BEGIN_MS: u64 = 1_798_761_600_000;

/// A message that is said, after the one before it in its queue.
#[derive(Debug, Clone)]
pub(super) struct Said {
    pub queue: usize,
    /// From the offset before; what lies between is skipped.
    pub offsets: u64,
    /// After the one before it in its queue.
    pub later_ms: u64,
    /// Before it was stored.
    pub early_ms: u64,
    pub room: Option<String>,
    pub other_room: Option<String>,
    pub client_id: Option<String>,
    pub kind: Kind,
    pub id: Option<MessageId>,
    pub text: Option<String>,
    pub is_line: bool,
    pub mark: Option<Mark>,
}

/// A plain line in room 1, a second after the one before it.
pub(super) fn said(number: u64) -> Said {
    Said {
        queue: 0,
        offsets: 1,
        later_ms: 1000,
        early_ms: 0,
        room: Some("1".to_owned()),
        other_room: None,
        client_id: Some("kim".to_owned()),
        kind: Kind::Message,
        id: None,
        text: Some(format!("line {number}")),
        is_line: true,
        mark: None,
    }
}

/// When the line of that number was said, if each came a second after the other.
pub(super) fn at_of(number: u64) -> u64 {
    BEGIN_MS + 1000 * (number + 1)
}

pub(super) fn place(number: usize) -> Place {
    let queue = QueueName { broker: "broker-a".into(), id: number as i32 % 2 };
    Place { topic: "room".to_owned(), queue, generation: number as u32 / 2 }
}

#[derive(Debug, Clone)]
pub(super) struct OracleRow {
    pub row: Row,
    pub id: Option<MessageId>,
    pub text: Option<String>,
    tokens: BTreeSet<String>,
}

#[derive(Debug, Clone, Default)]
struct State {
    /// In the order in which they were added.
    rows: Vec<Arc<OracleRow>>,
    /// Rows of each month.
    counts: HashMap<Month, u64>,
    positions: HashMap<Place, Position>,
}

#[derive(Debug, Default)]
pub(super) struct Oracle {
    now: State,
    committed: State,
}

impl Oracle {
    pub(super) fn len(&self) -> u64 {
        self.now.rows.len() as u64
    }

    pub(super) fn row(&self, id: RowId) -> &OracleRow {
        self.committed.rows.iter().find(|row| row.row.id == id).unwrap()
    }

    pub(super) fn positions(&self) -> HashMap<Place, Position> {
        self.now.positions.clone()
    }

    pub(super) fn add(&mut self, writer: &mut IndexWriter, said: Said) {
        self.add_with(writer, said, |added| added.unwrap());
    }

    /// For a file that becomes full.
    pub(super) fn add_if_it_can(&mut self, writer: &mut IndexWriter, said: Said) {
        self.add_with(writer, said, |_| ());
    }

    fn add_with(&mut self, writer: &mut IndexWriter, said: Said, judge: impl FnOnce(Result<(), IndexError>)) {
        let place = place(said.queue);
        let position = self.now.positions.get(&place);
        let begin = Position { next_offset: 0, last_name: None, eff_ms: BEGIN_MS };
        let before = position.unwrap_or(&begin);
        let offset = before.next_offset + said.offsets - 1;
        let eff_ms = before.eff_ms + said.later_ms;
        let at_ms = eff_ms - said.early_ms;
        let name = format!("name@{offset}");
        let rooms: Vec<_> = said.room.iter().chain(&said.other_room).map(String::as_str).collect();
        let new = NewRow {
            place: &place,
            offset,
            name: &name,
            at_ms,
            eff_ms,
            rooms: &rooms,
            client_id: said.client_id.as_deref(),
            kind: said.kind,
            id: said.id,
            text: said.text.as_deref(),
            is_line: said.is_line,
            mark: said.mark,
        };
        judge(writer.add(&new));
        // Twice is once.
        if offset.is_multiple_of(3) {
            let _ = writer.add(&new);
        }
        let month = Month::of(eff_ms);
        let number = self.now.counts.entry(month).or_default();
        *number += 1;
        let number = *number;
        let (mut folded, mut tokens) = (String::new(), String::new());
        fold(said.text.as_deref().unwrap_or_default(), &mut folded);
        push_tokens(&folded, &mut tokens);
        // A room that is named twice is one.
        let other_room = said.other_room.filter(|other| Some(other) != said.room.as_ref());
        let row = Row {
            id: RowId { month, row: number },
            place: place.clone().into(),
            offset,
            at_ms,
            eff_ms,
            room: said.room.map(Into::into),
            other_room: other_room.map(Into::into),
            client_id: said.client_id.map(Into::into),
            kind: said.kind,
            is_text: said.text.is_some(),
            is_line: said.is_line,
            mark: said.mark,
        };
        let tokens = tokens.split_whitespace().map(str::to_owned).collect();
        self.now.rows.push(Arc::new(OracleRow { row, id: said.id, text: said.text, tokens }));
        let position = Position { next_offset: offset + 1, last_name: Some(name), eff_ms };
        self.now.positions.insert(place, position);
    }

    /// Offsets that hold nothing to index.
    pub(super) fn skip(&mut self, writer: &mut IndexWriter, queue: usize, offsets: u64) {
        let place = place(queue);
        let before = self.now.positions.get(&place).cloned();
        let before = before.unwrap_or(Position { next_offset: 0, last_name: None, eff_ms: BEGIN_MS });
        let position =
            Position { next_offset: before.next_offset + offsets, last_name: None, eff_ms: before.eff_ms };
        writer.skip_to(&place, &position).unwrap();
        // Never back.
        writer.skip_to(&place, &before).unwrap();
        self.now.positions.insert(place, position);
    }

    pub(super) fn commit(&mut self, writer: &mut IndexWriter) {
        writer.commit().unwrap();
        self.committed_if(true);
    }

    pub(super) fn committed_if(&mut self, is_committed: bool) {
        if is_committed {
            self.committed = self.now.clone();
        }
    }

    /// What is not committed is gone.
    pub(super) fn crash(&mut self) {
        self.now = self.committed.clone();
    }

    /// In the order of their numbers.
    fn rows(&self) -> Vec<&OracleRow> {
        let mut rows: Vec<_> = self.committed.rows.iter().map(|row| &**row).collect();
        rows.sort_by_key(|row| row.row.id);
        rows
    }

    pub(super) fn check(&self, index: &Index, limit: usize) -> Result<(), TestCaseError> {
        proptest::prop_assert_eq!(&index.positions().unwrap(), &self.committed.positions);
        for room in [None, Some("1"), Some("2"), Some("3"), Some("a"), Some("A"), Some("nobody")] {
            self.check_rows(index, room, limit)?;
            for words in [
                None,
                Some("hello"),
                Some("world hello"),
                Some("勾股"),
                Some("定理"),
                Some("股"),
                Some("勾股定理"),
                Some("world -hello"),
                Some("a -勾"),
                Some("3"),
                Some("y"),
                Some("number"),
                Some("E\u{301}"),
                Some("nothing"),
            ] {
                self.check_search(index, room, words, limit)?;
            }
        }
        self.check_copies(index)?;
        self.check_rooms(index)
    }

    fn check_rows(&self, index: &Index, room: Option<&str>, limit: usize) -> Result<(), TestCaseError> {
        let rows = self.rows();
        let middle = rows.get(rows.len() / 2).map(|row| row.row.id);
        let at = middle.map(|id| self.row(id).row.at_ms);
        for (client_id, kind, from_ms, to_ms, newest, before) in [
            (None, None, None, None, None, None),
            (Some("kim"), None, None, None, Some(limit), None),
            (Some("§1"), Some(Kind::Message), None, None, None, middle),
            (None, Some(Kind::Status), at, None, None, None),
            (None, None, None, at, Some(limit), middle),
        ] {
            let asked = RowsAsked { room, from_ms, to_ms, newest, before, kind, client_id };
            let mut expected: Vec<_> = rows
                .iter()
                .map(|row| &row.row)
                .filter(|row| room.is_none_or(|room| row.is_in(room)))
                .filter(|row| client_id.is_none_or(|client| row.client_id.as_deref() == Some(client)))
                .filter(|row| kind.is_none_or(|kind| row.kind == kind))
                .filter(|row| {
                    from_ms.is_none_or(|from| row.at_ms >= from) && to_ms.is_none_or(|to| row.at_ms < to)
                })
                .filter(|row| before.is_none_or(|before| row.id < before))
                .cloned()
                .collect();
            let beyond = expected.len().saturating_sub(newest.unwrap_or(usize::MAX));
            expected.drain(..beyond);
            proptest::prop_assert_eq!(index.rows_of_room(&asked).unwrap(), expected, "{:?}", asked);
        }
        Ok(())
    }

    fn check_search(
        &self,
        index: &Index,
        room: Option<&str>,
        words: Option<&str>,
        limit: usize,
    ) -> Result<(), TestCaseError> {
        let query = words.map(|words| Query::parse(words).unwrap());
        let tokens = query.as_ref().map(Query::tokens).unwrap_or_default();
        let is_hit = |row: &&OracleRow| {
            let has = &row.tokens;
            row.row.is_text
                && room.is_none_or(|room| row.row.is_in(room))
                && tokens.wanted.is_subset(has)
                && tokens.excluded.is_disjoint(has)
        };
        let expected: Vec<_> = self.rows().into_iter().rev().filter(is_hit).collect();
        if let Some(query) = query.as_ref().filter(|query| query.is_exact()) {
            proptest::prop_assert!(expected.iter().all(|row| query.matches(row.text.as_deref().unwrap())));
        }
        let mut asked = SearchAsked { query: query.as_ref(), room, limit, ..SearchAsked::default() };
        let is_exact = query.as_ref().is_none_or(Query::is_exact);
        let total = match expected.len() as u64 {
            1001.. if is_exact => Total::Over(1000),
            1001.. => Total::Unknown,
            count if is_exact => Total::Exact(count),
            count => Total::AtMost(count),
        };
        let mut found = Vec::new();
        loop {
            let page = index.search(&asked).unwrap();
            proptest::prop_assert!(page.rows.len() <= limit && !page.is_partial);
            let total = if asked.before.is_none() { total } else { Total::Unknown };
            proptest::prop_assert_eq!(page.total, total, "{:?} in {:?}", words, room);
            found.extend(page.rows);
            asked.before = page.next;
            if asked.before.is_none() {
                break;
            }
        }
        let expected: Vec<_> = expected.into_iter().map(|row| row.row.clone()).collect();
        proptest::prop_assert_eq!(found, expected, "{:?} in {:?}", words, room);
        Ok(())
    }

    fn check_copies(&self, index: &Index) -> Result<(), TestCaseError> {
        let ids: Vec<_> = (0..5).map(|counter| MessageId::from_parts(7, counter)).collect();
        let expected: Vec<Vec<Row>> = ids
            .iter()
            .map(|id| {
                self.rows().into_iter().filter(|row| row.id == Some(*id)).map(|row| row.row.clone()).collect()
            })
            .collect();
        proptest::prop_assert_eq!(index.copies_of(&ids).unwrap(), expected);
        Ok(())
    }

    fn check_rooms(&self, index: &Index) -> Result<(), TestCaseError> {
        let rows = self.rows();
        for from_ms in [None, rows.get(rows.len() / 3).map(|row| row.row.at_ms)] {
            let mut rooms: BTreeMap<&str, Vec<Row>> = BTreeMap::new();
            for row in
                rows.iter().map(|row| &row.row).filter(|row| from_ms.is_none_or(|from| row.at_ms >= from))
            {
                let of_row: BTreeSet<_> = row.room.iter().chain(&row.other_room).collect();
                of_row.into_iter().for_each(|room| rooms.entry(room).or_default().push(row.clone()));
            }
            let expected: Vec<_> = rooms.iter_mut().map(|(room, rows)| summary(room, rows)).collect();
            proptest::prop_assert_eq!(index.rooms(from_ms, GAP_MS).unwrap(), expected);
            for (room, rows) in rooms {
                let lessons = index.lessons(room, GAP_MS, from_ms).unwrap();
                let shown: Vec<_> = lessons
                    .iter()
                    .map(|lesson| {
                        (lesson.first.id, lesson.last.id, lesson.lines, lesson.begin_ms, lesson.end_ms)
                    })
                    .collect();
                proptest::prop_assert_eq!(shown, naive_lessons(&rows), "room {}", room);
                for lesson in &lessons {
                    let people: u64 = lesson.people.iter().map(|(_, lines)| lines).sum();
                    proptest::prop_assert!(people <= lesson.lines);
                }
            }
        }
        Ok(())
    }
}

/// Sorts the rows as a history has them.
fn summary(room: &str, rows: &mut [Row]) -> RoomSummary {
    rows.sort_by(|a, b| a.order().cmp(&b.order()));
    let lines = rows.iter().filter(|row| row.is_line);
    let people: BTreeSet<_> = lines.clone().filter_map(|row| row.client_id.clone()).collect();
    RoomSummary {
        room: room.into(),
        first_at_ms: rows.iter().map(|row| row.at_ms).min().unwrap(),
        last_at_ms: rows.iter().map(|row| row.at_ms).max().unwrap(),
        lines: lines.count() as u64,
        people: people.len() as u64,
        lessons: naive_lessons(rows).len() as u64,
    }
}

/// First row, last row, lines, begin, end. Looks back from each line.
fn naive_lessons(rows: &[Row]) -> Vec<(RowId, RowId, u64, u64, u64)> {
    let lines: Vec<_> = rows.iter().filter(|row| row.is_line || row.mark.is_some()).collect();
    let at = |number: usize| lines[..=number].iter().map(|row| row.at_ms).max().unwrap();
    // Whether a lesson goes on behind each line.
    let mut goes_on = Vec::new();
    let mut lessons: Vec<Vec<usize>> = Vec::new();
    for (number, row) in lines.iter().enumerate() {
        let is_near = number > 0 && goes_on[number - 1] && at(number) - at(number - 1) <= GAP_MS;
        match (row.mark, is_near) {
            (Some(Mark::Start), _) | (None, false) => lessons.push(vec![number]),
            (None | Some(Mark::End), true) => lessons.last_mut().unwrap().push(number),
            (Some(Mark::End), false) => {}
        }
        goes_on.push(row.mark != Some(Mark::End));
    }
    lessons
        .into_iter()
        .map(|lesson| {
            let (first, last) = (lesson[0], lesson[lesson.len() - 1]);
            let count = lesson.iter().filter(|number| lines[**number].is_line).count() as u64;
            (lines[first].id, lines[last].id, count, at(first), at(last))
        })
        .collect()
}
