//! Opening: restarts, crashes, other versions, file modes.

use super::harness::*;
use super::on_both;
use devsanctum::store::{Store, StoreConfig, StoreError};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

on_both! {
    a_store_keeps_its_identity_and_goes_on_from_its_revision
    acknowledged_writes_survive_kill_minus_nine
    a_newer_schema_is_refused_and_left_alone
    two_programs_can_open_an_empty_database_at_once
}

async fn a_store_keeps_its_identity_and_goes_on_from_its_revision(db: &Db) {
    let store = db.open().await;
    let (instance, written) = (store.instance().to_owned(), create(&store, "dev").await);
    assert!(instance.parse::<uuid::Uuid>().is_ok());
    store.close().await;
    let store = db.open().await;
    assert_eq!((store.instance(), store.revision()), (instance.as_str(), written.revision));
    assert_eq!(create(&store, "more").await.revision, written.revision + 1);
}

const URL: &str = "DEVSANCTUM_TEST_WRITE_UNTIL_KILLED";

/// Not a test by itself: what the test below starts and kills. It says each name once it is durable.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn write_until_killed() {
    let Ok(url) = std::env::var(URL) else { return };
    let store = Store::open(&StoreConfig { url, ..Db::sqlite().config() }).await.unwrap();
    let run = uuid::Uuid::new_v4();
    let writers = (0..8).map(|w| {
        let store = store.clone();
        tokio::spawn(async move {
            for i in 0.. {
                let name = format!("ws-{run}-{w}-{i}");
                create(&store, &name).await;
                println!("\nwritten {name}");
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
}

async fn acknowledged_writes_survive_kill_minus_nine(db: &Db) {
    let url = db.config().url;
    let mut written = BTreeSet::new();
    for round in 1..=3 {
        let url = url.clone();
        written = tokio::task::spawn_blocking(move || write_and_kill(&url, round * 40, written)).await.unwrap();
        let store = db.open().await;
        let there = store.list(&all(WORKSPACES)).await.unwrap();
        let names: BTreeSet<_> = there.items.iter().map(|i| i.key.name.clone()).collect();
        assert!(written.is_subset(&names));
        // No half of a write: the feed tells of exactly the records that are there.
        let mut watch = store.watch(WORKSPACES, None, 1).await.unwrap();
        let mut told = BTreeSet::new();
        while told.len() < names.len() {
            told.insert(next_change(&mut watch).await.1);
        }
        assert_eq!(told, names);
        store.close().await;
    }
}

fn write_and_kill(url: &str, count: usize, mut written: BTreeSet<String>) -> BTreeSet<String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store::opening::write_until_killed", "--nocapture"])
        .env(URL, url)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut take = |n: usize| {
        let found = lines.by_ref().map_while(Result::ok).filter_map(|l| l.strip_prefix("written ").map(str::to_owned));
        found.take(n).collect::<Vec<_>>()
    };
    let first = take(count);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(first.len(), count, "the child writes until it is killed");
    written.extend(first);
    // What it could still say before it died counts as well.
    written.extend(take(usize::MAX));
    written
}

async fn a_newer_schema_is_refused_and_left_alone(db: &Db) {
    let store = db.open().await;
    create(&store, "dev").await;
    store.close().await;
    let newer = match db {
        Db::Sqlite(_) => "INSERT INTO _sqlx_migrations VALUES (999, 'future', '2030-01-01', TRUE, x'00', 0)",
        Db::Postgres(_) => "INSERT INTO _sqlx_migrations VALUES (999, 'future', now(), TRUE, '\\x00', 0)",
    };
    db.sql(newer).await;
    let before = match db {
        Db::Sqlite(_) => std::fs::read(db.file()).unwrap(),
        Db::Postgres(_) => vec![],
    };
    let refused = Store::open(&db.config()).await.err();
    assert!(matches!(refused, Some(StoreError::Newer { found: 999, known }) if known < 999));
    if let Db::Sqlite(_) = db {
        assert!(std::fs::read(db.file()).unwrap() == before, "not a byte is written");
    }
    db.sql("DELETE FROM _sqlx_migrations WHERE version = 999").await;
    assert!(db.open().await.get(&workspace("dev")).await.unwrap().is_some());
}

async fn two_programs_can_open_an_empty_database_at_once(db: &Db) {
    let (a, b) = tokio::join!(db.open(), db.open());
    assert_eq!(a.instance(), b.instance());
    create(&a, "a").await;
    create(&b, "b").await;
    create(&a, "c").await;
    assert_eq!(a.list(&all(WORKSPACES)).await.unwrap().items.len(), 3);
}

#[tokio::test]
async fn the_database_is_the_owners_alone() {
    let db = Db::sqlite();
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let file = db.file();
    let folder = file.parent().unwrap();
    let store = db.open().await;
    create(&store, "dev").await;
    assert_eq!(mode(folder), 0o700);
    for suffix in ["", "-wal", "-shm"] {
        assert_eq!(mode(std::path::Path::new(&format!("{}{suffix}", file.display()))), 0o600, "{suffix}");
    }
    store.close().await;
    // Opened up by somebody: closed again. A folder with other things in it is left as it is.
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
    std::fs::set_permissions(folder, PermissionsExt::from_mode(0o755)).unwrap();
    db.open().await.close().await;
    assert_eq!((mode(folder), mode(&file)), (0o700, 0o600));
    std::fs::write(folder.join("notes.txt"), "mine").unwrap();
    std::fs::set_permissions(folder, PermissionsExt::from_mode(0o755)).unwrap();
    db.open().await.close().await;
    assert_eq!((mode(folder), mode(&file)), (0o755, 0o600));
}

#[tokio::test]
async fn what_cannot_be_a_store_is_refused_in_words() {
    for url in ["mysql://root@localhost/x", "sqlite::memory:", "sqlite://", "/var/lib/x.db", "postgres://user:secret@[bad/x"] {
        let error = Store::open(&StoreConfig { url: url.into(), ..Db::sqlite().config() }).await.err().expect(url).to_string();
        assert!(!error.contains("secret"), "{error}");
    }
}

#[tokio::test]
async fn two_stores_on_one_sqlite_file_take_turns() {
    let db = Db::sqlite();
    let (a, b) = (db.open().await, db.open().await);
    let mut watch = a.watch(WORKSPACES, None, a.revision()).await.unwrap();
    for i in 0..20 {
        create(if i % 2 == 0 { &b } else { &a }, &format!("ws-{i}")).await;
    }
    for i in 0..20 {
        assert_eq!(next_change(&mut watch).await.1, format!("ws-{i}"));
    }
}
