//! The merge of a day, against what its pieces hold.

use std::sync::Mutex;

use futures::FutureExt;

use super::*;

use super::super::memory::{Memory, STORED_MS};
use super::super::{Archiver, ArchiverParts, LeaveOut, exact_books};
use crate::model::{Kind, LostCause, ManualClock};
use crate::piece::{Lost, messages_of};
use crate::piece_store::double::{Fate, Gate, Objects};

const HOUR_MS: u64 = 3_600_000;
/// 02:00 of the next day; `STORED_MS` is 08:00.
const DAY_IS_OVER_MS: u64 = STORED_MS + 18 * HOUR_MS;

struct World {
    rocketmq: Arc<Memory>,
    objects: Objects,
    clock: Arc<ManualClock>,
    archiver: Archiver,
}

impl World {
    fn new() -> Self {
        let (rocketmq, objects) = (Arc::new(Memory::default()), Objects::default());
        let clock = Arc::new(ManualClock::at(STORED_MS));
        let archiver = archiver(&rocketmq, &objects.plain(), &clock);
        let world = Self { rocketmq, objects, clock, archiver };
        world.at(STORED_MS);
        world
    }

    /// A day of so many pieces of 20 lines each.
    async fn with_pieces(count: u64) -> Self {
        let mut world = Self::new();
        for _ in 0..count {
            world.cut(20).await;
        }
        world
    }

    async fn cut(&mut self, lines: u64) {
        self.rocketmq.say_so_many(lines);
        assert!(self.archiver.round(true).await.1.is_none());
    }

    fn at(&self, now_ms: u64) {
        self.clock.set_wall_ms(now_ms);
        self.objects.set_clock_ms(now_ms);
    }

    fn merger(&self) -> Merger {
        Merger::new(self.objects.plain(), self.clock.clone())
    }

    /// All that is to do.
    async fn merge(&self) -> Merged {
        let mut merger = self.merger();
        let mut merged = Merged::default();
        while merger.is_due() {
            merged.add(merger.step().await.unwrap());
        }
        merged
    }

    async fn pieces(&self) -> Vec<Piece> {
        let store = self.objects.plain();
        let mut pieces = Vec::new();
        for piece in store.all_pieces().await.unwrap() {
            let directory = store.verify(&piece.key).await.unwrap();
            pieces.push((piece, directory));
        }
        pieces
    }

    /// First offset, version and end of each.
    async fn ranges(&self) -> Vec<(u64, u32, u64)> {
        let pieces = self.pieces().await;
        pieces.iter().map(|(piece, directory)| (piece.key.from, piece.key.version, directory.to)).collect()
    }

    /// Offset and body of each line that counts.
    async fn lines(&self) -> Vec<(u64, String)> {
        let pieces = self.pieces().await;
        let store = self.objects.plain();
        let mut lines = Vec::new();
        for part in effective(&pieces) {
            let whole = store.whole(&part.piece.key).await.unwrap();
            for (number, frame) in part.directory.frames.iter().enumerate() {
                let range = frame.range().unwrap();
                let bytes = &whole[range.start as usize..range.end as usize];
                let messages = messages_of(bytes, frame, number).unwrap();
                let counting = messages.iter().filter(|m| (part.from..part.to).contains(&m.queue_offset));
                lines.extend(
                    counting.map(|m| (m.queue_offset, String::from_utf8_lossy(&m.body).into_owned())),
                );
            }
        }
        lines.sort();
        let place = pieces[0].0.key.place.clone();
        let books = exact_books(&store, place, &pieces).await.unwrap();
        let lost: u64 = books.lost.iter().map(|lost| lost.to - lost.from).sum();
        assert_eq!(books.lines, lines.len() as u64);
        assert_eq!(books.to - books.from, books.lines + books.skipped + books.erased + lost);
        assert_eq!(books.gaps, []);
        lines
    }
}

fn archiver(rocketmq: &Arc<Memory>, store: &PieceStore, clock: &Arc<ManualClock>) -> Archiver {
    Archiver::new(ArchiverParts {
        reader: rocketmq.clone(),
        store: store.clone(),
        topics: vec!["room".to_owned()],
        leave_out: LeaveOut { kinds: [Kind::P2p].into() },
        cut_every: Duration::from_secs(3600),
        rocketmq_keeps: Duration::from_secs(72 * 3600),
        clock: clock.clone(),
    })
}

