use secrecy::SecretString;

use super::*;

const STUDENT: &str = "GID_student@@@001";
const TEACHER: &str = "GID_teacher@@@001";

fn authenticator() -> Authenticator {
    Authenticator {
        deployment: deployment(),
        teacher_groups: vec!["GID_teacher".to_owned()],
        anonymous_on_loopback: true,
        operators: vec![Operator {
            username: "bridge".to_owned(),
            password: SecretString::from("bridge-password"),
            client_ids: vec!["roombridge".to_owned()],
        }],
    }
}

/// From elsewhere, over TLS.
fn attempt<'a>(client_id: &'a str, username: &'a str, password: &'a str) -> ConnectAttempt<'a> {
    ConnectAttempt {
        client_id,
        username: Some(username),
        password: Some(password.as_bytes()),
        remote_is_loopback: false,
        tls: true,
    }
}

fn anonymous(client_id: &str) -> ConnectAttempt<'_> {
    ConnectAttempt { client_id, username: None, password: None, remote_is_loopback: true, tls: false }
}

fn admit(client_id: &str, username: &str, password: &str) -> Result<Grants, Refused> {
    authenticator().admit(&attempt(client_id, username, password), NOW_MS)
}

fn with_token(client_id: &str, password: &str) -> Result<Grants, Refused> {
    admit(client_id, "Token|key|mqtt-1", password)
}

fn bound(client_id: &str, role: Option<Role>) -> Claims {
    Claims { client_id: Some(client_id.to_owned()), role, ..claims() }
}

#[test]
fn a_client_with_a_token_gets_its_resources_until_it_expires() {
    let grants = with_token(STUDENT, &format!("RW|{}", issue(claims()))).unwrap();
    assert!(grants.may_read("room/message/7") && grants.may_write("roomSend/message"));
    assert!(!grants.may_read("other"));
    assert_eq!(grants.expires_at_ms(), Some(NOW_MS + HOUR_MS));
    assert_eq!((grants.role(), grants.client_id()), (Role::Student, Some(STUDENT)));
}

#[test]
fn a_pair_of_tokens_gives_reading_by_one_and_writing_by_the_other() {
    let read = issue(Claims {
        resources: vec!["room/status".to_owned()],
        actions: Actions::Read,
        expires_at_ms: NOW_MS + 2 * HOUR_MS,
        ..claims()
    });
    let write =
        issue(Claims { resources: vec!["roomSend/message".to_owned()], actions: Actions::Write, ..claims() });
    for password in [format!("R|{read}|W|{write}"), format!("W|{write}|R|{read}")] {
        let grants = with_token(STUDENT, &password).unwrap();
        assert!(grants.may_read("room/status") && grants.may_write("roomSend/message"));
        assert!(!grants.may_read("room/system") && !grants.may_write("roomSend/command"));
        assert_eq!(grants.expires_at_ms(), Some(NOW_MS + HOUR_MS), "the earlier of the two");
    }
}

#[test]
fn a_token_shown_for_reading_only_gives_reading_only() {
    let grants = with_token(STUDENT, &format!("R|{}", issue(claims()))).unwrap();
    assert!(grants.may_read("room/message/7") && !grants.may_write("roomSend/message"));
}

#[test]
fn one_bad_token_of_two_refuses_the_login_as_a_whole() {
    let good = issue(claims());
    let expired = Token::issue(
        Claims { expires_at_ms: NOW_MS - HOUR_MS, ..claims() },
        &secret("s3cret"),
        NOW_MS - 2 * HOUR_MS,
    )
    .unwrap();
    let foreign = Token::issue(claims(), &secret("other"), NOW_MS).unwrap();
    for (bad, code) in [(expired.as_str(), 2), (foreign.as_str(), 8), ("abcd", 1)] {
        for password in [format!("R|{good}|W|{bad}"), format!("W|{bad}|R|{good}")] {
            let refused = with_token(STUDENT, &password).unwrap_err();
            assert_eq!(refused.code(), code, "{refused}");
        }
    }
}

