//! What must be refused, and what the complaint must say.

use super::{MINIMAL, complaint, load};
use crate::config::keys::KEYS;
use crate::config::{Config, ConfigError};

fn assert_complaint(text: &str, variables: &[(&str, &str)], parts: &[&str]) {
    let complaint = complaint(text, variables);
    for part in parts {
        assert!(complaint.contains(part), "{part:?} is missing in: {complaint}");
    }
}

/// The minimal file with one more line in `[mqtt]`, which is line 3.
fn with_mqtt(line: &str) -> String {
    MINIMAL.replace("[rocketmq]", &format!("{line}\n[rocketmq]"))
}

/// The minimal file with one more line in `[rocketmq]`, which is line 5.
fn with_rocketmq(line: &str) -> String {
    format!("{MINIMAL}{line}\n")
}

#[test]
fn a_typo_is_answered_with_the_nearest_key() {
    assert_complaint(
        &with_mqtt("keepalive_s = 30"),
        &[],
        &["bridge.toml line 3", "mqtt.keepalive_s", "did you mean mqtt.keep_alive_s?"],
    );
    assert_complaint("[rocketmqq]\n", &[], &["line 1", "did you mean rocketmq?"]);
    assert_complaint("url = \"mqtt://broker\"\n", &[], &["line 1", "did you mean mqtt.url?"]);
    assert_complaint(
        "[[binding]]\nfilter = \"a\"\nsender = { json = 1 }\n",
        &[],
        &["binding.sender.json", "line 3"],
    );
    assert_complaint("[zebra]\n", &[], &["unknown key zebra", "config/roombridge.toml"]);
}

#[test]
fn what_would_be_made_or_served_in_vain_is_refused() {
    assert_complaint(
        &format!("data_dir = \"~/bridge\"\n{MINIMAL}"),
        &[],
        &["data_dir", "begins with ~", "whole path"],
    );
    assert_complaint(MINIMAL, &[("ROOMBRIDGE_DATA_DIR", "~")], &["ROOMBRIDGE_DATA_DIR", "begins with ~"]);
    let access = "[access]\naccess_key = \"k\"\ninstance = \"i\"\nsecret = \"s\"\n";
    let served = format!("{MINIMAL}{access}[web]\nlisten = \"127.0.0.1:8080\"\n");
    assert_complaint(&served, &[], &["web.listen", "neither [classroom]", "nor [archive]"]);
}

#[test]
fn a_path_that_begins_with_a_tilde_is_refused_under_each_key() {
    let is_path = |path: &str| path.ends_with("_file") || matches!(path, "data_dir" | "archive.dir");
    let mut looked_at = 0;
    for key in KEYS.iter().filter(|key| is_path(key.path)) {
        let variable = key.variable();
        for path in ["~", "~/x", "~alice/x"] {
            let variables = [("ROOMBRIDGE_MQTT_URL", "mqtts://broker"), (variable.as_str(), path)];
            let problem = format!("= {path:?} begins with ~");
            assert_complaint(
                MINIMAL,
                &variables,
                &[&variable, key.path, problem.as_str(), "write the whole path"],
            );
        }
        looked_at += 1;
    }
    assert_eq!(looked_at, 9);
    let config = load(&format!("data_dir = \"./~x\"\n{MINIMAL}"), &[]).unwrap();
    assert_eq!(config.data_dir.to_str(), Some("./~x"));
}

#[test]
fn a_host_in_other_letters_is_looked_up_by_its_ascii_form() {
    let text = MINIMAL.replace("mqtt://broker", "mqtt://bücher.example");
    let config = load(&text.replace("names:9876", "bücher.example:9876"), &[]).unwrap();
    assert_eq!(config.mqtt.host, "xn--bcher-kva.example");
    assert_eq!(config.rocketmq.name_servers, ["xn--bcher-kva.example:9876"]);
    // Another full stop, full width, and an ü of two characters: a name server's name is read as the one in mqtt.url.
    for (written, ascii) in [
        ("例子。测试", "xn--fsqu00a.xn--0zwm56d"),
        ("Ｎames.example", "names.example"),
        ("bu\u{308}cher.example", "xn--bcher-kva.example"),
    ] {
        let text = MINIMAL.replace("mqtt://broker", &format!("mqtt://{written}"));
        let config = load(&text.replace("names:9876", &format!("{written}:9876")), &[]).unwrap();
        assert_eq!(config.mqtt.host, ascii);
        assert_eq!(config.rocketmq.name_servers, [format!("{ascii}:9876")]);
    }
    let plain = load(&MINIMAL.replace("names:9876", "[::1]:9876"), &[]).unwrap();
    assert_eq!((plain.mqtt.host.as_str(), plain.rocketmq.name_servers[0].as_str()), ("broker", "[::1]:9876"));
}

