//! The outbox: mail that people ask for at the panel, and notices to owners, tried until it is sent or is of no use any more.
//!
//! # Guarantees
//! A secret that a mail brings is made when it is sent, and is in the database as its hash alone. A mail may be sent twice (when
//! the process ends just after), and works once.

use super::{MailError, Mailer, Message};
use crate::access::{Applicant, BY_MAIL, Refused, SignIn, purpose};
use crate::clock::Clock;
use crate::store::{Outgoing, Store, StoreError};
use k8s_openapi::jiff::Timestamp;
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often it is looked whether there is mail.
const EVERY: Duration = Duration::from_secs(1);
/// Mails taken at once.
const AT_ONCE: i64 = 20;
/// What is not sent after so long is not sent at all: nobody waits for it any more.
const USEFUL_MS: i64 = 24 * 3600 * 1000;
const FIRST_WAIT_MS: i64 = 5_000;
const LONGEST_WAIT_MS: i64 = 30 * 60 * 1000;

/// Purposes that begin so tell an owner that their workspace will be destroyed; then comes its uid.
pub const NOTICE: &str = "notice:";

/// What such a mail is made of.
#[derive(Debug, Deserialize)]
pub struct Noticed {
    /// The workspace's project.
    pub project: String,
    /// Its name.
    pub workspace: String,
    /// When it will be destroyed (RFC 3339).
    pub at: String,
    /// At which age workspaces are.
    pub after: String,
}

/// Sends what is in the outbox.
pub struct Outbox {
    /// Where it is.
    pub store: Store,
    /// Makes the links.
    pub sign_in: Arc<SignIn>,
    /// Sends.
    pub mailer: Mailer,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

#[derive(Debug, thiserror::Error)]
enum NotSent {
    #[error(transparent)]
    Mail(#[from] MailError),
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("it cannot be read")]
    Unreadable,
}

impl NotSent {
    /// Whether trying again is of no use.
    fn is_final(&self) -> bool {
        matches!(self, Self::Unreadable | Self::Mail(MailError::Refused(..) | MailError::Address(..)))
    }
}

impl Outbox {
    /// Sends until told to stop. One process at a time runs this.
    pub async fn run(self, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some() {
            if let Err(error) = self.send_due().await {
                tracing::warn!(%error, "the outbox could not be read");
            }
        }
    }

    async fn send_due(&self) -> Result<(), StoreError> {
        let now = self.clock.now();
        for mail in self.store.outgoing(AT_ONCE).await?.into_iter().filter(|m| m.next_at <= now.as_millisecond()) {
            match self.send(&mail, now).await {
                Ok(()) => self.store.remove_outgoing(mail).await?,
                Err(error) => self.failed(mail, &error, now).await?,
            }
        }
        Ok(())
    }

    async fn failed(&self, mail: Outgoing, error: &NotSent, now: Timestamp) -> Result<(), StoreError> {
        let at = now.as_millisecond();
        let over = error.is_final() || at - mail.created_at > USEFUL_MS;
        tracing::warn!(purpose = mail.purpose, to = mail.recipient, %error, "mail not sent{}", if over { ", given up" } else { "" });
        if over {
            return self.store.remove_outgoing(mail).await;
        }
        let wait = (FIRST_WAIT_MS << mail.attempts.clamp(0, 20)).min(LONGEST_WAIT_MS);
        let again = Outgoing { next_at: at + wait, attempts: mail.attempts + 1, error: error.to_string(), ..mail };
        self.store.put_off_outgoing(again).await
    }

    async fn send(&self, mail: &Outgoing, now: Timestamp) -> Result<(), NotSent> {
        if mail.purpose.starts_with(NOTICE) {
            let notice: Noticed = serde_json::from_str(&mail.body).map_err(|_| NotSent::Unreadable)?;
            let message = Message::destroyed_soon(&notice, &self.mailer.link("/"));
            return Ok(self.mailer.send(&mail.recipient, &message).await?);
        }
        let known = self.sign_in.user_of(&mail.recipient).await?;
        let message = match (mail.purpose.as_str(), known) {
            (purpose::CONFIRM, Some(_)) => Message::account_exists(&self.mailer.link("/login")),
            (purpose::CONFIRM, None) => {
                let applicant: Applicant = serde_json::from_str(&mail.body).map_err(|_| NotSent::Unreadable)?;
                let token = self.sign_in.confirmation(&applicant, now).await?;
                Message::confirmation(&self.mailer.link(&format!("/confirm/{}", token.reveal())))
            }
            (purpose::RESET, Some(user)) => {
                let token = self.sign_in.link(&user, BY_MAIL, now).await?;
                Message::reset(&self.mailer.link(&format!("/password/{}", token.reveal())))
            }
            // Nobody is told that there is no such account.
            (purpose::RESET, None) => return Ok(()),
            _ => return Err(NotSent::Unreadable),
        };
        Ok(self.mailer.send(&mail.recipient, &message).await?)
    }
}