#[tokio::test(start_paused = true)]
async fn a_day_that_is_over_becomes_one_piece_and_an_hour_later_the_others_are_gone() {
    let mut world = World::with_pieces(3).await;
    world.rocketmq.say_so_many(4);
    world.rocketmq.lock().messages.last_mut().unwrap().properties.insert("rbKind", "p2p");
    world.cut(0).await;
    let lines = world.lines().await;
    assert_eq!(lines.len(), 63);

    // Not before the day is over, and not by a clock that is wrong in the other direction.
    world.at(DAY_IS_OVER_MS - 1);
    assert_eq!(world.merge().await, Merged::default());
    world.at(DAY_IS_OVER_MS);
    assert_eq!(world.merge().await, Merged { written: 1, replaced: 4, removed: 0 });
    assert_eq!(world.ranges().await, [(0, 0, 20), (0, 1, 64), (20, 0, 40), (40, 0, 60), (60, 0, 64)]);
    assert_eq!(world.lines().await, lines);
    let merged = &world.pieces().await[1].1;
    assert_eq!((merged.skipped(), merged.frames.len(), merged.rooms.len()), (1, 1, 1));

    // Another process, later.
    world.at(DAY_IS_OVER_MS + HOUR_MS - 1);
    assert_eq!(world.merge().await, Merged::default());
    world.at(DAY_IS_OVER_MS + HOUR_MS);
    assert_eq!(world.merge().await, Merged { removed: 4, ..Merged::default() });
    assert_eq!(world.ranges().await, [(0, 1, 64)]);
    assert_eq!(world.lines().await, lines);

    // The archiver goes on behind it, also a new one, and what comes late joins it.
    world.cut(5).await;
    world.archiver = archiver(&world.rocketmq, &world.objects.plain(), &world.clock);
    world.cut(5).await;
    assert_eq!(world.merge().await, Merged { written: 1, replaced: 3, removed: 0 });
    world.at(DAY_IS_OVER_MS + 3 * HOUR_MS);
    assert_eq!(world.merge().await, Merged { removed: 3, ..Merged::default() });
    assert_eq!(world.ranges().await, [(0, 2, 74)]);
    assert_eq!(world.lines().await.len(), 73);
}

/// Whatever a merge has done when it dies, each line counts once, and the next one ends the work.
#[tokio::test(start_paused = true)]
async fn a_merge_that_dies_at_any_step_leaves_a_right_archive() {
    let mut steps = 0;
    for fate in [Fate::DiesBefore, Fate::DiesAfter, Fate::Refused, Fate::AnswerLost] {
        for number in 0.. {
            let world = World::with_pieces(3).await;
            let lines = world.lines().await;
            world.at(DAY_IS_OVER_MS);
            let came_to_it = interrupted(&world, number, fate).await;
            world.at(DAY_IS_OVER_MS + HOUR_MS);
            let came_to_it = interrupted(&world, number, fate).await || came_to_it;
            assert_eq!(world.lines().await, lines, "{fate:?} at {number}");
            world.merge().await;
            world.at(DAY_IS_OVER_MS + 3 * HOUR_MS);
            world.merge().await;
            assert_eq!(world.ranges().await, [(0, 1, 60)], "{fate:?} at {number}");
            assert_eq!(world.lines().await, lines, "{fate:?} at {number}");
            if !came_to_it {
                break;
            }
            steps += 1;
        }
    }
    assert!(steps > 40, "it was interrupted {steps} times");
}

/// Merges with a store whose answer to that question is this one. False: there were fewer questions.
async fn interrupted(world: &World, number: u64, fate: Fate) -> bool {
    let asked = Arc::new(Mutex::new(0));
    let count = asked.clone();
    let gate: Gate = Arc::new(move |_| {
        let mut asked = count.lock().unwrap();
        *asked += 1;
        let fate = if *asked == number + 1 { fate } else { Fate::Answered };
        async move { fate }.boxed()
    });
    let mut merger = Merger::new(world.objects.through(gate), world.clock.clone());
    let all = async {
        while merger.is_due() {
            let _ = merger.step().await;
        }
    };
    // One that died stands still.
    let _ = tokio::time::timeout(Duration::from_secs(1), all).await;
    let asked = *asked.lock().unwrap();
    asked > number
}

