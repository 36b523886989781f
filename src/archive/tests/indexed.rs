//! A history with an index is the one without, whatever the index has seen.

use std::sync::atomic::Ordering::Relaxed;

use proptest::prelude::*;

use super::super::{History, Missing};
use super::order::{Step, any_line, any_steps, world};
use super::world::{HOUR_MS, Line, START_MS, World, name, of_room, shown};
use super::{HistoryQuery, Kind};
use crate::archive::{Before, KeptByRocketMq, Latest, LatestQuery, Record, latest};
use crate::model::QueueName;
use crate::piece::{PieceKey, PieceWriter, Place};
use crate::pipeline::ports::Reader;

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]
    /// Rule 13: a late copy is hidden, although only the newest lines are read.
    #[test]
    fn a_history_with_an_index_is_the_one_without(
        mut steps in any_steps(true, false),
        room in 1..4_u8,
        limit in prop::option::of(1..30_u64),
        from in prop::option::of(0..60_u64),
        hours in prop::option::of(1..200_u64),
        kind in prop::option::of(Just(Kind::Command)),
        is_shared in any::<bool>(),
        more in any_steps(true, false),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        steps.push(Step::Index);
        steps.extend(more);
        runtime.block_on(async {
            let world = world(&steps).await;
            let from_ms = from.map(|hours| START_MS - 24 * HOUR_MS + hours * HOUR_MS);
            let to_ms = hours.map(|hours| from_ms.unwrap_or(START_MS - 100 * HOUR_MS) + hours * HOUR_MS / 4);
            let query = HistoryQuery { from_ms, to_ms, kind, limit, ..of_room(Some(room), is_shared) };
            let expected = world.expected(&query);
            prop_assert_eq!(shown(&world.whole(), query.clone()).await, expected.clone(), "without");
            prop_assert_eq!(shown(&world.indexed(), query.clone()).await, expected, "with an index");
            if query.from_ms.is_none() && query.limit.is_none() {
                let (without, with) = (missing(&world.whole(), &query).await, missing(&world.indexed(), &query).await);
                prop_assert_eq!(with, without, "what is missing");
            }
            Ok(())
        })?;
    }
}

async fn missing(reader: &dyn Reader, query: &HistoryQuery) -> Vec<Missing> {
    let history = History::open(reader, query.clone(), &mut |_| ()).await.unwrap();
    history.missing().to_vec()
}

async fn page(reader: &dyn Reader, room: u8, limit: usize, before: Option<Before>) -> Latest {
    let asked = LatestQuery {
        query: of_room(Some(room), true),
        wanted: &|_| true,
        limit,
        before,
        time: std::time::Duration::from_secs(60),
        now_ms: START_MS,
    };
    latest(reader, asked).await.unwrap()
}

/// All pages, the oldest first: the texts, and whether another text has the id of each.
async fn pages(reader: &dyn Reader, room: u8, limit: usize) -> Vec<(String, bool)> {
    let (mut pages, mut before) = (Vec::new(), None);
    loop {
        let found = page(reader, room, limit, before).await;
        assert!(!found.ran_out_of_time && found.records.len() <= limit);
        assert!(
            found.before.is_none() || found.records.len() == limit,
            "a page that is not the last is full"
        );
        pages.push(found.records);
        before = found.before;
        if before.is_none() {
            break;
        }
    }
    let oldest_first = pages.into_iter().rev().flatten();
    let shown = |record: Record| (String::from_utf8(record.bytes.to_vec()).unwrap(), record.conflict);
    oldest_first.map(shown).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]
    #[test]
    fn all_pages_by_an_index_together_are_the_history(
        mut steps in any_steps(true, true),
        room in 1..4_u8,
        limit in 1..30_usize,
        more in prop::collection::vec(any_line(true, true), 0..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        // What is lost counts for the order as long as an index remembers it, and then no longer.
        steps.retain(|step| !matches!(step, Step::Forget(..)));
        steps.extend([Step::Index, Step::Say(more)]);
        runtime.block_on(async {
            let world = world(&steps).await;
            let expected = world.expected(&of_room(Some(room), true));
            let expected: Vec<_> = expected.into_iter().map(|(text, _, conflict)| (text, conflict)).collect();
            prop_assert_eq!(pages(&world.indexed(), room, limit).await, expected);
            Ok(())
        })?;
    }
}