#[test]
fn a_token_shown_as_more_than_it_permits_is_refused() {
    let read_only = issue(Claims { actions: Actions::Read, ..claims() });
    for kind in ["W", "RW"] {
        let refused = with_token(STUDENT, &format!("{kind}|{read_only}")).unwrap_err();
        assert_eq!(refused.code(), 5, "{refused}");
    }
}

#[test]
fn a_token_of_another_account_is_refused_although_it_is_signed_here() {
    for (change, what) in [
        (Claims { access_key: "other".to_owned(), ..claims() }, "access key"),
        (Claims { instance: "mqtt-2".to_owned(), ..claims() }, "instance"),
    ] {
        let refused = with_token(STUDENT, &format!("RW|{}", issue(change))).unwrap_err();
        assert_eq!((refused.code(), &refused), (4, &Refused::TokenOfOther(what)));
    }
}

#[test]
fn a_username_of_another_account_is_refused() {
    let password = format!("RW|{}", issue(claims()));
    for (username, what) in [("Token|other|mqtt-1", "access key"), ("Token|key|mqtt-2", "instance")] {
        assert_eq!(admit(STUDENT, username, &password), Err(Refused::Account(what)));
    }
    let signature = secret("s3cret").signature_password(STUDENT);
    assert_eq!(admit(STUDENT, "Signature|other|mqtt-1", &signature), Err(Refused::Account("access key")));
}

/// Hazard 27: a token that is bound to the teacher admits nobody else, and the teacher's name alone admits nobody.
#[test]
fn a_bound_token_fits_its_client_only() {
    let teachers = format!("RW|{}", issue(bound(TEACHER, Some(Role::Teacher))));
    assert_eq!(with_token(TEACHER, &teachers).unwrap().role(), Role::Teacher);
    for thief in [STUDENT, "GID_teacher@@@002"] {
        assert_eq!(with_token(thief, &teachers), Err(Refused::TokenOfOtherClient));
    }
    let students = format!("RW|{}", issue(bound(STUDENT, Some(Role::Student))));
    assert_eq!(with_token(TEACHER, &students), Err(Refused::TokenOfOtherClient));
}

#[test]
fn an_unbound_token_takes_its_role_from_the_group_unless_it_says_one() {
    let role = |client_id, claims| with_token(client_id, &format!("RW|{}", issue(claims))).unwrap().role();
    let saying = |role| Claims { role: Some(role), ..claims() };
    assert_eq!(role(STUDENT, claims()), Role::Student);
    assert_eq!(role(TEACHER, claims()), Role::Teacher);
    assert_eq!(role("GID_teacher2@@@001", claims()), Role::Student);
    assert_eq!(role(TEACHER, saying(Role::Student)), Role::Student);
    assert_eq!(role(STUDENT, saying(Role::Teacher)), Role::Teacher);
    assert_eq!(role(TEACHER, bound(TEACHER, None)), Role::Student, "bound without a role");
}

#[test]
fn two_tokens_that_disagree_give_the_lesser_role() {
    let teacher = issue(Claims { role: Some(Role::Teacher), ..claims() });
    let student = issue(Claims { role: Some(Role::Student), ..claims() });
    let grants = with_token(TEACHER, &format!("R|{teacher}|W|{student}")).unwrap();
    assert_eq!(grants.role(), Role::Student);
}

#[test]
fn the_vendors_signature_lets_its_client_in() {
    let password = secret("s3cret").signature_password(STUDENT);
    let grants = admit(STUDENT, "Signature|key|mqtt-1", &password).unwrap();
    assert_eq!(grants, Grants::student(&Parents::default(), client(STUDENT)));

    for (client_id, password) in [
        (TEACHER, password.as_str()),
        (STUDENT, "7ewMt58GxfNgHaf2NH2HPAl3Z58="),
        (STUDENT, "AAAA"),
        (STUDENT, ""),
    ] {
        assert_eq!(admit(client_id, "Signature|key|mqtt-1", password), Err(Refused::Signature));
    }
}

