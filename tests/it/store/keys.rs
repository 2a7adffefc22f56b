//! The keys that secrets are sealed with: which are taken, which are refused and in what words, and what moves where.

use super::harness::*;
use super::on_both;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use devsanctum::store::{KeySource, SecretKey, SecretKeys, Store, StoreConfig, StoreError};
use sqlx::{Connection, Executor, Row};
use std::path::Path;

on_both! {
    a_key_that_is_wanted_must_be_given
    a_wrong_key_is_refused_before_a_database_of_an_older_version_is_changed
    values_of_the_old_form_are_brought_to_the_new_whenever_that_is_cut_off
    what_is_sealed_opens_in_its_place_alone
    a_data_key_goes_with_its_last_value
    canaries_are_in_no_table_and_no_file
}

pub fn random_key() -> SecretKey {
    SecretKey::random().unwrap()
}

/// The database with these keys, the newest first.
pub fn with(db: &Db, keys: &[&SecretKey]) -> StoreConfig {
    StoreConfig { secret_keys: SecretKeys::given(keys.iter().map(|key| (*key).clone()).collect()), ..db.config() }
}

/// A secret's record and values.
pub async fn secret(store: &Store, name: &str, values: &[(&str, &str)]) -> Result<String, StoreError> {
    let mut put = record(key(SECRETS, "team", name));
    put.body["status"] = serde_json::json!({"keys": values.iter().map(|(key, _)| *key).collect::<Vec<_>>()});
    let values: Vec<_> = values.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let job = store.write::<_, StoreError>(Box::new(move |tx| {
        Box::pin(async move {
            let uid = tx.put(put).await?.uid;
            for (key, value) in values {
                tx.put_secret(&uid, &key, Some(value.as_bytes())).await?;
            }
            Ok(uid)
        })
    }));
    job.await
}

pub async fn value(store: &Store, uid: &str, key: &str) -> String {
    String::from_utf8(store.secret_value(uid, key).await.unwrap().unwrap()).unwrap()
}

async fn refused(config: &StoreConfig) -> (Vec<String>, String) {
    match Store::open(config).await.err() {
        Some(StoreError::KeyMissing { wanted, words }) => (wanted, words),
        other => panic!("not refused for its keys: {other:?}"),
    }
}

async fn a_key_that_is_wanted_must_be_given(db: &Db) {
    let [old, new, other] = [(); 3].map(|()| random_key());
    let store = Store::open(&with(db, &[&old])).await.unwrap();
    let uid = secret(&store, "a", &[("token", "one")]).await.unwrap();
    store.close().await;
    let before = db.texts("SELECT id FROM wrapping_keys").await;
    let (wanted, words) = refused(&with(db, &[&other])).await;
    assert_eq!(wanted, [old.id()]);
    assert!(words.contains(&old.id()) && words.contains(&other.id()) && words.contains("secrets rotate"), "{words}");
    assert_eq!(db.texts("SELECT id FROM wrapping_keys").await, before);

    // With both, the first writes and both read; what the old one wraps keeps it in use.
    let store = Store::open(&with(db, &[&new, &old])).await.unwrap();
    let later = secret(&store, "b", &[("token", "two")]).await.unwrap();
    assert_eq!((value(&store, &uid, "token").await, value(&store, &later, "token").await), ("one".into(), "two".into()));
    let wrapped = "SELECT wrapped_by FROM data_keys ORDER BY uid";
    assert_eq!(db.texts(wrapped).await, [old.id(), new.id()]);
    store.close().await;
    for (keys, missing) in [(vec![&new], &old), (vec![&old], &new), (vec![&old, &other], &new)] {
        assert_eq!(refused(&with(db, &keys)).await.0, [missing.id()]);
    }
    let store = Store::open(&with(db, &[&other, &old, &new])).await.unwrap();
    sound(&store).await;
    // No key at all, of a database that is in use: none is made in its place.
    store.close().await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("secret.key");
    let in_file = || StoreConfig { secret_keys: SecretKeys::in_file(&file).unwrap(), ..db.config() };
    let (_, words) = refused(&in_file()).await;
    assert!(words.contains(&format!("{} is not there", file.display())) && words.contains(&other.id()), "{words}");
    assert!(!file.exists());
    // And of a new one.
    let fresh = db.another().await;
    let config = StoreConfig { secret_keys: SecretKeys::in_file(&file).unwrap(), ..fresh.config() };
    Store::open(&config).await.unwrap().close().await;
    assert_eq!(fresh.texts("SELECT id FROM wrapping_keys").await, SecretKeys::in_file(&file).unwrap().ids());
    Store::open(&StoreConfig { secret_keys: SecretKeys::in_file(&file).unwrap(), ..fresh.config() }).await.unwrap();
}

