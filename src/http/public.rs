//! The classroom's pages and its part of `/api`, on the public listener.
//!
//! Promises: an answer about a room goes only to a caller that may read the room; only a caller with the right can change
//! something; each answer has a deadline.
//! Must never: show a secret, or trust the client name in a request without a token that permits it.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::bearer::bearer;
use super::pages::page;
use super::past::{PageAsked, Past, RunningLesson};
use super::problem::{Code, of_history, problem};
use crate::access::{Authenticator, Grants, Role, is_shown};
use crate::archive::Before;
use crate::classroom::{ClassTopic, LessonEdge};
use crate::live_class::{ClassNotRunning, LiveClassHandle};
use crate::model::{ClientId, Clock, MessageId, RoomId};

const DEADLINE: Duration = Duration::from_secs(15);
const MAX_HISTORY: usize = 1000;
const DEFAULT_HISTORY: usize = 200;

/// The answer of `/api/config`: where the pages find everything.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PageConfig {
    /// Where the MQTT broker listens for WebSockets; `None` = the user types it.
    pub websocket_url: Option<String>,
    /// Where the login is; `None` = the user has a token.
    pub login_url: Option<String>,
    /// Second part of the usernames.
    pub access_key: String,
    /// Third part of the usernames.
    pub instance: String,
    /// First level of the topics that clients read.
    pub parent: String,
    /// First level of the topics that clients write.
    pub send_parent: String,
    /// Group of the client ids of teachers; empty if there is none.
    pub teacher_group: String,
    /// Group of the client ids of students; empty if there is none.
    pub student_group: String,
    /// Whether pages must subscribe to their P2P topic, because the MQTT broker does not deliver there by itself.
    pub p2p_subscribe: bool,
}

/// The parts of the public listener.
pub(crate) struct PublicParts {
    /// Asks the running classroom.
    pub live_class: LiveClassHandle,
    /// Checks tokens.
    pub authenticator: Arc<Authenticator>,
    /// An application's server, which is no client, shows it to give notices; `None` = it cannot.
    pub login_secret: Option<SecretString>,
    /// What was said before.
    pub past: Past,
    /// What students see of a room's past; `None` = everything.
    pub running_lesson: Option<RunningLesson>,
    /// Wall time, for the expiry of tokens.
    pub clock: Arc<dyn Clock>,
    /// What `/api/config` answers.
    pub pages: PageConfig,
}

type Shared = Arc<PublicParts>;

/// All routes, without a guard.
pub(super) fn router(parts: PublicParts) -> Router {
    Router::new()
        .route("/api/config", get(config))
        .route("/api/rooms/{room}/history", get(history))
        .route("/api/rooms/{room}/members", get(members))
        .route("/api/rooms/{room}/mutes", get(mutes))
        .route("/api/rooms/{room}/notice", axum::routing::post(notice))
        .route("/api/rooms/{room}/lesson", axum::routing::post(lesson))
        .fallback(get(page))
        .with_state(Arc::new(parts))
}

/// Why a request is refused.
enum RequestError {
    Room,
    Before,
    NoToken,
    Token(String),
    NotYours,
    Late,
    ClassNotRunning,
}

impl From<ClassNotRunning> for RequestError {
    fn from(_: ClassNotRunning) -> Self {
        Self::ClassNotRunning
    }
}

impl IntoResponse for RequestError {
    fn into_response(self) -> Response {
        let (code, sentence) = match &self {
            Self::Room => (Code::BadRoom, "a room has 1 to 64 letters, digits, - and _"),
            Self::Before => (Code::BadCursor, "`before` is none that an answer gave"),
            Self::NoToken => (
                Code::NoToken,
                "show a token in the header Authorization: Bearer TOKEN; GET /login gives one",
            ),
            Self::Token(why) => (Code::TokenRefused, why.as_str()),
            Self::NotYours => (Code::NotPermitted, "the token does not permit this"),
            Self::Late => (Code::Late, "RocketMQ or the classroom did not answer in time; try again"),
            Self::ClassNotRunning => (Code::ClassNotRunning, "the classroom is not running; try again"),
        };
        problem(code, sentence)
    }
}

async fn in_time<T>(answer: impl Future<Output = Result<T, RequestError>>) -> Result<T, RequestError> {
    tokio::time::timeout(DEADLINE, answer).await.unwrap_or(Err(RequestError::Late))
}

impl PublicParts {
    fn grants(&self, headers: &HeaderMap) -> Result<Grants, RequestError> {
        let token = bearer(headers).ok_or(RequestError::NoToken)?;
        let client = headers.get("x-client-id").and_then(|value| value.to_str().ok());
        let now_ms = self.clock.wall_ms();
        let admitted = self.authenticator.admit_bearer(token, client, now_ms);
        admitted.map_err(|refused| RequestError::Token(refused.to_string()))
    }

    fn reader_of(&self, room: &str, headers: &HeaderMap) -> Result<(RoomId, Grants), RequestError> {
        let room = RoomId::parse(room).ok_or(RequestError::Room)?;
        let grants = self.grants(headers)?;
        let topic = ClassTopic::Room(room.clone()).topic(&self.pages.parent);
        if !grants.may_read(&topic) {
            return Err(RequestError::NotYours);
        }
        Ok((room, grants))
    }

