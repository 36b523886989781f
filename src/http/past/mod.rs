//! What was said in a room before a page of the class came: the newest lines, for everybody who waits.
//!
//! Promises: an answer has everything that was stored when its question came; who asks for the same waits for the same reading.
//! Must never: show a student what was said before the running lesson, or anybody what only the archive has.

mod page;
mod running_lesson;
mod shared;
#[cfg(test)]
mod tests;

pub(super) use page::PageAsked;
pub(crate) use page::{Past, PastParts};
pub(crate) use running_lesson::RunningLesson;
