//! The receipt ledger: which deliveries wait for their end, and which PUBACKs may leave now.
//!
//! Promises: one open receipt per packet identifier of the session; PUBACKs leave in the order in which the
//! PUBLISHes came [MQTT-4.6.0-2], only on the connection that brought them, and never between a connection's failure
//! and the next CONNACK. A delivery is called a copy only when that is proven.
//!
//! Must never: do IO, look at a clock, keep more settled receipts of a connection than the broker can deliver again.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::delivery::{Delivery, Fingerprint};
use super::open_receipts::{OpenReceipt, OpenReceipts, ReceiptNumber};
use crate::model::MessageId;

/// A broker that has sent so many receive windows is read no further until some of it is acknowledged, and so much of
/// what was stored last is read back at a start: Mosquitto 2.0.11 with MQTT 5 releases a whole window of a backlog for each
/// PUBACK, and would put all of it into our memory.
pub const WINDOWS_READ: usize = 4;

/// A settled receipt that is remembered, because its PUBACK may not have reached the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remembered {
    pub packet_id: u16,
    pub fingerprint: Fingerprint,
    pub id: MessageId,
}

/// What the ledger says of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Take it in. `copy_of` is proven, so the message takes that id; `maybe_copy_of` is not, so it gets its own.
    New { receipt: ReceiptNumber, copy_of: Option<MessageId>, maybe_copy_of: Option<MessageId> },
    /// Its first copy is still open: nothing to take in. PUBACKs may have become ready.
    Redelivered,
}

/// A PUBACK that may leave now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acknowledgement {
    /// Of the PUBLISH that the PUBACK answers.
    pub packet_id: u16,
    /// Monotonic time at which the message arrived first.
    pub arrived: Duration,
}

/// Every delivery whose PUBACK is owed, and those that were acknowledged last. Bounds: open receipts by the intake, remembered ones by two receive windows, `seen` by both.
// Numbers that nobody outside chooses have the fast hash; fingerprints follow from what publishers send, and have the safe one.
#[derive(Debug)]
pub struct ReceiptLedger {
    receive_window: usize,
    /// The most deliveries of this connection that were open at once: some brokers (Mosquitto 2.0 with MQTT 5)
    /// send beyond the receive maximum, and may then deliver as many again.
    window_seen: usize,
    connected: bool,
    open: OpenReceipts,
    by_packet_id: FxHashMap<u16, ReceiptNumber>,
    order: VecDeque<ReceiptNumber>,
    previous_connection: Memory,
    this_connection: VecDeque<Remembered>,
    /// What is open or was settled on this connection, by content; made when a redelivery first asks, because most
    /// connections see none. A broker that redelivers a long backlog asks thousands of times.
    seen: Option<HashMap<Fingerprint, MessageId>>,
}

/// What was settled on the connection just before.
#[derive(Debug, Default)]
struct Memory {
    /// The last message that held each packet identifier.
    by_packet_id: FxHashMap<u16, Remembered>,
    by_fingerprint: HashMap<Fingerprint, MessageId>,
}

impl Memory {
    fn of(settled: impl IntoIterator<Item = Remembered>) -> Self {
        let mut memory = Self::default();
        for remembered in settled {
            memory.by_packet_id.insert(remembered.packet_id, remembered);
            memory.by_fingerprint.insert(remembered.fingerprint, remembered.id);
        }
        memory
    }
}

impl ReceiptLedger {
    /// `receive_window`: the receive maximum of CONNECT; a broker cannot redeliver more than that.
    pub fn new(receive_window: usize) -> Self {
        Self {
            receive_window,
            window_seen: receive_window,
            connected: false,
            open: OpenReceipts::default(),
            by_packet_id: FxHashMap::default(),
            order: VecDeque::new(),
            previous_connection: Memory::default(),
            this_connection: VecDeque::new(),
            seen: None,
        }
    }

    /// Before the first connection of a process: what the last process had stored on its last connection.
    pub fn remember_previous(&mut self, settled: impl IntoIterator<Item = Remembered>) {
        self.this_connection.extend(settled);
    }

