//! One filter: what the data directory keeps of it, how it overlaps with the others, and how far its request has come.

use crate::data_dir::Subscription;
use crate::model::TopicFilter;

/// The pause before a request is repeated doubles up to this. It is short, because what is published meanwhile is lost.
const LONGEST_PAUSE_S: u32 = 5;

/// One filter of the session.
#[derive(Debug)]
pub(super) struct Entry {
    pub kept: Subscription,
    /// `None` for a text that another version left behind and that is no filter to us.
    pub filter: Option<TopicFilter>,
    pub wanted: bool,
    /// Those whose filters have a topic in common with this one.
    pub neighbours: Vec<usize>,
    /// Wanted ones that match whatever this one matches.
    pub covered_by: Vec<usize>,
    pub request: RequestState,
    pub packet_id: u16,
    pub pause_s: u32,
    /// Refused or unanswered since it was granted last, on this connection.
    pub failed: bool,
}

/// How far the request for a filter has come on this connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RequestState {
    /// Nothing was sent.
    Idle,
    /// SUBSCRIBE was sent.
    Subscribing { for_s: u32, identified: bool },
    /// The broker has subscribed us, where `at_most_once` with QoS 0 only.
    Granted { at_most_once: bool },
    /// The broker refused, or did not answer: SUBSCRIBE, or UNSUBSCRIBE if `unsubscribing`, is sent again after a pause.
    Refused { reason: String, retry_in_s: u32, unsubscribing: bool },
    /// The broker would end the connection for it, so it is never requested.
    Forbidden,
    /// UNSUBSCRIBE was sent. `granted`: what the entry had kept of it before.
    Unsubscribing { for_s: u32, granted: Option<u64> },
    /// The broker has removed the subscription.
    Unsubscribed,
}

/// Fills in `neighbours` and `covered_by` of each entry.
pub(super) fn relate(entries: &mut [Entry]) {
    for one in 0..entries.len() {
        for other in 0..entries.len() {
            let (Some(ours), Some(theirs)) = (&entries[one].filter, &entries[other].filter) else {
                continue;
            };
            if one == other || !ours.overlaps(theirs) {
                continue;
            }
            // Of two that match the same the first one counts.
            let is_covered = theirs.covers(ours) && (other < one || !ours.covers(theirs));
            let is_covered = is_covered && entries[one].wanted && entries[other].wanted;
            entries[one].neighbours.push(other);
            if is_covered {
                entries[one].covered_by.push(other);
            }
        }
    }
}

impl Entry {
    /// Whatever the other subscription brings, this one brings too: it was there when the broker took the message in.
    pub(crate) fn was_granted_before(&self, other: &Self, window_open: bool) -> bool {
        let granted = match self.request {
            // What it has brought came before the UNSUBSCRIBE; while the window is open, none of it waits at the broker.
            RequestState::Unsubscribing { granted, .. } if window_open => granted,
            _ => self.kept.granted,
        };
        granted.is_some_and(|granted| other.kept.asked.is_some_and(|asked| granted < asked))
    }

    /// The request failed for that reason; it is made again after a pause.
    pub(crate) fn refuse(&mut self, reason: String) {
        let unsubscribing = matches!(
            self.request,
            RequestState::Unsubscribing { .. } | RequestState::Refused { unsubscribing: true, .. }
        );
        self.failed |= !unsubscribing;
        self.pause_s = (2 * self.pause_s).clamp(1, LONGEST_PAUSE_S);
        self.request = RequestState::Refused { reason, retry_in_s: self.pause_s, unsubscribing };
    }

    /// The broker has done what was requested.
    pub(crate) fn succeed(&mut self, request: RequestState) {
        (self.request, self.failed, self.pause_s) = (request, false, 0);
    }

    /// The session has the subscription, or had it on this connection.
    pub(crate) fn is_in_play(&self) -> bool {
        self.kept.asked.is_some() || self.request == RequestState::Unsubscribed
    }

    pub(crate) fn is_granted(&self) -> bool {
        matches!(self.request, RequestState::Granted { .. })
    }

    /// The filter, and how far its request has come.
    pub(crate) fn in_words(&self) -> String {
        let state = match &self.request {
            RequestState::Idle | RequestState::Unsubscribed => "not asked for yet",
            RequestState::Subscribing { .. } => "no answer yet",
            RequestState::Refused { reason, .. } => reason.as_str(),
            RequestState::Forbidden => "the broker allows no wildcards",
            RequestState::Granted { .. } | RequestState::Unsubscribing { .. } => "granted",
        };
        format!("{:?} ({state})", self.kept.filter)
    }

    pub(crate) fn complaint(&self) -> Option<String> {
        let filter = &self.kept.filter;
        match &self.request {
            RequestState::Refused { reason, unsubscribing: false, .. } => Some(format!(
                "the MQTT broker refuses the subscription to {filter:?} ({reason}): what is published there meanwhile is lost; \
                 check its access rules and limits; it is asked again every {LONGEST_PAUSE_S} s, and at once on SIGHUP"
            )),
            RequestState::Refused { reason, .. } => Some(format!(
                "the MQTT broker does not end the subscription to {filter:?} ({reason}), which nothing needs any more; it is asked \
                 again every {LONGEST_PAUSE_S} s"
            )),
            RequestState::Granted { at_most_once: true } => Some(format!(
                "the MQTT broker grants {filter:?} with QoS 0 only: it does not send again what is lost on its way to us; allow \
                 QoS 1 in the broker"
            )),
            RequestState::Granted { .. }
            | RequestState::Idle
            | RequestState::Subscribing { .. }
            | RequestState::Unsubscribing { .. }
            | RequestState::Unsubscribed
            | RequestState::Forbidden => None,
        }
    }
}
