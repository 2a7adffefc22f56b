//! Callers who have not proved yet who they are, by where they come from: they hold nobody else's place.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use tokio_util::sync::CancellationToken;

/// Of one address at once. One more takes the place of the one that has waited longest: people who share an address, behind one
/// router or one proxy, are not shut out by one of them who only connects.
pub const OF_ONE: usize = 32;

#[derive(Default)]
struct Queues {
    of: BTreeMap<IpAddr, VecDeque<(u64, CancellationToken)>>,
    ever: u64,
}

/// All who wait.
#[derive(Default)]
pub struct Waiting(Mutex<Queues>);

/// One who waits. Dropped when it has come in, or its connection is over.
pub struct Knock {
    waiting: Arc<Waiting>,
    from: IpAddr,
    id: u64,
    /// Cancelled when it has to make room for another one.
    pub gives_way: CancellationToken,
}

/// What one caller has of its own: of IPv6 a network of 64 bits.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        v4 => v4,
    }
}

impl Waiting {
    /// One more from this address.
    pub fn knock(self: &Arc<Self>, address: IpAddr) -> Knock {
        let (from, gives_way) = (network(address), CancellationToken::new());
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let id = all.ever;
        all.ever += 1;
        let queue = all.of.entry(from).or_default();
        if queue.len() >= OF_ONE
            && let Some((_, longest)) = queue.pop_front()
        {
            longest.cancel();
        }
        queue.push_back((id, gives_way.clone()));
        Knock { waiting: self.clone(), from, id, gives_way }
    }
}

impl Drop for Knock {
    fn drop(&mut self) {
        let mut all = self.waiting.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = all.of.get_mut(&self.from) {
            queue.retain(|(id, _)| *id != self.id);
            if queue.is_empty() {
                all.of.remove(&self.from);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_waited_longest_makes_room_at_its_own_address_alone() {
        let waiting = Arc::new(Waiting::default());
        let from = |text: &str| waiting.knock(text.parse().unwrap());
        let other = from("192.0.2.2");
        let mut first: VecDeque<Knock> = (0..OF_ONE).map(|_| from("192.0.2.1")).collect();
        assert!(first.iter().all(|knock| !knock.gives_way.is_cancelled()));
        let _mapped = from("::ffff:192.0.2.1");
        let given: Vec<bool> = first.iter().map(|knock| knock.gives_way.is_cancelled()).collect();
        assert_eq!(given.iter().filter(|given| **given).count(), 1);
        assert!(given[0] && !other.gives_way.is_cancelled());
        // One who has come in, or is gone, is not counted.
        drop(first.pop_back());
        let _next = from("192.0.2.1");
        assert!(!first[1].gives_way.is_cancelled());

        let neighbours: Vec<Knock> = (0..=OF_ONE).map(|n| from(&format!("2001:db8::{n:x}"))).collect();
        assert!(neighbours[0].gives_way.is_cancelled(), "they are one network");
        let _elsewhere = from("2001:db8:0:1::1");
        assert!(!neighbours[1].gives_way.is_cancelled());
        drop((first, neighbours, _mapped, _next, _elsewhere, other));
        assert!(waiting.0.lock().unwrap().of.is_empty());
    }
}
