//! Reads the secret or the token that a request shows in `Authorization: Bearer ...`.

use axum::http::{HeaderMap, header};

/// What a 401 names in `WWW-Authenticate`: the scheme by which a token or a secret is shown (RFC 9110, 15.5.2).
pub(super) const CHALLENGE: &str = "Bearer";

/// `None` if the request shows none, or no text. Schemes are read in any case of letters (RFC 9110, 11.1).
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let shown = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, secret) = shown.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| secret.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_is_read_in_any_case_and_no_other_scheme_is() {
        for (shown, read) in [
            ("Bearer abc", Some("abc")),
            ("bearer abc", Some("abc")),
            ("BEARER   abc ", Some("abc")),
            ("Basic abc", None),
            ("Bearerabc", None),
            ("abc", None),
        ] {
            let headers = HeaderMap::from_iter([(header::AUTHORIZATION, shown.parse().unwrap())]);
            assert_eq!(bearer(&headers), read, "{shown}");
        }
        assert_eq!(bearer(&HeaderMap::new()), None);
    }
}
