//! What the session is subscribed to: what to ask for next, and which of two copies of a message is left out.
//!
//! Promises: a filter that a wider one covers is asked for only while the wider one is refused; what is refused or not answered
//! is asked for again; nothing is unsubscribed before everything that takes its place is granted. A copy is left out only if the
//! other one surely exists: its subscription was granted before the first request for the one that brought this copy.
//! Must never: do IO, look at a clock (it counts seconds), tell copies by their content.

mod entry;

use entry::{Entry, Turn, relate};

use crate::binding::Filter;
use crate::data_dir::Subscription;

/// An answer may take so long; longer than any pause, so that a slow broker is not asked over and over.
const ANSWER_S: u32 = 10;
const IDENTIFIERS_NOT_SUPPORTED: u8 = 0xA1;

/// What to send. The packet identifier is taken already.
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

/// What a delivery is beside those of other subscriptions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Overlap {
    /// The only one, or the one that stays.
    None,
    /// Another one of the same message came or comes.
    Copy,
    /// Another one may come or not.
    Doubt,
}

/// A broker's answer to one request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SubscriptionAnswer<'a> {
    pub packet_id: u16,
    pub codes: &'a [u8],
    /// The first code and the broker's words, for people.
    pub told: &'a str,
}

/// See the module's words.
#[derive(Debug)]
pub(crate) struct Subscriptions {
    entries: Vec<Entry>,
    connected: bool,
    session_present: bool,
    /// The broker has identifiers, as far as it said.
    identifiers: bool,
    /// It brought a message without one, where one was needed.
    identifiers_missing: bool,
    overlap_in_play: bool,
    changed: bool,
}

