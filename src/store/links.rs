//! What hangs on a record: its owners, references and claims.

use super::pending::pieces;
use super::tx::{Tx, run};
use super::{Put, StoreError};
use serde::{Deserialize, Serialize};
use sqlx::AssertSqlSafe;
use std::collections::BTreeSet;

/// Owners, references and claims of one record.
#[derive(Default, Serialize, Deserialize, PartialEq)]
pub(super) struct Links {
    #[serde(rename = "o", default, skip_serializing_if = "BTreeSet::is_empty")]
    pub owners: BTreeSet<String>,
    #[serde(rename = "r", default, skip_serializing_if = "BTreeSet::is_empty")]
    pub references: BTreeSet<(String, String, String)>,
    #[serde(rename = "c", default, skip_serializing_if = "BTreeSet::is_empty")]
    pub claims: BTreeSet<(String, String)>,
}

impl Links {
    /// What a record to be written asks for.
    pub fn of(put: &Put) -> Self {
        let references = put.references.iter().map(|k| (k.kind.to_owned(), k.namespace.clone(), k.name.clone()));
        Self {
            owners: put.owners.iter().cloned().collect(),
            references: references.collect(),
            claims: put.claims.iter().cloned().collect(),
        }
    }

    /// As one text, the same for the same links; empty for none.
    pub fn text(&self) -> String {
        if *self == Self::default() {
            return String::new();
        }
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads [`Links::text`].
    pub fn read(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_default()
    }
}

impl Tx {
    /// Refuses claims held by another record. There is one writer at a time, so none can be taken meanwhile.
    pub(super) async fn check_claims(&mut self, uid: &str, held: &str, links: &Links) -> Result<(), StoreError> {
        let held = Links::read(held).claims;
        for (scope, value) in links.claims.difference(&held) {
            if self.is_free(scope, value).await? {
                continue;
            }
            let query = sqlx::query_scalar::<_, String>("SELECT uid FROM claims WHERE scope = $1 AND value = $2");
            let holder = run!(self, query.bind(scope.as_str()).bind(value.as_str()), fetch_optional)?;
            if holder.is_some_and(|h| h != uid) {
                return Err(StoreError::Claimed { scope: scope.clone(), value: value.clone() });
            }
        }
        Ok(())
    }

    /// Replaces the rows of those links that differ, given as (uid, as they are, as they are to be). All that go, go
    /// first: a claim may pass from one record to another.
    pub(super) async fn replace_links(&mut self, changed: &[(String, Links, Links)]) -> Result<(), StoreError> {
        let (mut owners, mut references, mut claims) = (vec![], vec![], vec![]);
        for (uid, old, new) in changed {
            if old.owners != new.owners {
                self.forget("owners", uid, old.owners.is_empty()).await?;
                owners.extend(new.owners.iter().map(|owner| [uid.as_str(), owner]));
            }
            if old.references != new.references {
                self.forget("refs", uid, old.references.is_empty()).await?;
                references.extend(new.references.iter().map(|(kind, namespace, name)| [uid.as_str(), kind, namespace, name]));
            }
            if old.claims != new.claims {
                self.forget("claims", uid, old.claims.is_empty()).await?;
                claims.extend(new.claims.iter().map(|(scope, value)| [uid.as_str(), scope, value]));
            }
        }
        self.add("owners (uid, owner_uid)", &owners).await?;
        self.add("refs (uid, kind, namespace, name)", &references).await?;
        self.add("claims (uid, scope, value)", &claims).await
    }

    async fn forget(&mut self, table: &str, uid: &str, none: bool) -> Result<(), StoreError> {
        if !none {
            let sql = AssertSqlSafe(format!("DELETE FROM {table} WHERE uid = $1"));
            run!(self, sqlx::query(sql).bind(uid), execute)?;
        }
        Ok(())
    }

    async fn add<const N: usize>(&mut self, table: &str, rows: &[[&str; N]]) -> Result<(), StoreError> {
        for piece in pieces(rows) {
            let sql = format!("INSERT INTO {table} VALUES {}", placeholders(piece.len(), N));
            let query = piece.iter().flatten().fold(sqlx::query(AssertSqlSafe(sql)), |query, value| query.bind(*value));
            run!(self, query, execute)?;
        }
        Ok(())
    }
}

/// `($1,$2),($3,$4)` for two rows of two columns.
pub(super) fn placeholders(rows: usize, columns: usize) -> String {
    let row = |r: usize| {
        let all: Vec<_> = (1..=columns).map(|c| format!("${}", r * columns + c)).collect();
        format!("({})", all.join(","))
    };
    (0..rows).map(row).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_survive_the_way_through_text() {
        let links = Links {
            owners: ["a".to_owned()].into(),
            references: [("User".to_owned(), String::new(), "ada".to_owned())].into(),
            claims: [("email".to_owned(), "ada@example.com".to_owned())].into(),
        };
        assert!(Links::read(&links.text()) == links);
        assert_eq!(Links::default().text(), "");
        assert_eq!(placeholders(2, 2), "($1,$2),($3,$4)");
    }
}
