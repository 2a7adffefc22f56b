//! Signing in from a terminal by a browser elsewhere: the device authorization grant (RFC 8628).
//!
//! # Guarantees
//! - Both codes are kept as their SHA-256 alone, work once, and for ten minutes.
//! - What is allowed is allowed by whoever answers, for themselves; it goes with their password, and is looked at again when
//!   the terminal comes for it.

use super::sign_in::{Refused, SignIn, Token, Visitor, digest};
use super::welcome::{hex, text};
use crate::store::{OneTime, StoreError};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// How long a terminal waits for an answer.
pub const DEVICE: SignedDuration = SignedDuration::from_mins(10);
/// How long a terminal is to wait between two questions.
pub const INTERVAL: SignedDuration = SignedDuration::from_secs(2);

const OF_DEVICE: &str = "device";
const OF_USER_CODE: &str = "user-code";
pub(super) const OF_ANSWER: &str = "device-answer";
const ALLOWED: &str = "allowed";
const REFUSED: &str = "refused";
/// Letters of a user code: no vowels, which make words, and so none that look like a digit.
const LETTERS: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
const LENGTH: usize = 8;
/// Longest that a terminal says of itself, in characters; it becomes the label of a key.
const MAX_CLIENT: usize = 64;
/// Terminals whose last question is remembered; beyond that all are forgotten, which slows nobody down.
const REMEMBERED: usize = 10_000;

/// A terminal that asks to be let in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asking {
    /// What it says of itself.
    pub client: String,
    /// Where it is.
    pub address: String,
    /// SHA-256 of its code.
    device: String,
}

/// What a terminal is given.
pub struct DeviceCodes {
    /// What it shows when it asks whether it may.
    pub device: Token,
    /// What somebody types, or sees, in a browser: `XXXX-XXXX`.
    pub user: String,
}

/// What a terminal is told that asks whether it may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Polled {
    /// Nobody has answered yet.
    Pending,
    /// It asks too often.
    SlowDown,
    /// There is no such code, or no longer.
    Expired,
    /// Somebody has said no, or may not come in any more.
    Denied,
    /// It may, as this user.
    Allowed {
        /// Name of the `User`.
        user: String,
        /// What the terminal says of itself.
        client: String,
    },
}

/// When terminals have asked, in milliseconds since 1970.
#[derive(Default)]
pub(super) struct Polls(Mutex<HashMap<[u8; 32], i64>>);

impl Polls {
    /// Whether it is too early for another question. This process alone counts: it is for manners, not for safety.
    fn too_early(&self, of: [u8; 32], now: Timestamp) -> bool {
        let at = now.as_millisecond();
        let mut polls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if polls.len() >= REMEMBERED {
            polls.retain(|_, last| at - *last < INTERVAL.as_millis() as i64);
        }
        if polls.len() >= REMEMBERED {
            polls.clear();
        }
        let last = polls.insert(of, at);
        last.is_some_and(|last| (0..INTERVAL.as_millis() as i64).contains(&(at - last)))
    }

    fn forget(&self, of: [u8; 32]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&of);
    }
}

fn user_code() -> Result<String, StoreError> {
    let mut code = String::with_capacity(LENGTH + 1);
    let mut letters = 0;
    while letters < LENGTH {
        let mut byte = [0];
        getrandom::fill(&mut byte).map_err(|e| StoreError::Database(format!("no random bytes: {e}")))?;
        // 240 is the last multiple of 20 in a byte: beyond, some letters would come more often.
        if byte[0] >= 240 {
            continue;
        }
        if letters == LENGTH / 2 {
            code.push('-');
        }
        code.push(LETTERS[usize::from(byte[0]) % LETTERS.len()].into());
        letters += 1;
    }
    Ok(code)
}

/// The hash of a user code, however it was typed; none of what cannot be one.
fn user_hash(code: &str) -> Option<[u8; 32]> {
    let letters: String =
        code.chars().filter(|c| !matches!(c, '-' | ' ')).map(|c| c.to_ascii_uppercase()).take(LENGTH + 1).collect();
    let whole = letters.len() == LENGTH && letters.bytes().all(|letter| LETTERS.contains(&letter));
    whole.then(|| digest(&letters))
}

fn answer_hash(device: &str) -> [u8; 32] {
    digest(&format!("{OF_ANSWER}:{device}"))
}

/// What a terminal says of itself, fit to be shown and to be the label of a key.
fn label(client: &str) -> String {
    let printable: String = client.chars().filter(|c| !c.is_control()).take(MAX_CLIENT).collect();
    if printable.trim().is_empty() { "a terminal".into() } else { printable.trim().into() }
}

