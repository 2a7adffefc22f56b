//! The way from the panel to a workspace's host: a code that works once, and the session that comes of it.

use super::sign_in::{Refused, SignIn, Token, Visitor, digest, fresh};
use crate::resource::common::Visibility;
use crate::resource::{HOST_CLAIM, Route};
use crate::store::{OneTime, Session, StoreError, Tx};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

/// How long a code between the panel and a workspace's host works.
const CODE: SignedDuration = SignedDuration::from_secs(30);
const OF_HOST: &str = "host";

impl SignIn {
    /// Makes a code by which a browser that shows `nonce` at this host of this workspace gets a session there, as a child of this one.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn code(
        &self,
        session: &Session,
        (workspace_uid, host): (&str, &str),
        nonce: &str,
        now: Timestamp,
    ) -> Result<Token, Refused> {
        // It stands among the words of what the code is for, and comes from an address: it is to be one of them.
        if !URL_SAFE_NO_PAD.decode(nonce).is_ok_and(|hash| hash.len() == 32) {
            return Err(Refused::Link);
        }
        let token = Token::new()?;
        let parent = URL_SAFE_NO_PAD.encode(session.sha256);
        let code = OneTime {
            sha256: digest(token.reveal()),
            purpose: OF_HOST,
            user: session.user.clone(),
            body: format!("{workspace_uid}@{host} {nonce} {parent} {}", session.address),
            expires_at: (now + CODE).as_millisecond(),
        };
        if self.store.add_one_time(code, now.as_millisecond()).await? { Ok(token) } else { Err(Refused::Wrong) }
    }

    /// Takes a code at a workspace's host. It is gone then, whether or not it was for this host and this browser.
    ///
    /// # Errors
    /// [`Refused::Link`] when it was not.
    pub async fn take_code(
        &self,
        shown: &str,
        (workspace_uid, host): (&str, &str),
        nonce: &str,
        by: &Visitor,
        now: Timestamp,
    ) -> Result<Token, Refused> {
        let at = now.as_millisecond();
        // Anybody may come with anything: only what is there is worth a write.
        if self.store.peek_one_time(digest(shown), OF_HOST, at).await?.is_none() {
            return Err(Refused::Link);
        }
        let (user, body) = self.store.take_one_time(digest(shown), OF_HOST, at).await?.ok_or(Refused::Link)?;
        let mut words = body.split(' ');
        let fits = words.next() == Some(&*format!("{workspace_uid}@{host}"))
            && words.next() == Some(&*URL_SAFE_NO_PAD.encode(digest(nonce)));
        let parent = words.next().and_then(|text| URL_SAFE_NO_PAD.decode(text).ok()).and_then(|bytes| bytes.try_into().ok());
        let parent: [u8; 32] = parent.filter(|_| fits).ok_or(Refused::Link)?;
        let token = Token::new()?;
        let workspace_uid = Some(workspace_uid.to_owned());
        let mut session = Session { parent: Some(parent), user, workspace_uid, ..fresh(&token, by, now)? };
        // At a workspace's host the proxy tells its own neighbour's address, and no client's past it.
        if let Some(address) = words.next().filter(|address| !address.is_empty()) {
            address.clone_into(&mut session.address);
        }
        let host = host.to_owned();
        let added = self.store.write(Box::new(move |tx| {
            Box::pin(async move { Ok::<_, Refused>(is_private(tx, &host).await? && tx.add_session(&session, None, None).await?) })
        }));
        if added.await? { Ok(token) } else { Err(Refused::Link) }
    }
}

/// Whether a host leads somewhere and not everybody may pass, as its route lies in this transaction: it may have turned public since
/// somebody looked, and what was held of it ended with that.
///
/// # Errors
/// The store's own.
pub(super) async fn is_private(tx: &mut Tx, host: &str) -> Result<bool, StoreError> {
    let Some(key) = tx.claim_holder(HOST_CLAIM, host).await? else { return Ok(false) };
    let Some(stored) = tx.get(&key).await? else { return Ok(false) };
    let route: Route =
        serde_json::from_slice(&stored.body).map_err(|e| StoreError::Database(format!("route {:?}: {e}", key.name)))?;
    Ok(route.spec.visibility == Visibility::Private)
}
