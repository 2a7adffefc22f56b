//! The change log: the `changes` table.

use super::feed::Feed;
use super::links::placeholders;
use super::pending::pieces;
use super::rows::{self, CHANGE};
use super::tx::text;
use super::{Change, KindId, SharedChange, StoreError};
use k8s_openapi::jiff::Timestamp;
use sqlx::any::AnyArguments;
use sqlx::query::Query;
use sqlx::{Any, AnyConnection, AnyPool, AssertSqlSafe};
use std::sync::Arc;

/// Changes read at a time.
const PIECE: i64 = 256;

/// Writes a batch's changes.
pub(super) async fn append(conn: &mut AnyConnection, changes: &[Change]) -> Result<(), StoreError> {
    let at = Timestamp::now().to_string();
    for piece in pieces(changes) {
        let sql = format!(
            "INSERT INTO changes (revision, kind, namespace, name, uid, type, at, previous, body) VALUES {}",
            placeholders(piece.len(), 9)
        );
        let query = piece.iter().fold(sqlx::query(AssertSqlSafe(sql)), |query, change| bind(query, change, &at));
        query.execute(&mut *conn).await?;
    }
    Ok(())
}

fn bind<'q>(query: Query<'q, Any, AnyArguments>, change: &Change, at: &str) -> Query<'q, Any, AnyArguments> {
    let it = &change.record;
    query
        .bind(it.revision)
        .bind(it.key.kind)
        .bind(it.key.namespace.clone())
        .bind(it.key.name.clone())
        .bind(it.uid.clone())
        .bind(rows::type_name(change.kind))
        .bind(at.to_owned())
        .bind(change.previous.as_ref().map(|b| text(b).to_owned()))
        .bind(text(&it.body).to_owned())
}

/// Tells the feed all changes up to `newest` that it has not heard of.
pub(super) async fn catch_up(feed: &Feed, newest: i64, conn: &mut AnyConnection) -> Result<(), StoreError> {
    loop {
        let told = feed.revision();
        if told >= newest {
            return Ok(());
        }
        let sql = format!("SELECT {CHANGE} FROM changes WHERE revision > $1 AND revision <= $2 ORDER BY revision LIMIT {PIECE}");
        let query = sqlx::query(AssertSqlSafe(sql)).bind(told).bind(newest);
        let found = query.fetch_all(&mut *conn).await?;
        let changes: Vec<_> = found.iter().map(rows::change).collect::<Result<_, _>>()?;
        if !feed.publish(changes) && feed.revision() == told {
            // Compacted before it could be read: watchers must list anew.
            feed.skip_to(newest);
        }
    }
}

/// What a watcher asks the log for.
pub(super) struct Asked {
    pub kind: KindId,
    pub namespace: Option<String>,
    /// Changes after this revision ...
    pub after: i64,
    /// ... up to this one.
    pub until: i64,
}

/// Reads changes for a watcher, with the revision up to which they are complete.
///
/// # Errors
/// [`StoreError::Expired`] when changes after `after` have been compacted away.
pub(super) async fn read(pool: AnyPool, asked: Asked) -> Result<(Vec<SharedChange>, i64), StoreError> {
    let within = if asked.namespace.is_some() { "AND namespace = $4" } else { "" };
    let sql = format!(
        "SELECT {CHANGE} FROM changes WHERE revision > $1 AND revision <= $2 AND kind = $3 {within} ORDER BY revision LIMIT {PIECE}"
    );
    let mut query = sqlx::query(AssertSqlSafe(sql)).bind(asked.after).bind(asked.until).bind(asked.kind);
    if let Some(namespace) = asked.namespace {
        query = query.bind(namespace);
    }
    let mut conn = pool.acquire().await?;
    let found = query.fetch_all(&mut *conn).await?;
    // Asked after the changes: if nothing after `after` is compacted now, nothing was when they were read.
    let compacted = state(&mut conn).await?.compacted;
    if compacted > asked.after {
        return Err(StoreError::Expired(asked.after));
    }
    let changes: Vec<_> = found.iter().map(|row| rows::change(row).map(Arc::new)).collect::<Result<_, _>>()?;
    let full = i64::try_from(changes.len()).is_ok_and(|n| n == PIECE);
    let complete = changes.last().filter(|_| full).map_or(asked.until, |last| last.record.revision);
    Ok((changes, complete))
}

/// Where the log stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct State {
    /// The newest revision.
    pub revision: i64,
    /// Changes up to this one are gone.
    pub compacted: i64,
}

/// Reads where the log stands.
pub(super) async fn state(conn: &mut AnyConnection) -> Result<State, StoreError> {
    let query = sqlx::query_as::<_, (i64, i64)>("SELECT revision, compacted FROM meta WHERE one = $1");
    let (revision, compacted) = query.bind(1).fetch_one(conn).await?;
    Ok(State { revision, compacted })
}