#[test]
fn a_name_of_the_pages_is_one_that_a_request_can_have() {
    let named = |name: &str| load(&format!("{MINIMAL}[web]\nhosts = [\"{name}\"]\n"), &[]);
    for (name, host, port) in [
        ("Class.Example.org.", "class.example.org", None),
        ("class.example.org:8443", "class.example.org", Some(8443)),
        ("bücher.example", "xn--bcher-kva.example", None),
        ("[2001:DB8:0::1]:8080", "2001:db8::1", Some(8080)),
        ("2001:db8::1", "2001:db8::1", None),
    ] {
        let known = named(name).unwrap().web.hosts.remove(0);
        assert_eq!((known.host.as_str(), known.port), (host, port), "{name}");
    }
    for name in [
        "",
        "https://class.example.org",
        "class.example.org/",
        "*.example.org",
        "a b",
        "a@b",
        "a:port",
        "a:99999",
        "[::1",
    ] {
        let text = format!("{MINIMAL}[web]\nhosts = [\"class.example.org\", \"{name}\"]\n");
        assert_complaint(&text, &[], &["web.hosts", &format!("{name:?}"), "class.example.org:8443"]);
    }
}

#[test]
fn a_quoted_key_does_not_pass_for_a_path() {
    assert_complaint("\"mqtt.url\" = \"mqtt://broker\"\n", &[], &["unknown key mqtt.url"]);
    assert_complaint("[[binding]]\n\"filter[0]\" = \"a\"\n", &[], &["unknown key", "line 2"]);
}

#[test]
fn an_unknown_variable_is_answered_with_the_nearest() {
    let variables = [("ROOMBRIDGE_MQTT_KEEPALIVE_S", "30")];
    assert_complaint(MINIMAL, &variables, &["ROOMBRIDGE_MQTT_KEEPALIVE_S", "ROOMBRIDGE_MQTT_KEEP_ALIVE_S?"]);
    assert_complaint(MINIMAL, &[("ROOMBRIDGE_BINDING_FILTER", "x")], &["unknown environment variable"]);
}

#[test]
fn a_wrong_type_is_answered_with_the_right_one() {
    let cases = [
        (with_mqtt("keep_alive_s = \"30\""), "mqtt.keep_alive_s", "a whole number"),
        (with_mqtt("keep_alive_s = -30"), "mqtt.keep_alive_s", "not negative"),
        (with_mqtt("username = 7"), "mqtt.username", "text in quotes"),
        (with_rocketmq("create_topics = 1"), "rocketmq.create_topics", "true or false"),
        ("[rocketmq]\nname_servers = \"one:9876\"\n".to_owned(), "rocketmq.name_servers", "a list"),
        ("[binding]\nfilter = \"a\"\n".to_owned(), "binding", "[[binding]]"),
        ("binding = [1]\n".to_owned(), "binding", "[[binding]]"),
        ("mqtt = 1\n".to_owned(), "mqtt", "a table"),
    ];
    for (text, key, expected) in cases {
        assert_complaint(&text, &[], &["bridge.toml line", key, expected]);
    }
    let variables = [("ROOMBRIDGE_MQTT_KEEP_ALIVE_S", "30s")];
    assert_complaint(MINIMAL, &variables, &["variable ROOMBRIDGE_MQTT_KEEP_ALIVE_S", "mqtt.keep_alive_s"]);
}

#[test]
fn broken_toml_is_shown_with_its_line() {
    assert_complaint("[mqtt]\nurl = \n", &[], &["bridge.toml line 2", "not TOML"]);
    assert_complaint("data_dir = \"a\"\ndata_dir = \"b\"\n", &[], &["bridge.toml line 2", "duplicate"]);
    assert_complaint(&with_mqtt("keep_alive_s = 99999999999999999999"), &[], &["bridge.toml line 3"]);
}

#[test]
fn what_is_required_is_named() {
    assert_complaint("", &[], &["bridge.toml", "mqtt.url is missing", "mqtt://host:1883"]);
    assert_complaint(
        "[mqtt]\nurl = \"mqtt://broker\"\n",
        &[],
        &["rocketmq.name_servers is missing", "host:9876"],
    );
    let text = with_rocketmq("[[binding]]\ntopic = \"t\"");
    assert_complaint(&text, &[], &["bridge.toml line 5", "binding.filter is missing"]);
}

#[test]
fn numbers_have_ranges() {
    assert_complaint(
        &with_mqtt("keep_alive_s = 4"),
        &[],
        &["line 3", "mqtt.keep_alive_s = 4", "from 5 to 65535"],
    );
    assert_complaint(
        &with_mqtt("receive_maximum = 65536"),
        &[],
        &["mqtt.receive_maximum", "from 1 to 65535"],
    );
    assert_complaint(
        MINIMAL,
        &[("ROOMBRIDGE_PIPELINE_BATCH_MESSAGES", "0")],
        &["environment variable ROOMBRIDGE_PIPELINE_BATCH_MESSAGES", "from 1 to 1024"],
    );
}

