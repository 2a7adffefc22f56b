//! Opening: restarts, crashes, other versions, file modes.

use super::harness::*;
use super::on_both;
use devsanctum::store::{Store, StoreConfig, StoreError};
use std::os::unix::fs::PermissionsExt;

on_both! {
    a_store_keeps_its_identity_and_goes_on_from_its_revision
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

async fn a_newer_schema_is_refused_and_left_alone(db: &Db) {
    let store = db.open().await;
    create(&store, "dev").await;
    store.close().await;
    let newer = match db {
        Db::Sqlite(_) => "INSERT INTO _sqlx_migrations VALUES (999, 'future', '2030-01-01', TRUE, x'00', 0)",
        Db::Postgres(_) => "INSERT INTO _sqlx_migrations VALUES (999, 'future', now(), TRUE, '\\x00', 0)",
    };
    db.sql(newer).await;
    let rows = super::backups::rows(db).await;
    let before = match db {
        Db::Sqlite(_) => std::fs::read(db.file()).unwrap(),
        Db::Postgres(_) => vec![],
    };
    let refused = Store::open(&db.config()).await.err();
    assert!(matches!(refused, Some(StoreError::Newer { found: 999, known }) if known < 999));
    if let Db::Sqlite(_) = db {
        assert!(std::fs::read(db.file()).unwrap() == before, "not a byte is written");
    }
    assert_eq!(super::backups::rows(db).await, rows);
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
    std::fs::write(format!("{}.lock", file.display()), "").unwrap();
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
