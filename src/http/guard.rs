//! Protects the public listeners from requests that a page of another site makes a browser send.
//!
//! Any page on the internet can make a browser send requests to this machine; if its own name resolves to this machine, it
//! can even read the answers. So the name in the request must be one of ours, and a change must come from one of our pages.

use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, Version, header};
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
        let mut names: Vec<WebHost> = configured.iter().cloned().map(unmapped).collect();
        let port = Some(listen.port());
        let address = listen.ip().to_canonical();
        names.push(WebHost { host: address.to_string(), port });
        if address.is_loopback() {
            names.extend(
                ["localhost", "127.0.0.1", "::1"].map(|host| WebHost { host: host.to_owned(), port }),
            );
        }
        Self(names.into())
    }

    fn hold(&self, asked: &WebHost) -> bool {
        self.0.iter().any(|name| name.is(asked))
    }
}

/// `None`: the text is no host, with a port or without one.
fn host_of(text: &str) -> Option<WebHost> {
    WebHost::parse(text).map(unmapped)
}

/// An IPv4 address that is written as an IPv6 address (`::ffff:127.0.0.1`) is the IPv4 address.
fn unmapped(host: WebHost) -> WebHost {
    let address = host.host.parse::<Ipv6Addr>().ok().and_then(|address| address.to_ipv4_mapped());
    match address {
        Some(address) => WebHost { host: address.to_string(), port: host.port },
        None => host,
    }
}

/// Why a request is for nobody: the code and the sentence of the answer.
type ForNobody = (Code, &'static str);

const NO_HOST: ForNobody = (Code::BadRequest, "the request has no header Host; name the host that is asked");
const TWO_HOSTS: ForNobody = (Code::BadRequest, "the request has the header Host more than once");
const BAD_HOST: ForNobody = (
    Code::BadHost,
    "what the request names as its host is none; write a name or an address, with a port or without one, such as localhost:8080",
);

/// For which host a request is (RFC 9112, 3.2).
fn asked_host(request: &Request) -> Result<WebHost, ForNobody> {
    let mut lines = request.headers().get_all(header::HOST).iter();
    let line = lines.next();
    if lines.next().is_some() {
        return Err(TWO_HOSTS);
    }
    // It must stand there and be a host, also where the first line counts.
    if line.is_none() && request.version() == Version::HTTP_11 {
        return Err(NO_HOST);
    }
    let parsed = |text: Option<&str>| text.and_then(host_of).ok_or(BAD_HOST);
    let in_header = line.map(|value| parsed(value.to_str().ok())).transpose()?;
    // A request through a proxy names the host in its first line, and that one counts.
    let authority = request.uri().authority();
    let in_first_line = authority.map(|authority| parsed(Some(authority.as_str()))).transpose()?;
    in_first_line.or(in_header).ok_or(NO_HOST)
}

/// Refuses a request that is for none of our names, and one that does not say for which.
pub(crate) async fn by_name(State(names): State<Names>, request: Request, next: Next) -> Response {
    match asked_host(&request) {
        Ok(host) if names.hold(&host) => next.run(request).await,
        Ok(_) => problem(Code::UnknownHost, "this server is not known by that name; add it to web.hosts"),
        Err((code, sentence)) => problem(code, sentence),
    }
}

/// Refuses changes by a page of another site, and tells browsers what our pages may do.
pub(crate) async fn by_origin(State(names): State<Names>, request: Request, next: Next) -> Response {
    let changes = request.method() != Method::GET && request.method() != Method::HEAD;
    if let Some(origin) = text(request.headers(), &header::ORIGIN).filter(|_| changes) {
        let from = origin.split_once("://").and_then(|(_, host)| host_of(host));
        if !from.is_some_and(|from| names.hold(&from)) {
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

    fn hold(names: &Names, text: &str) -> bool {
        host_of(text).is_some_and(|asked| names.hold(&asked))
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
            "[::ffff:127.0.0.1]:8080",
            "[::ffff:7f00:1]:8080",
            "class.example.org",
            "Class.Example.org.",
            "class.example.org:",
            "class.example.org:443",
        ] {
            assert!(hold(&names, ours), "{ours}");
        }
        for foreign in [
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example:8080",
            "127.0.0.1:9999",
            "[::ffff:127.0.0.1]:9999",
            "[::ffff:192.0.2.1]:8080",
            "[::127.0.0.1]:8080",
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
            assert!(!hold(&names, foreign), "{foreign}");
        }
    }

    /// A machine with IPv6 sees clients of IPv4 so, and may be configured so.
    #[test]
    fn an_address_of_ipv4_in_the_form_of_ipv6_is_the_same_address() {
        let names = Names::new("[::ffff:127.0.0.1]:8080".parse().unwrap(), &[host("[::ffff:192.0.2.1]")]);
        for ours in ["127.0.0.1:8080", "localhost:8080", "[::ffff:127.0.0.1]:8080", "192.0.2.1"] {
            assert!(hold(&names, ours), "{ours}");
        }
    }

    /// Browsers leave out the usual port.
    #[test]
    fn the_usual_port_may_be_left_out_and_another_one_not() {
        let names =
            Names::new("127.0.0.1:80".parse().unwrap(), &[host("a.example:443"), host("b.example:8443")]);
        for ours in ["localhost", "127.0.0.1", "[::1]", "a.example", "a.example:443", "b.example:8443"] {
            assert!(hold(&names, ours), "{ours}");
        }
        for foreign in ["a.example:444", "b.example", "localhost:81"] {
            assert!(!hold(&names, foreign), "{foreign}");
        }
    }
}
