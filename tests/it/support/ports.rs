//! Ports for what is started by a test and binds them itself.

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

/// Below the ports that the kernel gives to whoever does not name one.
const FIRST: u32 = 10_000;
const COUNT: u32 = 22_000;

/// An address on loopback that nobody listens at. Each is given once in this process, other test processes begin
/// elsewhere, and the kernel does not give it to a connection: so it is still free when its user binds it.
pub fn free_address() -> SocketAddr {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    let begin = std::process::id().wrapping_mul(397);
    let mut ports = (0..COUNT).map(|_| FIRST + begin.wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed)) % COUNT);
    let free = ports.find_map(|port| TcpListener::bind(("127.0.0.1", u16::try_from(port).unwrap())).ok());
    free.expect("no port is free").local_addr().unwrap()
}

#[test]
fn no_address_is_given_twice_and_none_that_the_kernel_gives() {
    let given: std::collections::BTreeSet<u16> = (0..500).map(|_| free_address().port()).collect();
    assert_eq!(given.len(), 500);
    assert!(given.iter().all(|p| (10_000..32_000).contains(p)), "{given:?}");
}
