//! The index against a list of rows that is searched line by line.

mod measure;
mod oracle;
mod searches;

use std::collections::BTreeSet;

use proptest::prelude::*;

use self::oracle::{DAY_MS, GAP_MS, Oracle, Said, at_of, place, said};
use super::row::Month;
use super::*;
use crate::model::{Kind, MessageId};
use crate::storage::{StorageError, beside};

fn writer(folder: &tempfile::TempDir) -> IndexWriter {
    IndexWriter::open(folder.path(), 0).unwrap()
}

fn index(folder: &tempfile::TempDir) -> Index {
    Index::open(folder.path()).unwrap().unwrap()
}

/// Adds and commits lines of one queue, a second apart.
fn filled(folder: &tempfile::TempDir, lines: &[(&str, &str)]) -> Oracle {
    let mut oracle = Oracle::default();
    let mut writer = writer(folder);
    for (number, (room, text)) in lines.iter().enumerate() {
        let row =
            Said { room: Some((*room).to_owned()), text: Some((*text).to_owned()), ..said(number as u64) };
        oracle.add(&mut writer, row);
    }
    oracle.commit(&mut writer);
    oracle
}

fn texts<'a>(oracle: &'a Oracle, rows: &[Row]) -> Vec<&'a str> {
    rows.iter().map(|row| oracle.row(row.id).text.as_deref().unwrap_or_default()).collect()
}

#[derive(Debug, Clone)]
enum Step {
    Add(Said),
    Skip(usize, u64),
    Commit,
    /// Without a commit.
    Crash,
    Close,
}

fn any_said() -> impl Strategy<Value = Said> {
    let words = ["hello", "world", "勾股定理", "定理", "勾", "A", "b-c", "第3课", "x\0y", "é"];
    let text =
        prop::collection::vec(prop::sample::select(words.to_vec()), 0..4).prop_map(|words| words.join(" "));
    let room = prop::option::weighted(0.8, prop::sample::select(&["1", "2", "a", "A"][..]));
    let other_room = prop::option::weighted(0.2, prop::sample::select(&["1", "3"][..]));
    let client = prop::option::weighted(0.8, prop::sample::select(&["kim", "Kim", "§1", "1"][..]));
    let kind = prop::sample::select(&[Kind::Message, Kind::Message, Kind::System, Kind::Status][..]);
    // Within a lesson, beyond its gap, and into other months.
    let later = prop::sample::select(&[0, 1, 1000, GAP_MS, GAP_MS + 1, 20 * DAY_MS][..]);
    let early = prop::sample::select(&[0, 0, 0, 10, 2 * GAP_MS, 6 * DAY_MS][..]);
    let mark = prop_oneof![8 => Just(None), 1 => Just(Some(Mark::Start)), 1 => Just(Some(Mark::End))];
    let what = (prop::option::weighted(0.8, text), kind, mark, prop::option::of(0..4_u64));
    ((0..3_usize, 1..3_u64, later, early), (room, other_room, client), what).prop_map(|(when, who, what)| {
        let (queue, offsets, later_ms, early_ms) = when;
        let (room, other_room, client_id) = who;
        let (text, kind, mark, id) = what;
        Said {
            queue,
            offsets,
            later_ms,
            early_ms,
            room: room.map(str::to_owned),
            other_room: other_room.filter(|_| room.is_some()).map(str::to_owned),
            client_id: client_id.map(str::to_owned),
            kind,
            id: id.map(|id| MessageId::from_parts(7, id)),
            text,
            is_line: kind != Kind::Status,
            mark: mark.filter(|_| kind == Kind::System),
        }
    })
}

