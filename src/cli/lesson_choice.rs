//! `--lesson`: which lesson of a room a command is about.

use clap::Args;

use super::found::{Indexed, lesson_lines};
use super::output::aside;
use super::target::{Sources, Target};
use super::times::local_zone;
use crate::archive::HistoryQuery;
use crate::search::{Choice, ChoiceError, choose};

// No doc comment: clap would show it as the description of each command that flattens this in.
#[derive(Debug, Args)]
pub(crate) struct LessonArgs {
    /// Only this lesson: last, the day on which it began (2026-11-20), or the id of a message in it.
    #[arg(long, value_name = "LESSON", conflicts_with_all = ["from", "to"])]
    lesson: Option<Choice>,
}

/// There are several; they were listed.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(crate) struct Ambiguous(ChoiceError);

impl LessonArgs {
    /// Narrows the query to the lesson, if one is asked for. `is_open`: without an end, because what comes is wanted, too.
    pub(crate) async fn narrow(
        &self,
        query: &mut HistoryQuery,
        target: &Target,
        sources: &Sources,
        room: &str,
        is_open: bool,
    ) -> anyhow::Result<()> {
        let Some(choice) = self.lesson else { return Ok(()) };
        let Indexed { index, whole, gap_ms } = Indexed::open(target, sources)?;
        let zone = local_zone();
        match choose(&index, &whole, room, gap_ms, choice, &zone).await {
            Ok(span) => {
                query.from_ms = Some(span.begin_ms);
                query.to_ms = (!is_open).then_some(span.end_ms + 1);
                Ok(())
            }
            Err(ChoiceError::Several { room, lessons }) => {
                for line in lesson_lines(&lessons, &zone) {
                    aside(line);
                }
                Err(Ambiguous(ChoiceError::Several { room, lessons }).into())
            }
            Err(error) => Err(error.into()),
        }
    }
}
