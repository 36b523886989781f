//! The open receipts of the ledger, each at a place of its own, which its number names: to find one costs no hash.
//!
//! Promises: a number of a receipt that is gone finds nothing, also when another receipt has its place.
//! Bounds: those of the ledger.

use std::time::Duration;

use slab::Slab;

use super::delivery::Delivery;
use crate::model::MessageId;

/// Names one receipt within this process; a later receipt has a larger number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReceiptNumber {
    number: u64,
    place: usize,
}

/// A delivery whose PUBACK is owed.
#[derive(Debug)]
pub(super) struct OpenReceipt {
    pub delivery: Delivery,
    /// `None`: left out, because another subscription brought the same message.
    pub id: Option<MessageId>,
    pub settled: bool,
    /// Stands in the order of PUBACKs, thus may be acknowledged on the present connection.
    pub armed: bool,
    /// Another message got its packet identifier, or its session is gone: stored, but never acknowledged.
    pub orphaned: bool,
}

/// See the head of this file.
#[derive(Debug, Default)]
pub(super) struct OpenReceipts {
    last_number: u64,
    places: Slab<(u64, OpenReceipt)>,
}

impl OpenReceipts {
    pub(super) fn insert(&mut self, receipt: OpenReceipt) -> ReceiptNumber {
        self.last_number += 1;
        let place = self.places.insert((self.last_number, receipt));
        ReceiptNumber { number: self.last_number, place }
    }

    pub(super) fn get(&self, receipt: ReceiptNumber) -> Option<&OpenReceipt> {
        let (number, found) = self.places.get(receipt.place)?;
        (*number == receipt.number).then_some(found)
    }

    pub(super) fn get_mut(&mut self, receipt: ReceiptNumber) -> Option<&mut OpenReceipt> {
        let (number, found) = self.places.get_mut(receipt.place)?;
        (*number == receipt.number).then_some(found)
    }

    pub(super) fn remove(&mut self, receipt: ReceiptNumber) -> Option<OpenReceipt> {
        self.get(receipt)?;
        self.places.try_remove(receipt.place).map(|(_, receipt)| receipt)
    }

    pub(super) fn retain(&mut self, mut stays: impl FnMut(&OpenReceipt) -> bool) {
        self.places.retain(|_, (_, receipt)| stays(receipt));
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &OpenReceipt> {
        self.places.iter().map(|(_, (_, receipt))| receipt)
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut OpenReceipt> {
        self.places.iter_mut().map(|(_, (_, receipt))| receipt)
    }

    /// The oldest first.
    pub(super) fn by_age(&self) -> impl Iterator<Item = &OpenReceipt> {
        let mut receipts: Vec<_> = self.places.iter().map(|(_, receipt)| receipt).collect();
        receipts.sort_unstable_by_key(|(number, _)| *number);
        receipts.into_iter().map(|(_, receipt)| receipt)
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// The arrival of the oldest one that has not reached its end.
    pub(super) fn oldest_unsettled(&self) -> Option<Duration> {
        let unsettled = self.values().filter(|receipt| !receipt.settled);
        unsettled.map(|receipt| receipt.delivery.arrived).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::delivery::Fingerprint;

    fn receipt(packet_id: u16) -> OpenReceipt {
        let fingerprint = Fingerprint::of("room/1", b"hi");
        let delivery = Delivery { packet_id, duplicate: false, fingerprint, arrived: Duration::ZERO };
        OpenReceipt { delivery, id: None, settled: false, armed: true, orphaned: false }
    }

    #[test]
    fn a_number_of_a_receipt_that_is_gone_does_not_find_the_one_at_its_place() {
        let mut open = OpenReceipts::default();
        let first = open.insert(receipt(1));
        assert!(open.remove(first).is_some());
        let second = open.insert(receipt(2));
        assert_eq!((first.place, first < second), (second.place, true));
        assert!(open.get(first).is_none() && open.get_mut(first).is_none() && open.remove(first).is_none());
        assert_eq!(open.get(second).map(|receipt| receipt.delivery.packet_id), Some(2));
    }
}