    /// Who may give the room a notice or mark its lessons: a teacher who may read it, or who shows the login secret. Says which client
    /// it is, if it is one.
    fn teacher_of(
        &self,
        room: &str,
        headers: &HeaderMap,
    ) -> Result<(RoomId, Option<ClientId>), RequestError> {
        let shown = bearer(headers).ok_or(RequestError::NoToken)?;
        if self.login_secret.as_ref().is_some_and(|secret| is_shown(secret, shown.as_bytes())) {
            return Ok((RoomId::parse(room).ok_or(RequestError::Room)?, None));
        }
        let (room, grants) = self.reader_of(room, headers)?;
        if grants.role() != Role::Teacher {
            return Err(RequestError::NotYours);
        }
        Ok((room, grants.client_id().and_then(ClientId::parse)))
    }
}

impl PublicParts {
    /// What was said before is not for this reader; `None` = everything is.
    async fn since_ms(&self, room: &RoomId, headers: &HeaderMap) -> Option<u64> {
        let lesson = self.running_lesson.as_ref()?;
        let now_ms = self.clock.wall_ms();
        let grants = self.authenticator.admit_bearer(bearer(headers)?, None, now_ms).ok();
        // The role counts that the token names: anybody can send a teacher's client id.
        let is_teacher = grants.is_some_and(|grants| grants.role() == Role::Teacher);
        if is_teacher { None } else { lesson.begin_ms(room.as_str(), now_ms).await }
    }
}

async fn config(State(parts): State<Shared>) -> Json<PageConfig> {
    Json(parts.pages.clone())
}

#[derive(Deserialize)]
struct HistoryArguments {
    limit: Option<usize>,
    /// The `before` of an earlier answer.
    before: Option<String>,
}

async fn history(
    State(parts): State<Shared>,
    Path(room): Path<String>,
    Query(arguments): Query<HistoryArguments>,
    headers: HeaderMap,
) -> Result<Response, RequestError> {
    let (room, grants) = parts.reader_of(&room, &headers)?;
    let before = arguments.before.as_deref().map(str::parse::<Before>);
    let before = before.transpose().map_err(|()| RequestError::Before)?;
    let limit = arguments.limit.unwrap_or(DEFAULT_HISTORY).clamp(1, MAX_HISTORY);
    let notices = grants.may_read(&ClassTopic::System.topic(&parts.pages.parent));
    let read = async {
        let since_ms = parts.since_ms(&room, &headers).await;
        Ok(parts.past.page(&PageAsked { room, notices, limit, since_ms }, before).await)
    };
    match in_time(read).await? {
        Ok(json) => Ok(([(header::CONTENT_TYPE, "application/json")], json).into_response()),
        Err(error) => {
            let (code, sentence) = of_history(&error);
            Ok(problem(code, &sentence))
        }
    }
}

#[derive(Serialize)]
struct Members<T> {
    online: usize,
    members: Vec<T>,
}

async fn members(
    State(parts): State<Shared>,
    Path(room): Path<String>,
    headers: HeaderMap,
) -> Result<Response, RequestError> {
    let (room, _) = parts.reader_of(&room, &headers)?;
    let members = in_time(async { Ok(parts.live_class.members(room).await?) }).await?;
    let online = members.iter().filter(|member| member.online).count();
    Ok(Json(Members { online, members }).into_response())
}

#[derive(Serialize)]
struct Mutes<T> {
    mutes: Vec<T>,
}

async fn mutes(
    State(parts): State<Shared>,
    Path(room): Path<String>,
    headers: HeaderMap,
) -> Result<Response, RequestError> {
    let (room, grants) = parts.reader_of(&room, &headers)?;
    if grants.role() != Role::Teacher {
        return Err(RequestError::NotYours);
    }
    let mutes = in_time(async { Ok(parts.live_class.mutes(room).await?) }).await?;
    Ok(Json(Mutes { mutes }).into_response())
}

#[derive(Deserialize)]
struct NoticeBody {
    text: String,
}

/// The id of a message that the class made.
#[derive(Serialize)]
struct MadeAnswer {
    id: String,
}

impl MadeAnswer {
    /// What was asked for, or why it cannot be.
    fn of(made: Result<MessageId, impl std::error::Error>, refused: Code) -> Response {
        match made {
            Ok(id) => (StatusCode::ACCEPTED, Json(Self { id: id.to_string() })).into_response(),
            Err(wrong) => problem(refused, &wrong.to_string()),
        }
    }
}

async fn notice(
    State(parts): State<Shared>,
    Path(room): Path<String>,
    headers: HeaderMap,
    Json(body): Json<NoticeBody>,
) -> Result<Response, RequestError> {
    let (room, by) = parts.teacher_of(&room, &headers)?;
    let noticed = in_time(async { Ok(parts.live_class.notice(room, body.text, by).await?) }).await?;
    Ok(MadeAnswer::of(noticed, Code::BadNotice))
}

#[derive(Deserialize)]
struct LessonBody {
    mark: LessonEdge,
    title: Option<String>,
}

async fn lesson(
    State(parts): State<Shared>,
    Path(room): Path<String>,
    headers: HeaderMap,
    Json(body): Json<LessonBody>,
) -> Result<Response, RequestError> {
    let (room, by) = parts.teacher_of(&room, &headers)?;
    let marked = async { Ok(parts.live_class.lesson(room, body.mark, body.title, by).await?) };
    Ok(MadeAnswer::of(in_time(marked).await?, Code::BadLessonMark))
}
