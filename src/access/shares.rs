//! Share links: whoever has one opens one service of one workspace, without an account, for a while.
//!
//! # Guarantees
//! - A link's text and what a browser shows that has followed it are stored as SHA-256 alone; neither gives the other away.
//! - Whether one opens something is looked up at each request, and remembered by nobody: what has ended it counts at the next one.
//! - It opens the service that it was made for: when that service's host leads to another port, or to another workspace, it opens
//!   nothing.
//! - It is worth what its maker may do: who may no longer change the workspace shares it no longer.

use super::hosts::is_private;
use super::{Action, Decision, Directory, HostFacts, Identity, Records, Token, digest};
use crate::resource::GROUP;
use crate::store::{Share, ShareHashes, Store, StoreError};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// What share links are called where it is decided who may make, see and end them: a part of their workspace.
pub const SHARES: &str = "shares";
/// How long one works where nothing else is said, and at most.
const USUAL: SignedDuration = SignedDuration::from_hours(24);
const LONGEST: SignedDuration = SignedDuration::from_hours(30 * 24);
/// Share links of one workspace at a time.
const MOST: i64 = 100;
/// Bytes of chance in an id.
const ID: usize = 6;
/// What keeps the two secrets of a share link apart.
const SHOWN: &str = "what a browser shows that has followed the share link ";

/// A share link that is wanted. Who wants it has been let pass.
#[derive(Clone, Debug)]
pub struct NewShare {
    /// Name of the `User` who makes it; `None`: the holder of the administrator token.
    pub user: Option<String>,
    /// The workspace.
    pub workspace_uid: String,
    /// Name of the service.
    pub service: String,
    /// The service's own host.
    pub host: String,
    /// The service's port.
    pub port: u16,
    /// How long it works; a day where left out.
    pub lasts: Option<SignedDuration>,
}

/// Why there is no share link.
#[derive(Debug, thiserror::Error)]
pub enum ShareError {
    /// The request is wrong.
    #[error("expiresInSeconds: must be more than 0 and at most 30 days (2592000)")]
    Lasts,
    /// Anybody passes there.
    #[error("service {0:?} is public: its address opens for anybody, without a link")]
    Public(String),
    /// Its host leads nowhere, or elsewhere.
    #[error("service {0:?} has no route of this workspace yet: start the workspace, and try again")]
    NoRoute(String),
    /// The workspace or the user is gone, or there are too many.
    #[error("the workspace has {MOST} share links already, or is gone: end some (`devsanctum share list`)")]
    NoRoom,
    /// The store, or chance, failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The share links.
pub struct Shares {
    store: Store,
    directory: Arc<Directory>,
}

/// What a browser shows that has followed a link.
fn shown_for(link: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(format!("{SHOWN}{link}")))
}

impl Shares {
    /// Over those in `store`.
    pub fn new(store: Store, directory: Arc<Directory>) -> Self {
        Self { store, directory }
    }

    /// Makes one; what is in its address is told this once.
    ///
    /// # Errors
    /// See [`ShareError`].
    pub async fn make(&self, wanted: NewShare, now: Timestamp) -> Result<(Share, Token), ShareError> {
        let lasts = wanted.lasts.unwrap_or(USUAL);
        if lasts <= SignedDuration::ZERO || lasts > LONGEST {
            return Err(ShareError::Lasts);
        }
        let NewShare { user, workspace_uid, service, host, port, .. } = wanted;
        let leads = self.directory.ask(|records| there(records, &host, &workspace_uid, port).map(|facts| facts.public)).await?;
        match leads {
            Some(false) => {}
            Some(true) => return Err(ShareError::Public(service)),
            None => return Err(ShareError::NoRoute(service)),
        }
        let mut id = [0; ID];
        getrandom::fill(&mut id).map_err(|e| StoreError::Database(format!("no random bytes: {e}")))?;
        let id = id.iter().map(|byte| format!("{byte:02x}")).collect();
        let (created_at, expires_at) = (now.as_millisecond(), (now + lasts).as_millisecond());
        let share = Share { id, user, workspace_uid, service, host, port, created_at, expires_at };
        let link = Token::new()?;
        let hashes = ShareHashes { link: digest(link.reveal()), shown: digest(&shown_for(link.reveal())) };
        let wanted = share.clone();
        let added = self.store.write(Box::new(move |tx| {
            Box::pin(async move {
                match is_private(tx, &wanted.host).await? {
                    false => Err(ShareError::Public(wanted.service)),
                    true => Ok(tx.add_share(&wanted, hashes, MOST).await?),
                }
            })
        }));
        if added.await? { Ok((share, link)) } else { Err(ShareError::NoRoom) }
    }

