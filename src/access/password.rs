//! Passwords: which are taken, and their hashes (Argon2id with 19 MiB, 2 passes, 1 lane, OWASP's least).

use super::words::OwnWords;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Argon2, Params};
use std::collections::HashSet;
use std::sync::LazyLock;
use tokio::sync::Semaphore;

/// The shortest one taken, in characters.
const SHORTEST: usize = 8;
/// The longest one taken, in bytes; longer ones are refused, never cut.
const LONGEST: usize = 1024;
/// The 3,000 most common ones of at least 8 characters, of zxcvbn-ts's list (MIT).
static COMMON: LazyLock<HashSet<&str>> = LazyLock::new(|| include_str!("common_passwords.txt").lines().collect());
/// Each takes 19 MiB and tens of milliseconds of a processor: not more of them at once.
static AT_ONCE: Semaphore = Semaphore::const_new(2);
/// So many wait for their turn; more are sent away, so that a flood of them holds nobody up for long.
static WAITING: Semaphore = Semaphore::const_new(50);

/// Too many passwords are being looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many people are signing in at this moment")]
pub struct Busy;

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
    pub async fn hash(self) -> Result<Result<String, String>, Busy> {
        aside(move || Argon2::default().hash_password(self.0.as_bytes()).map(|hash| hash.to_string()).map_err(|e| e.to_string()))
            .await
    }

    /// Compares it with a hash, in its turn; without one it takes as long. A hash of weaker parameters than today's is told
    /// to be made anew.
    ///
    /// # Errors
    /// [`Busy`].
    pub async fn verify(self, hash: Option<String>) -> Result<Verified, Busy> {
        static NOBODYS: LazyLock<Option<String>> =
            LazyLock::new(|| Argon2::default().hash_password(b"nobody's").ok().map(|hash| hash.to_string()));
        // One that nobody can have is compared with nobody's. There may be old ones of eight bytes in fewer characters.
        let hash = hash.filter(|_| (SHORTEST..=LONGEST).contains(&self.0.len()));
        let known = hash.is_some();
        let verified = self.compare(hash.or_else(|| NOBODYS.clone())).await?;
        Ok(if known { verified } else { Verified::No })
    }

    async fn compare(self, hash: Option<String>) -> Result<Verified, Busy> {
        let compared = aside(move || {
            let hash = hash?;
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

async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Busy> {
    let place = WAITING.try_acquire().map_err(|_| Busy)?;
    let _turn = AT_ONCE.acquire().await.map_err(|_| Busy)?;
    drop(place);
    tokio::task::spawn_blocking(work).await.map_err(|_| Busy)
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

    #[tokio::test]
    async fn a_hash_is_of_one_password_alone() {
        let hash = password("correct horse").hash().await.unwrap().unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert_ne!(hash, password("correct horse").hash().await.unwrap().unwrap(), "salted");
        assert_eq!(password("correct horse").verify(Some(hash.clone())).await.unwrap(), Verified::Yes);
        assert_eq!(password("correct horsf").verify(Some(hash.clone())).await.unwrap(), Verified::No);
        assert_eq!(password("correct horse ").verify(Some(hash)).await.unwrap(), Verified::No);
        assert_eq!(password("nobody's").verify(None).await.unwrap(), Verified::No);
        assert_eq!(password("correct horse").verify(Some("nonsense".into())).await.unwrap(), Verified::No);
    }

    #[tokio::test]
    async fn a_weak_hash_is_to_be_made_anew() {
        let params = Params::new(8192, 1, 1, None).unwrap();
        let weak = Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
        let hash = weak.hash_password(b"correct horse").unwrap().to_string();
        assert_eq!(password("correct horse").verify(Some(hash.clone())).await.unwrap(), Verified::Weak);
        assert_eq!(password("another horse").verify(Some(hash)).await.unwrap(), Verified::No);
    }
}