    /// The connection failed. Nothing may be acknowledged until [`Self::connected`], because what still surfaces
    /// belongs to the dead connection while the next one may be live already.
    pub fn disconnected(&mut self) {
        self.connected = false;
        for number in self.order.drain(..) {
            if let Some(receipt) = self.open.get_mut(number) {
                receipt.armed = false;
            }
        }
        // What was left out is judged anew when it comes again.
        self.open.retain(|receipt| receipt.id.is_some() && !(receipt.orphaned && receipt.settled));
        let open = &self.open;
        self.by_packet_id.retain(|_, number| open.get(*number).is_some());
    }

    /// Another client took the session: what has not ended belongs to it, and nothing here may acknowledge it. If
    /// the session comes back, what the broker delivers again is new, whatever became of its first copy.
    pub fn taken_over(&mut self) {
        for receipt in self.open.values_mut().filter(|receipt| !receipt.settled) {
            receipt.orphaned = true;
        }
        let open = &self.open;
        self.by_packet_id.retain(|_, number| open.get(*number).is_some_and(|receipt| !receipt.orphaned));
    }

    /// The CONNACK was seen. With `session_present` the broker sends the open deliveries again, which arms
    /// them; without it they are stored but have lost the right to be acknowledged.
    pub fn connected(&mut self, session_present: bool) {
        self.connected = true;
        self.seen = None;
        self.window_seen = self.receive_window;
        self.previous_connection = Memory::of(std::mem::take(&mut self.this_connection));
        if !session_present {
            self.previous_connection = Memory::default();
            self.by_packet_id.clear();
            self.open.retain(|receipt| !receipt.settled);
            for receipt in self.open.values_mut() {
                receipt.orphaned = true;
            }
        }
    }

    /// While nothing new is taken in: true if this is a copy of an open delivery, which may be acknowledged here then.
    pub fn rearm(&mut self, delivery: Delivery) -> bool {
        let number = self.by_packet_id.get(&delivery.packet_id).copied();
        let open = number.and_then(|number| Some((number, self.open.get_mut(number)?)));
        let copy = open.filter(|(_, receipt)| {
            delivery.duplicate && receipt.delivery.fingerprint == delivery.fingerprint
        });
        let Some((number, receipt)) = copy else {
            return false;
        };
        if self.connected && !receipt.armed {
            receipt.armed = true;
            self.order.push_back(number);
        }
        true
    }

    /// A PUBLISH with QoS 1 or 2 came. `new_id` is called only for a message that is no proven copy.
    pub fn admit(
        &mut self,
        delivery: Delivery,
        new_id: impl FnOnce() -> MessageId,
    ) -> (Admission, MessageId) {
        if self.rearm(delivery) {
            let open = self.by_packet_id.get(&delivery.packet_id);
            let open = open.and_then(|number| self.open.get(*number));
            return (Admission::Redelivered, open.and_then(|open| open.id).unwrap_or_else(new_id));
        }
        let copy_of = self.proven_copy(delivery);
        let maybe_copy_of = if copy_of.is_none() { self.doubtful_copy(delivery) } else { None };
        let id = copy_of.unwrap_or_else(new_id);
        if let Some(seen) = &mut self.seen {
            seen.entry(delivery.fingerprint).or_insert(id);
        }
        let receipt = self.open(delivery, Some(id));
        (Admission::New { receipt, copy_of, maybe_copy_of }, id)
    }

    /// A PUBLISH came whose message another subscription brings as well: it only waits for its turn to be acknowledged. False
    /// if it is a copy of an open delivery.
    pub fn leave_out(&mut self, delivery: Delivery) -> bool {
        if self.rearm(delivery) {
            return false;
        }
        let receipt = self.open(delivery, None);
        self.settle(receipt);
        true
    }

    /// The last message of that content on this connection or the one before, to mark what may be its copy.
    pub fn last_with(&mut self, fingerprint: Fingerprint) -> Option<MessageId> {
        let before = self.previous_connection.by_fingerprint.get(&fingerprint).copied();
        before.or_else(|| self.seen().get(&fingerprint).copied())
    }

