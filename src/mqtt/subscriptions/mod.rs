//! What the session is subscribed to: what to ask for next, and which of two copies of a message is left out.
//!
//! Promises: a filter that a wider one covers is asked for only while the wider one is refused; what is refused or not answered
//! is asked for again; nothing is unsubscribed before everything that takes its place is granted. Of a message that two
//! subscriptions bring, one delivery is left out only if the other surely exists: the subscription of the other was granted before
//! this one was first requested.
//! Must never: do IO, look at a clock (it counts seconds), recognise copies by their content.

mod entry;

use entry::{Entry, RequestState, relate};

use super::wire::{Suback, SubscribeVerdict, Unsuback};
use crate::data_dir::Subscription;
use crate::model::{Qos, TopicFilter};

/// A request without an answer counts as refused after so long. It is longer than any pause, so that a slow broker is not asked
/// over and over.
const ANSWER_S: u32 = 10;

/// A SUBSCRIBE or UNSUBSCRIBE to send, with the packet identifier that was taken for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SubscriptionRequest {
    pub packet_id: u16,
    pub filter: String,
    pub action: SubscriptionAction,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SubscriptionAction {
    /// With the subscription identifier, where the broker has them.
    Subscribe(Option<u32>),
    Unsubscribe,
}

/// Whether another subscription brings the message of a delivery too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Overlap {
    /// No other one does, or this delivery is the one that is kept.
    None,
    /// Another delivery of the message came or will come, and that one is kept.
    Copy,
    /// Another delivery of the message may come or not.
    Doubt,
}

/// Each filter that is subscribed to, or was, and how far it has come on this connection.
#[derive(Debug)]
pub(crate) struct Subscriptions {
    entries: Vec<Entry>,
    connected: bool,
    session_present: bool,
    /// The broker has not said that it takes no subscription identifiers.
    identifiers: bool,
    /// It brought a message without an identifier where one was needed.
    identifiers_missing: bool,
    overlap_in_play: bool,
    changed: bool,
}

impl Subscriptions {
    /// `wanted` in the order of the bindings; `kept` and `older` (the filters of a file without identifiers) from the last
    /// process. `new_identifier` draws a number, which is drawn again if it is taken.
    pub(crate) fn new(
        wanted: &[TopicFilter],
        kept: Vec<Subscription>,
        older: &[String],
        mut new_identifier: impl FnMut() -> u32,
    ) -> Self {
        let mut all = kept;
        let texts = wanted.iter().map(TopicFilter::as_str);
        for text in texts.clone().chain(older.iter().map(String::as_str)) {
            if all.iter().any(|kept| kept.filter == text) {
                continue;
            }
            let is_free = |identifier: &u32| all.iter().all(|kept| kept.identifier != *identifier);
            let identifier = std::iter::repeat_with(|| new_identifier() & 0x0fff_ffff)
                .find(|identifier| *identifier > 0 && is_free(identifier));
            all.push(Subscription {
                filter: text.to_owned(),
                identifier: identifier.unwrap_or_default(),
                asked: older.iter().any(|older| older == text).then_some(0),
                granted: None,
            });
        }
        let place = |kept: &Subscription| texts.clone().position(|text| text == kept.filter);
        all.sort_by_key(|kept| place(kept).unwrap_or(usize::MAX));
        let mut entries: Vec<Entry> = all
            .into_iter()
            .map(|kept| Entry {
                filter: TopicFilter::parse(&kept.filter).ok(),
                wanted: place(&kept).is_some(),
                neighbours: Vec::new(),
                covered_by: Vec::new(),
                request: RequestState::Idle,
                packet_id: 0,
                pause_s: 0,
                failed: false,
                kept,
            })
            .collect();
        relate(&mut entries);
        Self {
            entries,
            connected: false,
            session_present: false,
            identifiers: true,
            identifiers_missing: false,
            overlap_in_play: false,
            changed: false,
        }
    }

    /// `forbidden`: what the broker would hang up for.
    pub(crate) fn connected(
        &mut self,
        session_present: bool,
        identifiers: bool,
        forbidden: impl Fn(&str) -> bool,
    ) {
        (self.connected, self.session_present, self.identifiers) = (true, session_present, identifiers);
        for entry in &mut self.entries {
            entry.request = RequestState::Idle;
            (entry.pause_s, entry.failed) = (0, false);
            if !session_present {
                (entry.kept.asked, entry.kept.granted) = (None, None);
            }
            if entry.wanted && forbidden(&entry.kept.filter) {
                (entry.request, entry.failed) = (RequestState::Forbidden, true);
            }
        }
        self.changed |= !session_present;
        self.look_at_overlaps();
    }

