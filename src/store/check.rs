//! Whether all tables agree with each other: after a crash, after a restore, whenever somebody asks.
//!
//! What is looked at: the feed has every revision once and none that was not given out; each record is what the feed
//! told last of it; links say in one text what stands in their tables; secrets open, in their places, with the key; what
//! hangs on a record hangs on one that is there.

use super::database::Dialect;
use super::envelope::{Found, VALUE};
use super::keyring::Keyring;
use super::links::Links;
use super::log;
use super::{Store, StoreError};
use futures::TryStreamExt;
use serde_json::Value;
use sqlx::{AnyConnection, AssertSqlSafe, Row};
use std::collections::{BTreeMap, BTreeSet};

/// Findings of one sort that are told.
const TOLD: usize = 5;
/// Kind whose `status.keys` name the values held for it.
const SECRETS: &str = "secrets.devsanctum.io";

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// The newest revision.
    pub revision: i64,
    /// How many records there are, by kind.
    pub records: BTreeMap<String, u64>,
    /// What does not agree, in words; empty when all is well.
    pub findings: Vec<String>,
}

/// Each query finds what must not be, as one text. `{compacted}` stands for the revision up to which the feed is gone.
const NEVER: [(&str, &str); 11] = [
    ("a record's revision was never given out", "SELECT uid FROM resources WHERE revision > {revision} OR revision < 2"),
    (
        "a record is not what the feed told of its revision",
        "SELECT r.uid FROM resources r LEFT JOIN changes c ON c.revision = r.revision WHERE r.revision > {compacted} \
         AND (c.revision IS NULL OR c.uid <> r.uid OR c.kind <> r.kind OR c.namespace <> r.namespace OR c.name <> r.name \
         OR c.body <> r.body OR c.type = 'DELETED')",
    ),
    (
        "the feed's last word on a record is not its state",
        "SELECT c.uid FROM (SELECT uid, max(revision) AS revision FROM changes GROUP BY uid) l \
         JOIN changes c ON c.revision = l.revision LEFT JOIN resources r ON r.uid = c.uid \
         WHERE (c.type = 'DELETED' AND r.uid IS NOT NULL) OR (c.type <> 'DELETED' AND (r.uid IS NULL OR r.revision <> c.revision))",
    ),
    (
        "the feed tells of a record in an order that cannot be",
        "SELECT uid FROM (SELECT uid, type, lag(type) OVER (PARTITION BY uid ORDER BY revision) AS earlier FROM changes) c \
         WHERE earlier = 'DELETED' OR (type = 'ADDED' AND earlier IS NOT NULL) OR (type <> 'ADDED' AND earlier IS NULL AND {compacted} <= 1)",
    ),
    ("an owner is noted of no record", "SELECT uid FROM owners WHERE uid NOT IN (SELECT uid FROM resources)"),
    (
        "a reference or claim is of no record",
        "SELECT uid FROM (SELECT uid FROM refs UNION ALL SELECT uid FROM claims) l WHERE uid NOT IN (SELECT uid FROM resources)",
    ),
    ("a secret's value is of no record", "SELECT uid FROM secret_values WHERE uid NOT IN (SELECT uid FROM resources)"),
    ("a data key is of no record", "SELECT uid FROM data_keys WHERE uid NOT IN (SELECT uid FROM resources)"),
    (
        "a data key is wrapped with a key that is not noted",
        "SELECT uid FROM data_keys WHERE wrapped_by NOT IN (SELECT id FROM wrapping_keys)",
    ),
    (
        "an API key is of no user",
        "SELECT id FROM api_keys WHERE user_uid NOT IN (SELECT uid FROM resources WHERE kind = 'users.devsanctum.io')",
    ),
    (
        "a share link is of no user or workspace",
        "SELECT id FROM shares WHERE user_uid NOT IN (SELECT uid FROM resources WHERE kind = 'users.devsanctum.io') \
         OR workspace_uid NOT IN (SELECT uid FROM resources WHERE kind = 'workspaces.devsanctum.io')",
    ),
];

