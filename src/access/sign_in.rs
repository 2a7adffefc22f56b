//! Signing in with a password, the sessions that come of it, and the links by which a password is set. What leads on to workspaces'
//! hosts: `hosts`.
//!
//! # Guarantees
//! - What a browser shows is stored as its SHA-256 alone, has 256 bits of chance, and is new at each sign-in.
//! - Somebody unknown, a wrong password and somebody who was shut out get the same answer, after the same work.
//! - A session ends for good: a day after its last use, two weeks after it began, when it is signed out, and when its user's
//!   password changes. A session that was ended elsewhere is honoured for a second more at most.
//! - What was proved by a password counts only while it is the one that there is: a password that is changed meanwhile ends it.
//! - Whoever signs in in a browser ends the session it had; a new password gives the session it was set in a new token.

use super::device::{OF_ANSWER, Polls};
use super::directory::Directory;
use super::password::{Busy, Password, Place, Verified};
use super::throttle::Throttle;
use super::words::OwnWords;
use crate::resource::User;
use crate::store::{Credential, Key, OneTime, Renewed, Session, Store, StoreError};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Without use for this long, a session is over.
const IDLE: SignedDuration = SignedDuration::from_hours(24);
/// And after this long anyway.
const LONGEST: SignedDuration = SignedDuration::from_hours(14 * 24);
/// How long a browser that was here before is known.
const KNOWN: SignedDuration = SignedDuration::from_hours(365 * 24);
/// How long a link to set a password works.
pub const LINK: SignedDuration = SignedDuration::from_hours(48);
/// How exactly the last use of a session is noted, in milliseconds.
const USE_NOTED: i64 = 60_000;
/// How long an answer about a session is remembered.
const REMEMBER: Duration = Duration::from_secs(1);
/// Sessions remembered at once.
const REMEMBERED: usize = 10_000;
/// Longest name of a browser that is kept, in characters.
const MAX_AGENT: usize = 200;

const OF_PASSWORD: &str = "password";
const OF_BROWSER: &str = "browser";

