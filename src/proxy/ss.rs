//! Connections that stand open on this machine, as `ss` of iproute2 tells them.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::process::{Output, Stdio};
use std::time::Duration;
use tokio::process::Command;
use tokio::time::timeout;

/// Longest time that `ss` may take.
const PATIENCE: Duration = Duration::from_secs(5);
const NAME: &str = "ss";

/// `ss` over connections of TCP; `of` is its filter.
///
/// # Errors
/// When it is not there, or does not come to an end.
pub(super) async fn ss(flags: &[&str], of: &[&str]) -> Result<Output, String> {
    ss_by(NAME, flags, of).await
}

pub(super) async fn ss_by(program: &str, flags: &[&str], of: &[&str]) -> Result<Output, String> {
    let mut command = Command::new(program);
    command.args(["--no-header", "--tcp", "--numeric"]).args(flags).args(["state", "connected", "exclude", "time-wait"]).args(of);
    command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path))).stdin(Stdio::null()).kill_on_drop(true);
    match timeout(PATIENCE, command.output()).await {
        Err(_) => Err("'ss' does not come to an end".into()),
        Ok(Err(e)) if e.kind() == ErrorKind::NotFound => Err("there is no 'ss' in PATH: install iproute2".into()),
        Ok(Err(e)) => Err(format!("'ss' does not start: {e}")),
        Ok(Ok(done)) => Ok(done),
    }
}

/// The ends of a connection, the near one first. The far one is an address of IPv4 also where a socket of IPv6 is used.
pub(super) fn ends(line: &str) -> Option<(&str, SocketAddr)> {
    let mut words = line.split_whitespace().skip(3);
    let (near, far) = (words.next()?, words.next()?.parse::<SocketAddr>().ok()?);
    Some((near, SocketAddr::new(far.ip().to_canonical(), far.port())))
}
