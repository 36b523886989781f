//! Who is muted where, when, until when, and by whom.
//!
//! What counts is whether the sender was muted when a line arrived, even if the line is read long after the mute was
//! lifted. So this is not a list of who is muted now, but the last changes of each client, in order of time.
//!
//! Promises: a change that is applied twice counts once. Changes of one scope (all rooms, or one room) come in the order of
//! their lane; if a later one has an earlier time, the clock was set back, and the later one still counts. Unmuting in all
//! rooms ends the mutes in single rooms; unmuting in one room leaves a mute for all rooms in force.
//!
//! When full: a new mute is refused ([`Mutes::can_take`]), and no mute in force gives way. Unmuting is always possible.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::{ClientId, RoomId};

/// The longest mute that has an end: 30 days.
pub(crate) const MAX_MUTE_S: u64 = 30 * 24 * 60 * 60;

/// How long an ended change is kept, milliseconds: for lines that are read late, and for changes that come again.
const KEEP_MS: u64 = 24 * 60 * 60 * 1000;
const MAX_CHANGES: usize = 50_000;
/// At most so many mutes of one client are in force at once; as many later changes are kept.
const MAX_STANDING: usize = 128;
const VERSION: u32 = 1;

/// What a teacher did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(crate) enum MuteAction {
    /// The client may not speak.
    Mute {
        /// When it ends, milliseconds since 1970-01-01 UTC; `None` = when a teacher lifts it.
        until_ms: Option<u64>,
    },
    /// The client may speak again.
    Unmute,
}

/// One mute, or its end. Nobody hears of it, and no line is judged by it, before it is on the disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MuteChange {
    /// Whom it mutes or unmutes.
    pub client: ClientId,
    /// `None` = all rooms.
    pub room: Option<RoomId>,
    /// What the teacher did.
    #[serde(rename = "act")]
    pub action: MuteAction,
    /// The teacher who asked for it.
    pub by: ClientId,
    /// When the command arrived, milliseconds since 1970-01-01 UTC.
    pub at_ms: u64,
    /// Id of the command that asked for it. A second change with this id is a copy and changes nothing.
    pub source_id: String,
}

impl MuteChange {
    fn is_mute(&self) -> bool {
        match self.action {
            MuteAction::Mute { .. } => true,
            MuteAction::Unmute => false,
        }
    }

    /// The end of a mute that has one.
    pub(crate) fn until_ms(&self) -> Option<u64> {
        match self.action {
            MuteAction::Mute { until_ms } => until_ms,
            MuteAction::Unmute => None,
        }
    }
}

/// The changes of all clients.
///
/// [`Mutes::apply`] changes this value in memory at once. The live class keeps two of them: a draft with all changes, which
/// it writes to the disk, and the list that the rules judge by, to which it applies a change once the disk has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Mutes {
    /// Each list in order of time.
    clients: BTreeMap<ClientId, Vec<MuteChange>>,
    count: usize,
}

/// Why a snapshot cannot be read.
#[allow(clippy::missing_docs_in_private_items, reason = "each text says what is wrong")]
#[derive(Debug, thiserror::Error)]
pub(crate) enum SnapshotError {
    #[error(
        "the list of mutes is not what this program wrote: {0}; restore the file, or remove it and mute anew"
    )]
    Damaged(#[from] serde_json::Error),
    #[error("the list of mutes has version {0}, this program reads {VERSION}; use the newer program")]
    Version(u32),
}

#[derive(Serialize)]
struct MutesFile<'a> {
    version: u32,
    changes: Vec<&'a MuteChange>,
}

#[derive(Deserialize)]
struct MutesFileVersion {
    version: u32,
}

#[derive(Deserialize)]
struct MutesFromFile {
    changes: Vec<MuteChange>,
}

impl Mutes {
    /// Whether there is room for this change.
    pub(crate) fn can_take(&self, change: &MuteChange) -> bool {
        if !change.is_mute() {
            return true;
        }
        let known = self.clients.get(&change.client).map_or(&[][..], Vec::as_slice);
        let elsewhere = standing(known, change.at_ms).iter().filter(|mute| mute.room != change.room).count();
        self.count < MAX_CHANGES && elsewhere < MAX_STANDING
    }

