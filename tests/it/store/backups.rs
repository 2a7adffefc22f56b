//! Backups made while many write, and what becomes of them.

use super::harness::*;
use super::on_both;
use devsanctum::audit::Entry;
use devsanctum::store::{self, BackupInfo, SecretKey, Store, StoreConfig, StoreError};
use sqlx::Row;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

on_both! {
    each_backup_made_under_load_is_of_one_revision_and_restores_into_either_database
    a_restore_that_is_refused_changes_nothing
    a_database_of_any_version_can_be_backed_up_and_is_left_as_it_is
}

/// Writes, changes and deletes records with all that can hang on one, until told to stop.
async fn busy(store: Store, writer: usize, stop: Arc<AtomicBool>) {
    for i in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let name = format!("s-{writer}-{}", i / 5);
        match i % 10 {
            9 => drop(delete(&store, key(SECRETS, "team", &name)).await.unwrap()),
            _ => secret(&store, &name, i).await.unwrap(),
        }
    }
}

/// A secret whose record and value say the same number, with a claim, an owner and a reference.
async fn secret(store: &Store, name: &str, mark: usize) -> Result<(), StoreError> {
    let mut put = record(key(SECRETS, "team", name));
    put.body["spec"] = serde_json::json!({"mark": mark.to_string()});
    put.body["status"] = serde_json::json!({"keys": ["mark"]});
    put.claims = vec![("mark".into(), format!("{name}-{mark}"))];
    put.owners = vec![format!("owner-{}", mark % 3)];
    put.references = vec![key(USERS, "", &format!("user-{}", mark % 3))];
    let job = store.write::<_, StoreError>(Box::new(move |tx| {
        Box::pin(async move {
            let uid = tx.put(put).await?.uid;
            tx.put_secret(&uid, "mark", Some(mark.to_string().as_bytes())).await
        })
    }));
    job.await
}

/// What the feed says was there at each revision: the records' revisions by name.
async fn at_revision(db: &Db, revision: i64) -> BTreeMap<String, i64> {
    let mut there = BTreeMap::new();
    for row in db.sql(&format!("SELECT name, revision, type FROM changes WHERE revision <= {revision} ORDER BY revision")).await {
        let name: String = row.get(0);
        match row.get::<String, _>(2).as_str() {
            "DELETED" => there.remove(&name),
            _ => there.insert(name, row.get(1)),
        };
    }
    there
}

fn note() -> Entry {
    Entry { verb: "restore".into(), code: 200, ..Entry::default() }
}

/// Unpacks a backup and puts it into a database, as `devsanctum restore` does but for the mark.
async fn restore(file: &Path, config: &StoreConfig, over: bool) -> Result<BackupInfo, StoreError> {
    let dir = tempfile::tempdir().unwrap();
    let unpacked = dir.path().join("store.db");
    let info = store::unpack(file, &unpacked).await?;
    let url = format!("sqlite://{}", unpacked.display());
    Store::open(&StoreConfig { url, ..config.clone() }).await?.close().await;
    let checked = store::replace(&unpacked, config, over, note()).await?;
    assert_eq!(checked.findings, Vec::<String>::new());
    Ok(info)
}

async fn each_backup_made_under_load_is_of_one_revision_and_restores_into_either_database(db: &Db) {
    let backups = kills(50) / 5;
    let store = db.open_keeping(1_000_000).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..4).map(|w| tokio::spawn(busy(store.clone(), w, stop.clone()))).collect();
    let dir = tempfile::tempdir().unwrap();
    let mut made: Vec<(PathBuf, BackupInfo)> = Vec::new();
    for n in 0..backups {
        tokio::time::sleep(Duration::from_millis(u64::from(random(60)))).await;
        let file = dir.path().join(format!("backup {n}?.db"));
        let before = store.revision();
        let info = store::backup(&db.config().url, &file).await.unwrap();
        assert!((before..=store.revision()).contains(&info.revision));
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        made.push((file, info));
    }
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    assert!(made.last().unwrap().1.revision > made[0].1.revision, "nobody wrote meanwhile");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), backups as usize, "something else is left beside the backups");
    for (n, (file, info)) in made.iter().enumerate() {
        let target = if n % 2 == 0 { Db::sqlite() } else { Db::postgres().await };
        assert_eq!(restore(file, &target.config(), false).await.unwrap(), *info);
        let restored = target.open().await;
        assert_eq!((restored.instance(), info.instance.as_str()), (store.instance(), store.instance()));
        sound(&restored).await;
        let items = restored.list(&all(SECRETS)).await.unwrap().items;
        let there: BTreeMap<_, _> = items.iter().map(|i| (i.key.name.clone(), i.revision)).collect();
        assert_eq!(there, at_revision(db, info.revision).await, "not what was there at revision {}", info.revision);
        for item in &items {
            let value = restored.secret_value(&item.uid, "mark").await.unwrap().unwrap();
            assert_eq!(json_of(item)["spec"]["mark"], String::from_utf8(value).unwrap());
        }
        // Whoever watched or read what came after the backup is told to begin anew, and no write of theirs fits.
        assert!(restored.revision() > store.revision());
        let lost = restored.watch(SECRETS, None, info.revision + 1).await.map(drop);
        assert!(matches!(lost, Err(StoreError::Expired(_))), "{lost:?}");
        secret(&restored, "after", 1).await.unwrap();
        sound(&restored).await;
    }
    println!("{backups} backups, revisions {} to {}", made[0].1.revision, made.last().unwrap().1.revision);
}

