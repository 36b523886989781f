//! What the rules decide about one request.

use super::audit::Audit;
use super::mutes::MuteChange;
use super::presence::PresenceEvent;
use super::request::{Delivery, Reason};

/// What is to be done about a request, in the order of the fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Must be on the disk, and then applied, before anything below is done.
    pub change: Option<MuteChange>,
    /// A member said that it came or left.
    pub presence: Option<PresenceEvent>,
    /// Messages to rooms and clients.
    pub deliveries: Vec<Delivery>,
    /// The record for the archive; `None` for a request that leaves no record, such as a fence.
    pub audit: Option<Audit>,
    /// Whether it was done.
    pub end: End,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// It is done.
    Accepted,
    /// It is not done.
    Refused(Reason),
    /// It is one of the bridge's own messages, which it reads if up and down share a parent topic. An answer to it would be
    /// answered in turn, for ever.
    Ignored,
}