/// So many that the index is asked for a part of them, with a copy whose first one no page of the newest lines reaches.
#[tokio::test]
async fn pages_of_a_long_room_read_what_they_show_and_no_more() {
    let mut world = World::new().await;
    world.say(&Line { id: Some(7), ..LINE });
    (0..3000).for_each(|number| {
        world.say(&Line { id: Some(100 + number), queue_id: (number % 3) as i32, ..LINE });
    });
    world.archive().await;
    world.say(&Line { id: Some(7), ..LINE });
    world.index().await;
    world.say(&LINE);
    let expected = world.expected(&of_room(Some(1), true));
    let expected: Vec<_> = expected.into_iter().map(|(text, _, conflict)| (text, conflict)).collect();
    assert_eq!(pages(&world.indexed(), 1, 200).await, expected);
    world.broker.pulled.store(0, Relaxed);
    assert_eq!(page(&world.indexed(), 1, 200, None).await.records.len(), 200);
    let pulled = world.broker.pulled.load(Relaxed);
    assert!(pulled < 60, "{pulled} pulls for 200 lines of 3,000");
}

/// The rights of a class open what RocketMQ keeps, and not the archive.
#[tokio::test]
async fn what_only_the_archive_has_is_not_kept_by_rocketmq() {
    let mut world = World::new().await;
    (0..300).for_each(|_| world.say(&LINE));
    world.archive().await;
    world.index().await;
    // The first line of the queue is of another room.
    world.forget(0, 101);
    let kept = |world: &World| KeptByRocketMq::new(world.broker.clone(), world.indexed());
    let shown = pages(&kept(&world), 1, 1000).await;
    assert_eq!((shown.len(), pages(&world.indexed(), 1, 1000).await.len()), (200, 300));
    assert_eq!(pages(&kept(&world), 1, 60).await, shown);
    world.make_anew().await;
    (0..10).for_each(|_| world.say(&LINE));
    world.index().await;
    assert_eq!(pages(&kept(&world), 1, 60).await.len(), 10);
}

/// Of which room the lost messages were, nobody knows, so each page on which they could stand says so, and no other one.
#[tokio::test]
async fn a_page_says_what_is_lost_between_its_lines() {
    let mut world = World::new().await;
    (0..10).for_each(|_| world.say(&LINE));
    world.archive().await;
    (0..5).for_each(|_| world.say(&LINE));
    // The first message of the queue is of another room.
    world.forget(0, 16);
    (0..10).for_each(|_| world.say(&LINE));
    world.archive().await;
    world.index().await;
    for reader in [world.whole(), world.indexed()] {
        let all = page(&reader, 1, 100, None).await;
        let said: Vec<String> = all.missing.iter().map(ToString::to_string).collect();
        assert!(said.len() == 1 && said[0].starts_with("5 messages of topic room"), "{said:?}");
        assert_eq!(all.records.len(), 20);
        assert_eq!(page(&reader, 1, 5, None).await.missing, []);
    }
}

const LINE: Line =
    Line { queue_id: 0, clock_ms: 1, room: 1, kind: Kind::Message, id: None, is_forged: false, late_ms: 0 };

/// The index asks for the newest rows only; the first copy is older than all of them.
#[tokio::test]
async fn a_copy_that_comes_much_later_is_not_the_newest_line() {
    let mut world = World::new().await;
    world.say(&Line { id: Some(7), ..LINE });
    (0..900).for_each(|number| world.say(&Line { id: Some(100 + number), ..LINE }));
    world.say(&Line { id: Some(7), ..LINE });
    world.index().await;
    world.say(&Line { id: Some(7), ..LINE });
    let query = HistoryQuery { limit: Some(3), ..of_room(Some(1), true) };
    let newest = shown(&world.indexed(), query.clone()).await;
    assert_eq!(newest, world.expected(&query));
    // And a limit over many copies goes on until it has enough.
    (0..400).for_each(|number| world.say(&Line { id: Some(100 + number), ..LINE }));
    world.index().await;
    let newest = shown(&world.indexed(), query.clone()).await;
    assert_eq!(newest, world.expected(&query));
}

