//! Stories of configurations, good and bad.

mod contradictions;
mod key_table;
mod shipped_file;
mod spool;

use std::collections::BTreeMap;
use std::time::Duration;

use secrecy::ExposeSecret;

use super::{Config, ConfigError, LogFormat, SenderSource, ignored_variables};

const MINIMAL: &str = "[mqtt]\nurl = \"mqtt://broker\"\n[rocketmq]\nname_servers = [\"names:9876\"]\n";

fn load(text: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let environment: BTreeMap<String, String> =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Config::from_toml("bridge.toml", text, &environment)
}

fn complaint(text: &str, variables: &[(&str, &str)]) -> String {
    load(text, variables).expect_err("this configuration must be refused").to_string()
}

#[test]
fn a_minimal_file_gets_every_default() {
    let config = load(MINIMAL, &[]).unwrap();

    assert_eq!((config.mqtt.host.as_str(), config.mqtt.port), ("broker", 1883));
    assert_eq!(config.mqtt.tls, None);
    assert_eq!(config.mqtt.client_id, "roombridge");
    assert_eq!(config.mqtt.receive_maximum, 1000);
    assert_eq!(config.mqtt.max_packet_bytes, 16 << 20);
    assert_eq!(config.rocketmq.send_timeout, Duration::from_secs(3));
    assert!(!config.rocketmq.create_topics && !config.rocketmq.accept_not_durable);
    assert_eq!(config.pipeline.batch_messages, 128);
    assert_eq!(config.http.listen.to_string(), "127.0.0.1:9464");
    assert_eq!((config.log.level.as_str(), config.log.format), ("info", LogFormat::Text));
    assert_eq!(config.data_dir.to_str(), Some("./roombridge-data"));
    assert!(config.origin.key.is_none());
    let [binding] = config.bindings.as_slice() else {
        panic!("one default binding, not {:?}", config.bindings)
    };
    assert_eq!(
        (binding.filter.as_str(), binding.topic.as_str(), binding.tag.as_str()),
        ("room/#", "{0}", "{sub}")
    );
    assert_eq!(
        (&binding.room, &binding.kind, &binding.order_key, &binding.sender),
        (&None, &None, &None, &None)
    );
}

#[test]
fn bindings_keep_their_order_and_their_sender() {
    let text = format!(
        "{MINIMAL}[[binding]]\nfilter = \"a/#\"\nsender = {{ topic_level = 3 }}\n[[binding]]\nfilter = \"b/#\"\n\
         topic = \"chat\"\nsender = {{ user_property = \"client\" }}\n[[binding]]\nfilter = \"c/#\"\n\
         sender = {{ json_field = \"peer\" }}\n"
    );
    let bindings = load(&text, &[]).unwrap().bindings;
    let seen: Vec<_> =
        bindings.iter().map(|b| (b.filter.as_str(), b.topic.as_str(), b.sender.clone())).collect();
    let expected = [
        ("a/#", "{0}", Some(SenderSource::TopicLevel(3))),
        ("b/#", "chat", Some(SenderSource::UserProperty("client".to_owned()))),
        ("c/#", "{0}", Some(SenderSource::JsonField("peer".to_owned()))),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn variables_alone_are_a_configuration() {
    let variables = [
        ("ROOMBRIDGE_MQTT_URL", "mqtts://[::1]"),
        ("ROOMBRIDGE_ROCKETMQ_NAME_SERVERS", "one:9876, [::1]:9877"),
        ("ROOMBRIDGE_ROCKETMQ_CREATE_TOPICS", "true"),
        ("ROOMBRIDGE_DATA_DIR", "/var/lib/roombridge"),
        ("PATH", "/bin"),
    ];
    let config = load("", &variables).unwrap();
    assert_eq!((config.mqtt.host.as_str(), config.mqtt.port), ("::1", 8883));
    assert!(config.mqtt.tls.is_some() && config.rocketmq.create_topics);
    assert_eq!(config.rocketmq.name_servers, ["one:9876", "[::1]:9877"]);
    assert_eq!(config.data_dir.to_str(), Some("/var/lib/roombridge"));
}

#[test]
fn a_variable_wins_over_the_file_and_an_empty_one_does_not() {
    let text = MINIMAL.replace("[rocketmq]", "keep_alive_s = 60\nclient_id = \"file\"\n[rocketmq]");
    let variables = [("ROOMBRIDGE_MQTT_KEEP_ALIVE_S", "90"), ("ROOMBRIDGE_MQTT_CLIENT_ID", "")];
    let config = load(&text, &variables).unwrap();
    assert_eq!(config.mqtt.keep_alive, Duration::from_secs(90));
    assert_eq!(config.mqtt.client_id, "file");
}

#[test]
fn variables_that_others_read_or_set_are_left_alone_and_typing_errors_are_not() {
    load(MINIMAL, &[("ROOMBRIDGE_CONFIG", "x.toml"), ("ROOMBRIDGE_LOG", "debug")]).unwrap();
    load(MINIMAL, &[("ROOMBRIDGE_MQTT_ULR", "")]).unwrap();
    let of_kubernetes =
        [("ROOMBRIDGE_PORT", "tcp://10.96.0.7:9464"), ("ROOMBRIDGE_SERVICE_HOST", "10.96.0.7")];
    load(MINIMAL, &of_kubernetes).unwrap();
    let variables =
        of_kubernetes.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter().collect();
    let variables: BTreeMap<String, String> = variables;
    assert_eq!(ignored_variables(&variables), ["ROOMBRIDGE_PORT", "ROOMBRIDGE_SERVICE_HOST"]);
    for (name, value) in [("ROOMBRIDGE_PORT", "1883"), ("ROOMBRIDGE_MQTT_ULR", "mqtt://broker")] {
        let refused = load(MINIMAL, &[(name, value)]).unwrap_err().to_string();
        assert!(refused.contains(name), "{refused}");
    }
}

#[test]
fn a_secret_comes_from_a_file_without_its_line_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("password");
    std::fs::write(&path, "hush-hush\n").unwrap();
    let variables =
        [("ROOMBRIDGE_MQTT_USERNAME", "bridge"), ("ROOMBRIDGE_MQTT_PASSWORD_FILE", path.to_str().unwrap())];
    let config = load(MINIMAL, &variables).unwrap();
    assert_eq!(config.mqtt.password.unwrap().expose_secret(), "hush-hush");
}

#[test]
fn no_secret_is_printed() {
    let secret = "hush-hush";
    let variables = [
        ("ROOMBRIDGE_MQTT_USERNAME", "bridge"),
        ("ROOMBRIDGE_MQTT_PASSWORD", secret),
        ("ROOMBRIDGE_ROCKETMQ_ACCESS_KEY", "access"),
        ("ROOMBRIDGE_ROCKETMQ_SECRET_KEY", secret),
        ("ROOMBRIDGE_ORIGIN_KEY", secret),
    ];
    let config = load(MINIMAL, &variables).unwrap();
    assert_eq!(config.origin.key.as_ref().unwrap().expose_secret(), secret);
    assert!(!format!("{config:?}").contains(secret));

    for text in [
        "[mqtt]\nusername = \"u\"\npassword = hush-hush\n",
        "[mqtt]\nusername = \"u\"\npassword = [\"hush-hush\"]\n",
        "[mqtt]\nurl = \"mqtt://u:hush-hush@broker\"\n",
        "[mqtt]\nurl = \"mqtt://broker\"\npassword = \"hush-hush\"\n",
    ] {
        let error = load(text, &[]).unwrap_err();
        assert!(!error.to_string().contains(secret) && !format!("{error:?}").contains(secret), "{error:?}");
    }
}
