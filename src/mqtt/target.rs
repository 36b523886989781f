//! Where the bridge's own connection goes and with what CONNECT, computed once.

use std::time::Duration;

use rumqttc::tokio_rustls::TlsConnector;
use rumqttc::tokio_rustls::rustls::pki_types::ServerName;
use rumqttc::v5::mqttbytes::v5::{Connect, ConnectProperties, Login, Packet};
use secrecy::ExposeSecret;

use super::options::OptionsError;
use super::tls;
use crate::config::MqttConfig;

/// See the module's words.
pub struct Target {
    pub host: String,
    pub port: u16,
    pub tls: Option<(TlsConnector, ServerName<'static>)>,
    pub keep_alive: Duration,
    pub max_packet_bytes: u32,
    client_id: String,
    clean_start: bool,
    properties: ConnectProperties,
    login: Option<Login>,
}

impl Target {
    /// A session that the broker keeps, under that client id.
    pub fn new(config: &MqttConfig, client_id: &str) -> Result<Self, OptionsError> {
        let expiry_s = u32::try_from(config.session_expiry.as_secs()).unwrap_or(u32::MAX);
        let mut target = Self::without_session(config, client_id)?;
        target.properties.session_expiry_interval = Some(expiry_s);
        target.clean_start = false;
        Ok(target)
    }

    /// A session that ends with its connection.
    pub fn without_session(config: &MqttConfig, client_id: &str) -> Result<Self, OptionsError> {
        let mut properties = ConnectProperties::new();
        properties.receive_maximum = Some(config.receive_maximum);
        properties.max_packet_size = Some(config.max_packet_bytes);
        let login = config.username.as_ref().map(|username| Login {
            username: username.clone(),
            password: config
                .password
                .as_ref()
                .map_or(String::new(), |password| password.expose_secret().to_owned()),
        });
        Ok(Self {
            host: config.host.clone(),
            port: config.port,
            tls: config
                .tls
                .as_ref()
                .map(|tls| tls::connector(tls, &config.host))
                .transpose()?,
            keep_alive: config.keep_alive,
            max_packet_bytes: config.max_packet_bytes,
            client_id: client_id.to_owned(),
            clean_start: true,
            properties,
            login,
        })
    }

    pub fn connect(&self) -> Packet {
        let connect = Connect {
            keep_alive: u16::try_from(self.keep_alive.as_secs()).unwrap_or(u16::MAX),
            client_id: self.client_id.clone(),
            clean_start: self.clean_start,
            properties: Some(self.properties.clone()),
        };
        Packet::Connect(connect, None, self.login.clone())
    }
}
