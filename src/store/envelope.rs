//! Data keys and sealed values in their tables.
//!
//! # Guarantees
//! - Nothing is sealed or wrapped anew without the key that is there: a store that lacks one fails, and writes nothing.
//! - Which key wraps is a fact in the database, read under the writer's lock: all replicas wrap with the same.
//! - No record's revision changes by any of this, and no watcher hears of it.

use super::database::Database;
use super::keyring::Keyring;
use super::seal::{DataKey, Sealed, Wrapping};
use super::tx::{Tx, run};
use super::{Store, StoreError};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Executor, Row};
use std::collections::BTreeSet;

/// Values brought to the new form in one transaction.
const PIECE: i64 = 100;
/// Data keys wrapped anew in one job: few, so that nobody waits long behind it.
const BATCH: i64 = 50;
/// Form of values that are sealed with the installation's key itself.
const OLD: i64 = 1;
/// Form of values that are sealed with their record's data key.
const ENVELOPE: i64 = 2;

/// A value with all that is needed to open it: the columns from which [`Found::of`] reads.
pub(super) const VALUE: &str = "v.form, v.nonce, v.ciphertext, d.wrapped_by, d.nonce, d.wrapped \
                                FROM secret_values v LEFT JOIN data_keys d ON d.uid = v.uid";

/// A value as it lies in the database.
pub(super) struct Found {
    form: i64,
    value: Sealed,
    data_key: Option<(String, Sealed)>,
}

impl Found {
    /// Reads a row with the columns of [`VALUE`] from this one on.
    pub fn of(row: &AnyRow, at: usize) -> Result<Self, sqlx::Error> {
        let value = Sealed { nonce: row.try_get(at + 1)?, ciphertext: row.try_get(at + 2)? };
        let data_key = match row.try_get::<Option<String>, _>(at + 3)? {
            Some(by) => Some((by, Sealed { nonce: row.try_get(at + 4)?, ciphertext: row.try_get(at + 5)? })),
            None => None,
        };
        Ok(Self { form: row.try_get(at)?, value, data_key })
    }

    /// Opens it.
    pub fn open(&self, ring: &Keyring, uid: &str, key: &str) -> Result<Vec<u8>, StoreError> {
        if self.form == OLD {
            return ring.open_old(uid, key, &self.value);
        }
        let (by, wrapped) = self.data_key.as_ref().ok_or(StoreError::Sealed)?;
        ring.get(by)?.unwrap(uid, wrapped)?.open(uid, key, &self.value)
    }
}

/// What the database says of keys.
pub(super) struct Held {
    /// Keys by id, with their proofs; the one that wraps comes first.
    keys: Vec<(String, Sealed)>,
    /// How many data keys each has wrapped.
    pub used: Vec<(String, i64)>,
    /// There are values of the old form.
    pub old: bool,
    /// Tells the key that those are sealed with.
    old_check: Option<Sealed>,
}

impl Held {
    /// Reads it, at a schema that has envelopes or one before.
    pub async fn read(conn: &mut AnyConnection, envelopes: bool) -> Result<Self, StoreError> {
        let sealed = |row: &AnyRow, at: usize| Ok(Sealed { nonce: row.try_get(at)?, ciphertext: row.try_get(at + 1)? });
        let meta = sqlx::query("SELECT key_nonce, key_check FROM meta").fetch_optional(&mut *conn).await?;
        let check = meta.as_ref().map(|row| sealed(row, 0)).transpose().map_err(|e: sqlx::Error| StoreError::from(e))?;
        let old_check = check.filter(|check| !check.ciphertext.is_empty());
        if !envelopes {
            return Ok(Self { keys: vec![], used: vec![], old: true, old_check });
        }
        let rows = sqlx::query("SELECT id, nonce, proof FROM wrapping_keys ORDER BY turn DESC").fetch_all(&mut *conn).await?;
        let keys = rows.iter().map(|row| Ok((row.try_get(0)?, sealed(row, 1)?))).collect::<Result<_, sqlx::Error>>()?;
        let sql = "SELECT wrapped_by, count(*) FROM data_keys GROUP BY wrapped_by ORDER BY wrapped_by";
        let used = sqlx::query_as(sql).fetch_all(&mut *conn).await?;
        let sql = "SELECT count(*) FROM (SELECT 1 AS one FROM secret_values WHERE form = 1 LIMIT 1) v";
        let old = sqlx::query_scalar::<_, i64>(sql).fetch_one(&mut *conn).await? > 0;
        Ok(Self { keys, used, old, old_check })
    }

