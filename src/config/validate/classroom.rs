//! The sections `[[downlink]]`, `[classroom]`, `[access]`, `[login]` and `[web]`.

use std::net::SocketAddr;

use super::check::{filled, number, required, secret};
use super::mqtt::in_ascii;
use crate::config::document::Places;
use crate::config::error::ConfigError;
use crate::config::raw::{RawAccess, RawClassroom, RawDownlink, RawLogin, RawWeb};
use crate::config::settings::{
    AccessConfig, BindingConfig, ClassroomConfig, DownlinkConfig, LoginConfig, SenderSource, WebConfig,
};
use crate::model::{StartAt, WebHost};

pub(super) fn downlinks(
    raw: Vec<RawDownlink>,
    dead_letter_topic: Option<&str>,
    places: &Places,
) -> Result<Vec<DownlinkConfig>, ConfigError> {
    let mut downlinks: Vec<DownlinkConfig> = Vec::new();
    for (index, raw) in raw.into_iter().enumerate() {
        let key = |name: &str| format!("downlink[{index}].{name}");
        let topic =
            required(places, &key("topic"), raw.topic, "write a RocketMQ topic, for example \"room\"")?;
        if downlinks.iter().any(|other| other.topic == topic) {
            return Err(places.invalid(
                &key("topic"),
                format!("= {topic:?} stands twice"),
                "keep one of the two downlinks",
            ));
        }
        if dead_letter_topic == Some(topic.as_str()) {
            return Err(places.invalid(
                &key("topic"),
                format!("= {topic:?} is dead_letter.topic"),
                "choose another topic; `roombridge deadletter resend` brings dead letters back",
            ));
        }
        let mqtt_topic = filled(places, &key("mqtt_topic"), raw.mqtt_topic)?.unwrap_or_else(|| topic.clone());
        parent(places, &key("mqtt_topic"), &mqtt_topic)?;
        let start = match raw.start.as_deref() {
            None | Some("latest") => StartAt::Latest,
            Some("earliest") => StartAt::Earliest,
            Some(other) => {
                return Err(places.invalid(
                    &key("start"),
                    format!("= {other:?} is not known"),
                    "write \"latest\" or \"earliest\"",
                ));
            }
        };
        downlinks.push(DownlinkConfig { topic, mqtt_topic, start });
    }
    Ok(downlinks)
}

/// Refuses a topic name below which nothing can be published.
fn parent(places: &Places, key: &str, topic: &str) -> Result<(), ConfigError> {
    let wrong = topic.starts_with(['$', '/'])
        || topic.ends_with('/')
        || topic.chars().any(|letter| ['+', '#'].contains(&letter) || letter.is_control());
    if wrong {
        return Err(places.invalid(
            key,
            format!("= {topic:?} is no topic to publish below"),
            "write a topic name without +, #, control characters, a leading $ or / and a trailing /",
        ));
    }
    Ok(())
}

pub(super) fn classroom(
    raw: Option<RawClassroom>,
    bindings: &[BindingConfig],
    downlinks: &[DownlinkConfig],
    places: &Places,
) -> Result<Option<ClassroomConfig>, ConfigError> {
    let Some(raw) = raw else { return Ok(None) };
    let text = |name: &str, value, default: &str| {
        let key = format!("classroom.{name}");
        let value = filled(places, &key, value)?.unwrap_or_else(|| default.to_owned());
        parent(places, &key, &value).map(|()| value)
    };
    // A key may have its older name, but not both in one configuration: nobody could tell which one counts.
    let renamed =
        |(name, value): (&str, Option<String>), (older, older_value): (&str, Option<String>), default| {
            if value.is_some() && older_value.is_some() {
                return Err(places.invalid(
                    &format!("classroom.{older}"),
                    format!("is the older name of classroom.{name}, and both are set"),
                    format!("remove classroom.{older}"),
                ));
            }
            match older_value {
                Some(value) => text(older, Some(value), default),
                None => text(name, value, default),
            }
        };
    let rate = |name: &str, value, default: u32| {
        number(places, &format!("classroom.{name}"), value, default, 1..=1_000_000)
    };
    let classroom = ClassroomConfig {
        send_topic: renamed(("send_topic", raw.send_topic), ("send", raw.send), "roomSend")?,
        heard_topic: renamed(("heard_topic", raw.heard_topic), ("room", raw.room), "room")?,
        audit_topic: text("audit_topic", raw.audit_topic, "roombridge_audit")?,
        teacher_groups: raw.teacher_groups.unwrap_or_else(|| vec!["GID_teacher".to_owned()]),
        student_groups: raw.student_groups.unwrap_or_else(|| vec!["GID_student".to_owned()]),
        client_per_s: rate("client_per_s", raw.client_per_s, 5)?,
        client_burst: rate("client_burst", raw.client_burst, 10)?,
        room_per_s: rate("room_per_s", raw.room_per_s, 100)?,
        room_burst: rate("room_burst", raw.room_burst, 200)?,
    };
    needs(&classroom, bindings, downlinks, places)?;
    Ok(Some(classroom))
}

