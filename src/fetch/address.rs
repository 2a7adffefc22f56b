//! Which addresses may be asked: those of the public internet, and private ones where the caller says so.

use ipnet::{Ipv4Net, Ipv6Net};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What an address is, where it is none of the public internet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Special {
    /// In words: "a private address".
    pub what: &'static str,
    /// A network of one's own may be there, so that a caller may allow it.
    pub private: bool,
}

const fn four(a: u8, b: u8, c: u8, d: u8, length: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length)
}

const fn six(head: [u16; 4], length: u8) -> Ipv6Net {
    let [a, b, c, d] = head;
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0), length)
}

const LOOPBACK: Special = Special { what: "this machine itself", private: true };
const PRIVATE: Special = Special { what: "a private address", private: true };
const SHARED: Special = Special { what: "an address shared by a provider's customers", private: true };
const LINK_LOCAL: Special =
    Special { what: "a link-local address, where clouds keep their machines' credentials", private: false };
const MULTICAST: Special = Special { what: "a multicast address", private: false };
const DOCUMENTATION: Special = Special { what: "an address for documentation", private: false };
const RESERVED: Special = Special { what: "a reserved address", private: false };

/// The first that holds an address says what it is.
const IPV4: [(Ipv4Net, Special); 16] = [
    (four(127, 0, 0, 0, 8), LOOPBACK),
    (four(10, 0, 0, 0, 8), PRIVATE),
    (four(172, 16, 0, 0, 12), PRIVATE),
    (four(192, 168, 0, 0, 16), PRIVATE),
    (four(100, 64, 0, 0, 10), SHARED),
    (four(169, 254, 0, 0, 16), LINK_LOCAL),
    (four(192, 0, 2, 0, 24), DOCUMENTATION),
    (four(198, 51, 100, 0, 24), DOCUMENTATION),
    (four(203, 0, 113, 0, 24), DOCUMENTATION),
    (four(224, 0, 0, 0, 4), MULTICAST),
    (four(0, 0, 0, 0, 8), RESERVED),
    (four(192, 0, 0, 0, 24), RESERVED),
    (four(192, 88, 99, 0, 24), RESERVED),
    (four(198, 18, 0, 0, 15), RESERVED),
    (four(240, 0, 0, 0, 4), RESERVED),
    (four(168, 63, 129, 16, 32), LINK_LOCAL),
];

/// The same for version 6. Of what is left, only `2000::/3` is the public internet.
const IPV6: [(Ipv6Net, Special); 10] = [
    (six([0xfc00, 0, 0, 0], 7), PRIVATE),
    (six([0xfec0, 0, 0, 0], 10), PRIVATE),
    (six([0x64, 0xff9b, 1, 0], 48), PRIVATE),
    (six([0xfe80, 0, 0, 0], 10), LINK_LOCAL),
    (six([0xff00, 0, 0, 0], 8), MULTICAST),
    (six([0x2001, 0xdb8, 0, 0], 32), DOCUMENTATION),
    (six([0x3fff, 0, 0, 0], 20), DOCUMENTATION),
    // Teredo and its like, and 6to4: they lead to another address.
    (six([0x2001, 0, 0, 0], 23), RESERVED),
    (six([0x2002, 0, 0, 0], 16), RESERVED),
    (six([0x100, 0, 0, 0], 64), RESERVED),
];
const PUBLIC_IPV6: Ipv6Net = six([0x2000, 0, 0, 0], 3);
/// An address of version 4 stands at the end of these.
const WRAPPED: [Ipv6Net; 3] = [
    Ipv6Net::new_assert(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96),
    Ipv6Net::new_assert(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96),
    Ipv6Net::new_assert(Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, 0, 0), 96),
];

/// What an address is; `None` for one of the public internet.
pub(super) fn special(address: IpAddr) -> Option<Special> {
    match address {
        IpAddr::V4(address) => IPV4.iter().find(|(net, _)| net.contains(&address)).map(|(_, what)| *what),
        IpAddr::V6(address) if address == Ipv6Addr::LOCALHOST => Some(LOOPBACK),
        IpAddr::V6(address) => match inner(address) {
            Some(inner) => special(inner.into()),
            None => special6(address),
        },
    }
}

fn inner(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [.., a, b, c, d] = address.octets();
    WRAPPED.iter().any(|net| net.contains(&address)).then(|| Ipv4Addr::new(a, b, c, d))
}

fn special6(address: Ipv6Addr) -> Option<Special> {
    let named = IPV6.iter().find(|(net, _)| net.contains(&address)).map(|(_, what)| *what);
    named.or_else(|| (!PUBLIC_IPV6.contains(&address)).then_some(RESERVED))
}

/// A host that is an address by itself.
pub(super) fn literal(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    bare.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn what(address: &str) -> Option<Special> {
        special(address.parse().unwrap())
    }

    #[test]
    fn the_public_internet_is_nothing_special() {
        for address in ["1.1.1.1", "8.8.8.8", "100.63.255.255", "172.32.0.1", "192.169.0.1", "2606:4700::1111", "2a00::1"] {
            assert_eq!(what(address), None, "{address}");
        }
        assert_eq!(what("::ffff:8.8.8.8"), None);
        assert_eq!(what("64:ff9b::808:808"), None);
    }

    #[test]
    fn hostile_addresses_are_seen_through() {
        let table: &[(Special, &[&str])] = &[
            (LOOPBACK, &["127.0.0.1", "127.255.255.254", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "::ffff:0:127.0.0.1"]),
            (PRIVATE, &["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "fd00::1", "fc00::", "fec0::1"]),
            (PRIVATE, &["::ffff:10.0.0.1", "64:ff9b::a00:1", "64:ff9b:1::1"]),
            (SHARED, &["100.64.0.1", "100.127.255.255", "::ffff:100.64.0.1"]),
            (LINK_LOCAL, &["169.254.169.254", "fe80::1", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "168.63.129.16"]),
            (MULTICAST, &["224.0.0.1", "239.255.255.255", "ff02::1"]),
            (DOCUMENTATION, &["192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "3fff::1"]),
            (RESERVED, &["0.0.0.0", "0.1.2.3", "255.255.255.255", "240.0.0.1", "192.0.0.1", "198.18.0.1", "192.88.99.1"]),
            (RESERVED, &["::", "::127.0.0.1", "2001::1", "2002:7f00:1::", "2002:a9fe:a9fe::", "100::1", "4000::1", "5f00::1"]),
        ];
        for (expected, addresses) in table {
            for address in *addresses {
                assert_eq!(what(address), Some(*expected), "{address}");
            }
        }
    }

    #[test]
    fn what_no_caller_may_allow_is_not_private() {
        for address in ["169.254.169.254", "fe80::1", "224.0.0.1", "0.0.0.0", "::", "192.0.2.1"] {
            assert!(what(address).is_some_and(|s| !s.private), "{address}");
        }
    }
}
