//! Certificates for the tests of TLS: an authority, and what it signs, bad ones of each kind included.
#![forbid(unsafe_code)]

use std::sync::OnceLock;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    PKCS_ED25519, SanType, date_time_ymd,
};
use zerio::tls::{TlsClient, TlsServer};

/// A certificate and its key, in PEM.
#[derive(Clone, Debug)]
pub struct Identity {
    pub certificate: String,
    pub key: String,
    /// The public key, in DER: what a pin is of.
    pub public_key: Vec<u8>,
    der: Vec<u8>,
}

impl Identity {
    fn new(certificate: &Certificate, key: &KeyPair) -> Identity {
        use rcgen::PublicKeyData;
        let public_key = key.subject_public_key_info();
        let (pem, der) = (certificate.pem(), certificate.der().to_vec());
        Identity { certificate: pem, key: key.serialize_pem(), public_key, der }
    }

    pub fn fingerprint(&self) -> [u8; 32] {
        let fingerprint = ring::digest::digest(&ring::digest::SHA256, &self.der);
        fingerprint.as_ref().try_into().expect("32 bytes")
    }

    /// The certificate again and again: a chain of up to so many bytes, in DER.
    pub fn chain(&self, bytes: usize) -> String {
        self.certificate.repeat(bytes / self.der.len())
    }

    pub fn server(&self) -> TlsServer {
        TlsServer::from_pem(self.certificate.as_bytes(), self.key.as_bytes()).expect("a certificate")
    }
}

/// Who signs certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub certificate: String,
}

impl Authority {
    pub fn new(name: &str) -> Authority {
        let key = KeyPair::generate().expect("a key");
        let mut params = params(name, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("a certificate").pem();
        Authority { issuer: Issuer::new(params, key), certificate }
    }

    /// For these names: an IP address, a DNS name, or a URI, which has a colon in it.
    pub fn signs(&self, names: &[&str]) -> Identity {
        self.signs_with(names, |_| {})
    }

    pub fn signs_with(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let key = KeyPair::generate().expect("a key");
        let mut params = params("somebody", names);
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Identity::new(&certificate, &key)
    }

    pub fn trusting(&self) -> TlsClient {
        TlsClient::with_roots(self.certificate.as_bytes()).expect("an authority")
    }
}

/// Signed by nobody else.
pub fn self_signed(names: &[&str]) -> Identity {
    let key = KeyPair::generate().expect("a key");
    let certificate = params("somebody", names).self_signed(&key).expect("a certificate");
    Identity::new(&certificate, &key)
}

/// The same whenever it is made, but for bits: every number in it is as long, and so is what is signed with it. For an
/// authority to itself, of a server and of clients.
pub fn of_one_length(names: &[&str]) -> Identity {
    let key = KeyPair::generate_for(&PKCS_ED25519).expect("a key");
    let mut params = params("somebody", names);
    params.serial_number = Some(1u64.into());
    let certificate = params.self_signed(&key).expect("a certificate");
    Identity::new(&certificate, &key)
}

/// Its time was over long ago.
pub fn expired(params: &mut CertificateParams) {
    (params.not_before, params.not_after) = (date_time_ymd(2001, 1, 1), date_time_ymd(2002, 1, 1));
}

/// Its time has not come.
pub fn not_yet_valid(params: &mut CertificateParams) {
    (params.not_before, params.not_after) = (date_time_ymd(3001, 1, 1), date_time_ymd(3002, 1, 1));
}

/// For servers only.
pub fn for_servers(params: &mut CertificateParams) {
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
}

fn params(common_name: &str, names: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.subject_alt_names = names.iter().map(|name| san(name)).collect();
    params
}

fn san(name: &str) -> SanType {
    match name.parse() {
        Ok(address) => SanType::IpAddress(address),
        Err(_) if name.contains(':') => SanType::URI(name.try_into().expect("ASCII")),
        Err(_) => SanType::DnsName(name.try_into().expect("ASCII")),
    }
}

/// One authority for a whole test, and a server of its at 127.0.0.1.
pub fn shared() -> &'static (Authority, Identity) {
    static SHARED: OnceLock<(Authority, Identity)> = OnceLock::new();
    SHARED.get_or_init(|| {
        let authority = Authority::new("an authority");
        let server = authority.signs(&["127.0.0.1", "localhost"]);
        (authority, server)
    })
}