    /// Changes what is in a link's address for what a browser shows from then on, and until when; `None` where it opens nothing at
    /// this host. It works as often as it is followed.
    ///
    /// # Errors
    /// When the store or the records cannot be asked.
    pub async fn follow(
        &self,
        link: &str,
        workspace_uid: &str,
        host: &str,
        now: Timestamp,
    ) -> Result<Option<(String, Share)>, StoreError> {
        let Some(share) = self.store.share_by_link(digest(link)).await? else { return Ok(None) };
        let opens = self.opens_at(&share, workspace_uid, host, now).await?;
        Ok(opens.then(|| (shown_for(link), share)))
    }

    /// Whether what a browser shows opens this host of this workspace, now.
    ///
    /// # Errors
    /// When the store or the records cannot be asked.
    pub async fn opens(&self, shown: &str, workspace_uid: &str, host: &str, now: Timestamp) -> Result<bool, StoreError> {
        let Some(share) = self.store.share_by_shown(digest(shown)).await? else { return Ok(false) };
        self.opens_at(&share, workspace_uid, host, now).await
    }

    async fn opens_at(&self, share: &Share, workspace_uid: &str, host: &str, now: Timestamp) -> Result<bool, StoreError> {
        if share.expires_at <= now.as_millisecond() || share.workspace_uid != workspace_uid {
            return Ok(false);
        }
        let place = |records: &Records| {
            there(records, &share.host, workspace_uid, share.port)?;
            there(records, host, workspace_uid, share.port).cloned()
        };
        let Some(at) = self.directory.ask(place).await? else { return Ok(false) };
        let Some(maker) = &share.user else { return Ok(true) };
        self.may(&Identity::person(maker), "create", &at.project, &at.workspace).await
    }

    async fn may(&self, who: &Identity, verb: &str, project: &str, name: &str) -> Result<bool, StoreError> {
        let (namespace, name) = (Some(project), Some(name));
        let action = Action { verb, group: GROUP, resource: "workspaces", subresource: SHARES, namespace, name };
        Ok(matches!(self.directory.judge(who, &action, false).await?, (Decision::Allow(_), _)))
    }

    /// Those of a workspace that are not over.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn of(&self, workspace_uid: &str, now: Timestamp) -> Result<Vec<Share>, StoreError> {
        self.store.shares_of(workspace_uid, now.as_millisecond()).await
    }

    /// Ends one that `who` may end, and says where it led: project and workspace. `None`: there is none of this id that is theirs
    /// to end.
    ///
    /// # Errors
    /// When the store or the records cannot be asked.
    pub async fn end(&self, id: &str, who: &Identity) -> Result<Option<(Share, String, String)>, StoreError> {
        let Some(share) = self.store.share(id).await? else { return Ok(None) };
        let at = |records: &Records| {
            records.workspace(&share.workspace_uid).map(|(project, name)| (project.to_owned(), name.to_owned()))
        };
        let Some((project, name)) = self.directory.ask(at).await? else { return Ok(None) };
        if !self.may(who, "delete", &project, &name).await? || !self.store.remove_share(id).await? {
            return Ok(None);
        }
        Ok(Some((share, project, name)))
    }
}

/// Where a host leads, if that is this port of this workspace.
fn there<'a>(records: &'a Records, host: &str, workspace_uid: &str, port: u16) -> Option<&'a HostFacts> {
    records.host(host).filter(|facts| facts.port == port && records.leads_to(host, workspace_uid))
}
