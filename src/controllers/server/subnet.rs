//! Subnets for the shared bridge that are not already somebody else's on this host. Docker takes any subnet it is told to
//! that none of its own networks has: one of the host's other networks, or of a bridge left behind, would be cut off.

use ipnet::Ipv4Net;
use std::net::Ipv4Addr;

/// Tried one after the other: wide enough for thousands of workspaces.
const SUBNETS: [&str; 6] =
    ["10.213.0.0/16", "10.214.0.0/16", "10.215.0.0/16", "172.29.0.0/16", "172.30.0.0/16", "192.168.192.0/18"];

/// Where Linux tells its IPv4 routes (proc_net(5)); those of our own network namespace.
const ROUTES: &str = "/proc/net/route";

/// Those to try, and those that routes of this host stand in the way of. On another machine (`near` is false) nothing is
/// known of its routes.
pub fn candidates(near: bool) -> (Vec<&'static str>, Vec<&'static str>) {
    // The kernel's memory, not a disk: read before another thread could be asked to.
    let table = if near { std::fs::read_to_string(ROUTES).unwrap_or_default() } else { String::new() };
    let routed = routed(&table);
    SUBNETS.into_iter().partition(|subnet| is_free(subnet, &routed))
}

fn is_free(subnet: &str, routed: &[Ipv4Net]) -> bool {
    subnet.parse::<Ipv4Net>().is_ok_and(|net| !routed.iter().any(|r| r.contains(&net) || net.contains(r)))
}

/// The networks of a routing table, but for the default route. Lines that cannot be read are left out.
fn routed(table: &str) -> Vec<Ipv4Net> {
    let line = |line: &str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        // In the byte order of the machine: the address as it lies in memory.
        let address = |column: usize| Some(Ipv4Addr::from(u32::from_str_radix(columns.get(column)?, 16).ok()?.to_ne_bytes()));
        Ipv4Net::with_netmask(address(1)?, address(7)?).ok()
    };
    table.lines().skip(1).filter_map(line).filter(|net| net.prefix_len() > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
        eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
        old\t0000D50A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n\
        vpn\t0001D60A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
        nonsense\n";

    #[test]
    fn a_subnet_that_something_on_the_host_has_or_has_part_of_is_not_free() {
        let routed = routed(TABLE);
        if cfg!(target_endian = "little") {
            assert_eq!(routed, ["10.213.0.0/16", "10.214.1.0/24"].map(|n| n.parse().unwrap()));
            let free: Vec<&str> = SUBNETS.into_iter().filter(|s| is_free(s, &routed)).collect();
            assert_eq!(free, SUBNETS[2..]);
        }
        assert!(!is_free("10.215.0.0/16", &["10.0.0.0/8".parse().unwrap()]), "it is part of another");
        assert!(is_free("10.215.0.0/16", &[]));
    }
}
