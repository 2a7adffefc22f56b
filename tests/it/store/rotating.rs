//! Rotating the key that secrets are sealed with: while many write, with a kill after each step, with several replicas.

use super::harness::*;
use super::keys::{random_key, secret, value, with};
use super::on_both;
use devsanctum::store::{KeyReport, Rotate, SecretKeys, Step, Store, StoreConfig, StoreError};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

on_both! {
    three_rotations_under_fifty_writers_lose_nothing
    a_rotation_killed_after_any_step_is_gone_on_with
    a_rotation_killed_at_any_moment_leaves_all_readable
    a_rotation_moves_no_revision_and_wakes_no_watcher
    a_backup_made_before_a_rotation_restores_with_the_key_it_was_made_with
    a_data_key_that_does_not_unwrap_keeps_its_key_in_use
    with_keys_from_elsewhere_everything_is_wrapped_with_the_first_of_them
    a_replica_that_lacks_the_key_fails_and_overwrites_nothing
}

const ALONE: Rotate = Rotate { keep_old: false, only_replica: true };

fn in_file(db: &Db, file: &Path) -> StoreConfig {
    StoreConfig { secret_keys: SecretKeys::in_file(file).unwrap(), ..db.config() }
}

/// Rotates in the background, and returns once that has ended.
async fn rotated(store: &Store, how: Rotate) -> KeyReport {
    store.rotate(how).await.unwrap();
    loop {
        let report = store.key_report().await.unwrap();
        if !report.rotation.running {
            return report;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

async fn three_rotations_under_fifty_writers_lose_nothing(db: &Db) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("secret.key");
    let store = Store::open(&in_file(db, &file)).await.unwrap();
    for i in 0..200 {
        secret(&store, &format!("old-{i}"), &[("token", &i.to_string())]).await.unwrap();
    }
    let stop = Arc::new(AtomicBool::new(false));
    let writers = (0..50).map(|w| {
        let (store, stop) = (store.clone(), stop.clone());
        tokio::spawn(async move {
            let mut last = BTreeMap::new();
            for i in 0.. {
                if stop.load(Ordering::Relaxed) {
                    return last;
                }
                let mark = format!("{w}-{i}");
                // A new record, and one again and again: both ways to a data key.
                for name in [format!("new-{w}-{i}"), format!("same-{w}")] {
                    let uid = secret(&store, &name, &[("token", &mark)]).await.unwrap();
                    last.insert(uid, mark.clone());
                }
                tokio::task::yield_now().await;
            }
            last
        })
    });
    let writers: Vec<_> = writers.collect();
    let mut seen = SecretKeys::in_file(&file).unwrap().ids();
    for turn in 0..3 {
        let report = rotated(&store, ALONE).await;
        assert_eq!(report.rotation.error, None);
        assert!(report.rotation.wrapped >= report.rotation.total && report.rotation.total > 0, "{report:?}");
        let ids = SecretKeys::in_file(&file).unwrap().ids();
        assert!(ids.len() == 1 && !seen.contains(&ids[0]), "rotation {turn}: {ids:?}, after {seen:?}");
        assert_eq!(report.rotation.removed, [seen.last().unwrap().clone()]);
        seen.extend(ids);
    }
    stop.store(true, Ordering::Relaxed);
    let mut written = 0;
    let mut promised = Vec::new();
    for writer in writers {
        promised.extend(writer.await.unwrap());
    }
    store.close().await;
    // Started anew, with the last key alone.
    let store = Store::open(&in_file(db, &file)).await.unwrap();
    for (uid, mark) in promised {
        assert_eq!(value(&store, &uid, "token").await, mark);
        written += 1;
    }
    for i in 0..200 {
        assert_eq!(value(&store, &format!("uid-{SECRETS}-team-old-{i}"), "token").await, i.to_string());
    }
    sound(&store).await;
    assert_eq!(db.texts("SELECT DISTINCT wrapped_by FROM data_keys").await, [seen.last().unwrap().clone()]);
    println!("proof: values written during three rotations {written} played, 0 failed");
    assert!(written > 100, "{written}");
}

const URL: &str = "DEVSANCTUM_TEST_ROTATE";
const FILE: &str = "DEVSANCTUM_TEST_ROTATE_FILE";
const VALUES: usize = 120;

/// Not a test by itself: what the tests below start and kill. It says each step, and does the next when told to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rotate_it() {
    let (Ok(url), Ok(file)) = (std::env::var(URL), std::env::var(FILE)) else { return };
    let file = Path::new(&file);
    let config = StoreConfig { url, secret_keys: SecretKeys::in_file(file).unwrap(), keep_changes: 10_000 };
    let store = Store::open(&config).await.unwrap();
    let mut lines = std::io::stdin().lines();
    println!();
    let (mut rotation, mut step) = store.rotation(ALONE).await.unwrap();
    loop {
        println!("step {step:?}");
        let _ = std::io::stdout().flush();
        if matches!(step, Step::Done(_)) || lines.next().is_none() {
            break;
        }
        step = rotation.step().await.unwrap();
    }
}

/// Starts a rotation, lets it do so many steps and kills it; what its last step was.
fn killed_after(db: &Db, file: &Path, steps: usize) -> String {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store::rotating::rotate_it", "--nocapture"])
        .env(URL, db.config().url)
        .env(FILE, file)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok).filter(|l| l.starts_with("step "));
    let mut last = said.next().expect("a first step");
    for _ in 1..steps {
        if writeln!(child.stdin.as_ref().unwrap(), "next").is_err() {
            break;
        }
        let Some(line) = said.next() else { break };
        last = line;
    }
    child.kill().unwrap();
    child.wait().unwrap();
    last
}

