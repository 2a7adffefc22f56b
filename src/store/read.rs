//! Lists: a page of a kind at one revision.

use super::rows::{self, RECORD};
use super::{ListQuery, Page, Store, StoreError, log};
use sqlx::any::AnyArguments;
use sqlx::query::Query;
use sqlx::{Any, AnyPool, AssertSqlSafe, Row};

impl Store {
    /// Reads a page of a kind, ordered by namespace and name, at one revision.
    pub async fn list(&self, query: &ListQuery) -> Result<Page, StoreError> {
        let (pool, snapshot, query) = (self.inner.pool.clone(), self.inner.database.snapshot(), query.clone());
        self.aside(async move { read(&pool, snapshot, &query).await }).await?
    }
}

async fn read(pool: &AnyPool, snapshot: &'static str, query: &ListQuery) -> Result<Page, StoreError> {
    // One reading transaction: the revision, the page and the count are of one state.
    let mut tx = pool.begin_with(snapshot).await?;
    let revision = log::state(&mut tx).await?.revision;
    // One more tells whether there is more.
    let one_more = u64::from(query.uncounted);
    let limit = query.limit.map(|n| format!(" LIMIT {}", u64::from(n) + one_more)).unwrap_or_default();
    let sql = format!("SELECT {RECORD} FROM resources WHERE {} ORDER BY namespace, name{limit}", filter(query));
    let found = bind(sqlx::query(AssertSqlSafe(sql)), query).fetch_all(&mut *tx).await?;
    let mut items: Vec<_> = found.iter().map(rows::stored).collect::<Result<_, _>>()?;
    let full = query.limit.is_some_and(|n| items.len() >= n as usize);
    let remaining = if query.uncounted {
        let over = query.limit.map_or(0, |n| items.len().saturating_sub(n as usize));
        items.truncate(items.len() - over);
        i64::try_from(over).unwrap_or(i64::MAX)
    } else if full {
        let sql = format!("SELECT count(*) FROM resources WHERE {}", filter(query));
        let after: i64 = bind(sqlx::query(AssertSqlSafe(sql)), query).fetch_one(&mut *tx).await?.try_get(0)?;
        after - items.len() as i64
    } else {
        0
    };
    tx.rollback().await?;
    Ok(Page { items, revision, remaining })
}

fn filter(query: &ListQuery) -> String {
    let mut sql = String::from("kind = $1");
    let mut used = 1;
    if query.namespace.is_some() {
        used += 1;
        sql += &format!(" AND namespace = ${used}");
    }
    if query.after.is_some() {
        sql += &format!(" AND (namespace, name) > (${}, ${})", used + 1, used + 2);
    }
    sql
}

fn bind<'q>(sql: Query<'q, Any, AnyArguments>, query: &ListQuery) -> Query<'q, Any, AnyArguments> {
    let mut sql = sql.bind(query.kind);
    if let Some(namespace) = &query.namespace {
        sql = sql.bind(namespace.clone());
    }
    if let Some((namespace, name)) = &query.after {
        sql = sql.bind(namespace.clone()).bind(name.clone());
    }
    sql
}
