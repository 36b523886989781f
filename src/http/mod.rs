//! The listeners: one for operators (`/metrics`, `/healthz`, `/readyz`), one for everybody (pages and `/api`), one that
//! gives tokens.
//!
//! Promises: the operators' listener answers from memory, so a broker that hangs does not make it hang; each listener stops
//! within [`STOP_GRACE`].
//! Must never: change anything through the operators' listener, which has no authentication and so listens on the loopback
//! by default; or give a right because a request comes from the loopback.

mod archive_api;
mod bearer;
mod guard;
mod login;
mod pages;
mod past;
mod problem;
mod public;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Json, Response};
use axum::routing::{any, get};
use axum::{Router, middleware};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

pub(crate) use archive_api::ArchiveApiParts;
pub(crate) use login::LoginParts;
pub(crate) use past::{Past, PastParts, RunningLesson};
pub(crate) use public::{PageConfig, PublicParts};

use guard::Names;
use problem::{Code, problem};

use crate::model::WebHost;
use crate::telemetry::{Metrics, Readiness};

/// When the process stops, requests that have begun get so long to end.
const STOP_GRACE: Duration = Duration::from_secs(2);

const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
const INDEX: &str = "<!doctype html><title>roombridge</title><h1>roombridge</h1><ul>\
    <li><a href=\"/metrics\">metrics</a><li><a href=\"/healthz\">healthz</a><li><a href=\"/readyz\">readyz</a></ul>\n";

/// Why a listener cannot start.
#[allow(clippy::missing_docs_in_private_items, reason = "each text says what is wrong")]
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    #[error(
        "cannot listen on {listen}: {source}; choose another address for {key}, or stop what uses this one"
    )]
    Bind { listen: SocketAddr, key: &'static str, source: std::io::Error },
}

#[derive(Clone)]
struct OperatorState {
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
}

/// Takes the port early, so that a port in use is known before anything else starts. `key`: the key that sets it.
pub(crate) async fn bind(listen: SocketAddr, key: &'static str) -> Result<TcpListener, HttpError> {
    TcpListener::bind(listen).await.map_err(|source| HttpError::Bind { listen, key, source })
}

/// Serves the operators until `stop` is ready.
pub(crate) async fn serve(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    serve_router(listener, router(OperatorState { metrics, readiness }), stop).await
}

/// What the public listener serves.
pub(crate) struct WebParts {
    /// Pages and API of the classroom; `None` = there is no classroom.
    pub class: Option<PublicParts>,
    /// The API of the archive; `None` = there is no archive.
    pub archive: Option<ArchiveApiParts>,
}

/// Serves pages and API until `stop` is ready. `hosts`: names under which it may be reached, beside its address.
pub(crate) async fn serve_public(
    listener: TcpListener,
    parts: WebParts,
    hosts: Vec<WebHost>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let router = public_router(parts, Names::new(listener.local_addr()?, &hosts))?;
    serve_router(listener, router, stop).await
}

fn public_router(parts: WebParts, names: Names) -> std::io::Result<Router> {
    let methods = if parts.archive.is_some() { "GET,HEAD,POST,DELETE" } else { "GET,HEAD,POST" };
    let class = parts.class.map(public::router);
    let mut router = class.unwrap_or_else(|| {
        Router::new()
            .fallback(async || problem(Code::NoPages, "there is no classroom here, so there are no pages"))
    });
    if let Some(archive) = parts.archive {
        router = router
            .merge(archive_api::router(archive).map_err(|error| std::io::Error::other(error.to_string()))?);
    }
    let no_such_path = async || problem(Code::NoSuchPath, "there is no such path below /api");
    // The router adds the header Allow to both answers.
    let no_such_method = async |method: Method| match method {
        Method::OPTIONS => StatusCode::NO_CONTENT.into_response(),
        _ => problem(Code::WrongMethod, "this path has another method; the header Allow names it"),
    };
    Ok(router
        .route("/api", any(no_such_path))
        .route("/api/", any(no_such_path))
        .route("/api/{*rest}", any(no_such_path))
        .method_not_allowed_fallback(no_such_method)
        .layer(middleware::from_fn_with_state(methods, of_the_server))
        .layer(middleware::from_fn(problem::in_json))
        .layer(middleware::from_fn_with_state(names.clone(), guard::by_origin))
        .layer(middleware::from_fn_with_state(names, guard::by_name)))
}

/// Answers `OPTIONS *`, which asks about the server and not about a path (RFC 9110, 9.3.7): routers know paths only, and would answer
/// that there is none. `methods`: those that some path has.
async fn of_the_server(State(methods): State<&'static str>, request: Request, next: Next) -> Response {
    if request.method() == Method::OPTIONS && request.uri().path() == "*" {
        return (StatusCode::NO_CONTENT, [(header::ALLOW, methods)]).into_response();
    }
    next.run(request).await
}

/// Serves the login until `stop` is ready. `hosts`: names under which it may be reached, beside its address.
pub(crate) async fn serve_login(
    listener: TcpListener,
    parts: LoginParts,
    hosts: Vec<WebHost>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let router = login::router(parts, listener.local_addr()?, &hosts);
    serve_router(listener, router, stop).await
}

async fn serve_router(
    listener: TcpListener,
    router: Router,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let (stopping, grace_begins) = oneshot::channel();
    let stop = async move {
        stop.await;
        // The send fails only if the server has ended by itself, and then nothing waits for it.
        let _ = stopping.send(());
    };
    let router = router.into_make_service_with_connect_info::<SocketAddr>();
    let server = axum::serve(listener, router).with_graceful_shutdown(stop);
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

fn router(state: OperatorState) -> Router {
    Router::new()
        .route("/", get(async || Html(INDEX)))
        .route("/healthz", get(async || "ok"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(state)
        .layer(middleware::from_fn_with_state("GET,HEAD", of_the_server))
}

async fn readyz(State(state): State<OperatorState>) -> impl IntoResponse {
    let report = state.readiness.report();
    let status = if report.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(report))
}

async fn metrics(State(state): State<OperatorState>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, METRICS_TYPE)], state.metrics.render())
}

#[cfg(test)]
mod tests;
