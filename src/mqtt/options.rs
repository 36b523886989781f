//! From the configuration to rumqttc's options.

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
}

/// Options for a connection under that client id; the session, if `persistent`, lives for `mqtt.session_expiry_s`.
pub fn options(config: &MqttConfig, client_id: &str, persistent: bool) -> Result<MqttOptions, OptionsError> {
    let mut options = MqttOptions::new(client_id, &config.host, config.port);
    options.set_keep_alive(config.keep_alive);
    options.set_max_packet_size(Some(config.max_packet_bytes));
    options.set_clean_start(!persistent);
    if persistent {
        let expiry_s = u32::try_from(config.session_expiry.as_secs()).unwrap_or(u32::MAX);
        options.set_session_expiry_interval(Some(expiry_s));
        options.set_receive_maximum(Some(config.receive_maximum));
        options.set_manual_acks(true);
    }
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
fn choose_cryptography() {
    if CryptoProvider::get_default().is_none() {
        // Fails only when somebody else was faster, which is as good.
        let _ = aws_lc_rs::default_provider().install_default();
    }
}