    /// The key that wraps.
    pub fn current(&self) -> Option<&str> {
        self.keys.first().map(|(id, _)| id.as_str())
    }

    /// Ids of all keys that are noted.
    pub fn noted(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(|(id, _)| id.as_str())
    }

    /// Ids of the keys without which something could not be opened, or not be written.
    pub fn wanted(&self) -> BTreeSet<String> {
        self.used.iter().map(|(id, _)| id.clone()).chain(self.current().map(str::to_owned)).collect()
    }

    /// The key among these that values of the old form are sealed with.
    pub fn old_key(&self, ring: &Keyring) -> Option<String> {
        let check = self.old_check.as_ref()?;
        ring.all().iter().find(|key| key.is_old_key(check)).map(|key| key.id().to_owned())
    }

    /// Refuses keys that are not those of the database, before anything is written.
    ///
    /// # Errors
    /// [`StoreError::KeyMissing`]; [`StoreError::Sealed`] when a key has the id that is wanted and is another.
    pub fn verify(&self, ring: &Keyring) -> Result<(), StoreError> {
        let missing: Vec<String> = self.wanted().into_iter().filter(|id| ring.get(id).is_err()).collect();
        if !missing.is_empty() {
            return Err(ring.missing(&missing));
        }
        let wrong = |(id, proof): &(String, Sealed)| ring.get(id).is_ok_and(|key| !key.proves(proof));
        if self.keys.iter().any(wrong) {
            return Err(StoreError::Sealed);
        }
        if (self.old || self.keys.is_empty()) && self.old_check.is_some() && self.old_key(ring).is_none() {
            return Err(ring.missing(&[]));
        }
        Ok(())
    }
}

/// Makes the key that wraps be the first of ours, and brings values of the old form to the new one.
///
/// Each step is a transaction of its own. One that is killed leaves values of both forms, which both are read, and the
/// next that opens goes on.
///
/// # Errors
/// As [`Held::verify`].
pub(super) async fn adopt(conn: &mut AnyConnection, database: &Database, ring: &Keyring) -> Result<(), StoreError> {
    let (held, first) = (Held::read(conn, true).await?, ring.first()?);
    held.verify(ring)?;
    if held.current() != Some(first.id()) {
        conn.fetch_all(database.begin()).await?;
        Held::read(conn, true).await?.verify(ring)?;
        choose(conn, &first).await?;
        conn.execute("COMMIT").await?;
    }
    let (mut after, mut count) = ((String::new(), String::new()), 0);
    while held.old || held.old_check.is_some() {
        conn.fetch_all(database.begin()).await?;
        let (last, done) = convert(conn, ring, &after).await?;
        conn.execute("COMMIT").await?;
        count += done;
        let Some(last) = last else { break };
        after = last;
    }
    if count > 0 {
        tracing::info!(values = count, "secrets' values were brought to the form with data keys");
    }
    Ok(())
}

/// Makes this the key that wraps. Under the writer's lock.
pub(super) async fn choose(conn: &mut AnyConnection, key: &Wrapping) -> Result<(), StoreError> {
    let turn: i64 = sqlx::query_scalar("SELECT coalesce(max(turn), 0) FROM wrapping_keys").fetch_one(&mut *conn).await?;
    let proof = key.proof()?;
    let query = sqlx::query(
        "INSERT INTO wrapping_keys (id, turn, nonce, proof) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (id) DO UPDATE SET turn = excluded.turn",
    );
    query.bind(key.id().to_owned()).bind(turn + 1).bind(proof.nonce).bind(proof.ciphertext).execute(conn).await?;
    Ok(())
}

