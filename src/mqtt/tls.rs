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
use rumqttc::tokio_rustls::rustls::{CertificateError, ClientConfig, Error, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::config::TlsConfig;
use crate::model::quoted;

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

    /// The handshake. The error says why there is none, and what to do.
    pub(crate) async fn connect(
        &self,
        tcp: TcpStream,
        deadline: Instant,
    ) -> Result<TlsStream<TcpStream>, String> {
        match timeout_at(deadline, self.connector.connect(self.server_name.clone(), tcp)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(self.explained(&error)),
            Err(_) => Err(too_late()),
        }
    }

    fn explained(&self, error: &io::Error) -> String {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            Some(Error::InvalidCertificate(wrong)) => self.certificate_explained(wrong),
            Some(Error::InvalidMessage(_)) => format!("what answers speaks no TLS ({error}); {NO_TLS}"),
            Some(Error::AlertReceived(alert)) => format!(
                "the broker ends the handshake ({alert:?}); see its log; if it asks for a certificate of its clients, turn that \
                 off: roombridge has none and logs in with mqtt.username"
            ),
            Some(other) => format!("{other}; see the broker's certificate, its versions of TLS and its log"),
            None => format!("{error}; {NO_TLS}, and see the broker's log"),
        }
    }

    fn certificate_explained(&self, wrong: &CertificateError) -> String {
        match wrong {
            // The second one: an authority of the same name, with another key.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "the broker's certificate comes from an authority that is not trusted here; set mqtt.ca_file to the certificate \
                 of that authority"
                    .to_owned()
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the broker's certificate has expired; renew it, and check the clock of this machine".to_owned()
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "the broker's certificate is not valid yet; check the clocks of this machine and of the one that made it"
                    .to_owned()
            }
            CertificateError::NotValidForName => self.for_another_name("other names"),
            CertificateError::NotValidForNameContext { presented, .. } => {
                self.for_another_name(&quoted(&presented.join(", ")))
            }
            // webpki's errors reach us by their names only.
            other if format!("{other:?}").contains("CaUsedAsEndEntity") => self.of_an_authority(),
            other => format!(
                "the broker's certificate for {} cannot be used ({}); {}",
                self.server_name.to_str(),
                quoted(&format!("{other:?}")),
                self.make_another()
            ),
        }
    }

    fn of_an_authority(&self) -> String {
        format!(
            "the broker's certificate for {} is that of an authority (CA:TRUE), as plain `openssl req -x509` makes it, and an \
             authority is no server; {}",
            self.server_name.to_str(),
            self.make_another()
        )
    }

    fn for_another_name(&self, names: &str) -> String {
        format!(
            "the broker's certificate is not for {}, but for {names}; write a name of the certificate in mqtt.url, or {}",
            self.server_name.to_str(),
            self.make_another()
        )
    }

    /// The shortest way to a certificate that is taken. The name that counts is the alternative one; CN takes 64 characters at most,
    /// and a host may have more.
    fn make_another(&self) -> String {
        let host = self.server_name.to_str();
        let kind = match &self.server_name {
            ServerName::IpAddress(_) => "IP",
            _ => "DNS",
        };
        format!(
            "make one with `openssl req -x509 -newkey rsa:2048 -nodes -days 365 -keyout broker.key -out broker.pem -subj /CN=broker \
             -addext basicConstraints=critical,CA:FALSE -addext subjectAltName={kind}:{host}`, give both files to the broker, and \
             set mqtt.ca_file to a copy of broker.pem"
        )
    }
}

fn too_late() -> String {
    format!("the handshake was not answered in time; {NO_TLS}")
}

const NO_TLS: &str = "check that the port of mqtt.url speaks TLS (often 8883), or write mqtt:// for one without TLS (often 1883)";

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

#[cfg(test)]
pub(super) mod tests;
