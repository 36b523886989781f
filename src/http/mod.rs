//! The listener for operators: `/metrics`, `/healthz`, `/readyz`.
//!
//! Promises: answers from memory, so a broker that hangs does not make it hang; stops within [`STOP_GRACE`].
//! Must never: change anything; there is no authentication, so by default it listens on the loopback only.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Json};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::telemetry::{Metrics, Readiness};

/// What a client that is in the middle of a request gets when the process stops.
const STOP_GRACE: Duration = Duration::from_secs(2);

const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
const INDEX: &str = "<!doctype html><title>roombridge</title><h1>roombridge</h1><ul>\
    <li><a href=\"/metrics\">metrics</a><li><a href=\"/healthz\">healthz</a><li><a href=\"/readyz\">readyz</a></ul>\n";

/// Why there is no listener.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error(
        "cannot listen on {listen}: {source}; choose another address for http.listen, or stop what uses this one"
    )]
    Bind {
        listen: SocketAddr,
        source: std::io::Error,
    },
}

#[derive(Clone)]
struct Shown {
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
}

/// Takes the port, so that a port in use is known before anything else starts.
pub async fn bind(listen: SocketAddr) -> Result<TcpListener, HttpError> {
    TcpListener::bind(listen)
        .await
        .map_err(|source| HttpError::Bind { listen, source })
}

/// Answers until `stop` is ready.
pub async fn serve(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let (stopping, grace_begins) = oneshot::channel();
    let stop = async move {
        stop.await;
        // Nobody waits for it any more only if the server has ended by itself.
        let _ = stopping.send(());
    };
    let server = axum::serve(listener, router(Shown { metrics, readiness })).with_graceful_shutdown(stop);
    tokio::select! {
        ended = async { server.await } => ended,
        () = grace_is_over(grace_begins) => Ok(()),
    }
}

async fn grace_is_over(grace_begins: oneshot::Receiver<()>) {
    match grace_begins.await {
        Ok(()) => tokio::time::sleep(STOP_GRACE).await,
        Err(_) => std::future::pending().await,
    }
}

fn router(shown: Shown) -> Router {
    Router::new()
        .route("/", get(async || Html(INDEX)))
        .route("/healthz", get(async || "ok"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(shown)
}

async fn readyz(State(shown): State<Shown>) -> impl IntoResponse {
    let report = shown.readiness.report();
    let status = if report.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(report))
}

async fn metrics(State(shown): State<Shown>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, METRICS_TYPE)], shown.metrics.render())
}

#[cfg(test)]
mod tests;
