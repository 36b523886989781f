//! A folder that holds an export of everything and grows by parts, each with its lines by day and a manifest.
//!
//! A part is written in a folder of its own under a name that begins with a dot, fsynced, and then renamed once: so it is there as a
//! whole or not at all, wherever a run was killed. What the manifests say is the position: the next run goes on behind it.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::ExportError;
use super::lines_file::{COMPRESSED, sync_folder_of};
use crate::model::QueueName;
use crate::piece::{Place, compress};

/// Of the manifest.
const SCHEMA: u32 = 1;
const MANIFEST: &str = "manifest.json";
const LOCK: &str = ".lock";
const UNFINISHED: &str = ".unfinished";
const PART: &str = "part-";

/// What an export was begun with, and goes on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Settings {
    /// Only lines that were said at or after this time, milliseconds since 1970-01-01 UTC.
    pub since_ms: Option<u64>,
    /// Whether it holds what one client alone was told.
    pub private: bool,
}

/// What one part holds. `to - from = lines + left_out + absent` for each range.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// Of this file; 1.
    pub schema: u32,
    /// Counts from 1, without a gap.
    pub part: u32,
    /// The same in all parts.
    #[serde(flatten)]
    pub settings: Settings,
    /// By queue.
    pub ranges: Vec<Range>,
    /// By day.
    pub files: Vec<DayFile>,
}

/// Offsets of one queue, the first included and the last not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Range {
    /// RocketMQ topic.
    pub topic: String,
    /// Name of the broker that owned the queue.
    pub broker: String,
    /// Its number there.
    pub queue_id: i32,
    /// Which queue of this name: a topic that was made anew begins the next one.
    pub generation: u32,
    /// The first offset.
    pub from: u64,
    /// The offset after the last one.
    pub to: u64,
    /// Lines of it in the files.
    pub lines: u64,
    /// Messages of it that the settings leave out.
    pub left_out: u64,
    /// Offsets without a message: the archive left them out, or they are erased or lost.
    pub absent: u64,
    /// Names the message before `to`, if it was read.
    pub last: Option<String>,
}

impl Range {
    pub(super) fn place(&self) -> Place {
        Place {
            topic: self.topic.clone(),
            queue: QueueName { broker: self.broker.as_str().into(), id: self.queue_id },
            generation: self.generation,
        }
    }
}

/// The lines of one day, in UTC, by `at`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DayFile {
    /// In the folder of the part.
    pub name: String,
    /// How many lines.
    pub lines: u64,
    /// Its size.
    pub bytes: u64,
    /// CRC-32 of its bytes.
    pub crc: u32,
}

/// How far a queue is exported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Position {
    pub next: u64,
    pub last: Option<String>,
}

/// The lines of a part, by day: their number and their text.
pub(super) type Days = BTreeMap<String, (u64, Vec<u8>)>;

/// An export of everything; no other run works on it while this one is there.
#[derive(Debug)]
pub(crate) struct ExportFolder {
    path: PathBuf,
    /// Held until the end of the process.
    _lock: File,
    parts: u32,
    settings: Settings,
    positions: BTreeMap<Place, Position>,
    compressed: bool,
}

