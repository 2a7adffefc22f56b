//! The chain: how rows hang on each other, and where it is broken.

use super::{Entry, PRUNE, Row};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fmt::Write;

/// SHA-256 of a row and all before it.
pub type Hash = [u8; 32];
/// What the first row hangs on.
pub const ZERO: Hash = [0; 32];
/// Findings that are told; all are counted.
const TOLD: usize = 100;

/// A place in the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Number of the row; 0 before the first.
    pub seq: i64,
    /// Its hash.
    pub hash: Hash,
}

impl Default for Place {
    fn default() -> Self {
        Self { seq: 0, hash: ZERO }
    }
}

/// As people note it.
pub fn hex(hash: &[u8]) -> String {
    hash.iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Reads [`hex`].
pub fn unhex(text: &str) -> Option<Hash> {
    let digits: Vec<u8> = text.trim().chars().map(|c| c.to_digit(16).map(|d| d as u8)).collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    if digits.len() == 64 { bytes.try_into().ok() } else { None }
}

/// The hash of a row. Each field goes in with its length, so that no two rows read the same.
pub fn link(previous: &Hash, seq: i64, entry: &Entry) -> Hash {
    let mut digest = Sha256::new_with_prefix(b"devsanctum audit 1\n");
    digest.update(previous);
    for number in [seq, entry.at, entry.code] {
        digest.update(number.to_be_bytes());
    }
    for text in entry.texts() {
        digest.update((text.len() as u64).to_be_bytes());
        digest.update(text);
    }
    digest.finalize().into()
}

/// What is wrong with the log, and at which row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The row does not say what it said when it was written.
    Altered(i64),
    /// The next row was written after another one: this one was put in its place, with a hash made anew.
    Replaced(i64),
    /// These rows are not there.
    Missing(i64, i64),
    /// The row is not one that was written: it comes before the oldest or after the newest there is.
    Foreign(i64),
    /// Rows up to this one are gone, and no row of the log says that they were cut there.
    Cut(i64),
    /// The head that was noted elsewhere is the row up to which the log was pruned: nothing that is there hangs on it.
    PrunedHead(String),
    /// The head that was noted elsewhere is nowhere in the log.
    UnknownHead(String),
}

impl Finding {
    /// The number of the row that it is about; of the first one, where it is about several.
    pub fn seq(&self) -> Option<i64> {
        match self {
            Self::Altered(seq) | Self::Replaced(seq) | Self::Missing(seq, _) | Self::Foreign(seq) | Self::Cut(seq) => Some(*seq),
            Self::PrunedHead(_) | Self::UnknownHead(_) => None,
        }
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Altered(seq) => write!(f, "row {seq} does not say what it said when it was written"),
            Self::Replaced(seq) => write!(f, "row {seq} is not the one that row {} was written after", seq + 1),
            Self::Missing(from, to) if from == to => write!(f, "row {from} is missing"),
            Self::Missing(from, to) => write!(f, "rows {from} to {to} are missing"),
            Self::Foreign(seq) => write!(f, "row {seq} was not written by the control plane"),
            Self::Cut(seq) => write!(f, "rows up to {seq} are gone, and no row says that they were pruned there"),
            Self::PrunedHead(hash) => write!(
                f,
                "the log was pruned up to the very row with the hash {hash}: whether all after it was written anew cannot be told by it"
            ),
            Self::UnknownHead(hash) => write!(
                f,
                "no row has the hash {hash}: the log was cut or written anew since that was noted, or an older backup was restored"
            ),
        }
    }
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Rows read.
    pub rows: u64,
    /// Up to where older rows were pruned.
    pub anchor: Place,
    /// The newest row, as it was noted when it was written.
    pub head: Place,
    /// What is wrong; empty when all is well. The first hundred are told.
    pub findings: Vec<Finding>,
    /// How much is wrong.
    pub wrong: u64,
}

/// Reads rows in order.
#[derive(Debug)]
pub struct Verifier {
    result: Verified,
    last: Place,
    wanted: Option<Hash>,
    suspect: BTreeSet<i64>,
    /// Where the newest row about it says that older rows were cut.
    told_anchor: Place,
}

impl Verifier {
    /// For a log that is kept from after `anchor` to `head`; `wanted` is a head that was noted elsewhere.
    pub fn new(anchor: Place, head: Place, wanted: Option<Hash>) -> Self {
        let pruned = wanted.filter(|wanted| *wanted == anchor.hash);
        let result = Verified { anchor, head, ..Verified::default() };
        let wanted = wanted.filter(|wanted| *wanted != anchor.hash);
        let mut verifier = Self { result, last: anchor, wanted, suspect: BTreeSet::new(), told_anchor: Place::default() };
        pruned.into_iter().for_each(|hash| verifier.find(Finding::PrunedHead(hex(&hash))));
        verifier
    }

    fn find(&mut self, finding: Finding) {
        if finding.seq().is_some_and(|seq| !self.suspect.insert(seq)) {
            return;
        }
        self.result.wrong += 1;
        if self.result.findings.len() < TOLD {
            self.result.findings.push(finding);
        }
        // What is only needed so that nothing is told twice is needed for the rows just read.
        while self.suspect.len() > TOLD {
            self.suspect.pop_first();
        }
    }

