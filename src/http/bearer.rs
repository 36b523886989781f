//! Reads the secret or the token that a request shows in `Authorization: Bearer ...`.

use axum::http::{HeaderMap, header};

/// `None` if the request shows none, or no text.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let shown = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    shown.strip_prefix("Bearer ").map(str::trim)
}
