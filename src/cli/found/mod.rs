//! The commands that ask the index: `roombridge search`, `rooms` and `lessons`.

mod lessons;
mod rooms;
mod search;

use std::sync::Arc;

use anyhow::bail;

use super::in_words;
use super::output::aside;
use super::target::{Sources, Target};
use crate::app::archived_topics;
use crate::archive::Whole;
use crate::index::Index;
use crate::search::behind;

pub(crate) use lessons::{LessonsArgs, lesson_lines, run as lessons};
pub(crate) use rooms::{RoomsArgs, run as rooms};
pub(crate) use search::{SearchArgs, run as search};

/// The index, and what it is an index of.
pub(crate) struct Indexed {
    pub index: Arc<Index>,
    pub whole: Arc<Whole>,
    /// A longer silence ends a lesson.
    pub gap_ms: u64,
}

impl Indexed {
    /// What must be there, says how to get it.
    pub(crate) fn open(target: &Target, sources: &Sources) -> anyhow::Result<Self> {
        let Some(archive) = &target.config.archive else {
            bail!(
                "there is no index without an archive: set archive.dir in the configuration of the bridge, and start it"
            )
        };
        let index = match sources.index() {
            Some(index) => Some(index),
            // To say why.
            None => Index::open(&archive.dir)?.map(Arc::new),
        };
        let (Some(index), Some(whole)) = (index, sources.whole()) else {
            bail!(
                "there is no index in {}: a running bridge with archive.dir, `roombridge archive run` or `roombridge dev` \
                 makes it in the background; `roombridge archive rebuild-index` makes it now",
                archive.dir.display()
            )
        };
        let gap_ms = u64::try_from(archive.lesson_gap.as_millis()).unwrap_or(u64::MAX);
        Ok(Self { index, whole, gap_ms })
    }

    /// How many messages of these topics the index has not seen yet.
    pub(crate) async fn behind(&self, topics: &[String]) -> anyhow::Result<u64> {
        Ok(behind(&self.index, &self.whole, topics).await?)
    }

    /// Says on standard error what the index has not seen yet; `None` = that is not known. To be asked before the question: what comes
    /// between the two is then in the answer, or was not there when the command began.
    pub(crate) async fn tell_behind(&self, target: &Target) -> anyhow::Result<Option<u64>> {
        let topics = archived_topics(&target.config, &target.rules()?);
        match self.behind(&topics).await {
            Ok(0) => Ok(Some(0)),
            Ok(behind) => {
                aside(format_args!("{behind} messages are not in the index yet, and so not in this answer"));
                Ok(Some(behind))
            }
            Err(error) => {
                aside(format_args!("what the index has not seen yet is not known: {}", in_words(&error)));
                Ok(None)
            }
        }
    }
}
