//! Changes of the mutes on their way to the disk: nothing follows from them yet, and what lies behind one in its queue waits,
//! because it may be a line of the same room. The rest of the class goes on, by what is written.
//!
//! Promises: one write at a time, with all changes so far, so that no older list comes over a newer one.
//! Bounded by the follower, which hands on no more than it may have open.

use std::collections::{HashMap, VecDeque};

use super::LiveClass;
use crate::classroom::{MuteChange, Mutes, Request, Verdict};
use crate::consumer::Item;
use crate::data_dir::{DataDirError, Saving};
use crate::model::QueueName;

/// See the module's words.
#[derive(Default)]
pub(super) struct UnwrittenMutes {
    /// Of the send topic.
    queues: HashMap<QueueName, HeldRequest>,
    /// What is written, and all changes that are not.
    draft: Option<Mutes>,
    pub saving: Option<Saving>,
    /// Whose changes are in the write that is on its way, and in the next one; in the order in which they were made.
    on_its_way: Vec<QueueName>,
    next: Vec<QueueName>,
    said: bool,
}

/// A request that changes the mutes, and what came behind it.
pub(super) struct HeldRequest {
    pub item: Item,
    pub request: Request,
    pub change: MuteChange,
    pub verdict: Verdict,
    pub behind: VecDeque<Item>,
}

impl UnwrittenMutes {
    pub(crate) fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// Gives the item back if nothing holds its queue.
    pub(crate) fn hold_behind(&mut self, item: Item) -> Option<Item> {
        match self.queues.get_mut(&item.place.queue) {
            Some(held) => {
                held.behind.push_back(item);
                None
            }
            None => Some(item),
        }
    }
}

impl LiveClass {
    pub(super) fn hold(&mut self, held: HeldRequest) {
        let unwritten = &mut self.unwritten;
        let draft = unwritten.draft.get_or_insert_with(|| self.classroom.mutes().clone());
        draft.apply(held.change.clone());
        let queue = held.item.place.queue.clone();
        unwritten.next.push(queue.clone());
        unwritten.queues.insert(queue, held);
        self.write_mutes();
    }

    /// Asks for what is not asked for yet, unless an answer is open.
    pub(super) fn write_mutes(&mut self) {
        let unwritten = &mut self.unwritten;
        let Some(draft) = &unwritten.draft else { return };
        if unwritten.saving.is_none() && !unwritten.next.is_empty() {
            unwritten.on_its_way = std::mem::take(&mut unwritten.next);
            unwritten.saving = Some(self.parts.data_dir.save_mutes(&draft.to_snapshot()));
        }
    }

    /// The disk has answered. After a failure everything is asked for again; no deadline, because without the disk nobody
    /// may hear of a mute.
    pub(super) async fn mutes_written(&mut self, written: Result<(), DataDirError>) {
        let queues = std::mem::take(&mut self.unwritten.on_its_way);
        if let Err(error) = written {
            let later = std::mem::replace(&mut self.unwritten.next, queues);
            self.unwritten.next.extend(later);
            if !std::mem::replace(&mut self.unwritten.said, true) {
                tracing::error!(%error, "a mute cannot be written down; its room waits until it can");
            }
            return;
        }
        self.unwritten.said = false;
        let held = queues.iter();
        let held: Vec<HeldRequest> = held.filter_map(|queue| self.unwritten.queues.remove(queue)).collect();
        for held in &held {
            self.classroom.apply(held.change.clone());
        }
        if self.unwritten.is_empty() {
            self.unwritten.draft = None;
        }
        for held in held {
            self.carry_out(held.item, &held.request, held.verdict).await;
            for item in held.behind {
                self.take(item).await;
            }
        }
        self.write_mutes();
    }
}
