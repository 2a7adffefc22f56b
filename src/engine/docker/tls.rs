//! Mutual TLS from PEM in memory, and words for what goes wrong with it.

use super::connect::TlsIdentity;
use crate::engine::{Cause, EngineError, Told};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error, PeerIncompatible, RootCertStore,
    SignatureScheme,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// The end of the year 9999: whatever is asked at that time has ended, and the refusal says when.
const NEVER: Duration = Duration::from_secs(253_402_300_799);

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

/// When the certificates of a connection end, in seconds since 1970.
#[derive(Debug)]
pub(super) struct Ends {
    /// The first of those we were given: ours, and the authorities'. Engines judge ours by the authority's end as well.
    given: Option<i64>,
    /// As of the last handshake; zero before the first.
    server: AtomicI64,
}

impl Ends {
    /// The first of all.
    pub(super) fn first(&self) -> Option<i64> {
        let server = Some(self.server.load(Ordering::Relaxed)).filter(|at| *at > 0);
        self.given.into_iter().chain(server).min()
    }
}

/// TLS settings for a connection, and when its certificates end. An error names the PEM that cannot be used; a certificate of
/// ours that has ended is not even shown to the engine.
pub(super) fn client_config(identity: TlsIdentity<'_>) -> Result<(ClientConfig, Arc<Ends>), EngineError> {
    let chain = certificates("cert", identity.cert)?;
    let key = PrivateKeyDer::from_pem_slice(identity.key).map_err(|e| bad("key", e))?;
    let ends = Arc::new(Ends { given: first_end(identity), server: AtomicI64::new(0) });
    let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots(identity)?), provider()).build();
    let verifier = Noting { inner: inner.map_err(|e| bad("ca", e))?, ends: Arc::clone(&ends) };
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|e| bad("settings", e))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(chain, key)
        .map_err(|e| bad("cert and key", e))?;
    match own_problem(identity) {
        Some(problem) if of_time(&problem) => Err(EngineError::Denied(client_problem("", Some(problem)))),
        _ => Ok((config, ends)),
    }
}

/// The usual check of the engine's certificate; it notes when that ends.
#[derive(Debug)]
struct Noting {
    inner: Arc<WebPkiServerVerifier>,
    ends: Arc<Ends>,
}

impl ServerCertVerifier for Noting {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let at = |time| self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, time);
        let verified = at(now)?;
        if let Err(Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) =
            at(UnixTime::since_unix_epoch(NEVER))
        {
            self.ends.server.store(seconds(not_after), Ordering::Relaxed);
        }
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

fn seconds(time: UnixTime) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

/// A moment as people read it.
fn date(time: UnixTime) -> String {
    jiff::Timestamp::from_second(seconds(time)).map(|t| t.to_string()).unwrap_or_default()
}

/// When the first of the certificates that we were given ends.
fn first_end(identity: TlsIdentity<'_>) -> Option<i64> {
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(identity).ok()?), provider()).build().ok()?;
    let given = [certificates("ca", identity.ca), certificates("cert", identity.cert)];
    let end =
        |certificate: CertificateDer<'_>| match verifier.verify_client_cert(&certificate, &[], UnixTime::since_unix_epoch(NEVER))
        {
            Err(Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => Some(seconds(not_after)),
            _ => None,
        };
    given.into_iter().flatten().flatten().filter_map(end).min()
}

/// What is wrong with our own certificate for every engine. Engines answer most refusals with the same alert; this finds the reason.
/// Whom an engine trusts is not known: its own certificate may be of another authority than those of its callers.
fn own_problem(identity: TlsIdentity<'_>) -> Option<CertificateError> {
    let chain = certificates("cert", identity.cert).ok()?;
    let roots = Arc::new(roots(identity).ok()?);
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider()).build().ok()?;
    let (own, intermediates) = chain.split_first()?;
    match verifier.verify_client_cert(own, intermediates, UnixTime::now()) {
        Err(Error::InvalidCertificate(problem)) => Some(problem).filter(|p| of_time(p) || of_purpose(p)),
        _ => None,
    }
}

