//! Exports of a RocketMQ in memory and its archive, against everything that was said.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::Value;

use super::folder::Manifest;
use super::*;
use crate::archive::{HistoryQuery, StoredMessages, Whole};
use crate::archiver::memory::{Memory, STORED_MS};
use crate::archiver::{Archiver, ArchiverParts, LeaveOut};
use crate::binding::RoomQuery;
use crate::model::ManualClock;
use crate::piece::decompress_all;
use crate::piece_store::PieceStore;
use crate::pipeline::ports::Reader;

const ALL: Settings = Settings { since_ms: None, private: true };

struct World {
    rocketmq: Arc<Memory>,
    store: PieceStore,
    archiver: Archiver,
    folder: tempfile::TempDir,
    said: Vec<String>,
    /// Of what was said, how much RocketMQ or the archive still has.
    known_from: usize,
}

impl World {
    fn new() -> Self {
        let (rocketmq, store) = (Arc::new(Memory::default()), PieceStore::in_memory());
        let archiver = Archiver::new(ArchiverParts {
            reader: rocketmq.clone(),
            store: store.clone(),
            topics: vec!["room".to_owned()],
            leave_out: LeaveOut::default(),
            cut_every: Duration::from_secs(3600),
            rocketmq_keeps: Duration::from_secs(72 * 3600),
            clock: Arc::new(ManualClock::at(STORED_MS)),
        });
        let folder = tempfile::tempdir().unwrap();
        Self { rocketmq, store, archiver, folder, said: Vec::new(), known_from: 0 }
    }

    fn say(&mut self, count: u64) {
        let texts: Vec<_> = (0..count).map(|n| format!("line {}", self.said.len() as u64 + n)).collect();
        self.said.extend(texts.iter().cloned());
        self.rocketmq.say(texts);
    }

    async fn archive(&mut self) {
        assert!(self.archiver.round(true).await.1.is_none());
    }

    fn whole(&self) -> Whole {
        Whole::new(self.rocketmq.clone(), self.store.clone())
    }

    async fn export(&self, part_bytes: usize) -> Result<Added, ExportError> {
        let whole = self.whole();
        let places = whole.places("room").await?;
        let mut folder = ExportFolder::open(self.folder.path(), ALL, false)?;
        let asked = AllAsked {
            reader: &whole,
            place_of: &|_, queue| places[queue].clone(),
            topics: vec!["room".to_owned()],
            part_bytes: Some(part_bytes),
        };
        export_all(asked, &mut folder, &mut |_| {}).await
    }

    fn exported(&self) -> Vec<String> {
        let mut bodies = Vec::new();
        for number in 1.. {
            let part = self.folder.path().join(format!("part-{number:06}"));
            if !part.exists() {
                break;
            }
            let manifest = manifest_of(&part);
            let mut lines = 0;
            for file in &manifest.files {
                let text = fs::read(part.join(&file.name)).unwrap();
                assert_eq!((text.len() as u64, crc32fast::hash(&text)), (file.bytes, file.crc));
                let of_file = bodies_of(&text);
                assert_eq!(of_file.len() as u64, file.lines);
                lines += file.lines;
                bodies.extend(of_file);
            }
            for range in &manifest.ranges {
                assert_eq!(range.to - range.from, range.lines + range.left_out + range.absent, "{range:?}");
            }
            assert_eq!(lines, manifest.ranges.iter().map(|range| range.lines).sum::<u64>());
        }
        bodies
    }

    /// Every file with its bytes.
    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        for part in fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().path()) {
            if part.is_dir() && !part.ends_with(".unfinished") {
                for file in fs::read_dir(&part).unwrap().map(|entry| entry.unwrap().path()) {
                    files.insert(file.display().to_string(), fs::read(&file).unwrap());
                }
            }
        }
        files
    }
}

fn manifest_of(part: &Path) -> Manifest {
    serde_json::from_slice(&fs::read(part.join("manifest.json")).unwrap()).unwrap()
}

fn bodies_of(text: &[u8]) -> Vec<String> {
    let lines = std::str::from_utf8(text).unwrap().lines();
    lines
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["body"].as_str().unwrap().to_owned())
        .collect()
}

#[derive(Debug, Clone)]
enum Step {
    Say(u64),
    Archive,
    /// RocketMQ deletes so many of its oldest messages, which are archived or exported.
    Forget,
    /// All is archived first: without that, nobody can tell the new messages from the old ones.
    MakeAnew,
    Export(usize),
    /// A run that was killed while it wrote its part: so much of it is there.
    Killed(u8),
}