#[test]
fn a_short_weak_or_unreadable_key_is_refused_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("secret.key");
    for (text, what) in [
        (STANDARD.encode([7; 32]), "again and again"),
        (STANDARD.encode([0; 32]), "again and again"),
        (STANDARD.encode([1; 31]), "has 31 bytes, not 32"),
        ("correct horse battery staple".into(), "key 1"),
        (String::new(), "holds no key"),
    ] {
        std::fs::write(&file, &text).unwrap();
        let words = SecretKeys::in_file(&file).unwrap_err().to_string();
        assert!(words.contains(what) && words.contains("secret.key") && words.contains("openssl rand -base64 32"), "{words}");
        assert!(text.is_empty() || !words.contains(&text), "{words}");
    }
    assert!(SecretKeys::mounted(Path::new("/nonexistent/keys")).unwrap_err().to_string().contains("/nonexistent/keys"));
}

async fn a_wrong_key_is_refused_before_a_database_of_an_older_version_is_changed(db: &Db) {
    super::migrating::at_version(db, 3).await;
    let versions = "SELECT CAST(version AS TEXT) FROM _sqlx_migrations ORDER BY version";
    let before = (super::backups::rows(db).await, db.texts(versions).await);
    let (wanted, words) = refused(&with(db, &[&random_key()])).await;
    assert!(wanted.is_empty() && words.contains("no id yet"), "{words}");
    assert_eq!((super::backups::rows(db).await, db.texts(versions).await), before);
    // With the right one among them it opens, and from then on wants it no longer once it is rotated away.
    let new = random_key();
    let store = Store::open(&with(db, &[&new, &KEY])).await.unwrap();
    assert_eq!(value(&store, "s-git", "token").await, "hunter2");
    assert_eq!(db.texts("SELECT wrapped_by FROM data_keys").await, [new.id()]);
    store.close().await;
    let store = Store::open(&with(db, &[&new])).await.unwrap();
    assert_eq!(value(&store, "s-git", "token").await, "hunter2");
}

/// As an older program has left it: `count` records more, with a value of the old form.
async fn old_values(db: &Db, count: usize) {
    super::migrating::at_version(db, 3).await;
    for i in 0..count {
        let (nonce, text) = old_seal(db, &format!("secret_values|s-git|k{i:04}"), format!("value-{i}").as_bytes());
        let sql = format!("INSERT INTO secret_values (uid, key, nonce, ciphertext) VALUES ('s-git', 'k{i:04}', {nonce}, {text})");
        db.sql(&sql).await;
    }
}

/// Bytes as they are written in SQL.
fn hex(db: &Db, bytes: &[u8]) -> String {
    let digits: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    format!("{}{digits}'", if matches!(db, Db::Sqlite(_)) { "x'" } else { "'\\x" })
}

/// Seals as version 0003 did: nonce and ciphertext, as they are written in SQL.
fn old_seal(db: &Db, place: &str, value: &[u8]) -> (String, String) {
    use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
    let mut nonce = [0; 12];
    getrandom::fill(&mut nonce).unwrap();
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &KEY.0).unwrap());
    let mut text = value.to_vec();
    key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(place), &mut text).unwrap();
    (hex(db, &nonce), hex(db, &text))
}

async fn values_of_the_old_form_are_brought_to_the_new_whenever_that_is_cut_off(db: &Db) {
    const COUNT: usize = 250;
    old_values(db, COUNT).await;
    // Half of it done, as one that was killed between two transactions leaves it.
    let store = db.open().await;
    store.close().await;
    assert_eq!(db.texts("SELECT CAST(form AS TEXT) FROM secret_values GROUP BY form").await, ["2"]);
    for i in (0..COUNT).step_by(3) {
        let (nonce, text) = old_seal(db, &format!("secret_values|s-git|k{i:04}"), format!("value-{i}").as_bytes());
        let sql = format!("UPDATE secret_values SET form = 1, nonce = {nonce}, ciphertext = {text} WHERE key = 'k{i:04}'");
        db.sql(&sql).await;
    }
    let (nonce, check) = old_seal(db, "meta|key_check", b"devsanctum");
    db.sql(&format!("UPDATE meta SET key_nonce = {nonce}, key_check = {check}")).await;
    let store = db.open().await;
    for i in 0..COUNT {
        assert_eq!(value(&store, "s-git", &format!("k{i:04}")).await, format!("value-{i}"));
    }
    assert_eq!(db.texts("SELECT CAST(form AS TEXT) FROM secret_values GROUP BY form").await, ["2"]);
    assert_eq!(db.texts("SELECT CAST(length(key_check) AS TEXT) FROM meta").await, ["0"]);
    store.close().await;
    // One value that does not open keeps nobody out, stays as it is, and is told by a check.
    db.sql("UPDATE secret_values SET form = 1 WHERE key = 'k0100'").await;
    let store = db.open().await;
    assert!(matches!(store.secret_value("s-git", "k0100").await, Err(StoreError::Sealed)));
    let found = store.check().await.unwrap().findings;
    assert!(found.iter().any(|f| f.contains("cannot be opened: s-git/k0100")), "{found:?}");
}

