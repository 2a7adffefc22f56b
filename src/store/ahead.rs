//! Reads for several jobs in one statement. Each statement costs a change of threads, which is dearer than the reading.

use super::pending::pieces;
use super::tx::{Seen, Tx, run, seen};
use super::{Key, StoreError};
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row as _};
use std::collections::{BTreeSet, HashMap, HashSet};

/// What a job will ask its [`Tx`] for, as far as its caller knows. A hint: the job may ask for more, or for nothing.
#[derive(Clone, Debug, Default)]
pub struct Wants {
    /// Records.
    pub keys: Vec<Key>,
    /// Claims, as (scope, value), whose holders it will ask for.
    pub claims: Vec<(String, String)>,
}

/// Claims that nobody held when they were read. Forgotten as soon as this batch writes: one may be taken then.
#[derive(Default)]
pub(super) struct Free(HashSet<(String, String)>);

impl Free {
    /// True when it is known that nobody holds the claim.
    pub fn contains(&self, scope: &str, value: &str) -> bool {
        !self.0.is_empty() && self.0.contains(&(scope.to_owned(), value.to_owned()))
    }

    /// Something is written.
    pub fn forget(&mut self) {
        self.0.clear();
    }
}

impl Tx {
    /// Reads at once what these jobs said they want.
    pub(super) async fn read_ahead(&mut self, wants: &[&Wants]) -> Result<(), StoreError> {
        let keys: BTreeSet<&Key> = wants.iter().flat_map(|w| &w.keys).collect();
        // What earlier jobs of the batch have read or written is not yet in the database as they know it.
        let keys: Vec<&Key> = keys.into_iter().filter(|k| k.is_possible() && !self.known.contains_key(k)).collect();
        for piece in pieces(&keys) {
            let found = self.find_all(piece).await?;
            self.known.extend(found);
        }
        let possible = |(scope, value): &&(String, String)| !scope.contains('\0') && !value.contains('\0');
        let claims: BTreeSet<&(String, String)> = wants.iter().flat_map(|w| &w.claims).filter(possible).collect();
        let claims: Vec<_> = claims.into_iter().collect();
        for piece in pieces(&claims) {
            let held = self.held(piece).await?;
            self.free.0.extend(piece.iter().filter(|c| !held.contains(*c)).map(|c| (*c).clone()));
        }
        Ok(())
    }

    async fn find_all(&mut self, keys: &[&Key]) -> Result<HashMap<Key, Option<Seen>>, StoreError> {
        let sql = format!(
            "SELECT uid, revision, body, links, kind, namespace, name FROM resources WHERE {}",
            any_of(keys.len(), ["kind", "namespace", "name"])
        );
        let query = keys.iter().fold(sqlx::query(AssertSqlSafe(sql)), |query, k| {
            query.bind(k.kind).bind(k.namespace.as_str()).bind(k.name.as_str())
        });
        let rows = run!(self, query, fetch_all)?;
        let mut found: HashMap<Key, Option<Seen>> = keys.iter().map(|k| ((*k).clone(), None)).collect();
        for row in &rows {
            let of = |k: &&&Key| {
                Ok::<_, sqlx::Error>(k.kind == text(row, 4)? && k.namespace == text(row, 5)? && k.name == text(row, 6)?)
            };
            for key in keys.iter().filter(|k| of(k).unwrap_or(false)) {
                found.insert((*key).clone(), Some(seen(key, row)?));
            }
        }
        Ok(found)
    }

    async fn held(&mut self, claims: &[&(String, String)]) -> Result<HashSet<(String, String)>, StoreError> {
        let sql = format!("SELECT scope, value FROM claims WHERE {}", any_of(claims.len(), ["scope", "value"]));
        let query = claims
            .iter()
            .fold(sqlx::query(AssertSqlSafe(sql)), |query, (scope, value)| query.bind(scope.as_str()).bind(value.as_str()));
        let rows = run!(self, query, fetch_all)?;
        Ok(rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect::<Result<_, sqlx::Error>>()?)
    }
}

/// `(a = $1 AND b = $2) OR (a = $3 AND b = $4)`: SQLite finds no index for the shorter `(a, b) IN (VALUES …)`.
fn any_of<const N: usize>(rows: usize, columns: [&str; N]) -> String {
    let row = |r: usize| {
        let all: Vec<_> = columns.iter().enumerate().map(|(c, column)| format!("{column} = ${}", r * N + c + 1)).collect();
        format!("({})", all.join(" AND "))
    };
    (0..rows).map(row).collect::<Vec<_>>().join(" OR ")
}

fn text(row: &AnyRow, column: usize) -> Result<&str, sqlx::Error> {
    row.try_get(column)
}

#[cfg(test)]
mod tests {
    use super::any_of;

    #[test]
    fn any_of_several_rows() {
        assert_eq!(any_of(2, ["a", "b"]), "(a = $1 AND b = $2) OR (a = $3 AND b = $4)");
    }
}
