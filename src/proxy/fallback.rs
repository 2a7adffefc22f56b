//! The fallback: what is asked for below the domain, and that no route takes, leads to the control plane, which says why.
//!
//! # Guarantees
//! - It is tried last: whatever has a router of its own is never taken by it.
//! - Hosts that are not below the domain are not its business: they stay the proxy's.

use super::dynamic::{Http, Router};
use crate::resource::names;

/// Name of its router.
pub(super) const FALLBACK: &str = "fallback";
/// Below that of every other router.
pub(super) const PRIORITY: i64 = 1;

/// Prints the one rule that is not of one host: all hosts below a domain, however deep.
///
/// # Errors
/// When there can be no host below the domain. What is printed has letters, digits, `-` and dots alone, and dots are escaped.
pub fn below_rule(domain: &str) -> Result<String, String> {
    names::host_name(&format!("x.{domain}")).map_err(|why| format!("domain {domain:?}: what is below it {why}"))?;
    Ok(format!(r"HostRegexp(`^([a-z0-9-]+\.)+{}\.?$`)", domain.replace('.', r"\.")))
}

/// Adds it, where there is a panel that `panel`, its router, leads to. A domain that cannot be printed has none.
pub(super) fn add(http: &mut Http, domain: &str, panel: &str) {
    let (Ok(rule), Some(panel)) = (below_rule(domain), http.routers.get(panel)) else { return };
    let fallback = Router { rule, priority: PRIORITY, ..panel.clone() };
    http.routers.insert(FALLBACK.into(), fallback);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_domain_is_escaped_and_its_hosts_are_below_it() {
        assert_eq!(below_rule("localhost").unwrap(), r"HostRegexp(`^([a-z0-9-]+\.)+localhost\.?$`)");
        assert_eq!(below_rule("ws.example.com").unwrap(), r"HostRegexp(`^([a-z0-9-]+\.)+ws\.example\.com\.?$`)");
        for bad in ["", "*", "a`) || PathPrefix(`/", "A.com", "a..b", ".com", "com.", "a b", "10.0.0.1", "a|b", "(a)", "a\n"] {
            assert!(below_rule(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn no_domain_brings_more_than_letters_digits_dots_and_dashes(domain in ".{0,40}") {
            if let Ok(rule) = below_rule(&domain) {
                prop_assert!(domain.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.'));
                prop_assert_eq!(rule.matches('`').count(), 2);
                prop_assert_eq!(rule.matches(r"\.").count(), domain.matches('.').count() + 2);
            }
        }
    }
}
