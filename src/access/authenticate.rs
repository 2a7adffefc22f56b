//! Bearer tokens: the administrator's, and API keys.

use super::keys::PREFIX;
use super::throttle::Throttle;
use super::{Identity, Scope};
use crate::store::{ApiKey, Store, StoreError};
use k8s_openapi::jiff::Timestamp;
use sha2::{Digest, Sha256};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use subtle::ConstantTimeEq;

/// How long a token's holder is remembered: one that was replaced or ended stops working at most this much later.
const REMEMBER: Duration = Duration::from_secs(1);
/// Tokens remembered at once.
const REMEMBERED: usize = 256;
/// How exactly the last use of a key is noted, in milliseconds.
const USE_NOTED: i64 = 60_000;

/// Why a caller is not let in.
#[derive(Debug, thiserror::Error)]
pub enum Unauthenticated {
    /// No token was sent.
    #[error("Unauthorized: no bearer token was sent; use the kubeconfig that `devsanctum kubeconfig` prints")]
    Anonymous,
    /// The token is not one of ours.
    #[error("Unauthorized: the bearer token is not known here; fetch a current kubeconfig with `devsanctum kubeconfig`")]
    Unknown,
    /// An API key whose time is over.
    #[error("Unauthorized: the API key {0:?} has expired: make a new one with `devsanctum key create`")]
    Expired(String),
    /// The store could not be asked.
    #[error(transparent)]
    Store(#[from] StoreError),
}

struct Remembered {
    sha256: [u8; 32],
    holder: Identity,
    until: Instant,
}

/// Turns bearer tokens into identities. Only hashes are compared, so timing tells nothing about a token.
pub struct Authenticator {
    store: Store,
    seen: Mutex<Vec<Remembered>>,
    throttle: Throttle,
}

impl Authenticator {
    /// An authenticator over the tokens in `store`.
    pub fn new(store: Store) -> Self {
        Self { store, seen: Mutex::default(), throttle: Throttle::default() }
    }

    /// Reads the `Authorization` header's value.
    ///
    /// # Errors
    /// When there is no bearer token, it is unknown or expired, or the store cannot be asked.
    pub async fn authenticate(&self, authorization: Option<&[u8]>, now: Timestamp) -> Result<Identity, Unauthenticated> {
        let token = authorization.and_then(bearer).ok_or(Unauthenticated::Anonymous)?;
        let sha256: [u8; 32] = Sha256::digest(token).into();
        if let Some(holder) = self.remembered(&sha256) {
            return Ok(holder);
        }
        let holder = if token.starts_with(PREFIX) {
            self.key_holder(sha256, now.as_millisecond()).await?
        } else {
            Identity::administrator(self.store.token_holder(sha256).await?.ok_or(Unauthenticated::Unknown)?)
        };
        self.remember(sha256, holder.clone());
        Ok(holder)
    }

    /// Counts a request of somebody who is known. This process alone counts.
    ///
    /// # Errors
    /// How long to wait, where there were too many.
    pub fn may_ask(&self, who: &Identity) -> Result<(), Duration> {
        self.throttle.request(who, Instant::now())
    }

    async fn key_holder(&self, sha256: [u8; 32], now: i64) -> Result<Identity, Unauthenticated> {
        let key = self.store.api_key_by_hash(sha256).await?.ok_or(Unauthenticated::Unknown)?;
        if key.expires_at.is_some_and(|at| at <= now) {
            return Err(Unauthenticated::Expired(key.label));
        }
        self.note_use(&key, now);
        // A scope that cannot be read allows nothing.
        let scope: Scope = serde_json::from_str(&key.scope).map_err(|_| Unauthenticated::Unknown)?;
        Ok(Identity { scope: Arc::new(scope), key: Some(key.id), ..Identity::person(key.user) })
    }

    fn note_use(&self, key: &ApiKey, now: i64) {
        if key.used_at.is_none_or(|at| now - at >= USE_NOTED) {
            let (store, id) = (self.store.clone(), key.id.clone());
            // Nobody waits for it.
            tokio::spawn(async move {
                if let Err(error) = store.note_key_use(&id, now).await {
                    tracing::warn!(%error, "the use of an API key could not be noted");
                }
            });
        }
    }

    fn remembered(&self, sha256: &[u8; 32]) -> Option<Identity> {
        let now = Instant::now();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.retain(|r| r.until > now);
        seen.iter().find(|r| bool::from(r.sha256.ct_eq(sha256))).map(|r| r.holder.clone())
    }

    fn remember(&self, sha256: [u8; 32], holder: Identity) {
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
