//! Databases, records and shorthand for the store's tests.

use crate::support::postgres;
use devsanctum::store::{Key, KindId, ListQuery, Put, SecretKey, Store, StoreConfig, StoreError, Stored, WatchItem};
use futures::StreamExt;
use futures::stream::BoxStream;
use serde_json::{Value, json};
use sqlx::{Connection, Row};
use std::path::PathBuf;
use std::time::Duration;

pub const WORKSPACES: KindId = "workspaces.devsanctum.io";
pub const USERS: KindId = "users.devsanctum.io";
pub const SECRETS: KindId = "secrets.devsanctum.io";
/// Seals the secrets of all tests.
pub const KEY: SecretKey = SecretKey([7; 32]);

/// Where a test keeps its records; gone with it.
pub enum Db {
    Sqlite(tempfile::TempDir),
    Postgres(postgres::Database),
}

impl Db {
    pub fn sqlite() -> Self {
        Self::Sqlite(tempfile::tempdir().unwrap())
    }

    pub async fn postgres() -> Self {
        Self::Postgres(postgres::database().await)
    }

    pub fn file(&self) -> PathBuf {
        match self {
            Self::Sqlite(folder) => folder.path().join("data/devsanctum.db"),
            Self::Postgres(_) => panic!("no file"),
        }
    }

    pub fn config(&self) -> StoreConfig {
        let url = match self {
            Self::Sqlite(_) => format!("sqlite://{}", self.file().display()),
            Self::Postgres(database) => database.url.clone(),
        };
        StoreConfig { url, secret_keys: KEY.into(), keep_changes: 10_000 }
    }

    /// Another empty database of the same sort.
    pub async fn another(&self) -> Self {
        match self {
            Self::Sqlite(_) => Self::sqlite(),
            Self::Postgres(_) => Self::postgres().await,
        }
    }

    /// Rows of one text column.
    pub async fn texts(&self, sql: &str) -> Vec<String> {
        self.sql(sql).await.iter().map(|row| row.get(0)).collect()
    }

    /// Runs SQL beside the store.
    pub async fn sql(&self, sql: &str) -> Vec<sqlx::any::AnyRow> {
        sqlx::any::install_default_drivers();
        let mut conn = sqlx::AnyConnection::connect(&self.config().url).await.unwrap();
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_all(&mut conn).await.unwrap();
        conn.close().await.unwrap();
        rows
    }

    /// Makes the server close every other connection to the database.
    pub async fn cut_connections(&self) {
        self.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()").await;
    }

    /// Returns once somebody waits for a lock that another holds.
    pub async fn until_a_lock_is_waited_for(&self) {
        let waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        for _ in 0..400 {
            if !self.sql(waiting).await.is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("nobody waits for a lock");
    }

    pub async fn open(&self) -> Store {
        Store::open(&self.config()).await.unwrap()
    }

    pub async fn open_keeping(&self, keep_changes: u32) -> Store {
        Store::open(&StoreConfig { keep_changes, ..self.config() }).await.unwrap()
    }
}

pub fn key(kind: KindId, namespace: &str, name: &str) -> Key {
    Key { kind, namespace: namespace.into(), name: name.into() }
}

pub fn workspace(name: &str) -> Key {
    key(WORKSPACES, "team", name)
}

/// A record without links; its uid follows from its key.
pub fn record(key: Key) -> Put {
    let uid = format!("uid-{}-{}-{}", key.kind, key.namespace, key.name);
    let body = json!({"metadata": {"name": key.name, "namespace": key.namespace, "uid": uid}, "spec": {}});
    Put { key, uid, body, owners: vec![], references: vec![], claims: vec![], tell_previous: false }
}

pub async fn put(store: &Store, put: Put) -> Result<Stored, StoreError> {
    store.write(Box::new(move |tx| Box::pin(async move { tx.put(put).await }))).await
}

pub async fn create(store: &Store, name: &str) -> Stored {
    put(store, record(workspace(name))).await.unwrap()
}

pub async fn delete(store: &Store, key: Key) -> Result<Stored, StoreError> {
    store
        .write(Box::new(move |tx| {
            Box::pin(async move {
                let body = tx.get(&key).await?.map(|it| json_of(&it)).unwrap_or_default();
                tx.delete(&key, body).await
            })
        }))
        .await
}

pub fn json_of(it: &Stored) -> Value {
    serde_json::from_slice(&it.body).unwrap()
}

pub fn all(kind: KindId) -> ListQuery {
    ListQuery { kind, ..ListQuery::default() }
}

/// The next item, or a failed test after ten seconds.
pub async fn next(stream: &mut BoxStream<'static, Result<WatchItem, StoreError>>) -> Result<WatchItem, StoreError> {
    let item = tokio::time::timeout(Duration::from_secs(10), stream.next()).await;
    item.expect("something within ten seconds").expect("the stream goes on")
}

/// The revision and name of the next change, positions left out.
pub async fn next_change(stream: &mut BoxStream<'static, Result<WatchItem, StoreError>>) -> (i64, String) {
    loop {
        if let WatchItem::Change(change) = next(stream).await.unwrap() {
            return (change.record.revision, change.record.key.name.clone());
        }
    }
}

/// All tables agree with each other.
#[track_caller]
pub fn sound(store: &Store) -> impl Future<Output = ()> {
    let (store, caller) = (store.clone(), std::panic::Location::caller());
    async move {
        let found = store.check().await.unwrap();
        assert_eq!(found.findings, Vec::<String>::new(), "{caller}");
    }
}

/// How often a test kills something; set `DEVSANCTUM_KILLS` for more.
pub fn kills(usual: u32) -> u32 {
    std::env::var("DEVSANCTUM_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(usual)
}

pub fn random(below: u32) -> u32 {
    getrandom::u32().unwrap() % below
}
