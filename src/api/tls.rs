//! The installation's own certificate authority, and serving the API over TLS with it.
//!
//! kubectl sends no token over plain HTTP, so the API always speaks TLS. The authority is made at the first
//! start and kept; the server's certificate is renewed from it before it expires or when its names change. Whoever calls it by a name
//! of a certificate that the administrator has given is shown that one.

use super::certificate::Pair;
use super::connections::{Bounds, Door};
use axum::Router;
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use hyper_util::rt::TokioTimer;
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::future::Future;
use std::io::{Error, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const CA_DAYS: i64 = 3650;
const SERVER_DAYS: i64 = 365;
const RENEW_WITHIN_DAYS: i64 = 30;
/// How often a running server looks whether its certificate is due.
const LOOK_EVERY: Duration = Duration::from_secs(24 * 3600);
/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// What one connection may ask for at once by HTTP/2, and how large its parts are, in bytes: a frame, all headers of a request, and
/// what waits to be sent of one answer. As many as Kubernetes allows; a client that wants more opens another connection by itself.
const STREAMS: u32 = 100;
const FRAME: u32 = 16 << 10;
const HEADERS: u32 = 16 << 10;
const UNSENT: usize = 128 << 10;
/// Answers that a client may take back before they have begun, and those that the server ends for its mistakes.
const RESETS: usize = 20;
const MISTAKES: usize = 100;
/// How long open requests may take after the stop was asked for.
const GRACE: Duration = Duration::from_secs(10);

/// What the server presents, and what its callers must trust.
pub struct Tls {
    /// The authority's certificate, PEM; it goes into kubeconfigs.
    pub ca_pem: String,
    config: RustlsConfig,
    sources: Sources,
    public: Option<Pair>,
}

/// Where what is presented comes from.
#[derive(Clone)]
struct Sources {
    dir: PathBuf,
    names: Vec<String>,
    public: Option<Files>,
}

/// Files of a certificate that others trust already, and of its key; PEM.
#[derive(Clone, Debug)]
pub struct Files {
    /// The chain.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// What is presented, by the name that is called.
struct Presented {
    own: Arc<CertifiedKey>,
    public: Option<(Pair, Arc<CertifiedKey>)>,
}

impl std::fmt::Debug for Presented {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Presented")
    }
}

impl ResolvesServerCert for Presented {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let called = |pair: &Pair| hello.server_name().is_some_and(|name| pair.is_for(name));
        let public = self.public.as_ref().filter(|(pair, _)| called(pair));
        Some(public.map_or(&self.own, |(_, key)| key).clone())
    }
}

impl Tls {
    /// Whether the server's certificate has this host name or address.
    pub fn is_named(&self, host: &str) -> bool {
        all_names(&self.sources.names).contains(host)
    }

    /// Whether a host is called with a certificate that others trust already.
    pub fn is_public(&self, host: &str) -> bool {
        self.public.as_ref().is_some_and(|pair| pair.is_for(host))
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

/// What the server's certificate says, beside it in a file so that it need not be parsed.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Issued {
    names: BTreeSet<String>,
    expires: jiff::Timestamp,
}

/// Loads the authority and the server's certificate from `dir`, making or renewing what is needed. `names` are
/// host names and addresses the server is reached by, beside the local ones; `public` is presented to who calls it by its names.
///
/// # Errors
/// When files cannot be read or written, or a name cannot stand in a certificate.
pub fn load_or_create(dir: &Path, names: &[String], public: Option<Files>, now: jiff::Timestamp) -> Result<Tls, Error> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let sources = Sources { dir: dir.to_owned(), names: names.to_owned(), public };
    let (ca_pem, public, config) = presented(&sources, now)?;
    Ok(Tls { ca_pem, config: RustlsConfig::from_config(config), sources, public })
}

