//! Passwords: which are taken, and their hashes (Argon2id with 19 MiB, 2 passes, 1 lane, OWASP's least).
//!
//! # Guarantees
//! - Hashes are made on threads of their own that give way to every other one: at most two at once, and one where there are no more
//!   than two cores.
//! - Who finds no place in the queue is told so before anything is looked up or worked out.

use super::words::OwnWords;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Argon2, Params};
use std::collections::HashSet;
use std::sync::LazyLock;
use tokio::sync::{Semaphore, SemaphorePermit, oneshot};

/// The shortest one taken, in characters.
const SHORTEST: usize = 8;
/// The longest one taken, in bytes; longer ones are refused, never cut.
const LONGEST: usize = 1024;
/// The 3,000 most common ones of at least 8 characters, of zxcvbn-ts's list (MIT).
static COMMON: LazyLock<HashSet<&str>> = LazyLock::new(|| include_str!("common_passwords.txt").lines().collect());
/// Each takes 19 MiB and tens of milliseconds of a processor: not more of them at once.
static AT_ONCE: LazyLock<Semaphore> =
    LazyLock::new(|| Semaphore::new(at_once(std::thread::available_parallelism().map_or(1, |n| n.get()))));
/// So many wait for their turn; more are sent away, so that a flood of them holds nobody up for long.
static WAITING: Semaphore = Semaphore::const_new(50);
/// How far the threads that hash stand behind all others: as far as there is.
const NICENESS: i32 = 19;

/// Hashes made at once on so many cores. One of two is for everything else.
fn at_once(cores: usize) -> usize {
    if cores > 2 { 2 } else { 1 }
}

/// Too many passwords are being looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many people are signing in at this moment")]
pub struct Busy;

/// A place among those that wait for their turn.
pub struct Place {
    _held: SemaphorePermit<'static>,
}

impl Place {
    /// Takes one, before anything is asked about whose password it is.
    ///
    /// # Errors
    /// [`Busy`] when there is none.
    pub fn take() -> Result<Self, Busy> {
        WAITING.try_acquire().map(|_held| Self { _held }).map_err(|_| Busy)
    }
}

/// A password, which is never printed.
#[derive(Clone)]
pub struct Password(String);

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password(…)")
    }
}

impl From<String> for Password {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl Password {
    /// Whether it may be set, where words of one's own count for nothing.
    ///
    /// # Errors
    /// Says what is allowed.
    pub(super) fn check(&self, own: &OwnWords) -> Result<(), &'static str> {
        let is_short = |text: &str| text.chars().count() < SHORTEST;
        if is_short(&self.0) || self.0.len() > LONGEST {
            return Err("must have 8 characters or more, and 1,024 bytes at most");
        }
        if COMMON.contains(self.0.to_lowercase().as_str()) {
            return Err("is one of the 3,000 most common ones: take several words, or what your password manager makes");
        }
        let left = own.taken_from(&self.0);
        if is_short(&left) || COMMON.contains(left.as_str()) {
            return Err(
                "is little more than names that are known here, of DevSanctum, its host or you: without them 8 characters \
                        must be left that are no common password",
            );
        }
        Ok(())
    }

    /// Hashes it, in its turn.
    ///
    /// # Errors
    /// [`Busy`]; words when there are no random bytes.
    pub async fn hash(self, place: Place) -> Result<Result<String, String>, Busy> {
        let work =
            move || Argon2::default().hash_password(self.0.as_bytes()).map(|hash| hash.to_string()).map_err(|e| e.to_string());
        aside(place, work).await
    }

    /// Compares it with a hash, in its turn; without one it takes as long. A hash of weaker parameters than today's is told
    /// to be made anew.
    ///
    /// # Errors
    /// [`Busy`].
    pub async fn verify(self, hash: Option<String>, place: Place) -> Result<Verified, Busy> {
        // One that nobody can have is compared with nobody's. There may be old ones of eight bytes in fewer characters.
        let hash = hash.filter(|_| (SHORTEST..=LONGEST).contains(&self.0.len()));
        let known = hash.is_some();
        let verified = self.compare(hash, place).await?;
        Ok(if known { verified } else { Verified::No })
    }

    async fn compare(self, hash: Option<String>, place: Place) -> Result<Verified, Busy> {
        static NOBODYS: LazyLock<Option<String>> =
            LazyLock::new(|| Argon2::default().hash_password(b"nobody's").ok().map(|hash| hash.to_string()));
        let compared = aside(place, move || {
            let hash = hash.or_else(|| NOBODYS.clone())?;
            let parsed = PasswordHash::new(&hash).ok()?;
            Argon2::default().verify_password(self.0.as_bytes(), &parsed).ok()?;
            let params = Params::try_from(&parsed).ok()?;
            let strong = params.m_cost() >= Params::DEFAULT_M_COST && params.t_cost() >= Params::DEFAULT_T_COST;
            Some(if strong { Verified::Yes } else { Verified::Weak })
        });
        Ok(compared.await?.unwrap_or(Verified::No))
    }
}

