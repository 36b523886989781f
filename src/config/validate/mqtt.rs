//! The section `[mqtt]`.

use std::time::Duration;

use url::{Host, Url};

use super::check::{filled, number, readable_file, required, secret};
use crate::config::document::Places;
use crate::config::error::ConfigError;
use crate::config::raw::RawMqtt;
use crate::config::settings::{MqttConfig, TlsConfig};

const URL_FORM: &str = "write it as \"mqtt://host:1883\" or \"mqtts://host:8883\"";
const WEEK_S: u64 = 7 * 86_400;

pub(super) fn mqtt(raw: RawMqtt, places: &Places) -> Result<MqttConfig, ConfigError> {
    let url = required(places, "mqtt.url", raw.url, URL_FORM)?;
    let server = server(&url).map_err(|(problem, remedy)| places.invalid("mqtt.url", problem, remedy))?;
    let tls = match (server.tls, raw.ca_file) {
        (true, Some(path)) => Some(TlsConfig { ca_file: Some(readable_file(places, "mqtt.ca_file", path)?) }),
        (true, None) => Some(TlsConfig { ca_file: None }),
        (false, None) => None,
        (false, Some(_)) => {
            let problem = "contradicts mqtt.url, which uses no TLS";
            return Err(places.invalid(
                "mqtt.ca_file",
                problem,
                "write mqtts:// in mqtt.url, or remove mqtt.ca_file",
            ));
        }
    };
    let username = filled(places, "mqtt.username", raw.username)?;
    let password =
        secret(places, ("mqtt.password", raw.password), ("mqtt.password_file", raw.password_file))?;
    if password.is_some() && username.is_none() {
        return Err(places.invalid(
            "mqtt.username",
            "is missing although a password is given",
            "set mqtt.username",
        ));
    }
    let keep_alive_s = number(places, "mqtt.keep_alive_s", raw.keep_alive_s, 30, 5..=65_535)?;
    let session_expiry_s =
        number(places, "mqtt.session_expiry_s", raw.session_expiry_s, WEEK_S, 1..=u64::from(u32::MAX))?;
    Ok(MqttConfig {
        host: server.host,
        port: server.port,
        tls,
        client_id: client_id(raw.client_id, places)?,
        username,
        password,
        keep_alive: Duration::from_secs(keep_alive_s),
        session_expiry: Duration::from_secs(session_expiry_s),
        receive_maximum: number(places, "mqtt.receive_maximum", raw.receive_maximum, 1000, 1..=65_535)?,
        max_packet_bytes: number(
            places,
            "mqtt.max_packet_bytes",
            raw.max_packet_bytes,
            16 * 1024 * 1024,
            1024..=268_435_455,
        )?,
    })
}

struct Server {
    host: String,
    port: u16,
    tls: bool,
}

/// Reads the URL. The error is problem and remedy; neither quotes the URL, which may hold a password.
fn server(url: &str) -> Result<Server, (String, &'static str)> {
    let url = Url::parse(url).map_err(|error| (format!("is no URL ({error})"), URL_FORM))?;
    let (tls, usual_port) = match url.scheme() {
        "mqtt" => (false, 1883),
        "mqtts" => (true, 8883),
        other => return Err((format!("has the scheme {other:?}"), URL_FORM)),
    };
    if !url.username().is_empty() || url.password().is_some() {
        let remedy = "take them out of the URL and set mqtt.username and mqtt.password_file";
        return Err(("holds a user name or password".to_owned(), remedy));
    }
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        return Err(("has something behind host and port".to_owned(), URL_FORM));
    }
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let port = url.port().unwrap_or(usual_port);
    if host.is_empty() || port == 0 {
        return Err(("names no host or port 0".to_owned(), URL_FORM));
    }
    let host = in_ascii(host).ok_or_else(|| ("has a host that is no name".to_owned(), URL_FORM))?;
    Ok(Server { host, port, tls })
}

/// A host as it is looked up: names in other letters have an ASCII form (IDNA), and `url` percent-encodes them in URLs that are not of the
/// web. `None`: it has none.
pub(super) fn in_ascii(host: &str) -> Option<String> {
    if host.is_ascii() && !host.contains('%') {
        return Some(host.to_owned());
    }
    Host::parse(host).ok().map(|host| host.to_string())
}

fn client_id(raw: Option<String>, places: &Places) -> Result<String, ConfigError> {
    let client_id = raw.unwrap_or_else(|| "roombridge".to_owned());
    let problem = if client_id.is_empty() {
        "is empty, and the session that holds unacknowledged messages needs a name"
    } else if client_id.chars().any(char::is_control) {
        "holds a control character"
    } else if client_id.len() > 65_535 {
        "is longer than MQTT's 65,535 bytes"
    } else {
        return Ok(client_id);
    };
    Err(places.invalid(
        "mqtt.client_id",
        problem,
        "write a plain name that no other client of the broker uses",
    ))
}