/// All pairs of rows that lie beside each other are swapped, in four ways.
async fn what_is_sealed_opens_in_its_place_alone(db: &Db) {
    const PAIRS: usize = 1000;
    let store = db.open().await;
    let mut uids = Vec::new();
    for i in 0..=PAIRS / 4 {
        uids.push(secret(&store, &format!("s-{i:03}"), &[("a", "one"), ("b", "two")]).await.unwrap());
    }
    // One connection for all: a new one for each statement would take minutes on PostgreSQL.
    let conn = tokio::sync::Mutex::new(sqlx::AnyConnection::connect(&db.config().url).await.unwrap());
    let swap = async |table: &str, columns: [&str; 2], one: &str, two: &str| {
        let mut conn = conn.lock().await;
        let [nonce, text] = columns;
        let mut rows = Vec::new();
        for at in [two, one] {
            let sql = format!("SELECT {nonce}, {text} FROM {table} WHERE {at}");
            let row = sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_one(&mut *conn).await.unwrap();
            rows.push([0, 1].map(|i| row.get::<Vec<u8>, _>(i)));
        }
        for (to, row) in [one, two].into_iter().zip(rows) {
            let [n, t] = row.map(|bytes| hex(db, &bytes));
            let sql = format!("UPDATE {table} SET {nonce} = {n}, {text} = {t} WHERE {to}");
            conn.execute(sqlx::AssertSqlSafe(sql)).await.unwrap();
        }
    };
    let shut = async |uid: &str, key: &str| matches!(store.secret_value(uid, key).await, Err(StoreError::Sealed));
    let (mut rejected, mut pairs) = (0, 0);
    for pair in uids.windows(2) {
        let [one, two] = pair else { panic!() };
        let at = |uid: &str, key: &str| format!("uid = '{uid}' AND key = '{key}'");
        let sealed = ["nonce", "ciphertext"];
        // The same key of two records; two keys of one record; any of both; and the data keys of two records.
        for (a, b) in [((one, "a"), (two, "a")), ((one, "a"), (one, "b")), ((one, "a"), (two, "b"))] {
            swap("secret_values", sealed, &at(a.0, a.1), &at(b.0, b.1)).await;
            rejected += usize::from(shut(a.0, a.1).await && shut(b.0, b.1).await);
            swap("secret_values", sealed, &at(a.0, a.1), &at(b.0, b.1)).await;
            pairs += 1;
        }
        let (a, b) = (format!("uid = '{one}'"), format!("uid = '{two}'"));
        swap("data_keys", ["nonce", "wrapped"], &a, &b).await;
        rejected += usize::from(shut(one, "a").await && shut(two, "b").await);
        swap("data_keys", ["nonce", "wrapped"], &a, &b).await;
        pairs += 1;
    }
    println!("proof: swapped pairs of sealed rows {pairs} played, {} failed", pairs - rejected);
    assert_eq!((pairs, rejected), (PAIRS, PAIRS));
    // Swapped back, all is well again: it was the place that was refused.
    sound(&store).await;
    // A data key under another key's name.
    let other = random_key();
    store.close().await;
    let store = Store::open(&with(db, &[&other, &KEY])).await.unwrap();
    db.sql(&format!("UPDATE data_keys SET wrapped_by = '{}' WHERE uid = '{}'", other.id(), uids[0])).await;
    assert!(matches!(store.secret_value(&uids[0], "a").await, Err(StoreError::Sealed)));
    // And nothing is written over what cannot be opened.
    assert!(matches!(secret(&store, "s-000", &[("a", "new")]).await, Err(StoreError::Sealed)));
    db.sql(&format!("UPDATE data_keys SET wrapped_by = '{}' WHERE uid = '{}'", KEY.id(), uids[0])).await;
    assert_eq!(value(&store, &uids[0], "a").await, "one");
}

