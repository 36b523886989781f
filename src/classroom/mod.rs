//! The live classroom: who may say what to whom, who is muted, who is there. Rules and small state, nothing else.
//!
//! Promises: a request leads to one verdict that depends on nothing but the requests and changes before it; what is sent
//! to a room are the bytes that a verified sender sent; a crash between sending and committing leads to the same ids.
//! Whatever strangers send is refused, never a panic, and the memory it costs is bounded.
//!
//! Must never: do IO, look at a clock (times are parameters, milliseconds since 1970-01-01 UTC), wait; believe a body's
//! word about its sender; answer to a place that the asker chose.
//!
//! How a caller uses it: [`Classroom::judge`]; if the verdict has a change, write it down, then [`Classroom::apply`];
//! then send the deliveries and the audit record, then commit. What the verdict says about presence, and what the broker
//! says about its clients, goes to [`Presence::apply`] and from there through the [`Coalescer`].

mod answer;
mod audit;
mod coalesce;
mod judge;
mod lines;
mod mutes;
mod notice;
mod presence;
mod present_client;
mod rate;
mod request;
mod status;
mod tombstones;
mod verdict;

#[cfg(test)]
mod tests;

pub(crate) use audit::{Audit, AuditAction};
pub(crate) use coalesce::Coalescer;
#[cfg(test)]
pub(crate) use coalesce::MAX_SUMMARY_ROOMS;
pub(crate) use judge::{Classroom, ClassroomSettings};
#[cfg(test)]
pub(crate) use lines::MAX_BODY_BYTES;
#[cfg(test)]
pub(crate) use mutes::MuteAction;
pub(crate) use mutes::{MuteChange, Mutes, SnapshotError};
pub(crate) use notice::{NoticeError, notice};
#[cfg(test)]
pub(crate) use presence::{Member, PresenceUpdate};
pub(crate) use presence::{Presence, PresenceChange, PresenceEvent, PresenceSettings};
pub(crate) use rate::Rate;
pub(crate) use request::Delivery;
pub(crate) use request::{ClassTopic, Reason, Request, SenderRole, derived_id};
#[cfg(test)]
pub(crate) use status::NotAStatus;
pub(crate) use status::status_event;
pub(crate) use verdict::{End, Verdict};
