//! The audit log: written with what it tells, chained whoever writes, and honest about what was done to it since.

use super::harness::*;
use super::on_both;
use devsanctum::audit::{Entry, Finding, Hash, Place, Row, Verified, Verifier, hex};
use devsanctum::store::{self, AuditQuery, Store, StoreConfig, StoreError};
use std::collections::BTreeSet;
use std::path::Path;

on_both! {
    a_row_is_there_if_and_only_if_its_change_is
    a_change_whose_row_cannot_be_written_does_not_happen
    many_writers_make_one_chain
    what_is_done_to_any_row_is_told_by_its_number
    a_tail_that_was_cut_off_is_seen
    the_rest_of_a_pruned_log_verifies
    a_restored_log_verifies_and_says_that_it_was_restored
}

fn entry(name: &str) -> Entry {
    Entry { at: 1_700_000_000_000, actor: "ada".into(), verb: "create".into(), name: name.into(), code: 201, ..Entry::default() }
}

/// Writes a record and its row in one job, which then fails where it is asked to.
async fn noted(store: &Store, name: &str, fails: bool) -> Result<(), StoreError> {
    let (put, entry) = (record(workspace(name)), entry(name));
    store
        .write(Box::new(move |tx| {
            Box::pin(async move {
                tx.put(put).await?;
                tx.audit(entry);
                if fails { Err(StoreError::Database("given up".into())) } else { Ok(()) }
            })
        }))
        .await
}

async fn rows(store: &Store) -> Vec<Row> {
    let (mut all, mut after) = (Vec::new(), 0);
    loop {
        let page = store.audit_rows(AuditQuery { after: Some(after), limit: 1000, ..AuditQuery::default() }).await.unwrap();
        let Some(last) = page.last() else { return all };
        after = last.seq;
        all.extend(page);
    }
}

async fn verify(store: &Store, wanted: Option<Hash>) -> Verified {
    store.verify_audit(wanted).await.unwrap()
}

#[track_caller]
fn intact(found: &Verified) {
    assert_eq!((found.findings.as_slice(), found.wrong), (&[][..], 0));
}

async fn a_row_is_there_if_and_only_if_its_change_is(db: &Db) {
    let store = db.open().await;
    let jobs = (0..200).map(|i| {
        let store = store.clone();
        tokio::spawn(async move { noted(&store, &format!("w-{i}"), i % 3 == 0).await.is_ok() })
    });
    let mut kept = 0;
    for job in jobs.collect::<Vec<_>>() {
        kept += usize::from(job.await.unwrap());
    }
    let there: BTreeSet<String> = store.list(&all(WORKSPACES)).await.unwrap().items.into_iter().map(|i| i.key.name).collect();
    let rows = rows(&store).await;
    let told: BTreeSet<String> = rows.iter().map(|row| row.entry.name.clone()).collect();
    assert_eq!((kept, rows.len()), (133, 133));
    assert_eq!(told, there);
    intact(&verify(&store, None).await);
}

async fn a_change_whose_row_cannot_be_written_does_not_happen(db: &Db) {
    let store = db.open().await;
    noted(&store, "before", false).await.unwrap();
    db.sql("ALTER TABLE audit RENAME TO elsewhere").await;
    assert!(noted(&store, "meanwhile", false).await.is_err());
    assert!(store.write_audit(entry("meanwhile")).await.is_err());
    assert!(store.get(&workspace("meanwhile")).await.unwrap().is_none());
    db.sql("ALTER TABLE elsewhere RENAME TO audit").await;
    // The connection is made anew after a failure.
    while noted(&store, "after", false).await.is_err() {}
    let names: Vec<_> = rows(&store).await.into_iter().map(|row| row.entry.name).collect();
    assert_eq!(names, ["before", "after"]);
    intact(&verify(&store, None).await);
    sound(&store).await;
}

