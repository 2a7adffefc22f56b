//! HAProxy's configuration, and what it says of itself. Pure.

use super::{ADMIN, CONTROL};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Where all that a gateway reads and makes lies: in memory, gone with its run.
pub const FOLDER: &str = "/run/devsanctum";
/// Connections at once. Each costs about 100 KiB while something goes over it.
const CONNECTIONS: u32 = 4000;
/// With more than these the control plane alone is let in: one that is full must still be told where names lead, and whom to cut.
const FULL: u32 = 3900;
/// Connections to one workspace at once, so that none takes the gateway from the others.
const TO_ONE: u32 = 1000;
/// The cheapest first; all that TLS 1.3 has here.
const CIPHERS: &str = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";
/// The longest line of a map: two names of 63 characters and more than an address.
pub const MAP_LINE: usize = 256;

/// Where a gateway listens, and whom it hangs up on before they say anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listening {
    /// Port on all addresses of its host.
    pub port: u16,
    /// Those of IPv6 in place of those of IPv4.
    pub ipv6: bool,
    /// Networks of workspaces, such as `10.213.0.0/16`: nobody there has anything to do with it.
    pub shut_out: Vec<String>,
    /// Threads of HAProxy; none means one.
    pub threads: u32,
}

/// What HAProxy is started with. There is nothing secret in it.
pub fn config(listening: &Listening) -> String {
    let bind = match listening.ipv6 {
        true => format!(":::{} v6only", listening.port),
        false => format!("0.0.0.0:{}", listening.port),
    };
    let shut_out = match listening.shut_out.is_empty() {
        true => String::new(),
        false => format!("  tcp-request connection reject if {{ src {} }}\n", listening.shut_out.join(" ")),
    };
    let threads = listening.threads.max(1);
    format!(
        "global
  maxconn {CONNECTIONS}
  nbthread {threads}
  stats socket {FOLDER}/admin.sock mode 600 level admin
  stats timeout 30s
  ssl-default-bind-options ssl-min-ver TLSv1.3 no-tls-tickets
  ssl-default-bind-ciphersuites {CIPHERS}
defaults
  mode tcp
  retries 0
  timeout connect 5s
  timeout client 10s
  timeout server 10s
  timeout tunnel 24h
  timeout client-fin 30s
  timeout server-fin 30s
  option clitcpka
  option srvtcpka
frontend gateway
  bind {bind} ssl crt {FOLDER}/server.pem ca-file {FOLDER}/ca.pem verify required
{shut_out}  acl admin ssl_fc_sni,field(1,.) -m str {ADMIN}
  acl control ssl_c_s_dn(cn) -m str {CONTROL}
  tcp-request content set-var(txn.to) ssl_fc_sni,field(1,.),map_str({FOLDER}/map)
  tcp-request content accept if admin control
  tcp-request content reject if {{ fe_conn gt {FULL} }}
  tcp-request content reject unless {{ var(txn.to) -m found }}
  tcp-request content track-sc0 ssl_fc_sni,field(1,.),field(2,-,0) table workspaces
  tcp-request content reject if {{ sc0_conn_cur(workspaces) gt {TO_ONE} }}
  tcp-request content set-dst var(txn.to),field(1,/)
  tcp-request content set-dst-port var(txn.to),field(2,/)
  use_backend admin if admin control
  use_backend tls if {{ var(txn.to),field(3,/) -m str tls }}
  default_backend plain
backend workspaces
  stick-table type string len 63 size 100k expire 1m store conn_cur
backend plain
  server workspace 0.0.0.0:0
backend tls
  server workspace 0.0.0.0:0 ssl verify none
backend admin
  server socket unix@{FOLDER}/admin.sock
"
    )
}

/// The map's file, by which HAProxy's commands name it.
pub fn map_file() -> String {
    format!("{FOLDER}/map")
}

/// A connection that a gateway carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// What HAProxy calls it in commands.
    pub handle: String,
    /// Its number, of all since HAProxy was started.
    pub number: u64,
    /// The workspace's address it leads to.
    pub to: SocketAddr,
    /// Bytes that went over it, both ways.
    pub bytes: u64,
}

/// Reads `show sess all`. What does not lead to a workspace, or not yet, is left out.
///
/// # Errors
/// When that is no such list, or does not tell how much went over a connection: it must not pass for one that carries nothing.
pub fn sessions(text: &str) -> Result<Vec<Session>, String> {
    let mut each: Vec<Vec<&str>> = Vec::new();
    for line in text.lines() {
        if line.starts_with("0x") {
            each.push(Vec::new());
        }
        each.last_mut().into_iter().for_each(|lines| lines.push(line));
    }
    if each.is_empty() {
        // Whoever asks is in the list.
        return Err(format!("its gateway tells of no connections: {}", text.lines().next().unwrap_or_default()));
    }
    each.iter().filter_map(|lines| session(lines).transpose()).collect()
}

