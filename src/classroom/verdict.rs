//! What the rules decide about one request.

use super::audit::Audit;
use super::mutes::MuteChange;
use super::presence::PresenceEvent;
use super::request::{Delivery, Reason};

/// What is to be done about a request, in the order of the fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Must be written down, then applied, before anything below is done.
    pub change: Option<MuteChange>,
    /// A member said that it came or left.
    pub presence: Option<PresenceEvent>,
    pub deliveries: Vec<Delivery>,
    /// For the archive: everything that was said, muted or refused.
    pub audit: Option<Audit>,
    pub end: End,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Accepted,
    Refused(Reason),
    /// Lies where only the bridge writes (up and down share a parent topic): an answer to it would answer itself for ever.
    Ignored,
}
