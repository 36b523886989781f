//! How fast an index is and how large, printed. `cargo test --release --lib index::tests::measure -- --ignored --nocapture`; the
//! variables `ROWS` and `ROOMS` say how much.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::index::file::{push_client_token, push_id_token, push_kind_token, push_room_token, token};
use crate::index::words::{fold, push_tokens};
use crate::index::*;
use crate::model::{Kind, MessageId, QueueName};
use crate::piece::Place;
use crate::storage::{Durability, LocalFile, checkpoint_if_due};

const BEGIN_MS: u64 = 1_798_761_600_000;
const ROUND: u64 = COMMIT_ROWS as u64;
/// In two of five lines.
const COMMON: &str = "老师";
const RARE: &str = "勾股";

struct Line {
    place: usize,
    offset: u64,
    at_ms: u64,
    room: String,
    client: String,
    id: MessageId,
    text: String,
}

/// Lines of a class: words of two characters, common ones more often, some numbers.
struct Lines {
    random: fastrand::Rng,
    places: Vec<Place>,
    next: Vec<u64>,
    number: u64,
    all: u64,
    rooms: u64,
}

impl Lines {
    fn new(all: u64, rooms: u64) -> Self {
        let queue = |id| QueueName { broker: "broker-a".into(), id };
        let places = (0..8).map(|id| Place { topic: "room".to_owned(), queue: queue(id), generation: 0 });
        Self {
            random: fastrand::Rng::with_seed(1),
            places: places.collect(),
            next: vec![0; 8],
            number: 0,
            all,
            rooms,
        }
    }

    fn word(&mut self) -> String {
        // Words of rank r come about as often as 1/r.
        let rank = (6000_f64.powf(self.random.f64()) as u32).min(5999);
        [rank.wrapping_mul(7919) % 2500, rank.wrapping_mul(104_729) % 2500 + 3000]
            .map(|at| char::from_u32(0x4e00 + at).unwrap())
            .iter()
            .collect()
    }

    fn round(&mut self) -> Vec<Line> {
        let rows = ROUND.min(self.all - self.number);
        (0..rows).map(|_| self.line()).collect()
    }

    fn line(&mut self) -> Line {
        self.number += 1;
        let room = self.random.u64(0..self.rooms);
        let place = (room % 8) as usize;
        self.next[place] += 1;
        let words = self.random.u32(1..9);
        let mut text: String = (0..words).map(|_| self.word()).collect();
        if self.random.u8(0..5) < 2 {
            text.push_str(COMMON);
        }
        if self.number.is_multiple_of(9973) {
            text.push_str(RARE);
        }
        if self.random.u8(0..4) == 0 {
            text.push_str(&self.random.u32(0..1000).to_string());
        }
        Line {
            place,
            offset: self.next[place] - 1,
            // All within a month: the largest file there can be.
            at_ms: BEGIN_MS + self.number * (28 * 24 * 3_600_000) / self.all.max(1),
            room: format!("room{room}"),
            client: format!("GID_student@@@{room}-{}", self.random.u32(0..40)),
            // As the classroom makes them.
            id: MessageId::from_parts(self.random.u64(..), self.random.u64(..)),
            text,
        }
    }
}

