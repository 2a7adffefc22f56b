//! The audit log's table. Rows get their numbers and hashes when a batch of writes ends, in the transaction of what they tell.

use super::links::placeholders;
use super::pending::pieces;
use super::tx::{Tx, run};
use super::{Store, StoreError};
use crate::audit::{Entry, Hash, Place, Row, Verified, Verifier, changes, hex, link};
use serde_json::json;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row as _};

/// Rows read at a time.
const PAGE: i64 = 1000;
const COLUMNS: &str = "seq, at, actor, how, proof, role, address, verb, kind, namespace, name, subresource, uid, code, reason, \
                       changes, previous, hash";

/// Which rows are wanted.
#[derive(Clone, Debug, Default)]
pub struct AuditQuery {
    /// Fields and what they must be; see [`AuditQuery::FIELDS`].
    pub fields: Vec<(&'static str, String)>,
    /// From this moment on: milliseconds since 1970.
    pub since: Option<i64>,
    /// Before this moment.
    pub until: Option<i64>,
    /// Codes of the answer, from and to.
    pub codes: Option<(i64, i64)>,
    /// Older than this row.
    pub before: Option<i64>,
    /// Newer than this row: then the oldest come first.
    pub after: Option<i64>,
    /// At most so many.
    pub limit: u32,
}

impl AuditQuery {
    /// Fields that can be asked for.
    pub const FIELDS: [&'static str; 5] = ["actor", "verb", "kind", "namespace", "name"];
}

fn hash(bytes: Vec<u8>) -> Result<Hash, StoreError> {
    bytes.try_into().map_err(|_| StoreError::Database("a hash of the audit log is not 32 bytes long".into()))
}

fn row(found: &AnyRow) -> Result<Row, StoreError> {
    let text = |column: usize| found.try_get::<String, _>(column);
    let entry = Entry {
        at: found.try_get(1)?,
        actor: text(2)?,
        how: text(3)?,
        proof: text(4)?,
        role: text(5)?,
        address: text(6)?,
        verb: text(7)?,
        kind: text(8)?,
        namespace: text(9)?,
        name: text(10)?,
        subresource: text(11)?,
        uid: text(12)?,
        code: found.try_get(13)?,
        reason: text(14)?,
        changes: text(15)?,
    };
    // One of another length is none that was written here, and fits no row.
    let lenient = |column: usize| Ok::<Hash, sqlx::Error>(hash(found.try_get(column)?).unwrap_or([0xff; 32]));
    Ok(Row { seq: found.try_get(0)?, entry, previous: lenient(16)?, hash: lenient(17)? })
}

/// The anchor, and the newest row.
async fn places(conn: &mut AnyConnection) -> Result<(Place, Place), StoreError> {
    let found =
        sqlx::query("SELECT anchor_seq, anchor_hash, seq, hash FROM audit_head WHERE one = 1").fetch_optional(conn).await?;
    let Some(found) = found else { return Ok(Default::default()) };
    let place = |at: usize| Ok::<_, StoreError>(Place { seq: found.try_get(at)?, hash: hash(found.try_get(at + 1)?)? });
    Ok((place(0)?, place(2)?))
}

/// Numbers and chains rows, and writes them. Nobody else may write meanwhile.
pub(super) async fn append(conn: &mut AnyConnection, entries: Vec<Entry>) -> Result<(), StoreError> {
    let (anchor, mut head) = places(conn).await?;
    let mut rows = Vec::with_capacity(entries.len());
    for mut entry in entries {
        entry.tidy();
        let (seq, previous) = (head.seq + 1, head.hash);
        head = Place { seq, hash: link(&previous, seq, &entry) };
        rows.push(Row { seq, entry, previous, hash: head.hash });
    }
    for piece in pieces(&rows) {
        let sql = format!("INSERT INTO audit ({COLUMNS}) VALUES {}", placeholders(piece.len(), 18));
        let query = piece.iter().fold(sqlx::query(AssertSqlSafe(sql)), |query, row| {
            let it = row.entry.clone();
            let query = query.bind(row.seq).bind(it.at).bind(it.actor).bind(it.how).bind(it.proof).bind(it.role);
            let query = query.bind(it.address).bind(it.verb).bind(it.kind).bind(it.namespace).bind(it.name);
            let query = query.bind(it.subresource).bind(it.uid).bind(it.code).bind(it.reason).bind(it.changes);
            query.bind(row.previous.to_vec()).bind(row.hash.to_vec())
        });
        query.execute(&mut *conn).await?;
    }
    let query = sqlx::query(
        "INSERT INTO audit_head (one, seq, hash, anchor_seq, anchor_hash) VALUES (1, $1, $2, $3, $4) \
         ON CONFLICT (one) DO UPDATE SET seq = excluded.seq, hash = excluded.hash",
    );
    query.bind(head.seq).bind(head.hash.to_vec()).bind(anchor.seq).bind(anchor.hash.to_vec()).execute(conn).await?;
    Ok(())
}

/// Whether a log goes on where another one ends: the other is how it was once.
pub(super) async fn continues(conn: &mut AnyConnection, other: &mut AnyConnection) -> Result<bool, StoreError> {
    let ((anchor, own), (_, ended)) = (places(conn).await?, places(other).await?);
    if own.seq == 0 || ended.seq == 0 {
        return Ok(own.seq > 0);
    }
    if ended == anchor {
        return Ok(true);
    }
    let query = sqlx::query("SELECT hash FROM audit WHERE seq = $1").bind(ended.seq);
    let found = query.fetch_optional(conn).await?.map(|row| row.try_get::<Vec<u8>, _>(0)).transpose()?;
    Ok(found.is_some_and(|hash| hash == ended.hash))
}

/// The newest row of a log, in words; `None` where there is none.
pub(super) async fn end_of(conn: &mut AnyConnection) -> Result<Option<String>, StoreError> {
    let (_, head) = places(conn).await?;
    Ok((head.seq > 0).then(|| format!("row {}, {}", head.seq, hex(&head.hash))))
}

impl Tx {
    /// Has a row written with what this job writes, or not at all.
    pub fn audit(&mut self, entry: Entry) {
        self.noted.push(entry);
    }