async fn a_data_key_goes_with_its_last_value(db: &Db) {
    let store = db.open().await;
    let uid = secret(&store, "a", &[("x", "1"), ("y", "2")]).await.unwrap();
    let gone = async |key: &'static str| {
        let uid = uid.clone();
        let job = store.write::<_, StoreError>(Box::new(move |tx| Box::pin(async move { tx.put_secret(&uid, key, None).await })));
        job.await.unwrap();
        db.texts("SELECT uid FROM data_keys").await.len()
    };
    assert_eq!((gone("x").await, gone("y").await), (1, 0));
    let uid = secret(&store, "a", &[("x", "3")]).await.unwrap();
    assert_eq!(value(&store, &uid, "x").await, "3");
    let last = store.get(&key(SECRETS, "team", "a")).await.unwrap().unwrap();
    delete(&store, last.key).await.unwrap();
    assert_eq!(db.texts("SELECT uid FROM data_keys").await.len(), 0);
}

/// Values, and both sorts of keys, as they are and as Base64 and hexadecimal have them.
async fn canaries_are_in_no_table_and_no_file(db: &Db) {
    let (dir, file) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let keys = file.path().join("secret.key");
    let config = || StoreConfig { secret_keys: SecretKeys::in_file(&keys).unwrap(), ..db.config() };
    let canaries: Vec<String> = (0..20).map(|i| format!("canary-{i:02}-{:016x}", getrandom::u64().unwrap())).collect();
    let store = Store::open(&config()).await.unwrap();
    for (i, canary) in canaries.iter().enumerate() {
        let uid = secret(&store, &format!("c-{i}"), &[("token", canary)]).await.unwrap();
        secret(&store, &format!("c-{i}"), &[("token", "between")]).await.unwrap();
        secret(&store, &format!("c-{i}"), &[("token", canary)]).await.unwrap();
        assert_eq!(&value(&store, &uid, "token").await, canary);
    }
    let backup = dir.path().join("backup");
    devsanctum::store::backup(&db.config().url, &backup).await.unwrap();
    let key = std::fs::read_to_string(&keys).unwrap();
    let raw = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(key.trim()).unwrap();
    let mut words: Vec<Vec<u8>> = canaries.iter().map(|c| c.clone().into_bytes()).collect();
    words.extend(canaries.iter().map(|c| STANDARD.encode(c).trim_end_matches('=').as_bytes()[..24].to_vec()));
    words.extend([key.trim().as_bytes().to_vec(), raw]);
    let hex: Vec<Vec<u8>> = words.iter().map(|w| w.iter().map(|b| format!("{b:02x}")).collect::<String>().into_bytes()).collect();
    words.extend(hex);
    let clean = |what: &str, bytes: &[u8]| {
        for word in &words {
            assert!(!bytes.windows(word.len()).any(|w| w == word), "{what} holds {:?}", String::from_utf8_lossy(word));
        }
    };
    clean("the backup", &std::fs::read(&backup).unwrap());
    clean("its words", format!("{:?} {:?} {:?}", config(), SecretKeys::in_file(&keys), store.key_report().await).as_bytes());
    match db {
        Db::Sqlite(_) => {
            let mut files = 0;
            for entry in std::fs::read_dir(db.file().parent().unwrap()).unwrap() {
                let path = entry.unwrap().path();
                let bytes = std::fs::read(&path).unwrap();
                clean(&path.display().to_string(), &bytes);
                files += usize::from(!bytes.is_empty());
            }
            assert!(files >= 2, "there is a write-ahead log");
        }
        Db::Postgres(_) => {
            let tables = "SELECT tablename::text FROM pg_tables WHERE schemaname = current_schema()";
            for table in db.texts(tables).await {
                for row in db.texts(&format!("SELECT t::text FROM {table} t")).await {
                    clean(&table, row.as_bytes());
                }
            }
        }
    }
    // What is looked for would be found.
    let record = b"uid-secrets.devsanctum.io-team-c-0";
    assert!(std::fs::read(&backup).unwrap().windows(record.len()).any(|w| w == record));
    // Wrong keys and damaged rows tell nothing either.
    db.sql("UPDATE data_keys SET nonce = wrapped").await;
    let told = store.secret_value("uid-secrets.devsanctum.io-team-c-0", "token").await.unwrap_err();
    let parsed = SecretKeys::parse(&format!("{}{}", key.trim(), canaries[0]), KeySource::Given).unwrap_err();
    clean("errors", format!("{told} {told:?} {parsed} {parsed:?}").as_bytes());
}
