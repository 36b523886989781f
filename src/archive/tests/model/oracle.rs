//! What must be true of the archive: at every moment, and when everything is quiet.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::rocketmq::{RocketMq, State, TOPIC, uid};
use super::shown::{history_of, lines_of};
use crate::archiver::{effective, exact_books};
use crate::model::{LostCause, QueueName, StoredMessage};
use crate::piece::{Directory, PieceKey, Place, messages_of, verify};
use crate::piece_store::double::Objects;
use crate::piece_store::{Listed, PieceStore};
use crate::pipeline::ports::Reader;

/// What the archive says of one offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    Line(String),
    Lost(LostCause),
    LeftOut,
}

pub(super) type Offsets = BTreeMap<u64, Said>;

struct Read {
    bytes: Bytes,
    listed: Listed,
    directory: Directory,
    lines: BTreeMap<u64, String>,
}

/// Remembers what was archived once.
pub(super) struct Oracle {
    store: PieceStore,
    objects: Objects,
    /// Of the store, when it was looked at last.
    changes: Option<u64>,
    read: BTreeMap<PieceKey, Read>,
    pub places: BTreeMap<Place, Offsets>,
    /// How many lines were shown as being in conflict, all of them rightly.
    pub conflicts: u64,
}

impl Oracle {
    pub(super) fn new(objects: &Objects) -> Self {
        let (store, objects) = (objects.plain(), objects.clone());
        Self { store, objects, changes: None, read: BTreeMap::new(), places: BTreeMap::new(), conflicts: 0 }
    }

    /// At every moment: what was archived once stays, as it was, and without a gap.
    pub(super) async fn look(&mut self, rocketmq: &RocketMq) -> Vec<String> {
        let mut wrong = Vec::new();
        if self.changes.replace(self.objects.changes()) == Some(self.objects.changes()) {
            return wrong;
        }
        let listed = self.store.all_pieces().await.unwrap();
        let changed = match self.read_new(&listed).await {
            Ok(changed) => changed,
            Err(problem) => return vec![problem],
        };
        for place in changed {
            let now = self.now(&place, &mut wrong);
            let before = self.places.insert(place.clone(), now).unwrap_or_default();
            let offsets = &self.places[&place];
            for (offset, said) in &before {
                match (said, offsets.get(offset)) {
                    (_, None) => {
                        wrong.push(format!("gone: offset {offset} of {place:?}, which was {said:?}"))
                    }
                    (Said::Lost(_), Some(_)) => {}
                    (said, Some(other)) if said == other => {}
                    (said, Some(other)) => {
                        wrong.push(format!(
                            "changed: offset {offset} of {place:?} was {said:?} and is {other:?}"
                        ));
                    }
                }
            }
            of_one_time(&place, offsets, &rocketmq.lock(), &mut wrong);
        }
        wrong
    }

    /// Says of which places the pieces have changed.
    async fn read_new(&mut self, listed: &[Listed]) -> Result<BTreeSet<Place>, String> {
        let mut changed = BTreeSet::new();
        self.read.retain(|key, _| {
            let is_there = listed.iter().any(|piece| piece.key == *key);
            if !is_there {
                changed.insert(key.place.clone());
            }
            is_there
        });
        for piece in listed {
            let whole = self.store.whole(&piece.key).await.map_err(|error| error.to_string())?;
            if self.read.get(&piece.key).is_some_and(|read| read.bytes == whole) {
                continue;
            }
            changed.insert(piece.key.place.clone());
            let directory = verify(&whole).map_err(|damage| format!("damaged: {}: {damage}", piece.key))?;
            let mut lines = BTreeMap::new();
            for (number, frame) in directory.frames.iter().enumerate() {
                let range = frame.range().unwrap();
                let bytes = &whole[range.start as usize..range.end as usize];
                let messages = messages_of(bytes, frame, number).unwrap();
                lines.extend(messages.iter().map(|message| (message.queue_offset, uid(message))));
            }
            self.read
                .insert(piece.key.clone(), Read { bytes: whole, listed: piece.clone(), directory, lines });
        }
        Ok(changed)
    }

