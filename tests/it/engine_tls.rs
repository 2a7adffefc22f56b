//! Engines over TCP with TLS: what works, and what is said when it does not.

use crate::support::bare;
use crate::support::dockerd::{Dockerd, Options, TINY};
use crate::support::ports::free_address;
use devsanctum::engine::docker::DockerEngine;
use devsanctum::engine::*;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, date_time_ymd};
use std::process::{Child, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

pub type Ca = CertifiedIssuer<'static, KeyPair>;

pub fn authority(name: &str) -> Ca {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Certificate and key, PEM.
fn certificate(ca: &Ca, names: &[&str], usage: ExtendedKeyUsagePurpose, expired: bool) -> (String, String) {
    lasting(ca, names, usage, if expired { (2020, 2021) } else { (2000, 4000) })
}

/// The same, from the beginning of a year to that of another.
fn lasting(ca: &Ca, names: &[&str], usage: ExtendedKeyUsagePurpose, (from, to): (i32, i32)) -> (String, String) {
    let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.extended_key_usages = vec![usage];
    (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, ca).unwrap().pem(), key.serialize_pem())
}

/// A folder with what a daemon at this address needs.
pub fn server_pem(ca: &Ca, address: &str, expired: bool) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = certificate(ca, &[address], ExtendedKeyUsagePurpose::ServerAuth, expired);
    for (name, pem) in [("ca.pem", ca.pem()), ("server.pem", cert), ("server-key.pem", key)] {
        std::fs::write(dir.path().join(name), pem).unwrap();
    }
    dir
}

struct Site {
    ca: Ca,
    port: u16,
    expired_port: u16,
    daemon: Dockerd,
    _expired: Dockerd,
}

/// One daemon with a good certificate and one with an expired one, for all tests here.
fn site() -> &'static Site {
    static SITE: OnceLock<Site> = OnceLock::new();
    SITE.get_or_init(|| {
        let ca = authority("engine authority");
        let start = |port: u16, expired: bool| {
            let dir = server_pem(&ca, "127.0.0.1", expired);
            let tls = Some((dir.path().to_owned(), port));
            Dockerd::start(&Options { shared_network: true, no_firewall: true, tls, ..Options::default() })
        };
        let (port, expired_port) = (free_address().port(), free_address().port());
        let (daemon, expired) = (start(port, false), start(expired_port, true));
        daemon.tiny_image();
        Site { ca, port, expired_port, daemon, _expired: expired }
    })
}

pub fn client(ca: &Ca, expired: bool) -> (String, String) {
    certificate(ca, &["client"], ExtendedKeyUsagePurpose::ClientAuth, expired)
}

fn engine(host: &str, port: u16, ca: &str, (cert, key): (String, String)) -> Result<DockerEngine, EngineError> {
    let (ca, cert, key) = (ca.as_bytes().to_vec(), cert.into_bytes(), key.into_bytes());
    DockerEngine::at(Endpoint::Tls { host: host.into(), port, ca, cert, key }, "tls")
}

/// The words of a refusal with this name; anything else fails the test.
async fn denied(engine: Result<DockerEngine, EngineError>, cause: Cause) -> String {
    let told = match engine {
        Ok(engine) => engine.info().await.map(drop),
        Err(e) => Err(e),
    };
    match told {
        Err(EngineError::Denied(told)) if told.cause == Some(cause) => told.to_string(),
        other => panic!("not denied as {cause:?}: {other:?}"),
    }
}

/// The words about an engine that does not answer, with this name.
async fn silent(engine: DockerEngine, cause: Cause) -> String {
    match engine.info().await {
        Err(EngineError::Unreachable(told)) if told.cause == Some(cause) => told.to_string(),
        other => panic!("not unreachable as {cause:?}: {other:?}"),
    }
}

/// OpenSSL's own server, which shows a certificate and knows older protocols than any engine today.
struct Peer {
    child: Child,
    port: u16,
    _pem: tempfile::TempDir,
}

impl Peer {
    fn start((cert, key): (String, String), more: &[&str]) -> Self {
        let (pem, address) = (tempfile::tempdir().unwrap(), free_address());
        std::fs::write(pem.path().join("cert"), cert).unwrap();
        std::fs::write(pem.path().join("key"), key).unwrap();
        let mut command = bare("openssl");
        command.args(["s_server", "-quiet", "-accept", &address.to_string(), "-cert"]).arg(pem.path().join("cert"));
        command.arg("-key").arg(pem.path().join("key")).args(more);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let begun = Instant::now();
        while std::net::TcpStream::connect(address).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(10), "openssl does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { child, port: address.port(), _pem: pem }
    }

    /// What an engine of ours says that finds it where dockerd should be.
    async fn met_by(&self, ca: &Ca, cause: Cause) -> String {
        denied(engine("127.0.0.1", self.port, &ca.pem(), client(ca, false)), cause).await
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Something that answers every connection with these words.
async fn saying(words: &'static str) -> u16 {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = socket.read(&mut [0; 512]).await;
                let _ = socket.write_all(words.as_bytes()).await;
            });
        }
    });
    port
}