fn leave_unfinished(folder: &Path, how_much: u8) {
    let unfinished = folder.join(".unfinished");
    if !folder.join(".lock").exists() || unfinished.exists() {
        return;
    }
    fs::create_dir(&unfinished).unwrap();
    for (number, (name, bytes)) in [
        ("2026-11-20.jsonl", &b"{\"body\":\"half a li"[..]),
        ("2026-11-21.jsonl", b"{\"body\":\"x\"}\n"),
        ("manifest.json", b"{}"),
    ]
    .into_iter()
    .enumerate()
    {
        if number < usize::from(how_much) {
            fs::write(unfinished.join(name), bytes).unwrap();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    /// Rule 41: however often runs are killed, whatever RocketMQ forgets and however large the parts are, every message is in the folder
    /// once, in order, and no file that was there has changed.
    #[test]
    fn a_folder_grows_by_what_is_new_and_nothing_in_it_changes(steps in prop::collection::vec(
        prop_oneof![
            4 => (1..300_u64).prop_map(Step::Say),
            3 => Just(Step::Archive),
            2 => Just(Step::Forget),
            1 => Just(Step::MakeAnew),
            4 => (500..200_000_usize).prop_map(Step::Export),
            2 => (0..4_u8).prop_map(Step::Killed),
        ],
        1..16,
    )) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut world = World::new();
            let mut archived = 0;
            world.say(1);
            for step in steps.iter().chain([&Step::Export(usize::MAX)]) {
                match step {
                    Step::Say(count) => world.say(*count),
                    Step::Archive | Step::MakeAnew => {
                        world.archive().await;
                        archived = world.said.len();
                        if let Step::MakeAnew = step {
                            world.rocketmq.make_anew();
                            world.known_from = archived;
                        }
                    }
                    Step::Forget => {
                        let count = archived.saturating_sub(world.known_from);
                        world.rocketmq.forget(count as u64);
                        world.known_from += count;
                    }
                    Step::Killed(how_much) => leave_unfinished(world.folder.path(), *how_much),
                    Step::Export(part_bytes) => {
                        let before = world.files();
                        let count = world.exported().len();
                        let added = world.export(*part_bytes).await.unwrap();
                        prop_assert_eq!(added.lines as usize, world.said.len() - count);
                        prop_assert_eq!(&world.exported(), &world.said);
                        let after = world.files();
                        prop_assert!(before.iter().all(|(name, bytes)| after.get(name) == Some(bytes)));
                        let again = world.export(*part_bytes).await.unwrap();
                        prop_assert_eq!((again.parts, world.files()), (0, after));
                    }
                }
            }
            Ok(())
        })?;
    }
}

#[tokio::test(start_paused = true)]
async fn a_hole_is_counted_and_a_topic_that_was_made_anew_without_an_archive_is_refused() {
    let mut world = World::new();
    world.say(10);
    world.export(usize::MAX).await.unwrap();
    world.say(10);
    world.rocketmq.forget(15);
    let added = world.export(usize::MAX).await.unwrap();
    assert_eq!((added.lines, added.absent), (5, 5));
    world.rocketmq.make_anew();
    world.say(3);
    let refused = world.export(usize::MAX).await.unwrap_err().to_string();
    assert!(refused.contains("made anew"), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_part_is_cut_in_the_order_of_the_room_and_lies_in_the_file_of_its_day() {
    let mut world = World::new();
    world.say(3);
    {
        let day_ms = 24 * 3_600_000;
        let mut kept = world.rocketmq.lock();
        for (number, message) in kept.messages.iter_mut().enumerate() {
            message.stored_ms += number as u64 * day_ms;
        }
    }
    assert_eq!(
        world.export(1).await.unwrap(),
        Added { parts: 3, files: 3, lines: 3, bytes: world_bytes(&world), left_out: 0, absent: 0 }
    );
    let days: Vec<_> = world.files().into_keys().filter(|name| name.ends_with(".jsonl")).collect();
    let day = |n: usize| days[n].rsplit('/').next().unwrap().to_owned();
    assert_eq!([day(0), day(1), day(2)], ["2027-01-15.jsonl", "2027-01-16.jsonl", "2027-01-17.jsonl"]);
}

fn world_bytes(world: &World) -> u64 {
    world
        .files()
        .iter()
        .filter(|(name, _)| name.ends_with(".jsonl"))
        .map(|(_, bytes)| bytes.len() as u64)
        .sum()
}

#[test]
fn a_folder_refuses_what_it_was_not_begun_with() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("exported");
    let open = |since_ms, private| {
        ExportFolder::open(&path, Settings { since_ms, private }, false)
            .map(|folder| folder.settings())
            .map_err(|error| error.to_string())
    };
    // without a part nothing is decided
    assert!(open(Some(5), false).is_ok());
    assert!(open(None, true).is_ok());
    let mut folder =
        ExportFolder::open(&path, Settings { since_ms: Some(100), private: false }, false).unwrap();
    let in_use = open(Some(100), false).unwrap_err();
    assert!(in_use.contains("another export"), "{in_use}");
    folder.commit(Vec::new(), &BTreeMap::new()).unwrap();
    drop(folder);

    assert_eq!(open(Some(200), false), Ok(Settings { since_ms: Some(100), private: false }));
    assert!(open(None, false).is_ok(), "it goes on with what it was begun with");
    for (since_ms, private) in [(Some(99), false), (Some(100), true)] {
        let said = open(since_ms, private).unwrap_err();
        assert!(said.contains("name another folder"), "{said}");
    }
    fs::write(path.join("part-000001/manifest.json"), "{").unwrap();
    assert!(open(Some(100), false).unwrap_err().contains("damaged"));

    let foreign = scratch.path().join("foreign");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("thesis.doc"), "x").unwrap();
    let said = ExportFolder::open(&foreign, ALL, false).unwrap_err().to_string();
    assert!(said.contains("other things"), "{said}");
}

