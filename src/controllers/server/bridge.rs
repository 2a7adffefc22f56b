//! Names of the network interfaces that workspaces' networks have on their host.

use crate::plan::digest;
use crate::resource::names::bridges;

/// What Linux takes (IFNAMSIZ, without the end).
const LONGEST: usize = 15;

/// The interface of a workspace's own network: it begins as all of the installation's do, so that one firewall rule is for all of
/// them. What is left of the name takes a billion values, and an engine has some thousand networks at most.
pub fn own_bridge(instance: &str, network: &str) -> String {
    const DIGITS: &[u8; 62] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    let mut rest = u64::from_str_radix(&digest(network), 16).unwrap_or_default();
    let mut name = bridges(instance);
    while name.len() < LONGEST {
        name.push(char::from(DIGITS[usize::try_from(rest % 62).unwrap_or_default()]));
        rest /= 62;
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn networks_have_interfaces_of_their_own_that_begin_alike() {
        let all: BTreeSet<String> = (0..2000).map(|i| own_bridge("0123abcd-ffff", &format!("ds-team-w{i}"))).collect();
        assert_eq!(all.len(), 2000);
        assert!(all.iter().all(|name| name.len() == LONGEST && name.starts_with("ds0123abcd")), "{:?}", all.first());
    }
}
