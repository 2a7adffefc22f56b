//! API keys: `dsk_<id>_<secret>`, shown once and stored as a hash.

use super::Scope;
use crate::store::{ApiKey, Store, StoreError};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

/// What a key begins with, so that scanners know one that was published by mistake.
pub const PREFIX: &[u8] = b"dsk_";
/// Keys of one user.
const MOST: i64 = 100;
/// Longest label, in characters.
const MAX_LABEL: usize = 64;
/// Longest life, which is also that of a key for which nothing is said.
const LONGEST: SignedDuration = SignedDuration::from_hours(24 * 365);
/// Most things of a sort that a scope names.
const MAX_SCOPE: usize = 64;
/// Bytes of chance in a key's id and in its secret.
const ID: usize = 6;
const SECRET: usize = 32;

/// A key that is wanted.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// Name of its `User`.
    pub user: String,
    /// What its holder calls it.
    pub label: String,
    /// What it is for.
    pub scope: Scope,
    /// How long it is worth something; a year where left out, and at most.
    pub lasts: Option<SignedDuration>,
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The request is wrong.
    #[error("{0}")]
    Wrong(String),
    /// No such user, or too many keys.
    #[error("there is no user {0:?}, or they have {MOST} keys already: end some")]
    NoRoom(String),
    /// The store, or chance, failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl NewKey {
    fn check(&self) -> Result<(), KeyError> {
        let wrong = |what: &str| Err(KeyError::Wrong(what.to_owned()));
        if self.label.is_empty() || self.label.chars().count() > MAX_LABEL || self.label.chars().any(char::is_control) {
            return wrong("name: must be printable, 1 to 64 characters, such as \"laptop\"");
        }
        if self.lasts.is_some_and(|lasts| lasts <= SignedDuration::ZERO || lasts > LONGEST) {
            return wrong("expiresInSeconds: must be more than 0 and at most a year (31536000): make a new key before it ends");
        }
        let Scope { verbs, kinds, projects } = &self.scope;
        let plain = |word: &String| {
            !word.is_empty()
                && word.len() <= 63
                && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        match [verbs, kinds, projects].iter().all(|list| list.len() <= MAX_SCOPE && list.iter().all(plain)) {
            true => Ok(()),
            false => wrong("scope: must be lists of verbs, of plurals of kinds, and of projects, of 64 words each at most"),
        }
    }
}

fn chance(bytes: &mut [u8]) -> Result<(), KeyError> {
    getrandom::fill(bytes).map_err(|e| KeyError::Store(StoreError::Database(format!("no random bytes: {e}"))))
}

/// Makes a key; the text is told this once, and never again.
///
/// # Errors
/// What is wrong with what is wanted, and the store's own.
pub async fn issue(store: &Store, wanted: NewKey, now: Timestamp) -> Result<(ApiKey, String), KeyError> {
    wanted.check()?;
    let (mut id, mut secret) = ([0; ID], [0; SECRET]);
    chance(&mut id)?;
    chance(&mut secret)?;
    let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    let text = format!("dsk_{id}_{}", URL_SAFE_NO_PAD.encode(secret));
    let scope = serde_json::to_string(&wanted.scope).map_err(|e| KeyError::Wrong(e.to_string()))?;
    let NewKey { user, label, lasts, .. } = wanted;
    let expires_at = Some((now + lasts.unwrap_or(LONGEST)).as_millisecond());
    let key = ApiKey { id, user, label, scope, created_at: now.as_millisecond(), expires_at, used_at: None };
    match store.add_api_key(key.clone(), Sha256::digest(&text).into(), MOST).await? {
        true => Ok((key, text)),
        false => Err(KeyError::NoRoom(key.user)),
    }
}
