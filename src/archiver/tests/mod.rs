//! The archiver against a RocketMQ in memory.

mod behind;

use super::*;

use super::books::books_of;
use super::memory::{Memory, STORED_MS, name};
use crate::model::{Kind, ManualClock};
use crate::piece::{Directory, Place, verify};
use crate::piece_store::Listed;

const HOUR: Duration = Duration::from_secs(3600);

struct World {
    rocketmq: Arc<Memory>,
    store: PieceStore,
    clock: Arc<ManualClock>,
    archiver: Archiver,
}

impl Round {
    fn is_nothing(&self) -> bool {
        let Self { headroom, told, withheld, oldest_ms, is_urgent, .. } = *self;
        *self == Self { headroom, told, withheld, oldest_ms, is_urgent, ..Self::default() }
    }
}

impl Archiver {
    async fn done(&mut self, flush: bool) -> Round {
        let (round, failed) = self.round(flush).await;
        assert!(failed.is_none(), "{failed:?}");
        round
    }
}

impl World {
    fn new() -> Self {
        let (rocketmq, store) = (Arc::new(Memory::default()), PieceStore::in_memory());
        let clock = Arc::new(ManualClock::at(STORED_MS));
        let archiver = archiver(&rocketmq, &store, &clock);
        Self { rocketmq, store, clock, archiver }
    }

    /// A new process.
    fn restart(&mut self) {
        self.archiver = archiver(&self.rocketmq, &self.store, &self.clock);
    }

    async fn pieces(&self) -> Vec<(Listed, Directory)> {
        let mut pieces = Vec::new();
        for listed in self.store.pieces("room").await.unwrap() {
            let directory = verify(&self.store.whole(&listed.key).await.unwrap()).unwrap();
            pieces.push((listed, directory));
        }
        pieces
    }

    async fn ranges(&self) -> Vec<(u32, u64, u64)> {
        let pieces = self.pieces().await;
        pieces
            .iter()
            .map(|(piece, directory)| (piece.key.place.generation, directory.from, directory.to))
            .collect()
    }

    async fn books(&self, generation: u32) -> PlaceBooks {
        let place = Place { topic: "room".to_owned(), queue: name(), generation };
        let mut pieces = self.pieces().await;
        pieces.retain(|(piece, _)| piece.key.place == place);
        books_of(place, &pieces)
    }
}

fn sum<T>(counts: &BTreeMap<T, u64>) -> u64 {
    counts.values().sum()
}

fn archiver(rocketmq: &Arc<Memory>, store: &PieceStore, clock: &Arc<ManualClock>) -> Archiver {
    Archiver::new(ArchiverParts {
        reader: rocketmq.clone(),
        store: store.clone(),
        topics: vec!["room".to_owned()],
        leave_out: LeaveOut { kinds: [Kind::P2p].into() },
        cut_every: HOUR,
        rocketmq_keeps: 72 * HOUR,
        clock: clock.clone(),
    })
}

