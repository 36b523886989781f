use super::*;
use clap::Parser;

const NOW_MS: u64 = 1_767_268_800_000;

#[derive(Debug, Parser)]
struct Cli {
    #[command(flatten)]
    arguments: TokenArgs,
}

struct Ran {
    good: bool,
    out: String,
    aside: String,
}

fn run_at(now_ms: u64, arguments: &[&str]) -> anyhow::Result<Ran> {
    let cli = Cli::try_parse_from([&["token"][..], arguments].concat())?;
    assert!(!format!("{cli:?}").contains("s3cret"));
    let (mut out, mut aside) = (Vec::new(), Vec::new());
    let code = match cli.arguments.command {
        Command::Issue(arguments) => issue(arguments, &mut out, &mut aside, now_ms, &TimeZone::UTC),
        Command::Inspect(arguments) => inspect(arguments, &mut out, now_ms, &TimeZone::UTC),
    }?;
    let (out, aside) = (String::from_utf8(out)?, String::from_utf8(aside)?);
    assert!(!out.contains("s3cret") && !aside.contains("s3cret"));
    let good = code == ExitCode::SUCCESS;
    Ok(Ran { good, out, aside })
}

fn ran(arguments: &[&str]) -> Ran {
    run_at(NOW_MS, arguments).unwrap()
}

fn issued(arguments: &[&str]) -> String {
    let ran = ran(&[&["issue", "--secret", "s3cret"][..], arguments].concat());
    ran.out.trim_end().to_owned()
}

fn refusal(arguments: &[&str]) -> String {
    match run_at(NOW_MS, arguments) {
        Ok(ran) => panic!("{}", ran.out),
        Err(error) => format!("{error:#}"),
    }
}

#[test]
fn the_token_alone_goes_to_stdout_and_its_claims_beside_it() {
    let arguments = ["issue", "--secret", "s3cret", "--client-id", "GID_teacher@@@001"];
    let ran = ran(&[&arguments[..], &["--role", "teacher", "--expires", "8h"]].concat());
    let secret = SigningSecret::new(&"s3cret".into()).unwrap();
    let token = Token::read(ran.out.trim_end(), &secret, NOW_MS).unwrap();
    assert_eq!(token.claims().role, Some(Role::Teacher));
    assert_eq!(token.claims().resources, Parents::default().resources(None));
    assert_eq!(token.claims().expires_at_ms, NOW_MS + 8 * 3_600_000);
    for words in ["GID_teacher@@@001", "teacher", "roomSend/#", "in 8 hours"] {
        assert!(ran.aside.contains(words), "{words} is missing in {}", ran.aside);
    }
}

#[test]
fn a_bound_token_without_a_role_is_a_students() {
    let token = issued(&["--client-id", "GID_teacher@@@001"]);
    assert_eq!(Token::inspect(&token).unwrap().claims.role, Some(Role::Student));
    assert_eq!(Token::inspect(&issued(&[])).unwrap().claims.role, None);
}

#[test]
fn more_than_30_days_are_cut_and_the_true_expiry_is_shown() {
    let ran = ran(&["issue", "--secret", "s3cret", "--expires", "60d"]);
    assert!(ran.aside.contains("in 30 days"), "{}", ran.aside);
}

#[test]
fn a_short_group_is_remarked() {
    let arguments = ["issue", "--secret", "s3cret", "--client-id", "GID_a@@@1"];
    assert!(ran(&arguments).aside.contains("7 to 64 characters"));
}

#[test]
fn an_inspected_token_is_genuine_forged_or_unverified() {
    let token = issued(&["--resource", "room/message/7", "--actions", "R"]);
    let password = format!("R|{token}");

    let unverified = ran(&["inspect", &password]);
    assert!(unverified.good && unverified.out.contains("not verified"), "{}", unverified.out);
    assert!(unverified.out.contains("resource    room/message/7"));
    assert!(unverified.out.contains("in 60 minutes"));

    let genuine = ran(&["inspect", &token, "--secret", "s3cret"]);
    assert!(genuine.good && genuine.out.contains("genuine     yes"), "{}", genuine.out);

    let forged = ran(&["inspect", &token, "--secret", "other"]);
    assert!(!forged.good && forged.out.contains("genuine     NO"), "{}", forged.out);

    let later = run_at(NOW_MS + 3_600_000, &["inspect", &token, "--secret", "s3cret"]).unwrap();
    assert!(!later.good && later.out.contains("EXPIRED") && later.out.contains("genuine     yes"));
}

#[test]
fn json_has_the_documented_fields() {
    let issued: serde_json::Value =
        serde_json::from_str(&ran(&["issue", "--secret", "s3cret", "--json"]).out).unwrap();
    assert_eq!(issued["expires_at"], "2026-01-01T13:00:00.000Z");
    let token = issued["token"].as_str().unwrap();
    let inspected = ran(&["inspect", token, "--json", "--secret", "s3cret"]).out;
    let mut inspected: serde_json::Value = serde_json::from_str(&inspected).unwrap();
    assert_eq!(inspected["genuine"], true);
    assert_eq!(inspected["expired"], false);
    inspected["token"] = token.into();
    inspected.as_object_mut().unwrap().remove("genuine");
    assert_eq!(inspected, issued);
}

#[test]
fn the_secret_may_stand_in_a_file() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "s3cret\n").unwrap();
    let path = file.path().to_str().unwrap();
    let token = ran(&["issue", "--secret-file", path, "--secret", "other"]).out;
    assert!(ran(&["inspect", token.trim_end(), "--secret", "s3cret"]).good);
}

#[test]
fn what_cannot_be_done_is_refused_with_a_remedy() {
    let token = issued(&[]);
    for (arguments, words) in [
        (vec!["issue", "--secret", ""], "openssl rand"),
        (vec!["issue", "--secret-file", "/nowhere"], "/nowhere"),
        (vec!["issue", "--secret", "s", "--client-id", "mqttx"], "GID_student@@@001"),
        (vec!["issue", "--secret", "s", "--role", "admin"], "teacher and student"),
        (vec!["issue", "--secret", "s", "--actions", "X"], "R, W or RW"),
        (vec!["issue", "--secret", "s", "--expires", "soon"], "30m, 8h or 7d"),
        (vec!["issue", "--secret", "s", "--expires=-8h"], "30m, 8h or 7d"),
        (vec!["issue", "--secret", "s", "--expires", "59s"], "within a minute"),
        (vec!["issue", "--secret", "s", "--resource", "room/#/x"], "last level"),
        (vec!["inspect", "abcd"], "cannot be read"),
        (vec!["inspect", &token[..40]], "cannot be read"),
    ] {
        let refused = refusal(&arguments);
        assert!(refused.contains(words), "{arguments:?}: {refused}");
    }
}

#[test]
fn without_a_secret_nothing_is_signed() {
    if std::env::var_os("ROOMBRIDGE_ACCESS_SECRET").is_none() {
        assert!(refusal(&["issue"]).contains("--secret-file"));
    }
}
