//! Whose key is whose: the public keys of `User` records, as they are now.

use crate::access::Identity;
use crate::resource::User;
use futures::StreamExt;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt};
use russh::keys::{HashAlg, PublicKey};
use std::collections::BTreeMap;
use std::pin::pin;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Holders by the SHA-256 fingerprints of their keys.
type Holders = BTreeMap<String, Identity>;

/// The keys of all users.
#[derive(Clone)]
pub struct Keys(watch::Receiver<Holders>);

/// A key's fingerprint, as `ssh-keygen -l` prints it.
pub fn fingerprint(key: &PublicKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

impl Keys {
    /// Follows the users' records until `stop`. Nobody is known before the first answer.
    pub fn follow(client: Client, stop: CancellationToken) -> Self {
        let (told, known) = watch::channel(Holders::new());
        tokio::spawn(async move { stop.run_until_cancelled(follow(client, told)).await });
        Self(known)
    }

    /// Who has this key.
    pub fn holder(&self, fingerprint: &str) -> Option<Identity> {
        self.0.borrow().get(fingerprint).cloned()
    }

    /// Waits until this key is no longer this person's, or the person is another one.
    pub async fn lost(&mut self, fingerprint: &str, who: &Identity) {
        // The follower ends with the program alone, and then nothing is lost.
        if self.0.wait_for(|holders| holders.get(fingerprint) != Some(who)).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

async fn follow(client: Client, told: watch::Sender<Holders>) {
    let mut users: BTreeMap<String, Vec<(String, Identity)>> = BTreeMap::new();
    let mut fresh = BTreeMap::new();
    let mut changes = pin!(watcher(Api::<User>::all(client), watcher::Config::default()).default_backoff());
    while let Some(change) = changes.next().await {
        match change {
            Ok(Event::Init) => fresh.clear(),
            Ok(Event::InitApply(user)) => drop(fresh.insert(user.name_any(), of(&user))),
            Ok(Event::InitDone) => users = std::mem::take(&mut fresh),
            Ok(Event::Apply(user)) => drop(users.insert(user.name_any(), of(&user))),
            Ok(Event::Delete(user)) => drop(users.remove(&user.name_any())),
            Err(error) => {
                tracing::warn!(%error, "users' SSH keys cannot be followed now");
                continue;
            }
        }
        if fresh.is_empty() {
            told.send_replace(users.values().flatten().cloned().collect());
        }
    }
}

fn of(user: &User) -> Vec<(String, Identity)> {
    let Some(who) = Identity::of(user) else { return Vec::new() };
    let keys = user.spec.ssh_keys.iter().filter_map(|text| PublicKey::from_openssh(text).ok());
    keys.map(|key| (fingerprint(&key), who.clone())).collect()
}