#[tokio::test(start_paused = true)]
async fn what_rocketmq_holds_becomes_pieces_without_a_gap() {
    let mut world = World::new();
    world.rocketmq.say_so_many(600);
    let round = world.archiver.done(false).await;
    assert_eq!((round.pieces, round.lines, sum(&round.lost)), (1, 600, 0));
    // Nothing new, then something that may wait, then its hour is over.
    assert!(world.archiver.done(true).await.is_nothing());
    world.rocketmq.say_so_many(5);
    assert!(world.archiver.done(false).await.is_nothing());
    world.clock.advance(HOUR);
    assert_eq!(world.archiver.done(false).await.lines, 5);
    assert_eq!(world.ranges().await, [(0, 0, 600), (0, 600, 605)]);
    let books = world.books(0).await;
    assert_eq!((books.from, books.to, books.lines), (0, 605, 605));
    assert_eq!((books.gaps, books.overlaps), (vec![], vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_restart_goes_on_at_the_end_of_the_last_piece() {
    let mut world = World::new();
    world.rocketmq.say_so_many(10);
    world.archiver.done(true).await;
    world.restart();
    assert!(world.archiver.done(true).await.is_nothing());
    world.rocketmq.say_so_many(1);
    world.archiver.done(true).await;
    assert_eq!(world.ranges().await, [(0, 0, 10), (0, 10, 11)]);
}

#[tokio::test(start_paused = true)]
async fn what_rocketmq_deletes_before_the_first_piece_is_named_as_lost() {
    // Given: messages that wait for their hour in a queue that was seen empty. When: RocketMQ deletes the first of them.
    let mut world = World::new();
    world.rocketmq.say_so_many(3);
    world.rocketmq.make_anew();
    assert!(world.archiver.done(false).await.is_nothing());
    world.rocketmq.say_so_many(10);
    assert!(world.archiver.done(false).await.is_nothing());
    world.rocketmq.forget_before(6);
    let round = world.archiver.done(true).await;
    assert_eq!((round.lines, sum(&round.lost)), (4, 6));
    assert_eq!(world.ranges().await, [(0, 0, 10)]);
}

#[tokio::test(start_paused = true)]
async fn what_comes_after_the_start_may_wait_and_what_was_there_may_not() {
    let mut world = World::new();
    assert!(world.archiver.done(false).await.is_nothing());
    world.rocketmq.say_so_many(5);
    assert!(world.archiver.done(false).await.is_nothing());
    world.restart();
    assert_eq!(world.archiver.done(false).await.lines, 5);
}

#[tokio::test(start_paused = true)]
async fn a_full_piece_is_cut_at_once_and_the_rest_is_the_next_one() {
    let mut world = World::new();
    world.archiver.done(false).await;
    let large = "x".repeat(1 << 20);
    world.rocketmq.say((0..20).map(|_| large.clone()));
    let round = world.archiver.done(true).await;
    assert_eq!((round.pieces, round.lines), (2, 20));
    assert_eq!(world.ranges().await, [(0, 0, 16), (0, 16, 20)]);
}

#[tokio::test(start_paused = true)]
async fn what_rocketmq_deleted_first_is_written_down_as_lost() {
    let mut world = World::new();
    world.rocketmq.say_so_many(10);
    world.archiver.done(true).await;
    world.rocketmq.say_so_many(30);
    world.rocketmq.forget_before(25);
    let round = world.archiver.done(true).await;
    assert_eq!((round.lines, round.lost), (15, [(LostCause::Deleted, 15)].into()));
    let books = world.books(0).await;
    let lost: Vec<_> = books.lost.iter().map(|lost| (lost.from, lost.to)).collect();
    assert_eq!((lost, books.gaps), (vec![(10, 25)], vec![]));
    assert_eq!(books.to - books.from, books.lines + 15);
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_was_never_archived_begins_with_what_is_left() {
    let mut world = World::new();
    world.rocketmq.say_so_many(30);
    world.rocketmq.forget_before(25);
    let round = world.archiver.done(true).await;
    assert_eq!((round.lines, sum(&round.lost)), (5, 0));
    assert_eq!(world.ranges().await, [(0, 25, 30)]);
}

/// What tells an old queue from a new one may be deleted. Then the other archiver knows more, and nothing is archived twice.
#[tokio::test]
async fn an_archiver_that_stood_still_goes_on_with_the_generation_that_another_one_began() {
    // Given one that knows the first generation, and another one that has archived the second
    let mut world = World::new();
    world.rocketmq.say_so_many(5);
    world.archiver.done(true).await;
    world.rocketmq.make_anew();
    world.rocketmq.say_so_many(3);
    let mut other = archiver(&world.rocketmq, &world.store, &world.clock);
    other.done(true).await;
    assert_eq!(world.ranges().await, [(0, 0, 5), (1, 0, 3)]);

    // When RocketMQ deletes beyond both, and the first one goes on
    world.rocketmq.say_so_many(17);
    other.done(true).await;
    world.rocketmq.forget_before(15);
    world.rocketmq.say_so_many(2);
    world.archiver.done(true).await;

    // Then it is the second one
    assert_eq!(world.ranges().await, [(0, 0, 5), (1, 0, 3), (1, 3, 20), (1, 20, 22)]);
}

/// The same in one generation: what the other one archived, on another day, must not become a hole because RocketMQ has forgotten it.
#[tokio::test]
async fn an_archiver_that_stood_still_writes_no_hole_over_what_another_one_archived() {
    let mut world = World::new();
    world.rocketmq.say_so_many(5);
    world.archiver.done(true).await;
    let mut other = archiver(&world.rocketmq, &world.store, &world.clock);
    world.rocketmq.later(48 * HOUR);
    world.rocketmq.say_so_many(20);
    other.done(true).await;
    world.rocketmq.forget_before(22);
    world.rocketmq.say_so_many(2);
    world.archiver.done(true).await;
    assert_eq!(world.ranges().await, [(0, 0, 5), (0, 5, 25), (0, 25, 27)]);
    assert_eq!(world.books(0).await.lost, []);
}

/// The same, where one of two looked when there was nothing to archive, and saw later that the topic was made anew.
#[tokio::test]
async fn of_two_archivers_without_a_piece_the_second_goes_on_with_that_of_the_first() {
    for is_first in [true, false] {
        let mut world = World::new();
        world.rocketmq.say_so_many(9);
        world.rocketmq.forget_before(9);
        let mut other = archiver(&world.rocketmq, &world.store, &world.clock);
        assert!(other.done(true).await.is_nothing());
        world.rocketmq.make_anew();
        world.rocketmq.say_so_many(4);
        if is_first {
            other.done(true).await;
            world.archiver.done(true).await;
        } else {
            world.archiver.done(true).await;
            other.done(true).await;
        }
        let ranges = world.ranges().await;
        assert!(matches!(ranges[..], [(_, 0, 4)]), "each message once: {ranges:?}");
    }
}

/// The first piece of a generation has nothing to prove it by. Two archivers read at different times: one of them, and what it read, counts.
#[tokio::test]
async fn of_two_first_pieces_only_the_one_that_was_claimed_first_is_written() {
    let world = World::new();
    let name = name();
    let queue = || Queue::in_store(&world.store, "room", &name);
    let (mut one, mut other) = (queue().await.unwrap(), queue().await.unwrap());
    let place = one.place.clone();
    let key = |from: u64, hour: u64| PieceKey::new(place.clone(), STORED_MS + hour * 3_600_000, from, 0);
    let (early, late) = (key(0, 0), key(7, 30));
    assert_eq!(one.claim(&world.store, early.clone()).await.unwrap(), Some(early.clone()));
    assert_eq!(other.claim(&world.store, late).await.unwrap(), None);

    // Who looks again goes on with the piece that was claimed, under its name, also if RocketMQ has deleted its begin by now.
    let mut again = queue().await.unwrap();
    assert_eq!((again.next, again.is_begun, again.is_without_piece), (0, true, true));
    assert_eq!(again.claim(&world.store, key(0, 30)).await.unwrap(), Some(early));
}

#[tokio::test(start_paused = true)]
async fn an_archiver_that_is_killed_behind_its_claim_leaves_no_hole_and_no_second_begin() {
    // Given a claim without a piece
    let mut world = World::new();
    world.rocketmq.say_so_many(10);
    let place = Place { topic: "room".to_owned(), queue: name(), generation: 0 };
    let key = PieceKey::new(place, STORED_MS - 48 * 3_600_000, 0, 0);
    assert_eq!(world.store.claim(0, &key).await.unwrap(), Created::Ours);

    // When RocketMQ deletes the first messages, then the next archiver writes that piece and names them as lost
    world.rocketmq.forget_before(4);
    let round = world.archiver.done(true).await;
    assert_eq!((round.lines, sum(&round.lost)), (6, 4));
    assert_eq!(world.pieces().await[0].0.key, key);

    // When the topic is made anew, a claim without a piece is one of the old time
    let of_time = |generation, day| PieceKey::new(Place { generation, ..key.place.clone() }, day, 5, 0);
    assert_eq!(world.store.claim(2, &of_time(1, STORED_MS)).await.unwrap(), Created::Ours);
    world.restart();
    world.rocketmq.make_anew();
    world.rocketmq.say_so_many(3);
    world.archiver.done(true).await;
    assert_eq!(world.ranges().await, [(0, 0, 10), (2, 0, 3)]);
}

/// One archiver has begun a generation and archived nothing of it, when another one goes on with the queue that came back. What RocketMQ
/// deleted before either of them looked is not lost to the next generation.
#[tokio::test(start_paused = true)]
async fn a_generation_that_nobody_claimed_is_begun_again_where_the_queue_begins_now() {
    let mut world = World::new();
    world.rocketmq.say_so_many(5);
    world.archiver.done(true).await;
    world.rocketmq.make_anew();
    assert!(world.archiver.done(false).await.is_nothing());
    world.rocketmq.bring_back();
    world.rocketmq.say_so_many(10);
    world.rocketmq.forget_before(8);
    let mut other = archiver(&world.rocketmq, &world.store, &world.clock);
    assert_eq!(sum(&other.done(true).await.lost), 3);
    world.rocketmq.make_anew();
    world.rocketmq.say_so_many(6);
    world.rocketmq.forget_before(3);
    let round = world.archiver.done(true).await;
    assert_eq!((round.lines, sum(&round.lost)), (3, 0));
    assert_eq!(world.ranges().await, [(0, 0, 5), (0, 5, 15), (1, 3, 6)]);
}

/// The message that would tell is counted and not given out. Another one tells; and where there is none, nothing is passed over.
#[tokio::test(start_paused = true)]
async fn a_new_topic_that_keeps_back_the_message_which_would_tell_is_no_old_one() {
    for archived in [1, 4] {
        let mut world = World::new();
        world.rocketmq.say_so_many(archived);
        world.archiver.done(true).await;
        world.rocketmq.make_anew();
        world.rocketmq.say_so_many(8);
        world.rocketmq.lock().withheld = vec![archived - 1];
        let round = world.archiver.done(true).await;
        assert_eq!((round.lines, sum(&round.lost)), (7, 1), "{archived}");
        assert_eq!(world.ranges().await, [(0, 0, archived), (1, 0, 8)]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_keeps_back_the_last_archived_message_is_still_the_same() {
    let mut world = World::new();
    world.rocketmq.say_so_many(5);
    world.archiver.done(true).await;
    world.rocketmq.lock().withheld = vec![4];
    world.rocketmq.say_so_many(2);
    world.archiver.done(true).await;
    assert_eq!(world.ranges().await, [(0, 0, 5), (0, 5, 7)]);
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_was_made_anew_begins_a_generation() {
    let mut world = World::new();
    world.rocketmq.say_so_many(10);
    world.archiver.done(true).await;
    // Shorter than before.
    world.rocketmq.make_anew();
    world.rocketmq.say_so_many(3);
    world.archiver.done(true).await;
    // Longer than before: only the message before the position tells.
    world.rocketmq.make_anew();
    world.rocketmq.say_so_many(8);
    world.archiver.done(true).await;
    assert_eq!(world.ranges().await, [(0, 0, 10), (1, 0, 3), (2, 0, 8)]);
    world.restart();
    assert!(world.archiver.done(true).await.is_nothing());
}

/// Rule 14 of the archive, E1 of RocketMQ: a broker that crashes brings a deleted topic back.
#[tokio::test(start_paused = true)]
async fn a_topic_that_comes_back_is_not_archived_twice() {
    let mut world = World::new();
    world.rocketmq.say_so_many(20);
    world.archiver.done(true).await;
    world.rocketmq.make_anew();
    world.rocketmq.say_so_many(5);
    world.archiver.done(true).await;
    world.rocketmq.bring_back();
    assert!(world.archiver.done(true).await.is_nothing());
    world.restart();
    world.rocketmq.say_so_many(2);
    world.archiver.done(true).await;
    assert_eq!(world.ranges().await, [(0, 0, 20), (0, 20, 22), (1, 0, 5)]);
    // The next one is none of those.
    world.rocketmq.make_anew();
    world.rocketmq.say_so_many(5);
    world.archiver.done(true).await;
    assert_eq!(world.ranges().await, [(0, 0, 20), (0, 20, 22), (1, 0, 5), (2, 0, 5)]);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_counted_and_not_given_out_holds_nobody_up_for_ever() {
    let mut world = World::new();
    world.rocketmq.say_so_many(10);
    world.rocketmq.lock().withheld = vec![4];
    let round = world.archiver.done(true).await;
    assert_eq!((round.lines, round.lost), (9, [(LostCause::NotGivenOut, 1)].into()));
    let lost = &world.books(0).await.lost;
    assert_eq!((lost[0].from, lost[0].to), (4, 5));
}

/// Otherwise the alarm would be silent just when the archiver stands still.
#[tokio::test(start_paused = true)]
async fn the_headroom_is_told_while_nothing_can_be_archived_and_not_while_rocketmq_is_silent() {
    let mut world = World::new();
    world.rocketmq.say_so_many(100);
    world.archiver.done(true).await;
    world.rocketmq.say_so_many(20);
    world.rocketmq.lock().withheld = (100..120).collect();
    // RocketMQ deletes one message each second, and 100 lie before the position.
    let mut told = Vec::new();
    for _ in 0..3 {
        world.clock.advance(Duration::from_secs(10));
        world.rocketmq.forget(10);
        let (round, failed) = world.archiver.round(true).await;
        assert!(failed.is_some());
        told.push(round.headroom.unwrap());
    }
    assert_eq!(told[1..], [80, 70].map(Duration::from_secs));
    world.rocketmq.lock().is_silent = true;
    let (round, failed) = world.archiver.round(true).await;
    assert!(failed.is_some());
    assert_eq!(round.headroom, None);
}

#[tokio::test(start_paused = true)]
async fn of_two_archivers_one_writes_each_piece() {
    let mut world = World::new();
    let mut other = archiver(&world.rocketmq, &world.store, &world.clock);
    world.rocketmq.say_so_many(10);
    world.archiver.done(true).await;
    assert!(other.done(true).await.is_nothing());
    // Both know 10 as the end; the other one was paused while messages came.
    world.rocketmq.say_so_many(5);
    world.archiver.done(true).await;
    world.rocketmq.say_so_many(5);
    assert_eq!(other.done(true).await.lines, 5);
    // What it would write is there already, byte for byte.
    world.archiver.done(true).await;
    assert_eq!(world.ranges().await, [(0, 0, 10), (0, 10, 15), (0, 15, 20)]);
    assert!(world.archiver.done(true).await.is_nothing());
    assert!(world.books(0).await.overlaps.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_the_settings_leave_out_is_counted() {
    let mut world = World::new();
    world.rocketmq.say_so_many(3);
    for message in &mut world.rocketmq.lock().messages[1..] {
        message.properties.insert("rbKind", "p2p");
    }
    let round = world.archiver.done(true).await;
    assert_eq!((round.lines, round.left_out), (1, [(Kind::P2p, 2)].into()));
    let books = world.books(0).await;
    assert_eq!((books.to - books.from, books.lines, books.skipped), (3, 1, 2));
}

#[test]
fn of_pieces_that_overlap_the_highest_version_counts() {
    let place = Place { topic: "room".to_owned(), queue: name(), generation: 0 };
    let piece = |from: u64, to: u64, version: u32| {
        let writer = crate::piece::PieceWriter::new(place.clone(), from, 0);
        let (mut directory, _) = writer.finish(from).unwrap();
        directory.to = to;
        (Listed { key: PieceKey::new(place.clone(), 0, from, version), bytes: 1 }, directory)
    };
    // Two hours, the day that was merged of them, one more hour, and one that a paused archiver wrote late.
    let pieces = [piece(0, 10, 0), piece(10, 20, 0), piece(0, 20, 1), piece(20, 30, 0), piece(15, 25, 0)];
    let parts: Vec<_> =
        effective(&pieces).iter().map(|part| (part.piece.key.version, part.from, part.to)).collect();
    assert_eq!(parts, [(1, 0, 20), (0, 20, 30)]);
    let books = books_of(place.clone(), &pieces);
    assert_eq!(books.gaps, []);
    assert_eq!(books.overlaps, []);
    // What comes late takes nothing from what was there.
    let late = [piece(0, 20, 1), piece(10, 25, 0), piece(20, 22, 0)];
    let parts: Vec<_> =
        effective(&late).iter().map(|part| (part.piece.key.from, part.from, part.to)).collect();
    assert_eq!(parts, [(0, 0, 20), (20, 20, 22), (10, 22, 25)]);
    assert_eq!(books_of(place.clone(), &late).overlaps, [(10, 22)]);
    assert_eq!(books_of(place.clone(), &[piece(0, 5, 0), piece(7, 9, 0)]).gaps, [(5, 7)]);
}
