//! Callers who have not proved yet who they are, by where they come from: they hold nobody else's place.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use tokio_util::sync::CancellationToken;

/// Of one address at once. One more takes the place of the one that has waited longest: people who share an address, behind one
/// router or one proxy, are not shut out by one of them who only connects.
pub const OF_ONE: usize = 32;
/// Of all together at once: one more takes the place of the one that has waited longest where most come from.
pub const OF_ALL: usize = 256;

#[derive(Default)]
struct Queues {
    of: BTreeMap<IpAddr, VecDeque<(u64, CancellationToken)>>,
    ever: u64,
}

impl Queues {
    fn all(&self) -> usize {
        self.of.values().map(VecDeque::len).sum()
    }

    /// Where most come from; of several such the one where somebody has waited longest.
    fn fullest(&self) -> Option<IpAddr> {
        let first = |queue: &VecDeque<(u64, CancellationToken)>| Reverse(queue.front().map(|(id, _)| *id));
        self.of.iter().max_by_key(|(_, queue)| (queue.len(), first(queue))).map(|(from, _)| *from)
    }

    /// Sends away who has waited longest there.
    fn make_room(&mut self, from: IpAddr) {
        let Some(queue) = self.of.get_mut(&from) else { return };
        if let Some((_, longest)) = queue.pop_front() {
            longest.cancel();
        }
        if queue.is_empty() {
            self.of.remove(&from);
        }
    }
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
        let crowded = all.of.get(&from).is_some_and(|queue| queue.len() >= OF_ONE).then_some(from);
        if let Some(at) = crowded.or_else(|| if all.all() >= OF_ALL { all.fullest() } else { None }) {
            all.make_room(at);
        }
        all.of.entry(from).or_default().push_back((id, gives_way.clone()));
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

    #[test]
    fn of_all_together_those_make_room_of_whom_there_are_most() {
        let waiting = Arc::new(Waiting::default());
        let from = |text: &str| waiting.knock(text.parse().unwrap());
        let few = from("192.0.2.1");
        let many: Vec<Knock> = (0..OF_ALL).map(|n| from(&format!("198.51.100.{}", n / (OF_ONE - 1)))).collect();
        assert_eq!(waiting.0.lock().unwrap().all(), OF_ALL);
        assert!(many[0].gives_way.is_cancelled() && !few.gives_way.is_cancelled());
        assert_eq!(many.iter().filter(|knock| knock.gives_way.is_cancelled()).count(), 1);
        drop(many);
        // Where all are alone, it is who has waited longest.
        let alone: Vec<Knock> = (0..OF_ALL).map(|n| from(&format!("203.0.{}.{}", n / 100, n % 100))).collect();
        assert!(few.gives_way.is_cancelled() && alone.iter().all(|knock| !knock.gives_way.is_cancelled()));
        drop((few, alone));
        assert!(waiting.0.lock().unwrap().of.is_empty());
    }
}