async fn many_writers_make_one_chain(db: &Db) {
    // On PostgreSQL those of two replicas.
    let first = db.open().await;
    let second = if matches!(db, Db::Postgres(_)) { db.open().await } else { first.clone() };
    let writers = (0..40).map(|w| {
        let store = if w % 2 == 0 { first.clone() } else { second.clone() };
        tokio::spawn(async move {
            for i in 0..25 {
                match i % 3 {
                    0 => store.write_audit(entry(&format!("{w}-{i}"))).await.unwrap(),
                    1 => noted(&store, &format!("w-{w}-{i}"), false).await.unwrap(),
                    _ => drop(noted(&store, &format!("w-{w}-{i}"), true).await.unwrap_err()),
                }
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let rows = rows(&first).await;
    assert_eq!(rows.len(), 40 * 17);
    assert!(rows.iter().zip(1..).all(|(row, seq)| row.seq == seq), "numbered without gaps");
    for found in [verify(&first, None).await, verify(&second, None).await] {
        intact(&found);
        assert_eq!((found.rows, found.head.seq), (680, 680));
    }
}

/// So many rows, as fast as they can be written.
async fn fill(store: &Store, count: usize) -> Vec<Row> {
    for piece in (0..count).collect::<Vec<_>>().chunks(500) {
        let entries: Vec<Entry> = piece.iter().map(|i| entry(&format!("w-{i}"))).collect();
        let job = store.write::<_, StoreError>(Box::new(move |tx| {
            Box::pin(async move {
                entries.into_iter().for_each(|entry| tx.audit(entry));
                Ok(())
            })
        }));
        job.await.unwrap();
    }
    rows(store).await
}

fn located(found: &Verified, seq: i64) -> bool {
    found.findings.iter().any(|finding| finding.seq() == Some(seq))
}

/// Rows to be tampered with: the first, the last, and others.
fn sample(count: u32, of: i64) -> Vec<i64> {
    let drawn = (0..count).map(|_| i64::from(random(u32::try_from(of).unwrap())) + 1);
    drawn.chain([1, of]).collect()
}

async fn what_is_done_to_any_row_is_told_by_its_number(db: &Db) {
    let store = db.open().await;
    let count = 10_000;
    fill(&store, count as usize).await;
    intact(&verify(&store, None).await);
    for seq in sample(8, count) {
        let other = if seq > count / 2 { seq - 1000 } else { seq + 1000 };
        let at = |seq: i64| format!("WHERE seq = {seq}");
        let altered = ["actor = 'eve'", "code = 403", "at = at + 1", "changes = '[]'", "reason = ' '"][seq as usize % 5];
        db.sql("CREATE TABLE kept AS SELECT * FROM audit WHERE 1 = 0").await;
        db.sql(&format!("INSERT INTO kept SELECT * FROM audit WHERE seq IN ({seq}, {other})")).await;
        let put_back = async || {
            db.sql(&format!("DELETE FROM audit WHERE seq IN ({seq}, {other}, -1)")).await;
            db.sql("INSERT INTO audit SELECT * FROM kept").await;
        };
        db.sql(&format!("UPDATE audit SET {altered} {}", at(seq))).await;
        assert_eq!(verify(&store, None).await.findings, [Finding::Altered(seq)], "{altered}");
        put_back().await;
        db.sql(&format!("DELETE FROM audit {}", at(seq))).await;
        assert_eq!(verify(&store, None).await.findings, [Finding::Missing(seq, seq)]);
        put_back().await;
        for (from, to) in [(seq, -1), (other, seq), (-1, other)] {
            db.sql(&format!("UPDATE audit SET seq = {to} {}", at(from))).await;
        }
        let found = verify(&store, None).await;
        assert!(located(&found, seq) && located(&found, other), "swapped {seq} and {other}: {:?}", found.findings);
        put_back().await;
        db.sql("DROP TABLE kept").await;
    }
    intact(&verify(&store, None).await);
}

/// The same in memory, where there is time for more of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_done_to_any_of_ten_thousand_rows_is_told_by_its_number() {
    let db = Db::sqlite();
    let store = db.open().await;
    let count = 10_000;
    let rows = fill(&store, count as usize).await;
    let head = verify(&store, None).await.head;
    let check = |rows: &[Row]| {
        let mut verifier = Verifier::new(Place::default(), head, None);
        rows.iter().for_each(|row| verifier.add(row));
        verifier.finish()
    };
    intact(&check(&rows));
    let mut rows = rows;
    for seq in sample(300, count) {
        let at = seq as usize - 1;
        let kept = rows[at].clone();
        rows[at].entry.actor.push('x');
        assert_eq!(check(&rows).findings, [Finding::Altered(seq)]);
        rows[at] = kept;
        let gone = rows.remove(at);
        assert_eq!(check(&rows).findings, [Finding::Missing(seq, seq)]);
        rows.insert(at, gone);
        let other = (at + 1 + random(count as u32 - 1) as usize) % count as usize;
        let swap = |rows: &mut Vec<Row>| {
            rows.swap(at, other);
            (rows[at].seq, rows[other].seq) = (at as i64 + 1, other as i64 + 1);
        };
        swap(&mut rows);
        let found = check(&rows);
        assert!(located(&found, seq) && located(&found, other as i64 + 1), "{seq} {other}: {:?}", found.findings);
        swap(&mut rows);
    }
    println!("proof: rows of the audit log altered, removed or swapped 906 played, 0 failed");
}

async fn a_tail_that_was_cut_off_is_seen(db: &Db) {
    let store = db.open().await;
    let rows = fill(&store, 20).await;
    let noted = verify(&store, None).await.head.hash;
    db.sql("DELETE FROM audit WHERE seq > 15").await;
    assert_eq!(verify(&store, None).await.findings, [Finding::Missing(16, 20)]);
    // Who can do that can make the head fit: then it takes one that was noted elsewhere.
    let literal =
        |hash: &Hash| if matches!(db, Db::Sqlite(_)) { format!("x'{}'", hex(hash)) } else { format!("'\\x{}'", hex(hash)) };
    db.sql(&format!("UPDATE audit_head SET seq = 15, hash = {}", literal(&rows[14].hash))).await;
    intact(&verify(&store, None).await);
    intact(&verify(&store, Some(rows[11].hash)).await);
    assert_eq!(verify(&store, Some(noted)).await.findings, [Finding::UnknownHead(hex(&noted))]);
    db.sql("DELETE FROM audit_head").await;
    assert_eq!(verify(&store, None).await.findings[0], Finding::Foreign(1), "rows, and no head");
}

async fn the_rest_of_a_pruned_log_verifies(db: &Db) {
    let store = db.open().await;
    let rows = fill(&store, 20).await;
    db.sql("UPDATE audit SET at = seq").await;
    assert_eq!(verify(&store, None).await.wrong, 20, "times are hashed, too");
    db.sql("UPDATE audit SET at = 1700000000000").await;
    let at = |at: i64| Entry { at, verb: "prune".into(), ..entry("prune") };
    assert_eq!(store.prune_audit(1, at(1_700_000_000_000)).await.unwrap(), (0, Place::default()));
    intact(&verify(&store, None).await);
    for i in 0..5 {
        store.write_audit(Entry { at: 1_800_000_000_000, ..entry(&format!("late-{i}")) }).await.unwrap();
    }
    let (gone, anchor) = store.prune_audit(1_750_000_000_000, at(1_800_000_000_001)).await.unwrap();
    assert_eq!((gone, anchor.seq), (21, 21));
    // Whoever can make it anew can make that its beginning.
    let pruned_there = [Finding::PrunedHead(hex(&anchor.hash))];
    assert_eq!(verify(&store, Some(anchor.hash)).await.findings, pruned_there);
    let found = verify(&store, None).await;
    intact(&found);
    assert_eq!((found.rows, found.anchor, found.head.seq), (6, anchor, 27));
    assert_eq!(verify(&store, Some(rows[3].hash)).await.findings, [Finding::UnknownHead(hex(&rows[3].hash))], "that one was cut");
    // All of it, but for the row that says so.
    let (gone, anchor) = store.prune_audit(i64::MAX, at(1_800_000_000_002)).await.unwrap();
    assert_eq!((gone, anchor.seq), (6, 27));
    intact(&verify(&store, None).await);
    fill(&store, 10).await;
    intact(&verify(&store, None).await);
    // Cut by somebody who did not ask, anchor and all.
    db.sql("UPDATE audit_head SET anchor_seq = 30, anchor_hash = (SELECT hash FROM audit WHERE seq = 30)").await;
    db.sql("DELETE FROM audit WHERE seq <= 30").await;
    assert_eq!(verify(&store, None).await.findings, [Finding::Cut(30)]);
}

/// As `devsanctum restore` does, but for the mark.
async fn restore(file: &Path, config: &StoreConfig) {
    let dir = tempfile::tempdir().unwrap();
    let unpacked = dir.path().join("store.db");
    store::unpack(file, &unpacked).await.unwrap();
    let url = format!("sqlite://{}", unpacked.display());
    Store::open(&StoreConfig { url, ..config.clone() }).await.unwrap().close().await;
    let note = Entry { verb: "restore".into(), code: 200, ..Entry::default() };
    store::replace(&unpacked, config, true, note).await.unwrap();
}

async fn a_restored_log_verifies_and_says_that_it_was_restored(db: &Db) {
    let dir = tempfile::tempdir().unwrap();
    let store = db.open().await;
    for i in 0..5 {
        noted(&store, &format!("old-{i}"), false).await.unwrap();
    }
    let old = verify(&store, None).await.head.hash;
    let file = dir.path().join("backup");
    store::backup(&db.config().url, &file).await.unwrap();
    noted(&store, "new", false).await.unwrap();
    let newest = verify(&store, None).await.head.hash;
    store.close().await;

    let names = |rows: Vec<Row>| rows.into_iter().map(|row| row.entry.verb + &row.entry.name).collect::<Vec<_>>();
    // Into the database it is of: what was done since is still told, though the records are as they were.
    restore(&file, &db.config()).await;
    let store = db.open().await;
    assert!(store.get(&workspace("new")).await.unwrap().is_none());
    let found = verify(&store, Some(newest)).await;
    intact(&found);
    assert_eq!(found.head.seq, 7);
    assert_eq!(names(rows(&store).await)[4..], ["createold-4", "createnew", "restore"]);
    store.close().await;

    // Into an empty one, and into one that has a log of its own, which says where that ended.
    for (records, words) in [(0, "".to_owned()), (3, "ended with row 3, ".to_owned())] {
        let other = if records == 0 { Db::sqlite() } else { db.another().await };
        let store = other.open().await;
        for i in 0..records {
            noted(&store, &format!("other-{i}"), false).await.unwrap();
        }
        let ended = verify(&store, None).await.head.hash;
        store.close().await;
        restore(&file, &other.config()).await;
        let store = other.open().await;
        intact(&verify(&store, Some(old)).await);
        let last = rows(&store).await.pop().unwrap();
        assert_eq!((last.seq, last.entry.verb.as_str()), (6, "restore"));
        assert!(last.entry.reason.contains(&words) && (records == 0 || last.entry.reason.contains(&hex(&ended))), "{last:?}");
        noted(&store, "after", false).await.unwrap();
        intact(&verify(&store, None).await);
    }
}
