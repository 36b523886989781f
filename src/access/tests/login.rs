use secrecy::SecretString;

use super::*;

const TEACHER: &str = "GID_teacher@@@001";

fn policy(open: bool) -> LoginPolicy {
    LoginPolicy { deployment: deployment(), open, login_secret: Some(SecretString::from("login-secret")) }
}

fn token(policy: &LoginPolicy, request: &LoginRequest<'_>) -> Result<Token, LoginRefused> {
    let text = policy.login(request, NOW_MS)?;
    Ok(Token::read(&text, &secret("s3cret"), NOW_MS).unwrap())
}

#[test]
fn the_open_form_gives_an_unbound_students_token_for_an_hour() {
    let token = token(&policy(true), &LoginRequest::default()).unwrap();
    let claims = token.claims();
    assert_eq!(claims.resources, ["room/message/+", "room/status", "room/system", "roomSend/#"]);
    assert_eq!(claims.actions, Actions::ReadWrite);
    assert_eq!(claims.expires_at_ms, NOW_MS + HOUR_MS);
    assert_eq!((&claims.client_id, claims.role), (&None, None));
    assert_eq!((claims.access_key.as_str(), claims.instance.as_str()), ("key", "mqtt-1"));
}

#[test]
fn a_closed_form_gives_nothing_without_the_secret() {
    let refused = token(&policy(false), &LoginRequest::default());
    assert_eq!(refused.unwrap_err(), LoginRefused::Closed);
}

/// Hazard 23: the server chooses the rights; a stranger can ask for less, and not for more.
#[test]
fn a_stranger_may_ask_for_one_room_and_never_for_a_name_or_a_teachers_role() {
    let one_room = LoginRequest { room: Some("123456"), role: Some("student"), ..LoginRequest::default() };
    let given = token(&policy(true), &one_room).unwrap();
    assert!(given.claims().resources.contains(&"room/message/123456".to_owned()));
    assert!(!given.claims().resources.contains(&"room/message/+".to_owned()));
    assert_eq!(given.claims().role, Some(Role::Student));

    for request in [
        LoginRequest { role: Some("teacher"), ..LoginRequest::default() },
        LoginRequest { client_id: Some(TEACHER), ..LoginRequest::default() },
    ] {
        assert_eq!(token(&policy(true), &request), Err(LoginRefused::SecretNeeded));
    }
}

#[test]
fn the_login_secret_binds_a_token_to_a_client_and_a_role() {
    let request = LoginRequest {
        client_id: Some(TEACHER),
        role: Some("teacher"),
        shown_secret: Some("login-secret"),
        ..LoginRequest::default()
    };
    for open in [false, true] {
        let given = token(&policy(open), &request).unwrap();
        assert_eq!(given.claims().client_id.as_deref(), Some(TEACHER));
        assert_eq!(given.claims().role, Some(Role::Teacher));
    }
}

#[test]
fn a_wrong_secret_is_refused_also_where_the_form_is_open() {
    for shown in ["", "login-secre", "s3cret"] {
        let request = LoginRequest { shown_secret: Some(shown), ..LoginRequest::default() };
        assert_eq!(token(&policy(true), &request), Err(LoginRefused::WrongSecret), "{shown:?}");
    }
    for configured in [None, Some(SecretString::from(""))] {
        let mut without = policy(false);
        without.login_secret = configured;
        let request = LoginRequest { shown_secret: Some(""), ..LoginRequest::default() };
        assert_eq!(token(&without, &request), Err(LoginRefused::WrongSecret));
    }
}

#[test]
fn nonsense_is_refused_with_its_reason() {
    let ask = |client_id, role, room| {
        let request = LoginRequest { client_id, role, room, shown_secret: Some("login-secret") };
        token(&policy(false), &request).unwrap_err()
    };
    assert!(matches!(ask(Some("#"), None, None), LoginRefused::ClientId(_)));
    assert!(matches!(ask(Some("mqttx"), None, None), LoginRefused::ClientId(_)));
    assert_eq!(ask(None, Some("operator"), None), LoginRefused::Role("operator".to_owned()));
    for room in ["", "*", "+", "#", "a/b", "a||b", "../x"] {
        assert_eq!(ask(None, None, Some(room)), LoginRefused::Room(room.to_owned()));
    }
}

#[test]
fn what_the_form_gives_lets_its_client_in() {
    let authenticator = Authenticator {
        deployment: deployment(),
        teacher_groups: vec!["GID_teacher".to_owned()],
        anonymous_on_loopback: false,
        operators: Vec::new(),
    };
    let text = policy(true).login(&LoginRequest::default(), NOW_MS).unwrap();
    let password = format!("RW|{text}");
    let attempt = ConnectAttempt {
        client_id: "GID_student@@@001",
        username: Some("Token|key|mqtt-1"),
        password: Some(password.as_bytes()),
        remote_is_loopback: false,
        tls: false,
    };
    let grants = authenticator.admit(&attempt, NOW_MS).unwrap();
    assert!(grants.may_read("room/message/7") && grants.may_write("roomSend/message"));
    assert!(!grants.may_read("roomSend/#") && !grants.may_write("room/message/7"));
}
