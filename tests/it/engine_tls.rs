//! Engines over TCP with TLS: what works, and what is said when it does not.

use crate::support::dockerd::{Dockerd, Options, TINY};
use crate::support::ports::free_address;
use devsanctum::engine::docker::DockerEngine;
use devsanctum::engine::*;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, date_time_ymd};
use std::sync::OnceLock;

pub type Ca = CertifiedIssuer<'static, KeyPair>;

pub fn authority(name: &str) -> Ca {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Certificate and key, PEM.
fn certificate(ca: &Ca, names: &[&str], usage: ExtendedKeyUsagePurpose, expired: bool) -> (String, String) {
    let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.extended_key_usages = vec![usage];
    if expired {
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
    }
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

/// The words of a refusal; anything else fails the test.
async fn denied(engine: Result<DockerEngine, EngineError>) -> String {
    match engine.unwrap().info().await {
        Err(EngineError::Denied(words)) => words,
        other => panic!("not denied: {other:?}"),
    }
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
    let words = denied(engine("127.0.0.1", site.port, &other.pem(), client(&site.ca, false))).await;
    assert!(words.contains("engine's certificate is not signed by the CA given"), "{words}");
}

#[tokio::test]
async fn an_engine_under_another_name_is_not_trusted() {
    let site = site();
    let words = denied(engine("localhost", site.port, &site.ca.pem(), client(&site.ca, false))).await;
    assert!(words.contains("for another name") && words.contains("localhost"), "{words}");
}

#[tokio::test]
async fn an_engine_with_an_expired_certificate_is_not_trusted() {
    let site = site();
    let words = denied(engine("127.0.0.1", site.expired_port, &site.ca.pem(), client(&site.ca, false))).await;
    assert!(words.contains("engine's certificate has expired"), "{words}");
}

#[tokio::test]
async fn a_client_certificate_of_another_authority_is_told() {
    let site = site();
    let words = denied(engine("127.0.0.1", site.port, &site.ca.pem(), client(&authority("x"), false))).await;
    assert!(words.contains("refuses our client certificate") && words.contains("not signed by the CA"), "{words}");
}

#[tokio::test]
async fn an_expired_client_certificate_is_told() {
    let site = site();
    let words = denied(engine("127.0.0.1", site.port, &site.ca.pem(), client(&site.ca, true))).await;
    assert!(words.contains("refuses our client certificate") && words.contains("it has expired"), "{words}");
}

#[tokio::test]
async fn a_server_certificate_in_a_client_s_place_is_told() {
    let site = site();
    let wrong = certificate(&site.ca, &["x"], ExtendedKeyUsagePurpose::ServerAuth, false);
    let words = denied(engine("127.0.0.1", site.port, &site.ca.pem(), wrong)).await;
    assert!(words.contains("not a client certificate"), "{words}");
}

#[tokio::test]
async fn plain_http_to_a_tls_engine_is_told() {
    let endpoint = Endpoint::Tcp { host: "127.0.0.1".into(), port: site().port };
    let words = denied(DockerEngine::at(endpoint, "tls")).await;
    assert!(words.contains("wants TLS"), "{words}");
}

#[tokio::test]
async fn tls_to_a_plain_engine_is_told() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        while let Ok((mut socket, _)) = listener.accept().await {
            let _ = socket.read(&mut [0; 512]).await;
            let _ = socket.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
        }
    });
    let ca = authority("x");
    let words = denied(engine("127.0.0.1", port, &ca.pem(), client(&ca, false))).await;
    assert!(words.contains("does not speak TLS"), "{words}");
}

#[tokio::test]
async fn nobody_there_is_unreachable_and_says_where() {
    let ca = authority("x");
    let port = free_address().port();
    let error = engine("127.0.0.1", port, &ca.pem(), client(&ca, false)).unwrap().info().await.unwrap_err();
    assert!(matches!(&error, EngineError::Unreachable(t) if t.contains("refused") && t.contains(&port.to_string())), "{error:?}");
    let socket = DockerEngine::at(Endpoint::Unix("/nonexistent/docker.sock".into()), "tls").unwrap();
    let error = socket.info().await.unwrap_err();
    assert!(matches!(&error, EngineError::Unreachable(t) if t.contains("/nonexistent/docker.sock")), "{error:?}");
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