    /// Cuts the rows that are older than a moment and have no newer one before them, and has a row say so.
    async fn prune(&mut self, before: i64, mut entry: Entry) -> Result<(u64, Place), StoreError> {
        self.begin_writing().await?;
        let query = sqlx::query_scalar::<_, Option<i64>>("SELECT min(seq) - 1 FROM audit WHERE at >= $1").bind(before);
        let up_to = run!(self, query, fetch_one)?;
        let (anchor, head) = places(&mut self.conn).await?;
        let up_to = up_to.unwrap_or(head.seq);
        let query = sqlx::query("SELECT hash FROM audit WHERE seq = $1").bind(up_to);
        let mut cut = anchor;
        let mut gone = 0;
        if let Some(found) = run!(self, query, fetch_optional)? {
            cut = Place { seq: up_to, hash: hash(found.try_get(0)?)? };
            gone = run!(self, sqlx::query("DELETE FROM audit WHERE seq <= $1").bind(up_to), execute)?.rows_affected();
            let query = sqlx::query("UPDATE audit_head SET anchor_seq = $1, anchor_hash = $2 WHERE one = 1");
            run!(self, query.bind(cut.seq).bind(cut.hash.to_vec()), execute)?;
        }
        let told = |place: Place| json!({"anchor": {"seq": place.seq, "hash": hex(&place.hash)}});
        // Both numbers stand in it whether or not they have moved: verifying compares with them.
        entry.changes = changes(None, Some(&told(cut)));
        self.audit(entry);
        Ok((gone, cut))
    }
}

enum Bound {
    Number(i64),
    Text(String),
}

/// The statement, and what is bound to it.
fn select(asked: &AuditQuery) -> (String, Vec<Bound>) {
    let (mut sql, mut bound) = (format!("SELECT {COLUMNS} FROM audit WHERE 1 = 1"), Vec::new());
    let mut and = |condition: &str, value: Bound| {
        bound.push(value);
        sql.push_str(&format!(" AND {condition} ${}", bound.len()));
    };
    for (field, value) in &asked.fields {
        and(&format!("{field} ="), Bound::Text(value.clone()));
    }
    let numbers = [
        ("at >=", asked.since),
        ("at <", asked.until),
        ("code >=", asked.codes.map(|(from, _)| from)),
        ("code <=", asked.codes.map(|(_, to)| to)),
        ("seq <", asked.before),
        ("seq >", asked.after),
    ];
    for (condition, value) in numbers {
        if let Some(value) = value {
            and(condition, Bound::Number(value));
        }
    }
    let order = if asked.after.is_some() { "ASC" } else { "DESC" };
    sql.push_str(&format!(" ORDER BY seq {order} LIMIT {}", asked.limit));
    (sql, bound)
}

async fn fetch(conn: &mut AnyConnection, asked: &AuditQuery) -> Result<Vec<Row>, StoreError> {
    let (sql, bound) = select(asked);
    let query = bound.into_iter().fold(sqlx::query(AssertSqlSafe(sql)), |query, value| match value {
        Bound::Number(value) => query.bind(value),
        Bound::Text(value) => query.bind(value),
    });
    query.fetch_all(conn).await?.iter().map(row).collect()
}

async fn verify(conn: &mut AnyConnection, wanted: Option<Hash>) -> Result<Verified, StoreError> {
    let (anchor, head) = places(conn).await?;
    let mut verifier = Verifier::new(anchor, head, wanted);
    // From before the first number there could be, in case somebody put a row there.
    let mut asked = AuditQuery { after: Some(i64::MIN), limit: PAGE as u32, ..AuditQuery::default() };
    loop {
        let rows = fetch(conn, &asked).await?;
        rows.iter().for_each(|row| verifier.add(row));
        match rows.last() {
            Some(last) => asked.after = Some(last.seq),
            None => return Ok(verifier.finish()),
        }
    }
}

impl Store {
    /// Writes a row. It is on disk when this answers.
    pub async fn write_audit(&self, entry: Entry) -> Result<(), StoreError> {
        self.write(Box::new(move |tx| {
            Box::pin(async move {
                tx.audit(entry);
                Ok(())
            })
        }))
        .await
    }