fn any_steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => any_said().prop_map(Step::Add),
        1 => (0..3_usize, 1..5_u64).prop_map(|(queue, offsets)| Step::Skip(queue, offsets)),
        3 => Just(Step::Commit),
        1 => Just(Step::Crash),
        1 => Just(Step::Close),
    ];
    prop::collection::vec(step, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// Whatever is added, committed, lost and opened again: rows, positions, searches, rooms and lessons are those of the list.
    /// Rules 13 (copies), 19 (lessons), 30 and 31 (rows of batches and of months, positions in their transactions).
    #[test]
    fn the_index_says_what_a_list_of_rows_says(steps in any_steps(), limit in 1..6_usize) {
        let folder = tempfile::tempdir().unwrap();
        let mut oracle = Oracle::default();
        let mut open = writer(&folder);
        let reader = {
            oracle.commit(&mut open);
            Index::open(folder.path()).unwrap()
        };
        prop_assert!(reader.is_none());
        let mut early_reader = None;
        for step in steps {
            match step {
                Step::Add(row) => oracle.add(&mut open, row),
                Step::Skip(queue, offsets) => oracle.skip(&mut open, queue, offsets),
                Step::Commit => {
                    oracle.commit(&mut open);
                    // One that is open while months are added and batches put together.
                    early_reader = early_reader.or(Index::open(folder.path()).unwrap());
                }
                Step::Crash => {
                    drop(open);
                    oracle.crash();
                    open = writer(&folder);
                }
                Step::Close => {
                    open.close().unwrap();
                    oracle.crash();
                    open = writer(&folder);
                }
            }
            prop_assert_eq!(open.positions(), oracle.positions());
        }
        drop(open);
        oracle.crash();
        for index in early_reader.into_iter().chain(Index::open(folder.path()).unwrap()) {
            oracle.check(&index, limit)?;
        }
    }
}

/// Rule 30: batches become full ones however small the commits are, and no row is in none or in two.
#[test]
fn many_small_commits_become_few_batches() {
    let folder = tempfile::tempdir().unwrap();
    let mut random = fastrand::Rng::with_seed(5);
    let mut oracle = Oracle::default();
    let mut open = writer(&folder);
    let mut number = 0;
    while number < 5000 {
        for _ in 0..random.u64(1..40) {
            number += 1;
            let row =
                Said { queue: random.usize(0..3), room: Some(random.u32(0..9).to_string()), ..said(number) };
            oracle.add(&mut open, Said { text: Some(format!("number {number}")), ..row });
        }
        oracle.commit(&mut open);
        if random.u8(0..20) == 0 {
            drop(open);
            open = writer(&folder);
        }
    }
    let path = file::path_of(folder.path(), Month::of(at_of(0)));
    let connection = rusqlite::Connection::open(path).unwrap();
    let batches: i64 = connection.query_row("SELECT count(*) FROM batches", [], |row| row.get(0)).unwrap();
    assert!(batches < 20, "{batches} batches");
    oracle.check(&index(&folder), 700).unwrap();
    drop(open);
    oracle.check(&index(&folder), 700).unwrap();
}

/// Rule 33: where others need the room, the index stops with an error that names the place, and goes on later.
#[test]
fn the_index_leaves_free_space_to_others() {
    let folder = tempfile::tempdir().unwrap();
    let mut oracle = filled(&folder, &[("1", "hello")]);
    let mut open = IndexWriter::open(folder.path(), u64::MAX).unwrap();
    oracle.add(&mut open, said(1));
    let error = open.commit().unwrap_err();
    assert!(matches!(&error, IndexError::NoRoom { path, .. } if path == folder.path()), "{error}");
    assert!(matches!(open.commit(), Err(IndexError::Failed { .. })));
    drop(open);
    oracle.crash();
    oracle.check(&index(&folder), 3).unwrap();
    let mut open = writer(&folder);
    oracle.add(&mut open, said(1));
    oracle.commit(&mut open);
    oracle.check(&index(&folder), 3).unwrap();
}

/// Rule 33: a full disk, as SQLite sees it.
#[test]
fn a_full_file_keeps_what_was_committed_and_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut oracle = Oracle::default();
    let mut open = IndexWriter::open_with(folder.path(), 0, Some(60)).unwrap();
    let error = loop {
        let number = oracle.len();
        oracle.add_if_it_can(
            &mut open,
            Said { text: Some(format!("number {number} {}", number * 7919)), ..said(number) },
        );
        if number % 50 == 0
            && let Err(error) = open.commit()
        {
            break error;
        }
        oracle.committed_if(number % 50 == 0);
        assert!(number < 100_000, "it never became full");
    };
    let path = file::path_of(folder.path(), Month::of(at_of(0)));
    let is_full =
        matches!(&error, IndexError::File { path: named, error: StorageError::Full(_) } if *named == path);
    assert!(is_full && !error.is_damage(), "{error}");
    drop(open);
    oracle.crash();
    oracle.check(&index(&folder), 100).unwrap();
    // With room it goes on.
    let mut open = writer(&folder);
    assert_eq!(open.positions(), oracle.positions());
    oracle.add(&mut open, said(0));
    oracle.commit(&mut open);
    oracle.check(&index(&folder), 100).unwrap();
}

