//! Serves the classroom's pages, which are built from `web/` and are part of the binary.

use axum::body::Body;
use axum::http::{Uri, header};
use axum::response::{IntoResponse, Response};
use rust_embed::RustEmbed;

use super::problem::{Code, problem};

/// Empty if the pages were not built; the rest works without them.
#[derive(RustEmbed)]
#[folder = "web/dist/"]
#[allow_missing = true]
struct Pages;

/// Serves the file of this path.
pub(super) async fn page(uri: Uri) -> Response {
    let path = match uri.path().trim_start_matches('/') {
        "" => "index.html",
        path => path,
    };
    match Pages::get(path) {
        Some(file) => {
            // The build puts a hash of the content into these names, so a file never changes.
            let cache =
                if path.starts_with("assets/") { "public, max-age=31536000, immutable" } else { "no-cache" };
            let headers = [
                (header::CONTENT_TYPE, file.metadata.mimetype().to_owned()),
                (header::CACHE_CONTROL, cache.to_owned()),
            ];
            (headers, Body::from(file.data.into_owned())).into_response()
        }
        None if path == "index.html" => problem(
            Code::NoPages,
            "this binary was built without the pages; build them with `make web`, then build it again",
        ),
        None => problem(Code::NoSuchPath, "there is no such page"),
    }
}
