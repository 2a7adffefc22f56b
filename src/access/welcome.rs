//! The ways in besides a password: providers, invitations, accounts that somebody asks for themselves.

use super::oauth::{Attempt, Person};
use super::sign_in::{Refused, SignIn, SignedIn, Token, Visitor, digest};
use super::{Password, Place, throttle};
use crate::store::{OneTime, Outgoing, ProviderIdentity, StoreError};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// How long somebody may take at a provider.
const ATTEMPT: SignedDuration = SignedDuration::from_mins(10);
/// How long an invitation works.
pub const INVITATION: SignedDuration = SignedDuration::from_hours(48);
/// How long a link works that confirms an e-mail address, or sets a forgotten password.
pub const BY_MAIL: SignedDuration = SignedDuration::from_hours(1);

const OF_ATTEMPT: &str = "attempt";
const OF_INVITATION: &str = "invitation";
const OF_ADDRESS: &str = "address";

/// What mail in the outbox is for.
pub mod purpose {
    /// Confirms the address of somebody who asks for an account.
    pub const CONFIRM: &str = "confirm";
    /// Sets a forgotten password.
    pub const RESET: &str = "reset";
}

/// What somebody is about who goes to a provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Intent {
    /// To sign in, or to ask for an account.
    SignIn,
    /// To be known by it as this user, who is signed in.
    Connect(String),
    /// To take up the invitation whose token has this SHA-256. The token itself opens it for longer than an attempt lasts.
    Accept([u8; 32]),
}

#[derive(Serialize, Deserialize)]
struct Kept {
    provider: String,
    attempt: Attempt,
    /// SHA-256 of what the browser shows again.
    browser: String,
    next: String,
    intent: Intent,
}

/// Somebody who is back from a provider.
pub struct Back {
    /// What is to be known of the attempt.
    pub attempt: Attempt,
    /// Where they wanted to go.
    pub next: String,
    /// What they are about.
    pub intent: Intent,
}

/// Whom a mail has invited. A record that speaks of another address by now is not what it was about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invited {
    /// Uid of the invitation.
    pub uid: String,
    /// The address that the mail went to.
    pub email: String,
}

/// Somebody who asks for an account, until their address is confirmed. Whoever filled in the form may be another: it brings nothing
/// by which somebody could sign in.
#[derive(Clone, Serialize, Deserialize)]
pub struct Applicant {
    /// User name that is proposed.
    pub name: String,
    /// E-mail address.
    pub email: String,
}

pub(super) fn hex(token: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest(token))
}

impl SignIn {
    /// Counts what anybody may do and what costs us something, by the network it comes from.
    ///
    /// # Errors
    /// [`Refused::TooMany`].
    pub fn knock(&self, by: &Visitor) -> Result<(), Refused> {
        self.throttle.knock(by.address, Instant::now()).map_err(Refused::TooMany)
    }

    fn may_write_to(&self, email: &str, by: &Visitor) -> Result<(), Refused> {
        let account = throttle::mail_to(email);
        self.throttle.guess(&account, by.address, None, Instant::now()).map_err(Refused::TooMany)
    }

    /// Keeps an attempt at a provider under its state, for the browser that shows `browser`.
    ///
    /// # Errors
    /// See [`Refused`].
    pub async fn keep_attempt(
        &self,
        state: &Token,
        browser: &str,
        provider: &str,
        back: Back,
        now: Timestamp,
    ) -> Result<(), Refused> {
        let Back { attempt, next, intent } = back;
        let kept = Kept { provider: provider.to_owned(), attempt, browser: hex(browser), next, intent };
        self.keep(state, OF_ATTEMPT, &kept, ATTEMPT, now).await
    }

    /// Takes an attempt: once, by the browser that has begun it, from the provider it was begun with. Where there is none of this
    /// state, nothing is written.
    ///
    /// # Errors
    /// [`Refused::Link`] when it is none of these; [`Refused::TooMany`] when that was so too often for this network.
    pub async fn take_attempt(
        &self,
        state: &str,
        browser: &str,
        provider: &str,
        by: &Visitor,
        now: Timestamp,
    ) -> Result<Back, Refused> {
        // Whoever has set out was counted then.
        let none = || self.knock(by).err().unwrap_or(Refused::Link);
        if self.store.peek_one_time(digest(state), OF_ATTEMPT, now.as_millisecond()).await?.is_none() {
            return Err(none());
        }
        let kept: Kept = self.take(state, OF_ATTEMPT, now).await?;
        if kept.browser != hex(browser) || kept.provider != provider {
            return Err(none());
        }
        Ok(Back { attempt: kept.attempt, next: kept.next, intent: kept.intent })
    }