/// Whether a password is the right one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verified {
    /// It is.
    Yes,
    /// It is, and its hash is to be made anew.
    Weak,
    /// It is not.
    No,
}

/// Has something worked out in its turn, by a thread that gives way.
async fn aside<T: Send + 'static>(place: Place, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Busy> {
    let turn = AT_ONCE.acquire().await.map_err(|_| Busy)?;
    drop(place);
    let (told, done) = oneshot::channel();
    let thread = std::thread::Builder::new().name("password".into()).spawn(move || {
        // Of the calling thread alone. Where it may not be, hashes are made as anything else is.
        let _ = rustix::process::setpriority_process(None, NICENESS);
        // Until it is done, also when nobody waits for it any more: that is what takes the processor.
        let _turn = turn;
        let _ = told.send(work());
    });
    thread.map_err(|_| Busy)?;
    done.await.map_err(|_| Busy)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(text: &str) -> Password {
        Password(text.to_owned())
    }

    #[test]
    fn short_and_common_ones_are_refused() {
        let own = OwnWords::of([]);
        for bad in ["", "short", "1234567", "πρόχειρ", "🐴🔋📎", "password", "Password", "qwertyuiop", &"x".repeat(1025)]
        {
            assert!(password(bad).check(&own).is_err(), "{bad:?}");
        }
        for good in ["correct horse battery staple", "πρόχειρο", &"x".repeat(1024)] {
            assert!(password(good).check(&own).is_ok(), "{good:?}");
        }
        assert_eq!(COMMON.len(), 3000);
        assert_eq!(format!("{:?}", password("hunter22")), "Password(…)");
    }

    #[test]
    fn one_made_of_names_that_are_known_here_is_refused() {
        let own = OwnWords::of(["panel.example.com", "ada", "ada.lovelace", "Countess Ada"]);
        for bad in
            ["DevSanctum", "devsanctum1!", "Ada-Lovelace-1", "example.com-2026", "COUNTESSada12", "adapassword", "adaadaadaada"]
        {
            assert!(password(bad).check(&own).is_err(), "{bad:?}");
        }
        for good in ["ada likes horses", "correct horse", "devsanctum, of all places"] {
            assert!(password(good).check(&own).is_ok(), "{good:?}");
        }
    }

    fn place() -> Place {
        Place::take().unwrap()
    }

    /// The niceness of a thread of this process; `None` when it has ended.
    fn niceness(thread: &std::path::Path) -> Option<i32> {
        let stat = std::fs::read_to_string(thread.join("stat")).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(16)?.parse().ok()
    }

    #[tokio::test]
    async fn hashes_are_made_by_threads_that_give_way_and_no_more_at_once_than_allowed() {
        assert_eq!([1, 2, 3, 64].map(at_once), [1, 1, 2, 2]);
        let allowed = at_once(std::thread::available_parallelism().unwrap().get());
        static RUNNING: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let work = || {
            aside(place(), || {
                let now = RUNNING.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
                std::thread::sleep(std::time::Duration::from_millis(20));
                RUNNING.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                (now, niceness(std::path::Path::new("/proc/thread-self")))
            })
        };
        for done in futures::future::join_all((0..8).map(|_| work())).await {
            let (running, nice) = done.unwrap();
            assert!(running <= allowed && nice == Some(NICENESS), "{running} {nice:?}");
        }
        assert!(niceness(std::path::Path::new("/proc/thread-self")).unwrap() < NICENESS, "whoever waits for it does not");
    }

    #[tokio::test]
    async fn a_hash_is_of_one_password_alone() {
        let hash = password("correct horse").hash(place()).await.unwrap().unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert_ne!(hash, password("correct horse").hash(place()).await.unwrap().unwrap(), "salted");
        assert_eq!(password("correct horse").verify(Some(hash.clone()), place()).await.unwrap(), Verified::Yes);
        assert_eq!(password("correct horsf").verify(Some(hash.clone()), place()).await.unwrap(), Verified::No);
        assert_eq!(password("correct horse ").verify(Some(hash), place()).await.unwrap(), Verified::No);
        assert_eq!(password("nobody's").verify(None, place()).await.unwrap(), Verified::No);
        assert_eq!(password("correct horse").verify(Some("nonsense".into()), place()).await.unwrap(), Verified::No);
    }

    #[tokio::test]
    async fn a_weak_hash_is_to_be_made_anew() {
        let params = Params::new(8192, 1, 1, None).unwrap();
        let weak = Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
        let hash = weak.hash_password(b"correct horse").unwrap().to_string();
        assert_eq!(password("correct horse").verify(Some(hash.clone()), place()).await.unwrap(), Verified::Weak);
        assert_eq!(password("another horse").verify(Some(hash), place()).await.unwrap(), Verified::No);
    }
}
