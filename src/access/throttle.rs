//! How often somebody may guess: by account and by network, without shutting anybody out of their own account. And how often
//! somebody who is known may ask the API.
//!
//! A browser that has signed in to an account before has guesses of its own there, which nobody else can use up.

use super::{Identity, IdentityKind};
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Guesses at once, and then one each so often: at most 100 in an hour on one account.
const ACCOUNT: Rate = Rate { burst: 10.0, every: Duration::from_secs(40) };
/// From one network, on whatever accounts.
const NETWORK: Rate = Rate { burst: 50.0, every: Duration::from_secs(6) };
/// From one site, which has 65,536 networks of IPv6.
const SITE: Rate = Rate { burst: 400.0, every: Duration::from_millis(750) };
/// By one browser that was here before.
const KNOWN: Rate = Rate { burst: 10.0, every: Duration::from_secs(60) };
/// Requests to the API by one key.
const KEY: Rate = Rate { burst: 2_000.0, every: Duration::from_millis(5) };
/// By one user, whatever their keys: making more of them gives no more.
const USER: Rate = Rate { burst: 4_000.0, every: Duration::from_micros(2_500) };
/// By the administrator's token, which is for the tools of the machine itself.
const ADMINISTRATOR: Rate = Rate { burst: 20_000.0, every: Duration::from_micros(200) };
/// Remembered of each table one by one; those that have all they may have are forgotten first.
const REMEMBERED: usize = 100_000;
/// Where there is no room for more, they are counted together, in so many crowds.
const CROWDS: u64 = 4_096;
/// How often a full table is looked through.
const LOOKED_THROUGH: Duration = Duration::from_secs(1);

#[derive(Clone, Copy)]
struct Rate {
    burst: f64,
    every: Duration,
}

/// What guesses are counted of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Counted {
    Account,
    Network,
    Site,
    Known,
    Key,
    User,
    Administrator,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Who {
    One(String),
    /// Those whom chance has put together.
    Crowd(u64),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Of(Counted, Who);

struct Left {
    guesses: f64,
    at: Instant,
}

/// Counts guesses. What strangers can fill is apart from what those have who are known.
#[derive(Default)]
pub struct Throttle {
    strangers: Mutex<Table>,
    known: Mutex<Table>,
    requests: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    left: HashMap<Of, Left>,
    looked_through: Option<Instant>,
    chance: RandomState,
}

/// The network of an address: all of it for IPv4, the first 64 bits for IPv6.
pub fn network(address: IpAddr) -> [u8; 8] {
    let bytes = match address.to_canonical() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets()[8..].to_vec(),
        IpAddr::V6(v6) => v6.octets()[..8].to_vec(),
    };
    bytes.try_into().unwrap_or_default()
}

/// The network of an address, and for IPv6 the site that it is of.
fn counted_by(address: IpAddr) -> Vec<Of> {
    let network = network(address);
    let site = address.to_canonical().is_ipv6().then(|| Of::one(Counted::Site, format!("{:x?}", &network[..6])));
    [Of::one(Counted::Network, format!("{network:x?}"))].into_iter().chain(site).collect()
}

impl Rate {
    fn left(self, left: &Left, now: Instant) -> f64 {
        let more = now.saturating_duration_since(left.at).as_secs_f64() / self.every.as_secs_f64();
        (left.guesses + more).min(self.burst)
    }
}

impl Of {
    fn one(counted: Counted, name: impl Into<String>) -> Self {
        Self(counted, Who::One(name.into()))
    }

    fn rate(&self) -> Rate {
        match self.0 {
            Counted::Account => ACCOUNT,
            Counted::Network => NETWORK,
            Counted::Site => SITE,
            Counted::Known => KNOWN,
            Counted::Key => KEY,
            Counted::User => USER,
            Counted::Administrator => ADMINISTRATOR,
        }
    }
}

