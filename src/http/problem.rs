//! How an error looks to a program: a status and `{"error":"one sentence"}`.

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
