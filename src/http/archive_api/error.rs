//! Why a request to the archive is refused, as an HTTP answer: a code and one sentence that says what to do.

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};

use crate::archive::HistoryError;
use crate::http::problem::{Code, LATE, of_history, problem};
use crate::search::SearchError;

/// Each has one code.
#[allow(clippy::missing_docs_in_private_items, reason = "each text says what is wrong")]
#[derive(Debug, thiserror::Error)]
pub(super) enum ApiError {
    #[error("{0}")]
    Wrong(String),
    #[error("{0}")]
    BadBody(String),
    #[error("the body has more than 2 MiB; leave out what this path does not need")]
    BodyTooLarge,
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
    #[error("{LATE}")]
    Late,
    #[error("{0}")]
    Upstream(String),
    #[error("{sentence}")]
    History { code: Code, sentence: String },
}

impl ApiError {
    fn code(&self) -> Code {
        match self {
            Self::Wrong(_) => Code::BadRequest,
            Self::BadBody(_) => Code::BadBody,
            Self::BodyTooLarge => Code::BodyTooLarge,
            Self::NoToken => Code::NoToken,
            Self::Token(_) => Code::TokenRefused,
            Self::NotYourRoom(_) => Code::NotPermitted,
            Self::OperatorsOnly { .. } => Code::OperatorsOnly,
            Self::OldCursor => Code::CursorExpired,
            Self::Busy { .. } => Code::TooManyRequests,
            Self::NoReplay => Code::NoSuchReplay,
            Self::NoLesson { .. } => Code::NoSuchLesson,
            Self::IsRead => Code::ReplayIsRead,
            Self::NoIndex => Code::NoIndex,
            Self::Late => Code::Late,
            Self::Upstream(_) => Code::StorageFailed,
            Self::History { code, .. } => *code,
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = problem(self.code(), &self.to_string());
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
        let (code, sentence) = of_history(&error);
        Self::History { code, sentence }
    }
}
