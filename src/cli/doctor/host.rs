//! Is this machine fit: Traefik, ports, the state folder, the kernel?

use super::Check;
use std::ffi::OsStr;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::process::Command;

/// Oldest Traefik worked with: the one whose HTTP provider can be asked with a long poll as we do.
const OLDEST_TRAEFIK: [u64; 3] = [3, 7, 9];

/// The Traefik that `serve` takes where none is named.
pub fn find_traefik(paths: &OsStr, state: &Path) -> PathBuf {
    let mut found = std::env::split_paths(paths).chain([state.join("venv/bin")]).map(|dir| dir.join("traefik"));
    found.find(|program| program.is_file()).unwrap_or_else(|| "traefik".into())
}

/// Checks the Traefik binary.
pub async fn traefik(binary: &Path) -> Check {
    let name = format!("Traefik {}", binary.display());
    let oldest = OLDEST_TRAEFIK.map(|n| n.to_string()).join(".");
    let mend = format!("install Traefik {oldest} or newer, or name its binary with --traefik");
    let text = match output(Command::new(binary).arg("version")).await {
        Ok(text) => text,
        Err(e) => return Check::bad(name, e, mend),
    };
    let version = text.lines().find_map(|l| l.strip_prefix("Version:")).map(str::trim).unwrap_or_default();
    match numbers(version) {
        Some(found) if found >= OLDEST_TRAEFIK => Check::good(name, format!("version {version}")),
        Some(_) => Check::bad(name, format!("version {version} is too old"), mend),
        None => Check::bad(name, "does not say its version", mend),
    }
}

fn numbers(version: &str) -> Option<[u64; 3]> {
    let mut parts = version.trim_start_matches('v').split(['.', '-', '+']).map(|p| p.parse().ok());
    Some([parts.next()??, parts.next()??, parts.next()??])
}

/// What a program prints, within ten seconds.
async fn output(command: &mut Command) -> Result<String, String> {
    let run = command.kill_on_drop(true).stdin(std::process::Stdio::null()).output();
    match tokio::time::timeout(Duration::from_secs(10), run).await {
        Err(_) => Err("did not end within 10s".into()),
        Ok(Err(e)) => Err(e.to_string()),
        Ok(Ok(out)) if out.status.success() => Ok(String::from_utf8_lossy(&out.stdout).into_owned()),
        Ok(Ok(out)) => Err(format!("failed ({})", out.status)),
    }
}

/// Checks that a port can be listened on, or is held while the control plane runs.
pub fn port(port: u16, control_plane_up: bool) -> Check {
    let name = format!("port {port}");
    match TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)) {
        Ok(_) => Check::good(name, "free"),
        Err(e) if e.kind() == std::io::ErrorKind::AddrInUse && control_plane_up => {
            Check::good(name, "in use, and the control plane runs")
        }
        Err(e) if e.kind() == std::io::ErrorKind::AddrInUse => Check::bad(
            name,
            "in use by another program",
            format!("`ss -ltnp 'sport = :{port}'` names it; stop it or choose another port"),
        ),
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
            Check::bad(name, "not allowed for this user", "run as root, or choose ports from 1024 on")
        }
        Err(e) => Check::bad(name, e.to_string(), "choose another port"),
    }
}

/// Checks who can read the state folder and the kubeconfig in it.
pub fn state(dir: &Path) -> Vec<Check> {
    let name = format!("state folder {}", dir.display());
    let meta = match std::fs::metadata(dir) {
        Ok(meta) if meta.is_dir() => meta,
        Ok(_) => return vec![Check::bad(name, "is no folder", "name another with --state-dir")],
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return vec![Check::fair(name, "not there yet", "`devsanctum up` makes it")];
        }
        Err(e) => return vec![Check::bad(name, e.to_string(), "run as the user of the control plane")],
    };
    let mut checks = vec![private(name, dir, &meta, 0o700)];
    let kubeconfig = dir.join(crate::cli::connect::KUBECONFIG);
    if let Ok(meta) = std::fs::metadata(&kubeconfig) {
        checks.push(private(format!("kubeconfig {}", kubeconfig.display()), &kubeconfig, &meta, 0o600));
    }
    checks
}