    /// Signs in whom a provider knows, if they are somebody here.
    ///
    /// # Errors
    /// [`Refused::Wrong`] when that user is not active.
    pub async fn by_provider(
        &self,
        person: &Person,
        provider: &str,
        by: &Visitor,
        now: Timestamp,
    ) -> Result<Option<SignedIn>, Refused> {
        let Some(known) = self.store.identity(&person.issuer, &person.subject).await? else { return Ok(None) };
        if !self.is_active(&known.user).await? {
            return Err(Refused::Wrong);
        }
        let user = known.user.clone();
        let (login, provider) = (person.login.clone(), provider.to_owned());
        self.store.note_identity_use(ProviderIdentity { used_at: now.as_millisecond(), login, provider, ..known }).await?;
        self.begin(user, None, by, now).await.map(Some)
    }

    /// Whether a provider's person is somebody here already.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn knows(&self, person: &Person) -> Result<bool, StoreError> {
        Ok(self.store.identity(&person.issuer, &person.subject).await?.is_some())
    }

    /// Notes that a provider knows this user as this person. `false` when it knows them as somebody else.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn connect(&self, user: &str, person: &Person, provider: &str, now: Timestamp) -> Result<bool, StoreError> {
        let at = now.as_millisecond();
        let identity = ProviderIdentity {
            issuer: person.issuer.clone(),
            subject: person.subject.clone(),
            user: user.to_owned(),
            provider: provider.to_owned(),
            login: person.login.clone(),
            created_at: at,
            used_at: at,
        };
        if self.store.add_identity(identity).await? {
            return Ok(true);
        }
        Ok(self.store.identity(&person.issuer, &person.subject).await?.is_some_and(|known| known.user == user))
    }

    /// Signs in somebody whose account has just been made, and who has proved themselves.
    ///
    /// # Errors
    /// See [`Refused`].
    pub async fn welcome(&self, user: &str, by: &Visitor, now: Timestamp) -> Result<SignedIn, Refused> {
        self.begin(user.to_owned(), None, by, now).await
    }

    /// Whom providers know a user as.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn identities_of(&self, user: &str) -> Result<Vec<ProviderIdentity>, StoreError> {
        self.store.identities_of(user).await
    }

    /// Forgets whom a provider knows a user as, unless that is their last way in.
    ///
    /// # Errors
    /// [`Refused::LastWay`].
    pub async fn disconnect(&self, user: &str, issuer: &str) -> Result<(), Refused> {
        let is_left = !self.store.remove_identity(user, issuer).await?
            && self.store.identities_of(user).await?.iter().any(|known| known.issuer == issuer);
        if is_left { Err(Refused::LastWay) } else { Ok(()) }
    }

    /// Makes what an invitation is taken up with, in the place of what was made for it before.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn invite(&self, invited: &Invited, now: Timestamp) -> Result<Token, Refused> {
        let token = Token::new()?;
        self.store.remove_one_time(OF_INVITATION, &text(invited)?).await?;
        self.keep(&token, OF_INVITATION, invited, INVITATION, now).await?;
        Ok(token)
    }

    /// The invitation that is taken up with the token of this SHA-256; it stays as it is.
    ///
    /// # Errors
    /// [`Refused::Link`] when it works no more.
    pub async fn invitation(&self, sha256: [u8; 32], now: Timestamp) -> Result<Invited, Refused> {
        let body = self.store.peek_one_time(sha256, OF_INVITATION, now.as_millisecond()).await?;
        body.and_then(|body| serde_json::from_str(&body).ok()).ok_or(Refused::Link)
    }

    /// Ends what an invitation is taken up with, by its SHA-256; `false` when somebody else was quicker.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn end_invitation(&self, sha256: [u8; 32], now: Timestamp) -> Result<bool, StoreError> {
        Ok(self.store.take_one_time(sha256, OF_INVITATION, now.as_millisecond()).await?.is_some())
    }

    /// Asks for an account: the address is written to, whoever it is of.
    ///
    /// # Errors
    /// See [`Refused`]: the same whether or not there is an account of this address.
    pub async fn apply(&self, name: &str, email: &str, by: &Visitor, now: Timestamp) -> Result<(), Refused> {
        self.may_write_to(email, by)?;
        let applicant = Applicant { name: name.to_owned(), email: email.to_owned() };
        self.post(purpose::CONFIRM, email, text(&applicant)?, now).await
    }

    /// Asks for a mail by which a password is set, whether or not there is such an account.
    ///
    /// # Errors
    /// See [`Refused`].
    pub async fn forgot(&self, email: &str, by: &Visitor, now: Timestamp) -> Result<(), Refused> {
        self.may_write_to(email, by)?;
        self.post(purpose::RESET, email, String::new(), now).await
    }

    async fn post(&self, purpose: &str, recipient: &str, body: String, now: Timestamp) -> Result<(), Refused> {
        let at = now.as_millisecond();
        let (purpose, recipient) = (purpose.to_owned(), recipient.to_lowercase());
        let mail = Outgoing { purpose, recipient, body, created_at: at, next_at: at, attempts: 0, error: String::new() };
        if self.store.put_outgoing(mail).await? { Ok(()) } else { Err(Refused::NoMail) }
    }

    /// The active user of a login address.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn user_of(&self, email: &str) -> Result<Option<String>, StoreError> {
        let found = self.store.user_by_email(&email.to_lowercase()).await?;
        Ok(match found {
            Some(user) if self.is_active(&user).await? => Some(user),
            _ => None,
        })
    }

    /// Makes what an applicant's address is confirmed with.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn confirmation(&self, applicant: &Applicant, now: Timestamp) -> Result<Token, Refused> {
        let token = Token::new()?;
        self.keep(&token, OF_ADDRESS, applicant, BY_MAIL, now).await?;
        Ok(token)
    }

    /// The applicant whose address is confirmed with this; it stays as it is.
    ///
    /// # Errors
    /// [`Refused::Link`] when it works no more.
    pub async fn applicant(&self, shown: &str, now: Timestamp) -> Result<Applicant, Refused> {
        let body = self.store.peek_one_time(digest(shown), OF_ADDRESS, now.as_millisecond()).await?;
        body.and_then(|body| serde_json::from_str(&body).ok()).ok_or(Refused::Link)
    }

    /// Ends a confirmation and gives the new user, of whom it is, the password that they have chosen with it.
    ///
    /// # Errors
    /// [`Refused::Link`] when somebody was quicker, or there is no such user.
    pub async fn admit(
        &self,
        shown: &str,
        user: &str,
        password: Password,
        place: Place,
        by: &Visitor,
        now: Timestamp,
    ) -> Result<SignedIn, Refused> {
        if self.store.take_one_time(digest(shown), OF_ADDRESS, now.as_millisecond()).await?.is_none() {
            return Err(Refused::Link);
        }
        self.first(user, password, place, by, now).await
    }

    async fn keep(
        &self,
        token: &Token,
        purpose: &'static str,
        what: &impl Serialize,
        lasts: SignedDuration,
        now: Timestamp,
    ) -> Result<(), Refused> {
        let expires_at = (now + lasts).as_millisecond();
        let it = OneTime { sha256: digest(token.reveal()), purpose, user: String::new(), body: text(what)?, expires_at };
        if self.store.add_one_time(it, now.as_millisecond()).await? { Ok(()) } else { Err(Refused::Link) }
    }

    async fn take<T: serde::de::DeserializeOwned>(
        &self,
        shown: &str,
        purpose: &'static str,
        now: Timestamp,
    ) -> Result<T, Refused> {
        let taken = self.store.take_one_time(digest(shown), purpose, now.as_millisecond()).await?;
        taken.and_then(|(_, body)| serde_json::from_str(&body).ok()).ok_or(Refused::Link)
    }
}

pub(super) fn text(what: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(what).map_err(|e| StoreError::Database(e.to_string()))
}
