//! Where the bridge's own connection goes and with what CONNECT, computed once.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use rumqttc::tokio_rustls::TlsConnector;
use rumqttc::tokio_rustls::rustls::pki_types::ServerName;
use rumqttc::v5::mqttbytes::v5::{Connect, ConnectProperties, Login, Packet};
use secrecy::ExposeSecret;

use super::tls;
use crate::config::MqttConfig;

/// The configuration names nothing that can be connected to: what, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    #[error("mqtt.ca_file {path}: {source}; check the path and that this user may read it")]
    CaFile { path: PathBuf, source: io::Error },
    #[error(
        "mqtt.url: {0:?} is no name that a certificate could hold; give the broker's host name or address"
    )]
    HostName(String),
    #[error("the certificates of this system could not be read; set mqtt.ca_file")]
    SystemCertificates,
}

/// See the module's words.
pub(crate) struct Target {
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
    pub(crate) fn new(config: &MqttConfig, client_id: &str) -> Result<Self, TargetError> {
        let mut target = Self::with_new_session(config, client_id)?;
        target.clean_start = false;
        Ok(target)
    }

    /// As [`Self::new`], but begun anew: shows how long the broker would keep a session.
    pub(crate) fn with_new_session(config: &MqttConfig, client_id: &str) -> Result<Self, TargetError> {
        let expiry_s = u32::try_from(config.session_expiry.as_secs()).unwrap_or(u32::MAX);
        let mut target = Self::without_session(config, client_id)?;
        target.properties.session_expiry_interval = Some(expiry_s);
        Ok(target)
    }

    /// A session that ends with its connection.
    pub(crate) fn without_session(config: &MqttConfig, client_id: &str) -> Result<Self, TargetError> {
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
            tls: config.tls.as_ref().map(|tls| tls::connector(tls, &config.host)).transpose()?,
            keep_alive: config.keep_alive,
            max_packet_bytes: config.max_packet_bytes,
            client_id: client_id.to_owned(),
            clean_start: true,
            properties,
            login,
        })
    }

    /// What CONNECT asks for.
    pub(crate) fn session_expiry_s(&self) -> u32 {
        self.properties.session_expiry_interval.unwrap_or(0)
    }

    pub(crate) fn connect(&self) -> Packet {
        let connect = Connect {
            keep_alive: u16::try_from(self.keep_alive.as_secs()).unwrap_or(u16::MAX),
            client_id: self.client_id.clone(),
            clean_start: self.clean_start,
            properties: Some(self.properties.clone()),
        };
        Packet::Connect(connect, None, self.login.clone())
    }
}
