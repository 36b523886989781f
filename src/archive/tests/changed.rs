//! What happens to pieces and to RocketMQ while somebody reads.

use std::fs;
use std::ops::Range;

use super::world::{Line, World, name, of_room, shown};
use super::*;
use crate::archive::{Missing, Whole};
use crate::binding::read_back;
use crate::model::LostCause;
use crate::piece::{Lost, PieceKey, PieceWriter, Place, messages_of};
use crate::piece_store::PieceStore;
use crate::pipeline::ports::Wanted;

const LINE: Line =
    Line { queue_id: 0, clock_ms: 1, room: 1, kind: Kind::Message, id: None, is_forged: false, late_ms: 0 };

fn say(world: &mut World, count: usize) {
    (0..count).for_each(|_| world.say(&LINE));
}

/// Reads queue 0 from that offset on, up to its end or so many pages of ten.
async fn read(whole: &Whole, from: &mut u64, pages: usize) -> Vec<u64> {
    let mut offsets = Vec::new();
    let (_, end) = whole.offsets("room", &name(0)).await.unwrap();
    for _ in 0..pages {
        let page = whole.read_on("room", &name(0), Wanted::default(), (*from, 0), 10).await.unwrap();
        offsets.extend(page.messages.iter().map(|found| found.message.queue_offset));
        *from = page.next_offset;
        if *from >= end {
            break;
        }
    }
    offsets
}

/// One piece of the next version instead of all of queue 0, as a merge leaves it.
async fn merge(store: &PieceStore, folder: &std::path::Path) {
    let mut pieces = store.pieces("room").await.unwrap();
    pieces.retain(|piece| piece.key.place.queue == name(0));
    let (first, mut messages, mut to) = (pieces[0].key.clone(), Vec::new(), 0);
    for piece in &pieces {
        let directory = store.directory(piece).await.unwrap();
        let bytes = store.whole(&piece.key).await.unwrap();
        for (number, frame) in directory.frames.iter().enumerate() {
            let range = frame.range().unwrap();
            messages.extend(
                messages_of(&bytes[range.start as usize..range.end as usize], frame, number).unwrap(),
            );
        }
        to = directory.to;
    }
    messages.sort_by_key(|message| message.queue_offset);
    let mut writer = PieceWriter::new(first.place.clone(), first.from, 0);
    messages.iter().for_each(|message| writer.push(message, &read_back(message)).unwrap());
    let key = PieceKey { version: first.version + 1, ..first };
    store.create(&key, writer.finish(to).unwrap().1.into()).await.unwrap();
    pieces.iter().for_each(|piece| fs::remove_file(folder.join(piece.key.to_string())).unwrap());
}

/// Rules 17 and 26: the store is listed again, and the reading goes on by offset.
#[tokio::test(start_paused = true)]
async fn a_merge_and_what_rocketmq_forgets_change_nothing_for_who_reads() {
    let folder = tempfile::tempdir().unwrap();
    let store = PieceStore::in_folder(folder.path()).unwrap();
    let mut world = World::with(store.clone()).await;
    for _ in 0..3 {
        say(&mut world, 20);
        world.archive().await;
    }
    say(&mut world, 20);
    let (whole, mut from) = (world.whole(), 0);
    let mut offsets = read(&whole, &mut from, 2).await;

    merge(&store, folder.path()).await;
    offsets.extend(read(&whole, &mut from, 3).await);
    // What RocketMQ alone had is archived, and forgotten at once.
    world.archive().await;
    world.forget(0, 81);
    say(&mut world, 5);
    merge(&store, folder.path()).await;
    offsets.extend(read(&whole, &mut from, 100).await);

    assert_eq!(offsets, (0..86).collect::<Vec<_>>());
    assert_eq!(whole.lost("room", &name(0), 0..u64::MAX), []);
}

