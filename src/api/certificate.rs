//! A certificate that somebody else has made, from files.

use rustls::client::verify_server_name;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use std::fmt;
use std::path::Path;

/// A chain and its private key. Its time is not looked at: who is shown it does.
#[derive(Clone)]
pub struct Pair {
    /// The chain, PEM.
    pub cert: String,
    /// The private key, PEM.
    pub key: String,
    leaf: CertificateDer<'static>,
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pair")
    }
}

impl Pair {
    /// Reads both files.
    ///
    /// # Errors
    /// Names the file, when one cannot be read, is not PEM, or the key is not the certificate's.
    pub fn read(cert: &Path, key: &Path) -> Result<Self, String> {
        let text = |path: &Path| std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()));
        Self::of(text(cert)?, text(key)?).map_err(|e| format!("{} with {}: {e}", cert.display(), key.display()))
    }

    fn of(cert: String, key: String) -> Result<Self, String> {
        let leaf = certified(&cert, &key)?.end_entity_cert().map_err(|e| e.to_string())?.clone().into_owned();
        Ok(Self { cert, key, leaf })
    }

    /// As a TLS server presents it.
    ///
    /// # Errors
    /// As [`Pair::read`].
    pub fn certified(&self) -> Result<CertifiedKey, String> {
        certified(&self.cert, &self.key)
    }

    /// Whether it is for this host name.
    pub fn is_for(&self, host: &str) -> bool {
        let (Ok(leaf), Ok(name)) = (ParsedCertificate::try_from(&self.leaf), ServerName::try_from(host)) else { return false };
        verify_server_name(&leaf, &name).is_ok()
    }
}

fn certified(cert: &str, key: &str) -> Result<CertifiedKey, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(cert.as_bytes()).collect();
    let chain = chain.map_err(|e| format!("the certificate is no PEM: {e}"))?;
    if chain.is_empty() {
        return Err("there is no certificate in it; give the whole chain, the server's first".into());
    }
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|e| format!("the key is no PEM: {e}"))?;
    CertifiedKey::from_der(chain, key, &rustls::crypto::ring::default_provider()).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_fits_together_and_has_its_names() {
        let made = |name: &str| rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        let (one, other) = (made("*.example.com"), made("example.org"));
        let (key, strange) = (one.signing_key.serialize_pem(), other.signing_key.serialize_pem());
        let pair = Pair::of(one.cert.pem(), key.clone()).unwrap();
        assert!(pair.is_for("panel.example.com"));
        for host in ["example.com", "a.b.example.com", "panel.example.org", "", "*"] {
            assert!(!pair.is_for(host), "{host}");
        }
        assert!(!format!("{pair:?}").contains("PRIVATE"));
        assert!(Pair::of(one.cert.pem(), strange).is_err(), "another's key");
        assert!(Pair::of("nothing".into(), key).unwrap_err().contains("whole chain"));
        assert!(Pair::of(one.cert.pem(), String::new()).is_err());
        let missing = Pair::read(Path::new("/nowhere.pem"), Path::new("/nowhere.key")).unwrap_err();
        assert!(missing.contains("/nowhere.pem"), "{missing}");
    }
}