/// All rows, as text.
pub async fn rows(db: &Db) -> Vec<String> {
    let mut all = Vec::new();
    for sql in [
        "SELECT instance || revision || compacted FROM meta",
        "SELECT uid || name || revision || body FROM resources ORDER BY uid",
        "SELECT name || revision || body FROM changes ORDER BY revision",
        "SELECT uid || owner_uid FROM owners ORDER BY uid, owner_uid",
        "SELECT scope || value || uid FROM claims ORDER BY value",
        "SELECT uid || key FROM secret_values ORDER BY uid",
        "SELECT CAST(version AS TEXT) FROM _sqlx_migrations ORDER BY version",
    ] {
        all.extend(db.texts(sql).await);
    }
    all
}

async fn a_restore_that_is_refused_changes_nothing(db: &Db) {
    let dir = tempfile::tempdir().unwrap();
    let backup_of = async |db: &Db, name: &str| {
        let file = dir.path().join(name);
        store::backup(&db.config().url, &file).await.unwrap();
        file
    };
    let store = db.open().await;
    secret(&store, "old", 1).await.unwrap();
    let file = backup_of(db, "old").await;
    secret(&store, "new", 2).await.unwrap();
    store.close().await;
    let before = rows(db).await;
    let refused = async |file: &Path, config: &StoreConfig, over: bool| {
        let words = restore(file, config, over).await.unwrap_err().to_string();
        assert_eq!(rows(db).await, before, "{words}");
        words
    };
    let config = db.config();
    assert!(refused(&file, &config, false).await.contains("holds 2 records"));
    let other = StoreConfig { secret_keys: SecretKey([8; 32]).into(), ..config.clone() };
    assert!(matches!(restore(&file, &other, true).await, Err(StoreError::KeyMissing { .. })));
    assert!(refused(Path::new("/nonexistent"), &config, true).await.contains("/nonexistent"));

    let change = async |name: &str, sql: &str| {
        let changed = dir.path().join(name);
        std::fs::copy(&file, &changed).unwrap();
        let mut conn = sqlx::SqliteConnection::connect(&format!("sqlite://{}", changed.display())).await.unwrap();
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(&mut conn).await.unwrap();
        conn.close().await.unwrap();
        changed
    };
    use sqlx::Connection;
    let newer = change("newer", "INSERT INTO _sqlx_migrations VALUES (999, 'future', '2030-01-01', TRUE, x'00', 0)").await;
    assert!(refused(&newer, &config, true).await.contains("newer version"));
    let format = change("format", "UPDATE backup SET format = 2").await;
    assert!(refused(&format, &config, true).await.contains("newer version"));
    for (name, sql) in [
        ("changed", "UPDATE resources SET body = replace(body, '1', '2')"),
        ("less", "DELETE FROM claims"),
        ("untold", "UPDATE backup SET at = 'x'"),
    ] {
        let words = refused(&change(name, sql).await, &config, true).await;
        assert!(words.contains("is damaged") && words.contains(name), "{words}");
    }
    let plain = change("plain", "DROP TABLE backup").await;
    assert!(refused(&plain, &config, true).await.contains("is no backup"));

    let store = db.open().await;
    assert!(store.lease("controllers", "somebody", Duration::from_secs(60)).await.unwrap());
    assert!(refused(&file, &config, true).await.contains("runs on this database"));
    store.release("controllers", "somebody").await.unwrap();
    store.close().await;

    restore(&file, &config, true).await.unwrap();
    let store = db.open().await;
    let names: Vec<_> = store.list(&all(SECRETS)).await.unwrap().items.into_iter().map(|i| i.key.name).collect();
    assert_eq!(names, ["old"]);

    // However often it is done: nobody goes on from what was seen in between.
    for name in ["between", "more"] {
        secret(&store, name, 3).await.unwrap();
    }
    let seen = store.revision();
    store.close().await;
    restore(&file, &config, true).await.unwrap();
    let store = db.open().await;
    assert!(store.revision() > seen, "{} {seen}", store.revision());
    let lost = store.watch(SECRETS, None, seen).await.map(drop);
    assert!(matches!(lost, Err(StoreError::Expired(_))), "{lost:?}");
    secret(&store, "after", 4).await.unwrap();
    sound(&store).await;
}