#[test]
fn a_url_is_mqtt_or_mqtts_with_host_and_port_only() {
    for (url, problem) in [
        ("broker", "is no URL"),
        ("http://broker", "has the scheme \"http\""),
        ("mqtt://broker:1883/path", "behind host and port"),
        ("mqtt://broker:0", "port 0"),
        ("mqtt://broker:70000", "is no URL"),
        ("mqtt://", "no host"),
        ("mqtt://user@broker", "mqtt.username"),
    ] {
        assert_complaint(MINIMAL, &[("ROOMBRIDGE_MQTT_URL", url)], &["mqtt.url", problem]);
    }
}

#[test]
fn keys_that_contradict_each_other_are_refused() {
    let cases = [
        (with_mqtt("ca_file = \"ca.pem\""), "mqtt.ca_file", "mqtts://"),
        (with_mqtt("password = \"x\""), "mqtt.username", "is missing"),
        (
            with_mqtt("username = \"u\"\npassword = \"x\"\npassword_file = \"y\""),
            "mqtt.password",
            "remove one",
        ),
        (with_rocketmq("access_key = \"a\""), "rocketmq.secret_key", "belong together"),
        (with_rocketmq("secret_key = \"s\""), "rocketmq.access_key", "belong together"),
        (with_rocketmq("[archive]\nstore = \"s3://b\""), "archive.dir", "local folder"),
        (with_rocketmq("[archive]\nstore = \"b\""), "archive.store", "s3://BUCKET"),
        (with_rocketmq("[archive]\nregion = \"x\""), "archive.region", "without archive.store"),
        (with_rocketmq("[archive]\naccess_key = \"x\""), "archive.secret_key", "belong together"),
        (with_rocketmq("[archive]\nendpoint = \"s3.example.org\""), "archive.endpoint", "https://HOST"),
        (
            with_rocketmq("max_message_bytes = 2048\n[pipeline]\nbatch_bytes = 4096"),
            "pipeline.batch_bytes",
            "lower",
        ),
        (with_rocketmq("[pipeline]\nintake_messages = 999"), "mqtt.receive_maximum", "raise"),
        (with_rocketmq("[pipeline]\nintake_bytes = 4096"), "mqtt.max_packet_bytes", "raise"),
        (
            with_rocketmq("[[binding]]\nfilter = \"a/#\"\n[[binding]]\nfilter = \"a/#\""),
            "binding.filter",
            "(first at bridge.toml line 6)",
        ),
        (
            with_rocketmq("[[binding]]\nfilter = \"a\"\nsender = { topic_level = 1, json_field = \"x\" }"),
            "binding.sender",
            "exactly one",
        ),
    ];
    for (text, key, remedy) in cases {
        assert_complaint(&text, &[], &["bridge.toml line", key, remedy]);
    }
}

/// What was said in years is shown to nobody without a proof.
#[test]
fn the_archive_is_served_only_where_somebody_can_be_let_in() {
    let archive = with_rocketmq("[web]\nlisten = \"127.0.0.1:8080\"\n[archive]\ndir = \"archive\"\n");
    assert_complaint(
        &archive,
        &[],
        &["bridge.toml line", "web.listen", "[access] or login.secret", "set access."],
    );
    let by_secret = load(&archive, &[("ROOMBRIDGE_LOGIN_SECRET", "s3cret")]).unwrap();
    assert!(by_secret.web.listen.is_some() && by_secret.access.is_none() && by_secret.classroom.is_none());
    let of_access = [("ACCESS_KEY", "k"), ("INSTANCE", "i"), ("SECRET", "s")];
    let of_access = of_access.map(|(name, value)| (format!("ROOMBRIDGE_ACCESS_{name}"), value));
    let of_access: Vec<_> = of_access.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    assert!(load(&archive, &of_access).unwrap().web.listen.is_some());
    // A classroom needs tokens, with an archive, too.
    let class = CLASS.replace("[classroom]\n", "[classroom]\nsend_topic = \"up\"\nheard_topic = \"down\"\n");
    let class = class
        + "[login]\nsecret = \"s3cret\"\n[web]\nlisten = \"127.0.0.1:8080\"\n[archive]\ndir = \"archive\"\n";
    assert_complaint(&class, &[], &["web.listen", "needs [access]:"]);
}

#[test]
fn a_smaller_message_limit_alone_is_no_contradiction() {
    let config = super::load(&with_rocketmq("max_message_bytes = 2048"), &[]).unwrap();
    assert_eq!(config.pipeline.batch_bytes, 2048);
}