#[test]
fn one_writer_holds_the_index_and_a_reader_sees_its_commits() {
    let folder = tempfile::tempdir().unwrap();
    assert!(Index::open(folder.path()).unwrap().is_none());
    assert!(Index::open(&folder.path().join("missing")).unwrap().is_none());
    let mut oracle = Oracle::default();
    let mut open = writer(&folder);
    let second = IndexWriter::open(folder.path(), 0);
    assert!(matches!(second.map(drop), Err(IndexError::InUse { .. })));
    assert!(matches!(IndexWriter::remove_all(folder.path()), Err(IndexError::InUse { .. })));
    oracle.add(&mut open, said(0));
    oracle.commit(&mut open);
    let reader = index(&folder);
    oracle.add(&mut open, said(1));
    // Not committed.
    let asked = RowsAsked { room: Some("1"), ..RowsAsked::default() };
    assert_eq!(reader.rows_of_room(&asked).unwrap().len(), 1);
    oracle.commit(&mut open);
    assert_eq!(reader.rows_of_room(&asked).unwrap().len(), 2);
}

#[test]
fn an_index_that_was_made_anew_is_read_by_who_read_the_old_one() {
    let folder = tempfile::tempdir().unwrap();
    filled(&folder, &[("1", "hello"), ("1", "again")]);
    let reader = index(&folder);
    assert_eq!(reader.rows_of_room(&RowsAsked::default()).unwrap().len(), 2);
    IndexWriter::remove_all(folder.path()).unwrap();
    assert!(reader.rows_of_room(&RowsAsked::default()).unwrap().is_empty());
    assert!(writer(&folder).positions().is_empty());
    let oracle = filled(&folder, &[("2", "hello")]);
    oracle.check(&reader, 3).unwrap();
}

#[test]
fn a_damaged_file_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    filled(&folder, &[("1", "hello"), ("1", "again")]);
    let path = file::path_of(folder.path(), Month::of(at_of(0)));
    let connection = rusqlite::Connection::open(&path).unwrap();
    for damage in
        ["UPDATE batches SET columns = x'00'", "UPDATE batches SET rows = 70000", "DELETE FROM batches"]
    {
        connection.execute_batch(damage).unwrap();
        let error = index(&folder).rows_of_room(&RowsAsked::default()).unwrap_err();
        assert!(
            error.is_damage() && error.to_string().contains("index-2027-01.sqlite3"),
            "{damage}: {error}"
        );
    }
    connection.execute_batch("PRAGMA user_version = 9").unwrap();
    let error = Index::open(folder.path()).map(|_| ()).unwrap_err();
    assert!(!error.is_damage() && error.to_string().contains("newer roombridge"), "{error}");
}

/// Until a file has its log it has a journal, which only a writer can roll back.
#[test]
fn a_file_whose_making_was_killed_is_made_again() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (making, path) = (elsewhere.path().join("making"), file::path_of(folder.path(), Month::of(at_of(0))));
    let connection = rusqlite::Connection::open(&making).unwrap();
    let large = "CREATE TABLE a(b); PRAGMA cache_size = 1; BEGIN; INSERT INTO a SELECT randomblob(100000)";
    connection.execute_batch(large).unwrap();
    for suffix in ["", "-journal"] {
        std::fs::copy(beside(&making, suffix), beside(&path, suffix)).unwrap();
    }
    assert!(Index::open(folder.path()).is_ok(), "it is just being made");
    filled(&folder, &[("1", "hello")]);
    assert_eq!(index(&folder).rows_of_room(&RowsAsked::default()).unwrap().len(), 1);
}

#[test]
fn deleted_words_would_leave_the_file() {
    let folder = tempfile::tempdir().unwrap();
    filled(&folder, &[("1", "hello")]);
    let path = file::path_of(folder.path(), Month::of(at_of(0)));
    let connection = rusqlite::Connection::open(&path).unwrap();
    let option = "SELECT v FROM lines_config WHERE k = 'secure-delete'";
    assert_eq!(connection.query_row(option, [], |row| row.get::<_, i64>(0)).unwrap(), 1);
}

