//! Is a Docker engine there that we may use, new enough, with the base image?

use super::Check;
use crate::cli::args::DoctorArgs;
use crate::cli::connect::Context;
use crate::cli::target;
use serde_json::Value;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

/// Oldest engine worked with (API 1.41).
const OLDEST: (u64, u64) = (20, 10);
/// Most bytes of an engine's answer.
const MAX_ANSWER: u64 = 4 << 20;

/// Checks the engine, and the base image on it.
pub async fn check(args: &DoctorArgs, context: Option<&Context>) -> Vec<Check> {
    let name = format!("Docker engine {}", args.docker);
    let version = match ask(&args.docker, "/version").await {
        Ok((200, body)) => body,
        Ok((code, _)) => {
            return vec![Check::bad(name, format!("answers with status {code}"), "check that this is a Docker engine")];
        }
        Err(e) => return vec![unreachable(name, &args.docker, &e)],
    };
    let text = version["Version"].as_str().unwrap_or_default();
    let mut checks = vec![match numbers(text) {
        Some(found) if found >= OLDEST => Check::good(name, format!("version {text}")),
        _ => Check::bad(name, format!("version {text}"), format!("install Docker Engine {}.{} or newer", OLDEST.0, OLDEST.1)),
    }];
    checks.extend(images(args, context).await);
    checks
}

fn unreachable(name: String, address: &str, error: &std::io::Error) -> Check {
    let mend = match error.kind() {
        std::io::ErrorKind::PermissionDenied => "add this user to the group `docker`, or run as root",
        std::io::ErrorKind::NotFound => {
            "install Docker and start it (`systemctl start docker`), or name its socket with --docker"
        }
        std::io::ErrorKind::ConnectionRefused => "start the engine (`systemctl start docker`)",
        _ if address.starts_with("unix://") => "look at the engine's log (`journalctl -u docker`)",
        _ => "check the address; engines that need TLS are checked by the control plane itself (`devsanctum get dockerservers`)",
    };
    Check::bad(name, format!("not reached: {error}"), mend)
}

async fn images(args: &DoctorArgs, context: Option<&Context>) -> Vec<Check> {
    let mut wanted: Vec<String> = args.image.iter().cloned().collect();
    if let (true, Some(context)) = (wanted.is_empty(), context) {
        let settings = async { context.get(target::kind("settings").ok()?, None, "default").await.ok()? };
        let images = settings.await.and_then(|s| s.pointer("/spec/images").cloned());
        wanted.extend(
            images.iter().filter_map(Value::as_object).flat_map(|i| i.values()).filter_map(|v| v.as_str().map(str::to_owned)),
        );
    }
    if wanted.is_empty() {
        return vec![Check::fair(
            "base image",
            "none is named",
            "name one with --image, or in the images of the record settings/default",
        )];
    }
    let mut checks = Vec::new();
    for image in wanted {
        let name = format!("base image {image}");
        if let Err(why) = crate::resource::names::image_reference(&image) {
            checks.push(Check::bad(name, why, "correct its name"));
            continue;
        }
        checks.push(match ask(&args.docker, &format!("/images/{image}/json")).await {
            Ok((200, _)) => Check::good(name, "on the engine"),
            Ok((404, _)) => Check::bad(
                name,
                "not on the engine",
                format!("`docker pull {image}`, or `docker load` it where no registry is reached"),
            ),
            Ok((code, _)) => Check::bad(name, format!("the engine answers with status {code}"), "look at the engine's log"),
            Err(e) => Check::bad(name, e.to_string(), "look at the engine's log"),
        });
    }
    checks
}

/// `20.10.24+dfsg1` as (20, 10).
fn numbers(version: &str) -> Option<(u64, u64)> {
    let mut parts = version.split(['.', '-', '+']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// One GET to the engine. HTTP/1.0 so that the answer simply ends: no other client is worth having here.
async fn ask(address: &str, path: &str) -> std::io::Result<(u16, Value)> {
    let wrong = || std::io::Error::new(std::io::ErrorKind::InvalidInput, "the address must be unix:///path or tcp://host:port");
    let asked = async {
        if let Some(socket) = address.strip_prefix("unix://") {
            return exchange(UnixStream::connect(socket).await?, path).await;
        }
        let host = address.strip_prefix("tcp://").or_else(|| address.strip_prefix("http://")).ok_or_else(wrong)?;
        exchange(TcpStream::connect(host.trim_end_matches('/')).await?, path).await
    };
    let late = || std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer within 10s");
    tokio::time::timeout(Duration::from_secs(10), asked).await.map_err(|_| late())?
}

async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, path: &str) -> std::io::Result<(u16, Value)> {
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: docker\r\n\r\n").as_bytes()).await?;
    let mut bytes = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut bytes).await?;
    let text = String::from_utf8_lossy(&bytes);
    let code = text.split(' ').nth(1).and_then(|c| c.parse().ok());
    let code = code.ok_or_else(|| std::io::Error::other("the answer is not HTTP"))?;
    let body = text.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
    Ok((code, serde_json::from_str(body).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(numbers("20.10.24+dfsg1"), Some((20, 10)));
        assert!(numbers("9.1").unwrap() < OLDEST && numbers("27.0.3").unwrap() >= OLDEST);
        assert_eq!(numbers("dev"), None);
    }

    #[tokio::test]
    async fn an_engine_is_asked_over_its_socket() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("d.sock");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 256];
            let _ = stream.read(&mut request).await.unwrap();
            stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n{\"Version\":\"20.10.24\"}").await.unwrap();
        });
        let (code, body) = ask(&format!("unix://{}", path.display()), "/version").await.unwrap();
        assert_eq!((code, body["Version"].as_str()), (200, Some("20.10.24")));
        let missing = ask("unix:///nonexistent.sock", "/version").await.unwrap_err();
        assert!(unreachable("x".into(), "unix://", &missing).mend.contains("start it"));
        assert!(ask("ssh://x", "/version").await.is_err());
    }
}