/// All bytes that came.
#[derive(Default)]
struct Bytes(Vec<u8>);

impl Lines for Bytes {
    fn write(&mut self, line: &[u8]) -> Result<(), ExportError> {
        self.0.extend_from_slice(line);
        Ok(())
    }
}

async fn room_1(reader: &dyn Reader, with_private: bool) -> (Exported, Vec<u8>) {
    let place = RoomQuery {
        topic: "room".to_owned(),
        tag: None,
        shared: false,
        room: Some("1".to_owned()),
        kind: None,
    };
    let query = HistoryQuery { places: vec![place], ..HistoryQuery::default() };
    let mut messages = StoredMessages::of_query(reader, query).await.unwrap();
    let mut bytes = Bytes::default();
    let exported = export_room(&mut messages, with_private, &mut bytes, &mut |_| {}).await.unwrap();
    (exported, bytes.0)
}

#[tokio::test(start_paused = true)]
async fn a_room_is_the_same_bytes_from_rocketmq_and_from_the_archive_which_are_the_lines_of_the_archive() {
    let mut world = World::new();
    world.say(300);
    let live = room_1(&*world.rocketmq, false).await;
    world.archive().await;
    world.rocketmq.delete_topic();
    let archived = room_1(&world.whole(), false).await;
    assert_eq!(live, archived);
    assert_eq!(bodies_of(&live.1), world.said);
    let mut lines = Vec::new();
    for listed in world.store.all_pieces().await.unwrap() {
        lines.extend(decompress_all(&world.store.whole(&listed.key).await.unwrap()));
    }
    assert_eq!(lines, live.1);
}

#[tokio::test(start_paused = true)]
async fn what_one_client_alone_was_told_is_left_out_unless_it_is_asked_for() {
    let mut world = World::new();
    world.say(3);
    {
        let mut kept = world.rocketmq.lock();
        // An answer to one client, which the class gave in this room.
        let message = &mut kept.messages[1];
        message.keys = "1 00000000000000aa-1".to_owned();
        message.properties.insert("rbId", "00000000000000aa-1");
        message.properties.insert("rbKind", "p2p");
    }
    let (exported, text) = room_1(&*world.rocketmq, false).await;
    assert_eq!((exported.lines, exported.private_left_out), (2, 1));
    assert_eq!(bodies_of(&text), ["line 0", "line 2"]);
    let (exported, _) = room_1(&*world.rocketmq, true).await;
    assert_eq!((exported.lines, exported.private_left_out), (3, 0));
}

#[test]
fn a_file_is_there_when_it_is_whole_and_is_never_written_over() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("room.jsonl.zst");
    let line = [&[b'x'; 1000][..], b"\n"].concat();
    let mut file = LinesFile::create(&path).unwrap();
    for _ in 0..3_000 {
        file.write(&line).unwrap();
    }
    assert!(!path.exists());
    drop(file);
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0, "an export that failed leaves nothing");

    let mut file = LinesFile::create(&path).unwrap();
    for _ in 0..3_000 {
        file.write(&line).unwrap();
    }
    let bytes = file.finish().unwrap();
    let written = fs::read(&path).unwrap();
    assert_eq!((written.len() as u64, decompress_all(&written)), (bytes, line.repeat(3_000)));
    assert!(matches!(LinesFile::create(&path), Err(ExportError::Exists { .. })));

    // one that comes between is not lost
    let late = scratch.path().join("late.jsonl");
    let mut file = LinesFile::create(&late).unwrap();
    file.write(&line).unwrap();
    fs::write(&late, "mine").unwrap();
    assert!(matches!(file.finish(), Err(ExportError::Exists { .. })));
    assert_eq!(fs::read(&late).unwrap(), b"mine");
}

proptest! {
    /// Rule 28: on a disk that does not tell `A` from `a`, with every legal name.
    #[test]
    fn two_rooms_have_two_files_on_every_file_system(one in "\\PC{1,80}", other in "\\PC{1,80}") {
        let (stem, lower) = (file_stem(&one), file_stem(&one.to_lowercase()));
        prop_assert!(stem.len() < 100 && !stem.starts_with('.'));
        prop_assert!(stem.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c)));
        if one != one.to_lowercase() {
            prop_assert_ne!(stem.to_lowercase(), lower.to_lowercase());
        }
        if one != other {
            prop_assert_ne!(stem.to_lowercase(), file_stem(&other).to_lowercase());
        }
    }
}
