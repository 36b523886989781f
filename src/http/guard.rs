//! Protects the public listeners from requests that a page of another site makes a browser send.
//!
//! Any page on the internet can make a browser send requests to this machine; if its own name resolves to this machine, it
//! can even read the answers. So the name in the request must be one of ours, and a change must come from one of our pages.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::problem::problem;

/// Allows our own scripts and styles only. Connections are allowed anywhere, because the MQTT broker's WebSocket and the login
/// may be on other hosts.
const CONTENT_SECURITY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    font-src 'self'; connect-src 'self' ws: wss: http: https:; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

/// The names under which a listener may be reached.
#[derive(Debug, Clone)]
pub(crate) struct Names(Arc<[String]>);

impl Names {
    /// The address itself, `localhost` for the loopback, and what the configuration adds (with or without a port).
    pub(crate) fn new(listen: SocketAddr, configured: &[String]) -> Self {
        let mut names: Vec<String> = configured.iter().map(|name| name.to_lowercase()).collect();
        names.push(listen.to_string());
        if listen.ip().is_loopback() {
            let port = listen.port();
            names.extend([format!("localhost:{port}"), format!("127.0.0.1:{port}"), format!("[::1]:{port}")]);
        }
        Self(names.into())
    }

    fn hold(&self, host: &str) -> bool {
        let host = host.to_lowercase();
        let without_port = host.rsplit_once(':').map_or(host.as_str(), |(name, _)| name);
        self.0.iter().any(|name| *name == host || name == without_port)
    }
}

/// Refuses a request whose `Host` is none of our names.
pub(crate) async fn by_name(State(names): State<Names>, request: Request, next: Next) -> Response {
    let host = text(request.headers(), &header::HOST);
    if host.is_some_and(|host| names.hold(host)) {
        next.run(request).await
    } else {
        problem(StatusCode::MISDIRECTED_REQUEST, "this server is not known by that name; add it to web.hosts")
    }
}

/// Refuses changes by a page of another site, and tells browsers what our pages may do.
pub(crate) async fn by_origin(State(names): State<Names>, request: Request, next: Next) -> Response {
    let changes = request.method() != Method::GET && request.method() != Method::HEAD;
    if let Some(origin) = text(request.headers(), &header::ORIGIN).filter(|_| changes) {
        let from = origin.split_once("://").map_or("", |(_, host)| host);
        if !names.hold(from) {
            return problem(StatusCode::FORBIDDEN, "a page of another site may not change anything here");
        }
    }
    let mut response = next.run(request).await.into_response();
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

fn text<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hazard 28: a page of anybody can reach this machine, and a name of anybody can lead here.
    #[test]
    fn only_our_own_names_are_ours() {
        let names = Names::new("127.0.0.1:8080".parse().unwrap(), &["class.example.org".to_owned()]);
        for ours in [
            "127.0.0.1:8080",
            "localhost:8080",
            "LOCALHOST:8080",
            "class.example.org",
            "class.example.org:443",
        ] {
            assert!(names.hold(ours), "{ours}");
        }
        for foreign in
            ["evil.example", "evil.example:8080", "localhost.evil.example:8080", "127.0.0.1:9999", ""]
        {
            assert!(!names.hold(foreign), "{foreign}");
        }
    }
}