async fn filled(db: &Db, file: &Path) {
    let store = Store::open(&in_file(db, file)).await.unwrap();
    for i in 0..VALUES {
        secret(&store, &format!("s-{i:03}"), &[("token", &format!("value-{i}"))]).await.unwrap();
    }
    store.close().await;
}

async fn all_there(store: &Store) {
    for i in 0..VALUES {
        assert_eq!(value(store, &format!("uid-{SECRETS}-team-s-{i:03}"), "token").await, format!("value-{i}"));
    }
    sound(store).await;
}

async fn a_rotation_killed_after_any_step_is_gone_on_with(db: &Db) {
    let mut kinds = Vec::new();
    for steps in 1.. {
        let (db, dir) = (db.another().await, tempfile::tempdir().unwrap());
        let file = dir.path().join("secret.key");
        filled(&db, &file).await;
        let old = SecretKeys::in_file(&file).unwrap().ids();
        let (killed, at) = (db, file.clone());
        let (db, last) = tokio::task::spawn_blocking(move || {
            let last = killed_after(&killed, &at, steps);
            (killed, last)
        })
        .await
        .unwrap();
        let store = Store::open(&in_file(&db, &file)).await.unwrap();
        all_there(&store).await;
        secret(&store, "after", &[("token", "written")]).await.unwrap();
        // It goes on to the key that was made, as long as something is wrapped with another.
        let made = SecretKeys::in_file(&file).unwrap().ids()[0].clone();
        let report = rotated(&store, ALONE).await;
        assert_eq!(report.rotation.error, None, "after {last}");
        let ids = SecretKeys::in_file(&file).unwrap().ids();
        assert!(ids.len() == 1 && !old.contains(&ids[0]), "after {last}: {ids:?}");
        if last.contains("Made") || last.contains("Chosen") {
            assert_eq!(ids, [made], "after {last}");
        }
        all_there(&store).await;
        store.close().await;
        let store = Store::open(&in_file(&db, &file)).await.unwrap();
        all_there(&store).await;
        assert_eq!(value(&store, &format!("uid-{SECRETS}-team-after"), "token").await, "written");
        kinds.push(last.clone());
        if last.contains("Done") {
            break;
        }
    }
    println!("proof: steps of a rotation with a kill after each {} played, 0 failed", kinds.len());
    for kind in ["Made", "Chosen", "Wrapped(50)", "Wrapped(20)", "Wrapped(0)", "Forgotten", "Done"] {
        assert!(kinds.iter().any(|k| k.contains(kind)), "{kind} is not in {kinds:?}");
    }
}

