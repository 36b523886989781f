//! The order of readers: one for everybody, from wherever a reading begins, although clocks are set back.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::cursor::{Cursor, Sought, earliest};
use super::world::{HOUR_MS, Line, START_MS, Said, World, name, of_room, shown};
use crate::model::Kind;
use crate::pipeline::ports::Reader;

#[derive(Debug, Clone)]
pub(super) enum Step {
    Say(Vec<Line>),
    Archive,
    Forget(i32, u64),
    MakeAnew,
    Index,
}

/// `late`: lines can be on their way for days; `set_back`: clocks can be set back.
pub(super) fn any_line(late: bool, set_back: bool) -> impl Strategy<Value = Line> {
    let least_ms = if set_back { -(2 * HOUR_MS as i64) } else { 0 };
    let clock_ms = prop_oneof![8 => 0..50_i64, 1 => Just(HOUR_MS as i64), 1 => least_ms..1];
    let late_ms = if late {
        prop_oneof![6 => Just(0_u64), 1 => 0..90_000_u64, 1 => 0..7 * 24 * HOUR_MS].boxed()
    } else {
        Just(0).boxed()
    };
    let kind = prop_oneof![4 => Just(Kind::Message), 1 => Just(Kind::Command)];
    let id = (prop::option::of(0..60_u64), prop::bool::weighted(0.2));
    (0..3_i32, clock_ms, 1..4_u8, kind, id, late_ms).prop_map(
        |(queue_id, clock_ms, room, kind, (id, is_forged), late_ms)| {
            // Copies have the same room and kind; and whoever forges an id does so where its message is.
            let (room, kind) = match id {
                Some(id) => ((id % 3) as u8 + 1, if id % 5 == 0 { Kind::Command } else { Kind::Message }),
                None => (room, kind),
            };
            Line { queue_id, clock_ms, room, kind, id, is_forged, late_ms }
        },
    )
}

pub(super) fn any_steps(late: bool, set_back: bool) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => prop::collection::vec(any_line(late, set_back), 1..40).prop_map(Step::Say),
        3 => Just(Step::Archive),
        2 => (0..3_i32, 1..60_u64).prop_map(|(queue_id, count)| Step::Forget(queue_id, count)),
        1 => Just(Step::MakeAnew),
        2 => Just(Step::Index),
    ];
    prop::collection::vec(step, 1..10)
}

pub(super) async fn world(steps: &[Step]) -> World {
    let mut world = World::new().await;
    for step in steps {
        match step {
            Step::Say(lines) => lines.iter().for_each(|line| world.say(line)),
            Step::Archive => world.archive().await,
            Step::Forget(queue_id, count) => world.forget(*queue_id, *count),
            Step::MakeAnew => world.make_anew().await,
            Step::Index => world.index().await,
        }
    }
    world
}

/// Reads all queues, each from that offset on.
async fn read_from(reader: &dyn Reader, middle: &BTreeMap<i32, u64>) -> Vec<String> {
    let mut cursors = Vec::new();
    for queue in reader.queues("room").await.unwrap() {
        let (first, end) = reader.offsets("room", &queue).await.unwrap();
        let from =
            middle.get(&queue.id).filter(|_| queue == name(queue.id)).copied().unwrap_or(first).max(first);
        let before_ms = reader.store_time_before("room", &queue, from).await.unwrap();
        let sought = Sought { topic: "room".to_owned(), queue, tag: None, room: None };
        cursors.push(Cursor::new(reader, sought, (from, before_ms), end));
    }
    let mut read = Vec::new();
    while let Some((_, found)) = earliest(&mut cursors).await.unwrap() {
        read.push(String::from_utf8(found.message.body.to_vec()).unwrap());
    }
    read
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]
    #[test]
    fn the_order_is_one_from_the_start_from_any_middle_and_for_one_room(
        steps in any_steps(false, true),
        middle in prop::collection::btree_map(0..3_i32, 0..150_u64, 0..4),
        room in 1..4_u8,
    ) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let world = world(&steps).await;
            let kept = world.kept();
            let texts = |kept: &[Said]| kept.iter().map(|said| said.text.clone()).collect::<Vec<_>>();
            prop_assert_eq!(read_from(&world.whole(), &BTreeMap::new()).await, texts(&kept));

            let newest = kept.iter().map(|said| said.epoch).max().unwrap_or(0);
            let mut from_there = kept.clone();
            from_there.retain(|said| {
                said.epoch < newest || middle.get(&said.queue_id).is_none_or(|from| said.offset >= *from)
            });
            prop_assert_eq!(read_from(&world.whole(), &middle).await, texts(&from_there));

            for is_shared in [false, true] {
                let query = of_room(Some(room), is_shared);
                prop_assert_eq!(shown(&world.whole(), query.clone()).await, world.expected(&query));
            }
            Ok(())
        })?;
    }

    /// Rule 18: what was said counts for when it was said, however late it was stored.
    #[test]
    fn a_range_of_time_is_that_of_what_was_said(
        steps in any_steps(true, true),
        from in prop::option::of(0..30_u64),
        hours in prop::option::of(0..200_u64),
    ) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let world = world(&steps).await;
            let from_ms = from.map(|hours| START_MS - 24 * HOUR_MS + hours * HOUR_MS);
            let to_ms = hours.map(|hours| from_ms.unwrap_or(START_MS - 100 * HOUR_MS) + hours * HOUR_MS / 4);
            let query = super::HistoryQuery { from_ms, to_ms, ..of_room(Some(1), false) };
            prop_assert_eq!(shown(&world.whole(), query.clone()).await, world.expected(&query));
            Ok(())
        })?;
    }
}
