//! How often somebody may guess: by account and by network, without shutting anybody out of their own account. And how often
//! somebody who is known may ask the API.
//!
//! A browser that has signed in to an account before has guesses of its own there, which nobody else can use up.

use super::{Identity, IdentityKind};
use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Guesses at once, and then one each so often: at most 100 in an hour on one account.
const ACCOUNT: Rate = Rate { burst: 10.0, every: Duration::from_secs(40) };
/// From one network, on whatever accounts.
const NETWORK: Rate = Rate { burst: 50.0, every: Duration::from_secs(6) };
/// By one browser that was here before.
const KNOWN: Rate = Rate { burst: 10.0, every: Duration::from_secs(60) };
/// Requests to the API by one key.
const KEY: Rate = Rate { burst: 2_000.0, every: Duration::from_millis(5) };
/// By one user, whatever their keys: making more of them gives no more.
const USER: Rate = Rate { burst: 4_000.0, every: Duration::from_micros(2_500) };
/// By the administrator's token, which is for the tools of the machine itself.
const ADMINISTRATOR: Rate = Rate { burst: 20_000.0, every: Duration::from_micros(200) };
/// Accounts and networks remembered; those that have all their guesses are forgotten first.
const REMEMBERED: usize = 100_000;

#[derive(Clone, Copy)]
struct Rate {
    burst: f64,
    every: Duration,
}

/// What guesses are counted of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Of {
    Account(String),
    Network([u8; 8]),
    Known(String, String),
    Key(String),
    User(String),
    Administrator(String),
}

struct Left {
    guesses: f64,
    at: Instant,
}

/// Counts guesses.
#[derive(Default)]
pub struct Throttle(Mutex<HashMap<Of, Left>>);

/// The network of an address: all of it for IPv4, the first 64 bits for IPv6.
pub fn network(address: IpAddr) -> [u8; 8] {
    let bytes = match address.to_canonical() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets()[8..].to_vec(),
        IpAddr::V6(v6) => v6.octets()[..8].to_vec(),
    };
    bytes.try_into().unwrap_or_default()
}

impl Rate {
    fn left(self, left: &Left, now: Instant) -> f64 {
        let more = now.saturating_duration_since(left.at).as_secs_f64() / self.every.as_secs_f64();
        (left.guesses + more).min(self.burst)
    }
}

impl Of {
    fn rate(&self) -> Rate {
        match self {
            Self::Account(_) => ACCOUNT,
            Self::Network(_) => NETWORK,
            Self::Known(..) => KNOWN,
            Self::Key(_) => KEY,
            Self::User(_) => USER,
            Self::Administrator(_) => ADMINISTRATOR,
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
        let account = account.to_owned();
        match known {
            Some(browser) => self.take(&[Of::Known(account, browser.to_owned())], now),
            None => self.take(&[Of::Network(network(from)), Of::Account(account)], now),
        }
    }

    /// Takes one of a network's guesses, for what is about no account yet.
    ///
    /// # Errors
    /// How long to wait.
    pub fn knock(&self, from: IpAddr, now: Instant) -> Result<(), Duration> {
        self.take(&[Of::Network(network(from))], now)
    }

    /// Takes one of the requests that a caller has; the parts of this program have as many as they like.
    ///
    /// # Errors
    /// How long to wait.
    pub fn request(&self, who: &Identity, now: Instant) -> Result<(), Duration> {
        match (who.kind, &who.key) {
            (IdentityKind::System, _) => Ok(()),
            (IdentityKind::Administrator, _) => self.take(&[Of::Administrator(who.name.clone())], now),
            (IdentityKind::User, None) => self.take(&[Of::User(who.name.clone())], now),
            (IdentityKind::User, Some(key)) => self.take(&[Of::User(who.name.clone()), Of::Key(key.clone())], now),
        }
    }

    /// One of each, or none of any.
    fn take(&self, all: &[Of], now: Instant) -> Result<(), Duration> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED {
            known.retain(|of, left| of.rate().left(left, now) < of.rate().burst);
            if known.len() >= REMEMBERED {
                return Err(Duration::from_secs(1));
            }
        }
        let left = |of: &Of| known.get(of).map_or(of.rate().burst, |left| of.rate().left(left, now));
        let waits = all.iter().map(|of| of.rate().every.mul_f64((1.0 - left(of)).max(0.0)));
        let wait = waits.max().unwrap_or_default();
        if !wait.is_zero() {
            return Err(wait);
        }
        for of in all {
            let guesses = left_after(&known, of, now);
            known.insert(of.clone(), Left { guesses, at: now });
        }
        Ok(())
    }
}

fn left_after(known: &HashMap<Of, Left>, of: &Of, now: Instant) -> f64 {
    known.get(of).map_or(of.rate().burst, |left| of.rate().left(left, now)) - 1.0
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
}
