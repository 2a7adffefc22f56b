//! Writing a record: everything between a decoded body and the store, inside one transaction.

mod create;
mod metadata;
mod modify;
mod secret;

pub use create::{Draft, create};
pub use modify::{Change, modify};
pub use secret::SecretData;

use super::door::enter;
use super::schema::FieldValidation;
use super::served::{Served, by_id};
use super::status::ApiError;
use crate::access::{Action, Directory, Identity, decide};
use crate::clock::Clock;
use crate::store::{Key, Store, StoreError, Stored, Tx, Wants};
use futures::future::BoxFuture;
use k8s_openapi::jiff::Timestamp;
use std::sync::Arc;

/// Who asks for a write, and what that is judged by.
#[derive(Clone)]
pub struct Caller {
    /// Who.
    pub who: Identity,
    /// Asked before, when they were let in.
    pub directory: Arc<Directory>,
}

impl Caller {
    /// Whether they may see this record.
    pub fn sees(&self, key: &Key) -> bool {
        sees(&self.who, &self.directory, key)
    }

    /// Whether they may by what they are, whatever the API key is for that they came by.
    pub fn sees_as_themselves(&self, key: &Key) -> bool {
        sees(&Identity { scope: Arc::default(), ..self.who.clone() }, &self.directory, key)
    }
}

fn sees(who: &Identity, directory: &Directory, key: &Key) -> bool {
    let Some(served) = by_id(key.kind) else { return false };
    let (group, resource) = (served.def.group, served.def.plural.as_str());
    let namespace = Some(key.namespace.as_str()).filter(|n| !n.is_empty());
    let action = Action { verb: "get", group, resource, subresource: "", namespace, name: Some(&key.name) };
    directory.now(|records| decide(who, &action, records)).is_allowed()
}

/// How a write was asked for.
#[derive(Clone)]
pub struct WriteRequest {
    /// What it was let in for: `create`, `update`, `patch`, `delete` or `deletecollection`.
    pub verb: &'static str,
    /// Kind written, in the spelling it is stored in.
    pub served: &'static Served,
    /// Kind written, in the spelling the caller uses: another one for events only.
    pub asked: &'static Served,
    /// Project; empty for cluster kinds.
    pub namespace: String,
    /// Name from the address; empty on create.
    pub name: String,
    /// Who asks.
    pub caller: Caller,
    /// Who owns the fields it sets.
    pub manager: String,
    /// `status`, or empty.
    pub subresource: &'static str,
    /// What happens to unknown fields.
    pub validation: FieldValidation,
    /// Time of the request.
    pub now: Timestamp,
    /// Chance.
    pub clock: Arc<dyn Clock>,
}

impl WriteRequest {
    /// Asks once more whether they may, by the records as they are now: a body may take its time, and so may its turn.
    ///
    /// # Errors
    /// As those of [`enter`].
    pub async fn still_may(&self) -> Result<(), ApiError> {
        let Self { verb, asked, subresource, namespace, name, caller, .. } = self;
        fn given(text: &str) -> Option<&str> {
            Some(text).filter(|text| !text.is_empty())
        }
        let (group, resource) = (asked.def.group, asked.def.plural.as_str());
        let action = Action { verb, group, resource, subresource, namespace: given(namespace), name: given(name) };
        enter(&caller.directory, &caller.who, asked, &action).await
    }

    /// The time as records carry it: RFC 3339 with whole seconds.
    pub fn time(&self) -> String {
        self.now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }
}

/// What a write led to.
#[derive(Clone, Debug)]
pub struct Written {
    /// The record afterwards; for one that is gone, its last state.
    pub record: Stored,
    /// It is new.
    pub created: bool,
    /// It is gone.
    pub gone: bool,
    /// For the `Warning` header.
    pub warnings: Vec<String>,
}

/// Why a job's transaction is given up.
enum Abort<T> {
    Refused(ApiError),
    /// Nothing is wrong: the caller only wanted to see.
    DryRun(Box<T>),
}

impl<T> From<StoreError> for Abort<T> {
    fn from(error: StoreError) -> Self {
        Self::Refused(error.into())
    }
}

/// Runs a write in one transaction. With `dry_run` everything is done and then rolled back.
///
/// # Errors
/// What the job says, or the store's own troubles.
pub async fn transact<T, F>(store: &Store, dry_run: bool, wants: Wants, job: F) -> Result<T, ApiError>
where
    T: Send + 'static,
    F: for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<T, ApiError>> + Send + 'static,
{
    let outcome = store
        .write_wanting::<T, Abort<T>>(
            wants,
            Box::new(move |tx| {
                Box::pin(async move {
                    let written = job(tx).await.map_err(Abort::Refused)?;
                    if dry_run { Err(Abort::DryRun(Box::new(written))) } else { Ok(written) }
                })
            }),
        )
        .await;
    match outcome {
        Ok(written) => Ok(written),
        Err(Abort::DryRun(written)) => Ok(*written),
        Err(Abort::Refused(error)) => Err(error),
    }
}