/// Rule 17: a hole is told where it lies, and what is behind it is read.
#[tokio::test(start_paused = true)]
async fn what_is_lost_is_told_where_it_lay() {
    let mut world = World::new().await;
    say(&mut world, 10);
    world.archive().await;
    say(&mut world, 10);
    world.forget(0, 16);
    let in_rocketmq = world.whole();
    let mut history = History::open(&in_rocketmq, of_room(Some(1), false), &mut |_| ()).await.unwrap();
    let told = history.missing().iter().map(ToString::to_string).collect::<Vec<_>>();
    let expected = "5 messages of topic room, queue a/0, between 2027-01-15T08:00:00.013Z and \
                    2027-01-15T08:00:00.019Z, are lost: RocketMQ gave them up before they were archived";
    assert_eq!(told, [expected]);
    let mut lost_before = Vec::new();
    while let Some(record) = history.next().await.unwrap() {
        lost_before.push((record.queue_offset, record.lost_before));
    }
    assert_eq!(lost_before.len(), 15);
    assert_eq!(lost_before.iter().filter(|(_, lost)| *lost > 0).collect::<Vec<_>>(), [&(16, 5)]);

    // And when the archive has written it down.
    world.archive().await;
    world.forget(0, 100);
    let archived = world.whole();
    let history = History::open(&archived, of_room(Some(1), false), &mut |_| ()).await.unwrap();
    assert_eq!(history.missing().iter().map(ToString::to_string).collect::<Vec<_>>(), [expected]);
    assert_eq!(shown(&archived, of_room(Some(1), false)).await.len(), 15);

    // Not where only other times are asked for.
    let later = HistoryQuery { from_ms: Some(super::world::START_MS + 20), ..of_room(Some(1), false) };
    let history = History::open(&archived, later, &mut |_| ()).await.unwrap();
    assert_eq!(history.missing(), []);
}

#[tokio::test(start_paused = true)]
async fn a_beginning_that_is_not_kept_is_told() {
    let mut memory = super::world::World::new().await;
    say(&mut memory, 20);
    memory.forget(0, 11);
    // Without an archive.
    let asked = |from_ms| HistoryQuery { from_ms: Some(from_ms), ..of_room(Some(1), false) };
    let start_ms = super::world::START_MS;
    let history = History::open(&*memory.broker, asked(start_ms), &mut |_| ()).await.unwrap();
    let kept_from_ms = start_ms + 14;
    let (topic, queue) = ("room".to_owned(), name(0));
    assert_eq!(history.missing(), [Missing::Older { topic, queue, kept_from_ms }]);
    // What is still there is not missed, and nobody asked for what was before all.
    let history = History::open(&*memory.broker, asked(kept_from_ms), &mut |_| ()).await.unwrap();
    assert_eq!(history.missing(), []);
    let all = History::open(&*memory.broker, of_room(Some(1), false), &mut |_| ()).await.unwrap();
    assert_eq!(all.missing(), []);
}

/// Rule 26: an archiver that stood still may write down as lost what others archived meanwhile, and RocketMQ then deleted.
#[tokio::test(start_paused = true)]
async fn what_one_piece_lost_is_read_from_another() {
    let mut world = World::new().await;
    say(&mut world, 9);
    world.archive().await;
    let place = Place { topic: "room".to_owned(), queue: name(0), generation: 0 };
    let mut late = PieceWriter::new(place.clone(), 4, 0);
    late.lose(Lost { from: 4, to: 12, cause: LostCause::Deleted });
    let key = PieceKey::new(place, super::world::START_MS, 4, 0);
    world.store.create(&key, late.finish(12).unwrap().1.into()).await.unwrap();
    say(&mut world, 3);
    world.forget(0, 12);

    let whole = world.whole();
    assert_eq!(read(&whole, &mut 0, 100).await, (0..10).chain([12]).collect::<Vec<_>>());
    assert_eq!(whole.lost("room", &name(0), 0..u64::MAX), [Range { start: 10, end: 12 }]);
    // Also from the middle, where the late piece begins nearer.
    assert_eq!(read(&world.whole(), &mut 6, 100).await, [6, 7, 8, 9, 12]);
    assert_eq!(shown(&world.whole(), of_room(Some(1), false)).await.len(), 10);
}