/// Brings a piece of the old values to the new form; the last one looked at, if there may be more. One that cannot be
/// opened stays as it is: a check tells of it.
async fn convert(
    conn: &mut AnyConnection,
    ring: &Keyring,
    after: &(String, String),
) -> Result<(Option<(String, String)>, u64), StoreError> {
    let query = sqlx::query(
        "SELECT uid, key, nonce, ciphertext FROM secret_values WHERE form = 1 AND (uid > $1 OR (uid = $1 AND key > $2)) \
         ORDER BY uid, key LIMIT $3",
    );
    let rows = query.bind(after.0.clone()).bind(after.1.clone()).bind(PIECE).fetch_all(&mut *conn).await?;
    let (mut last, mut done) = (None, 0);
    for row in rows {
        let (uid, key): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        let old = Sealed { nonce: row.try_get(2)?, ciphertext: row.try_get(3)? };
        match ring.open_old(&uid, &key, &old) {
            Ok(value) => {
                let sealed = data_key(conn, ring, &uid).await?.seal(&uid, &key, &value)?;
                store(conn, &uid, &key, sealed).await?;
                done += 1;
            }
            Err(e) => tracing::error!(uid, key, "a secret's value stays as it is: {e}"),
        }
        last = Some((uid, key));
    }
    if last.is_none() {
        // Once there are none, the key they were sealed with is wanted no longer.
        let sql = "UPDATE meta SET key_nonce = $1, key_check = $1 WHERE NOT EXISTS (SELECT 1 FROM secret_values WHERE form = 1)";
        sqlx::query(sql).bind(Vec::<u8>::new()).execute(conn).await?;
    }
    Ok((last, done))
}

async fn store(conn: &mut AnyConnection, uid: &str, key: &str, sealed: Sealed) -> Result<(), sqlx::Error> {
    let query = sqlx::query(
        "INSERT INTO secret_values (uid, key, nonce, ciphertext, form) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (uid, key) \
         DO UPDATE SET nonce = excluded.nonce, ciphertext = excluded.ciphertext, form = excluded.form",
    );
    let query = query.bind(uid.to_owned()).bind(key.to_owned()).bind(sealed.nonce).bind(sealed.ciphertext);
    query.bind(ENVELOPE).execute(conn).await.map(drop)
}

/// The record's data key; a new one, where it has none. Under the writer's lock.
async fn data_key(conn: &mut AnyConnection, ring: &Keyring, uid: &str) -> Result<DataKey, StoreError> {
    let query = sqlx::query("SELECT wrapped_by, nonce, wrapped FROM data_keys WHERE uid = $1").bind(uid.to_owned());
    if let Some(row) = query.fetch_optional(&mut *conn).await? {
        let wrapped = Sealed { nonce: row.try_get(1)?, ciphertext: row.try_get(2)? };
        return ring.get(row.try_get(0)?)?.unwrap(uid, &wrapped);
    }
    let by = ring.get(&current(conn).await?)?;
    let key = DataKey::random()?;
    let wrapped = by.wrap(uid, &key)?;
    let query = sqlx::query("INSERT INTO data_keys (uid, wrapped_by, nonce, wrapped) VALUES ($1, $2, $3, $4)");
    let query = query.bind(uid.to_owned()).bind(by.id().to_owned()).bind(wrapped.nonce).bind(wrapped.ciphertext);
    query.execute(conn).await?;
    Ok(key)
}

/// Id of the key that wraps.
async fn current(conn: &mut AnyConnection) -> Result<String, StoreError> {
    let query = sqlx::query_scalar("SELECT id FROM wrapping_keys ORDER BY turn DESC LIMIT 1");
    query.fetch_optional(conn).await?.ok_or_else(|| StoreError::Database("the table wrapping_keys is empty".into()))
}

/// What one batch of a rotation did.
pub(super) struct Batch {
    /// The last record looked at; none when there are no more.
    pub last: Option<String>,
    /// Data keys wrapped anew.
    pub wrapped: u64,
    /// Records whose data key cannot be unwrapped.
    pub shut: Vec<String>,
}

impl Tx {
    /// Seals and keeps a secret's value; `None` removes it. The record `uid` must have been written before.
    ///
    /// # Errors
    /// [`StoreError::KeyMissing`] when the record's data key is wrapped with a key that is not here: nothing is written.
    pub async fn put_secret(&mut self, uid: &str, key: &str, value: Option<&[u8]>) -> Result<(), StoreError> {
        self.begin_writing().await?;
        self.flush().await?;
        let done = match value {
            Some(value) => self.seal(uid, key, value).await,
            None => self.drop_value(uid, key).await.map_err(StoreError::from),
        };
        self.noted(done)
    }

    async fn seal(&mut self, uid: &str, key: &str, value: &[u8]) -> Result<(), StoreError> {
        let sealed = data_key(&mut self.conn, &self.ring, uid).await?.seal(uid, key, value)?;
        Ok(store(&mut self.conn, uid, key, sealed).await?)
    }

