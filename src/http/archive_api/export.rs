//! `GET /api/v1/rooms/{room}/export`: all that was said in a room, as lines of schema 1, lossless, copies included.
//!
//! The answer is written while it is read. Who reads slowly slows nobody but the own export, and who does not read at all loses it. If
//! something fails on the way, the connection is cut without the end of the answer, so that half an export does not look like one.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures::stream;
use serde::Deserialize;
use tokio::sync::mpsc;

use super::Api;
use super::asked::{Asked, Times};
use super::error::ApiError;
use super::rights::{Shown, Shows};
use crate::archive::{HistoryError, HistoryQuery, StoredMessages, Whole};
use crate::binding::read_back;
use crate::export::file_stem;
use crate::piece::line_of;

/// Lines are sent together when they have so many bytes.
const CHUNK_BYTES: usize = 64 << 10;
/// So many chunks wait for the reader.
const CHUNKS: usize = 4;
/// A reader who takes nothing for so long is gone.
const STALLED: Duration = Duration::from_secs(60);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExportAsked {
    from: Option<String>,
    to: Option<String>,
    /// Instead of `from` and `to`.
    lesson: Option<String>,
    /// What one client alone was told, too.
    #[serde(default)]
    private: bool,
}

pub(super) async fn export(
    State(api): State<Arc<Api>>,
    Path(room): Path<String>,
    shown: Shown,
    Asked(asked): Asked<ExportAsked>,
) -> Result<Response, ApiError> {
    let caller = api.reader_of(&shown, &room)?;
    let places = api.places_of(&room)?;
    let times = Times::of(asked.from.as_deref(), asked.to.as_deref())?;
    let shows = Shows { private: asked.private, ..api.shows(&caller) };
    if asked.private {
        api.operator(&shown, "an export with private messages")?;
        caller.audit(&format!("an export of room {room:?}, private messages included"));
    }
    let permit = api.exports.enter(caller.key)?;
    let times = api.times_of(&room, asked.lesson.as_deref(), times, false).await?;
    let rules = Some(api.parts.rules.clone());
    let (from_ms, to_ms) = (times.from_ms, times.to_ms);
    let query = HistoryQuery { places, rules, from_ms, to_ms, ..HistoryQuery::default() };
    let (chunks, taken) = mpsc::channel(CHUNKS);
    // Looks first, so that what cannot be read at all is an error with a status.
    let reader = Arc::new(api.reader().await);
    reachable(&reader, query.clone()).await?;
    tokio::spawn(async move {
        let _permit = permit;
        if let Err(cause) = write(&reader, query, &shows, &chunks).await {
            tracing::warn!(%cause, "an export through /api/v1 ended early");
            let _ = chunks.try_send(Err(io::Error::other(cause)));
        }
    });
    let body = stream::unfold(taken, async |mut taken| taken.recv().await.map(|chunk| (chunk, taken)));
    let headers = [
        (header::CONTENT_TYPE, "application/x-ndjson".to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{}.jsonl\"", file_stem(&room))),
    ];
    Ok((headers, Body::from_stream(body)).into_response())
}

async fn reachable(reader: &Whole, query: HistoryQuery) -> Result<(), ApiError> {
    match tokio::time::timeout(super::DEADLINE, StoredMessages::of_query(reader, query)).await {
        // Nothing was stored there yet.
        Ok(Ok(_) | Err(HistoryError::NoTopic { .. })) => Ok(()),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(ApiError::Late),
    }
}

type Chunks = mpsc::Sender<io::Result<Bytes>>;

async fn write(reader: &Whole, query: HistoryQuery, shows: &Shows, chunks: &Chunks) -> Result<(), String> {
    let mut messages = match StoredMessages::of_query(reader, query).await {
        Err(HistoryError::NoTopic { .. }) => return Ok(()),
        messages => messages.map_err(|error| error.to_string())?,
    };
    let mut chunk = Vec::new();
    while let Some((_, message)) = messages.next().await.map_err(|error| error.to_string())? {
        let recorded = read_back(&message);
        if shows.hold(recorded.kind, &recorded.mqtt_topic) {
            chunk.extend(line_of(&message, &recorded).map_err(|error| error.to_string())?);
        }
        if chunk.len() >= CHUNK_BYTES {
            send(chunks, std::mem::take(&mut chunk)).await?;
        }
    }
    match chunk.is_empty() {
        true => Ok(()),
        false => send(chunks, chunk).await,
    }
}

async fn send(chunks: &Chunks, chunk: Vec<u8>) -> Result<(), String> {
    match tokio::time::timeout(STALLED, chunks.send(Ok(chunk.into()))).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err("its reader is gone".to_owned()),
        Err(_) => Err(format!("its reader took nothing for {} s", STALLED.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_export_whose_reader_takes_nothing_ends_at_its_deadline() {
        let begun = tokio::time::Instant::now();
        let (chunks, mut taken) = mpsc::channel(CHUNKS);
        for _ in 0..CHUNKS {
            send(&chunks, vec![0]).await.unwrap();
        }
        let ended = send(&chunks, vec![0]).await.unwrap_err();
        assert_eq!((ended.as_str(), begun.elapsed()), ("its reader took nothing for 60 s", STALLED));
        // One who takes something in time has begun to read again.
        let (sent, _) = tokio::join!(send(&chunks, vec![0]), async {
            tokio::time::sleep(STALLED / 2).await;
            taken.recv().await
        });
        sent.unwrap();
    }
}