    pub(crate) fn disconnected(&mut self) {
        self.connected = false;
    }

    /// The requests to send now. What they change must be on the disk before they leave, see [`Self::take_changed`].
    pub(crate) fn due(&mut self, mut next_packet_id: impl FnMut() -> u16) -> Vec<SubscriptionRequest> {
        if !self.connected {
            return Vec::new();
        }
        let mut requests = Vec::new();
        for index in 0..self.entries.len() {
            let action = if self.must_be_subscribed(index) {
                SubscriptionAction::Subscribe(self.identifiers.then_some(self.entries[index].kept.identifier))
            } else if self.must_be_unsubscribed(index) {
                SubscriptionAction::Unsubscribe
            } else {
                continue;
            };
            let now = self.now();
            let entry = &mut self.entries[index];
            entry.packet_id = next_packet_id();
            match action {
                SubscriptionAction::Subscribe(_) => {
                    entry.request = RequestState::Subscribing { for_s: 0, identified: self.identifiers };
                    self.changed |= entry.kept.asked.is_none();
                    entry.kept.asked.get_or_insert(now);
                }
                SubscriptionAction::Unsubscribe => {
                    let granted = entry.kept.granted.take();
                    self.changed |= granted.is_some();
                    entry.request = RequestState::Unsubscribing { for_s: 0, granted };
                }
            }
            requests.push(SubscriptionRequest {
                packet_id: entry.packet_id,
                filter: entry.kept.filter.clone(),
                action,
            });
        }
        self.look_at_overlaps();
        requests
    }

    pub(crate) fn subscribed(&mut self, suback: Suback) {
        let now = self.now();
        let Some(entry) = self.entries.iter_mut().find(|entry| {
            entry.packet_id == suback.packet_id
                && matches!(entry.request, RequestState::Subscribing { .. } | RequestState::Refused { .. })
        }) else {
            return tracing::warn!(
                packet_id = suback.packet_id,
                "the MQTT broker answers a SUBSCRIBE that nobody sent"
            );
        };
        let before = (entry.kept.asked, entry.kept.granted);
        let identified = matches!(entry.request, RequestState::Subscribing { identified: true, .. });
        match suback.verdict {
            SubscribeVerdict::Granted(qos) => {
                let at_most_once = qos == Qos::AtMostOnce;
                entry.succeed(RequestState::Granted { at_most_once });
                // On each connection it is asked for again, and only the first time is news.
                match entry.kept.granted {
                    None => tracing::info!(filter = entry.kept.filter, "subscribed"),
                    Some(_) => tracing::debug!(filter = entry.kept.filter, "still subscribed"),
                }
                entry.kept.granted = (!at_most_once).then(|| entry.kept.granted.unwrap_or(now));
            }
            SubscribeVerdict::IdentifiersNotSupported(_) if identified => {
                self.identifiers = false;
                entry.request = RequestState::Idle;
            }
            SubscribeVerdict::Refused(reason) | SubscribeVerdict::IdentifiersNotSupported(reason) => {
                // The broker may have left in place what it granted once.
                if entry.kept.granted.take().is_none() {
                    entry.kept.asked = None;
                }
                entry.refuse(reason);
            }
            SubscribeVerdict::Unclear(reason) => {
                entry.kept.granted = None;
                entry.refuse(reason);
            }
        }
        self.changed |= before != (entry.kept.asked, entry.kept.granted);
        self.look_at_overlaps();
    }

    pub(crate) fn unsubscribed(&mut self, unsuback: Unsuback) {
        let waits_for_it = |entry: &&mut Entry| {
            entry.packet_id == unsuback.packet_id
                && matches!(entry.request, RequestState::Unsubscribing { .. } | RequestState::Refused { .. })
        };
        let Some(entry) = self.entries.iter_mut().find(waits_for_it) else {
            return;
        };
        match unsuback.result {
            Ok(()) => {
                entry.succeed(RequestState::Unsubscribed);
                entry.kept.asked = None;
                self.changed = true;
            }
            Err(reason) => entry.refuse(reason),
        }
        self.look_at_overlaps();
    }

