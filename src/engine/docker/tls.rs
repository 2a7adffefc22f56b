//! Mutual TLS from PEM in memory, and words for what goes wrong with it.

use super::connect::TlsIdentity;
use crate::engine::EngineError;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore};
use std::sync::Arc;

/// The provider is given explicitly: a process-wide default could be another one.
fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn bad(what: &str, why: impl std::fmt::Display) -> EngineError {
    EngineError::Invalid(format!("the TLS material's {what} cannot be used: {why}"))
}

fn certificates(what: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, EngineError> {
    let all: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|e| bad(what, e))?;
    if all.is_empty() {
        return Err(bad(what, "there is no '-----BEGIN CERTIFICATE-----' block in it"));
    }
    Ok(all)
}

fn roots(identity: TlsIdentity<'_>) -> Result<RootCertStore, EngineError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates("ca", identity.ca)? {
        store.add(certificate).map_err(|e| bad("ca", e))?;
    }
    Ok(store)
}

/// TLS settings for a connection; an error names the PEM that cannot be used.
pub(super) fn client_config(identity: TlsIdentity<'_>) -> Result<ClientConfig, EngineError> {
    let chain = certificates("cert", identity.cert)?;
    let key = PrivateKeyDer::from_pem_slice(identity.key).map_err(|e| bad("key", e))?;
    ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|e| bad("settings", e))?
        .with_root_certificates(roots(identity)?)
        .with_client_auth_cert(chain, key)
        .map_err(|e| bad("cert and key", e))
}

/// What an engine that trusts the same authority would say of our own certificate. Engines answer most refusals
/// with the same alert; this finds the reason.
fn own_problem(identity: TlsIdentity<'_>) -> Option<CertificateError> {
    let chain = certificates("cert", identity.cert).ok()?;
    let roots = Arc::new(roots(identity).ok()?);
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider()).build().ok()?;
    let (own, intermediates) = chain.split_first()?;
    match verifier.verify_client_cert(own, intermediates, UnixTime::now()) {
        Err(rustls::Error::InvalidCertificate(problem)) => Some(problem),
        _ => None,
    }
}

/// Says what a failed handshake means and what to do.
pub(super) fn explain(error: &rustls::Error, identity: TlsIdentity<'_>) -> String {
    match error {
        rustls::Error::InvalidCertificate(problem) => server_problem(problem),
        rustls::Error::AlertReceived(alert) => client_problem(*alert, own_problem(identity)),
        rustls::Error::InvalidMessage(_) => {
            format!("it does not speak TLS on this port ({error}); start dockerd with --tlsverify, or turn TLS off here")
        }
        other => format!("the TLS handshake failed: {other}"),
    }
}

fn server_problem(problem: &CertificateError) -> String {
    use CertificateError as E;
    let (what, next) = match problem {
        E::UnknownIssuer | E::BadSignature => {
            ("is not signed by the CA given", "use the CA that signed the engine's certificate as 'ca'")
        }
        E::NotValidForName | E::NotValidForNameContext { .. } => {
            ("is for another name", "make it anew with this host as a subject alternative name")
        }
        E::Expired | E::ExpiredContext { .. } => ("has expired", "make a new one and restart dockerd"),
        E::NotValidYet | E::NotValidYetContext { .. } => ("is not valid yet", "compare the clocks of both hosts"),
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => {
            ("is not a server certificate", "make it with the extended key usage 'serverAuth'")
        }
        _ => ("is not accepted", "make a new one"),
    };
    format!("the engine's certificate {what} ({problem}); {next}")
}

fn client_problem(alert: AlertDescription, own: Option<CertificateError>) -> String {
    use CertificateError as E;
    let (what, next) = match own {
        Some(E::Expired | E::ExpiredContext { .. }) => ("it has expired", "make a new client certificate"),
        Some(E::NotValidYet | E::NotValidYetContext { .. }) => ("it is not valid yet", "compare the clocks of both hosts"),
        Some(E::InvalidPurpose | E::InvalidPurposeContext { .. }) => {
            ("it is not a client certificate", "make it with the extended key usage 'clientAuth'")
        }
        _ => ("it is not signed by the CA the engine trusts", "use a certificate signed by the CA of dockerd's --tlscacert"),
    };
    format!("the engine refuses our client certificate (TLS alert {alert:?}): most likely {what}; {next}")
}