    /// A data key goes with its last value.
    async fn drop_value(&mut self, uid: &str, key: &str) -> Result<(), sqlx::Error> {
        let query = sqlx::query("DELETE FROM secret_values WHERE uid = $1 AND key = $2");
        query.bind(uid.to_owned()).bind(key.to_owned()).execute(&mut self.conn).await?;
        let sql = "DELETE FROM data_keys WHERE uid = $1 AND NOT EXISTS (SELECT 1 FROM secret_values v WHERE v.uid = $1)";
        sqlx::query(sql).bind(uid.to_owned()).execute(&mut self.conn).await.map(drop)
    }

    /// After a database error the job has failed, whatever it answers.
    fn noted<T>(&mut self, done: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(StoreError::Database(e)) = &done {
            self.broken.get_or_insert_with(|| e.clone());
        }
        done
    }

    /// Keys a secret holds, sorted.
    pub async fn secret_keys(&mut self, uid: &str) -> Result<Vec<String>, StoreError> {
        self.flush().await?;
        let query = sqlx::query_scalar("SELECT key FROM secret_values WHERE uid = $1 ORDER BY key");
        run!(self, query.bind(uid), fetch_all)
    }

    /// Makes this the key that wraps, for all replicas.
    pub(super) async fn choose_key(&mut self, key: &Wrapping) -> Result<(), StoreError> {
        self.begin_writing().await?;
        let done = choose(&mut self.conn, key).await;
        self.noted(done)
    }

    /// Wraps a batch of data keys with this key, which must be the one that wraps.
    pub(super) async fn wrap_batch(&mut self, to: &Wrapping, after: &str) -> Result<Batch, StoreError> {
        self.begin_writing().await?;
        let done = wrap_batch(&mut self.conn, &self.ring, to, after).await;
        self.noted(done)
    }

    /// Forgets keys that nothing is wrapped with.
    pub(super) async fn forget_keys(&mut self) -> Result<(), StoreError> {
        self.begin_writing().await?;
        let query = sqlx::query(
            "DELETE FROM wrapping_keys WHERE turn < (SELECT max(turn) FROM wrapping_keys) \
             AND id NOT IN (SELECT wrapped_by FROM data_keys)",
        );
        run!(self, query, execute)?;
        Ok(())
    }
}

async fn wrap_batch(conn: &mut AnyConnection, ring: &Keyring, to: &Wrapping, after: &str) -> Result<Batch, StoreError> {
    let current = current(conn).await?;
    if current != to.id() {
        let words = format!("another control plane has made {current} the key that wraps: this rotation, to {}, ends", to.id());
        return Err(StoreError::Keys(words));
    }
    let query = sqlx::query(
        "SELECT uid, wrapped_by, nonce, wrapped FROM data_keys WHERE wrapped_by <> $1 AND uid > $2 ORDER BY uid LIMIT $3",
    );
    let rows = query.bind(to.id().to_owned()).bind(after.to_owned()).bind(BATCH).fetch_all(&mut *conn).await?;
    let mut batch = Batch { last: None, wrapped: 0, shut: Vec::new() };
    for row in rows {
        let (uid, by): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        let wrapped = Sealed { nonce: row.try_get(2)?, ciphertext: row.try_get(3)? };
        match ring.get(&by)?.unwrap(&uid, &wrapped) {
            Ok(key) => {
                let anew = to.wrap(&uid, &key)?;
                let query = sqlx::query("UPDATE data_keys SET wrapped_by = $1, nonce = $2, wrapped = $3 WHERE uid = $4");
                let query = query.bind(to.id().to_owned()).bind(anew.nonce).bind(anew.ciphertext).bind(uid.clone());
                query.execute(&mut *conn).await?;
                batch.wrapped += 1;
            }
            // It stays as it is, and its key in use.
            Err(_) => batch.shut.push(uid.clone()),
        }
        batch.last = Some(uid);
    }
    Ok(batch)
}

impl Store {
    /// Reads a secret's value (opened); for the composition root alone, never for an API answer.
    ///
    /// # Errors
    /// [`StoreError::Sealed`] when it is not what was sealed in this place; [`StoreError::KeyMissing`].
    pub async fn secret_value(&self, uid: &str, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let sql = format!("SELECT {VALUE} WHERE v.uid = $1 AND v.key = $2");
        let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(uid.to_owned()).bind(key.to_owned());
        let pool = self.inner.pool.clone();
        let row = self.aside(async move { query.fetch_optional(&pool).await }).await??;
        let found = row.as_ref().map(|row| Found::of(row, 0)).transpose()?;
        found.map(|found| found.open(&self.inner.ring, uid, key)).transpose()
    }
}
