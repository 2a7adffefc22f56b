//! Ends connections to workspaces that stand open on this machine. A proxy asks its gate when a connection begins, and never again: one
//! that was upgraded while its host was public, a WebSocket, would go on for as long as it likes.
//!
//! The kernel ends them, whoever holds them (`SOCK_DESTROY`): it is asked by `ss` of iproute2. Both ends see a connection that is over.
//!
//! # Caveats
//! - It takes CAP_NET_ADMIN, and a kernel with `CONFIG_INET_DIAG_DESTROY`, as Debian's have.
//! - Only connections of the network namespace that this runs in are found: those of a Traefik on another machine are not.

use super::ss::{ends, ss_by};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

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
        let done = ss_by(program, &["--kill"], &["dst", &upstream.to_string()]).await.map_err(or_else)?;
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

fn or_else(why: String) -> String {
    format!("{why}, or {MEND}")
}

/// What stands open on this machine, by its far end. The near ends tell those to one address apart.
async fn open(program: &str) -> Result<BTreeMap<SocketAddr, BTreeSet<String>>, String> {
    let done = ss_by(program, &[], &[]).await.map_err(or_else)?;
    if !done.status.success() {
        return Err(format!("'ss' says {:?}; {MEND}", String::from_utf8_lossy(&done.stderr).trim()));
    }
    Ok(by_far_end(&String::from_utf8_lossy(&done.stdout)))
}

fn by_far_end(lines: &str) -> BTreeMap<SocketAddr, BTreeSet<String>> {
    let mut all: BTreeMap<SocketAddr, BTreeSet<String>> = BTreeMap::new();
    for (near, far) in lines.lines().filter_map(ends) {
        all.entry(far).or_default().insert(near.to_owned());
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::timeout;

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
