//! From every schema version that ever was to the newest, whatever happens on the way.

use super::harness::*;
use super::on_both;
use crate::support::source::root;
use devsanctum::store::{Store, StoreError};
use sha2::{Digest, Sha256};
use sqlx::migrate::Migrator;
use sqlx::{AnyConnection, AssertSqlSafe, Connection, Executor};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

on_both! {
    rows_of_every_version_are_read_by_this_one
    every_table_has_a_row_in_every_versions_fixture
    two_that_migrate_at_once_both_get_there
    one_that_is_killed_while_it_opens_leaves_what_the_next_can_open
}

fn folder(db: &Db) -> PathBuf {
    root().join("migrations").join(match db {
        Db::Sqlite(_) => "sqlite",
        Db::Postgres(_) => "postgres",
    })
}

/// Versions there are, with their SQL, oldest first.
fn versions(db: &Db) -> Vec<(i64, String)> {
    let name = |p: &Path| p.file_name().unwrap().to_str().unwrap().to_owned();
    let files = std::fs::read_dir(folder(db)).unwrap().map(|f| f.unwrap().path());
    let mut all: Vec<_> = files.map(|f| (name(&f)[..4].parse().unwrap(), std::fs::read_to_string(&f).unwrap())).collect();
    all.sort();
    all
}

/// The numbers of the versions, with that of an empty database first. Numbers may be left out.
fn numbers(db: &Db) -> Vec<i64> {
    std::iter::once(0).chain(versions(db).into_iter().map(|(number, _)| number)).collect()
}

/// The version that the n-th turn begins with: each but the newest in its turn.
fn old(db: &Db, turn: usize) -> i64 {
    let numbers = numbers(db);
    numbers[turn % (numbers.len() - 1)]
}

/// A connection beside the store, to a database that may not be there yet.
async fn connect(db: &Db) -> AnyConnection {
    sqlx::any::install_default_drivers();
    if let Db::Sqlite(_) = db {
        std::fs::create_dir_all(db.file().parent().unwrap()).unwrap();
    }
    let url = db.config().url;
    AnyConnection::connect(&if matches!(db, Db::Sqlite(_)) { format!("{url}?mode=rwc") } else { url }).await.unwrap()
}

/// Makes the database as a program of that version has left it, with its fixture's rows; 0 is an empty one.
pub async fn at_version(db: &Db, version: i64) {
    let mut conn = connect(db).await;
    let migrator = Migrator::new(folder(db).as_path()).await.unwrap();
    if version > 0 {
        migrator.run_direct(Some(version), &mut conn, false).await.unwrap();
        let file = root().join(format!("tests/it/store/fixtures/{version:04}.sql"));
        let rows = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}; each version needs one", file.display()));
        let rows = if matches!(db, Db::Postgres(_)) { rows.replace(" x'", " '\\x") } else { rows };
        conn.execute(AssertSqlSafe(rows)).await.unwrap();
    }
    conn.close().await.unwrap();
}

/// What was there at that version can be read, and written to.
async fn reads_well(store: &Store, version: i64) {
    sound(store).await;
    if version > 0 {
        assert_eq!(store.instance(), "11111111-2222-3333-4444-555555555555");
        let names: Vec<_> = store.list(&all(USERS)).await.unwrap().items.into_iter().map(|i| i.key.name).collect();
        assert_eq!(names, ["ada"]);
        let web = store.get(&key(WORKSPACES, "team", "web")).await.unwrap().unwrap();
        assert_eq!(json_of(&web)["status"]["services"][0]["port"], 3000);
        assert_eq!(store.secret_value("s-git", "token").await.unwrap().unwrap(), b"hunter2");
        assert_eq!(store.token_holder(Sha256::digest("token").into()).await.unwrap().as_deref(), Some("admin"));
        assert!(matches!(store.watch(USERS, None, 3).await.map(drop), Err(StoreError::Expired(3))));
        let mut watch = store.watch("templates.devsanctum.io", None, 4).await.unwrap();
        assert_eq!([next_change(&mut watch).await.0, next_change(&mut watch).await.0], [5, 6]);
        let claimed =
            devsanctum::store::Put { claims: vec![("email".into(), "ada@example.com".into())], ..record(key(USERS, "", "eve")) };
        assert!(matches!(put(store, claimed).await, Err(StoreError::Claimed { .. })));
    }
    assert!(store.lease("controllers", "two", Duration::from_secs(1)).await.unwrap());
    let revision = store.revision();
    assert_eq!(create(store, &format!("new-{revision}")).await.revision, revision + 1);
}

async fn rows_of_every_version_are_read_by_this_one(db: &Db) {
    for (version, _) in versions(db) {
        let db = db.another().await;
        at_version(&db, version).await;
        reads_well(&db.open().await, version).await;
    }
}

async fn every_table_has_a_row_in_every_versions_fixture(db: &Db) {
    let tables = match db {
        Db::Sqlite(_) => "SELECT name FROM sqlite_master WHERE type = 'table' AND name <> '_sqlx_migrations'",
        Db::Postgres(_) => {
            "SELECT tablename::text FROM pg_tables WHERE schemaname = current_schema() AND tablename <> '_sqlx_migrations'"
        }
    };
    let numbers = &numbers(db)[1..];
    let mut found = 0;
    for &version in numbers {
        let db = db.another().await;
        at_version(&db, version).await;
        // In the newest form, too: a table that a later version adds must be in that version's fixture.
        for table in db.texts(tables).await {
            let rows = db.texts(&format!("SELECT CAST(count(*) AS TEXT) FROM {table}")).await;
            assert_ne!(rows, ["0"], "version {version}: no row in {table}");
            found += 1;
        }
    }
    assert!(found >= 9 * numbers.len());
}

