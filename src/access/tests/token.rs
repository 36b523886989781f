use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;

use super::*;

fn read(text: &str) -> Result<Token, TokenError> {
    Token::read(text, &secret("s3cret"), NOW_MS)
}

fn unreadable(result: Result<Token, TokenError>) -> bool {
    matches!(result, Err(TokenError::Unreadable(_)))
}

#[test]
fn a_token_gives_back_what_it_was_issued_for() {
    let claims =
        Claims { client_id: Some("GID_teacher@@@001".to_owned()), role: Some(Role::Teacher), ..claims() };
    let token = read(&issue(claims.clone())).unwrap();
    assert_eq!(token.claims(), &claims);
}

#[test]
fn a_token_can_stand_in_a_password_a_url_and_a_header() {
    let claims = Claims { resources: vec!["学/a|b,c d\"?&=%/#".to_owned()], ..claims() };
    let text = issue(claims);
    let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    assert!(text.starts_with("rb1.") && text.chars().all(safe), "{text}");
}

#[test]
fn the_written_form_never_changes() {
    // Computed with Python's json, base64 and hmac modules.
    let json = concat!(
        r#"{"accessKey":"key","instance":"mqtt-1","resources":["room/status"],"actions":"RW","#,
        r#""expiresAtMs":1767272400000,"clientId":"GID_teacher@@@001","role":"teacher","nonce":"n"}"#
    );
    let text = concat!(
        "rb1.eyJhY2Nlc3NLZXkiOiJrZXkiLCJpbnN0YW5jZSI6Im1xdHQtMSIsInJlc291cmNlcyI6WyJyb29tL3N0YXR1cy",
        "JdLCJhY3Rpb25zIjoiUlciLCJleHBpcmVzQXRNcyI6MTc2NzI3MjQwMDAwMCwiY2xpZW50SWQiOiJHSURfdGVhY2hl",
        "ckBAQDAwMSIsInJvbGUiOiJ0ZWFjaGVyIiwibm9uY2UiOiJuIn0.m5TDb1UkgZ1AT1O7p5hUvlUhFKXCwtN_pp7Fii",
        "WC1m8"
    );
    let token = read(text).unwrap();
    assert_eq!(serde_json::to_string(token.claims()).unwrap(), json);
    assert_eq!(issue(token.claims().clone()), text);
}

#[test]
fn resources_are_sorted_and_stand_once() {
    let claims = Claims { resources: ["b/#", "a/+", "b/#"].map(str::to_owned).to_vec(), ..claims() };
    assert_eq!(read(&issue(claims)).unwrap().claims().resources, ["a/+", "b/#"]);
}

#[test]
fn a_token_ends_at_its_moment() {
    let text = issue(claims());
    let at = |now_ms| Token::read(&text, &secret("s3cret"), now_ms);
    assert!(at(NOW_MS + HOUR_MS - 1).is_ok());
    let refused = at(NOW_MS + HOUR_MS).unwrap_err();
    assert!(matches!(refused, TokenError::Expired { .. }));
    assert_eq!(refused.code(), 2);
    assert!(Token::is_genuine(&text, &secret("s3cret")), "an expired token is genuine still");
}

#[test]
fn validity_is_at_least_a_minute_and_cut_at_30_days() {
    let issue_for = |ms| {
        let claims = Claims { expires_at_ms: NOW_MS + ms, ..claims() };
        Token::issue(claims, &secret("s3cret"), NOW_MS)
    };
    assert_eq!(issue_for(59_999), Err(IssueError::TooShort));
    assert!(issue_for(60_000).is_ok());
    let days = 24 * HOUR_MS;
    let expires = |ms| read(&issue_for(ms).unwrap()).unwrap().claims().expires_at_ms - NOW_MS;
    assert_eq!(expires(30 * days), 30 * days);
    assert_eq!(expires(31 * days), 30 * days);
    assert_eq!(expires(u64::MAX - NOW_MS), 30 * days);
}