/// What mail to an address is counted by: apart from guesses, so that nobody who asks for mail uses them up.
pub fn mail_to(email: &str) -> String {
    format!("mail to {}", email.to_lowercase())
}

impl Throttle {
    /// Takes one guess on an account; how long to wait where there is none left. `known` is what a browser shows that has
    /// signed in to this account before.
    ///
    /// # Errors
    /// How long to wait.
    pub fn guess(&self, account: &str, from: IpAddr, known: Option<&str>, now: Instant) -> Result<(), Duration> {
        match known {
            Some(browser) => take(&self.known, vec![Of::one(Counted::Known, format!("{account} {browser}"))], now),
            None => {
                let mut all = counted_by(from);
                all.push(Of::one(Counted::Account, account));
                take(&self.strangers, all, now)
            }
        }
    }

    /// Takes one of a network's guesses, for what is about no account yet.
    ///
    /// # Errors
    /// How long to wait.
    pub fn knock(&self, from: IpAddr, now: Instant) -> Result<(), Duration> {
        take(&self.strangers, counted_by(from), now)
    }

    /// Takes one of the requests that a caller has; the parts of this program have as many as they like.
    ///
    /// # Errors
    /// How long to wait.
    pub fn request(&self, who: &Identity, now: Instant) -> Result<(), Duration> {
        let mut all = match who.kind {
            IdentityKind::System => return Ok(()),
            IdentityKind::Administrator => vec![Of::one(Counted::Administrator, &who.name)],
            IdentityKind::User => vec![Of::one(Counted::User, &who.name)],
        };
        all.extend(who.key.iter().filter(|_| who.kind == IdentityKind::User).map(|key| Of::one(Counted::Key, key)));
        take(&self.requests, all, now)
    }
}

/// One of each, or none of any.
fn take(table: &Mutex<Table>, all: Vec<Of>, now: Instant) -> Result<(), Duration> {
    let mut table = table.lock().unwrap_or_else(PoisonError::into_inner);
    let all: Vec<Of> = all.into_iter().map(|of| table.place(of, now)).collect();
    let wait = all.iter().map(|of| of.rate().every.mul_f64((1.0 - table.left(of, now)).max(0.0))).max().unwrap_or_default();
    if !wait.is_zero() {
        return Err(wait);
    }
    for of in all {
        let guesses = table.left(&of, now) - 1.0;
        table.left.insert(of, Left { guesses, at: now });
    }
    Ok(())
}

impl Table {
    fn left(&self, of: &Of, now: Instant) -> f64 {
        self.left.get(of).map_or(of.rate().burst, |left| of.rate().left(left, now))
    }