    fn now(&self, place: &Place, wrong: &mut Vec<String>) -> Offsets {
        let of_place = self.read.values().filter(|read| read.listed.key.place == *place);
        let pieces: Vec<_> = of_place.map(|read| (read.listed.clone(), read.directory.clone())).collect();
        let mut offsets = Offsets::new();
        let mut next = None;
        for part in effective(&pieces) {
            if next.is_some_and(|next| next != part.from) {
                wrong.push(format!("gap: {place:?} between {next:?} and {}", part.from));
            }
            next = Some(part.to);
            let lines = &self.read[&part.piece.key].lines;
            let lost: Vec<_> = part.directory.lost_in(part.from, part.to).collect();
            for offset in part.from..part.to {
                let lost = lost.iter().find(|lost| (lost.from..lost.to).contains(&offset));
                let said = match (lines.get(&offset), lost) {
                    (Some(uid), _) => Said::Line(uid.clone()),
                    (None, Some(lost)) => Said::Lost(lost.cause),
                    (None, None) => Said::LeftOut,
                };
                offsets.insert(offset, said);
            }
        }
        offsets
    }

    /// When everything is quiet and healed: what RocketMQ has is archived once, days are merged, books balance, a reader gives all
    /// of it, and a history folds what is a copy and nothing else.
    pub(super) async fn judge(&mut self, rocketmq: &RocketMq, reader: &dyn Reader) -> Vec<String> {
        let mut wrong = Vec::new();
        self.is_merged(&mut wrong).await;
        self.is_complete(&rocketmq.lock(), &mut wrong);
        self.is_read(rocketmq, reader, &mut wrong).await;
        for room in 0..5 {
            let room = room.to_string();
            let expected = lines_of(&self.places, &room, &rocketmq.lock());
            match history_of(reader, &room).await {
                Err(_) if expected.is_empty() => {}
                Err(error) => wrong.push(format!("reader: room {room}: {error}")),
                Ok(shown) if shown != expected => {
                    wrong.push(format!("reader: room {room} is shown as {shown:?} and not as {expected:?}"));
                }
                Ok(shown) => self.conflicts += shown.iter().filter(|line| line.conflict).count() as u64,
            }
        }
        wrong
    }

    async fn is_merged(&self, wrong: &mut Vec<String>) {
        let mut of_day: BTreeMap<String, Vec<(u64, u64)>> = BTreeMap::new();
        let mut of_place: BTreeMap<Place, Vec<(Listed, Directory)>> = BTreeMap::new();
        for read in self.read.values() {
            let range = (read.directory.from, read.directory.to);
            of_day.entry(read.listed.key.folder()).or_default().push(range);
            let pieces = of_place.entry(read.listed.key.place.clone()).or_default();
            pieces.push((read.listed.clone(), read.directory.clone()));
        }
        wrong.extend(of_day.into_iter().filter_map(|(day, mut ranges)| {
            ranges.sort();
            // With the broker's clock set back in between, a day comes twice, and its pieces have another day's between them.
            let is_merged = ranges.windows(2).all(|pair| pair[0].1 < pair[1].0);
            (!is_merged).then(|| format!("not merged: {day} has {ranges:?}"))
        }));
        for (place, pieces) in of_place {
            let books = exact_books(&self.store, place.clone(), &pieces).await.unwrap();
            let lost: u64 = books.lost.iter().map(|lost| lost.to - lost.from).sum();
            if books.lines + books.skipped + books.erased + lost != books.to - books.from {
                wrong.push(format!("books: {books:?}"));
            }
        }
    }

    fn is_complete(&self, state: &State, wrong: &mut Vec<String>) {
        for (name, queue) in &state.queues {
            for message in queue.given() {
                let offset = message.queue_offset;
                let is_private = message.properties.get("rbKind") == Some("p2p");
                let is_it = |said: &Said| match said {
                    Said::Line(line) => *line == uid(message),
                    // A broker that withholds it for a time is believed.
                    Said::Lost(_) => state.withheld_once.contains(&(name.clone(), offset)),
                    Said::LeftOut => is_private,
                };
                let of_queue = self.places.iter().filter(|(place, _)| place.queue == *name);
                let found = of_queue.filter(|(_, offsets)| offsets.get(&offset).is_some_and(is_it)).count();
                if found == 0 {
                    wrong.push(format!("missing: {name} offset {offset}: {}", uid(message)));
                }
            }
        }
        let mut once = BTreeSet::new();
        for (place, offsets) in &self.places {
            for (offset, said) in offsets {
                if let Said::Line(uid) = said
                    && !once.insert((place.queue.clone(), *offset, uid.clone()))
                {
                    wrong.push(format!("twice: {uid} at offset {offset} in generations of {}", place.queue));
                }
            }
        }
    }

