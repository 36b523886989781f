//! Where a connection goes and with what CONNECT it begins, computed once.

use std::time::Duration;

use super::tls::{Tls, TlsError};
use super::wire::{Connect, Login};
use crate::config::MqttConfig;

/// The broker of the configuration, and what a connection to it asks for.
pub(crate) struct Target {
    /// `host:port`, an IPv6 address in brackets.
    pub place: String,
    pub tls: Option<Tls>,
    pub keep_alive: Duration,
    pub connect: Connect,
}

impl Target {
    /// A session that the broker keeps, under that client id.
    pub(crate) fn new(config: &MqttConfig, client_id: &str) -> Result<Self, TlsError> {
        let mut target = Self::with_new_session(config, client_id)?;
        target.connect.clean_start = false;
        Ok(target)
    }

    /// As [`Self::new`], but begun anew: shows how long the broker would keep a session.
    pub(crate) fn with_new_session(config: &MqttConfig, client_id: &str) -> Result<Self, TlsError> {
        let expiry_s = u32::try_from(config.session_expiry.as_secs()).unwrap_or(u32::MAX);
        let mut target = Self::without_session(config, client_id)?;
        target.connect.session_expiry_s = Some(expiry_s);
        Ok(target)
    }

    /// A session that ends with its connection.
    pub(crate) fn without_session(config: &MqttConfig, client_id: &str) -> Result<Self, TlsError> {
        let login = config
            .username
            .as_ref()
            .map(|username| Login { username: username.clone(), password: config.password.clone() });
        Ok(Self {
            place: match config.host.contains(':') {
                true => format!("[{}]:{}", config.host, config.port),
                false => format!("{}:{}", config.host, config.port),
            },
            tls: config.tls.as_ref().map(|tls| Tls::new(tls, &config.host)).transpose()?,
            keep_alive: config.keep_alive,
            connect: Connect {
                client_id: client_id.to_owned(),
                clean_start: true,
                session_expiry_s: None,
                keep_alive_s: u16::try_from(config.keep_alive.as_secs()).unwrap_or(u16::MAX),
                receive_maximum: config.receive_maximum,
                max_packet_bytes: config.max_packet_bytes,
                login,
            },
        })
    }

    /// How long the broker is asked to keep the session; 0: not at all.
    pub(crate) fn session_expiry_s(&self) -> u32 {
        self.connect.session_expiry_s.unwrap_or(0)
    }
}