async fn two_that_migrate_at_once_both_get_there(db: &Db) {
    for turn in 0..20 {
        let (db, version) = (db.another().await, old(db, turn));
        at_version(&db, version).await;
        let opened = [db.config(), db.config()].map(|config| tokio::spawn(async move { Store::open(&config).await.unwrap() }));
        let [a, b] = opened;
        let (a, b) = (a.await.unwrap(), b.await.unwrap());
        assert_eq!(a.instance(), b.instance());
        reads_well(&a, version).await;
        sound(&b).await;
    }
}

const URL: &str = "DEVSANCTUM_TEST_OPEN";

/// Not a test by itself: what the test below starts and kills.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_it() {
    let Ok(url) = std::env::var(URL) else { return };
    let store = Store::open(&devsanctum::store::StoreConfig { url, ..Db::sqlite().config() }).await.unwrap();
    store.close().await;
}

fn opening(url: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store::migrating::open_it"])
        .env(URL, url)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

async fn one_that_is_killed_while_it_opens_leaves_what_the_next_can_open(db: &Db) {
    let whole = db.another().await;
    at_version(&whole, 0).await;
    let begun = Instant::now();
    assert!(opening(&whole.config().url).wait().unwrap().success());
    let whole = begun.elapsed();
    for turn in 0..20u32 {
        let (db, version) = (db.another().await, old(db, turn as usize));
        at_version(&db, version).await;
        let mut child = opening(&db.config().url);
        tokio::time::sleep(whole.mul_f64(f64::from(turn + 1) / 20.0)).await;
        child.kill().unwrap();
        child.wait().unwrap();
        reads_well(&db.open().await, version).await;
    }
}

/// Cuts off what follows this version after each statement in turn, and gives how often: of an empty database all of it, of another
/// the next migration, since what comes after that is what follows the next version.
async fn cut_off_after(from: i64) -> usize {
    for statement in 1.. {
        let db = Db::postgres().await;
        at_version(&db, from).await;
        for sql in [
            "CREATE SEQUENCE statements".to_owned(),
            format!(
                "CREATE FUNCTION cut() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN \
                 IF nextval('statements') = {statement} THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF; END $$"
            ),
            "CREATE EVENT TRIGGER cut ON ddl_command_end EXECUTE FUNCTION cut()".to_owned(),
        ] {
            db.sql(&sql).await;
        }
        let first = Store::open(&db.config()).await;
        let cut = first.is_err();
        let next = format!("SELECT CAST(version AS TEXT) FROM _sqlx_migrations WHERE version > {from}");
        let later = cut && from > 0 && !db.texts(&next).await.is_empty();
        let store = match first {
            Ok(store) => store,
            Err(_) => db.open().await,
        };
        reads_well(&store, from).await;
        if !cut || later {
            return statement - 1;
        }
    }
    unreachable!("a migration ends")
}

/// PostgreSQL ends the connection right after the n-th change of the schema.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_cut_off_after_any_statement_is_finished_by_the_next_start_on_postgres() {
    let numbers = numbers(&Db::postgres().await);
    let cuts = futures::future::join_all(numbers[..numbers.len() - 1].iter().map(|&from| cut_off_after(from))).await;
    println!("cuts by the version they begin with: {cuts:?}");
    assert!(cuts.iter().all(|&cuts| cuts > 0) && cuts.iter().sum::<usize>() > 20, "{cuts:?}");
}

/// What is on the disk after each statement, the transaction still open, is what a dying machine leaves: in the
/// write-ahead log, or in the rollback journal of the very first start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_cut_off_after_any_statement_is_finished_by_the_next_start_on_sqlite() {
    let (mut cuts, mut journals) = (0, 0);
    for (mode, suffix) in [("WAL", "-wal"), ("DELETE", "-journal")] {
        let numbers = numbers(&Db::sqlite());
        for (&from, (_, script)) in numbers.iter().zip(&versions(&Db::sqlite())) {
            let db = Db::sqlite();
            at_version(&db, from).await;
            let mut conn = connect(&db).await;
            // A cache this small is written out long before the commit.
            let begin = format!("PRAGMA journal_mode = {mode}; PRAGMA cache_size = 1; PRAGMA cache_spill = 1; BEGIN IMMEDIATE");
            conn.execute(AssertSqlSafe(begin)).await.unwrap();
            for statement in statements(script) {
                conn.execute(AssertSqlSafe(statement)).await.unwrap();
                let image = Db::sqlite();
                std::fs::create_dir_all(image.file().parent().unwrap()).unwrap();
                let of = |db: &Db, suffix: &str| format!("{}{suffix}", db.file().display());
                std::fs::copy(db.file(), image.file()).unwrap();
                let _ = std::fs::copy(of(&db, suffix), of(&image, suffix));
                journals += usize::from(std::fs::metadata(of(&image, "-journal")).is_ok_and(|m| m.len() > 512));
                reads_well(&image.open().await, from).await;
                cuts += 1;
            }
        }
    }
    println!("{cuts} cuts, {journals} with a journal");
    assert!(cuts > 40 && journals > 0, "{cuts}, {journals}");
}

fn statements(script: &str) -> Vec<String> {
    let lines: Vec<&str> = script.lines().filter(|l| !l.trim_start().starts_with("--")).collect();
    let all = lines.join("\n");
    all.split(";\n").map(|s| s.trim().trim_end_matches(';').to_owned()).filter(|s| !s.is_empty()).collect()
}