    /// Where it is counted: by itself while there is room, and with others where there is none. Nobody is so refused for another's
    /// sake alone, or let guess without being counted.
    fn place(&mut self, of: Of, now: Instant) -> Of {
        if self.left.len() < REMEMBERED || self.left.contains_key(&of) {
            return of;
        }
        if self.looked_through.is_none_or(|at| now.saturating_duration_since(at) >= LOOKED_THROUGH) {
            self.looked_through = Some(now);
            self.left.retain(|of, left| of.rate().left(left, now) < of.rate().burst);
        }
        if self.left.len() < REMEMBERED { of } else { Of(of.0, Who::Crowd(self.chance.hash_one(&of) % CROWDS)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn ten_thousand_guesses_come_to_a_hundred_an_hour_and_the_owner_gets_in() {
        let (throttle, begun) = (Throttle::default(), Instant::now());
        let mut heard = 0;
        for n in 0..10_000u32 {
            let from = IpAddr::from([10, 0, (n % 250) as u8, (n / 250 % 250) as u8]);
            let now = begun + Duration::from_millis(u64::from(n) * 360);
            heard += u32::from(throttle.guess("ada@example.com", from, None, now).is_ok());
        }
        assert!((90..=100).contains(&heard), "{heard}");
        let end = begun + Duration::from_secs(3600);
        assert!(throttle.guess("ada@example.com", at("192.0.2.1"), Some("her browser"), end).is_ok());
        assert!(throttle.guess("bob@example.com", at("192.0.2.1"), None, end).is_ok());
    }

    #[test]
    fn a_caller_has_its_requests_by_key_by_user_and_by_the_administrators_token() {
        let (throttle, begun) = (Throttle::default(), Instant::now());
        let ask = |who: &Identity, count: u32, seconds: u64| {
            let now = begun + Duration::from_secs(seconds);
            (0..count).filter(|_| throttle.request(who, now).is_ok()).count()
        };
        let by = |user: &str, key: &str| Identity { key: Some(key.into()), ..Identity::person(user) };
        assert_eq!(ask(&by("ada", "one"), 5_000, 0), 2_000);
        assert_eq!(ask(&by("ada", "one"), 5_000, 1), 200);
        // Another key goes on, and a third finds what its user has left.
        assert_eq!(ask(&by("ada", "two"), 5_000, 1), 2_000);
        assert_eq!(ask(&by("ada", "three"), 5_000, 1), 200);
        assert_eq!(ask(&by("bob", "four"), 5_000, 1), 2_000);
        assert_eq!(ask(&Identity::administrator("admin"), 30_000, 1), 20_000);
        assert_eq!(ask(&Identity::system("a loop"), 30_000, 1), 30_000);
        let wait = throttle.request(&by("ada", "one"), begun + Duration::from_secs(1)).unwrap_err();
        assert!(wait > Duration::ZERO && wait <= Duration::from_millis(5), "{wait:?}");
    }

    #[test]
    fn a_network_has_its_guesses_whatever_the_accounts() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        let guess = |n: u32, from: &str| throttle.guess(&format!("{n}@example.com"), at(from), None, now);
        assert_eq!((0..60).filter(|n| guess(*n, &format!("2001:db8::{n:x}")).is_ok()).count(), 50);
        assert!(guess(100, "2001:db8:0:1::1").is_ok());
        let wait = guess(101, "2001:db8::1").unwrap_err();
        assert!(wait > Duration::ZERO && wait <= Duration::from_secs(6), "{wait:?}");
    }
    /// Strangers who come from everywhere at once take nobody else's guesses, and have no more than others.
    #[test]
    fn a_table_that_is_full_still_counts() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        let stranger = |n: u32| IpAddr::from(std::net::Ipv6Addr::from_bits(u128::from(n) << 80));
        for n in 0..200_000 {
            let _ = throttle.guess(&format!("{n}@example.com"), stranger(n), None, now);
        }
        let held = throttle.strangers.lock().unwrap().left.len();
        assert!((REMEMBERED..REMEMBERED + 3 * (CROWDS as usize + 1)).contains(&held), "{held}");
        assert!(throttle.guess("ada@example.com", at("192.0.2.1"), Some("her browser"), now).is_ok());
        assert!(throttle.request(&Identity::person("ada"), now).is_ok());
        // One that is not remembered alone has no more guesses than one that is.
        let heard = (0..1_000).filter(|n| throttle.guess("bob@example.com", stranger(1_000_000 + n), None, now).is_ok()).count();
        assert!(heard <= 10, "{heard}");
        // A minute later there is room again.
        assert!(throttle.guess("carol@example.com", at("192.0.2.2"), None, now + Duration::from_secs(60)).is_ok());
        assert!(throttle.strangers.lock().unwrap().left.len() <= 3 * CROWDS as usize + 10);
    }

    #[test]
    fn a_site_has_its_guesses_whatever_its_networks() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        let guess = |n: u32, from: &str| throttle.guess(&format!("{n}@example.com"), at(from), None, now);
        assert_eq!((0..2_000).filter(|n| guess(*n, &format!("2001:db8:0:{n:x}::1")).is_ok()).count(), 400);
        assert!(guess(5_000, "2001:db8:1::1").is_ok());
    }
}