impl Store {
    /// Compares all tables with each other, at one revision.
    ///
    /// # Errors
    /// When the database cannot be read. What does not agree is no error, but in what is answered.
    pub async fn check(&self) -> Result<Checked, StoreError> {
        let (pool, database, ring) = (self.inner.pool.clone(), self.inner.database.clone(), self.inner.ring.clone());
        let work = async move {
            let mut tx = pool.begin_with(database.snapshot()).await?;
            let found = check(&mut tx, database.dialect, Some(&ring)).await;
            tx.rollback().await?;
            found
        };
        self.aside(work).await?
    }
}

/// Compares all tables with each other, within the caller's transaction; secrets are opened if there is a key.
pub(super) async fn check(conn: &mut AnyConnection, dialect: Dialect, ring: Option<&Keyring>) -> Result<Checked, StoreError> {
    let mut found = Findings::default();
    if dialect == Dialect::Sqlite {
        for (what, sql) in [
            ("SQLite", "SELECT CAST(integrity_check AS TEXT) FROM pragma_integrity_check WHERE integrity_check <> 'ok'"),
            ("a foreign key leads nowhere", "SELECT CAST(\"table\" AS TEXT) FROM pragma_foreign_key_check"),
        ] {
            found.all(what, sqlx::query_scalar(sql).fetch_all(&mut *conn).await?);
        }
    }
    let log::State { revision, compacted } = log::state(conn).await?;
    gaps(conn, revision, compacted, &mut found).await?;
    for (what, sql) in NEVER {
        let sql = sql.replace("{revision}", &revision.to_string()).replace("{compacted}", &compacted.to_string());
        let sql = AssertSqlSafe(format!("{sql} LIMIT {}", TOLD + 1));
        found.all(what, sqlx::query_scalar(sql).fetch_all(&mut *conn).await?);
    }
    changes(conn, &mut found).await?;
    let secrets = secrets(conn, ring, &mut found).await?;
    let links = links(conn).await?;
    let records = records(conn, links, secrets, &mut found).await?;
    Ok(Checked { revision, records, findings: found.0 })
}

#[derive(Default)]
struct Findings(Vec<String>);

impl Findings {
    fn all(&mut self, what: &str, which: Vec<String>) {
        let more = if which.len() > TOLD { " and more" } else { "" };
        let which: Vec<String> = which.into_iter().take(TOLD).collect();
        if !which.is_empty() {
            self.0.push(format!("{what}: {}{more}", which.join(", ")));
        }
    }
}

/// The feed has every revision since it was compacted, once. The first one given out is 2.
async fn gaps(conn: &mut AnyConnection, revision: i64, compacted: i64, found: &mut Findings) -> Result<(), StoreError> {
    let sql = "SELECT count(*), coalesce(min(revision), 0), coalesce(max(revision), 0) FROM changes";
    let (count, first, last) = sqlx::query_as::<_, (i64, i64, i64)>(sql).fetch_one(conn).await?;
    let begin = compacted.max(1);
    let wanted = if revision == begin { (0, 0, 0) } else { (revision - begin, begin + 1, revision) };
    if (count, first, last) != wanted {
        let told =
            format!("{count} changes from {first} to {last}, where {} from {} to {} should be", wanted.0, wanted.1, wanted.2);
        found.all("the feed has gaps", vec![told]);
    }
    Ok(())
}

/// Each change's body says the same of itself as its row.
async fn changes(conn: &mut AnyConnection, found: &mut Findings) -> Result<(), StoreError> {
    let mut wrong = Vec::new();
    let mut rows = sqlx::query("SELECT revision, namespace, name, uid, body FROM changes ORDER BY revision").fetch(conn);
    while let Some(row) = rows.try_next().await? {
        let (revision, body): (i64, &str) = (row.try_get(0)?, row.try_get(4)?);
        if !says(body, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?, revision) && wrong.len() <= TOLD {
            wrong.push(revision.to_string());
        }
    }
    drop(rows);
    found.all("a change's body is not of its revision", wrong);
    Ok(())
}

fn says(body: &str, namespace: &str, name: &str, uid: &str, revision: i64) -> bool {
    let Ok(body) = serde_json::from_str::<Value>(body) else { return false };
    let meta = |key: &str| body["metadata"][key].as_str().unwrap_or_default();
    meta("namespace") == namespace
        && meta("name") == name
        && meta("uid") == uid
        && meta("resourceVersion") == revision.to_string()
}

