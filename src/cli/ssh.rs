//! `ssh`: the system's own ssh, told where the gateway is and how to know it.

use super::args::SshArgs;
use super::connect::Context;
use super::failure::Failure;
use super::logs;
use serde::Deserialize;
use std::net::SocketAddr;
use tokio::process::Command;

/// What `/devsanctum/status` says of the gateway.
#[derive(Deserialize)]
struct Report {
    ssh: Option<Gateway>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Gateway {
    address: SocketAddr,
    host_key: String,
}

/// Runs `ssh`.
///
/// # Errors
/// With ssh's own exit code; with 1 when it could not be run.
pub async fn run(context: &Context, args: SshArgs) -> Result<(), Failure> {
    let name = logs::workspace(&args.workspace)?;
    let report: Report = context.ask("/devsanctum/status").await?;
    let off = || Failure::new("this control plane serves no SSH").hint("start it without `--ssh off`");
    let words = words(&report.ssh.ok_or_else(off)?, &context.server, &format!("{name}.{}", context.namespace))?;
    let mut ssh = Command::new("ssh");
    ssh.args(words).args(&args.command);
    let missing = |e| Failure::new(format!("ssh cannot be run: {e}")).hint("install OpenSSH's client");
    let ended = ssh.status().await.map_err(missing)?;
    match ended.code() {
        Some(0) => Ok(()),
        code => Err(Failure::silent(code.and_then(|c| u8::try_from(c).ok()).unwrap_or(1))),
    }
}

/// What ssh is told before the command.
fn words(gateway: &Gateway, server: &str, user: &str) -> Result<Vec<String>, Failure> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "+/=- ".contains(c);
    if !gateway.host_key.starts_with("ssh-ed25519 ") || !gateway.host_key.chars().all(plain) {
        return Err(Failure::new("the API's answer holds no host key that could be used"));
    }
    // The gateway is where the API is, unless it says otherwise.
    let host = if gateway.address.ip().is_unspecified() {
        let uri: http::Uri = server.parse().map_err(|_| Failure::new(format!("{server} is no address")))?;
        uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned()
    } else {
        gateway.address.ip().to_string()
    };
    // What the API said, over TLS, is what this host is known by: no file of the person's is touched.
    let known = format!("KnownHostsCommand=/bin/echo devsanctum {}", gateway.host_key);
    let options = ["HostKeyAlias=devsanctum", "UserKnownHostsFile=/dev/null", "StrictHostKeyChecking=yes", &known];
    let mut all: Vec<String> = options.iter().flat_map(|o| ["-o".to_owned(), (*o).to_owned()]).collect();
    all.extend(["-p".into(), gateway.address.port().to_string(), "-l".into(), user.to_owned(), "--".into(), host]);
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gateway(address: &str, host_key: &str) -> Gateway {
        Gateway { address: address.parse().expect("an address"), host_key: host_key.into() }
    }

    #[test]
    fn ssh_is_told_where_to_go_and_whom_to_find_there() {
        let told = words(&gateway("0.0.0.0:2222", "ssh-ed25519 AAAA"), "https://[::1]:6443", "web.team").expect("words");
        assert_eq!(told[told.len() - 5..], ["2222", "-l", "web.team", "--", "::1"]);
        let told = words(&gateway("10.0.0.1:22", "ssh-ed25519 AAAA"), "https://x:6443", "web.team").expect("words");
        assert_eq!(told.last().map(String::as_str), Some("10.0.0.1"));
    }

    #[test]
    fn a_host_key_that_could_be_a_command_is_refused() {
        for bad in ["ssh-ed25519 AAAA; reboot", "ssh-ed25519 $(reboot)", "", "ssh-rsa AAAA"] {
            assert!(words(&gateway("10.0.0.1:22", bad), "https://x", "a.b").is_err(), "{bad}");
        }
    }
}