/// A secret that is shown once: to a browser, or in a link.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// A new one.
    ///
    /// # Errors
    /// When there is no chance to be had.
    pub fn new() -> Result<Self, StoreError> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(|e| StoreError::Database(format!("no random bytes: {e}")))?;
        Ok(Self(URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// For the one who is to have it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

/// The hash by which a token is known.
pub fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

/// Whoever asks, as the connection and the browser say.
#[derive(Clone, Debug)]
pub struct Visitor {
    /// Where from.
    pub address: IpAddr,
    /// What the browser calls itself.
    pub agent: String,
    /// What it shows if it has signed in here before.
    pub known: Option<String>,
    /// What it shows of a session, which is over when another one begins there.
    pub session: Option<String>,
}

/// Why somebody is not signed in.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Not with this address and password.
    #[error("that address and password do not fit together")]
    Wrong,
    /// Too many have tried.
    #[error("too many attempts: try again in {} seconds", .0.as_secs() + 1)]
    TooMany(Duration),
    /// The link does not work, or no longer.
    #[error("this link does not work any more: ask for a new one")]
    Link,
    /// It is how somebody gets in, and nothing else is.
    #[error("that is your only way in: set a password first")]
    LastWay,
    /// Too much mail waits to be sent.
    #[error("mail cannot be sent now: try again later")]
    NoMail,
    /// The password cannot be set.
    #[error("the password {0}")]
    Password(&'static str),
    /// Too many are at it.
    #[error("{0}: try again in a moment")]
    Busy(#[from] Busy),
    /// The store, or chance, failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Somebody who has just signed in.
#[derive(Debug)]
pub struct SignedIn {
    /// Who.
    pub user: String,
    /// What the browser shows from now on.
    pub session: Token,
    /// What it shows when it signs in the next time.
    pub browser: Token,
}

/// A session that begins now, of nobody yet.
pub(super) fn fresh(shown: &Token, by: &Visitor, now: Timestamp) -> Result<Session, StoreError> {
    let at = now.as_millisecond();
    Ok(Session {
        sha256: digest(shown.reveal()),
        id: Token::new()?.0[..12].to_owned(),
        parent: None,
        user: String::new(),
        workspace_uid: None,
        created_at: at,
        seen_at: at,
        expires_at: (now + LONGEST).as_millisecond(),
        address: by.address.to_canonical().to_string(),
        agent: by.agent.chars().filter(|c| !c.is_control()).take(MAX_AGENT).collect(),
    })
}

/// Signs people in and knows who is.
pub struct SignIn {
    pub(super) store: Store,
    directory: Arc<Directory>,
    /// Where the panel is: what its name says is no password.
    host: String,
    pub(super) throttle: Throttle,
    pub(super) polls: Polls,
    seen: Mutex<HashMap<[u8; 32], (Session, Instant)>>,
}

impl SignIn {
    /// Over the people in `store`.
    pub fn new(store: Store, directory: Arc<Directory>) -> Self {
        let host = String::new();
        Self { store, directory, host, throttle: Throttle::default(), polls: Polls::default(), seen: Mutex::default() }
    }

    /// At a panel of this host.
    #[must_use]
    pub fn at(mut self, host: &str) -> Self {
        host.clone_into(&mut self.host);
        self
    }

    /// Signs somebody in by their login address and password.
    ///
    /// # Errors
    /// See [`Refused`].
    pub async fn sign_in(&self, email: &str, password: Password, by: &Visitor, now: Timestamp) -> Result<SignedIn, Refused> {
        let place = Place::take()?;
        let email: String = email.trim().chars().take(254).collect::<String>().to_lowercase();
        let credential = self.store.credential_by_email(&email).await?;
        let user = credential.as_ref().map(|c| c.user.clone()).unwrap_or_default();
        let known = self.known(by, &user, now).await?;
        let browser = by.known.as_deref().filter(|_| known.is_some());
        self.throttle.guess(&email, by.address, browser, Instant::now()).map_err(Refused::TooMany)?;
        let hash = credential.map(|c| c.hash);
        let verified = password.clone().verify(hash.clone(), place).await?;
        if verified == Verified::No || !self.is_active(&user).await? {
            return Err(Refused::Wrong);
        }
        let signed_in = self.begin(user.clone(), hash.clone(), by, now).await?;
        if verified == Verified::Weak
            && let Ok(place) = Place::take()
            && let Ok(Ok(better)) = password.hash(place).await
        {
            // Not as a new password: nobody is signed out by it. After the session, which is of the hash that was compared.
            let renewed = self.store.renew_hash(Credential { user, hash: better }, hash.unwrap_or_default()).await;
            let _ = renewed.inspect_err(|error| tracing::warn!(%error, "a weak hash could not be made anew"));
        }
        Ok(signed_in)
    }

    /// What the browser is known by that has signed in to this account before.
    async fn known(&self, by: &Visitor, user: &str, now: Timestamp) -> Result<Option<[u8; 32]>, StoreError> {
        let Some(shown) = by.known.as_deref().map(digest) else { return Ok(None) };
        let known = self.store.is_known(shown, OF_BROWSER, user, now.as_millisecond()).await?;
        Ok(Some(shown).filter(|_| known))
    }

    pub(super) async fn is_active(&self, user: &str) -> Result<bool, StoreError> {
        self.directory.ask(|records| records.person(user).is_some_and(|person| person.active)).await
    }

    /// Begins a session; where it is by a password, only while that has the hash that was `verified`.
    pub(super) async fn begin(
        &self,
        user: String,
        verified: Option<String>,
        by: &Visitor,
        now: Timestamp,
    ) -> Result<SignedIn, Refused> {
        let (session, browser) = (Token::new()?, Token::new()?);
        let at = now.as_millisecond();
        let begun = Session { user: user.clone(), ..fresh(&session, by, now)? };
        let known = OneTime {
            sha256: digest(browser.reveal()),
            purpose: OF_BROWSER,
            user: user.clone(),
            body: String::new(),
            expires_at: (now + KNOWN).as_millisecond(),
        };
        let replaced = by.session.as_deref().map(digest);
        if !self.store.add_session(begun, replaced, verified).await? || !self.store.add_one_time(known, at).await? {
            return Err(Refused::Wrong);
        }
        self.forget(|(held, _)| replaced.is_some() && (Some(held.sha256) == replaced || held.parent == replaced));
        tracing::info!(user, from = %by.address, "signed in");
        Ok(SignedIn { user, session, browser })
    }

    /// The session that a browser shows at the panel (`None`), or at a workspace's host.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn session(&self, shown: &str, workspace_uid: Option<&str>, now: Timestamp) -> Result<Option<Session>, StoreError> {
        let sha256 = digest(shown);
        let session = match self.remembered(&sha256) {
            Some(session) => session,
            None => {
                let Some(session) = self.store.session(sha256).await? else { return Ok(None) };
                self.remember(session.clone());
                session
            }
        };
        let at = now.as_millisecond();
        let over = session.expires_at <= at || session.seen_at + IDLE.as_millis() as i64 <= at;
        if over || session.workspace_uid.as_deref() != workspace_uid || !self.is_active(&session.user).await? {
            return Ok(None);
        }
        if at - session.seen_at >= USE_NOTED {
            self.note_use(&session, at).await?;
        }
        Ok(Some(session))
    }

    /// A child's use keeps its parent: who works in a workspace is not signed out of the panel meanwhile.
    async fn note_use(&self, session: &Session, at: i64) -> Result<(), StoreError> {
        self.store.note_session_use(session.sha256, at).await?;
        if let Some(parent) = session.parent {
            self.store.note_session_use(parent, at).await?;
        }
        self.forget(|(held, _)| held.sha256 == session.sha256);
        Ok(())
    }

    fn remembered(&self, sha256: &[u8; 32]) -> Option<Session> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(sha256).filter(|(_, at)| at.elapsed() < REMEMBER).map(|(session, _)| session.clone())
    }

    fn remember(&self, session: Session) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= REMEMBERED {
            seen.retain(|_, (_, at)| at.elapsed() < REMEMBER);
        }
        if seen.len() < REMEMBERED {
            seen.insert(session.sha256, (session, Instant::now()));
        }
    }

    fn forget(&self, which: impl Fn(&(Session, Instant)) -> bool) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, held| !which(held));
    }

    /// Ends a session and what was opened by it.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn sign_out(&self, session: &Session) -> Result<(), StoreError> {
        self.store.end_session(session.sha256).await?;
        self.forget(|(held, _)| held.sha256 == session.sha256 || held.parent == Some(session.sha256));
        Ok(())
    }

    /// The sessions of somebody.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn sessions_of(&self, user: &str) -> Result<Vec<Session>, StoreError> {
        self.store.sessions_of(user).await
    }

    /// Ends all sessions of somebody, what was opened by them, and what they have allowed to terminals that have not come for it
    /// yet. Keys stay, and how they sign in. How many there were at the panel.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn sign_out_everywhere(&self, user: &str) -> Result<u64, StoreError> {
        let ended = self.store.end_sessions_of(user, OF_ANSWER).await?;
        self.forget(|(held, _)| held.user == user);
        Ok(ended)
    }

    /// Sets somebody's password and ends all their sessions but `keep`.
    ///
    /// # Errors
    /// See [`Refused`].
    pub async fn set_password(
        &self,
        user: &str,
        password: Password,
        keep: Option<Renewed>,
        now: Timestamp,
    ) -> Result<(), Refused> {
        self.set_in_turn(user, password, keep, Place::take()?, now).await.map(drop)
    }

    /// Sets it, whatever there was: its hash.
    async fn set_in_turn(
        &self,
        user: &str,
        password: Password,
        keep: Option<Renewed>,
        place: Place,
        now: Timestamp,
    ) -> Result<String, Refused> {
        self.fits_user(&password, user).await?;
        let hash = password.hash(place).await?.map_err(StoreError::Database)?;
        let credential = Credential { user: user.to_owned(), hash: hash.clone() };
        if !self.store.set_credential(credential, now.as_millisecond(), keep).await? {
            return Err(Refused::Link);
        }
        self.forget(|(held, _)| held.user == user);
        Ok(hash)
    }

    /// Whether a password may be that of somebody with this name, this e-mail address, and this name shown to others.
    ///
    /// # Errors
    /// [`Refused::Password`].
    pub fn fits(&self, password: &Password, name: &str, email: &str, shown: Option<&str>) -> Result<(), Refused> {
        let local = email.rsplit_once('@').map_or(email, |(local, _)| local);
        let own = OwnWords::of([self.host.as_str(), name, local, shown.unwrap_or_default()]);
        password.check(&own).map_err(Refused::Password)
    }

    async fn fits_user(&self, password: &Password, user: &str) -> Result<(), Refused> {
        let key = Key { kind: "users.devsanctum.io", namespace: String::new(), name: user.to_owned() };
        let found = self.store.get(&key).await?.and_then(|stored| serde_json::from_slice::<User>(&stored.body).ok());
        let (email, shown) = found.map(|user| (user.spec.email, user.spec.display_name)).unwrap_or_default();
        self.fits(password, user, &email, shown.as_deref())
    }

    /// Changes the password of who is signed in, who knows the one they had: what their browser shows from then on.
    ///
    /// # Errors
    /// See [`Refused`].
    pub async fn change_password(
        &self,
        session: &Session,
        old: Password,
        new: Password,
        by: &Visitor,
        now: Timestamp,
    ) -> Result<Token, Refused> {
        let place = Place::take()?;
        self.throttle.guess(&session.user, by.address, Some(&session.id), Instant::now()).map_err(Refused::TooMany)?;
        let hash = self.store.credential_of(&session.user).await?.map(|c| c.hash);
        if old.verify(hash.clone(), place).await? == Verified::No {
            return Err(Refused::Wrong);
        }
        let token = Token::new()?;
        let browser = self.known(by, &session.user, now).await?;
        let kept = Renewed { from: session.sha256, to: digest(token.reveal()), browser };
        let place = Place::take()?;
        self.fits_user(&new, &session.user).await?;
        let better = new.hash(place).await?.map_err(StoreError::Database)?;
        let credential = Credential { user: session.user.clone(), hash: better };
        if !self.store.change_credential(credential, hash.unwrap_or_default(), now.as_millisecond(), kept).await? {
            return Err(Refused::Wrong);
        }
        self.forget(|(held, _)| held.user == session.user);
        Ok(token)
    }

    /// Sets the first password of somebody who has none, and signs them in. The place is to be taken before anything is ended by which
    /// they have come.
    ///
    /// # Errors
    /// See [`Refused`].
    pub async fn first(
        &self,
        user: &str,
        password: Password,
        place: Place,
        by: &Visitor,
        now: Timestamp,
    ) -> Result<SignedIn, Refused> {
        let hash = self.set_in_turn(user, password, None, place, now).await?;
        self.begin(user.to_owned(), Some(hash), by, now).await
    }

    /// Whether somebody has a password.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn has_password(&self, user: &str) -> Result<bool, StoreError> {
        Ok(self.store.credential_of(user).await?.is_some())
    }

    /// Makes a link by which somebody sets their password: an invitation, or the way back in.
    ///
    /// # Errors
    /// [`Refused::Link`] when there is no such user.
    pub async fn link(&self, user: &str, lasts: SignedDuration, now: Timestamp) -> Result<Token, Refused> {
        let token = Token::new()?;
        let link = OneTime {
            sha256: digest(token.reveal()),
            purpose: OF_PASSWORD,
            user: user.to_owned(),
            body: String::new(),
            expires_at: (now + lasts).as_millisecond(),
        };
        if self.store.add_one_time(link, now.as_millisecond()).await? { Ok(token) } else { Err(Refused::Link) }
    }

    /// Takes a link: sets the password and signs in.
    ///
    /// # Errors
    /// See [`Refused`]; a password that is not taken leaves the link as it is, and so does [`Refused::Busy`].
    pub async fn take_link(&self, shown: &str, password: Password, by: &Visitor, now: Timestamp) -> Result<SignedIn, Refused> {
        let (sha256, at, place) = (digest(shown), now.as_millisecond(), Place::take()?);
        let user = self.store.holder_of_one_time(sha256, OF_PASSWORD, at).await?.ok_or(Refused::Link)?;
        self.fits_user(&password, &user).await?;
        let (user, _) = self.store.take_one_time(sha256, OF_PASSWORD, at).await?.ok_or(Refused::Link)?;
        if !self.is_active(&user).await? {
            return Err(Refused::Link);
        }
        let hash = self.set_in_turn(&user, password, None, place, now).await?;
        self.begin(user, Some(hash), by, now).await
    }
}
