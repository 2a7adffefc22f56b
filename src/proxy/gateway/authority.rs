//! The authority that vouches for gateways and for those who may come to them: one for an installation, and nobody else's.

use k8s_openapi::jiff::{SignedDuration, Timestamp, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, Error, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use std::sync::Arc;

/// The authority's own certificate lasts longer than all it signs.
const AUTHORITY_DAYS: i64 = 3650;
/// A gateway is made anew, with another certificate, once a year.
const SERVER_DAYS: i64 = 825;
/// Clients' are made anew with each start of a process, and after [`Identity::STALE_DAYS`].
const CLIENT_DAYS: i64 = 397;

/// An authority and its key.
pub struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// Who comes to a gateway: a certificate with its key, and whom to trust. It does not show the key.
#[derive(Clone)]
pub struct Identity {
    /// Certificate of the authority that vouches for the gateways, PEM.
    pub authority: String,
    /// The client's certificate, PEM.
    pub certificate: String,
    /// The key to it, PEM.
    pub key: String,
    pub(super) tls: ClientConfig,
}

impl Identity {
    /// After so many days another one is to be made.
    pub const STALE_DAYS: u64 = 180;
}

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        (&self.authority, &self.certificate) == (&other.authority, &other.certificate)
    }
}

impl Eq for Identity {}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Identity")
    }
}

/// What the authority's certificate says; it is the same each time, but for when it lasts.
fn params() -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, "DevSanctum gateway authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    last(&mut params, AUTHORITY_DAYS);
    Ok(params)
}

/// From yesterday, for clocks that are behind.
fn last(params: &mut CertificateParams, days: i64) {
    let day = |from_now: i64| {
        let date = (Timestamp::now() + SignedDuration::from_hours(24 * from_now)).to_zoned(TimeZone::UTC).date();
        rcgen::date_time_ymd(date.year().into(), date.month().unsigned_abs(), date.day().unsigned_abs())
    };
    params.not_before = day(-1);
    params.not_after = day(days);
}

impl Authority {
    /// Makes one: its certificate and its key, PEM.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn make() -> Result<(String, String), Error> {
        let pair = KeyPair::generate()?;
        Ok((params()?.self_signed(&pair)?.pem(), pair.serialize_pem()))
    }

    /// The one that was made before.
    ///
    /// # Errors
    /// When the key is none.
    pub fn read(pem: &str, key: &str) -> Result<Self, Error> {
        Ok(Self { pem: pem.to_owned(), issuer: Issuer::new(params()?, KeyPair::from_pem(key)?) })
    }

    /// Its certificate, PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// For the gateway of a domain: a certificate and its key, one after the other, PEM.
    ///
    /// # Errors
    /// When the domain cannot stand in a certificate, or the system gives no random bytes.
    pub fn server(&self, domain: &str) -> Result<String, Error> {
        let params = CertificateParams::new(vec![format!("*.{domain}")])?;
        let (certificate, key) = self.sign(params, domain, ExtendedKeyUsagePurpose::ServerAuth, SERVER_DAYS)?;
        Ok(format!("{certificate}{key}"))
    }

    /// For who comes to gateways under this name.
    ///
    /// # Errors
    /// When the system gives no random bytes, or the authority's certificate is none.
    pub fn client(&self, name: &str) -> Result<Identity, String> {
        let params = CertificateParams::new(Vec::new()).map_err(|e| e.to_string())?;
        let signed = self.sign(params, name, ExtendedKeyUsagePurpose::ClientAuth, CLIENT_DAYS);
        let (certificate, key) = signed.map_err(|e| e.to_string())?;
        let tls = tls(&self.pem, &certificate, &key)?;
        Ok(Identity { authority: self.pem.clone(), certificate, key, tls })
    }

    fn sign(
        &self,
        mut params: CertificateParams,
        name: &str,
        usage: ExtendedKeyUsagePurpose,
        days: i64,
    ) -> Result<(String, String), Error> {
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        last(&mut params, days);
        let key = KeyPair::generate()?;
        Ok((params.signed_by(&key, &self.issuer)?.pem(), key.serialize_pem()))
    }
}

/// TLS 1.3 alone: both ends are ours.
fn tls(authority: &str, certificate: &str, key: &str) -> Result<ClientConfig, String> {
    let read = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|e| e.to_string());
    let mut roots = RootCertStore::empty();
    roots.add(read(authority)?).map_err(|e| e.to_string())?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|e| e.to_string())?;
    // The provider is given explicitly: a process-wide default could be another one.
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).map_err(|e| e.to_string())?;
    builder.with_root_certificates(roots).with_client_auth_cert(vec![read(certificate)?], key).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_before_signs_what_was_trusted_before() {
        let (pem, key) = Authority::make().unwrap();
        let (one, two) = (Authority::read(&pem, &key).unwrap(), Authority::read(&pem, &key).unwrap());
        let (a, b) = (one.client("a").unwrap(), two.client("a").unwrap());
        assert_eq!((&a.authority, a != b), (&pem, true));
        assert!(!format!("{a:?}").contains("PRIVATE") && a.key.contains("PRIVATE"));
        assert!(one.server("s.gateway.internal").unwrap().contains("PRIVATE"));
        assert!(Authority::read(&pem, "no key").is_err());
    }
}
