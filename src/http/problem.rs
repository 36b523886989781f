//! Errors as HTTP answers: a status, and `{"error":"one sentence"}` as the body.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use serde::Serialize;

#[derive(Serialize)]
struct Problem<'a> {
    error: &'a str,
}

pub(super) fn problem(status: StatusCode, sentence: &str) -> Response {
    (status, Json(Problem { error: sentence })).into_response()
}
