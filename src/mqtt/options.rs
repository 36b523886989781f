//! From the configuration to rumqttc's options, for the connections that rumqttc serves: replay and check.

use std::io;
use std::path::PathBuf;

use rumqttc::v5::MqttOptions;
use rumqttc::{NetworkOptions, TlsConfiguration, Transport};
use secrecy::ExposeSecret;

use super::tls;
use crate::config::MqttConfig;

/// The options cannot be made: what, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    #[error("mqtt.ca_file {path}: {source}; check the path and that this user may read it")]
    CaFile { path: PathBuf, source: io::Error },
    #[error(
        "mqtt.url: {0:?} is no name that a certificate could hold; give the broker's host name or address"
    )]
    HostName(String),
    #[error("the certificates of this system could not be read; set mqtt.ca_file")]
    SystemCertificates,
}

/// Options for a connection under that client id, without a session that outlives it.
pub fn options(config: &MqttConfig, client_id: &str) -> Result<MqttOptions, OptionsError> {
    let mut options = MqttOptions::new(client_id, &config.host, config.port);
    options.set_keep_alive(config.keep_alive);
    options.set_max_packet_size(Some(config.max_packet_bytes));
    options.set_clean_start(true);
    if let Some(username) = &config.username {
        let password = config
            .password
            .as_ref()
            .map_or("", |password| password.expose_secret());
        options.set_credentials(username, password);
    }
    if let Some(tls) = &config.tls {
        let trusted = TlsConfiguration::Rustls(tls::trust(tls)?);
        options.set_transport(Transport::tls_with_config(trusted));
    }
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    options.set_network_options(network);
    Ok(options)
}