/// Refuses a classroom without the binding and the downlink that it needs.
fn needs(
    classroom: &ClassroomConfig,
    bindings: &[BindingConfig],
    downlinks: &[DownlinkConfig],
    places: &Places,
) -> Result<(), ConfigError> {
    let (send, heard) = (&classroom.send_topic, &classroom.heard_topic);
    if send == heard {
        let problem =
            format!("= {send:?} is classroom.heard_topic: what is sent would be heard before it is judged");
        return Err(places.invalid("classroom.send_topic", problem, "give the two different names"));
    }
    let filter = format!("{send}/#");
    let Some(binding) = bindings.iter().find(|binding| binding.filter == filter) else {
        return Err(places.invalid(
            "classroom.send_topic",
            format!("= {send:?} has no binding"),
            format!("add [[binding]] with filter = {filter:?}"),
        ));
    };
    match &binding.sender {
        Some(SenderSource::TopicLevel(_) | SenderSource::UserProperty(_) | SenderSource::EmbeddedBroker) => {}
        None | Some(SenderSource::JsonField(_)) => {
            return Err(places.invalid(
                "classroom.send_topic",
                format!("= {send:?}: its binding names no sender that could be trusted"),
                "set sender = { topic_level = N } or { user_property = \"NAME\" } in that binding, whichever your MQTT \
                 broker ties to the client",
            ));
        }
    }
    if !downlinks.iter().any(|downlink| downlink.mqtt_topic == *heard) {
        return Err(places.invalid(
            "classroom.heard_topic",
            format!("= {heard:?} has no downlink, so nobody would hear anything"),
            format!("add [[downlink]] with topic = {heard:?}"),
        ));
    }
    Ok(())
}

pub(super) fn access(raw: RawAccess, places: &Places) -> Result<Option<AccessConfig>, ConfigError> {
    let secret = secret(places, ("access.secret", raw.secret), ("access.secret_file", raw.secret_file))?;
    let access_key = filled(places, "access.access_key", raw.access_key)?;
    let instance = filled(places, "access.instance", raw.instance)?;
    match (access_key, instance, secret) {
        (None, None, None) => Ok(None),
        (Some(access_key), Some(instance), Some(secret)) => {
            Ok(Some(AccessConfig { access_key, instance, secret }))
        }
        _ => Err(places.invalid(
            "access",
            "needs access_key, instance and secret together",
            "set all three, or none",
        )),
    }
}

pub(super) fn login(
    raw: RawLogin,
    access: Option<&AccessConfig>,
    places: &Places,
) -> Result<LoginConfig, ConfigError> {
    let login = LoginConfig {
        listen: address(places, "login.listen", raw.listen)?,
        open: raw.open.unwrap_or(false),
        secret: secret(places, ("login.secret", raw.secret), ("login.secret_file", raw.secret_file))?,
    };
    if login.listen.is_some() && access.is_none() {
        return Err(places.invalid(
            "login.listen",
            "needs [access]: without its secret no token can be made",
            "set access.access_key, access.instance and access.secret",
        ));
    }
    Ok(login)
}

/// An entry that no request can name would let nobody in, without a word.
fn hosts(raw: Vec<String>, places: &Places) -> Result<Vec<WebHost>, ConfigError> {
    let host = |text: String| {
        let parsed =
            WebHost::parse(&text).and_then(|host| Some(WebHost { host: in_ascii(&host.host)?, ..host }));
        parsed.filter(|host| !host.host.contains(['*', '?', '#', '%', '\\'])).ok_or_else(|| {
            let problem = format!("has {text:?}, which is no host as a browser names it");
            places.invalid(
                "web.hosts",
                problem,
                "write class.example.org, or with a port class.example.org:8443; no scheme, path or *",
            )
        })
    };
    raw.into_iter().map(host).collect()
}

/// `has_classroom`, `has_archive`: what there is to be served.
pub(super) fn web(
    raw: RawWeb,
    access: Option<&AccessConfig>,
    login: &LoginConfig,
    (has_classroom, has_archive): (bool, bool),
    places: &Places,
) -> Result<WebConfig, ConfigError> {
    let web = WebConfig {
        listen: address(places, "web.listen", raw.listen)?,
        websocket_url: filled(places, "web.websocket_url", raw.websocket_url)?,
        login_url: filled(places, "web.login_url", raw.login_url)?,
        hosts: hosts(raw.hosts.unwrap_or_default(), places)?,
    };
    let needs = |problem: &str, remedy: &str| Err(places.invalid("web.listen", problem, remedy));
    match (has_classroom, has_archive) {
        _ if web.listen.is_none() => Ok(web),
        (false, false) => needs(
            "would serve nothing: there is neither [classroom], whose pages it serves, nor [archive]",
            "add one of them, or remove web.listen",
        ),
        _ if access.is_some() => Ok(web),
        (false, true) if login.secret.is_some() => Ok(web),
        (false, true) => needs(
            "needs [access] or login.secret: without both nobody could be let in to the archive",
            "set access.access_key, access.instance and access.secret for teachers' tokens, or login.secret for operators",
        ),
        _ => needs(
            "needs [access]: without its secret nobody's token can be checked",
            "set access.access_key, access.instance and access.secret",
        ),
    }
}

fn address(places: &Places, key: &str, text: Option<String>) -> Result<Option<SocketAddr>, ConfigError> {
    let Some(text) = text else { return Ok(None) };
    let address = text.parse().map_err(|_| {
        let problem = format!("= {text:?} is no address and port");
        places.invalid(key, problem, "write it as \"127.0.0.1:8080\" or \"[::1]:8080\"")
    })?;
    Ok(Some(address))
}