/// Rule 15: who writes another body under an id that is long known hides nothing by it, and is not believed either.
#[tokio::test]
async fn an_id_that_was_forged_much_later_is_a_conflict_for_both() {
    let mut world = World::new().await;
    world.say(&Line { id: Some(7), ..LINE });
    (0..900).for_each(|number| world.say(&Line { id: Some(100 + number), ..LINE }));
    world.archive().await;
    world.say(&Line { id: Some(7), is_forged: true, ..LINE });
    world.say(&Line { id: Some(7), ..LINE });
    world.index().await;
    world.say(&Line { id: Some(7), is_forged: true, ..LINE });
    let query = HistoryQuery { limit: Some(2), ..of_room(Some(1), true) };
    let newest = shown(&world.indexed(), query.clone()).await;
    assert_eq!(newest, [("said as 999".to_owned(), 0, false), ("forged as 7".to_owned(), 1, true)]);
    assert_eq!(newest, world.expected(&query));
    let all = pages(&world.indexed(), 1, 100).await;
    assert_eq!(
        (all.len(), &all[0], &all[901]),
        (902, &("said as 7".to_owned(), true), &("forged as 7".to_owned(), true))
    );
    assert_eq!(all.iter().filter(|(_, conflict)| *conflict).count(), 2);

    // Only what can still be read is told: when the true one is gone from RocketMQ, which alone is asked, the archive remembers it.
    world.forget(0, 500);
    let kept = KeptByRocketMq::new(world.broker.clone(), world.indexed());
    let newest = page(&kept, 1, 1, None).await.records.remove(0);
    assert_eq!((&*newest.bytes, newest.conflict), (&b"forged as 7"[..], true));
}

/// What nobody has any more is not told, although the index knows where it lay.
#[tokio::test]
async fn a_conflict_with_what_is_gone_is_not_claimed() {
    let mut world = World::new().await;
    world.say(&Line { id: Some(7), ..LINE });
    (0..900).for_each(|number| world.say(&Line { id: Some(100 + number), ..LINE }));
    world.say(&Line { id: Some(7), is_forged: true, ..LINE });
    world.index().await;
    world.forget(0, 10);
    let query = HistoryQuery { limit: Some(1), ..of_room(Some(1), true) };
    let newest = shown(&world.indexed(), query.clone()).await;
    assert_eq!(newest, [("forged as 7".to_owned(), 0, false)]);
    assert_eq!(newest, world.expected(&query));
    assert!(!page(&world.indexed(), 1, 1, None).await.records[0].conflict);
}

/// An index of a queue that is no more is of no use, and is made anew by the next round.
#[tokio::test]
async fn an_index_of_another_queue_is_not_believed() {
    let mut world = World::new().await;
    // Nothing of it is archived, so its successor has the same place.
    world.store = crate::piece_store::PieceStore::in_memory();
    (0..20).for_each(|_| world.say(&LINE));
    world.index().await;
    world.make_anew_unseen();
    (0..30).for_each(|number| world.say(&Line { room: number % 2 + 1, ..LINE }));
    let query = of_room(Some(1), true);
    assert_eq!(shown(&world.indexed(), query.clone()).await.len(), 15);
    world.index().await;
    assert_eq!(shown(&world.indexed(), query.clone()).await, world.expected(&query));
}

/// The index slept: what was said and archived meanwhile, RocketMQ has deleted, and the pieces were listed before there was one.
#[tokio::test]
async fn what_was_archived_and_deleted_since_the_pieces_were_listed_is_indexed() {
    let mut world = World::new().await;
    world.begin_anew();
    world.index().await;
    (0..3).for_each(|_| world.say(&LINE));
    world.archive().await;
    world.forget(0, 3);
    world.say(&LINE);
    world.index().await;
    let query = of_room(Some(1), true);
    assert_eq!(shown(&world.indexed(), query.clone()).await, world.expected(&query));
    assert_eq!(world.expected(&query).len(), 4);
}

