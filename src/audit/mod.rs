//! The audit log, as far as it needs no database: what a row says, how rows are chained, what has been done to them since.
//!
//! A row's hash is made of the one before it and of all that the row says, so that none can be altered, removed, put in or
//! moved without those after it telling. Who can write to the database can make all hashes anew: a head that was noted
//! elsewhere tells of that, too.

mod chain;
mod changes;
mod csv;

pub use chain::{Finding, Hash, Place, Verified, Verifier, ZERO, hex, link, unhex};
pub use changes::changes;
pub use csv::{COLUMNS, cell, line};

use serde_json::{Value, json};

/// Longest name of anything that a client may have sent, in characters.
const MAX_NAME: usize = 253;
/// Longest reason, in characters.
const MAX_REASON: usize = 512;
/// The verb of the row that says that older ones were cut.
pub const PRUNE: &str = "prune";

/// What somebody wanted, and what came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// When it was asked for: milliseconds since 1970.
    pub at: i64,
    /// Name of who asked; empty for somebody who has not said.
    pub actor: String,
    /// How they proved it: `session`, `password`, `link`, `key`, `ssh-key`, `admin-token`, `setup-token`, `command-line`, or
    /// `anonymous`.
    pub how: String,
    /// Id of the session or key.
    pub proof: String,
    /// What they were at that moment: `ADMIN`, or `USER` and their role in the project.
    pub role: String,
    /// Where from; empty for this program itself.
    pub address: String,
    /// What they wanted to do.
    pub verb: String,
    /// To which kind of thing.
    pub kind: String,
    /// In which project.
    pub namespace: String,
    /// To which.
    pub name: String,
    /// To which part of it.
    pub subresource: String,
    /// Its uid, where it is known.
    pub uid: String,
    /// HTTP code of the answer.
    pub code: i64,
    /// Why not, for a refusal.
    pub reason: String,
    /// What it changed: JSON, see [`changes`].
    pub changes: String,
}

/// A row of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its number; rows are numbered from 1 without gaps.
    pub seq: i64,
    /// What it says.
    pub entry: Entry,
    /// The hash of the row before it.
    pub previous: Hash,
    /// Its own.
    pub hash: Hash,
}

/// Without signs that no name has, and no longer than that. PostgreSQL takes no NUL, terminals take no others.
fn tidied(text: &str, most: usize) -> String {
    let plain = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    let mut kept: String = text.chars().take(most).map(plain).collect();
    if text.chars().nth(most).is_some() {
        kept.push('…');
    }
    kept
}

impl Entry {
    /// As it is kept: what a client has sent is cut where it is too long, and says so by its last sign.
    pub fn tidy(&mut self) {
        let names = [
            &mut self.actor,
            &mut self.how,
            &mut self.proof,
            &mut self.role,
            &mut self.address,
            &mut self.verb,
            &mut self.kind,
            &mut self.namespace,
            &mut self.name,
            &mut self.subresource,
            &mut self.uid,
        ];
        for name in names {
            *name = tidied(name, MAX_NAME);
        }
        self.reason = tidied(&self.reason, MAX_REASON);
        // Made here, and JSON: its signs are escaped and its length is bounded.
        self.changes.retain(|c| !c.is_control());
    }

    /// Every text of it, in the order in which they are hashed.
    fn texts(&self) -> [&str; 13] {
        [
            &self.actor,
            &self.how,
            &self.proof,
            &self.role,
            &self.address,
            &self.verb,
            &self.kind,
            &self.namespace,
            &self.name,
            &self.subresource,
            &self.uid,
            &self.reason,
            &self.changes,
        ]
    }
}

/// A moment as texts have it.
fn time(at: i64) -> String {
    k8s_openapi::jiff::Timestamp::from_millisecond(at)
        .map_or_else(|_| at.to_string(), |t| t.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string())
}

impl Row {
    /// As the API gives it.
    pub fn json(&self) -> Value {
        let it = &self.entry;
        // Somebody may have put anything there.
        let changes: Value = serde_json::from_str(&it.changes).unwrap_or_else(|_| json!(it.changes));
        json!({
            "seq": self.seq, "time": time(it.at), "user": it.actor, "how": it.how, "proof": it.proof, "role": it.role,
            "address": it.address, "verb": it.verb, "kind": it.kind, "namespace": it.namespace, "name": it.name,
            "subresource": it.subresource, "uid": it.uid, "code": it.code, "reason": it.reason, "changes": changes,
            "hash": hex(&self.hash),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_sent_is_cut_and_harmless() {
        let mut entry = Entry { name: "x".repeat(1000), actor: "a\0b\u{1b}[31m\n".into(), ..Entry::default() };
        entry.tidy();
        assert_eq!(entry.name.chars().count(), MAX_NAME + 1);
        assert!(entry.name.ends_with('…') && !entry.actor.chars().any(char::is_control), "{entry:?}");
    }

    #[test]
    fn times_are_told_to_the_millisecond() {
        assert_eq!(time(1_700_000_000_007), "2023-11-14T22:13:20.007Z");
    }
}