async fn a_database_of_any_version_can_be_backed_up_and_is_left_as_it_is(db: &Db) {
    let dir = tempfile::tempdir().unwrap();
    for version in [1, 2, 3, 5] {
        let old = db.another().await;
        super::migrating::at_version(&old, version).await;
        let before = rows(&old).await;
        let file = dir.path().join(version.to_string());
        let info = store::backup(&old.config().url, &file).await.unwrap();
        assert_eq!((info.schema, info.records, info.revision), (version, 6, 11));
        assert_eq!(rows(&old).await, before);
        let target = db.another().await;
        restore(&file, &target.config(), false).await.unwrap();
        let store = target.open().await;
        sound(&store).await;
        assert_eq!(store.secret_value("s-git", "token").await.unwrap().unwrap(), b"hunter2");
    }
}

#[tokio::test]
async fn a_backup_damaged_anywhere_is_refused_or_reads_the_same() {
    let (db, dir) = (Db::sqlite(), tempfile::tempdir().unwrap());
    let store = db.open().await;
    for i in 0..150 {
        secret(&store, &format!("s-{i}"), i).await.unwrap();
    }
    let file = dir.path().join("backup");
    let info = store::backup(&db.config().url, &file).await.unwrap();
    let whole = std::fs::read(&file).unwrap();
    let damaged = dir.path().join("damaged");
    let mut refused = 0;
    for _ in 0..200 {
        let mut bytes = whole.clone();
        let at = random(u32::try_from(whole.len()).unwrap()) as usize;
        bytes[at] ^= 1 << random(8);
        std::fs::write(&damaged, &bytes).unwrap();
        match store::verify(&damaged).await {
            Ok(read) => assert_eq!(read, info, "byte {at}"),
            Err(e) => refused += usize::from(!e.to_string().is_empty()),
        }
    }
    println!("{refused} of 200 damages noticed; the rest is in space that holds nothing");
    assert!(refused > 20, "{refused}");
    // A changed value that still reads well: in its record, in the feed, and perhaps in space that holds nothing.
    let text = b"\"mark\":\"77\"";
    let places = whole.windows(text.len()).enumerate().filter(|(_, w)| w == text).map(|(at, _)| at);
    let mut noticed = 0;
    for at in places.collect::<Vec<_>>() {
        let mut bytes = whole.clone();
        bytes[at + 8] = b'8';
        std::fs::write(&damaged, &bytes).unwrap();
        noticed += usize::from(store::verify(&damaged).await.is_err_and(|e| e.to_string().contains("checksum")));
    }
    assert_eq!(noticed, 2);
    for length in [0, 100, 4096, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&damaged, &whole[..length]).unwrap();
        assert!(store::verify(&damaged).await.is_err(), "cut to {length}");
    }
}

#[tokio::test]
async fn a_backup_that_cannot_be_made_leaves_nothing() {
    let (db, dir) = (Db::sqlite(), tempfile::tempdir().unwrap());
    let url = db.config().url;
    let file = dir.path().join("backup");
    let none = store::backup(&url, &file).await.unwrap_err().to_string();
    assert!(none.contains("there is no database at") && !db.file().exists(), "{none}");
    let store = db.open().await;
    create(&store, "dev").await;
    std::fs::write(&file, "mine").unwrap();
    let taken = store::backup(&url, &file).await.unwrap_err().to_string();
    assert!(taken.contains("is there already") && std::fs::read(&file).unwrap() == b"mine", "{taken}");
    assert!(store::backup(&url, &dir.path().join("none/backup")).await.is_err());
    store.close().await;
    db.sql("INSERT INTO _sqlx_migrations VALUES (999, 'future', '2030-01-01', TRUE, x'00', 0)").await;
    assert!(matches!(store::backup(&url, &dir.path().join("newer")).await, Err(StoreError::Newer { found: 999, .. })));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}
