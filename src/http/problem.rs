//! Errors as HTTP answers: a status, and `{"error":"one sentence","code":"a stable name"}` as the body.
//!
//! Promises: every error below `/api` has this form, also where the framework refuses a request by itself; each 401 says how a token is
//! shown.

use axum::body::to_bytes;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Json, Response};
use serde::Serialize;

use super::bearer::CHALLENGE;
use crate::archive::HistoryError;

/// A deadline has passed.
pub(super) const LATE: &str = "RocketMQ or the archive did not answer in time; ask for less, or try again";

/// What the framework says has one short sentence.
const MAX_SENTENCE_BYTES: usize = 64 * 1024;

macro_rules! codes {
    ($($code:ident $name:literal $status:ident,)*) => {
        /// What went wrong, for programs: a name that stays when the sentence changes. docs/API.md says what each means.
        #[allow(clippy::missing_docs_in_private_items, reason = "docs/API.md has a table, which a test compares")]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
        pub(super) enum Code {
            $(#[serde(rename = $name)] $code,)*
        }

        impl Code {
            pub(super) fn status(self) -> StatusCode {
                match self { $(Self::$code => StatusCode::$status,)* }
            }

            /// Each with its name.
            #[cfg(test)]
            pub(super) const ALL: &[(Self, &str)] = &[$((Self::$code, $name),)*];
        }
    };
}

codes! {
    BadRequest "bad_request" BAD_REQUEST,
    BadHost "bad_host" BAD_REQUEST,
    BadRoom "bad_room" BAD_REQUEST,
    BadCursor "bad_cursor" BAD_REQUEST,
    BadNotice "bad_notice" BAD_REQUEST,
    BadLessonMark "bad_lesson_mark" BAD_REQUEST,
    NoToken "no_token" UNAUTHORIZED,
    TokenRefused "token_refused" UNAUTHORIZED,
    NotPermitted "not_permitted" FORBIDDEN,
    OperatorsOnly "operators_only" FORBIDDEN,
    ForeignPage "foreign_page" FORBIDDEN,
    NoSuchPath "no_such_path" NOT_FOUND,
    NoPages "no_pages" NOT_FOUND,
    NoSuchReplay "no_such_replay" NOT_FOUND,
    NoSuchLesson "no_such_lesson" NOT_FOUND,
    WrongMethod "wrong_method" METHOD_NOT_ALLOWED,
    ReplayIsRead "replay_is_read" CONFLICT,
    CursorExpired "cursor_expired" GONE,
    BodyTooLarge "body_too_large" PAYLOAD_TOO_LARGE,
    WrongContentType "wrong_content_type" UNSUPPORTED_MEDIA_TYPE,
    UnknownHost "unknown_host" MISDIRECTED_REQUEST,
    BadBody "bad_body" UNPROCESSABLE_ENTITY,
    TooManyRequests "too_many_requests" TOO_MANY_REQUESTS,
    Internal "internal" INTERNAL_SERVER_ERROR,
    StorageFailed "storage_failed" BAD_GATEWAY,
    NoTopic "no_topic" BAD_GATEWAY,
    BrokerAway "broker_away" BAD_GATEWAY,
    NotHandedOut "not_handed_out" BAD_GATEWAY,
    TooManyMessages "too_many_messages" BAD_GATEWAY,
    ChangedMeanwhile "changed_meanwhile" BAD_GATEWAY,
    ClassNotRunning "class_not_running" SERVICE_UNAVAILABLE,
    NoIndex "no_index" SERVICE_UNAVAILABLE,
    Late "late" GATEWAY_TIMEOUT,
}

#[derive(Serialize)]
struct Problem<'a> {
    error: &'a str,
    code: Code,
}

pub(super) fn problem(code: Code, sentence: &str) -> Response {
    let status = code.status();
    let mut response = (status, Json(Problem { error: sentence, code })).into_response();
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(CHALLENGE));
    }
    response
}