/// Whatever the rotation is in the middle of; each goes on from where the one before was killed.
async fn a_rotation_killed_at_any_moment_leaves_all_readable(db: &Db) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("secret.key");
    filled(db, &file).await;
    for _ in 0..kills(10) {
        let url = db.config().url;
        let at = file.clone();
        tokio::task::spawn_blocking(move || {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "store::rotating::rotate_it", "--nocapture"])
                .env(URL, url)
                .env(FILE, at)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
            while lines.next().is_some_and(|l| l.is_ok_and(|l| !l.starts_with("step "))) {}
            let _ = child.stdin.as_ref().unwrap().write_all(b"\n\n\n\n\n\n\n\n\n\n");
            std::thread::sleep(std::time::Duration::from_micros(u64::from(random(30_000))));
            let _ = child.kill();
            child.wait().unwrap();
        })
        .await
        .unwrap();
        let store = Store::open(&in_file(db, &file)).await.unwrap();
        all_there(&store).await;
        store.close().await;
    }
    let store = Store::open(&in_file(db, &file)).await.unwrap();
    assert_eq!(rotated(&store, ALONE).await.rotation.error, None);
    all_there(&store).await;
    assert_eq!(SecretKeys::in_file(&file).unwrap().ids().len(), 1);
}

async fn a_rotation_moves_no_revision_and_wakes_no_watcher(db: &Db) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("secret.key");
    filled(db, &file).await;
    let store = Store::open(&in_file(db, &file)).await.unwrap();
    let bodies =
        async || -> Vec<_> { store.list(&all(SECRETS)).await.unwrap().items.into_iter().map(|i| (i.revision, i.body)).collect() };
    let (revision, before) = (store.revision(), bodies().await);
    let mut watch = store.watch(SECRETS, None, revision).await.unwrap();
    assert_eq!(rotated(&store, ALONE).await.rotation.wrapped, VALUES as i64);
    assert_eq!((store.revision(), bodies().await), (revision, before));
    // The next thing a watcher hears of is the next thing that happened.
    secret(&store, "after", &[("token", "x")]).await.unwrap();
    assert_eq!(next_change(&mut watch).await, (revision + 1, "after".into()));
}

async fn a_backup_made_before_a_rotation_restores_with_the_key_it_was_made_with(db: &Db) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("secret.key");
    filled(db, &file).await;
    let kept = dir.path().join("kept.key");
    std::fs::copy(&file, &kept).unwrap();
    let old = SecretKeys::in_file(&kept).unwrap().ids();
    let store = Store::open(&in_file(db, &file)).await.unwrap();
    let backup = dir.path().join("backup");
    devsanctum::store::backup(&db.config().url, &backup).await.unwrap();
    let report = rotated(&store, ALONE).await;
    assert_eq!(report.rotation.removed, old);
    store.close().await;
    let restore = async |keys: &Path, name: &str| {
        let unpacked = dir.path().join(name);
        devsanctum::store::unpack(&backup, &unpacked).await?;
        let target = db.another().await;
        let secret_keys = SecretKeys::in_file(keys)?;
        let url = format!("sqlite://{}", unpacked.display());
        Store::open(&StoreConfig { url, secret_keys: secret_keys.clone(), ..db.config() }).await?.close().await;
        let config = StoreConfig { secret_keys, ..target.config() };
        let checked = devsanctum::store::replace(&unpacked, &config, false, devsanctum::audit::Entry::default()).await?;
        assert_eq!(checked.findings, Vec::<String>::new());
        all_there(&Store::open(&config).await?).await;
        Ok::<_, StoreError>(())
    };
    let refused = restore(&file, "one").await;
    assert!(matches!(&refused, Err(StoreError::KeyMissing { wanted, .. }) if *wanted == old), "{refused:?}");
    restore(&kept, "two").await.unwrap();
    // The new key first, the old one as a line of its own.
    let both = std::fs::read_to_string(&file).unwrap() + &std::fs::read_to_string(&kept).unwrap();
    std::fs::write(&file, both).unwrap();
    restore(&file, "three").await.unwrap();
}