/// Keys of values held, by record.
async fn secrets(
    conn: &mut AnyConnection,
    ring: Option<&Keyring>,
    found: &mut Findings,
) -> Result<BTreeMap<String, BTreeSet<String>>, StoreError> {
    let mut held = BTreeMap::<String, BTreeSet<String>>::new();
    let mut shut = Vec::new();
    let sql = format!("SELECT v.uid, v.key, {VALUE} ORDER BY v.uid, v.key");
    let mut rows = sqlx::query(AssertSqlSafe(sql)).fetch(conn);
    while let Some(row) = rows.try_next().await? {
        let (uid, key): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        let value = Found::of(&row, 2)?;
        if ring.is_some_and(|ring| value.open(ring, &uid, &key).is_err()) && shut.len() <= TOLD {
            shut.push(format!("{uid}/{key}"));
        }
        held.entry(uid).or_default().insert(key);
    }
    drop(rows);
    found.all("a secret's value cannot be opened", shut);
    Ok(held)
}

/// What the tables of links hold, by record.
async fn links(conn: &mut AnyConnection) -> Result<BTreeMap<String, Links>, StoreError> {
    let mut held = BTreeMap::<String, Links>::new();
    for (uid, owner) in sqlx::query_as::<_, (String, String)>("SELECT uid, owner_uid FROM owners").fetch_all(&mut *conn).await? {
        held.entry(uid).or_default().owners.insert(owner);
    }
    let sql = "SELECT uid, kind, namespace, name FROM refs";
    for (uid, kind, namespace, name) in sqlx::query_as::<_, (String, String, String, String)>(sql).fetch_all(&mut *conn).await? {
        held.entry(uid).or_default().references.insert((kind, namespace, name));
    }
    let sql = "SELECT uid, scope, value FROM claims";
    for (uid, scope, value) in sqlx::query_as::<_, (String, String, String)>(sql).fetch_all(conn).await? {
        held.entry(uid).or_default().claims.insert((scope, value));
    }
    Ok(held)
}

/// Each record says the same of itself as its row, and as what hangs on it.
async fn records(
    conn: &mut AnyConnection,
    mut links: BTreeMap<String, Links>,
    mut secrets: BTreeMap<String, BTreeSet<String>>,
    found: &mut Findings,
) -> Result<BTreeMap<String, u64>, StoreError> {
    let (mut counts, mut bodies, mut unlike, mut keys) = (BTreeMap::<String, u64>::new(), vec![], vec![], vec![]);
    let sql = "SELECT kind, namespace, name, uid, revision, links, body FROM resources ORDER BY uid";
    let mut rows = sqlx::query(sql).fetch(conn);
    while let Some(row) = rows.try_next().await? {
        let (kind, uid, body): (String, &str, &str) = (row.try_get(0)?, row.try_get(3)?, row.try_get(6)?);
        let note = |of: &mut Vec<String>| {
            if of.len() <= TOLD {
                of.push(format!("{kind} {uid}"))
            }
        };
        if !says(body, row.try_get(1)?, row.try_get(2)?, uid, row.try_get(4)?) {
            note(&mut bodies);
        }
        if row.try_get::<&str, _>(5)? != links.remove(uid).unwrap_or_default().text() {
            note(&mut unlike);
        }
        let held = secrets.remove(uid).unwrap_or_default();
        if kind == SECRETS && told_keys(body) != held {
            note(&mut keys);
        }
        *counts.entry(kind).or_default() += 1;
    }
    drop(rows);
    found.all("a record's body is not its row's", bodies);
    found.all("a record's links are not those in their tables", unlike);
    found.all("a secret holds other keys than it tells", keys);
    Ok(counts)
}

fn told_keys(body: &str) -> BTreeSet<String> {
    let body: Value = serde_json::from_str(body).unwrap_or_default();
    let keys = body["status"]["keys"].as_array().into_iter().flatten();
    keys.filter_map(|key| key.as_str().map(str::to_owned)).collect()
}
