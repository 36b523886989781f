//! The listener that gives tokens: `GET /login` answers with the text of a token.
//!
//! The vendor's pages ask for it from any site, so pages of every site may read the answer; without the secret it is only a
//! student's token. The request must use one of our names, or any page could ask a bridge in its visitor's network.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Router, middleware};
use serde::Deserialize;

use super::bearer::{CHALLENGE, bearer};
use super::guard::{self, Names};
use super::of_the_server;
use crate::access::{LoginPolicy, LoginRefused, LoginRequest};
use crate::model::{Clock, WebHost};

/// The parts of the login.
pub(crate) struct LoginParts {
    /// Decides who gets which token.
    pub policy: LoginPolicy,
    /// Wall time, for the expiry of tokens.
    pub clock: Arc<dyn Clock>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Arguments {
    client_id: Option<String>,
    role: Option<String>,
    room: Option<String>,
}

pub(super) fn router(parts: LoginParts, listen: SocketAddr, hosts: &[WebHost]) -> Router {
    Router::new()
        .route("/login", get(login).options(preflight))
        .with_state(Arc::new(parts))
        .layer(middleware::from_fn_with_state("GET,HEAD", of_the_server))
        .layer(middleware::from_fn_with_state(Names::new(listen, hosts), guard::by_name))
}

async fn login(
    State(parts): State<Arc<LoginParts>>,
    Query(arguments): Query<Arguments>,
    headers: HeaderMap,
) -> Response {
    let request = LoginRequest {
        client_id: arguments.client_id.as_deref(),
        role: arguments.role.as_deref(),
        room: arguments.room.as_deref(),
        shown_secret: bearer(&headers),
    };
    let (status, text) = match parts.policy.login(&request, parts.clock.wall_ms()) {
        Ok(token) => (StatusCode::OK, token),
        Err(refused) => (status_of(&refused), refused.to_string()),
    };
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
    ];
    let mut response = (status, headers, text).into_response();
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(CHALLENGE));
    }
    response
}

/// Answers the question that a browser asks before a page may send the secret.
async fn preflight() -> Response {
    let headers = [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "authorization"),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}

fn status_of(refused: &LoginRefused) -> StatusCode {
    match refused {
        LoginRefused::Closed | LoginRefused::SecretNeeded => StatusCode::UNAUTHORIZED,
        LoginRefused::WrongSecret => StatusCode::FORBIDDEN,
        LoginRefused::ClientId(_) | LoginRefused::Role(_) | LoginRefused::Room(_) => StatusCode::BAD_REQUEST,
        LoginRefused::Issue(_) | LoginRefused::NoRandomness(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{Deployment, Parents, SigningSecret};
    use crate::model::ManualClock;

    /// RFC 9110, 15.5.2: a 401 says what to show. A wrong secret was shown, so nothing is asked for.
    #[tokio::test]
    async fn who_shows_no_secret_is_told_how_to_show_one() {
        // Given a login that is not open
        let secret = SigningSecret::new(&"access secret".into()).unwrap();
        let deployment = Deployment::new("key", "instance", secret, Parents::default()).unwrap();
        let policy = LoginPolicy {
            deployment: Arc::new(deployment),
            open: false,
            login_secret: Some("login secret".into()),
        };
        let parts = Arc::new(LoginParts { policy, clock: Arc::new(ManualClock::at(0)) });
        let ask = async |headers: HeaderMap| {
            let arguments = Arguments { client_id: None, role: None, room: None };
            login(State(parts.clone()), Query(arguments), headers).await
        };

        // When a token is asked for without a secret, and with a wrong one
        let without = ask(HeaderMap::new()).await;
        let shown = HeaderMap::from_iter([(header::AUTHORIZATION, "Bearer guessed".parse().unwrap())]);
        let wrong = ask(shown).await;

        // Then only the first answer names the scheme
        assert_eq!(without.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(without.headers()[header::WWW_AUTHENTICATE], "Bearer");
        assert_eq!(wrong.status(), StatusCode::FORBIDDEN);
        assert!(!wrong.headers().contains_key(header::WWW_AUTHENTICATE));
    }
}
