//! Which messages are copies of one: those that have one id and one body.
//!
//! Whoever writes to RocketMQ can write any id, so an id alone must not hide a message. Other bodies under one id are other messages,
//! and each of them is in conflict: nobody can tell which one the id was made for.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

use sha2::{Digest, Sha256};

use crate::model::MessageId;

/// Stands for a body: half of its SHA-256, so that nobody finds another body for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct BodyHash([u8; 16]);

impl BodyHash {
    pub(super) fn of(body: &[u8]) -> Self {
        let mut hash = [0; 16];
        hash.copy_from_slice(&Sha256::digest(body)[..16]);
        Self(hash)
    }
}

/// Messages by id and body, each with the number of its copies. Memory: 40 bytes for each.
#[derive(Debug, Default)]
pub(crate) struct Copies {
    /// The first body of each id.
    first: HashMap<MessageId, Stored>,
    /// The other bodies of an id, hardly ever any.
    others: HashMap<(MessageId, BodyHash), u64>,
    /// Ids of which several bodies are known.
    conflicts: HashSet<MessageId>,
}

#[derive(Debug)]
struct Stored {
    body: BodyHash,
    times: u64,
}

impl Copies {
    /// `false`: it is a copy of one that was added before.
    pub(crate) fn add(&mut self, id: MessageId, body: &[u8]) -> bool {
        self.add_hash(id, BodyHash::of(body), 1)
    }

    fn add_hash(&mut self, id: MessageId, body: BodyHash, times: u64) -> bool {
        let known = match self.first.entry(id) {
            Entry::Vacant(entry) => &mut entry.insert(Stored { body, times: 0 }).times,
            Entry::Occupied(entry) if entry.get().body == body => &mut entry.into_mut().times,
            Entry::Occupied(_) => {
                self.conflicts.insert(id);
                self.others.entry((id, body)).or_insert(0)
            }
        };
        let is_new = *known == 0;
        *known += times;
        is_new
    }

    /// Adds all of those.
    pub(super) fn extend(&mut self, more: Self) {
        self.conflicts.extend(more.conflicts);
        for (id, Stored { body, times }) in more.first {
            self.add_hash(id, body, times);
        }
        for ((id, body), times) in more.others {
            self.add_hash(id, body, times);
        }
    }

    /// How many times it was added, which it was; `None`: it was removed.
    pub(super) fn remove(&mut self, id: MessageId, body: &[u8]) -> Option<u64> {
        // All bodies of an id without a conflict are one, and most ids are such.
        if !self.is_conflict(id) {
            return self.first.remove(&id).map(|stored| stored.times);
        }
        self.remove_hash(id, BodyHash::of(body))
    }

    fn remove_hash(&mut self, id: MessageId, body: BodyHash) -> Option<u64> {
        match self.first.entry(id) {
            Entry::Occupied(entry) if entry.get().body == body => Some(entry.remove().times),
            Entry::Occupied(_) | Entry::Vacant(_) => self.others.remove(&(id, body)),
        }
    }

    /// Whether it was added, and not removed.
    pub(super) fn holds(&self, id: MessageId, body: &[u8]) -> bool {
        let is_known = self.first.contains_key(&id) || self.is_conflict(id);
        is_known && self.holds_hash(id, BodyHash::of(body))
    }

    fn holds_hash(&self, id: MessageId, body: BodyHash) -> bool {
        self.first.get(&id).is_some_and(|stored| stored.body == body) || self.others.contains_key(&(id, body))
    }

    /// Takes in one that lies outside of what was added: if it is earlier, its copies are removed; if it has another body, they are in
    /// conflict. Breaks when no other one with this id can change anything.
    pub(super) fn compare(&mut self, id: MessageId, body: &[u8], is_earlier: bool) -> ControlFlow<()> {
        let body = BodyHash::of(body);
        if !self.holds_hash(id, body) {
            self.conflicts.insert(id);
        } else if is_earlier {
            self.remove_hash(id, body);
        }
        match self.first.contains_key(&id) || self.is_conflict(id) {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    }

    /// Whether several bodies of this id are known.
    pub(crate) fn is_conflict(&self, id: MessageId) -> bool {
        self.conflicts.contains(&id)
    }

    /// Each id once.
    pub(super) fn ids(&self) -> Vec<MessageId> {
        self.first.keys().copied().collect()
    }

    /// How many messages, without their copies.
    pub(super) fn len(&self) -> usize {
        self.first.len() + self.others.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> MessageId {
        MessageId::from_parts(7, number)
    }

    #[test]
    fn a_copy_has_id_and_body_of_its_message_and_another_body_is_another_message() {
        let mut copies = Copies::default();
        let added = [(1, "a"), (1, "a"), (1, "b"), (2, "a"), (1, "b"), (1, "a")];
        let new = added.map(|(number, body)| copies.add(id(number), body.as_bytes()));
        assert_eq!(new, [true, false, true, true, false, false]);
        assert_eq!((copies.len(), copies.is_conflict(id(1)), copies.is_conflict(id(2))), (3, true, false));
        assert_eq!(copies.remove(id(1), b"b"), Some(2));
        assert_eq!(copies.remove(id(1), b"b"), None);
        assert_eq!(copies.remove(id(1), b"a"), Some(3));
        assert!(copies.is_conflict(id(1)), "what was given out does not make the other one right");
        assert_eq!((copies.remove(id(2), b"a"), copies.len()), (Some(1), 0));
    }

    #[test]
    fn an_earlier_one_hides_its_copies_only_and_any_other_body_is_a_conflict() {
        let mut copies = Copies::default();
        copies.add(id(1), b"a");
        copies.add(id(2), b"a");
        copies.add(id(3), b"a");
        assert!(copies.compare(id(1), b"a", true).is_break(), "nothing of it is left");
        assert!(copies.compare(id(2), b"b", true).is_continue());
        assert!(copies.compare(id(3), b"a", false).is_continue());
        assert_eq!([1, 2, 3].map(|number| copies.holds(id(number), b"a")), [false, true, true]);
        assert!(!copies.holds(id(3), b"b"), "another body is another message");
        assert_eq!([1, 2, 3].map(|number| copies.is_conflict(id(number))), [false, true, false]);
        assert!(copies.compare(id(3), b"b", false).is_continue());
        assert!(copies.compare(id(3), b"a", true).is_continue(), "another body may be left");
        assert_eq!((copies.holds(id(3), b"a"), copies.is_conflict(id(3))), (false, true));
    }

    #[test]
    fn what_is_added_together_is_as_if_each_was_added() {
        let (mut copies, mut more) = (Copies::default(), Copies::default());
        copies.add(id(1), b"a");
        copies.add(id(2), b"a");
        more.add(id(1), b"b");
        more.add(id(2), b"a");
        copies.extend(more);
        assert_eq!((copies.len(), copies.is_conflict(id(1)), copies.is_conflict(id(2))), (3, true, false));
        assert_eq!(copies.remove(id(2), b"a"), Some(2));
    }
}