fn private(name: String, path: &Path, meta: &std::fs::Metadata, wanted: u32) -> Check {
    let mode = meta.permissions().mode() & 0o777;
    let me = rustix::process::geteuid().as_raw();
    if mode & 0o077 != 0 {
        return Check::bad(
            name,
            format!("mode {mode:o}: others can get at its secrets"),
            format!("chmod {wanted:o} {}", path.display()),
        );
    }
    if meta.uid() != me && me != 0 {
        return Check::bad(name, "belongs to another user", "run as the user of the control plane");
    }
    Check::good(name, format!("mode {mode:o}"))
}

/// Checks what workspaces' networks need of the kernel.
pub async fn kernel() -> Vec<Check> {
    let setting = |path: &str| std::fs::read_to_string(format!("/proc/sys/{path}")).map(|t| t.trim() == "1");
    let forward = match setting("net/ipv4/ip_forward") {
        Ok(true) => Check::good("kernel ip_forward", "on"),
        _ => Check::bad(
            "kernel ip_forward",
            "off: workspaces reach no network",
            "sysctl -w net.ipv4.ip_forward=1 (the Docker engine does so when it manages iptables)",
        ),
    };
    let bridge = match setting("net/bridge/bridge-nf-call-iptables") {
        Ok(true) => Check::good("kernel bridge-nf-call-iptables", "on"),
        Ok(false) => Check::bad(
            "kernel bridge-nf-call-iptables",
            "off: workspaces on one bridge could reach each other",
            "sysctl -w net.bridge.bridge-nf-call-iptables=1",
        ),
        Err(_) => Check::fair(
            "kernel bridge-nf-call-iptables",
            "br_netfilter is not loaded yet",
            "modprobe br_netfilter, unless the engine loads it",
        ),
    };
    let tables = match output(Command::new("iptables").arg("--version")).await {
        Ok(text) => Check::good("iptables", text.trim()),
        Err(e) => Check::bad("iptables", e, "install iptables (apt-get install iptables); /usr/sbin must be in PATH"),
    };
    vec![forward, bridge, tables]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Verdict;

    #[test]
    fn traefik_versions_are_compared_as_numbers() {
        assert!(numbers("3.7.10").unwrap() >= OLDEST_TRAEFIK && numbers("v3.10.0").unwrap() >= OLDEST_TRAEFIK);
        assert!(numbers("3.7.8").unwrap() < OLDEST_TRAEFIK && numbers("2.11.30").unwrap() < OLDEST_TRAEFIK);
        assert_eq!(numbers("dev"), None);
    }

    #[test]
    fn the_traefik_that_make_up_installed_is_found() {
        let state = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(state.path().join("venv/bin")).unwrap();
        let program = state.path().join("venv/bin/traefik");
        std::fs::write(&program, "").unwrap();
        assert_eq!(find_traefik("/nonexistent".as_ref(), state.path()), program);
        assert_eq!(find_traefik("/nonexistent".as_ref(), Path::new("/nonexistent")), Path::new("traefik"));
    }

    #[tokio::test]
    async fn a_missing_traefik_is_bad() {
        let check = traefik(Path::new("/nonexistent/traefik")).await;
        assert_eq!(check.verdict, Verdict::Bad);
        assert!(check.mend.contains("3.7.9"));
    }

    #[test]
    fn a_port_held_by_another_is_bad_unless_we_run() {
        let held = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let number = held.local_addr().unwrap().port();
        assert_eq!(port(number, false).verdict, Verdict::Bad);
        assert_eq!(port(number, true).verdict, Verdict::Good);
        drop(held);
    }

    #[test]
    fn a_state_folder_open_to_others_is_bad() {
        let dir = tempfile::tempdir().unwrap();
        let mode = |m| std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(m)).unwrap();
        mode(0o755);
        assert_eq!(state(dir.path())[0].verdict, Verdict::Bad);
        mode(0o700);
        assert_eq!(state(dir.path())[0].verdict, Verdict::Good);
        assert_eq!(state(&dir.path().join("none"))[0].verdict, Verdict::Fair);
    }
}
