//! A certificate for Traefik to show where it has no better one.

use super::dynamic::CertificateFiles;

/// Makes a self-signed P-256 certificate with a fresh key, as PEM text. It vouches for nothing and its name is
/// reserved (RFC 2606): it only spares Traefik making one at every change.
///
/// # Errors
/// When the system gives no random bytes.
pub fn self_signed() -> Result<CertificateFiles, rcgen::Error> {
    let made = rcgen::generate_simple_self_signed(vec!["default.devsanctum.invalid".to_owned()])?;
    Ok(CertificateFiles { cert_file: made.cert.pem(), key_file: made.signing_key.serialize_pem() })
}