impl Subscriptions {
    /// `wanted` in the order of the bindings; `kept` and `older` (the filters of a file without identifiers) from the last
    /// process. `new_identifier` draws a number, which is drawn again if it is taken.
    pub(crate) fn new(
        wanted: &[Filter],
        kept: Vec<Subscription>,
        older: &[String],
        mut new_identifier: impl FnMut() -> u32,
    ) -> Self {
        let mut all = kept;
        let texts = wanted.iter().map(Filter::as_str);
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
                filter: Filter::parse(&kept.filter).ok(),
                wanted: place(&kept).is_some(),
                neighbours: Vec::new(),
                covered_by: Vec::new(),
                turn: Turn::Idle,
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
            entry.turn = Turn::Idle;
            (entry.pause_s, entry.failed) = (0, false);
            if !session_present {
                (entry.kept.asked, entry.kept.granted) = (None, None);
            }
            if entry.wanted && forbidden(&entry.kept.filter) {
                (entry.turn, entry.failed) = (Turn::Forbidden, true);
            }
        }
        self.changed |= !session_present;
        self.look_at_overlaps();
    }

    pub(crate) fn disconnected(&mut self) {
        self.connected = false;
    }

    /// What is to be sent now. What it changes must be written down before it leaves, see [`Self::take_changed`].
    pub(crate) fn due(&mut self, mut next_packet_id: impl FnMut() -> u16) -> Vec<SubscriptionRequest> {
        if !self.connected {
            return Vec::new();
        }
        let mut asks = Vec::new();
        for index in 0..self.entries.len() {
            let what = if self.is_to_be_asked(index) {
                SubscriptionAction::Subscribe(self.identifiers.then_some(self.entries[index].kept.identifier))
            } else if self.is_to_leave(index) {
                SubscriptionAction::Unsubscribe
            } else {
                continue;
            };
            let now = self.now();
            let entry = &mut self.entries[index];
            entry.packet_id = next_packet_id();
            match what {
                SubscriptionAction::Subscribe(_) => {
                    entry.turn = Turn::Asked { for_s: 0, identified: self.identifiers };
                    self.changed |= entry.kept.asked.is_none();
                    entry.kept.asked.get_or_insert(now);
                }
                SubscriptionAction::Unsubscribe => {
                    let granted = entry.kept.granted.take();
                    self.changed |= granted.is_some();
                    entry.turn = Turn::Leaving { for_s: 0, granted };
                }
            }
            asks.push(SubscriptionRequest {
                packet_id: entry.packet_id,
                filter: entry.kept.filter.clone(),
                action: what,
            });
        }
        self.look_at_overlaps();
        asks
    }

    /// SUBACK.
    pub(crate) fn subscribed(&mut self, answer: SubscriptionAnswer<'_>) {
        let now = self.now();
        let Some(entry) = self.entries.iter_mut().find(|entry| {
            entry.packet_id == answer.packet_id
                && matches!(entry.turn, Turn::Asked { .. } | Turn::Refused { .. })
        }) else {
            return tracing::warn!(
                packet_id = answer.packet_id,
                "the MQTT broker answers a SUBSCRIBE that nobody sent"
            );
        };
        let before = (entry.kept.asked, entry.kept.granted);
        let identified = matches!(entry.turn, Turn::Asked { identified: true, .. });
        match *answer.codes {
            [code] if code < 0x80 => {
                entry.reach(Turn::Granted { at_most_once: code == 0 });
                tracing::info!(filter = entry.kept.filter, "subscribed");
                entry.kept.granted = (code > 0).then(|| entry.kept.granted.unwrap_or(now));
            }
            [IDENTIFIERS_NOT_SUPPORTED] if identified => {
                self.identifiers = false;
                entry.turn = Turn::Idle;
            }
            [_] => {
                // What was granted once may have been left in place.
                if entry.kept.granted.take().is_none() {
                    entry.kept.asked = None;
                }
                entry.refuse(answer.told.to_owned());
            }
            _ => {
                entry.kept.granted = None;
                let told = format!("{} reasons in the answer to one filter", answer.codes.len());
                entry.refuse(told);
            }
        }
        self.changed |= before != (entry.kept.asked, entry.kept.granted);
        self.look_at_overlaps();
    }

    /// UNSUBACK.
    pub(crate) fn unsubscribed(&mut self, answer: SubscriptionAnswer<'_>) {
        let is_leaving = |entry: &&mut Entry| {
            entry.packet_id == answer.packet_id
                && matches!(entry.turn, Turn::Leaving { .. } | Turn::Refused { .. })
        };
        let Some(entry) = self.entries.iter_mut().find(is_leaving) else {
            return;
        };
        match *answer.codes {
            [code] if code < 0x80 => {
                entry.reach(Turn::Left);
                entry.kept.asked = None;
                self.changed = true;
            }
            [_] => entry.refuse(answer.told.to_owned()),
            _ => {
                let told = format!("{} reasons in the answer to one filter", answer.codes.len());
                entry.refuse(told);
            }
        }
        self.look_at_overlaps();
    }

    /// Time passes: [`Self::due`] may have something.
    pub(crate) fn second_passed(&mut self) {
        if !self.connected {
            return;
        }
        let mut silent = false;
        for entry in &mut self.entries {
            match &mut entry.turn {
                Turn::Asked { for_s, .. } | Turn::Leaving { for_s, .. } if *for_s + 1 < ANSWER_S => {
                    *for_s += 1
                }
                Turn::Asked { .. } | Turn::Leaving { .. } => {
                    silent |= entry.kept.granted.take().is_some();
                    entry.refuse(format!("no answer within {ANSWER_S} s"));
                }
                Turn::Refused { again_in_s, .. } => *again_in_s = again_in_s.saturating_sub(1),
                Turn::Idle | Turn::Granted { .. } | Turn::Left | Turn::Forbidden => {}
            }
        }
        self.changed |= silent;
        self.look_at_overlaps();
    }

    /// Ends the pauses before what is asked for again.
    pub(crate) fn ask_now(&mut self) {
        for entry in &mut self.entries {
            if let Turn::Refused { again_in_s, .. } = &mut entry.turn {
                *again_in_s = 0;
            }
        }
    }

    /// What a delivery with these identifiers is. `window_open`: the broker holds nothing back for want of PUBACKs.
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

    /// A delivery without identifiers was in doubt, or one with them came. True if that is news.
    pub(crate) fn note_identifiers(&mut self, came: bool) -> bool {
        std::mem::replace(&mut self.identifiers_missing, !came) == came
    }

    /// A kept session whose overlapping subscriptions are not confirmed yet: what it brings is judged when they are.
    pub(crate) fn is_unsure(&self) -> bool {
        let unsure = |entry: &&Entry| {
            entry.kept.granted.is_some() && matches!(entry.turn, Turn::Idle | Turn::Asked { .. })
        };
        self.session_present
            && self.overlap_in_play
            && self.entries.iter().enumerate().any(|(index, entry)| {
                unsure(&entry)
                    && self.is_needed(index)
                    && entry.neighbours.iter().any(|at| self.entries[*at].is_in_play())
            })
    }

    /// Everything that is wanted comes.
    pub(crate) fn are_complete(&self) -> bool {
        (0..self.entries.len()).all(|index| !self.entries[index].wanted || self.is_served(index))
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

    /// Beyond every event so far.
    fn now(&self) -> u64 {
        let events = self.entries.iter().flat_map(|entry| [entry.kept.asked, entry.kept.granted]);
        events.flatten().max().unwrap_or(0) + 1
    }

    fn is_needed(&self, index: usize) -> bool {
        let entry = &self.entries[index];
        entry.wanted && entry.covered_by.iter().all(|wider| self.entries[*wider].failed)
    }

    /// Two that overlap are asked for one after the other, so that it is known which was there first.
    fn is_to_be_asked(&self, index: usize) -> bool {
        let entry = &self.entries[index];
        let mut neighbours = entry.neighbours.iter().map(|at| &self.entries[*at]);
        self.is_needed(index)
            && matches!(entry.turn, Turn::Idle | Turn::Left | Turn::Refused { again_in_s: 0, .. })
            && neighbours.all(|neighbour| !matches!(neighbour.turn, Turn::Asked { .. }))
    }

    fn is_to_leave(&self, index: usize) -> bool {
        let entry = &self.entries[index];
        let waits = matches!(entry.turn, Turn::Asked { .. } | Turn::Leaving { .. } | Turn::Left)
            || matches!(entry.turn, Turn::Refused { again_in_s: 1.., .. });
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
mod tests;
