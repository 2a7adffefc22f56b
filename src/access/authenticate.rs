//! Bearer tokens.

use super::Identity;
use crate::store::{Store, StoreError};
use sha2::{Digest, Sha256};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use subtle::ConstantTimeEq;

/// How long a token's holder is remembered: a replaced token stops working at most this much later.
const REMEMBER: Duration = Duration::from_secs(1);
/// Tokens remembered at once.
const REMEMBERED: usize = 32;

/// Why a caller is not let in.
#[derive(Debug, thiserror::Error)]
pub enum Unauthenticated {
    /// No token was sent.
    #[error("Unauthorized: no bearer token was sent; use the kubeconfig that `devsanctum kubeconfig` prints")]
    Anonymous,
    /// The token is not one of ours.
    #[error("Unauthorized: the bearer token is not known here; fetch a current kubeconfig with `devsanctum kubeconfig`")]
    Unknown,
    /// The store could not be asked.
    #[error(transparent)]
    Store(#[from] StoreError),
}

struct Remembered {
    sha256: [u8; 32],
    holder: String,
    until: Instant,
}

/// Turns bearer tokens into identities. Only hashes are compared, so timing tells nothing about a token.
pub struct Authenticator {
    store: Store,
    seen: Mutex<Vec<Remembered>>,
}

impl Authenticator {
    /// An authenticator over the tokens in `store`.
    pub fn new(store: Store) -> Self {
        Self { store, seen: Mutex::default() }
    }

    /// Reads the `Authorization` header's value.
    ///
    /// # Errors
    /// When there is no bearer token, it is unknown, or the store cannot be asked.
    pub async fn authenticate(&self, authorization: Option<&[u8]>) -> Result<Identity, Unauthenticated> {
        let token = authorization.and_then(bearer).ok_or(Unauthenticated::Anonymous)?;
        let sha256: [u8; 32] = Sha256::digest(token).into();
        if let Some(holder) = self.remembered(&sha256) {
            return Ok(Identity::administrator(holder));
        }
        let holder = self.store.token_holder(sha256).await?.ok_or(Unauthenticated::Unknown)?;
        self.remember(sha256, holder.clone());
        Ok(Identity::administrator(holder))
    }

    fn remembered(&self, sha256: &[u8; 32]) -> Option<String> {
        let now = Instant::now();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.retain(|r| r.until > now);
        seen.iter().find(|r| bool::from(r.sha256.ct_eq(sha256))).map(|r| r.holder.clone())
    }

    fn remember(&self, sha256: [u8; 32], holder: String) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() < REMEMBERED {
            seen.push(Remembered { sha256, holder, until: Instant::now() + REMEMBER });
        }
    }
}

/// The token in `Bearer <token>`; the scheme's name is case-insensitive.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    let token = token.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"bearer ") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_bearer_token_is_read() {
        assert_eq!(bearer(b"Bearer abc"), Some(b"abc".as_slice()));
        assert_eq!(bearer(b"bearer  abc "), Some(b"abc".as_slice()));
        for bad in [&b"Basic abc"[..], b"Bearer", b"Bearer ", b"", b"Bearerabc"] {
            assert_eq!(bearer(bad), None);
        }
    }
}