#[test]
fn claims_that_make_no_token_are_refused_with_their_reason() {
    let refused = |change: fn(&mut Claims)| {
        let mut claims = claims();
        change(&mut claims);
        match Token::issue(claims, &secret("s3cret"), NOW_MS) {
            Err(IssueError::Claims(error)) => error,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refused(|c| c.resources.clear()), ClaimsError::NoResource);
    assert_eq!(
        refused(|c| c.resources = (0..101).map(|n| format!("room/{n}")).collect()),
        ClaimsError::TooManyResources(101)
    );
    assert!(matches!(refused(|c| c.resources = vec!["room/#/x".to_owned()]), ClaimsError::Resource { .. }));
    assert!(matches!(
        refused(|c| c.resources = vec!["$share/g/room/#".to_owned()]),
        ClaimsError::Resource { .. }
    ));
    assert!(matches!(refused(|c| c.resources = vec!["x".repeat(129)]), ClaimsError::LongResource(_)));
    assert_eq!(refused(|c| c.access_key = "a|b".to_owned()), ClaimsError::Name("access key"));
    assert_eq!(refused(|c| c.instance.clear()), ClaimsError::Name("instance"));
    assert!(matches!(refused(|c| c.client_id = Some("#".to_owned())), ClaimsError::ClientId(_)));
}

#[test]
fn the_most_that_a_token_may_list_can_be_issued_and_read() {
    let claims =
        Claims { resources: (0..100).map(|n| format!("{n:03}{}", "\"".repeat(125))).collect(), ..claims() };
    assert_eq!(read(&issue(claims)).unwrap().claims().resources.len(), 100);
}

#[test]
fn a_token_of_another_deployments_secret_has_a_bad_signature() {
    let foreign = Token::issue(claims(), &secret("other"), NOW_MS).unwrap();
    let refused = read(&foreign).unwrap_err();
    assert_eq!((refused.clone(), refused.code()), (TokenError::BadSignature, 8));
}

#[test]
fn claims_of_one_token_under_the_signature_of_another_are_refused() {
    let student = issue(claims());
    let teacher = issue(Claims { role: Some(Role::Teacher), ..claims() });
    let (teacher_claims, _) = teacher.rsplit_once('.').unwrap();
    let (_, student_mac) = student.rsplit_once('.').unwrap();
    assert_eq!(read(&format!("{teacher_claims}.{student_mac}")), Err(TokenError::BadSignature));
}

#[test]
fn claims_that_were_rewritten_are_refused() {
    let text = issue(claims());
    let parts: Vec<_> = text.split('.').collect();
    let json = String::from_utf8(URL_SAFE_NO_PAD.decode(parts[1]).unwrap()).unwrap();
    for (from, to) in [
        ("roomSend/#", "room/#"),
        ("1767272400000", "1867272400000"),
        ("\"RW\"", "\"R\""),
        ("mqtt-1", "mqtt-2"),
    ] {
        assert!(json.contains(from));
        let forged = URL_SAFE_NO_PAD.encode(json.replace(from, to));
        assert_eq!(read(&format!("rb1.{forged}.{}", parts[2])), Err(TokenError::BadSignature));
    }
}

#[test]
fn a_truncated_token_is_refused_wherever_it_is_cut() {
    let text = issue(claims());
    for end in 0..text.len() {
        let refused = read(&text[..end]).unwrap_err();
        assert!([1, 8].contains(&refused.code()), "{end}: {refused}");
    }
}

#[test]
fn what_is_no_token_is_unreadable() {
    let text = issue(claims());
    let parts: Vec<_> = text.split('.').collect();
    for text in [
        String::new(),
        "abcd".to_owned(),
        "rb1".to_owned(),
        "rb1.".to_owned(),
        format!("rb2.{}.{}", parts[1], parts[2]),
        format!("{}.{}", parts[1], parts[2]),
        format!("rb1.{}.{}=", parts[1], parts[2]),
        format!("rb1.{}. {}", parts[1], parts[2]),
        format!("rb1.{}.{}", "A".repeat(50_000), parts[2]),
    ] {
        assert!(unreadable(read(&text)), "{:.80}", text);
    }
}

/// A restriction of a later version must not be ignored.
#[test]
fn a_claim_that_is_not_known_makes_a_genuine_token_unreadable() {
    let json = serde_json::to_string(&claims()).unwrap();
    let sign = |json: String| {
        let signed = format!("rb1.{}", URL_SAFE_NO_PAD.encode(json));
        let mac = URL_SAFE_NO_PAD.encode(secret("s3cret").sign_token(&signed));
        format!("{signed}.{mac}")
    };
    assert!(read(&sign(json.clone())).is_ok());
    assert!(unreadable(read(&sign(json.replacen('{', "{\"notBefore\":1,", 1)))));
    assert!(unreadable(read(&sign(json.replace("mqtt-1", "")))));
}

#[test]
fn an_inspected_token_shows_its_claims_without_the_secret() {
    let foreign = Token::issue(claims(), &secret("other"), NOW_MS).unwrap();
    assert_eq!(Token::inspect(&foreign).unwrap().claims.resources, Parents::default().resources(None));
    assert!(!Token::is_genuine(&foreign, &secret("s3cret")));
    assert_eq!(Token::inspect("rb1.e30.AA").unwrap_err().code(), 1);
}

#[test]
fn two_tokens_for_the_same_have_different_nonces() {
    assert_ne!(claims().nonce, claims().nonce);
}

#[test]
fn actions_are_written_as_in_a_password_or_as_the_vendor_does() {
    for (text, actions) in
        [("R", Actions::Read), ("W", Actions::Write), ("RW", Actions::ReadWrite), ("R,W", Actions::ReadWrite)]
    {
        assert_eq!(text.parse(), Ok(actions));
    }
    assert!("WR".parse::<Actions>().is_err());
    assert!(Actions::ReadWrite.include(Actions::Read) && !Actions::Read.include(Actions::Write));
    assert!(!Actions::Write.include(Actions::ReadWrite) && Actions::Write.include(Actions::Write));
}

proptest! {
    #[test]
    fn one_changed_character_makes_a_token_invalid(index: prop::sample::Index, to in "[A-Za-z0-9._-]") {
        let mut text = issue(claims());
        let at = index.index(text.len());
        prop_assume!(text[at..=at] != to);
        text.replace_range(at..=at, &to);
        prop_assert!(read(&text).is_err());
    }

    #[test]
    fn no_text_panics(text in "(rb1)?[A-Za-z0-9._|-]{0,80}", any in ".{0,80}") {
        prop_assert!(read(&text).is_err());
        prop_assert!(read(&any).is_err());
        let _ = Token::inspect(&text);
    }
}