/// Why a history cannot be read, in words for somebody who has no command line.
pub(super) fn of_history(error: &HistoryError) -> (Code, String) {
    match error {
        HistoryError::Read(error) => (Code::StorageFailed, error.to_string()),
        HistoryError::NoTopic { .. } => (Code::NoTopic, error.to_string()),
        HistoryError::Away { topic, brokers } => (
            Code::BrokerAway,
            format!(
                "RocketMQ broker {brokers} is away, and with it a part of topic {topic}; try again when it is back"
            ),
        ),
        HistoryError::Withheld(missing) => (Code::NotHandedOut, missing.to_string()),
        HistoryError::TooMany => (
            Code::TooManyMessages,
            "there are more messages in this range than one answer can have; ask for a shorter one"
                .to_owned(),
        ),
        HistoryError::Gone(_) => (Code::ChangedMeanwhile, error.to_string()),
        HistoryError::TooSlow => (Code::Late, LATE.to_owned()),
    }
}

/// Gives the errors that the framework makes below `/api` the form of ours, with its own words.
pub(super) async fn in_json(request: Request, next: Next) -> Response {
    let is_api = request.uri().path().starts_with("/api");
    let response = next.run(request).await;
    let status = response.status();
    let is_error = status.is_client_error() || status.is_server_error();
    let content_type = response.headers().get(header::CONTENT_TYPE);
    if !is_api || !is_error || content_type.is_some_and(|kind| kind == "application/json") {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let bytes = to_bytes(body, MAX_SENTENCE_BYTES).await.unwrap_or_default();
    let words = String::from_utf8_lossy(&bytes);
    let sentence = if words.is_empty() { status.canonical_reason().unwrap_or("refused") } else { &words };
    let (made, body) = problem(of_status(status), sentence).into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.extend(made.headers);
    Response::from_parts(parts, body)
}

fn of_status(status: StatusCode) -> Code {
    match status {
        StatusCode::NOT_FOUND => Code::NoSuchPath,
        StatusCode::METHOD_NOT_ALLOWED => Code::WrongMethod,
        StatusCode::PAYLOAD_TOO_LARGE => Code::BodyTooLarge,
        StatusCode::UNSUPPORTED_MEDIA_TYPE => Code::WrongContentType,
        StatusCode::UNPROCESSABLE_ENTITY => Code::BadBody,
        other if other.is_server_error() => Code::Internal,
        _ => Code::BadRequest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const API: &str = include_str!("../../docs/API.md");
    const OPENAPI: &str = include_str!("archive_api/openapi.json");
    const TEXTS: [&str; 2] =
        [include_str!("../../web/src/i18n/en.ts"), include_str!("../../web/src/i18n/zh.ts")];

    #[test]
    fn each_code_is_documented_and_the_pages_have_words_for_it() {
        let document: serde_json::Value = serde_json::from_str(OPENAPI).unwrap();
        let listed = &document["components"]["schemas"]["Problem"]["properties"]["code"]["enum"];
        let names: Vec<&str> = Code::ALL.iter().map(|(_, name)| *name).collect();
        assert_eq!(listed, &serde_json::json!(names));
        for (code, name) in Code::ALL {
            let row = format!("| `{name}` | {} |", code.status().as_u16());
            assert!(API.contains(&row), "docs/API.md lacks {row}");
            for texts in TEXTS {
                assert!(texts.contains(&format!("  problem_{name}:")), "{name} has no words");
            }
        }
    }

    /// RFC 9110, 15.5.2: a client library that is refused looks there for what to show.
    #[test]
    fn each_401_and_nothing_else_names_the_scheme_of_a_token() {
        for (code, name) in Code::ALL {
            let refused = problem(*code, "no");
            let challenge = refused.headers().get(header::WWW_AUTHENTICATE);
            let is_401 = code.status() == StatusCode::UNAUTHORIZED;
            assert_eq!(challenge.map(HeaderValue::as_bytes), is_401.then_some(&b"Bearer"[..]), "{name}");
        }
    }

    #[test]
    fn no_sentence_of_a_history_speaks_of_options_of_the_command_line() {
        let away = HistoryError::Away { topic: "room".to_owned(), brokers: "a".to_owned() };
        for error in [away, HistoryError::TooMany, HistoryError::TooSlow, HistoryError::Gone(3)] {
            let (_, sentence) = of_history(&error);
            assert!(!sentence.contains("--") && !sentence.contains('`'), "{sentence}");
        }
    }
}
