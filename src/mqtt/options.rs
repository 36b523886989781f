//! From the configuration to rumqttc's options, for the connections that rumqttc serves: replay and check.

use std::fs;
use std::io;
use std::path::PathBuf;

use rumqttc::tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};
use rumqttc::v5::MqttOptions;
use rumqttc::{NetworkOptions, Transport};
use secrecy::ExposeSecret;

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
        choose_cryptography();
        options.set_transport(match &tls.ca_file {
            Some(path) => {
                let pem = fs::read(path).map_err(|source| OptionsError::CaFile {
                    path: path.clone(),
                    source,
                })?;
                Transport::tls(pem, None, None)
            }
            None => Transport::tls_with_default_config(),
        });
    }
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    options.set_network_options(network);
    Ok(options)
}

/// The TLS library panics unless one provider is chosen, because other crates compile a second one into it.
pub fn choose_cryptography() {
    if CryptoProvider::get_default().is_none() {
        // Fails only when somebody else was faster, which is as good.
        let _ = aws_lc_rs::default_provider().install_default();
    }
}
