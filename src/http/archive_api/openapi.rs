//! The OpenAPI document of the API, as it stands in `openapi.json`. A test compares it with the routes and with real answers.

use axum::http::header;
use axum::response::IntoResponse;

pub(super) const DOCUMENT: &str = include_str!("openapi.json");

/// Everybody may read it: it says nothing about what is archived.
pub(super) async fn document() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT)
}