impl SignIn {
    /// Makes the codes of a terminal that asks to be let in.
    ///
    /// # Errors
    /// [`Refused::TooMany`].
    pub async fn begin_device(&self, client: &str, by: &Visitor, now: Timestamp) -> Result<DeviceCodes, Refused> {
        self.knock(by)?;
        let (device, user) = (Token::new()?, user_code()?);
        let address = if by.address.is_unspecified() { String::new() } else { by.address.to_canonical().to_string() };
        let asking = Asking { client: label(client), address, device: hex(device.reveal()) };
        let (body, at) = (text(&asking)?, now.as_millisecond());
        let expires_at = (now + DEVICE).as_millisecond();
        let user_sha256 = user_hash(&user).ok_or(Refused::Link)?;
        for (sha256, purpose) in [(digest(device.reveal()), OF_DEVICE), (user_sha256, OF_USER_CODE)] {
            let it = OneTime { sha256, purpose, user: String::new(), body: body.clone(), expires_at };
            if !self.store.add_one_time(it, at).await? {
                return Err(Refused::Link);
            }
        }
        Ok(DeviceCodes { device, user })
    }

    /// The terminal that a user code is of, while nobody has answered it. Guesses are counted.
    ///
    /// # Errors
    /// [`Refused::Link`] when there is none.
    pub async fn asking(&self, code: &str, by: &Visitor, now: Timestamp) -> Result<Asking, Refused> {
        self.knock(by)?;
        let sha256 = user_hash(code).ok_or(Refused::Link)?;
        let body = self.store.peek_one_time(sha256, OF_USER_CODE, now.as_millisecond()).await?;
        body.and_then(|body| serde_json::from_str(&body).ok()).ok_or(Refused::Link)
    }

    /// Answers a terminal, once, as this user.
    ///
    /// # Errors
    /// [`Refused::Link`] when the code is worth nothing any more.
    pub async fn answer_device(
        &self,
        code: &str,
        user: &str,
        allow: bool,
        by: &Visitor,
        now: Timestamp,
    ) -> Result<Asking, Refused> {
        self.knock(by)?;
        let (sha256, at) = (user_hash(code).ok_or(Refused::Link)?, now.as_millisecond());
        let (_, body) = self.store.take_one_time(sha256, OF_USER_CODE, at).await?.ok_or(Refused::Link)?;
        let asking: Asking = serde_json::from_str(&body).map_err(|_| Refused::Link)?;
        let said = if allow { ALLOWED } else { REFUSED };
        let answer = OneTime {
            sha256: answer_hash(&asking.device),
            purpose: OF_ANSWER,
            user: user.to_owned(),
            body: said.to_owned(),
            expires_at: (now + DEVICE).as_millisecond(),
        };
        if self.store.add_one_time(answer, at).await? { Ok(asking) } else { Err(Refused::Link) }
    }

    /// What a terminal is told that asks whether it may. It is told once that it may, or may not.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn poll_device(&self, code: &str, now: Timestamp) -> Result<Polled, StoreError> {
        let (sha256, at) = (digest(code), now.as_millisecond());
        let Some(body) = self.store.peek_one_time(sha256, OF_DEVICE, at).await? else { return Ok(Polled::Expired) };
        if self.polls.too_early(sha256, now) {
            return Ok(Polled::SlowDown);
        }
        let Some((user, said)) = self.store.take_one_time(answer_hash(&hex(code)), OF_ANSWER, at).await? else {
            return Ok(Polled::Pending);
        };
        self.polls.forget(sha256);
        self.store.take_one_time(sha256, OF_DEVICE, at).await?;
        let Ok(Asking { client, .. }) = serde_json::from_str(&body) else { return Ok(Polled::Expired) };
        if said == ALLOWED && self.is_active(&user).await? { Ok(Polled::Allowed { user, client }) } else { Ok(Polled::Denied) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_code_is_read_however_it_is_typed() {
        let code = user_code().unwrap();
        assert!(code.len() == 9 && code.as_bytes()[4] == b'-', "{code}");
        let hash = user_hash(&code).unwrap();
        for typed in [code.to_lowercase(), code.replace('-', ""), code.replace('-', " ")] {
            assert_eq!(user_hash(&typed), Some(hash), "{typed}");
        }
        for bad in ["", "BCDF-GHJ", "BCDF-GHJKL", "ACDF-GHJK", "BCDF-GHJ1", "BCDF-GHJÉ"] {
            assert_eq!(user_hash(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_a_terminal_says_of_itself_is_a_label() {
        assert_eq!(label("devsanctum on\r\n x\u{7}"), "devsanctum on x");
        assert_eq!((label(" \n"), label(&"x".repeat(99)).len()), ("a terminal".into(), 64));
    }
}