    /// Counts a second; afterwards [`Self::due`] may have something.
    pub(crate) fn second_passed(&mut self) {
        if !self.connected {
            return;
        }
        let mut silent = false;
        for entry in &mut self.entries {
            match &mut entry.request {
                RequestState::Subscribing { for_s, .. } | RequestState::Unsubscribing { for_s, .. }
                    if *for_s + 1 < ANSWER_S =>
                {
                    *for_s += 1
                }
                RequestState::Subscribing { .. } | RequestState::Unsubscribing { .. } => {
                    silent |= entry.kept.granted.take().is_some();
                    entry.refuse(format!("no answer within {ANSWER_S} s"));
                }
                RequestState::Refused { retry_in_s, .. } => *retry_in_s = retry_in_s.saturating_sub(1),
                RequestState::Idle
                | RequestState::Granted { .. }
                | RequestState::Unsubscribed
                | RequestState::Forbidden => {}
            }
        }
        self.changed |= silent;
        self.look_at_overlaps();
    }

    /// Ends the pauses: what is refused is asked for again at once.
    pub(crate) fn retry_now(&mut self) {
        for entry in &mut self.entries {
            if let RequestState::Refused { retry_in_s, .. } = &mut entry.request {
                *retry_in_s = 0;
            }
        }
    }

    /// Whether a delivery with these identifiers is kept. `window_open`: the broker does not wait for PUBACKs before it sends more.
    pub(crate) fn judge(&self, topic: &str, identifiers: &[usize], window_open: bool) -> Overlap {
        if !self.overlap_in_play {
            return Overlap::None;
        }
        let matching = self.entries.iter().filter(|entry| {
            entry.is_in_play() && entry.filter.as_ref().is_some_and(|filter| filter.matches(topic))
        });
        let (ours, others): (Vec<&Entry>, Vec<&Entry>) =
            matching.partition(|entry| identifiers.contains(&(entry.kept.identifier as usize)));
        let known = !ours.is_empty() && ours.len() == identifiers.len();
        if others.is_empty() || (identifiers.is_empty() && others.len() == 1) {
            return Overlap::None;
        }
        let surely = |one: &Entry, other: &Entry| one.was_granted_before(other, window_open);
        if known && !self.is_unsure() && others.iter().any(|other| ours.iter().all(|our| surely(other, our)))
        {
            return Overlap::Copy;
        }
        if known && others.iter().all(|other| ours.iter().any(|our| surely(our, other))) {
            return Overlap::None;
        }
        Overlap::Doubt
    }

    /// Notes whether the broker gives identifiers: `came` for a delivery with them, otherwise for one that was in doubt because it
    /// had none. True if that has changed.
    pub(crate) fn note_identifiers(&mut self, came: bool) -> bool {
        std::mem::replace(&mut self.identifiers_missing, !came) == came
    }

    /// The broker kept the session and has not confirmed its overlapping subscriptions yet. What they bring can only be judged
    /// when it has.
    pub(crate) fn is_unsure(&self) -> bool {
        let unsure = |entry: &&Entry| {
            entry.kept.granted.is_some()
                && matches!(entry.request, RequestState::Idle | RequestState::Subscribing { .. })
        };
        self.session_present
            && self.overlap_in_play
            && self.entries.iter().enumerate().any(|(index, entry)| {
                unsure(&entry)
                    && self.is_needed(index)
                    && entry.neighbours.iter().any(|at| self.entries[*at].is_in_play())
            })
    }

    /// There is a connection, and the broker has granted everything that is wanted.
    pub(crate) fn are_complete(&self) -> bool {
        self.connected
            && (0..self.entries.len()).all(|index| !self.entries[index].wanted || self.is_served(index))
    }

    /// What is asked for on this connection and not granted: each filter, quoted, with what is known of it.
    pub(crate) fn missing(&self) -> Vec<String> {
        let missing = |index: &usize| self.connected && self.is_needed(*index) && !self.is_served(*index);
        (0..self.entries.len()).filter(missing).map(|index| self.entries[index].in_words()).collect()
    }

