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
use std::net::{IpAddr, Ipv4Addr};
use tokio::net::{UdpSocket, lookup_host};

/// A chain of the installation's own in each table, replaced as a whole: what an earlier print has closed and this one does not is open
/// from then on, and at no time in between is anything open that both close.
const HEAD: &str = r#"set -eu
way=${1:-close}
rules() { iptables -w -t "$1" -S "$2" 2>/dev/null || :; }
# Takes out what leads from workspaces' interfaces to one of these targets: earlier versions had a rule each, and no chain.
unhook() {
  rules "$1" "$2" | sed -nE "s/^-A ($2 (-d [^ ]+ )?-i $own\+ (.* )?-j ($3))\$/-D \1/p" | while read -r rule; do
    # shellcheck disable=SC2086
    iptables -w -t "$1" $rule
  done
}
# fill TABLE CHAIN: from standard input.
fill() {
  if [ "$way" = open ]; then
    cat >/dev/null
    unhook "$1" "$2" "DROP|$own"
    [ -z "$(rules "$1" "$own")" ] || { iptables -w -t "$1" -F "$own" && iptables -w -t "$1" -X "$own"; }
    return
  fi
  before=$(rules "$1" "$own")
  { echo "*$1" && echo ":$own - [0:0]" && cat && echo COMMIT; } | iptables-restore -w -n
  iptables -w -t "$1" -C "$2" -i "$own+" -j "$own" 2>/dev/null || iptables -w -t "$1" -I "$2" -i "$own+" -j "$own"
  unhook "$1" "$2" DROP
  [ "$before" = "$(rules "$1" "$own")" ] || rules "$1" "$own" | sed -n "s/^-A $own\(.* DROP\)\$/closed to workspaces: $1\1/p"
}
"#;
/// Cloud metadata: where it is link-local, all but name servers, since some clouds have theirs there; Azure's channel to its hosts, whose
/// address is its name server's too; Alibaba's.
const METADATA: [&str; 6] = [
    "-d 169.254.0.0/16 -p udp --dport 53 -j RETURN",
    "-d 169.254.0.0/16 -p tcp --dport 53 -j RETURN",
    "-d 169.254.0.0/16 -j DROP",
    "-d 168.63.129.16 -p tcp --dport 80 -j DROP",
    "-d 168.63.129.16 -p tcp --dport 32526 -j DROP",
    "-d 100.100.100.200 -j DROP",
];

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
        closed.extend(others.filter_map(|s| engine(s.spec.at()?)));
        if let Some(at) = server.spec.at().filter(|_| !server.spec.is_local()) {
            closed.extend(control_plane(&context.server, at).await.map(|own| format!("-d {own}")));
        }
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

/// Another server's engine, or the SSH of its host that leads there. iptables looks names up when a rule is made.
fn engine((host, port): (&str, u16)) -> Option<Match> {
    let known = host.parse::<Ipv4Addr>().is_ok() || names::host_name(host).is_ok() || names::dns_label(host).is_ok();
    known.then(|| format!("-d {host} -p tcp --dport {port}"))
}

/// Where the control plane is, as far as that is known here: where it is asked; and where that is this machine, the address that it has
/// on the way to the server.
async fn control_plane(api: &str, (host, port): (&str, u16)) -> Option<Ipv4Addr> {
    let uri: http::Uri = api.parse().ok()?;
    let named = uri.host()?.trim_matches(['[', ']']);
    let found = lookup_host((named, uri.port_u16().unwrap_or(443))).await.ok()?;
    let found: Vec<IpAddr> = found.map(|at| at.ip()).collect();
    if !found.iter().any(IpAddr::is_loopback) {
        return found.into_iter().find_map(v4);
    }
    let way = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await.ok()?;
    // Nothing is sent: the system only chooses the way.
    way.connect((host, port)).await.ok()?;
    way.local_addr().ok().and_then(|own| v4(own.ip())).filter(|own| !own.is_loopback())
}

