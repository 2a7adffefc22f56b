//! Ends connections to workspaces that stand open on this machine. A proxy asks its gate when a connection begins, and never again: one
//! that was upgraded while its host was public, a WebSocket, would go on for as long as it likes.
//!
//! The kernel ends them, whoever holds them (`SOCK_DESTROY`): it is asked by `ss` of iproute2. Both ends see a connection that is over.
//!
//! # Caveats
//! - It takes CAP_NET_ADMIN, and a kernel with `CONFIG_INET_DIAG_DESTROY`, as Debian's have.
//! - Only connections of the network namespace that this runs in are found: those of a Traefik on another machine are not.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::process::{Output, Stdio};
use std::time::Duration;
use tokio::process::Command;
use tokio::time::timeout;

/// Longest time that `ss` may take.
const PATIENCE: Duration = Duration::from_secs(5);
const MEND: &str = "stop and start the workspace, which ends all that was opened before";

/// Ends what stands open to these addresses. With nothing there, there is nothing to do.
///
/// # Errors
/// Says which connections go on, why, and what can be done.
pub async fn end(upstreams: &[SocketAddr]) -> Result<(), String> {
    end_by("ss", upstreams).await
}

async fn end_by(program: &str, upstreams: &[SocketAddr]) -> Result<(), String> {
    let before = open(program).await?;
    let mut said = BTreeSet::new();
    let found: Vec<_> = upstreams.iter().filter_map(|upstream| Some((upstream, before.get(upstream)?))).collect();
    for (upstream, _) in &found {
        let done = ss(program, &["--kill"], &["dst", &upstream.to_string()]).await?;
        said.extend(String::from_utf8_lossy(&done.stderr).lines().map(str::to_owned));
    }
    if found.is_empty() {
        return Ok(());
    }
    let after = open(program).await?;
    // Those that are new were let through by whoever decides now.
    let left =
        |upstream: &SocketAddr, before: &BTreeSet<String>| after.get(upstream).map_or(0, |now| now.intersection(before).count());
    let lasting = found.iter().map(|(upstream, before)| (left(upstream, before), upstream)).filter(|(left, _)| *left > 0);
    let lasting: Vec<_> = lasting.map(|(left, upstream)| format!("{left} to {upstream}")).collect();
    if lasting.is_empty() {
        return Ok(());
    }
    let why = match said.is_empty() {
        true => "the kernel does not end them (CONFIG_INET_DIAG_DESTROY)".to_owned(),
        false => said.into_iter().collect::<Vec<_>>().join(", "),
    };
    Err(format!("{}: {why}; give the control plane CAP_NET_ADMIN, or {MEND}", lasting.join(", ")))
}

/// What stands open on this machine, by its far end. The near ends tell those to one address apart.
async fn open(program: &str) -> Result<BTreeMap<SocketAddr, BTreeSet<String>>, String> {
    let done = ss(program, &[], &[]).await?;
    if !done.status.success() {
        return Err(format!("'ss' says {:?}; {MEND}", String::from_utf8_lossy(&done.stderr).trim()));
    }
    Ok(by_far_end(&String::from_utf8_lossy(&done.stdout)))
}

async fn ss(program: &str, flags: &[&str], of: &[&str]) -> Result<Output, String> {
    let mut command = Command::new(program);
    command.args(["--no-header", "--tcp", "--numeric"]).args(flags).args(["state", "connected", "exclude", "time-wait"]).args(of);
    command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path))).stdin(Stdio::null()).kill_on_drop(true);
    match timeout(PATIENCE, command.output()).await {
        Err(_) => Err(format!("'ss' does not come to an end; {MEND}")),
        Ok(Err(e)) if e.kind() == ErrorKind::NotFound => Err(format!("there is no 'ss' in PATH: install iproute2, or {MEND}")),
        Ok(Err(e)) => Err(format!("'ss' does not start: {e}; {MEND}")),
        Ok(Ok(done)) => Ok(done),
    }
}

/// The last two words of a line are both ends, the near one first.
fn by_far_end(lines: &str) -> BTreeMap<SocketAddr, BTreeSet<String>> {
    let mut all: BTreeMap<SocketAddr, BTreeSet<String>> = BTreeMap::new();
    for line in lines.lines() {
        let mut words = line.split_whitespace().rev();
        if let (Some(Ok(far)), Some(near)) = (words.next().map(str::parse::<SocketAddr>), words.next()) {
            // IPv4 by a socket of IPv6 is IPv4.
            all.entry(SocketAddr::new(far.ip().to_canonical(), far.port())).or_default().insert(near.to_owned());
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpStream};

    #[test]
    fn connections_are_told_apart_by_their_near_ends() {
        let lines = "ESTAB 0      0      127.0.0.1:48644 127.0.0.1:8080\nCLOSE-WAIT 1 0 [::1]:5 [::1]:8080\n\n\
                     ESTAB 0 0 127.0.0.1:7 127.0.0.1:8080\nESTAB 0 0 [::ffff:10.0.0.1]:9 [::ffff:10.0.0.2]:80\nwhat else\n";
        let all = by_far_end(lines);
        let near = |far: &str| all[&far.parse().unwrap()].iter().map(String::as_str).collect::<Vec<_>>();
        assert_eq!(near("127.0.0.1:8080"), ["127.0.0.1:48644", "127.0.0.1:7"]);
        assert_eq!((near("[::1]:8080"), near("10.0.0.2:80"), all.len()), (vec!["[::1]:5"], vec!["[::ffff:10.0.0.1]:9"], 3));
    }

    #[tokio::test]
    async fn what_cannot_be_ended_is_told_with_what_to_do() {
        use std::os::unix::fs::PermissionsExt;
        let to = SocketAddr::from(([10, 0, 0, 1], 80));
        let why = end_by("ss-that-is-not-there", &[to]).await.unwrap_err();
        assert!(why.contains("install iproute2") && why.contains("stop and start the workspace"), "{why}");
        // One of a kernel that does not do it, and says nothing.
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("ss");
        std::fs::write(&program, "#!/bin/sh\necho ESTAB 0 0 10.0.0.9:5 10.0.0.1:80\n").unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let program = program.to_str().unwrap();
        let why = end_by(program, &[to]).await.unwrap_err();
        assert!(why.starts_with("1 to 10.0.0.1:80: ") && why.contains("CONFIG_INET_DIAG_DESTROY"), "{why}");
        assert_eq!(end_by(program, &[([10, 0, 0, 1], 81).into()]).await, Ok(()));
    }

    #[tokio::test]
    async fn connections_to_an_address_end_or_it_is_said_why_not_and_others_go_on() {
        let (one, other) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap());
        let (cut, kept) = (one.local_addr().unwrap(), other.local_addr().unwrap());
        end(&[cut]).await.unwrap();
        let (mut to_one, mut to_other) = (TcpStream::connect(cut).await.unwrap(), TcpStream::connect(kept).await.unwrap());
        let (_held, _held_too) = (one.accept().await.unwrap(), other.accept().await.unwrap());
        match end(&[cut]).await {
            Ok(()) => assert!(to_one.read_u8().await.is_err()),
            // Who is nobody on this machine may not.
            Err(why) => assert!(why.contains("CAP_NET_ADMIN") || why.contains("install iproute2"), "{why}"),
        }
        assert!(timeout(Duration::from_millis(50), to_other.read_u8()).await.is_err(), "it stands open");
        end(&[cut]).await.ok();
    }
}