/// What is to be presented at `now`, renewed where it is due.
fn presented(sources: &Sources, now: jiff::Timestamp) -> Result<(String, Option<Pair>, Arc<ServerConfig>), Error> {
    let dir = &sources.dir;
    let (ca_pem, issuer) = authority(dir, now)?;
    let names = all_names(&sources.names);
    let (cert, key, issued) = (dir.join("server.crt"), dir.join("server.key"), dir.join("server.json"));
    let held = std::fs::read(&issued).ok().and_then(|text| serde_json::from_slice::<Issued>(&text).ok());
    let soon = now + jiff::SignedDuration::from_hours(24 * RENEW_WITHIN_DAYS);
    if !held.is_some_and(|h| h.names == names && h.expires > soon) || !cert.exists() || !key.exists() {
        let expires = now + jiff::SignedDuration::from_hours(24 * SERVER_DAYS);
        let (cert_pem, key_pem) = issue(&issuer, &names, now, expires)?;
        // The description goes last: a crash in between leaves an old one, which asks for a renewal again.
        let _ = std::fs::remove_file(&issued);
        write(&key, key_pem.as_bytes())?;
        write(&cert, cert_pem.as_bytes())?;
        write(&issued, &serde_json::to_vec(&Issued { names, expires })?)?;
    }
    let read = |cert: &Path, key: &Path| Pair::read(cert, key).map_err(Error::other);
    let public = sources.public.as_ref().map(|files| read(&files.cert, &files.key)).transpose()?;
    let config = server_config(&read(&cert, &key)?, public.as_ref())?;
    Ok((ca_pem, public, Arc::new(config)))
}

/// Renews the certificate of a running server in place, for as long as it is polled: connections made from then on get
/// the new one. A failure is tried again the next day, weeks before the old one expires.
async fn keep_renewed(tls: &Tls) -> Infallible {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let sources = tls.sources.clone();
        let found = tokio::task::spawn_blocking(move || presented(&sources, jiff::Timestamp::now())).await;
        match found.map_err(Error::other).flatten() {
            Ok((_, _, config)) => tls.config.reload_from_config(config),
            Err(e) => tracing::error!(error = %e, folder = %tls.sources.dir.display(), "the API's certificate cannot be renewed"),
        }
    }
}

/// Serves `router` until `shutdown` resolves; then no new connections are taken and open requests get a grace
/// time. Watches must be ended by the same signal, through [`super::ApiState::shutdown`].
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    tls: &Tls,
    bounds: Bounds,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Error> {
    listener.set_nonblocking(true)?;
    let handle = Handle::new();
    let stop = handle.clone();
    let waiting = tokio::spawn(async move {
        shutdown.await;
        stop.graceful_shutdown(Some(GRACE));
    });
    let silent = bounds.silent;
    let mut server = axum_server::from_tcp_rustls(listener, tls.config.clone())?
        .map(|tls| Door::new(tls.handshake_timeout(silent.min(HANDSHAKE)), bounds));
    // Without a timer, who connects and says nothing, or half of something, is waited for without end.
    server.http_builder().http1().timer(TokioTimer::new()).header_read_timeout(silent);
    let mut http2 = server.http_builder().http2();
    http2.timer(TokioTimer::new()).keep_alive_interval(silent).keep_alive_timeout(silent);
    http2.max_concurrent_streams(STREAMS).max_frame_size(FRAME).max_header_list_size(HEADERS).max_send_buf_size(UNSENT);
    http2.max_pending_accept_reset_streams(RESETS).max_local_error_reset_streams(MISTAKES);
    let served = tokio::select! {
        served = server.handle(handle).serve(router.into_make_service_with_connect_info::<SocketAddr>()) => served,
        never = keep_renewed(tls) => match never {},
    };
    waiting.abort();
    served
}

fn authority(dir: &Path, now: jiff::Timestamp) -> Result<(String, Issuer<'static, KeyPair>), Error> {
    let (cert, key) = (dir.join("ca.crt"), dir.join("ca.key"));
    let params = || -> Result<CertificateParams, Error> {
        let mut params = CertificateParams::new(Vec::new()).map_err(Error::other)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.distinguished_name.push(DnType::CommonName, "DevSanctum CA");
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        valid_until(&mut params, now, now + jiff::SignedDuration::from_hours(24 * CA_DAYS));
        Ok(params)
    };
    if !cert.exists() || !key.exists() {
        let pair = KeyPair::generate().map_err(Error::other)?;
        let made = params()?.self_signed(&pair).map_err(Error::other)?;
        write(&key, pair.serialize_pem().as_bytes())?;
        write(&cert, made.pem().as_bytes())?;
    }
    let pair = KeyPair::from_pem(&std::fs::read_to_string(key)?).map_err(Error::other)?;
    Ok((std::fs::read_to_string(cert)?, Issuer::new(params()?, pair)))
}

fn issue(
    issuer: &Issuer<'static, KeyPair>,
    names: &BTreeSet<String>,
    now: jiff::Timestamp,
    expires: jiff::Timestamp,
) -> Result<(String, String), Error> {
    let mut params = CertificateParams::new(names.iter().cloned().collect::<Vec<_>>()).map_err(Error::other)?;
    params.distinguished_name.push(DnType::CommonName, "devsanctum");
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    valid_until(&mut params, now, expires);
    let pair = KeyPair::generate().map_err(Error::other)?;
    let cert = params.signed_by(&pair, issuer).map_err(Error::other)?;
    Ok((cert.pem(), pair.serialize_pem()))
}

