//! Mail: what it says, and getting it to the server that the settings name.
//!
//! What somebody asks for at the panel goes through the outbox in the database, which is tried until it is sent; an invitation
//! is sent by its own loop, whose record says how that went.

mod message;
mod outbox;

pub use message::Message;
pub use outbox::{NOTICE, Outbox};

use crate::resource::common::SecretRef;
use crate::resource::{self, MailSecurity, SETTINGS_NAME, SettingsSpec};
use crate::store::{Key, KindId, Store, StoreError};
use lettre::message::{Mailbox, MultiPart};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::transport::smtp::response::Code;
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};
use serde_json::Value;
use std::time::Duration;

/// Longest wait for one answer of a mail server.
const PATIENCE: Duration = Duration::from_secs(20);

/// Why a mail was not sent.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    /// There is nobody to send it.
    #[error("no mail server is set: `spec.mail` of the Settings names one")]
    NoServer,
    /// What it is signed in to with is not there.
    #[error("{0}")]
    Secret(String),
    /// It cannot be written to this address, or not from the one that is set.
    #[error("{0:?} is no address that mail can be sent to or from: {1}")]
    Address(String, String),
    /// The server said no, and will say so again.
    #[error("the mail server {0} refused it: {1}")]
    Refused(String, String),
    /// The server was not reached, or said that it may take it later.
    #[error("the mail server {0} did not take it: {1}")]
    NotNow(String, String),
    /// The settings could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Sends mail as the settings say, which are read for each one.
#[derive(Clone)]
pub struct Mailer {
    store: Store,
    origin: String,
}

/// What the settings say.
///
/// # Errors
/// When they cannot be read.
pub async fn settings(store: &Store) -> Result<SettingsSpec, StoreError> {
    let key = Key { kind: settings_kind(), namespace: String::new(), name: SETTINGS_NAME.into() };
    let Some(stored) = store.get(&key).await? else { return Ok(SettingsSpec::default()) };
    let body: Value = serde_json::from_slice(&stored.body).map_err(|e| StoreError::Database(format!("the Settings: {e}")))?;
    serde_json::from_value(body["spec"].clone()).map_err(|e| StoreError::Database(format!("the Settings: {e}")))
}

fn settings_kind() -> KindId {
    "settings.devsanctum.io"
}

/// The text under a key of a secret.
///
/// # Errors
/// Says what is missing.
pub async fn secret(store: &Store, at: &SecretRef, key: &str) -> Result<String, String> {
    let namespace = at.namespace.clone().unwrap_or_default();
    let named = format!("the secret {namespace}/{}", at.name);
    let of = Key { kind: "secrets.devsanctum.io", namespace, name: at.name.clone() };
    let found = store.get(&of).await.map_err(|e| e.to_string())?.ok_or_else(|| format!("{named} does not exist"))?;
    let value = store.secret_value(&found.uid, key).await.map_err(|e| e.to_string())?;
    value.and_then(|v| String::from_utf8(v).ok()).ok_or_else(|| format!("{named} has no key {key:?} that is text"))
}

impl Mailer {
    /// Over the settings in `store`; links begin with the panel's `origin`.
    pub fn new(store: Store, origin: String) -> Self {
        Self { store, origin }
    }

    /// The address of a path of the panel.
    pub fn link(&self, path: &str) -> String {
        format!("{}{path}", self.origin)
    }

    /// Sends a mail.
    ///
    /// # Errors
    /// See [`MailError`].
    pub async fn send(&self, to: &str, message: &Message) -> Result<(), MailError> {
        let mail = settings(&self.store).await?.mail.ok_or(MailError::NoServer)?;
        let letter = letter(&mail.from, to, message)?;
        let transport = self.transport(&mail).await?;
        let server = format!("{}:{}", mail.host, mail.port);
        let Err(error) = transport.send(letter).await else { return Ok(()) };
        let said = words(&error);
        // A server that greets nobody says 554, too, and has seen no letter then.
        let of_letter = error.status().is_some_and(is_about_the_letter) && transport.test_connection().await.unwrap_or(false);
        Err(if of_letter { MailError::Refused(server, said) } else { MailError::NotNow(server, said) })
    }

    async fn transport(&self, mail: &resource::Mail) -> Result<AsyncSmtpTransport<Tokio1Executor>, MailError> {
        let tls = || TlsParameters::new(mail.host.clone()).map_err(|e| MailError::NotNow(mail.host.clone(), words(&e)));
        let tls = match mail.security {
            MailSecurity::Starttls => Tls::Required(tls()?),
            MailSecurity::Tls => Tls::Wrapper(tls()?),
            MailSecurity::None => Tls::None,
        };
        let builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&mail.host);
        let builder = builder.port(mail.port).tls(tls).timeout(Some(PATIENCE));
        let Some(at) = &mail.credentials else { return Ok(builder.build()) };
        let user = secret(&self.store, at, "username").await.map_err(MailError::Secret)?;
        let password = secret(&self.store, at, "password").await.map_err(MailError::Secret)?;
        Ok(builder.credentials(Credentials::new(user, password)).build())
    }
}

/// Whether a server will never take this letter, whoever we are: replies 550 to 554 of RFC 5321. What it says of us, such as that a
/// password is wrong (RFC 4954), somebody may put right.
fn is_about_the_letter(code: Code) -> bool {
    (550..=554).contains(&u16::from(code))
}

fn letter(from: &str, to: &str, message: &Message) -> Result<lettre::Message, MailError> {
    let mailbox = |text: &str| text.parse::<Mailbox>().map_err(|e| MailError::Address(text.to_owned(), e.to_string()));
    let body = MultiPart::alternative_plain_html(message.text.clone(), message.html.clone());
    lettre::Message::builder()
        .from(mailbox(from)?)
        .to(mailbox(to)?)
        .subject(message.subject.clone())
        .multipart(body)
        .map_err(|e| MailError::Address(to.to_owned(), e.to_string()))
}

/// The last cause says most.
fn words(error: &dyn std::error::Error) -> String {
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let more = next.to_string();
        if !said.contains(&more) {
            said = format!("{said}: {more}");
        }
        cause = next.source();
    }
    said
}