fn new_row<'a>(line: &'a Line, place: &'a Place, rooms: &'a [&'a str]) -> NewRow<'a> {
    NewRow {
        place,
        offset: line.offset,
        name: "01020304050607080900000000000000@1798761600000",
        at_ms: line.at_ms,
        eff_ms: line.at_ms + 3,
        rooms,
        client_id: Some(&line.client),
        kind: Kind::Message,
        id: Some(line.id),
        text: Some(&line.text),
        is_line: true,
        mark: None,
    }
}

fn number_of(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn bytes_of(folder: &Path) -> u64 {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
}

/// Time that passed, and time on a processor: on a busy machine only the second one says much.
#[derive(Clone, Copy, Default)]
struct Took {
    wall: Duration,
    processor: Duration,
}

impl std::ops::AddAssign for Took {
    fn add_assign(&mut self, other: Self) {
        self.wall += other.wall;
        self.processor += other.processor;
    }
}

fn on_processor() -> Duration {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(text.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0))
}

fn measured<T>(work: impl FnOnce() -> T) -> (T, Took) {
    let (begin, processor) = (Instant::now(), on_processor());
    let done = work();
    (done, Took { wall: begin.elapsed(), processor: on_processor().saturating_sub(processor) })
}

fn told(what: &str, rows: u64, took: Took) {
    let us = |time: Duration| time.as_secs_f64() * 1e6 / rows as f64;
    let (wall, processor) = (us(took.wall), us(took.processor));
    eprintln!(
        "{what:<30} {:>9.0} rows/s {wall:>7.2} us/row {processor:>7.2} us/row on a processor",
        1e6 / wall
    );
}

fn fill(folder: &Path, all: u64, rooms: u64) -> Took {
    let mut writer = IndexWriter::open(folder, 0).unwrap();
    let mut lines = Lines::new(all, rooms);
    let (mut took, mut of_million) = (Took::default(), Took::default());
    while lines.number < all {
        let round = lines.round();
        let ((), of_round) = measured(|| {
            for line in &round {
                writer.add(&new_row(line, &lines.places[line.place], &[&line.room])).unwrap();
            }
            writer.commit().unwrap();
        });
        took += of_round;
        of_million += of_round;
        if lines.number.is_multiple_of(1_000_000) {
            told(&format!("  up to {}", lines.number), 1_000_000, std::mem::take(&mut of_million));
        }
    }
    writer.close().unwrap();
    took
}

/// The same tokens, into a table of the same kind.
fn fill_bare(folder: &Path, all: u64, rooms: u64) -> Took {
    let file = LocalFile {
        path: folder.join("bare.sqlite3"),
        schema: &[
            "CREATE VIRTUAL TABLE lines USING fts5(text, content='', detail=none, columnsize=0, tokenize='ascii')",
        ],
        page_bytes: 4096,
        cache_kib: 8192,
        max_pages: None,
        durability: Durability::Checkpoint,
    };
    let connection = file.open().unwrap();
    let mut lines = Lines::new(all, rooms);
    let (mut took, mut row) = (Took::default(), 0_u64);
    let mut folded = String::new();
    while lines.number < all {
        let mut tokens = Vec::new();
        for line in lines.round() {
            let mut of_line = [
                token(push_kind_token, Kind::Message),
                token(push_room_token, &line.room),
                token(push_client_token, &line.client),
                token(push_id_token, line.id),
            ]
            .join(" ");
            fold(&line.text, &mut folded);
            push_tokens(&folded, &mut of_line);
            tokens.push(of_line);
        }
        let ((), of_round) = measured(|| {
            connection.execute_batch("BEGIN").unwrap();
            for tokens in &tokens {
                row += 1;
                let mut insert =
                    connection.prepare_cached("INSERT INTO lines(rowid, text) VALUES(?1, ?2)").unwrap();
                insert.execute(rusqlite::params![row as i64, tokens]).unwrap();
            }
            connection.execute_batch("COMMIT").unwrap();
            checkpoint_if_due(&connection).unwrap();
        });
        took += of_round;
    }
    took
}

fn timed<T>(what: &str, mut ask: impl FnMut() -> T, show: impl Fn(&T) -> String) {
    let mut all: Vec<_> = (0..7).map(|_| measured(&mut ask)).collect();
    let first = all[0].1.wall.as_secs_f64() * 1e3;
    all.sort_by_key(|(_, took)| took.processor);
    let (answer, took) = &all[3];
    let (wall, processor) = (took.wall.as_secs_f64() * 1e3, took.processor.as_secs_f64() * 1e3);
    eprintln!(
        "{what:<40} {wall:>8.2} ms {processor:>8.2} ms on a processor (first {first:.2} ms) {}",
        show(answer)
    );
}

fn ask(folder: &Path, rooms: u64) {
    let index = Index::open(folder).unwrap().unwrap();
    let search = |what: &str, words: &str, room: Option<&str>, order: Order| {
        let query = Query::parse(words).unwrap();
        let asked = SearchAsked { query: Some(&query), room, order, limit: 20, ..SearchAsked::default() };
        let show = |found: &Found| format!("{} rows, {:?}", found.rows.len(), found.total);
        timed(&format!("{what} {words:?}"), || index.search(&asked).unwrap(), show);
    };
    let mut lines = Lines::new(1, rooms);
    let frequent = lines.word();
    search("newest", RARE, None, Order::Newest);
    search("newest", &frequent, None, Order::Newest);
    search("newest", "股", None, Order::Newest);
    search("newest", &frequent[..3], None, Order::Newest);
    search("newest", COMMON, None, Order::Newest);
    search("newest, rare and common", &format!("{RARE} {COMMON}"), None, Order::Newest);
    search("newest, frequent and common", &format!("{frequent} {COMMON}"), None, Order::Newest);
    search("newest, rare and number", &format!("{RARE} 77"), None, Order::Newest);
    search("newest, one room", COMMON, Some("room7"), Order::Newest);
    search("newest, minus", &format!("{COMMON} -{frequent}"), None, Order::Newest);
    search("best", COMMON, None, Order::Best);
    search("best", &frequent, None, Order::Best);
    search("best", RARE, None, Order::Best);
    let count = |rows: &Vec<Row>| format!("{} rows", rows.len());
    let of_room = |newest| RowsAsked { room: Some("room7"), newest, ..RowsAsked::default() };
    timed("last 200 of a room", || index.rows_of_room(&of_room(Some(200))).unwrap(), count);
    timed("all of a room", || index.rows_of_room(&of_room(None)).unwrap(), count);
    let ids: Vec<_> = (0..200).map(|number| MessageId::from_parts(number, number)).collect();
    timed("200 ids", || index.copies_of(&ids).unwrap(), |copies| format!("{} asked", copies.len()));
    timed(
        "lessons of a room",
        || index.lessons("room7", 1_800_000, None).unwrap(),
        |lessons| format!("{} lessons", lessons.len()),
    );
    timed("rooms", || index.rooms(None, 1_800_000).unwrap(), |rooms| format!("{} rooms", rooms.len()));
}

#[test]
#[ignore = "measures, for minutes"]
fn figures() {
    let all = number_of("ROWS", 1_000_000);
    let rooms_asked = number_of("ROOMS", 0);
    for rooms in [100, 10_000].into_iter().filter(|rooms| [0, *rooms].contains(&rooms_asked)) {
        eprintln!("{all} rows, {rooms} rooms");
        let folder = tempfile::tempdir().unwrap();
        told("index", all, fill(folder.path(), all, rooms));
        eprintln!("{:<40} {:>9.1} bytes/row", "index", bytes_of(folder.path()) as f64 / all as f64);
        if std::env::var_os("BARE").is_none_or(|bare| bare != "0") {
            let bare = tempfile::tempdir().unwrap();
            told("bare FTS5", all, fill_bare(bare.path(), all, rooms));
            eprintln!("{:<40} {:>9.1} bytes/row", "bare FTS5", bytes_of(bare.path()) as f64 / all as f64);
        }
        ask(folder.path(), rooms);
    }
}