/// Hazard 27: a signature never expires, so whoever overheard one must not be a teacher for ever.
#[test]
fn a_signature_makes_a_teacher_over_tls_only() {
    let password = secret("s3cret").signature_password(TEACHER);
    let mut attempt = attempt(TEACHER, "Signature|key|mqtt-1", &password);
    assert_eq!(authenticator().admit(&attempt, NOW_MS).unwrap().role(), Role::Teacher);
    attempt.tls = false;
    assert_eq!(authenticator().admit(&attempt, NOW_MS).unwrap().role(), Role::Student);
    attempt.remote_is_loopback = true;
    assert_eq!(authenticator().admit(&attempt, NOW_MS).unwrap().role(), Role::Student);
}

#[test]
fn anonymous_clients_come_from_this_machine_or_not_at_all() {
    let grants = authenticator().admit(&anonymous("mqttx_1f"), NOW_MS).unwrap();
    assert_eq!((grants.role(), grants.client_id()), (Role::Student, Some("mqttx_1f")));
    assert_eq!(grants.expires_at_ms(), None);
    assert_eq!(authenticator().admit(&anonymous(TEACHER), NOW_MS).unwrap().role(), Role::Teacher);

    let mut remote = anonymous(STUDENT);
    remote.remote_is_loopback = false;
    assert_eq!(authenticator().admit(&remote, NOW_MS), Err(Refused::Anonymous));

    let mut closed = authenticator();
    closed.anonymous_on_loopback = false;
    assert_eq!(closed.admit(&anonymous(STUDENT), NOW_MS), Err(Refused::Anonymous));
}

/// Hazard 24: no login admits a client id that is more than one topic level.
#[test]
fn an_unsafe_client_id_is_refused_to_everybody() {
    for id in ["#", "+", "a/b", "", "a\0", "GID_student@@@#"] {
        assert!(matches!(authenticator().admit(&anonymous(id), NOW_MS), Err(Refused::ClientId(_))), "{id:?}");
        let token = format!("RW|{}", issue(claims()));
        for (username, password) in [("bridge", "bridge-password"), ("Token|key|mqtt-1", token.as_str())] {
            let refused = admit(id, username, password);
            assert!(matches!(refused, Err(Refused::ClientId(_))), "{id:?}");
        }
    }
    let token = format!("RW|{}", issue(claims()));
    assert!(matches!(with_token("mqttx_1f", &token), Err(Refused::ClientId(ClientIdError::Form(_)))));
}

/// Hazard 27: a username and a password are checked on this machine, too, and never ignored.
#[test]
fn whoever_shows_a_username_or_a_password_is_checked_also_on_loopback() {
    let shows = |username, password: Option<&'static str>| {
        let attempt =
            ConnectAttempt { username, password: password.map(str::as_bytes), ..anonymous(TEACHER) };
        authenticator().admit(&attempt, NOW_MS).unwrap_err()
    };
    assert_eq!(shows(Some("Token|key|mqtt-1"), None), CredentialsError::NoPassword.into());
    assert_eq!(shows(Some(""), Some("")), CredentialsError::Username.into());
    assert_eq!(shows(Some("admin"), Some("x")), CredentialsError::Username.into());
    assert_eq!(shows(None, Some("x")), Refused::PasswordAlone);
    assert_eq!(shows(Some("Token|key|mqtt-1"), Some("RW|abcd")).code(), 1);

    let binary = ConnectAttempt {
        username: Some("Token|key|mqtt-1"),
        password: Some(&[0xff, 0xfe]),
        ..anonymous(TEACHER)
    };
    assert_eq!(authenticator().admit(&binary, NOW_MS), Err(Refused::PasswordNoText));
}