fn session(lines: &[&str]) -> Result<Option<Session>, String> {
    let value = |begin: &str, key: &str| {
        let line = lines.iter().find(|line| line.trim_start().starts_with(begin))?;
        line.split_whitespace().find_map(|word| word.strip_prefix(key))
    };
    let Some(to) = value("server=workspace ", "addr=").and_then(|to| to.parse::<SocketAddr>().ok()) else { return Ok(None) };
    let number = |begin: &str, key: &str| {
        let found = value(begin, key).and_then(|n| n.trim_end_matches(')').parse::<u64>().ok());
        found.ok_or_else(|| {
            format!("its gateway does not tell {key} of {begin} of what leads to {to}: is it HAProxy 2.6 or newer?")
        })
    };
    let handle = lines.first().and_then(|line| line.split_once(':')).map(|(handle, _)| handle.to_owned()).unwrap_or_default();
    let bytes = number("req=", "total=")?.saturating_add(number("res=", "total=")?);
    Ok(Some(Session { handle, number: number("0x", "id=")?, to, bytes }))
}

/// Reads `show map`: where each name leads.
pub fn map(text: &str) -> BTreeMap<String, String> {
    let entry = |line: &str| {
        let mut words = line.split_whitespace().filter(|_| line.starts_with("0x")).skip(1);
        Some((words.next()?.to_owned(), words.next()?.to_owned()))
    };
    text.lines().filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whom_it_does_not_know_it_leads_nowhere_and_nobody_tells_it_where_without_being_let() {
        let told = config(&Listening { port: 9443, shut_out: vec!["10.213.0.0/16".into()], ..Listening::default() });
        for line in [
            "bind 0.0.0.0:9443 ssl crt /run/devsanctum/server.pem ca-file /run/devsanctum/ca.pem verify required",
            "tcp-request connection reject if { src 10.213.0.0/16 }",
            "tcp-request content reject unless { var(txn.to) -m found }",
            "use_backend admin if admin control",
            "ssl-default-bind-options ssl-min-ver TLSv1.3 no-tls-tickets",
            "nbthread 1",
        ] {
            assert!(told.lines().any(|l| l.trim() == line), "{line}: {told}");
        }
        assert_eq!(told.matches("bind ").count(), 1, "one listener");
        assert_eq!(told.matches("stats socket").count(), 1, "and it is no address: {told}");
        let six = config(&Listening { port: 1, ipv6: true, threads: 2, ..Listening::default() });
        assert!(
            six.contains("bind :::1 v6only ssl") && six.contains("nbthread 2\n") && !six.contains("reject if { src"),
            "{six}"
        );
    }

    #[test]
    fn what_stands_open_is_read_with_what_went_over_it() {
        let text = "0x563f7bf9ae30: [29/Nov/2026:17:55:15.830461] id=16 proto=tcpv6 source=::ffff:127.0.0.1:50146\n\
                    \x20 backend=admin (id=5 mode=tcp) addr=unix\n  server=socket (id=1) addr=unix\n\
                    \x20 req=0x1 (f=0x848202 an=0x0 pipe=0 tofwd=-1 total=14)\n\
                    0x7feff003c340: [29/Nov/2026:17:55:15.129973] id=15 proto=tcpv4 source=127.0.0.1:50138\n\
                    \x20 frontend=gateway (id=2 mode=tcp), listener=? (id=1) addr=127.0.0.1:9443\n\
                    \x20 backend=plain (id=3 mode=tcp) addr=127.0.0.1:41606\n  server=workspace (id=1) addr=10.213.0.3:8080\n\
                    \x20 req=0x2 (f=0x848202 an=0x0 pipe=0 tofwd=-1 total=6)\n      buf=0x3 data=(nil) o=0\n\
                    \x20 res=0x4 (f=0x80008000 an=0x0 tofwd=-1 total=1000)\n\
                    0x7feff0000000: [29/Nov/2026:17:55:15.1] id=17 proto=tcpv4 source=127.0.0.1:5\n  server=<NONE> (id=-1)\n";
        let to = "10.213.0.3:8080".parse().unwrap();
        assert_eq!(sessions(text).unwrap(), [Session { handle: "0x7feff003c340".into(), number: 15, to, bytes: 1006 }]);
        for (is, without) in [(" total=1000)", ")"), (" total=6)", ")"), ("id=15 ", "")] {
            assert!(sessions(&text.replace(is, without)).is_err(), "not nought: {is}");
        }
        assert!(sessions("what else").unwrap_err().contains("what else") && sessions("").is_err());
    }

    #[test]
    fn where_names_lead_is_read() {
        let all = map("0x563f7c08b6a0 p8080-w 10.213.0.3/8080/\n0x1 s1-x 10.213.0.4/1/tls\n\n");
        assert_eq!(
            all,
            [("p8080-w", "10.213.0.3/8080/"), ("s1-x", "10.213.0.4/1/tls")].map(|(a, b)| (a.into(), b.into())).into()
        );
    }
}