/// Whether it is one that is not for clients.
fn of_purpose(problem: &CertificateError) -> bool {
    matches!(problem, CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. })
}

/// Whether it is for everybody that a certificate is no good now, whomever they trust.
fn of_time(problem: &CertificateError) -> bool {
    use CertificateError as E;
    matches!(problem, E::Expired | E::ExpiredContext { .. } | E::NotValidYet | E::NotValidYetContext { .. })
}

/// Says what a failed handshake means and what to do.
pub(super) fn explain(error: &Error, identity: TlsIdentity<'_>) -> Told {
    match error {
        Error::InvalidCertificate(problem) => server_problem(problem),
        Error::AlertReceived(AlertDescription::ProtocolVersion)
        | Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13) => {
            let words = "it offers TLS 1.1 or older, and 1.2 is the oldest that is safe: bring dockerd, or what ends TLS before it, up to date";
            Told::of(Cause::TlsTooOld, words)
        }
        Error::AlertReceived(alert) => client_problem(&format!(" (TLS alert {alert:?})"), own_problem(identity)),
        Error::InvalidMessage(_) => {
            let words = format!(
                "it does not speak TLS on this port, but plain HTTP or something else ({error}); start dockerd with --tlsverify, or \
                 correct the port"
            );
            Told::of(Cause::TlsMissing, words)
        }
        other => Told::of(Cause::TlsFailed, format!("the TLS handshake failed: {other}")),
    }
}

/// A connection that was cut where an engine would look at our certificate: what is wrong with that, if anything is.
pub(super) fn cut(identity: TlsIdentity<'_>) -> Option<Told> {
    own_problem(identity).map(|problem| client_problem("", Some(problem)))
}

fn server_problem(problem: &CertificateError) -> Told {
    use CertificateError as E;
    let (cause, what, next) = match problem {
        E::UnknownIssuer | E::BadSignature => (
            Cause::ServerCertificateUnknownAuthority,
            "is not signed by the CA given".to_owned(),
            "use the CA that signed the engine's certificate as 'ca'; if nothing was changed, somebody else may be answering",
        ),
        E::NotValidForNameContext { expected, presented } => (
            Cause::ServerCertificateWrongName,
            format!("is for other names: asked for was {}, it is for {}", expected.to_str(), named(presented)),
            "make it anew with this host as a subject alternative name, or correct the host",
        ),
        E::NotValidForName => (
            Cause::ServerCertificateWrongName,
            "is for other names".to_owned(),
            "make it anew with this host as a subject alternative name, or correct the host",
        ),
        E::ExpiredContext { not_after, .. } => (
            Cause::ServerCertificateExpired,
            format!("has expired on {}", date(*not_after)),
            "make a new one and restart dockerd",
        ),
        E::Expired => (Cause::ServerCertificateExpired, "has expired".to_owned(), "make a new one and restart dockerd"),
        E::NotValidYetContext { not_before, .. } => (
            Cause::ServerCertificateNotYetValid,
            format!("is not valid before {}", date(*not_before)),
            "compare the clocks of both hosts",
        ),
        E::NotValidYet => {
            (Cause::ServerCertificateNotYetValid, "is not valid yet".to_owned(), "compare the clocks of both hosts")
        }
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => (
            Cause::ServerCertificateRefused,
            "is not a server certificate".to_owned(),
            "make it with the extended key usage 'serverAuth'",
        ),
        other => (Cause::ServerCertificateRefused, format!("is not accepted ({other})"), "make a new one"),
    };
    Told::of(cause, format!("the engine's certificate {what}; {next}"))
}

/// Names of a certificate, as people write them: rustls gives `DnsName("rack-1")` and `IpAddress(10.0.0.7)`.
fn named(presented: &[String]) -> String {
    let inner = |name: &String| {
        let inside = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
        inside.trim_matches('"').to_owned()
    };
    let all: Vec<String> = presented.iter().map(inner).collect();
    if all.is_empty() { "none".to_owned() } else { all.join(", ") }
}