/// The index slept: of the queue that it had seen nothing was archived, its successor was archived in its place, and is gone, too.
#[tokio::test]
async fn an_index_of_another_queue_than_the_one_that_was_archived_is_not_believed() {
    let mut world = World::new().await;
    world.begin_anew();
    (0..20).for_each(|_| world.say(&Line { room: 2, ..LINE }));
    world.index().await;
    world.make_anew_unseen();
    (0..30).for_each(|number| world.say(&Line { room: number % 2 + 1, ..LINE }));
    world.archive().await;
    world.make_anew().await;
    world.index().await;
    let query = of_room(Some(1), true);
    assert_eq!(shown(&world.indexed(), query.clone()).await, world.expected(&query));
    assert_eq!(world.expected(&query).len(), 15);
}

/// The same of a successor that is shorter than what was indexed: its pieces do not reach the message that would tell.
#[tokio::test]
async fn an_index_of_another_queue_than_a_shorter_one_that_was_archived_is_not_believed() {
    let mut world = World::new().await;
    world.begin_anew();
    (0..20).for_each(|_| world.say(&Line { room: 2, ..LINE }));
    world.index().await;
    world.make_anew_unseen();
    (0..10).for_each(|number| world.say(&Line { room: number % 2 + 1, ..LINE }));
    world.archive().await;
    world.make_anew().await;
    world.index().await;
    let query = of_room(Some(1), true);
    assert_eq!(shown(&world.indexed(), query.clone()).await, world.expected(&query));
    assert_eq!(world.expected(&query).len(), 5);
}

/// A broker that is away comes back, and the pieces grow meanwhile: what was indexed stays.
#[tokio::test]
async fn an_index_that_is_ahead_of_the_pieces_of_its_queue_is_kept() {
    let mut world = World::new().await;
    world.begin_anew();
    (0..10).for_each(|_| world.say(&LINE));
    world.archive().await;
    (0..10).for_each(|_| world.say(&LINE));
    world.index().await;
    let indexed_to = |world: &World| {
        let index = crate::index::Index::open(world.index_folder.path()).unwrap().unwrap();
        index.positions().unwrap().values().map(|position| position.next_offset).max()
    };
    assert_eq!(indexed_to(&world), Some(20));
    world.make_anew().await;
    world.index().await;
    assert_eq!(indexed_to(&world), Some(20), "it was not made anew");
}

/// A queue of which everything was left out has no message to take a month from.
#[tokio::test]
async fn what_was_left_out_has_its_place_in_the_month_of_its_piece() {
    let mut world = World::new().await;
    let queue = QueueName { broker: "a".into(), id: 77 };
    let place = Place { topic: "room".to_owned(), queue, generation: 0 };
    world.say(&LINE);
    let message = world.broker.pull("room", &name(0), None, 1, 1).await.unwrap().messages.remove(0);
    let mut writer = PieceWriter::new(place.clone(), 0, 0);
    writer.skip(&message, "p2p");
    let key = PieceKey::new(place.clone(), message.stored_ms, 0, 0);
    world.store.create(&key, writer.finish(1).unwrap().1.into()).await.unwrap();
    world.index().await;
    assert_eq!(world.index_files(), ["index-2027-01.sqlite3"]);
    let positions =
        crate::index::Index::open(world.index_folder.path()).unwrap().unwrap().positions().unwrap();
    let position = &positions[&place];
    assert_eq!((position.next_offset, position.eff_ms), (1, message.stored_ms));
}

/// The index knows rows that RocketMQ deleted before they were archived; they hide neither the rows behind them nor a copy.
#[tokio::test]
async fn what_rocketmq_deleted_after_it_was_indexed_hides_nothing() {
    let mut world = World::new().await;
    world.say(&Line { id: Some(7), ..LINE });
    (0..5).for_each(|number| world.say(&Line { id: Some(100 + number), ..LINE }));
    world.index().await;
    world.forget(0, 4);
    let query = of_room(Some(1), true);
    assert_eq!(shown(&world.indexed(), query.clone()).await, world.expected(&query));
    let lost = missing(&world.indexed(), &query).await;
    assert_eq!(lost, missing(&world.whole(), &query).await);
    assert!(lost[0].to_string().starts_with("3 messages of topic room, queue "), "{lost:?}");

    (0..900).for_each(|number| world.say(&Line { id: Some(200 + number), ..LINE }));
    world.say(&Line { id: Some(7), ..LINE });
    world.index().await;
    let query = HistoryQuery { limit: Some(3), ..query };
    assert_eq!(shown(&world.indexed(), query.clone()).await, world.expected(&query));
}
