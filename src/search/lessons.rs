//! The lessons of a room, with their names, and how one of them is chosen.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::Deserialize;

use super::at_places::messages_at;
use super::{SearchError, ask};
use crate::archive::Whole;
use crate::binding::read_back;
use crate::index::{Index, LessonSpan, Row};
use crate::model::{MessageId, StoredMessage};

/// A lesson and its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lesson {
    /// Where it lies, and how long it is.
    pub span: LessonSpan,
    /// The id of its first message; `None`: that message has none, or is not there any more.
    pub id: Option<MessageId>,
    /// What it is about, if whoever began it said so.
    pub title: Option<String>,
}

/// The lessons of a room, the oldest first.
pub(crate) async fn lessons_of(
    index: &Arc<Index>,
    whole: &Whole,
    room: &str,
    gap_ms: u64,
) -> Result<Vec<Lesson>, SearchError> {
    let spans = spans_of(index, room, gap_ms).await?;
    named(whole, spans).await
}

/// These lessons, with their names.
pub(crate) async fn named(whole: &Whole, spans: Vec<LessonSpan>) -> Result<Vec<Lesson>, SearchError> {
    let firsts: Vec<_> = spans.iter().map(|span| &span.first).collect();
    let messages = messages_at(whole, &firsts).await?;
    let named = spans.into_iter().zip(messages).map(|(span, message)| {
        let first = message.as_ref().map(read_back);
        let marked = first.as_ref().filter(|_| span.is_begun_by_mark);
        let title = marked.and_then(|mark| title_of(&mark.payload));
        Lesson { span, id: first.and_then(|first| first.id), title }
    });
    Ok(named.collect())
}

/// The lessons of a room without their names, the oldest first.
pub(crate) async fn spans_of(
    index: &Arc<Index>,
    room: &str,
    gap_ms: u64,
) -> Result<Vec<LessonSpan>, SearchError> {
    let (index, room) = (index.clone(), room.to_owned());
    ask(move || index.lessons(&room, gap_ms, None)).await
}

#[derive(Deserialize)]
struct MarkBody {
    title: Option<String>,
}

fn title_of(body: &[u8]) -> Option<String> {
    serde_json::from_slice::<MarkBody>(body).ok()?.title
}

/// Which lesson is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    /// The newest one.
    Last,
    /// The one that began on this day.
    Day(Date),
    /// The one that holds this message; the id of its first one is its name.
    Message(MessageId),
}

/// The text chooses no lesson.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} chooses no lesson: write last, the day on which it began (2026-11-20), or the id of its first message"
)]
pub(crate) struct BadChoice(String);

impl FromStr for Choice {
    type Err = BadChoice;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "last" {
            return Ok(Self::Last);
        }
        // An id has a dash as well, and 16 digits before it.
        if let Ok(id) = text.parse() {
            return Ok(Self::Message(id));
        }
        text.parse().map(Self::Day).map_err(|_| BadChoice(text.to_owned()))
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Last => f.write_str("last"),
            Self::Day(day) => write!(f, "{day}"),
            Self::Message(id) => write!(f, "{id}"),
        }
    }
}

/// Why no lesson is chosen.
#[allow(clippy::missing_docs_in_private_items, reason = "each text says what is wrong")]
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChoiceError {
    #[error(transparent)]
    Search(#[from] SearchError),
    #[error("room {room} has no lesson {choice}; `roombridge lessons {room}` lists them")]
    None { room: String, choice: Choice },
    #[error("room {room} has {} lessons on that day; name one of them by its id", lessons.len())]
    Several { room: String, lessons: Vec<Lesson> },
}

/// The lesson that is meant. `zone`: that of the days.
pub(crate) async fn choose(
    index: &Arc<Index>,
    whole: &Whole,
    room: &str,
    gap_ms: u64,
    choice: Choice,
    zone: &TimeZone,
) -> Result<LessonSpan, ChoiceError> {
    let spans = spans_of(index, room, gap_ms).await?;
    let mut found: Vec<LessonSpan> = match choice {
        Choice::Last => spans.into_iter().next_back().into_iter().collect(),
        Choice::Day(day) => {
            let is_of_day = |span: &LessonSpan| day_of(span.begin_ms, zone) == Some(day);
            spans.into_iter().filter(is_of_day).collect()
        }
        Choice::Message(id) => {
            let row = row_of(index, whole, room, id).await?;
            spans.into_iter().filter(|span| row.as_ref().is_some_and(|row| span.holds(row))).collect()
        }
    };
    let room = room.to_owned();
    match (found.len(), found.pop()) {
        (_, None) => Err(ChoiceError::None { room, choice }),
        (1, Some(one)) => Ok(one),
        (_, Some(last)) => {
            found.push(last);
            let lessons = named(whole, found).await?;
            Err(ChoiceError::Several { room, lessons })
        }
    }
}

/// Where the message of that id stands in its room.
async fn row_of(
    index: &Arc<Index>,
    whole: &Whole,
    room: &str,
    id: MessageId,
) -> Result<Option<Row>, SearchError> {
    let asked = index.clone();
    let copies = ask(move || asked.copies_of(&[id])).await?.concat();
    let rows: Vec<&Row> = copies.iter().filter(|row| row.is_in(room)).collect();
    // Only the message says its whole id.
    let messages = messages_at(whole, &rows).await?;
    let is_it = |message: &StoredMessage| read_back(message).id == Some(id);
    let mut found = rows.into_iter().zip(messages);
    Ok(found.find(|(_, message)| message.as_ref().is_some_and(is_it)).map(|(row, _)| row.clone()))
}

fn day_of(ms: u64, zone: &TimeZone) -> Option<Date> {
    let time = Timestamp::from_millisecond(i64::try_from(ms).ok()?).ok()?;
    Some(time.to_zoned(zone.clone()).date())
}