    /// The filters whose SUBSCRIBE has no answer, quoted.
    pub(crate) fn unanswered(&self) -> Vec<String> {
        let subscribing = |entry: &&Entry| matches!(entry.request, RequestState::Subscribing { .. });
        self.entries.iter().filter(subscribing).map(|entry| format!("{:?}", entry.kept.filter)).collect()
    }

    /// Of what is asked for, the pairs that have topics in common.
    pub(crate) fn overlaps(&self) -> Vec<(&str, &str)> {
        let needed: Vec<usize> = (0..self.entries.len()).filter(|index| self.is_needed(*index)).collect();
        let mut pairs = Vec::new();
        for index in &needed {
            let later = self.entries[*index]
                .neighbours
                .iter()
                .filter(|other| *other > index && needed.contains(other));
            pairs.extend(later.map(|other| {
                let text = |at: usize| self.entries[at].kept.filter.as_str();
                (text(*index), text(*other))
            }));
        }
        pairs
    }

    /// Sentences about what does not come, or comes with less than was asked for.
    pub(crate) fn complaints(&self) -> Vec<String> {
        if !self.connected {
            return Vec::new();
        }
        let mut complaints: Vec<String> = self.entries.iter().filter_map(Entry::complaint).collect();
        if (!self.identifiers || self.identifiers_missing)
            && let Some((one, other)) = self.overlaps().first()
        {
            complaints.push(without_identifiers(one, other));
        }
        complaints
    }

    /// What to keep in `data_dir`, if that has changed since the last call.
    pub(crate) fn take_changed(&mut self) -> Option<Vec<Subscription>> {
        std::mem::take(&mut self.changed).then(|| self.kept())
    }

    pub(crate) fn kept(&self) -> Vec<Subscription> {
        self.entries.iter().map(|entry| entry.kept.clone()).collect()
    }

    /// The next number of the count of events; larger than that of every event so far.
    fn now(&self) -> u64 {
        let events = self.entries.iter().flat_map(|entry| [entry.kept.asked, entry.kept.granted]);
        events.flatten().max().unwrap_or(0) + 1
    }

    fn is_needed(&self, index: usize) -> bool {
        let entry = &self.entries[index];
        entry.wanted && entry.covered_by.iter().all(|wider| self.entries[*wider].failed)
    }

    /// Two filters that overlap are requested one after the other, so that we know which subscription was there first.
    fn must_be_subscribed(&self, index: usize) -> bool {
        let entry = &self.entries[index];
        let mut neighbours = entry.neighbours.iter().map(|at| &self.entries[*at]);
        self.is_needed(index)
            && matches!(
                entry.request,
                RequestState::Idle | RequestState::Unsubscribed | RequestState::Refused { retry_in_s: 0, .. }
            )
            && neighbours.all(|neighbour| !matches!(neighbour.request, RequestState::Subscribing { .. }))
    }

    fn must_be_unsubscribed(&self, index: usize) -> bool {
        let entry = &self.entries[index];
        let waits = matches!(
            entry.request,
            RequestState::Subscribing { .. }
                | RequestState::Unsubscribing { .. }
                | RequestState::Unsubscribed
        ) || matches!(entry.request, RequestState::Refused { retry_in_s: 1.., .. });
        let mut neighbours = entry.neighbours.iter();
        entry.kept.asked.is_some()
            && !self.is_needed(index)
            && !waits
            && neighbours.all(|at| !self.entries[*at].wanted || self.is_served(*at))
    }

    fn is_served(&self, index: usize) -> bool {
        let entry = &self.entries[index];
        let mut wider = entry.covered_by.iter().map(|at| &self.entries[*at]);
        wider.any(Entry::is_granted) || (entry.is_granted() && self.is_needed(index))
    }

    fn look_at_overlaps(&mut self) {
        self.overlap_in_play = (0..self.entries.len()).any(|index| {
            let mut neighbours = self.entries[index].neighbours.iter();
            self.entries[index].is_in_play() && neighbours.any(|at| self.entries[*at].is_in_play())
        });
    }
}

/// What brokers without identifiers do to overlapping filters.
pub(crate) fn without_identifiers(one: &str, other: &str) -> String {
    format!(
        "the MQTT broker gives no subscription identifiers, and the filters {one:?} and {other:?} overlap: a message that both \
         match may be stored twice, the second time with the mark rbMaybeCopyOf; use filters that have no topic in common, or \
         one that covers both"
    )
}

#[cfg(test)]
pub(super) mod tests;