fn v4(ip: IpAddr) -> Option<Ipv4Addr> {
    match ip {
        IpAddr::V4(ip) => Some(ip),
        IpAddr::V6(ip) => ip.to_ipv4_mapped(),
    }
}

/// The whole script. All interfaces of the installation begin alike, those of workspaces' own networks too.
fn script(instance: &str, closed: &[Match]) -> String {
    let own = bridges(instance);
    let filled = |table: &str, chain: &str, rules: &[String]| {
        let rules: String = rules.iter().map(|rule| format!("-A {own} {rule}\n")).collect();
        format!("fill {table} {chain} <<'END'\n{rules}END\n")
    };
    let named = closed.iter().map(|to| format!("{to} -j DROP"));
    let to: Vec<String> = named.chain(METADATA.map(str::to_owned)).collect();
    format!(
        "#!/bin/sh\n# Keeps workspaces of DevSanctum (installation {instance}) from this host's own services, whichever of its addresses \
         they try,\n# from cloud metadata, and from what is named besides. Run it as root, and again after each start of the host; with the\n\
         # argument 'open' it takes its rules away, and those of earlier prints.\nown={own}\n{HEAD}{}{}",
        // Answers to what the host itself asked are let in: the proxy's connections to workspaces.
        filled("filter", "INPUT", &["-m conntrack --ctstate NEW -j DROP".to_owned()]),
        // Not in DOCKER-USER: whenever a network is made, the engine takes the jump there out for some milliseconds.
        filled("raw", "PREROUTING", &to)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_are_for_all_of_the_installation_s_interfaces_and_nobody_else_s() {
        let said = script("0123abcd-0000", &[address("10.0.0.5").unwrap(), engine(("rack.example", 2376)).unwrap()]);
        let rules: Vec<&str> =
            said.lines().filter(|l| l.starts_with("-A ") || l.starts_with("fill ") || l.starts_with("own=")).collect();
        assert_eq!(
            rules,
            [
                "own=ds0123abcd",
                "fill filter INPUT <<'END'",
                "-A ds0123abcd -m conntrack --ctstate NEW -j DROP",
                "fill raw PREROUTING <<'END'",
                "-A ds0123abcd -d 10.0.0.5/32 -j DROP",
                "-A ds0123abcd -d rack.example -p tcp --dport 2376 -j DROP",
                "-A ds0123abcd -d 169.254.0.0/16 -p udp --dport 53 -j RETURN",
                "-A ds0123abcd -d 169.254.0.0/16 -p tcp --dport 53 -j RETURN",
                "-A ds0123abcd -d 169.254.0.0/16 -j DROP",
                "-A ds0123abcd -d 168.63.129.16 -p tcp --dport 80 -j DROP",
                "-A ds0123abcd -d 168.63.129.16 -p tcp --dport 32526 -j DROP",
                "-A ds0123abcd -d 100.100.100.200 -j DROP",
            ]
        );
    }

    #[tokio::test]
    async fn the_control_plane_is_where_it_is_asked() {
        let at = async |api: &str| control_plane(api, ("127.0.0.1", 9)).await.map(|own| own.to_string());
        assert_eq!(at("https://192.0.2.9:6443").await.as_deref(), Some("192.0.2.9"));
        assert_eq!(at("https://127.0.0.1:6443").await, None, "a server that is reached by loopback is this machine");
        assert_eq!(at("nonsense").await, None);
    }

    #[test]
    fn nothing_but_addresses_and_hosts_gets_into_the_script() {
        for text in ["", "x", "10.0.0.5; rm -rf /", "10.0.0.0/33", "$(id)", "fd00::1"] {
            assert!(address(text).is_err(), "{text:?}");
        }
        assert_eq!(address("10.1.2.3/16").unwrap(), "-d 10.1.0.0/16");
        assert_eq!(engine(("$(id)", 1)), None);
        assert_eq!(engine(("fd00::1", 1)), None, "workspaces have no IPv6");
    }
}