#[test]
fn names_and_addresses_are_checked() {
    for (variable, value, key) in [
        ("ROOMBRIDGE_MQTT_CLIENT_ID", "a\nb", "mqtt.client_id"),
        ("ROOMBRIDGE_ROCKETMQ_NAME_SERVERS", "one", "rocketmq.name_servers"),
        ("ROOMBRIDGE_ROCKETMQ_NAME_SERVERS", "one:9876;two:9876", "rocketmq.name_servers"),
        ("ROOMBRIDGE_ROCKETMQ_NAME_SERVERS", ",", "rocketmq.name_servers"),
        ("ROOMBRIDGE_ROCKETMQ_NAME_SERVERS", "http://one:9876", "rocketmq.name_servers"),
        ("ROOMBRIDGE_ROCKETMQ_NAME_SERVERS", "b%C3%BCcher:9876", "rocketmq.name_servers"),
        ("ROOMBRIDGE_ROCKETMQ_NAME_SERVERS", "bü/cher:9876", "rocketmq.name_servers"),
        ("ROOMBRIDGE_ROCKETMQ_NAME_SERVERS", "one:0", "rocketmq.name_servers"),
        ("ROOMBRIDGE_ROCKETMQ_PRODUCER_GROUP", "a b", "rocketmq.producer_group"),
        ("ROOMBRIDGE_HTTP_LISTEN", "localhost", "http.listen"),
        ("ROOMBRIDGE_LOG_LEVEL", "info,=x=y", "log.level"),
        ("ROOMBRIDGE_LOG_FORMAT", "xml", "log.format"),
    ] {
        assert_complaint(MINIMAL, &[(variable, value)], &[&format!("environment variable {variable}"), key]);
    }
    assert_complaint(&with_mqtt("client_id = \"\""), &[], &["mqtt.client_id", "is empty"]);
}

#[test]
fn a_file_that_cannot_be_read_is_named_with_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("absent");
    let text = with_mqtt(&format!("username = \"u\"\npassword_file = {path:?}"));
    assert_complaint(&text, &[], &["line 4", "mqtt.password_file", path.to_str().unwrap(), "permissions"]);
    let text = with_mqtt(&format!("ca_file = {path:?}")).replace("mqtt://", "mqtts://");
    assert_complaint(&text, &[], &["line 3", "mqtt.ca_file", path.to_str().unwrap()]);

    let error = Config::load(&path, &std::collections::BTreeMap::new()).unwrap_err();
    assert!(matches!(error, ConfigError::Unreadable { .. }));
    assert!(error.to_string().contains("--config"), "{error}");

    let empty = folder.path().join("empty");
    std::fs::write(&empty, "\n").unwrap();
    let variables = [("ROOMBRIDGE_ORIGIN_KEY_FILE", empty.to_str().unwrap())];
    assert_complaint(MINIMAL, &variables, &["origin.key_file", "empty secret"]);
}

const CLASS: &str = "[mqtt]\nurl = \"mqtt://broker\"\n[rocketmq]\nname_servers = [\"r:9876\"]\n\
     [[binding]]\nfilter = \"up/#\"\nsender = { user_property = \"client\" }\n[[downlink]]\ntopic = \"down\"\n[classroom]\n";

#[test]
fn the_older_names_of_the_classrooms_topics_are_read_like_the_new_ones() {
    let variable = |name: &str, value: &str| (format!("ROOMBRIDGE_CLASSROOM_{name}"), value.to_owned());
    for (send, heard) in [("send_topic", "heard_topic"), ("send", "room"), ("send", "heard_topic")] {
        let in_file = load(&format!("{CLASS}{send} = \"up\"\n{heard} = \"down\"\n"), &[]);
        let variables = [variable(&send.to_uppercase(), "up"), variable(&heard.to_uppercase(), "down")];
        let variables: Vec<_> =
            variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let in_variables = load(CLASS, &variables);
        for config in [in_file, in_variables] {
            let classroom = config.unwrap().classroom.unwrap();
            assert_eq!((classroom.send_topic.as_str(), classroom.heard_topic.as_str()), ("up", "down"));
        }
    }
}

#[test]
fn a_key_under_both_of_its_names_is_refused() {
    let both = format!("{CLASS}send = \"up\"\nsend_topic = \"up\"\n");
    assert_complaint(
        &both,
        &[],
        &["classroom.send", "line 11", "older name of classroom.send_topic", "remove"],
    );
    let by_variable = format!("{CLASS}send_topic = \"up\"\nheard_topic = \"down\"\n");
    assert_complaint(
        &by_variable,
        &[("ROOMBRIDGE_CLASSROOM_ROOM", "down")],
        &["environment variable ROOMBRIDGE_CLASSROOM_ROOM", "older name of classroom.heard_topic"],
    );
}