    async fn is_read(&self, rocketmq: &RocketMq, reader: &dyn Reader, wrong: &mut Vec<String>) {
        let mut wanted: BTreeMap<String, u64> = BTreeMap::new();
        let lines = self.places.values().flat_map(BTreeMap::values);
        for said in lines {
            if let Said::Line(uid) = said {
                *wanted.entry(uid.clone()).or_default() += 1;
            }
        }
        let mut read: BTreeMap<String, u64> = BTreeMap::new();
        let queues = match reader.queues(TOPIC).await {
            Ok(queues) => queues,
            Err(_) if wanted.is_empty() && rocketmq.lock().is_gone => return,
            Err(error) => return wrong.push(format!("reader: {error}")),
        };
        for name in queues {
            match all_of(reader, &name).await {
                Ok(messages) => {
                    let is_rising = messages.is_sorted_by(|a, b| a.queue_offset < b.queue_offset);
                    if !is_rising {
                        wrong.push(format!("order: {name} is not read by rising offsets"));
                    }
                    messages.iter().for_each(|message| *read.entry(uid(message)).or_default() += 1);
                }
                Err(problem) => wrong.push(problem),
            }
        }
        for uid in wanted.keys().chain(read.keys()).collect::<BTreeSet<_>>() {
            let (wanted, read) = (wanted.get(uid).unwrap_or(&0), read.get(uid).unwrap_or(&0));
            if wanted != read {
                wrong.push(format!("reader: {uid} is archived {wanted} times and read {read} times"));
            }
        }
    }
}

async fn all_of(reader: &dyn Reader, name: &QueueName) -> Result<Vec<StoredMessage>, String> {
    let failed = |error| format!("reader: {name}: {error}");
    let (first, end) = reader.offsets(TOPIC, name).await.map_err(failed)?;
    let (mut next, mut messages) = (first, Vec::new());
    while next < end {
        let page = reader.pull(TOPIC, name, None, next, 256).await.map_err(failed)?;
        if page.next_offset <= next {
            return Err(format!("reader: {name} stands still at {next} of {end}"));
        }
        next = page.next_offset;
        messages.extend(page.messages);
    }
    Ok(messages)
}

/// A generation is what lay in the queue in one time that it was made; what is said to be lost was.
fn of_one_time(place: &Place, offsets: &Offsets, state: &State, wrong: &mut Vec<String>) {
    let mut before: Option<(u64, u64)> = None;
    for (offset, said) in offsets {
        let at = (place.queue.clone(), *offset);
        match said {
            Said::Line(uid) => {
                let Some(epoch) = state.ever.get(&at).and_then(|ever| ever.get(uid)) else {
                    wrong.push(format!("foreign: {uid} never lay at offset {offset} of {}", place.queue));
                    continue;
                };
                // Nobody can tell, if RocketMQ has already deleted so many of the new ones that the next one is where the old ones ended.
                let firsts = state.firsts.get(&(place.queue.clone(), *epoch));
                let is_in_a_hole = |last: u64| {
                    firsts.is_some_and(|firsts| firsts.range(last + 1..=*offset).next().is_some())
                };
                // Nor if RocketMQ keeps back the message that would tell.
                let is_kept_back = |last: u64| state.withheld_once.contains(&(place.queue.clone(), last));
                if let Some((last, other)) = before.replace((*offset, *epoch))
                    && other != *epoch
                    && !is_in_a_hole(last)
                    && !is_kept_back(last)
                {
                    wrong
                        .push(format!("mixed: {place:?} goes over from time {other} to {epoch} at {offset}"));
                }
            }
            Said::Lost(LostCause::NotGivenOut) if !state.withheld_once.contains(&at) => {
                wrong.push(format!("lost: offset {offset} of {place:?} was never withheld"));
            }
            Said::Lost(_) | Said::LeftOut => {}
        }
    }
    let begin = offsets.keys().next().copied().unwrap_or(0);
    let firsts = state.firsts.iter().filter(|((queue, _), _)| *queue == place.queue);
    if !firsts.flat_map(|(_, firsts)| firsts).any(|first| *first == begin) {
        wrong.push(format!("begins late: {place:?} at {begin}"));
    }
}