fn all_names(extra: &[String]) -> BTreeSet<String> {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let own = ["localhost", "127.0.0.1", "::1", host.trim()].into_iter().map(str::to_owned);
    own.chain(extra.iter().cloned()).filter(|n| !n.is_empty()).collect()
}

fn server_config(own: &Pair, public: Option<&Pair>) -> Result<ServerConfig, Error> {
    let certified = |pair: &Pair| pair.certified().map(Arc::new).map_err(Error::other);
    let public = public.map(|pair| Ok::<_, Error>((pair.clone(), certified(pair)?))).transpose()?;
    let presented = Presented { own: certified(own)?, public };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = builder.map_err(Error::other)?.with_no_client_auth().with_cert_resolver(Arc::new(presented));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Writes a whole file, never readable by others.
fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let part = path.with_extension("part");
    let _ = std::fs::remove_file(&part);
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(part, path)?;
    path.parent().map_or(Ok(()), |folder| std::fs::File::open(folder)?.sync_all())
}

/// Valid from yesterday on, since clocks of callers differ.
fn valid_until(params: &mut CertificateParams, now: jiff::Timestamp, until: jiff::Timestamp) {
    let date = |at: jiff::Timestamp| {
        let date = at.to_zoned(jiff::tz::TimeZone::UTC).date();
        rcgen::date_time_ymd(date.year().into(), date.month().unsigned_abs(), date.day().unsigned_abs())
    };
    params.not_before = date(now - jiff::SignedDuration::from_hours(24));
    params.not_after = date(until);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn keys_are_private_and_the_authority_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tls");
        let now = jiff::Timestamp::now();
        let first = load_or_create(&path, &["api.example.com".into()], None, now).unwrap();
        assert_eq!(mode(&path), 0o700);
        assert_eq!(mode(&path.join("ca.key")), 0o600);
        assert_eq!(mode(&path.join("server.key")), 0o600);
        let key = std::fs::read(path.join("server.key")).unwrap();
        let again = load_or_create(&path, &["api.example.com".into()], None, now).unwrap();
        assert_eq!(first.ca_pem, again.ca_pem);
        assert_eq!(key, std::fs::read(path.join("server.key")).unwrap(), "a good certificate is kept");
    }

    #[test]
    fn the_certificate_is_renewed_for_new_names_and_before_it_expires() {
        let dir = tempfile::tempdir().unwrap();
        let now = jiff::Timestamp::now();
        let key = || std::fs::read(dir.path().join("server.key")).unwrap();
        let first = load_or_create(dir.path(), &[], None, now).unwrap();
        let one = key();
        load_or_create(dir.path(), &["new.example.com".into()], None, now).unwrap();
        let two = key();
        assert_ne!(one, two);
        let later = now + jiff::SignedDuration::from_hours(24 * (SERVER_DAYS - RENEW_WITHIN_DAYS + 1));
        let last = load_or_create(dir.path(), &["new.example.com".into()], None, later).unwrap();
        assert_ne!(two, key());
        assert_eq!(first.ca_pem, last.ca_pem);
    }

    #[tokio::test(start_paused = true)]
    async fn a_running_server_renews_its_certificate_once_a_day_where_it_is_due() {
        let dir = tempfile::tempdir().unwrap();
        let issued = |days: i64| {
            let at = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(24 * days);
            let tls = load_or_create(dir.path(), &[], None, at).unwrap();
            (tls, std::fs::read(dir.path().join("server.crt")).unwrap())
        };
        let (tls, due) = issued(SERVER_DAYS - RENEW_WITHIN_DAYS + 1);
        let presented = tls.config.get_inner();
        let _ = tokio::time::timeout(LOOK_EVERY / 2, keep_renewed(&tls)).await;
        assert!(Arc::ptr_eq(&presented, &tls.config.get_inner()), "not before a day has gone");
        let _ = tokio::time::timeout(LOOK_EVERY + LOOK_EVERY / 2, keep_renewed(&tls)).await;
        assert!(!Arc::ptr_eq(&presented, &tls.config.get_inner()), "new connections get the new one");
        assert_ne!(due, std::fs::read(dir.path().join("server.crt")).unwrap());
    }
}