    /// Another message that had its packet identifier is orphaned.
    fn open(&mut self, delivery: Delivery, id: Option<MessageId>) -> ReceiptNumber {
        if let Some(number) = self.by_packet_id.get(&delivery.packet_id).copied()
            && let Some(receipt) = self.open.get_mut(number)
        {
            receipt.orphaned = true;
            if receipt.settled && !receipt.armed {
                self.open.remove(number);
            }
        }
        let armed = self.connected;
        let receipt = self.open.insert(OpenReceipt { delivery, id, settled: false, armed, orphaned: false });
        self.by_packet_id.insert(delivery.packet_id, receipt);
        if armed {
            self.order.push_back(receipt);
            self.window_seen = self.window_seen.max(self.order.len());
        }
        receipt
    }

    /// The intake had no room: the delivery is as if it had never come. The caller must drop the connection, so that
    /// the broker sends it again.
    pub fn forget(&mut self, number: ReceiptNumber) {
        if let Some(receipt) = self.open.remove(number) {
            self.by_packet_id.remove(&receipt.delivery.packet_id);
        }
        if self.order.back() == Some(&number) {
            self.order.pop_back();
        }
    }

    /// The receipt has reached its end.
    pub fn settle(&mut self, number: ReceiptNumber) {
        let Some(receipt) = self.open.get_mut(number) else {
            return;
        };
        receipt.settled = true;
        if receipt.orphaned && !receipt.armed {
            self.open.remove(number);
        }
    }

    /// The next PUBACK that may leave, in receive order; `None` while the oldest delivery is not settled.
    pub fn next_acknowledgement(&mut self) -> Option<Acknowledgement> {
        while let Some(number) = self.order.front().copied() {
            if self.open.get(number).is_some_and(|receipt| !receipt.settled) {
                return None;
            }
            self.order.pop_front();
            let Some(receipt) = self.open.remove(number) else {
                continue;
            };
            if receipt.orphaned {
                continue;
            }
            let Delivery { packet_id, fingerprint, arrived, .. } = receipt.delivery;
            self.by_packet_id.remove(&packet_id);
            if let Some(id) = receipt.id {
                self.remember(Remembered { packet_id, fingerprint, id });
            }
            return Some(Acknowledgement { packet_id, arrived });
        }
        None
    }

    /// Deliveries of this connection that the broker counts against the receive maximum.
    pub fn unacknowledged(&self) -> usize {
        self.order.len()
    }

    /// Deliveries that have reached their end and whose PUBACK could not leave; they come again in this session.
    pub fn owed(&self) -> usize {
        let owed = self.open.values();
        owed.filter(|receipt| receipt.settled && !receipt.orphaned).count()
    }

    /// The arrival of the oldest receipt that has not reached its end.
    pub fn oldest_unsettled(&self) -> Option<Duration> {
        self.open.oldest_unsettled()
    }

    /// Proven only within the connection just before, with the same identifier and content: identifiers are given
    /// again after their PUBACK, and on some brokers begin anew with every connection.
    fn proven_copy(&mut self, delivery: Delivery) -> Option<MessageId> {
        if !delivery.duplicate {
            return None;
        }
        let remembered = self.previous_connection.by_packet_id.get(&delivery.packet_id)?;
        if remembered.fingerprint != delivery.fingerprint {
            return None;
        }
        self.previous_connection.by_packet_id.remove(&delivery.packet_id).map(|remembered| remembered.id)
    }

    fn doubtful_copy(&mut self, delivery: Delivery) -> Option<MessageId> {
        if !delivery.duplicate {
            return None;
        }
        self.last_with(delivery.fingerprint)
    }

    /// Made anew when most of it is forgotten elsewhere; until then it may know a message a little longer.
    fn seen(&mut self) -> &HashMap<Fingerprint, MessageId> {
        let known = self.open.len() + self.this_connection.len();
        if self.seen.as_ref().is_some_and(|seen| seen.len() > 2 * known + 1024) {
            self.seen = None;
        }
        self.seen.get_or_insert_with(|| {
            let settled = self.this_connection.iter().map(|settled| (settled.fingerprint, settled.id));
            // Of equal contents a settled one counts, else the newest, so that two runs doubt the same one.
            let open = self.open.by_age().filter_map(|open| Some((open.delivery.fingerprint, open.id?)));
            open.chain(settled).collect()
        })
    }

    fn remember(&mut self, settled: Remembered) {
        if self.this_connection.len() >= self.window_seen {
            self.this_connection.pop_front();
        }
        self.this_connection.push_back(settled);
    }
}

#[cfg(test)]
mod tests;