#[tokio::test]
async fn the_right_certificate_opens_the_engine_for_calls_and_commands() {
    let site = site();
    let engine = engine("127.0.0.1", site.port, &site.ca.pem(), client(&site.ca, false)).unwrap();
    engine.info().await.unwrap();
    let name = "tls-exec";
    let id = site.daemon.docker(&["run", "-d", "--rm", "--network=none", "--name", name, TINY, "sleep", "1000"]);
    let id = ContainerId::parse(&id).unwrap();
    let output = engine.exec_output(&id, &["echo", "over tls"].map(str::to_owned), 100).await.unwrap();
    assert_eq!(output.stdout, b"over tls\n");
    site.daemon.docker(&["kill", name]);
}

#[tokio::test]
async fn an_engine_of_another_authority_is_not_trusted() {
    let site = site();
    let other = authority("someone else");
    let found = engine("127.0.0.1", site.port, &other.pem(), client(&other, false));
    let words = denied(found, Cause::ServerCertificateUnknownAuthority).await;
    assert!(words.contains("engine's certificate is not signed by the CA given"), "{words}");
}

#[tokio::test]
async fn an_engine_under_another_name_is_not_trusted() {
    let site = site();
    let found = engine("localhost", site.port, &site.ca.pem(), client(&site.ca, false));
    let words = denied(found, Cause::ServerCertificateWrongName).await;
    assert!(words.contains("asked for was localhost, it is for 127.0.0.1;"), "{words}");
}

#[tokio::test]
async fn an_engine_with_an_expired_certificate_is_not_trusted() {
    let site = site();
    let found = engine("127.0.0.1", site.expired_port, &site.ca.pem(), client(&site.ca, false));
    let words = denied(found, Cause::ServerCertificateExpired).await;
    assert!(words.contains("engine's certificate has expired on 2021-01-01"), "{words}");
}

#[tokio::test]
async fn an_engine_whose_certificate_has_not_begun_or_is_a_client_s_is_not_trusted() {
    let ca = authority("x");
    let of = |usage, years| lasting(&ca, &["127.0.0.1"], usage, years);
    let early = Peer::start(of(ExtendedKeyUsagePurpose::ServerAuth, (3000, 3001)), &[]);
    let words = early.met_by(&ca, Cause::ServerCertificateNotYetValid).await;
    assert!(words.contains("not valid before 3000-01-01") && words.contains("clocks"), "{words}");
    let wrong = Peer::start(of(ExtendedKeyUsagePurpose::ClientAuth, (2000, 4000)), &[]);
    let words = wrong.met_by(&ca, Cause::ServerCertificateRefused).await;
    assert!(words.contains("not a server certificate"), "{words}");
}

#[tokio::test]
async fn tls_that_is_too_old_is_named() {
    let ca = authority("x");
    let good = certificate(&ca, &["127.0.0.1"], ExtendedKeyUsagePurpose::ServerAuth, false);
    for version in ["-tls1", "-tls1_1"] {
        let old = Peer::start(good.clone(), &[version, "-cipher", "ALL:@SECLEVEL=0"]);
        let words = old.met_by(&ca, Cause::TlsTooOld).await;
        assert!(words.contains("TLS 1.1 or older"), "{version}: {words}");
    }
}

#[tokio::test]
async fn a_client_certificate_of_another_authority_is_told() {
    let site = site();
    let found = engine("127.0.0.1", site.port, &site.ca.pem(), client(&authority("x"), false));
    let words = denied(found, Cause::ClientCertificateRefused).await;
    assert!(words.contains("refuses our client certificate") && words.contains("not signed by the CA"), "{words}");
}

#[tokio::test]
async fn a_client_certificate_out_of_its_time_is_told_without_asking_anybody() {
    let ca = authority("x");
    for (years, cause, told) in [
        ((2020, 2021), Cause::ClientCertificateExpired, "it has expired on 2021-01-01"),
        ((3000, 3001), Cause::ClientCertificateNotYetValid, "not valid before 3000-01-01"),
    ] {
        let own = lasting(&ca, &["client"], ExtendedKeyUsagePurpose::ClientAuth, years);
        let refused = engine("192.0.2.1", 1, &ca.pem(), own).err().unwrap();
        let words = denied(Err(refused), cause).await;
        assert!(words.contains("refuses our client certificate") && words.contains(told), "{words}");
    }
}

#[tokio::test]
async fn a_server_certificate_in_a_client_s_place_is_told() {
    let site = site();
    let wrong = certificate(&site.ca, &["x"], ExtendedKeyUsagePurpose::ServerAuth, false);
    let words = denied(engine("127.0.0.1", site.port, &site.ca.pem(), wrong), Cause::ClientCertificateRefused).await;
    assert!(words.contains("not a client certificate"), "{words}");
}