    /// Rows that are wanted, the newest first, or the oldest where [`AuditQuery::after`] is given.
    pub async fn audit_rows(&self, asked: AuditQuery) -> Result<Vec<Row>, StoreError> {
        let fits = asked.fields.iter().all(|(_, value)| !value.contains('\0'));
        if !fits {
            return Ok(Vec::new());
        }
        let pool = self.inner.pool.clone();
        self.aside(async move { fetch(&mut *pool.acquire().await?, &asked).await }).await?
    }

    /// Reads the whole log, as it is at one moment, and says what is wrong with it.
    pub async fn verify_audit(&self, wanted: Option<Hash>) -> Result<Verified, StoreError> {
        let (pool, snapshot) = (self.inner.pool.clone(), self.inner.database.snapshot());
        self.aside(async move {
            let mut tx = pool.begin_with(snapshot).await?;
            let verified = verify(&mut tx, wanted).await?;
            tx.rollback().await?;
            Ok(verified)
        })
        .await?
    }

    /// Cuts rows that are older than a moment, and writes one that says so. Tells how many went, and the last of them.
    pub async fn prune_audit(&self, before: i64, entry: Entry) -> Result<(u64, Place), StoreError> {
        self.write(Box::new(move |tx| Box::pin(async move { tx.prune(before, entry).await }))).await
    }
}