impl ExportFolder {
    /// Makes the folder if it is missing; only its owner can read it. What a killed run left unfinished is removed.
    pub(crate) fn open(path: &Path, wanted: Settings, compressed: bool) -> Result<Self, ExportError> {
        let failed = |source| ExportError::Write { path: path.to_owned(), source };
        let is_new = !path.exists();
        if is_new {
            DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
            sync_folder_of(path).map_err(failed)?;
        }
        let names = names_in(path)?;
        let is_ours = names.iter().any(|name| name == LOCK);
        if !is_ours && !names.is_empty() {
            return Err(ExportError::Foreign { path: path.to_owned() });
        }
        let lock =
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path.join(LOCK));
        let lock = lock.map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(ExportError::InUse { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        match fs::remove_dir_all(path.join(UNFINISHED)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            Ok(()) | Err(_) => {}
        }
        let mut folder = Self {
            path: path.to_owned(),
            _lock: lock,
            parts: 0,
            settings: wanted,
            positions: BTreeMap::new(),
            compressed,
        };
        folder.read_manifests(wanted)?;
        Ok(folder)
    }

    /// What it was begun with.
    pub(crate) fn settings(&self) -> Settings {
        self.settings
    }

    /// How many parts it has.
    pub(crate) fn parts(&self) -> u32 {
        self.parts
    }

    pub(super) fn position(&self, place: &Place) -> Option<&Position> {
        self.positions.get(place)
    }

    fn read_manifests(&mut self, wanted: Settings) -> Result<(), ExportError> {
        let names = names_in(&self.path)?;
        let count = names.iter().filter(|name| name.starts_with(PART)).count();
        for number in 1..=u32::try_from(count).unwrap_or(u32::MAX) {
            let path = self.path.join(part_name(number));
            let manifest = read_manifest(&path)?;
            let damaged = |cause: &str| ExportError::Damaged { path: path.clone(), cause: cause.to_owned() };
            if manifest.schema != SCHEMA || manifest.part != number {
                return Err(damaged("its manifest is of another part, or of a later version"));
            }
            if number == 1 {
                self.go_on_with(manifest.settings, wanted)?;
            } else if manifest.settings != self.settings {
                return Err(damaged("its manifest has other settings than the first part"));
            }
            self.add(&manifest).map_err(|cause| damaged(&cause))?;
            self.parts = number;
        }
        Ok(())
    }

    /// A later `since` asks for a part of what is there; all else would leave a folder that is neither one nor the other.
    fn go_on_with(&mut self, there: Settings, wanted: Settings) -> Result<(), ExportError> {
        let otherwise = |there: &str, wanted: &str| ExportError::Otherwise {
            path: self.path.clone(),
            there: there.to_owned(),
            wanted: wanted.to_owned(),
        };
        match (there.private, wanted.private) {
            (true, false) => return Err(otherwise("private lines", "an export without them")),
            (false, true) => return Err(otherwise("no private lines", "an export with them")),
            (true, true) | (false, false) => {}
        }
        if there.since_ms > wanted.since_ms && wanted.since_ms.is_some() {
            return Err(otherwise("a later --since", "what is older"));
        }
        self.settings = there;
        Ok(())
    }

    fn add(&mut self, manifest: &Manifest) -> Result<(), String> {
        for range in &manifest.ranges {
            let place = range.place();
            let before = self.positions.get(&place).map(|position| position.next);
            if range.from > range.to || before.is_some_and(|before| before != range.from) {
                return Err(format!(
                    "its range of topic {}, queue {} does not begin where the last one ends",
                    range.topic, place.queue
                ));
            }
            self.positions.insert(place, Position { next: range.to, last: range.last.clone() });
        }
        Ok(())
    }

    /// Makes the next part. When this returns it is there, and on the disk. Blocks on the disk.
    pub(super) fn commit(&mut self, ranges: Vec<Range>, days: &Days) -> Result<Manifest, ExportError> {
        let unfinished = self.path.join(UNFINISHED);
        let failed = |source| ExportError::Write { path: unfinished.clone(), source };
        DirBuilder::new().mode(0o700).create(&unfinished).map_err(failed)?;
        let mut files = Vec::new();
        for (day, (lines, text)) in days {
            files.push(self.write_day(&unfinished, day, *lines, text).map_err(failed)?);
        }
        let part = self.parts + 1;
        let manifest = Manifest { schema: SCHEMA, part, settings: self.settings, ranges, files };
        let mut json = serde_json::to_vec_pretty(&manifest).map_err(|error| failed(error.into()))?;
        json.push(b'\n');
        write_synced(&unfinished.join(MANIFEST), &json).map_err(failed)?;
        File::open(&unfinished).and_then(|folder| folder.sync_all()).map_err(failed)?;
        let finished = self.path.join(part_name(part));
        // Nothing is there: the number is the next one, and the lock keeps others out.
        fs::rename(&unfinished, &finished).map_err(failed)?;
        sync_folder_of(&finished).map_err(failed)?;
        self.add(&manifest).map_err(|cause| ExportError::Damaged { path: finished, cause })?;
        self.parts = part;
        Ok(manifest)
    }

    fn write_day(&self, folder: &Path, day: &str, lines: u64, text: &[u8]) -> io::Result<DayFile> {
        let name = format!("{day}.jsonl{}", if self.compressed { COMPRESSED } else { "" });
        let compressed = if self.compressed { Some(compress(text)?) } else { None };
        let bytes = compressed.as_deref().unwrap_or(text);
        write_synced(&folder.join(&name), bytes)?;
        Ok(DayFile { name, lines, bytes: bytes.len() as u64, crc: crc32fast::hash(bytes) })
    }
}

fn part_name(number: u32) -> String {
    format!("{PART}{number:06}")
}

fn names_in(folder: &Path) -> Result<Vec<String>, ExportError> {
    let unreadable = |source| ExportError::Unreadable { path: folder.to_owned(), source };
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        names.push(entry.map_err(unreadable)?.file_name().to_string_lossy().into_owned());
    }
    Ok(names)
}

fn read_manifest(part: &Path) -> Result<Manifest, ExportError> {
    let path = part.join(MANIFEST);
    let text = fs::read(&path).map_err(|source| ExportError::Unreadable { path: path.clone(), source })?;
    serde_json::from_slice(&text).map_err(|error| ExportError::Damaged { path, cause: error.to_string() })
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
