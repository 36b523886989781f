//! The rules of the live classroom: who may say what to whom, who is muted, who is present. Rules with little state, no IO.
//!
//! Promises: the verdict on a request depends on the requests and changes before it, and on nothing else; a room gets only
//! bytes that a verified sender sent; after a crash between sending and committing the same request leads to the same ids.
//! No input leads to a panic, and the memory that strangers can make the bridge use is bounded.
//!
//! Must never: do IO, look at a clock (times are parameters, milliseconds since 1970-01-01 UTC), wait, believe what a body
//! says about its sender, or send an answer to a topic that the client chose.
//!
//! How a caller uses it: call [`Classroom::judge`]; if the verdict has a change, write it to the disk and then call
//! [`Classroom::apply`]; then send the deliveries and the audit record, then commit. The presence events of verdicts and of
//! the broker go to [`Presence::apply`], and its updates go through the [`Coalescer`].

mod answer;
mod audit;
mod coalesce;
mod judge;
mod lesson;
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
pub(crate) use lesson::{LessonMarkError, lesson_mark};
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
pub(crate) use request::{ClassTopic, LessonEdge, Reason, Request, SenderRole, derived_id};
#[cfg(test)]
pub(crate) use status::NotAStatus;
pub(crate) use status::status_event;
pub(crate) use verdict::{End, Verdict};
