//! A certificate authority and a server certificate for loopback, made anew for each test.

use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

use super::scratch::Scratch;

pub struct Certificates {
    pub ca_pem: String,
    pub ca_file: PathBuf,
    pub server_certificate_file: PathBuf,
    pub server_key_file: PathBuf,
}

impl Certificates {
    /// For `localhost` and `127.0.0.1`, written into `scratch`.
    pub fn new(scratch: &Scratch) -> Certificates {
        let mut authority = CertificateParams::new(Vec::new()).expect("no names are valid names");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        authority.distinguished_name.push(DnType::CommonName, "roombridge test authority");
        let authority_key = KeyPair::generate().expect("a key can be made");
        let ca_pem = authority.self_signed(&authority_key).expect("an authority signs itself").pem();
        let issuer = Issuer::new(authority, authority_key);

        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut server = CertificateParams::new(names).expect("loopback names are valid");
        server.distinguished_name.push(DnType::CommonName, "localhost");
        server.use_authority_key_identifier_extension = true;
        let server_key = KeyPair::generate().expect("a key can be made");
        let server_pem = server.signed_by(&server_key, &issuer).expect("the authority signs").pem();

        Certificates {
            ca_file: scratch.write("ca.pem", &ca_pem),
            server_certificate_file: scratch.write("server.pem", &server_pem),
            server_key_file: scratch.write("server.key", &server_key.serialize_pem()),
            ca_pem,
        }
    }
}
