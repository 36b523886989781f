//! Why a request to the archive is refused, as an HTTP answer: a status and one sentence that says what to do.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::archive::HistoryError;
use crate::http::problem::problem;
use crate::search::SearchError;

/// Each has one status.
#[allow(clippy::missing_docs_in_private_items, reason = "each text says what is wrong")]
#[derive(Debug, thiserror::Error)]
pub(super) enum ApiError {
    #[error("{0}")]
    Wrong(String),
    #[error(
        "show a teacher's token for this room, or the operator's secret, in the header Authorization: Bearer TOKEN"
    )]
    NoToken,
    #[error("{0}")]
    Token(String),
    #[error(
        "this needs a token with role teacher that names room {0:?} itself, without a wildcard (GET /login?role=teacher&room={0}), \
         or the operator's secret"
    )]
    NotYourRoom(String),
    #[error("{what} is for operators only: show the operator's secret (login.secret)")]
    OperatorsOnly { what: &'static str },
    #[error("the cursor is from before a restart of roombridge; ask for the first page again")]
    OldCursor,
    #[error("there is no such replay; it has ended, or somebody else made it: make a new one")]
    NoReplay,
    #[error("room {room:?} has no lesson {choice}; GET /api/v1/rooms/{room}/lessons lists them")]
    NoLesson { room: String, choice: String },
    #[error("somebody reads this replay; make another one, or stop reading there")]
    IsRead,
    #[error(
        "there is no index of the archive yet; it is made within a minute of the first message, see the log"
    )]
    NoIndex,
    #[error("{what}; try again in {after_s} s")]
    Busy { what: String, after_s: u64 },
    #[error("RocketMQ or the archive did not answer in time; ask for less, or try again")]
    Late,
    #[error("{0}")]
    Upstream(String),
}

impl ApiError {
    fn status(&self) -> StatusCode {
        match self {
            Self::Wrong(_) => StatusCode::BAD_REQUEST,
            Self::NoToken | Self::Token(_) => StatusCode::UNAUTHORIZED,
            Self::NotYourRoom(_) | Self::OperatorsOnly { .. } => StatusCode::FORBIDDEN,
            Self::OldCursor => StatusCode::GONE,
            Self::Busy { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::NoReplay | Self::NoLesson { .. } => StatusCode::NOT_FOUND,
            Self::IsRead => StatusCode::CONFLICT,
            Self::NoIndex => StatusCode::SERVICE_UNAVAILABLE,
            Self::Late => StatusCode::GATEWAY_TIMEOUT,
            Self::Upstream(_) => StatusCode::BAD_GATEWAY,
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = problem(self.status(), &self.to_string());
        if let Self::Busy { after_s, .. } = self {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(after_s));
        }
        response
    }
}

/// Reads that the index needs.
impl From<SearchError> for ApiError {
    fn from(error: SearchError) -> Self {
        Self::Upstream(error.to_string())
    }
}

/// A history that cannot be read. That nothing was stored yet is no error here; the caller asks first.
impl From<HistoryError> for ApiError {
    fn from(error: HistoryError) -> Self {
        match error {
            HistoryError::TooSlow => Self::Late,
            error @ (HistoryError::Read(_)
            | HistoryError::NoTopic { .. }
            | HistoryError::Away { .. }
            | HistoryError::Withheld(_)
            | HistoryError::TooMany
            | HistoryError::Gone(_)) => Self::Upstream(error.to_string()),
        }
    }
}