    /// Applies a change in memory, at once. A change that is known already changes nothing.
    pub(crate) fn apply(&mut self, change: MuteChange) {
        if self.count >= MAX_CHANGES {
            self.forget(change.at_ms);
        }
        // The end of a mute that we do not know matters only if that mute is still on its way in another lane.
        if self.count >= MAX_CHANGES && !self.clients.contains_key(&change.client) {
            return;
        }
        let changes = self.clients.entry(change.client.clone()).or_default();
        if changes.iter().any(|known| known.source_id == change.source_id) {
            return;
        }
        let before = changes.len();
        for known in changes.iter_mut().filter(|known| known.room == change.room) {
            known.at_ms = known.at_ms.min(change.at_ms);
        }
        changes.push(change);
        // A stable sort: of changes of the same time, the one applied later counts.
        changes.sort_by_key(|known| known.at_ms);
        if changes.len() > 2 * MAX_STANDING {
            let horizon_ms = changes[changes.len() - MAX_STANDING].at_ms;
            compact(changes, horizon_ms);
        }
        self.count = self.count - before + changes.len();
    }

    /// The mute that kept this client silent in this room at that time; of several, the one that lasts longest.
    pub(crate) fn in_force(&self, client: &ClientId, room: &RoomId, at_ms: u64) -> Option<&MuteChange> {
        let changes = self.clients.get(client)?;
        standing(changes, at_ms)
            .into_iter()
            .filter(|mute| mute.room.as_ref().is_none_or(|muted| muted == room))
            .max_by_key(|mute| mute.until_ms().unwrap_or(u64::MAX))
    }

    /// All mutes that were in force in this room at that time, those for all rooms included, by client.
    pub(crate) fn list(&self, room: &RoomId, at_ms: u64) -> Vec<&MuteChange> {
        let standing = self.clients.values().flat_map(|changes| standing(changes, at_ms));
        standing.filter(|mute| mute.room.as_ref().is_none_or(|muted| muted == room)).collect()
    }

    /// Drops old changes that can no longer matter.
    pub(crate) fn forget(&mut self, now_ms: u64) {
        let horizon_ms = now_ms.saturating_sub(KEEP_MS);
        self.clients.retain(|_, changes| {
            compact(changes, horizon_ms);
            !changes.is_empty()
        });
        self.count = self.clients.values().map(Vec::len).sum();
    }

    /// All changes as JSON, for the disk.
    pub(crate) fn to_snapshot(&self) -> String {
        let written = MutesFile { version: VERSION, changes: self.clients.values().flatten().collect() };
        // Texts and numbers cannot fail to serialize.
        serde_json::to_string(&written).unwrap_or_default()
    }

    /// Reads what [`Mutes::to_snapshot`] wrote.
    pub(crate) fn from_snapshot(json: &str) -> Result<Self, SnapshotError> {
        let MutesFileVersion { version } = serde_json::from_str(json)?;
        if version != VERSION {
            return Err(SnapshotError::Version(version));
        }
        let read: MutesFromFile = serde_json::from_str(json)?;
        let mut mutes = Self::default();
        for change in read.changes {
            mutes.apply(change);
        }
        Ok(mutes)
    }
}

/// The mutes in force at that time, of one client's changes.
fn standing(changes: &[MuteChange], at_ms: u64) -> Vec<&MuteChange> {
    let mut standing: Vec<&MuteChange> = Vec::new();
    for change in changes.iter().take_while(|change| change.at_ms <= at_ms) {
        let lifts_all = !change.is_mute() && change.room.is_none();
        standing.retain(|mute| !lifts_all && mute.room != change.room);
        if change.is_mute() {
            standing.push(change);
        }
    }
    standing.retain(|mute| mute.until_ms().is_none_or(|until_ms| at_ms < until_ms));
    standing
}

/// Keeps the changes that matter for times from the horizon on.
fn compact(changes: &mut Vec<MuteChange>, horizon_ms: u64) {
    let mut kept: Vec<MuteChange> = standing(changes, horizon_ms).into_iter().cloned().collect();
    kept.extend(changes.iter().filter(|change| change.at_ms > horizon_ms).cloned());
    *changes = kept;
}
