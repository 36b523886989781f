//! Protects the public listeners from requests that a page of another site makes a browser send.
//!
//! Any page on the internet can make a browser send requests to this machine; if its own name resolves to this machine, it
//! can even read the answers. So the name in the request must be one of ours, and a change must come from one of our pages.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::problem::{Code, problem};
use crate::model::WebHost;

/// Allows our own scripts and styles only. Connections are allowed anywhere, because the MQTT broker's WebSocket and the login
/// may be on other hosts.
const CONTENT_SECURITY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    font-src 'self'; connect-src 'self' ws: wss: http: https:; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

/// The names under which a listener may be reached.
#[derive(Debug, Clone)]
pub(crate) struct Names(Arc<[WebHost]>);

impl Names {
    /// The address itself, `localhost` for the loopback, and what the configuration adds (with or without a port).
    pub(crate) fn new(listen: SocketAddr, configured: &[WebHost]) -> Self {
        let mut names = configured.to_vec();
        let port = Some(listen.port());
        names.push(WebHost { host: listen.ip().to_string(), port });
        if listen.ip().is_loopback() {
            names.extend(
                ["localhost", "127.0.0.1", "::1"].map(|host| WebHost { host: host.to_owned(), port }),
            );
        }
        Self(names.into())
    }

    fn hold(&self, host: &str) -> bool {
        WebHost::parse(host).is_some_and(|asked| self.0.iter().any(|name| name.is(&asked)))
    }
}

/// Refuses a request that is for none of our names, and one that does not say for which (RFC 9112, 3.2).
pub(crate) async fn by_name(State(names): State<Names>, request: Request, next: Next) -> Response {
    if request.headers().get_all(header::HOST).iter().count() > 1 {
        return problem(Code::BadRequest, "the request has the header Host more than once");
    }
    // A request through a proxy names the host in its first line, and that one counts.
    let named = request.uri().authority().map(|authority| authority.as_str());
    match named.or_else(|| text(request.headers(), &header::HOST)) {
        Some(host) if names.hold(host) => next.run(request).await,
        Some(_) => problem(Code::UnknownHost, "this server is not known by that name; add it to web.hosts"),
        None => problem(Code::BadRequest, "the request has no header Host, or one that is no text"),
    }
}

/// Refuses changes by a page of another site, and tells browsers what our pages may do.
pub(crate) async fn by_origin(State(names): State<Names>, request: Request, next: Next) -> Response {
    let changes = request.method() != Method::GET && request.method() != Method::HEAD;
    if let Some(origin) = text(request.headers(), &header::ORIGIN).filter(|_| changes) {
        let from = origin.split_once("://").map_or("", |(_, host)| host);
        if !names.hold(from) {
            return problem(Code::ForeignPage, "a page of another site may not change anything here");
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

    fn host(text: &str) -> WebHost {
        WebHost::parse(text).unwrap()
    }

    /// Hazard 28: a page of anybody can reach this machine, and a name of anybody can lead here.
    #[test]
    fn only_our_own_names_are_ours() {
        let names = Names::new("127.0.0.1:8080".parse().unwrap(), &[host("class.example.org")]);
        for ours in [
            "127.0.0.1:8080",
            "localhost:8080",
            "LOCALHOST:8080",
            "localhost.:8080",
            "[::1]:8080",
            "[0:0:0:0:0:0:0:1]:8080",
            "class.example.org",
            "Class.Example.org.",
            "class.example.org:",
            "class.example.org:443",
        ] {
            assert!(names.hold(ours), "{ours}");
        }
        for foreign in [
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example:8080",
            "127.0.0.1:9999",
            "127.0.0.1",
            "localhost:",
            "[::1]",
            "[::1",
            "[localhost]:8080",
            "localhost:8080@evil.example",
            "evil.example@localhost:8080",
            "localhost:+8080",
            "class.example.org:x",
            "",
            ".",
            ":8080",
        ] {
            assert!(!names.hold(foreign), "{foreign}");
        }
    }

    /// Browsers leave out the usual port.
    #[test]
    fn the_usual_port_may_be_left_out_and_another_one_not() {
        let names =
            Names::new("127.0.0.1:80".parse().unwrap(), &[host("a.example:443"), host("b.example:8443")]);
        for ours in ["localhost", "127.0.0.1", "[::1]", "a.example", "a.example:443", "b.example:8443"] {
            assert!(names.hold(ours), "{ours}");
        }
        for foreign in ["a.example:444", "b.example", "localhost:81"] {
            assert!(!names.hold(foreign), "{foreign}");
        }
    }
}
