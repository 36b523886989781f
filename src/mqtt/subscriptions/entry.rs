//! One filter: what was kept of it, how it stands to the others, and what goes on with it on this connection.

use crate::binding::Filter;
use crate::data_dir::Subscription;

/// Pauses double up to this: what is published while a filter is refused is lost.
const LONGEST_PAUSE_S: u32 = 5;

#[derive(Debug)]
pub(super) struct Entry {
    pub kept: Subscription,
    /// `None` is no filter that we would ask for, left over from another version.
    pub filter: Option<Filter>,
    pub wanted: bool,
    /// Those whose filters have a topic in common with this one.
    pub neighbours: Vec<usize>,
    /// Wanted ones that match whatever this one matches.
    pub covered_by: Vec<usize>,
    pub turn: Turn,
    pub packet_id: u16,
    pub pause_s: u32,
    /// Refused or unanswered since it was granted last, on this connection.
    pub failed: bool,
}

/// What goes on with a filter on this connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Turn {
    Idle,
    Asked {
        for_s: u32,
        identified: bool,
    },
    Granted {
        at_most_once: bool,
    },
    /// SUBSCRIBE, or, where it is `ending`, UNSUBSCRIBE is to be sent again.
    Refused {
        told: String,
        again_in_s: u32,
        ending: bool,
    },
    /// The broker would hang up.
    Forbidden,
    /// UNSUBSCRIBE is on its way. `granted` as it was before.
    Leaving {
        for_s: u32,
        granted: Option<u64>,
    },
    Left,
}

/// Sets for each how it stands to the others.
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
    /// Whatever the other subscription brings was in this one too when the broker took it in.
    pub(crate) fn was_granted_before(&self, other: &Self, window_open: bool) -> bool {
        let granted = match self.turn {
            // It leaves behind what it has brought; nothing of it waits at the broker while the window is open.
            Turn::Leaving { granted, .. } if window_open => granted,
            _ => self.kept.granted,
        };
        granted.is_some_and(|granted| other.kept.asked.is_some_and(|asked| granted < asked))
    }

    /// A filter that is put back into its pause. `told`: why.
    pub(crate) fn refuse(&mut self, told: String) {
        let ending = matches!(self.turn, Turn::Leaving { .. } | Turn::Refused { ending: true, .. });
        self.failed |= !ending;
        self.pause_s = (2 * self.pause_s).clamp(1, LONGEST_PAUSE_S);
        self.turn = Turn::Refused { told, again_in_s: self.pause_s, ending };
    }

    /// What it asks for is done.
    pub(crate) fn reach(&mut self, turn: Turn) {
        (self.turn, self.failed, self.pause_s) = (turn, false, 0);
    }

    /// The session has it, or had it on this connection.
    pub(crate) fn is_in_play(&self) -> bool {
        self.kept.asked.is_some() || self.turn == Turn::Left
    }

    pub(crate) fn is_granted(&self) -> bool {
        matches!(self.turn, Turn::Granted { .. })
    }

    pub(crate) fn complaint(&self) -> Option<String> {
        let filter = &self.kept.filter;
        match &self.turn {
            Turn::Refused { told, ending: false, .. } => Some(format!(
                "the MQTT broker refuses the subscription to {filter:?} ({told}): what is published there meanwhile is lost; \
                 check its access rules and limits; it is asked again every {LONGEST_PAUSE_S} s, and at once on SIGHUP"
            )),
            Turn::Refused { told, .. } => Some(format!(
                "the MQTT broker does not end the subscription to {filter:?} ({told}), which nothing needs any more; it is asked \
                 again every {LONGEST_PAUSE_S} s"
            )),
            Turn::Granted { at_most_once: true } => Some(format!(
                "the MQTT broker grants {filter:?} with QoS 0 only: it does not send again what is lost on its way to us; allow \
                 QoS 1 in the broker"
            )),
            Turn::Granted { .. }
            | Turn::Idle
            | Turn::Asked { .. }
            | Turn::Leaving { .. }
            | Turn::Left
            | Turn::Forbidden => None,
        }
    }
}