async fn a_data_key_that_does_not_unwrap_keeps_its_key_in_use(db: &Db) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("secret.key");
    filled(db, &file).await;
    let store = Store::open(&in_file(db, &file)).await.unwrap();
    let old = SecretKeys::in_file(&file).unwrap().ids().remove(0);
    let broken = format!("uid-{SECRETS}-team-s-007");
    db.sql(&format!(
        "UPDATE data_keys SET nonce = (SELECT nonce FROM data_keys WHERE uid <> '{broken}' LIMIT 1) WHERE uid = '{broken}'"
    ))
    .await;
    let report = rotated(&store, ALONE).await;
    let words = report.rotation.error.unwrap();
    assert!(words.contains("1 records") && words.contains(&broken), "{words}");
    let ids = SecretKeys::in_file(&file).unwrap().ids();
    assert!(ids.len() == 2 && ids[1] == old, "{ids:?}");
    delete(&store, key(SECRETS, "team", "s-007")).await.unwrap();
    let report = rotated(&store, Rotate { keep_old: true, ..ALONE }).await;
    assert_eq!(report.rotation.error, None);
    assert_eq!(SecretKeys::in_file(&file).unwrap().ids().len(), 3, "they are kept if that is asked for");
    let report = rotated(&store, ALONE).await;
    assert_eq!(report.rotation.removed.len(), 3);
}

async fn with_keys_from_elsewhere_everything_is_wrapped_with_the_first_of_them(db: &Db) {
    let [old, new] = [(); 2].map(|()| random_key());
    let store = Store::open(&with(db, &[&old])).await.unwrap();
    for i in 0..VALUES {
        secret(&store, &format!("s-{i:03}"), &[("token", &format!("value-{i}"))]).await.unwrap();
    }
    let words = store.rotate(Rotate::default()).await.unwrap_err().to_string();
    assert!(words.contains("with the first key of") && words.contains("give all replicas"), "{words}");
    store.close().await;
    let store = Store::open(&with(db, &[&new, &old])).await.unwrap();
    assert_eq!(store.rotate(Rotate::default()).await.unwrap(), Step::Found(new.id()));
    while store.key_report().await.unwrap().rotation.running {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let report = store.key_report().await.unwrap();
    let used: Vec<_> = report.keys.iter().map(|k| (k.id.clone(), k.current, k.data_keys)).collect();
    assert_eq!(used, [(new.id(), true, VALUES as i64), (old.id(), false, 0)]);
    all_there(&store).await;
    store.close().await;
    all_there(&Store::open(&with(db, &[&new])).await.unwrap()).await;
}

async fn a_replica_that_lacks_the_key_fails_and_overwrites_nothing(db: &Db) {
    let [old, new] = [(); 2].map(|()| random_key());
    let behind = Store::open(&with(db, &[&old])).await.unwrap();
    let uid = secret(&behind, "a", &[("token", "one")]).await.unwrap();
    let ahead = Store::open(&with(db, &[&new, &old])).await.unwrap();
    assert_eq!(rotated(&ahead, Rotate::default()).await.rotation.error, None);
    let rows = || db.texts("SELECT uid || wrapped_by FROM data_keys ORDER BY uid");
    let before = rows().await;
    let lacks = |e: StoreError| match e {
        StoreError::KeyMissing { wanted, words } => {
            assert_eq!(wanted, [new.id()]);
            assert!(words.contains(&new.id()) && words.contains(&old.id()), "{words}");
        }
        other => panic!("{other:?}"),
    };
    lacks(behind.secret_value(&uid, "token").await.unwrap_err());
    lacks(secret(&behind, "a", &[("token", "two")]).await.unwrap_err());
    lacks(secret(&behind, "b", &[("token", "two")]).await.unwrap_err());
    lacks(behind.rotation(Rotate::default()).await.map(drop).unwrap_err());
    assert_eq!(rows().await, before);
    // What needs no key goes on, and the other is not disturbed.
    create(&behind, "dev").await;
    assert_eq!(value(&ahead, &uid, "token").await, "one");
    sound(&ahead).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_no_key_is_made_that_other_replicas_lack() {
    let (db, dir) = (Db::postgres().await, tempfile::tempdir().unwrap());
    let file = dir.path().join("secret.key");
    filled(&db, &file).await;
    let store = Store::open(&in_file(&db, &file)).await.unwrap();
    let before = std::fs::read(&file).unwrap();
    let words = store.rotate(Rotate::default()).await.unwrap_err().to_string();
    assert!(words.contains("--only-replica") && words.contains("every replica's file"), "{words}");
    assert_eq!(std::fs::read(&file).unwrap(), before);
    // Replicas that share one file read a key that has come into it.
    let other = Store::open(&in_file(&db, &file)).await.unwrap();
    assert_eq!(rotated(&store, ALONE).await.rotation.error, None);
    all_there(&other).await;
    secret(&other, "more", &[("token", "x")]).await.unwrap();
}
