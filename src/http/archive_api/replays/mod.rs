//! Replays over HTTP: a session that a program makes, reads as a stream, and drives.
//!
//! Promises: a session ends with the token that made it, when nobody reads it for [`session::WITHOUT_READER`], and when it is told to;
//! one that is read slowly reads no further than its reader, and slows nobody else; only who made it reads it and drives it.

mod session;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use serde::{Deserialize, Serialize};

pub(super) use self::session::Sessions;
use self::session::{Made, Session};
use super::Api;
use super::asked::{Body, Times, time_ms};
use super::error::ApiError;
use super::rights::Shown;
use crate::archive::{Control, HistoryQuery, Position, ReplayState, Speed, rfc3339};

/// A place in a replay; one of these.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Place {
    /// Seconds after the first message.
    OffsetS(f64),
    /// Seconds from here; less than 0 = back.
    ByS(f64),
    /// A time.
    At(String),
    /// The id of a message.
    Message(String),
}

/// What to play.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReplayAsked {
    from: Option<String>,
    to: Option<String>,
    /// Instead of `from` and `to`.
    lesson: Option<String>,
    start: Option<Place>,
    speed: Option<String>,
    skip_silence_s: Option<f64>,
    #[serde(default)]
    follow: bool,
}

/// What a session is told.
#[derive(Debug, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Told {
    Pause,
    Resume,
    Speed { speed: String },
    Seek { to: Place },
}

/// A session, as it is now.
#[derive(Serialize)]
pub(super) struct Replay {
    id: String,
    room: String,
    /// Where it is read.
    stream: String,
    #[serde(flatten)]
    state: Standing,
}

/// Where a replay is.
#[derive(Debug, Serialize)]
pub(super) struct Standing {
    begin_at: Option<String>,
    position_at: Option<String>,
    played: u64,
    total: u64,
    speed: String,
    paused: bool,
    live: bool,
}

impl Standing {
    fn of(state: ReplayState) -> Self {
        Self {
            begin_at: state.begin_ms.map(rfc3339),
            position_at: state.position_ms.map(rfc3339),
            played: state.played,
            total: state.total,
            speed: match state.speed {
                Speed::Times(factor) => factor.to_string(),
                Speed::Max => "max".to_owned(),
            },
            paused: state.is_paused,
            live: state.is_live,
        }
    }
}

impl Replay {
    fn of(session: &Session) -> Json<Self> {
        Json(Self {
            id: session.id.clone(),
            room: session.room.clone(),
            stream: format!("/api/v1/replays/{}/stream", session.id),
            state: Standing::of(session.handle.state()),
        })
    }
}

/// Makes a session. It begins to play when it is read.
pub(super) async fn create(
    State(api): State<Arc<Api>>,
    Path(room): Path<String>,
    shown: Shown,
    Body(asked): Body<ReplayAsked>,
) -> Result<Response, ApiError> {
    let caller = api.reader_of(&shown, &room)?;
    let places = api.places_of(&room)?;
    let times = Times::of(asked.from.as_deref(), asked.to.as_deref())?;
    if asked.follow && times.to_ms.is_some() {
        return Err(ApiError::Wrong("to and follow contradict each other; leave one out".to_owned()));
    }
    let permit = api.sessions.limits.enter(caller.key)?;
    let times = api.times_of(&room, asked.lesson.as_deref(), times, asked.follow).await?;
    let made = Made {
        room,
        query: HistoryQuery {
            places,
            rules: Some(api.parts.rules.clone()),
            from_ms: times.from_ms,
            to_ms: times.to_ms,
            partial: true,
            ..HistoryQuery::default()
        },
        start: asked.start.map(position).transpose()?,
        speed: asked.speed.as_deref().map_or(Ok(Speed::Times(1.0)), speed)?,
        longest_silence: asked
            .skip_silence_s
            .map(|seconds| duration("skip_silence_s", seconds))
            .transpose()?,
        follow: asked.follow,
        shows: api.shows(&caller),
    };
    if caller.is_operator() {
        caller.audit(&format!("a replay of room {:?}, private messages included", made.room));
    }
    let session = session::start(&api, caller, permit, made).await?;
    Ok((StatusCode::CREATED, Replay::of(&session)).into_response())
}

