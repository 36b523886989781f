//! TLS towards the MQTT broker: whom to trust.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rumqttc::TlsConfiguration;
use rumqttc::tokio_rustls::TlsConnector;
use rumqttc::tokio_rustls::client::TlsStream;
use rumqttc::tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};
use rumqttc::tokio_rustls::rustls::pki_types::pem::PemObject;
use rumqttc::tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use rumqttc::tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;

use crate::config::TlsConfig;

/// TLS cannot be set up as configured: what is wrong, and what to do.
#[allow(clippy::missing_docs_in_private_items, reason = "each text says what is wrong")]
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("mqtt.ca_file {path}: {source}; check the path and that this user may read it")]
    CaFile { path: PathBuf, source: io::Error },
    #[error(
        "mqtt.url: {0:?} is no name that a certificate could hold; give the broker's host name or address"
    )]
    HostName(String),
    #[error("the certificates of this system could not be read; set mqtt.ca_file")]
    SystemCertificates,
}

/// How connections to one host are secured.
pub(crate) struct Tls {
    connector: TlsConnector,
    server_name: ServerName<'static>,
}

impl Tls {
    pub(crate) fn new(config: &TlsConfig, host: &str) -> Result<Self, TlsError> {
        let server_name =
            ServerName::try_from(host.to_owned()).map_err(|_| TlsError::HostName(host.to_owned()))?;
        Ok(Self { connector: TlsConnector::from(trust(config)?), server_name })
    }

    pub(crate) async fn connect(&self, tcp: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        self.connector.connect(self.server_name.clone(), tcp).await
    }
}

/// Trusts the certificates of the CA file, or those of this system.
fn trust(tls: &TlsConfig) -> Result<Arc<ClientConfig>, TlsError> {
    choose_cryptography();
    let Some(path) = &tls.ca_file else {
        return match TlsConfiguration::default() {
            TlsConfiguration::Rustls(config) => Ok(config),
            TlsConfiguration::Simple { .. } => Err(TlsError::SystemCertificates),
        };
    };
    let wrong = |source| TlsError::CaFile { path: path.clone(), source };
    let pem = fs::read(path).map_err(wrong)?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok).collect();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates);
    if roots.is_empty() {
        return Err(wrong(io::Error::other("it holds no certificate in PEM form")));
    }
    Ok(Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()))
}

/// The TLS library panics unless one provider is chosen, because other crates compile a second one into it.
fn choose_cryptography() {
    if CryptoProvider::get_default().is_none() {
        // Fails only when somebody else was faster, which is as good.
        let _ = aws_lc_rs::default_provider().install_default();
    }
}
