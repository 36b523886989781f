use std::process::Command;

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use rumqttc::tokio_rustls::TlsAcceptor;
use rumqttc::tokio_rustls::rustls::pki_types::PrivateKeyDer;
use rumqttc::tokio_rustls::rustls::{AlertDescription, InvalidMessage, ServerConfig};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use super::*;

const SOON: std::time::Duration = std::time::Duration::from_secs(5);

/// Trusts that certificate, in PEM.
fn trusting(pem: &str, host: &str) -> Tls {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    fs::write(&file, pem).unwrap();
    Tls::new(&TlsConfig { ca_file: Some(file) }, host).unwrap()
}

/// Each thing that may be said of a handshake that failed.
pub(crate) fn explanations() -> Vec<String> {
    let tls = trusting(&certificate(false, &["localhost"]).0, "localhost");
    let certificate = [
        CertificateError::UnknownIssuer,
        CertificateError::BadSignature,
        CertificateError::Expired,
        CertificateError::NotValidYet,
        CertificateError::NotValidForName,
        CertificateError::BadEncoding,
    ];
    let mut errors: Vec<Error> = certificate.map(Error::InvalidCertificate).into();
    errors.push(Error::InvalidMessage(InvalidMessage::InvalidContentType));
    errors.push(Error::AlertReceived(AlertDescription::CertificateRequired));
    errors.push(Error::HandshakeNotComplete);
    let mut all: Vec<String> =
        errors.into_iter().map(|error| tls.explained(&io::Error::other(error))).collect();
    all.push(tls.explained(&io::ErrorKind::UnexpectedEof.into()));
    all.push(too_late());
    all.push(tls.of_an_authority());
    all
}

/// A certificate that signs itself, and its key, in PEM.
fn certificate(is_authority: bool, names: &[&str]) -> (String, String) {
    let mut parameters =
        CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
    parameters.is_ca = match is_authority {
        true => IsCa::Ca(BasicConstraints::Unconstrained),
        false => IsCa::ExplicitNoCa,
    };
    let key = KeyPair::generate().unwrap();
    (parameters.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

/// What comes of a handshake with a server that has that certificate, by a client that trusts it.
async fn shake_hands(host: &str, pem: &str, key: &str) -> Result<(), String> {
    shake_hands_with(&trusting(pem, host), pem, key).await
}

async fn shake_hands_with(tls: &Tls, pem: &str, key: &str) -> Result<(), String> {
    let certificates = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let server = ServerConfig::builder().with_no_client_auth().with_single_cert(certificates, key).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = async {
        let (stream, _) = listener.accept().await.unwrap();
        let _ = TlsAcceptor::from(Arc::new(server)).accept(stream).await;
    };
    let asking = async {
        let stream = TcpStream::connect(address).await.unwrap();
        tls.connect(stream, Instant::now() + SOON).await.map(|_| ())
    };
    tokio::join!(serving, asking).1
}

#[tokio::test]
async fn the_certificate_of_an_authority_is_explained_with_the_command_that_makes_a_better_one() {
    // Given a broker with the certificate that plain `openssl req -x509` makes
    let (pem, key) = certificate(true, &["localhost"]);
    let said = shake_hands("localhost", &pem, &key).await.unwrap_err();
    assert!(said.contains("is that of an authority (CA:TRUE)"), "{said}");
    assert!(!said.contains("CaUsedAsEndEntity") && !said.contains("OtherError"), "{said}");

    // When the command of the message is run, then its certificate is taken
    let long = format!("broker.{}.{}.example", "a".repeat(60), "b".repeat(60));
    for host in ["localhost", "127.0.0.1", &long] {
        let said = shake_hands(host, &pem, &key).await.unwrap_err();
        let command = said.split('`').find(|part| part.contains("-addext")).expect(&said);
        let folder = tempfile::tempdir().unwrap();
        let made = Command::new("sh").args(["-c", command]).current_dir(folder.path()).output().unwrap();
        assert!(made.status.success(), "{command}: {}", String::from_utf8_lossy(&made.stderr));
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        let taken = shake_hands(host, &read("broker.pem"), &read("broker.key")).await;
        assert_eq!(taken, Ok(()), "{command}");
    }
}

#[tokio::test]
async fn a_certificate_for_another_name_is_said_with_both_names() {
    let (pem, key) = certificate(false, &["other.example"]);
    let said = shake_hands("localhost", &pem, &key).await.unwrap_err();
    assert!(said.starts_with("the broker's certificate is not for localhost, but for \""), "{said}");
    assert!(said.contains("other.example") && said.contains("mqtt.url"), "{said}");
}

#[tokio::test]
async fn who_does_not_speak_tls_is_said_not_to() {
    let tls = trusting(&certificate(false, &["localhost"]).0, "localhost");
    for answer in [Some("HTTP/1.1 400 Bad Request\r\n\r\n"), Some(""), None] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut other, _) = listener.accept().await.unwrap();
        if let Some(answer) = answer {
            other.write_all(answer.as_bytes()).await.unwrap();
            other.shutdown().await.unwrap();
        }
        let deadline = Instant::now() + std::time::Duration::from_millis(300);
        let said = tls.connect(stream, deadline).await.map(|_| ()).unwrap_err();
        assert!(said.contains("check that the port of mqtt.url speaks TLS"), "{answer:?}: {said}");
    }
}

#[tokio::test]
async fn a_certificate_of_an_authority_that_is_not_trusted_is_said_to_be_one() {
    let (trusted, (pem, key)) = (certificate(false, &["localhost"]).0, certificate(false, &["localhost"]));
    let said = shake_hands_with(&trusting(&trusted, "localhost"), &pem, &key).await.unwrap_err();
    assert!(said.contains("an authority that is not trusted here; set mqtt.ca_file"), "{said}");
}
