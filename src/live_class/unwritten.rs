//! Changes of the mutes that are not on the disk yet. Until they are, nothing follows from them, and later requests of the
//! same queue wait, because they may be lines of the same room. Other queues go on, and are judged by the mutes on the disk.
//!
//! Promises: one write at a time, each with all changes so far, so that an older list never replaces a newer one.
//! Bounded by the follower, which stops reading while too many requests are open.

use std::collections::{HashMap, VecDeque};

use super::LiveClass;
use crate::classroom::{MuteChange, Mutes, Request, Verdict};
use crate::consumer::Item;
use crate::data_dir::{DataDirError, Saving};
use crate::model::QueueName;

/// The requests that wait for the disk, and the list of mutes that is being written.
#[derive(Default)]
pub(super) struct UnwrittenMutes {
    /// By queue of the send topic.
    queues: HashMap<QueueName, HeldRequest>,
    /// The mutes on the disk with all changes that are not there yet; `None` if there are none.
    draft: Option<Mutes>,
    /// The write that is running.
    pub saving: Option<Saving>,
    /// Queues whose changes are in the write that is running, in the order in which they were made.
    being_written: Vec<QueueName>,
    /// Queues whose changes come with the next write, in the order in which they were made.
    next_write: Vec<QueueName>,
    failure_logged: bool,
}

/// A request that changes the mutes, with the requests that came behind it in its queue.
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

    /// Holds the item if an earlier one of its queue waits for the disk; otherwise gives it back.
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
        unwritten.next_write.push(queue.clone());
        unwritten.queues.insert(queue, held);
        self.write_mutes();
    }

    /// Starts to write the draft if it has new changes and no write is running.
    pub(super) fn write_mutes(&mut self) {
        let unwritten = &mut self.unwritten;
        let Some(draft) = &unwritten.draft else { return };
        if unwritten.saving.is_none() && !unwritten.next_write.is_empty() {
            unwritten.being_written = std::mem::take(&mut unwritten.next_write);
            unwritten.saving = Some(self.parts.data_dir.save_mutes(&draft.to_snapshot()));
        }
    }

    /// The write has ended. If it failed, the same changes are written again. There is no deadline, because nobody may hear of
    /// a mute that is not on the disk.
    pub(super) async fn mutes_written(&mut self, written: Result<(), DataDirError>) {
        let queues = std::mem::take(&mut self.unwritten.being_written);
        if let Err(error) = written {
            let later = std::mem::replace(&mut self.unwritten.next_write, queues);
            self.unwritten.next_write.extend(later);
            if !std::mem::replace(&mut self.unwritten.failure_logged, true) {
                tracing::error!(%error, "a mute cannot be written to the disk; its queue of the send topic waits until it is written");
            }
            return;
        }
        self.unwritten.failure_logged = false;
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
