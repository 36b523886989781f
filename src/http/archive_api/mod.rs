//! `/api/v1`: what was said, for the teachers of a room and for operators, also long after RocketMQ has forgotten it.
//!
//! Promises: an answer goes only to a caller whose right covers it ([`rights`]); no caller can take more than its share ([`limits`]);
//! an answer that is not whole says so; no answer is kept by a cache.
//! Must never: take a right of the class for a right to the archive, log a secret or a text, or believe a number of a cursor.

mod asked;
mod cursor;
mod error;
mod export;
mod index_read;
mod lessons;
mod limits;
mod messages;
mod openapi;
mod replays;
mod rights;
mod rooms;
mod search;
#[cfg(test)]
mod tests;
mod why;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderValue, Method, header};
use axum::response::Response;
use axum::routing::{MethodRouter, delete, get, post};
use secrecy::SecretString;

use self::cursor::Cursors;
use self::error::ApiError;
use self::limits::Limits;
use self::replays::Sessions;
use crate::access::Authenticator;
use crate::archive::Whole;
use crate::binding::{RoomQuery, RuleSet};
use crate::index::Index;
use crate::model::Clock;
use crate::piece_store::PieceStore;
use crate::pipeline::ports::Reader;

/// What is not read by then is not waited for any longer.
const DEADLINE: Duration = Duration::from_secs(15);

/// The parts of the API.
pub(crate) struct ArchiveApiParts {
    /// Checks tokens; `None` = only the operator's secret counts.
    pub authenticator: Option<Arc<Authenticator>>,
    /// Whoever shows it is the operator; `None` = nobody is.
    pub operator_secret: Option<SecretString>,
    /// First level of the MQTT topics on which rooms are heard; tokens name rooms below it.
    pub parent: String,
    /// First level of the MQTT topics to which clients send what is judged before it is heard; `None` = there is no classroom.
    pub send_parent: Option<String>,
    /// RocketMQ.
    pub rocketmq: Arc<dyn Reader>,
    /// What RocketMQ has forgotten.
    pub store: PieceStore,
    /// The folder of the index.
    pub folder: PathBuf,
    /// A longer silence ends a lesson.
    pub lesson_gap: Duration,
    /// The RocketMQ topics that are archived.
    pub topics: Vec<String>,
    /// Of a body that is a JSON object, these fields were indexed.
    pub text_fields: Vec<String>,
    /// Say where a room's messages are stored.
    pub rules: Arc<RuleSet>,
    /// Wall time, for the expiry of tokens.
    pub clock: Arc<dyn Clock>,
}

/// What all requests share.
struct Api {
    parts: ArchiveApiParts,
    limits: Arc<Limits>,
    exports: Arc<Limits>,
    sessions: Sessions,
    cursors: Cursors,
}

impl Api {
    fn new(parts: ArchiveApiParts) -> Result<Self, getrandom::Error> {
        Ok(Self {
            parts,
            limits: Arc::new(Limits::new(4, 32, "requests")),
            exports: Arc::new(Limits::new(2, 8, "exports")),
            sessions: Sessions::default(),
            cursors: Cursors::new()?,
        })
    }

    /// RocketMQ and the archive as one, for one question; by the index, if there is one.
    async fn reader(&self) -> Whole {
        let folder = self.parts.folder.clone();
        let opened = tokio::task::spawn_blocking(move || Index::open(&folder).ok().flatten()).await;
        // Without it the same is read, only slower.
        let index = opened.ok().flatten().map(Arc::new);
        Whole::new(self.parts.rocketmq.clone(), self.parts.store.clone()).with_index(index)
    }

    /// Where a room's messages lie.
    fn places_of(&self, room: &str) -> Result<Vec<RoomQuery>, ApiError> {
        let mut places =
            self.parts.rules.room_queries(room).map_err(|error| ApiError::Wrong(error.to_string()))?;
        if self.parts.send_parent.is_some() {
            let notices = format!("{}/system", self.parts.parent);
            places.extend(self.parts.rules.topic_query(room, &notices));
        }
        Ok(places)
    }
}

/// Method, path and handler of everything that is served. A test compares it with the OpenAPI document.
fn routes() -> Vec<(Method, &'static str, MethodRouter<Arc<Api>>)> {
    vec![
        (Method::GET, "/api/v1/openapi.json", get(openapi::document)),
        (Method::GET, "/api/v1/rooms", get(rooms::rooms)),
        (Method::GET, "/api/v1/rooms/{room}/messages", get(messages::messages)),
        (Method::GET, "/api/v1/rooms/{room}/lessons", get(lessons::lessons)),
        (Method::GET, "/api/v1/search", get(search::search)),
        (Method::GET, "/api/v1/rooms/{room}/export", get(export::export)),
        (Method::POST, "/api/v1/rooms/{room}/replays", post(replays::create)),
        (Method::GET, "/api/v1/replays/{id}", get(replays::show)),
        (Method::DELETE, "/api/v1/replays/{id}", delete(replays::end)),
        (Method::GET, "/api/v1/replays/{id}/stream", get(replays::stream)),
        (Method::POST, "/api/v1/replays/{id}/control", post(replays::control)),
    ]
}

/// All routes, without a guard.
pub(super) fn router(parts: ArchiveApiParts) -> Result<Router, getrandom::Error> {
    let api = Arc::new(Api::new(parts)?);
    let router =
        routes().into_iter().fold(Router::new(), |router, (_, path, handler)| router.route(path, handler));
    Ok(router.layer(axum::middleware::map_response(never_kept)).with_state(api))
}

async fn never_kept(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