#[tokio::test(start_paused = true)]
async fn two_that_merge_at_once_write_one_piece() {
    let world = World::with_pieces(3).await;
    let lines = world.lines().await;
    world.at(DAY_IS_OVER_MS);
    let mergers = [world.merger(), world.merger()];
    let written = futures::future::join_all(mergers.map(async |mut merger| {
        let mut merged = Merged::default();
        while merger.is_due() {
            merged.add(merger.step().await.unwrap());
        }
        merged.written
    }))
    .await;
    // Byte for byte the same, so each may call it its own.
    assert!(written.iter().sum::<u64>() >= 1);
    assert_eq!(world.ranges().await, [(0, 0, 20), (0, 1, 60), (20, 0, 40), (40, 0, 60)]);
    assert_eq!(world.lines().await, lines);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_into_memory_becomes_several_pieces_and_stays_so() {
    let mut world = World::new();
    let large = "x".repeat(1 << 20);
    for _ in 0..5 {
        world.rocketmq.say((0..6).map(|_| large.clone()));
        assert!(world.archiver.round(true).await.1.is_none());
    }
    let lines = world.lines().await;
    world.at(DAY_IS_OVER_MS);
    // Twelve of these lines have less than 16 MiB, eighteen have more.
    assert_eq!(world.merge().await, Merged { written: 2, replaced: 4, removed: 0 });
    world.at(DAY_IS_OVER_MS + HOUR_MS);
    assert_eq!(world.merge().await, Merged { removed: 4, ..Merged::default() });
    assert_eq!(world.ranges().await, [(0, 1, 12), (12, 1, 24), (24, 0, 30)]);
    assert_eq!(world.lines().await, lines);
    let mut merger = world.merger();
    let mut steps = 0;
    while merger.is_due() {
        assert_eq!(merger.step().await.unwrap(), Merged::default());
        steps += 1;
    }
    assert_eq!(steps, 2, "it looks once at the list and once at the day");
    world.clock.advance(LOOK_EVERY);
    assert_eq!(merger.step().await.unwrap(), Merged::default());
    assert!(!merger.is_due(), "what is settled is not read again");
}

/// It stood still between its last look at the store and its write, while its pieces were merged and removed.
#[tokio::test(start_paused = true)]
async fn what_an_archiver_wrote_too_late_is_cut_to_what_only_it_has() {
    let world = World::with_pieces(3).await;
    world.at(DAY_IS_OVER_MS);
    world.merge().await;
    world.at(DAY_IS_OVER_MS + HOUR_MS);
    world.merge().await;
    let lines = world.lines().await;
    // The late one read 20 to 70, and 65 on were gone.
    world.rocketmq.say_so_many(10);
    let place = world.pieces().await[0].0.key.place.clone();
    let mut writer = PieceWriter::new(place.clone(), 20, STORED_MS);
    for message in &world.rocketmq.lock().messages[20..65] {
        writer.push(message, &crate::binding::read_back(message)).unwrap();
    }
    writer.lose(crate::piece::Lost { from: 65, to: 70, cause: crate::model::LostCause::Deleted });
    let late = PieceKey::new(place, STORED_MS, 20, 0);
    let bytes = writer.finish(70).unwrap().1;
    world.objects.plain().create(&late, bytes.into()).await.unwrap();
    let with_late = world.lines().await;
    assert_eq!((&with_late[..60], with_late.len()), (&lines[..], 65));

    world.merge().await;
    world.at(DAY_IS_OVER_MS + 3 * HOUR_MS);
    world.merge().await;
    assert_eq!(world.ranges().await, [(0, 2, 70)]);
    assert_eq!(world.lines().await, with_late);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_removed_for_a_merged_piece_that_is_damaged() {
    let world = World::with_pieces(3).await;
    world.at(DAY_IS_OVER_MS);
    world.merge().await;
    let store = world.objects.plain();
    let merged = store.all_pieces().await.unwrap().remove(1).key;
    let mut bytes = store.whole(&merged).await.unwrap().to_vec();
    bytes[20] ^= 1;
    store.remove(&merged).await.unwrap();
    store.create(&merged, bytes.into()).await.unwrap();
    world.at(DAY_IS_OVER_MS + 5 * HOUR_MS);
    let mut merger = world.merger();
    assert_eq!(merger.step().await.unwrap(), Merged::default());
    let error = merger.step().await.unwrap_err().to_string();
    assert!(error.contains(&merged.to_string()), "{error}");
    assert_eq!(store.all_pieces().await.unwrap().len(), 4);
}

/// One archiver noted as lost, on the day before its begin, what another one archived on its own day, two days later.
#[tokio::test]
async fn a_merge_hides_nothing_that_lies_on_a_day_far_away() {
    let mut world = World::with_pieces(1).await;
    world.rocketmq.later(Duration::from_secs(48 * 3600));
    world.cut(5).await;
    let store = world.objects.plain();
    let place = world.pieces().await[0].0.key.place.clone();
    for (store_ms, from, to) in [(STORED_MS, 20, 25), (STORED_MS + 24 * HOUR_MS, 25, 26)] {
        let mut writer = PieceWriter::new(place.clone(), from, store_ms);
        writer.lose(Lost { from, to, cause: LostCause::Deleted });
        let (_, bytes) = writer.finish(to).unwrap();
        let key = PieceKey::new(place.clone(), store_ms, from, 0);
        assert_eq!(store.create(&key, bytes.into()).await.unwrap(), Created::Ours);
    }
    let before = world.lines().await;
    assert_eq!(before.len(), 25);
    for days in 4..7 {
        world.at(STORED_MS + days * 24 * HOUR_MS);
        world.merge().await;
        assert_eq!(world.lines().await, before);
    }
}