fn client_problem(said: &str, own: Option<CertificateError>) -> Told {
    use CertificateError as E;
    let anew = "make a new client certificate and put it into the Secret";
    let (cause, what, next) = match own {
        Some(E::ExpiredContext { not_after, .. }) => {
            (Cause::ClientCertificateExpired, format!("it has expired on {}", date(not_after)), anew)
        }
        Some(E::Expired) => (Cause::ClientCertificateExpired, "it has expired".to_owned(), anew),
        Some(E::NotValidYetContext { not_before, .. }) => (
            Cause::ClientCertificateNotYetValid,
            format!("it is not valid before {}", date(not_before)),
            "compare the clocks of both hosts",
        ),
        Some(E::NotValidYet) => {
            (Cause::ClientCertificateNotYetValid, "it is not valid yet".to_owned(), "compare the clocks of both hosts")
        }
        Some(E::InvalidPurpose | E::InvalidPurposeContext { .. }) => (
            Cause::ClientCertificateRefused,
            "most likely it is not a client certificate".to_owned(),
            "make it with the extended key usage 'clientAuth'",
        ),
        _ => (
            Cause::ClientCertificateRefused,
            "most likely it is not signed by the CA the engine trusts".to_owned(),
            "use a certificate signed by the CA of dockerd's --tlscacert",
        ),
    };
    Told::of(cause, format!("the engine refuses our client certificate{said}: {what}; {next}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, date_time_ymd};

    fn authority(year: i32) -> CertifiedIssuer<'static, KeyPair> {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_after = date_time_ymd(year, 1, 1);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    fn of(ca: &CertifiedIssuer<'static, KeyPair>, usage: ExtendedKeyUsagePurpose, year: i32) -> (String, String) {
        let mut params = CertificateParams::new([]).unwrap();
        (params.extended_key_usages, params.not_after) = (vec![usage], date_time_ymd(year, 1, 1));
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, ca).unwrap().pem(), key.serialize_pem())
    }

    #[test]
    fn a_cut_connection_is_blamed_on_our_certificate_only_for_what_is_wrong_with_it_whomever_an_engine_trusts() {
        let (its, other) = (authority(4000), authority(4000));
        for (by, usage, cause) in [
            (&other, ExtendedKeyUsagePurpose::ClientAuth, None),
            (&its, ExtendedKeyUsagePurpose::ClientAuth, None),
            (&its, ExtendedKeyUsagePurpose::ServerAuth, Some(Cause::ClientCertificateRefused)),
        ] {
            let ((cert, key), ca) = (of(by, usage, 4000), its.pem());
            let told = cut(TlsIdentity { ca: ca.as_bytes(), cert: cert.as_bytes(), key: key.as_bytes() });
            assert_eq!(told.and_then(|t| t.cause), cause);
        }
    }

    #[test]
    fn the_first_to_end_is_known_of_all_that_is_given() {
        let year = |year: i16| jiff::civil::date(year, 1, 1).to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp().as_second();
        let ends = |cas: &[i32], own: &[i32]| {
            let all: Vec<_> = cas.iter().map(|year| authority(*year)).collect();
            let ca: String = all.iter().map(|ca| ca.pem()).collect();
            let (cert, key) = of(&all[0], ExtendedKeyUsagePurpose::ClientAuth, own[0]);
            let cert: String = own[1..].iter().fold(cert, |cert, year| cert + &authority(*year).pem());
            let identity = TlsIdentity { ca: ca.as_bytes(), cert: cert.as_bytes(), key: key.as_bytes() };
            client_config(identity).unwrap().1.first()
        };
        assert_eq!(ends(&[4000], &[3000]), Some(year(3000)), "ours");
        assert_eq!(ends(&[3000], &[4000]), Some(year(3000)), "the authority's");
        assert_eq!(ends(&[4000, 3000], &[5000]), Some(year(3000)), "another authority's");
        assert_eq!(ends(&[4000], &[5000, 3000]), Some(year(3000)), "one of the chain");
    }
}
