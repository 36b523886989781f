//! `GET /api/v1/rooms/{room}/lessons`: when a room had lessons, and who spoke; and which lesson another request is about.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Json;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::asked::{Asked, Times, limit_of};
use super::error::ApiError;
use super::rights::Shown;
use super::why::Partial;
use super::{Api, DEADLINE};
use crate::archive::rfc3339;
use crate::index::LessonSpan;
use crate::search::{Choice, ChoiceError, Lesson, SearchError, choose, named, spans_of};

const MAX_LESSONS: usize = 1000;
const DEFAULT_LESSONS: usize = 100;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LessonsAsked {
    limit: Option<usize>,
    /// The `before` of an earlier answer.
    before: Option<String>,
}

/// A page, oldest first.
#[derive(Serialize)]
pub(super) struct Lessons {
    room: String,
    lessons: Vec<LessonAnswer>,
    #[serde(flatten)]
    partial: Partial,
    /// Where the page with older lessons begins; null if there is none.
    before: Option<String>,
}

#[derive(Serialize)]
struct Person {
    client_id: String,
    lines: u64,
}

#[derive(Serialize)]
struct LessonAnswer {
    id: Option<String>,
    title: Option<String>,
    begin_at: String,
    end_at: String,
    length_s: f64,
    lines: u64,
    revision: u64,
    people: Vec<Person>,
    begun_by_mark: bool,
    ended_by_mark: bool,
}

impl LessonAnswer {
    fn of(Lesson { span, id, title }: Lesson) -> Self {
        let person =
            |(client_id, lines): &(Arc<str>, u64)| Person { client_id: client_id.to_string(), lines: *lines };
        Self {
            id: id.map(|id| id.to_string()),
            title,
            begin_at: rfc3339(span.begin_ms),
            end_at: rfc3339(span.end_ms),
            length_s: span.end_ms.saturating_sub(span.begin_ms) as f64 / 1000.0,
            lines: span.lines,
            revision: span.lines,
            people: span.people.iter().map(person).collect(),
            begun_by_mark: span.is_begun_by_mark,
            ended_by_mark: span.is_ended_by_mark,
        }
    }
}

pub(super) async fn lessons(
    State(api): State<Arc<Api>>,
    Path(room): Path<String>,
    shown: Shown,
    Asked(asked): Asked<LessonsAsked>,
) -> Result<Json<Lessons>, ApiError> {
    let caller = api.reader_of(&shown, &room)?;
    api.places_of(&room)?;
    let _permit = api.limits.enter(caller.key)?;
    let limit = limit_of(asked.limit, DEFAULT_LESSONS, MAX_LESSONS)?;
    let question = format!("lessons {:?} {room:?}", caller.is_operator());
    let before = asked.before.as_deref().map(|cursor| api.cursors.read(&question, cursor)).transpose()?;
    // Only we can have written it.
    let before_ms = before.map(|place| place.parse::<u64>().map_err(|_| ApiError::OldCursor)).transpose()?;
    let (index, whole) = api.indexed().await?;
    let found = async {
        let why = api.behind(&index, &whole).await;
        let mut spans = spans_of(&index, &room, api.gap_ms()).await?;
        spans.retain(|span| before_ms.is_none_or(|before_ms| span.begin_ms < before_ms));
        let older = older_than_the_page(&spans, limit);
        let page = spans.split_off(older);
        let before = page.first().filter(|_| older > 0).map(|oldest| oldest.begin_ms);
        Ok::<_, SearchError>((named(&whole, page).await?, before, why))
    };
    let (lessons, before_ms, why) =
        tokio::time::timeout(DEADLINE, found).await.map_err(|_| ApiError::Late)??;
    Ok(Json(Lessons {
        room,
        lessons: lessons.into_iter().map(LessonAnswer::of).collect(),
        partial: why.into(),
        before: before_ms.map(|before_ms| api.cursors.make(&question, &before_ms.to_string())),
    }))
}

/// How many are left for other pages. Lessons that began in one millisecond stand on one page, because the cursor names it.
fn older_than_the_page(spans: &[LessonSpan], limit: usize) -> usize {
    let mut older = spans.len().saturating_sub(limit);
    let begin_ms = |number: usize| spans.get(number).map(|span| span.begin_ms);
    while older > 0 && begin_ms(older - 1) == begin_ms(older) {
        older -= 1;
    }
    older
}

impl Api {
    /// The times of the lesson that a request names, else those that it names itself.
    pub(super) async fn times_of(
        &self,
        room: &str,
        lesson: Option<&str>,
        times: Times,
        is_open: bool,
    ) -> Result<Times, ApiError> {
        let Some(lesson) = lesson else { return Ok(times) };
        if times != Times::default() {
            return Err(ApiError::Wrong("lesson contradicts from and to; leave one out".to_owned()));
        }
        let choice: Choice = lesson.parse().map_err(|_| {
            let known =
                "write last, the day on which it began (2026-11-20, UTC), or the id of a message in it";
            ApiError::Wrong(format!("lesson={lesson:?} chooses no lesson; {known}"))
        })?;
        let (index, whole) = self.indexed().await?;
        let zone = TimeZone::UTC;
        let chosen = choose(&index, &whole, room, self.gap_ms(), choice, &zone);
        let span = tokio::time::timeout(DEADLINE, chosen).await.map_err(|_| ApiError::Late)?;
        let span = span.map_err(|error| match error {
            ChoiceError::Search(error) => error.into(),
            ChoiceError::None { room, choice } => ApiError::NoLesson { room, choice: choice.to_string() },
            ChoiceError::Several { room, lessons } => {
                let ids = lessons.iter().map(|lesson| {
                    lesson.id.map_or_else(|| rfc3339(lesson.span.begin_ms), |id| id.to_string())
                });
                let ids = ids.collect::<Vec<_>>().join(", ");
                ApiError::Wrong(format!(
                    "room {room:?} has several lessons on that day; name one by its id: {ids}"
                ))
            }
        })?;
        let to_ms = (!is_open).then_some(span.end_ms.saturating_add(1));
        Ok(Times { from_ms: Some(span.begin_ms), to_ms })
    }
}