#[tokio::test]
async fn when_the_first_certificate_ends_is_known() {
    let site = site();
    let ends = async |years| {
        let own = lasting(&site.ca, &["client"], ExtendedKeyUsagePurpose::ClientAuth, years);
        engine("127.0.0.1", site.port, &site.ca.pem(), own).unwrap().info().await.unwrap().certificate_ends
    };
    let year = |year: i16| Some(jiff::civil::date(year, 1, 1).to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp().as_second());
    assert_eq!(ends((2000, 3000)).await, year(3000), "ours");
    assert_eq!(ends((2000, 5000)).await, year(4000), "the engine's");
    let socket = DockerEngine::at(Endpoint::Unix(site.daemon.socket()), "tls").unwrap().info().await.unwrap();
    assert_eq!(socket.certificate_ends, None);
}

#[tokio::test]
async fn an_engine_says_what_it_works_with() {
    let info = DockerEngine::at(Endpoint::Unix(site().daemon.socket()), "tls").unwrap().info().await.unwrap();
    assert!(["containerd", "runc"].iter().all(|part| info.components.contains_key(*part)), "{info:?}");
}

#[tokio::test]
async fn plain_http_to_a_tls_engine_is_told() {
    let endpoint = Endpoint::Tcp { host: "127.0.0.1".into(), port: site().port };
    let words = denied(DockerEngine::at(endpoint, "tls"), Cause::TlsRequired).await;
    assert!(words.contains("wants TLS"), "{words}");
}

#[tokio::test]
async fn tls_to_what_speaks_none_is_told_and_an_open_engine_is_called_so() {
    let ca = authority("x");
    let port = saying("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
    let words = denied(engine("127.0.0.1", port, &ca.pem(), client(&ca, false)), Cause::TlsMissing).await;
    assert!(words.contains("does not speak TLS"), "{words}");
    // A real engine on TCP without TLS.
    let (socket, listener) = (site().daemon.socket(), tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap());
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut from, _)) = listener.accept().await {
            let mut to = tokio::net::UnixStream::connect(&socket).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut from, &mut to).await });
        }
    });
    let words = denied(engine("127.0.0.1", port, &ca.pem(), client(&ca, false)), Cause::TlsMissing).await;
    assert!(words.contains("a Docker Engine answers there in plain HTTP"), "{words}");
}

#[tokio::test]
async fn engines_that_are_too_old_and_what_is_no_engine_are_told() {
    let plain = |port| DockerEngine::at(Endpoint::Tcp { host: "127.0.0.1".into(), port }, "tls");
    let old = "HTTP/1.1 200 OK\r\nApi-Version: 1.38\r\nServer: Docker/18.06.3-ce (linux)\r\nContent-Length: 2\r\n\r\nOK";
    let words = denied(plain(saying(old).await), Cause::ApiTooOld).await;
    assert!(words.contains("Docker/18.06.3-ce (linux) speaks API 1.38") && words.contains("API 1.41"), "{words}");
    for other in ["HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK", "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"] {
        let words = denied(plain(saying(other).await), Cause::NotDocker).await;
        assert!(words.contains("no Docker Engine"), "{words}");
    }
}

#[tokio::test]
async fn nobody_there_is_unreachable_and_says_where() {
    let ca = authority("x");
    let at = |host: &str, port| engine(host, port, &ca.pem(), client(&ca, false)).unwrap();
    let port = free_address().port();
    let words = silent(at("127.0.0.1", port), Cause::ConnectionRefused).await;
    assert!(words.contains("refused") && words.contains(&port.to_string()), "{words}");
    let words = silent(at("nowhere.invalid", port), Cause::HostUnknown).await;
    assert!(words.contains("nowhere.invalid"), "{words}");
    // It is connected to, and says nothing.
    let mute = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let words = silent(at("127.0.0.1", mute.local_addr().unwrap().port()), Cause::NoAnswer).await;
    assert!(words.contains("no answer within"), "{words}");
    let socket = DockerEngine::at(Endpoint::Unix("/nonexistent/docker.sock".into()), "tls").unwrap();
    let words = silent(socket, Cause::SocketMissing).await;
    assert!(words.contains("/nonexistent/docker.sock"), "{words}");
}

#[test]
fn each_name_is_in_the_documentation_of_servers() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/kinds/dockerserver.md")).unwrap();
    let missing: Vec<&str> = Cause::ALL.iter().map(|c| c.reason()).filter(|r| !page.contains(&format!("| `{r}` |"))).collect();
    assert!(missing.is_empty(), "not in the table of mends: {missing:?}");
}

#[tokio::test]
async fn material_that_cannot_be_used_is_named() {
    let (ca, other) = (authority("x"), authority("y"));
    let ((cert, key), (_, other_key)) = (client(&ca, false), client(&other, false));
    for (pem, pair, named) in [
        ("", (cert.clone(), key.clone()), "'s ca"),
        (ca.pem().as_str(), ("nonsense".into(), key.clone()), "'s cert"),
        (ca.pem().as_str(), (cert.clone(), "nonsense".into()), "'s key"),
        (ca.pem().as_str(), (cert, other_key), "'s cert and key"),
    ] {
        let error = engine("127.0.0.1", 1, pem, pair).err().unwrap();
        assert!(matches!(&error, EngineError::Invalid(t) if t.contains(named)), "{named}: {error:?}");
        assert!(!error.to_string().contains("PRIVATE"), "{error}");
    }
}