    /// Takes the next row.
    pub fn add(&mut self, row: &Row) {
        self.result.rows += 1;
        if row.seq <= self.last.seq {
            return self.find(Finding::Foreign(row.seq));
        }
        let follows = row.seq == self.last.seq + 1;
        if !follows {
            self.find(Finding::Missing(self.last.seq + 1, row.seq - 1));
        }
        let sound = link(&row.previous, row.seq, &row.entry) == row.hash;
        if !sound {
            self.find(Finding::Altered(row.seq));
        } else if follows && row.previous != self.last.hash {
            self.find(Finding::Replaced(self.last.seq));
        }
        if row.seq > self.result.head.seq {
            self.find(Finding::Foreign(row.seq));
        }
        if sound && row.entry.verb == PRUNE && row.entry.code < 400 {
            self.told_anchor = anchor_in(&row.entry.changes).unwrap_or(self.told_anchor);
        }
        self.wanted = self.wanted.filter(|wanted| *wanted != row.hash);
        self.last = Place { seq: row.seq, hash: row.hash };
    }

    /// What all of it comes to.
    pub fn finish(mut self) -> Verified {
        let Verified { anchor, head, .. } = self.result;
        if self.last.seq < head.seq {
            self.find(Finding::Missing(self.last.seq + 1, head.seq));
        } else if self.last.seq == head.seq && self.last.hash != head.hash {
            self.find(Finding::Replaced(self.last.seq));
        }
        if anchor != self.told_anchor {
            self.find(Finding::Cut(anchor.seq));
        }
        if let Some(wanted) = self.wanted {
            self.find(Finding::UnknownHead(hex(&wanted)));
        }
        self.result
    }
}

/// What a row about pruning says: see `prune` in `src/store/audit.rs`.
fn anchor_in(changes: &str) -> Option<Place> {
    let told: Value = serde_json::from_str(changes).ok()?;
    let new = |path: &str| told.as_array()?.iter().find(|c| c["path"] == path).map(|c| c["new"].clone());
    Some(Place { seq: new("/anchor/seq")?.as_i64()?, hash: unhex(new("/anchor/hash")?.as_str()?)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(count: i64) -> Vec<Row> {
        let mut last = ZERO;
        let row = |seq: i64| {
            let entry = Entry { at: seq, actor: format!("u{seq}"), code: 200, ..Entry::default() };
            let row = Row { seq, previous: last, hash: link(&last, seq, &entry), entry };
            last = row.hash;
            row
        };
        (1..=count).map(row).collect()
    }

    fn verify(rows: &[Row], head: &Row, wanted: Option<Hash>) -> Vec<Finding> {
        let mut verifier = Verifier::new(Place::default(), Place { seq: head.seq, hash: head.hash }, wanted);
        rows.iter().for_each(|row| verifier.add(row));
        verifier.finish().findings
    }

    #[test]
    fn all_that_can_be_done_to_rows_is_told_at_its_place() {
        let whole = rows(9);
        let head = whole[8].clone();
        let with = |change: &dyn Fn(&mut Vec<Row>)| {
            let mut rows = whole.clone();
            change(&mut rows);
            verify(&rows, &head, None)
        };
        assert_eq!(with(&|_| {}), []);
        assert_eq!(with(&|rows| rows[4].entry.actor.push('x')), [Finding::Altered(5)]);
        assert_eq!(with(&|rows| rows[4].previous[0] ^= 1), [Finding::Altered(5)]);
        assert_eq!(with(&|rows| drop(rows.remove(4))), [Finding::Missing(5, 5)]);
        assert_eq!(with(&|rows| rows.truncate(6)), [Finding::Missing(7, 9)]);
        let forged = |rows: &mut Vec<Row>, at: usize| {
            rows[at].entry.actor.push('x');
            rows[at].hash = link(&rows[at].previous, rows[at].seq, &rows[at].entry);
        };
        assert_eq!(with(&|rows| forged(rows, 4)), [Finding::Replaced(5)]);
        assert_eq!(with(&|rows| forged(rows, 8)), [Finding::Replaced(9)]);
        let swapped = with(&|rows| {
            rows.swap(2, 6);
            (rows[2].seq, rows[6].seq) = (3, 7);
        });
        assert!(swapped.contains(&Finding::Altered(3)) && swapped.contains(&Finding::Altered(7)), "{swapped:?}");
        let put_in = with(&|rows| {
            rows.insert(4, rows[0].clone());
            rows.iter_mut().zip(1..).for_each(|(row, seq)| row.seq = seq);
        });
        assert_eq!(put_in[0], Finding::Altered(5));
        let added = with(&|rows| {
            let mut row = rows[8].clone();
            (row.seq, row.previous) = (10, row.hash);
            row.hash = link(&row.previous, 10, &row.entry);
            rows.push(row);
        });
        assert_eq!(added, [Finding::Foreign(10)]);
    }

    #[test]
    fn a_log_that_was_made_anew_does_not_have_the_head_that_was_noted() {
        let whole = rows(9);
        let noted = Some(whole[6].hash);
        assert_eq!(verify(&whole, &whole[8], noted), []);
        let shorter = rows(5);
        assert_eq!(verify(&shorter, &shorter[4], noted), [Finding::UnknownHead(hex(&whole[6].hash))]);
    }

    #[test]
    fn rows_that_were_cut_without_a_word_are_told() {
        let whole = rows(9);
        let place = |row: &Row| Place { seq: row.seq, hash: row.hash };
        let mut verifier = Verifier::new(place(&whole[3]), place(&whole[8]), None);
        whole[4..].iter().for_each(|row| verifier.add(row));
        assert_eq!(verifier.finish().findings, [Finding::Cut(4)]);
    }

    #[test]
    fn hashes_are_read_as_they_are_written() {
        let hash = rows(1)[0].hash;
        assert_eq!(unhex(&hex(&hash)), Some(hash));
        for bad in ["", "zz", &"a".repeat(63), &"a".repeat(65), &"g".repeat(64)] {
            assert_eq!(unhex(bad), None, "{bad}");
        }
    }
}