#[test]
fn rows_of_the_newest_and_of_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let oracle = filled(&folder, &[("1", "a"), ("2", "b"), ("1", "c"), ("1", "d"), ("1", "e")]);
    let index = index(&folder);
    let rows = |asked: RowsAsked<'static>| {
        let rows = index.rows_of_room(&RowsAsked { room: Some("1"), ..asked }).unwrap();
        texts(&oracle, &rows).concat()
    };
    assert_eq!(rows(RowsAsked::default()), "acde");
    assert_eq!(rows(RowsAsked { newest: Some(2), ..RowsAsked::default() }), "de");
    assert_eq!(rows(RowsAsked { newest: Some(0), ..RowsAsked::default() }), "");
    let (from_ms, to_ms) = (Some(at_of(2)), Some(at_of(4)));
    assert_eq!(rows(RowsAsked { from_ms, to_ms, ..RowsAsked::default() }), "cd");
    assert_eq!(rows(RowsAsked { from_ms, ..RowsAsked::default() }), "cde");
    assert_eq!(rows(RowsAsked { to_ms, newest: Some(1), ..RowsAsked::default() }), "d");
    let all = index.rows_of_room(&RowsAsked::default()).unwrap();
    assert_eq!(rows(RowsAsked { before: Some(all[3].id), newest: Some(1), ..RowsAsked::default() }), "c");
}

/// Rule 19: a lesson is a run without a long gap; a late line joins it and ends nothing; marks count.
#[test]
fn lessons_are_runs_of_lines_and_late_ones_join_them() {
    let folder = tempfile::tempdir().unwrap();
    let (mut oracle, mut open) = (Oracle::default(), writer(&folder));
    let line = |later_ms| Said { later_ms, ..said(0) };
    let marked = |later_ms, mark| Said { kind: Kind::System, mark: Some(mark), ..line(later_ms) };
    for row in [
        line(0),
        line(GAP_MS),
        // Stored late: said within the lesson.
        Said { early_ms: 3 * GAP_MS + 500, ..line(3 * GAP_MS) },
        line(1000),
        marked(10, Mark::Start),
        line(10),
        marked(10, Mark::End),
        Said { kind: Kind::Status, is_line: false, ..line(5) },
        line(10),
        marked(2 * GAP_MS, Mark::End),
    ] {
        oracle.add(&mut open, row);
    }
    oracle.commit(&mut open);
    let index = index(&folder);
    let lessons = index.lessons("1", GAP_MS, None).unwrap();
    let shown: Vec<_> = lessons
        .iter()
        .map(|lesson| {
            (
                lesson.first.offset,
                lesson.last.offset,
                lesson.lines,
                lesson.is_begun_by_mark,
                lesson.is_ended_by_mark,
            )
        })
        .collect();
    assert_eq!(
        shown,
        [(0, 2, 3, false, false), (3, 3, 1, false, false), (4, 6, 3, true, true), (8, 8, 1, false, false)]
    );
    assert_eq!(lessons[0].people, [("kim".into(), 3)]);
    assert!(lessons[0].holds(&lessons[0].last) && !lessons[0].holds(&lessons[1].first));
    oracle.check(&index, 2).unwrap();
    assert!(index.lessons("nobody", GAP_MS, None).unwrap().is_empty());
}

/// Rule 13.
#[test]
fn all_copies_of_an_id_are_found_and_a_stranger_may_be_among_them() {
    let folder = tempfile::tempdir().unwrap();
    let (mut oracle, mut open) = (Oracle::default(), writer(&folder));
    let id = |counter| MessageId::from_parts(0xe0a1_c5b8_3a10_495f, counter);
    for (number, counter) in [1, 2, 1, 3].into_iter().enumerate() {
        oracle.add(&mut open, Said { id: Some(id(counter)), later_ms: 20 * DAY_MS, ..said(number as u64) });
    }
    oracle.commit(&mut open);
    let found = index(&folder).copies_of(&[id(1), id(9), id(3)]).unwrap();
    let offsets: Vec<Vec<_>> = found.iter().map(|rows| rows.iter().map(|row| row.offset).collect()).collect();
    assert_eq!(offsets, [vec![0, 2], vec![], vec![3]]);
}

#[test]
fn places_of_one_name_and_another_generation_are_two() {
    let places: BTreeSet<_> = (0..3).map(place).collect();
    assert_eq!(places.len(), 3);
    assert_eq!(place(0).queue, place(2).queue);
}
