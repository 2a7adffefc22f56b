//! Records in SQL: one `resources` table and a change feed, on SQLite or PostgreSQL.

mod types;

pub use types::*;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use serde_json::Value;
use std::sync::Arc;

/// The store. Cheap to clone; all clones are one store.
#[derive(Clone)]
pub struct Store {}

/// What a write job works with: reads see what the job itself has written so far.
pub struct Tx {}

/// A write: reads and writes in one transaction. It runs to its end even when the caller goes away.
pub type Job<T, E> = Box<dyn for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<T, E>> + Send>;

impl Store {
    /// Opens (and migrates) the store.
    pub async fn open(_config: &StoreConfig) -> Result<Self, StoreError> {
        unimplemented!()
    }
    /// The installation's identity: a UUID made at the first start.
    pub fn instance(&self) -> &str {
        unimplemented!()
    }
    /// Reads one record.
    pub async fn get(&self, _key: &Key) -> Result<Option<Stored>, StoreError> {
        unimplemented!()
    }
    /// Reads a page of a kind, ordered by namespace and name, at one revision.
    pub async fn list(&self, _query: &ListQuery) -> Result<Page, StoreError> {
        unimplemented!()
    }
    /// Runs a write job on the one writer; several jobs share one commit. `Ok` means durable.
    pub async fn write<T: Send + 'static, E: From<StoreError> + Send + 'static>(&self, _job: Job<T, E>) -> Result<T, E> {
        unimplemented!()
    }
    /// Changes of a kind after `from`, in order, without gaps or repeats.
    ///
    /// # Errors
    /// [`StoreError::Expired`] when the change log no longer reaches back to `from`.
    pub async fn watch(
        &self,
        _kind: KindId,
        _namespace: Option<String>,
        _from: i64,
    ) -> Result<BoxStream<'static, Result<WatchItem, StoreError>>, StoreError> {
        unimplemented!()
    }
    /// The newest revision committed and visible to readers here.
    pub fn revision(&self) -> i64 {
        unimplemented!()
    }
    /// Takes or renews a lease for `ttl`; `true` while `holder` has it.
    pub async fn lease(&self, _name: &str, _holder: &str, _ttl: std::time::Duration) -> Result<bool, StoreError> {
        unimplemented!()
    }
    /// Gives a lease back.
    pub async fn release(&self, _name: &str, _holder: &str) -> Result<(), StoreError> {
        unimplemented!()
    }
    /// Reads a secret's value (opened); for the composition root alone, never for an API answer.
    pub async fn secret_value(&self, _uid: &str, _key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        unimplemented!()
    }
    /// Stores a token's hash under a name, replacing the one held (the administrator token).
    pub async fn set_token(&self, _name: &str, _sha256: [u8; 32]) -> Result<(), StoreError> {
        unimplemented!()
    }
    /// The name a token's hash stands under.
    pub async fn token_holder(&self, _sha256: [u8; 32]) -> Result<Option<String>, StoreError> {
        unimplemented!()
    }
}

impl Tx {
    /// Reads one record.
    pub async fn get(&mut self, _key: &Key) -> Result<Option<Stored>, StoreError> {
        unimplemented!()
    }
    /// All records of a kind, in one namespace or everywhere.
    pub async fn list(&mut self, _kind: KindId, _namespace: Option<&str>) -> Result<Vec<Stored>, StoreError> {
        unimplemented!()
    }
    /// Number of records of a kind in a namespace.
    pub async fn count(&mut self, _kind: KindId, _namespace: &str) -> Result<u64, StoreError> {
        unimplemented!()
    }
    /// Records that name `uid` as an owner.
    pub async fn dependents(&mut self, _uid: &str) -> Result<Vec<Stored>, StoreError> {
        unimplemented!()
    }
    /// Records that refer to `key` (as given in [`Put::references`]).
    pub async fn referrers(&mut self, _key: &Key) -> Result<Vec<Key>, StoreError> {
        unimplemented!()
    }
    /// Who holds a claimed value.
    pub async fn claim_holder(&mut self, _scope: &str, _value: &str) -> Result<Option<Key>, StoreError> {
        unimplemented!()
    }
    /// Writes a record: gives it the next revision, sets `metadata.resourceVersion`, replaces its owners,
    /// references and claims, and appends to the change feed.
    pub async fn put(&mut self, _put: Put) -> Result<Stored, StoreError> {
        unimplemented!()
    }
    /// Removes a record; `body` is its last state, told to watchers with a new revision.
    pub async fn delete(&mut self, _key: &Key, _body: Value) -> Result<Stored, StoreError> {
        unimplemented!()
    }
    /// Seals and keeps a secret's value; `None` removes it.
    pub async fn put_secret(&mut self, _uid: &str, _key: &str, _value: Option<&[u8]>) -> Result<(), StoreError> {
        unimplemented!()
    }
    /// Keys a secret holds, sorted.
    pub async fn secret_keys(&mut self, _uid: &str) -> Result<Vec<String>, StoreError> {
        unimplemented!()
    }
}

/// A change, shared by all watchers.
pub type SharedChange = Arc<Change>;
