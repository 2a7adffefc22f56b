//! `server harden`: the firewall rules of a host, as a script. Docker's API has no way to close the host itself to containers.

use super::read;
use crate::cli::args::HardenArgs;
use crate::cli::connect::Context;
use crate::cli::failure::Failure;
use crate::cli::ui;
use crate::resource::DockerServer;
use crate::resource::names::{self, bridges};
use ipnet::Ipv4Net;
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use serde_json::Value;
use std::net::Ipv4Addr;

/// Rules are put in and taken out by the same lines, and twice does nothing more than once.
const HEAD: &str = r#"set -eu
way=${1:-close}
rule() {
  table=$1
  shift
  if [ "$way" = open ]; then
    while iptables -w -t "$table" -D "$@" 2>/dev/null; do :; done
  elif ! iptables -w -t "$table" -C "$@" 2>/dev/null; then
    iptables -w -t "$table" -I "$@"
    echo "closed to workspaces: $table $*"
  fi
}
"#;

/// Runs `server harden`.
///
/// # Errors
/// When the API cannot be asked, there is no such server, or an address is none.
pub async fn run(context: &Context, args: &HardenArgs) -> Result<(), Failure> {
    let mut closed = args.also.iter().map(|text| address(text)).collect::<Result<Vec<_>, _>>()?;
    if let Some(name) = &args.name {
        let server = read(context, name).await?;
        let all = Api::<DockerServer>::all(context.client.clone()).list(&ListParams::default()).await?.items;
        let others = all.iter().filter(|s| s.name_any() != server.name_any() && !s.spec.is_local());
        closed.extend(others.filter_map(|s| engine(&s.spec.host, s.spec.port)));
    }
    let status: Value = context.ask("/devsanctum/status").await?;
    let instance =
        status["instance"].as_str().filter(|id| id.len() >= 8 && id.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-'));
    let instance = instance.ok_or_else(|| Failure::new("the control plane does not say which installation it is"))?;
    ui::say(&script(instance, &closed))
}

/// What a rule matches, of packets that workspaces send.
type Match = String;

/// An address or a network, as typed.
fn address(text: &str) -> Result<Match, Failure> {
    let net = text.parse::<Ipv4Net>().ok().or_else(|| text.parse::<Ipv4Addr>().ok().map(Ipv4Net::from));
    let wrong = || Failure::usage(format!("--also {text}: must be IPv4 addresses or networks, such as 10.0.0.5,10.1.0.0/16"));
    Ok(format!("-d {}", net.ok_or_else(wrong)?.trunc()))
}

/// Another server's engine. iptables looks names up when a rule is made.
fn engine(host: &str, port: u16) -> Option<Match> {
    let known = host.parse::<Ipv4Addr>().is_ok() || names::host_name(host).is_ok() || names::dns_label(host).is_ok();
    known.then(|| format!("-d {host} -p tcp --dport {port}"))
}

/// The whole script. All interfaces of the installation begin alike, those of workspaces' own networks too.
fn script(instance: &str, closed: &[Match]) -> String {
    let from = format!("-i {}+", bridges(instance));
    let mut all = format!(
        "#!/bin/sh\n# Keeps workspaces of DevSanctum (installation {instance}) from this host's own services, whichever of its addresses \
         they try,\n# from cloud metadata, and from what is named besides. Run it as root, and again after each start of the host; with the\n\
         # argument 'open' it takes its rules away.\n{HEAD}"
    );
    // Answers to what the host itself asked are let in: the proxy's connections to workspaces.
    all.push_str(&format!("rule filter INPUT {from} -m conntrack --ctstate NEW -j DROP\n"));
    // Not in DOCKER-USER: whenever a network is made, the engine takes the jump there out for some milliseconds.
    for to in std::iter::once("-d 169.254.0.0/16").chain(closed.iter().map(String::as_str)) {
        all.push_str(&format!("rule raw PREROUTING {from} {to} -j DROP\n"));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_are_for_all_of_the_installation_s_interfaces_and_nobody_else_s() {
        let said = script("0123abcd-0000", &[address("10.0.0.5").unwrap(), engine("rack.example", 2376).unwrap()]);
        let rules: Vec<&str> = said.lines().filter(|l| l.starts_with("rule ")).collect();
        assert_eq!(
            rules,
            [
                "rule filter INPUT -i ds0123abcd+ -m conntrack --ctstate NEW -j DROP",
                "rule raw PREROUTING -i ds0123abcd+ -d 169.254.0.0/16 -j DROP",
                "rule raw PREROUTING -i ds0123abcd+ -d 10.0.0.5/32 -j DROP",
                "rule raw PREROUTING -i ds0123abcd+ -d rack.example -p tcp --dport 2376 -j DROP",
            ]
        );
    }

    #[test]
    fn nothing_but_addresses_and_hosts_gets_into_the_script() {
        for text in ["", "x", "10.0.0.5; rm -rf /", "10.0.0.0/33", "$(id)", "fd00::1"] {
            assert!(address(text).is_err(), "{text:?}");
        }
        assert_eq!(address("10.1.2.3/16").unwrap(), "-d 10.1.0.0/16");
        assert_eq!(engine("$(id)", 1), None);
        assert_eq!(engine("fd00::1", 1), None, "workspaces have no IPv6");
    }
}
