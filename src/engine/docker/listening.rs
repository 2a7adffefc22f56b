//! Where programs of this machine listen, from what Linux tells of its sockets (proc_net_tcp(5)).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Its IPv4 and IPv6 sockets; those of our own network namespace.
const TABLES: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];
/// The state of a socket that listens.
const LISTEN: &str = "0A";

/// Addresses and ports, without those of loopback. An address of zeros stands for all of the machine's.
pub(super) fn on_this_machine() -> Vec<SocketAddr> {
    // The kernel's memory, not a disk: read before another thread could be asked to.
    let tables = TABLES.map(|table| std::fs::read_to_string(table).unwrap_or_default());
    let mut all: Vec<SocketAddr> = tables.iter().flat_map(|table| listening(table)).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// What listens by one of the tables. Lines that cannot be read are left out.
fn listening(table: &str) -> Vec<SocketAddr> {
    let line = |line: &str| {
        let mut columns = line.split_whitespace();
        let (address, port) = columns.nth(1)?.split_once(':')?;
        (columns.nth(1)? == LISTEN).then_some(())?;
        let address = address_of(address)?;
        (!address.is_loopback()).then_some(SocketAddr::new(address, u16::from_str_radix(port, 16).ok()?))
    };
    table.lines().skip(1).filter_map(line).collect()
}

/// Words of 32 bits in the byte order of the machine: as the address lies in memory.
fn address_of(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| Some(u32::from_str_radix(hex.get(at * 8..at * 8 + 8)?, 16).ok()?.to_ne_bytes());
    match hex.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let mut bytes = [0; 16];
            for at in 0..4 {
                bytes[at * 4..at * 4 + 4].copy_from_slice(&word(at)?);
            }
            let address = Ipv6Addr::from(bytes);
            // A socket for both is told as IPv6; of the mapped ones, what is meant is IPv4.
            Some(address.to_ipv4_mapped().map_or(address.into(), IpAddr::V4))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
        0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0\n\
        1: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2 1 0 100 0 0 10 0\n\
        2: 0700000A:0948 0800000A:C001 01 00000000:00000000 00:00000000 00000000     0        0 3 1 0 100 0 0 10 0\n\
        3: 0700000A:0948 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4 1 0 100 0 0 10 0\n\
        nonsense\n";
    const TABLE6: &str = "  sl  local_address                         remote_address                        st\n\
        0: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 0A 0\n\
        1: 00000000000000000000000001000000:0050 00000000000000000000000000000000:0000 0A 0\n\
        2: 0000000000000000FFFF00000700000A:0051 00000000000000000000000000000000:0000 0A 0\n";

    #[test]
    fn what_listens_is_read_and_what_only_talks_or_is_on_loopback_is_not() {
        if cfg!(target_endian = "little") {
            assert_eq!(listening(TABLE), ["0.0.0.0:22", "10.0.0.7:2376"].map(|a| a.parse().unwrap()));
            assert_eq!(listening(TABLE6), ["[::]:8080", "10.0.0.7:81"].map(|a| a.parse().unwrap()));
        }
    }

    #[test]
    fn a_listener_of_this_process_is_found() {
        let listener = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
        assert!(on_this_machine().contains(&listener.local_addr().unwrap()));
    }
}