#[test]
fn an_operator_shows_the_whole_password() {
    let grants = admit("roombridge", "bridge", "bridge-password").unwrap();
    assert!(grants.is_operator() && grants.may_read("room/#") && grants.may_write("room/status"));
    assert_eq!(grants.client_id(), Some("roombridge"));
    for wrong in ["", "bridge-passwor", "bridge-password ", "s3cret"] {
        assert_eq!(admit("roombridge", "bridge", wrong), Err(Refused::Operator), "{wrong:?}");
    }
    let no_password = ConnectAttempt { password: None, ..attempt("roombridge", "bridge", "") };
    assert_eq!(authenticator().admit(&no_password, NOW_MS), Err(Refused::Operator));
}

#[test]
fn an_operator_without_a_password_is_nobody() {
    let mut careless = authenticator();
    careless.operators[0].password = SecretString::from("");
    assert_eq!(careless.admit(&attempt("roombridge", "bridge", ""), NOW_MS), Err(Refused::Operator));
}

/// Hazard 27: whoever connected as the bridge would take its session over.
#[test]
fn the_bridges_client_id_is_kept_for_the_bridge() {
    let refused = Err(Refused::Reserved("roombridge".to_owned()));
    assert_eq!(authenticator().admit(&anonymous("roombridge"), NOW_MS), refused);
    assert_eq!(with_token("roombridge", &format!("RW|{}", issue(claims()))), refused);
    let mut two = authenticator();
    two.operators.push(Operator {
        username: "monitor".to_owned(),
        password: SecretString::from("m"),
        client_ids: Vec::new(),
    });
    assert_eq!(two.admit(&attempt("roombridge", "monitor", "m"), NOW_MS), refused);
    assert!(two.admit(&attempt("monitor-1", "monitor", "m"), NOW_MS).is_ok());
}

#[test]
fn a_request_with_a_token_has_the_rights_and_the_role_of_the_token() {
    let bearer = |claims, client_id| authenticator().admit_bearer(&issue(claims), client_id, NOW_MS);

    let nobody = bearer(claims(), None).unwrap();
    assert_eq!((nobody.role(), nobody.client_id()), (Role::Student, None));
    assert!(nobody.may_read("room/message/7") && !nobody.may_read("room/p2p/GID_student@@@001"));

    let teacher = bearer(bound(TEACHER, Some(Role::Teacher)), None).unwrap();
    assert_eq!((teacher.role(), teacher.client_id()), (Role::Teacher, Some(TEACHER)));

    assert_eq!(bearer(claims(), Some(TEACHER)).unwrap().role(), Role::Teacher);
    assert_eq!(bearer(bound(TEACHER, Some(Role::Teacher)), Some(STUDENT)), Err(Refused::TokenOfOtherClient));
    assert!(bearer(claims(), Some("#")).is_err());

    let write_only = Claims { actions: Actions::Write, ..claims() };
    assert!(!bearer(write_only, None).unwrap().may_read("room/message/7"));
    let late = authenticator().admit_bearer(&issue(claims()), None, NOW_MS + HOUR_MS);
    assert_eq!(late.unwrap_err().code(), 2);
}

#[test]
fn no_refusal_repeats_what_was_shown() {
    let token = issue(claims());
    for (username, password) in [
        ("bridge", "wr0ng-secret".to_owned()),
        ("wr0ng-secret", "x".to_owned()),
        ("Token|key|mqtt-1", "wr0ng-secret".to_owned()),
        ("Token|key|mqtt-1", "RW|wr0ng-secret".to_owned()),
        ("Token|key|mqtt-2", format!("RW|{token}")),
        ("Token|key|mqtt-1", format!("RW|{token}A")),
        ("Signature|key|mqtt-1", "wr0ng-secret".to_owned()),
    ] {
        let refused = admit(STUDENT, username, &password).unwrap_err();
        let told = format!("{refused} {refused:?}");
        assert!(
            !told.contains("wr0ng") && !told.contains(&token[..20]) && !told.contains("bridge-password"),
            "{told}"
        );
    }
    let debug = format!("{:?}", authenticator());
    assert!(!debug.contains("bridge-password") && !debug.contains("s3cret"), "{debug}");
}
