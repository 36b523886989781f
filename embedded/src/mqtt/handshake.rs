//! Says why a WebSocket was refused: the crate answers with a bare 403 or 404, and its log names neither origin nor remedy.
//!
//! Promises: one line for each cause, with the other side's own words.
//! When full: causes beyond the first 32 of this run go to the debug log.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

pub(super) const WEBSOCKET_PATH: &str = "/mqtt";
const MAX_CAUSES: usize = 32;
/// A stranger chooses the origin and the path.
const MAX_CHARACTERS: usize = 200;

/// What was told.
#[derive(Default)]
pub(super) struct RefusedHandshakes(Mutex<BTreeSet<String>>);

impl RefusedHandshakes {
    /// `handshake`: the first bytes of the caller. `allowed`: origins; `None` = every page may connect. `error`: what the crate says.
    pub(super) fn tell(&self, handshake: &[u8], allowed: Option<&[String]>, error: &str, remote: SocketAddr) {
        let Some(cause) = cause_of(handshake, allowed) else {
            tracing::debug!(error, %remote, "a WebSocket was not opened");
            return;
        };
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() < MAX_CAUSES && told.insert(cause.clone()) {
            tracing::warn!(%remote, "a WebSocket was refused: {cause}");
        } else {
            tracing::debug!(%remote, "a WebSocket was refused: {cause}");
        }
    }
}

/// `None`: it is neither for its path nor for its origin.
fn cause_of(handshake: &[u8], allowed: Option<&[String]>) -> Option<String> {
    let mut headers = [httparse::EMPTY_HEADER; 124];
    let mut request = httparse::Request::new(&mut headers);
    request.parse(handshake).ok()?;
    let target = request.path?;
    let path = target.split('?').next().unwrap_or(target);
    if path != WEBSOCKET_PATH {
        let asked = shortened(path);
        return Some(format!("it asked for the path {asked:?}; the path is {WEBSOCKET_PATH}"));
    }
    let allowed = allowed?;
    let origin = request.headers.iter().find(|header| header.name.eq_ignore_ascii_case("origin"));
    let Some(origin) = origin else {
        let cause =
            "it named no page (no Origin), and only pages may connect; other programs use MQTT over TCP";
        return Some(cause.to_owned());
    };
    let origin = shortened(&String::from_utf8_lossy(origin.value));
    if allowed.iter().any(|allowed| allowed.eq_ignore_ascii_case(&origin)) {
        return None;
    }
    // People copy it into a shell, and any program can send any Origin.
    let remedy = match is_plain(&origin) {
        true => format!("allow them with --allow-origin {origin}"),
        false => "no browser sends such an Origin".to_owned(),
    };
    Some(format!("pages of {origin:?} may not connect; {remedy}"))
}

fn is_plain(origin: &str) -> bool {
    !origin.is_empty()
        && origin.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":/.-_[]".contains(&byte))
}

fn shortened(text: &str) -> String {
    text.chars().take(MAX_CHARACTERS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cause(first_line: &str, headers: &str, allowed: Option<&[&str]>) -> Option<String> {
        let allowed: Option<Vec<String>> =
            allowed.map(|allowed| allowed.iter().map(|&one| one.to_owned()).collect());
        let handshake = format!("GET {first_line} HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
        cause_of(handshake.as_bytes(), allowed.as_deref())
    }

    #[test]
    fn a_refused_page_is_named_with_what_would_allow_it() {
        let own = Some(&["http://127.0.0.1:8080"][..]);
        let told = |headers| cause("/mqtt", headers, own);
        let refused = told("Origin: https://demo.example\r\n").unwrap();
        assert!(refused.ends_with("--allow-origin https://demo.example"), "{refused}");
        assert!(told("ORIGIN: null\r\n").unwrap().ends_with("--allow-origin null"));
        assert!(told("").unwrap().contains("no Origin"));
        assert_eq!(told("Origin: HTTP://127.0.0.1:8080\r\n"), None, "refused for something else");
        assert_eq!(cause("/mqtt", "Origin: https://demo.example\r\n", None), None);
    }

    #[test]
    fn a_wrong_path_is_named() {
        let told = cause("/?room=1", "", None).unwrap();
        assert_eq!(told, "it asked for the path \"/\"; the path is /mqtt");
    }

    #[test]
    fn a_strangers_text_is_cut_and_cannot_control_a_terminal() {
        let long = format!("Origin: https://{}.example\r\n", "a".repeat(3_000));
        assert!(cause("/mqtt", &long, Some(&[])).unwrap().len() < 600);
        let escape = "Origin: https://\u{9b}2J.example\r\n";
        assert!(!cause("/mqtt", escape, Some(&[])).unwrap().contains('\u{9b}'));
        for origin in ["https://$(id).example", "https://a;id", "https://a b"] {
            let told = cause("/mqtt", &format!("Origin: {origin}\r\n"), Some(&[])).unwrap();
            assert!(!told.contains("--allow-origin"), "{told}");
        }
    }

    #[test]
    fn each_cause_is_told_once_and_only_so_many() {
        let refused = RefusedHandshakes::default();
        let remote = SocketAddr::from(([127, 0, 0, 1], 1));
        for page in (0..100).chain(0..100) {
            let handshake = format!("GET /mqtt HTTP/1.1\r\nOrigin: http://{page}.example\r\n\r\n");
            refused.tell(handshake.as_bytes(), Some(&[]), "403", remote);
        }
        assert_eq!(refused.0.lock().unwrap().len(), MAX_CAUSES);
    }
}