pub(super) async fn show(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    shown: Shown,
) -> Result<Json<Replay>, ApiError> {
    Ok(Replay::of(&*api.session_of(&shown, &id)?))
}

pub(super) async fn control(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    shown: Shown,
    Body(told): Body<Told>,
) -> Result<Response, ApiError> {
    let session = api.session_of(&shown, &id)?;
    let control = match told {
        Told::Pause => Control::Pause,
        Told::Resume => Control::Resume,
        Told::Speed { speed: text } => Control::Speed(speed(&text)?),
        Told::Seek { to } => Control::Seek(position(to)?),
    };
    // A replay that waits for its reader obeys when that one reads on.
    match tokio::time::timeout(Duration::from_secs(1), session.handle.tell(control)).await {
        Ok(true) => Ok((StatusCode::ACCEPTED, Replay::of(&session)).into_response()),
        Ok(false) => Err(ApiError::NoReplay),
        Err(_) => {
            Err(ApiError::Busy { what: "too many controls wait for this replay".to_owned(), after_s: 1 })
        }
    }
}

pub(super) async fn end(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    shown: Shown,
) -> Result<StatusCode, ApiError> {
    api.session_of(&shown, &id)?.end();
    Ok(StatusCode::NO_CONTENT)
}

/// Server-sent events if the caller accepts them, else JSON Lines.
pub(super) async fn stream(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    shown: Shown,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let session = api.session_of(&shown, &id)?;
    let accepts = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let form =
        if accepts.contains("text/event-stream") { stream::Form::Sse } else { stream::Form::JsonLines };
    let body = match method == Method::HEAD {
        // Whoever asks so reads nothing, and must not begin the replay for the one who will.
        true => session.check_free().map(|()| stream::none())?,
        false => stream::body(session.read()?, form),
    };
    Ok(([(header::CONTENT_TYPE, form.content_type())], body).into_response())
}

impl Api {
    /// A session of this caller. One of somebody else is none, so that nobody learns which ones there are.
    fn session_of(&self, shown: &Shown, id: &str) -> Result<Arc<Session>, ApiError> {
        let session = self.sessions.get(id);
        let Some(session) = session else {
            // Whoever shows nothing learns nothing.
            return Err(if shown.is_empty() { ApiError::NoToken } else { ApiError::NoReplay });
        };
        let caller = self.reader_of(shown, &session.room)?;
        if caller.key == session.key { Ok(session) } else { Err(ApiError::NoReplay) }
    }
}

fn speed(text: &str) -> Result<Speed, ApiError> {
    text.parse().map_err(|error: crate::archive::BadSpeed| ApiError::Wrong(error.to_string()))
}

fn duration(name: &str, seconds: f64) -> Result<Duration, ApiError> {
    let refused =
        || ApiError::Wrong(format!("{name}={seconds} is no length of time; write seconds, 0 or more"));
    Duration::try_from_secs_f64(seconds).map_err(|_| refused())
}

fn position(place: Place) -> Result<Position, ApiError> {
    Ok(match place {
        Place::OffsetS(seconds) => Position::Offset(duration("offset_s", seconds)?),
        // A number that is too large becomes the largest: before the begin is the begin, behind the end is the end.
        Place::ByS(seconds) => Position::By((seconds * 1000.0) as i64),
        Place::At(text) => Position::At(time_ms("at", &text)?),
        Place::Message(id) => Position::Message(id.parse().map_err(|_| {
            ApiError::Wrong(format!("{id:?} is no id of a message; take one from `messages`"))
        })?),
    })
}
