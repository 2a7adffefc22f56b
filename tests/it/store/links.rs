//! Claims, owners, references, secrets, tokens and leases.

use super::harness::*;
use super::on_both;
use devsanctum::store::{Key, Put, SecretKey, Store, StoreConfig, StoreError, Tx, Wants};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

on_both! {
    a_claimed_value_has_one_holder
    a_claim_passes_on_within_one_commit
    what_is_read_ahead_is_as_the_jobs_before_left_it
    dependents_and_referrers_are_found
    deleting_a_record_takes_all_that_hangs_on_it
    secrets_open_only_with_their_key
    tokens_are_replaced_by_name
    a_lease_has_one_holder_at_a_time
}

fn claiming(name: &str, host: &str) -> Put {
    Put { claims: vec![("host".into(), host.into())], ..record(workspace(name)) }
}

async fn holder(store: &Store, host: &str) -> Option<String> {
    let host = host.to_owned();
    let ask = store.write::<_, StoreError>(Box::new(move |tx| Box::pin(async move { tx.claim_holder("host", &host).await })));
    ask.await.unwrap().map(|key| key.name)
}

async fn a_claimed_value_has_one_holder(db: &Db) {
    let store = db.open().await;
    put(&store, claiming("one", "a.example.com")).await.unwrap();
    let before = store.revision();
    let refused = put(&store, claiming("two", "a.example.com")).await;
    assert!(matches!(refused, Err(StoreError::Claimed { scope, value }) if scope == "host" && value == "a.example.com"));
    assert!(store.get(&workspace("two")).await.unwrap().is_none());
    assert_eq!(store.revision(), before, "a refused write takes no revision");
    put(&store, claiming("two", "b.example.com")).await.unwrap();
    assert!(put(&store, claiming("two", "a.example.com")).await.is_err());
    assert_eq!(holder(&store, "b.example.com").await.as_deref(), Some("two"));
    put(&store, claiming("one", "c.example.com")).await.unwrap();
    put(&store, claiming("two", "a.example.com")).await.unwrap();
    assert_eq!(holder(&store, "a.example.com").await.as_deref(), Some("two"));
    assert_eq!(holder(&store, "b.example.com").await, None);
}

async fn a_claim_passes_on_within_one_commit(db: &Db) {
    let store = db.open().await;
    put(&store, claiming("one", "a.example.com")).await.unwrap();
    let swap = store.write::<_, StoreError>(Box::new(|tx| {
        Box::pin(async move {
            assert!(matches!(tx.put(claiming("two", "a.example.com")).await, Err(StoreError::Claimed { .. })));
            tx.put(record(workspace("one"))).await?;
            tx.put(claiming("two", "a.example.com")).await?;
            tx.put(claiming("two", "a.example.com")).await
        })
    }));
    swap.await.unwrap();
    assert_eq!(holder(&store, "a.example.com").await.as_deref(), Some("two"));
    // The same in two jobs that may share a commit.
    let (one, two) = tokio::join!(put(&store, record(workspace("two"))), put(&store, claiming("three", "a.example.com")));
    one.unwrap();
    two.unwrap();
    assert_eq!(holder(&store, "a.example.com").await.as_deref(), Some("three"));
}

/// Which record holds which host, kept by the jobs themselves: they run one after the other.
type Model = Arc<Mutex<BTreeMap<String, String>>>;

/// Looks, compares with the model, and then deletes, writes, or writes and fails.
async fn step(tx: &mut Tx, model: &Model, name: &str, host: &str, what: usize) -> Result<(), StoreError> {
    let known = model.lock().unwrap().clone();
    let found = tx.get(&workspace(name)).await?;
    assert_eq!(found.is_some(), known.contains_key(name), "{name}: {known:?}");
    let holder = tx.claim_holder("host", host).await?.map(|key| key.name);
    let expected = known.iter().find(|(_, h)| *h == host).map(|(n, _)| n.clone());
    assert_eq!(holder, expected, "{host}: {known:?}");
    match (what, found) {
        (0, Some(found)) => {
            tx.delete(&workspace(name), json_of(&found)).await?;
            model.lock().unwrap().remove(name);
        }
        (1, _) if expected.is_none() => {
            tx.put(claiming(name, host)).await?;
            return Err(StoreError::Database("on purpose".into()));
        }
        (2, _) if expected.is_none() => {
            tx.put(claiming(name, host)).await?;
            // Has what was held back written before the next job.
            tx.list(WORKSPACES, None).await?;
            model.lock().unwrap().insert(name.into(), host.into());
        }
        _ => {
            let put = tx.put(claiming(name, host)).await;
            assert_eq!(put.is_ok(), expected.is_none_or(|e| e == name), "{name} {host}: {known:?}");
            if put.is_ok() {
                model.lock().unwrap().insert(name.into(), host.into());
            }
        }
    }
    Ok(())
}

async fn what_is_read_ahead_is_as_the_jobs_before_left_it(db: &Db) {
    let (store, model) = (db.open().await, Model::default());
    for round in 0..40 {
        let jobs = (0..16).map(|i| {
            let pick = |salt: usize, of: usize| (round * 31 + i * 17 + salt * (round + 7) * (i + 3)) % of;
            let (name, host, what) = (format!("w{}", pick(1, 6)), format!("h{}.example.com", pick(2, 5)), pick(3, 7));
            let wants = Wants { keys: vec![workspace(&name)], claims: vec![("host".into(), host.clone())] };
            let (store, model) = (store.clone(), model.clone());
            tokio::spawn(async move {
                store
                    .write_wanting::<_, StoreError>(
                        wants,
                        Box::new(move |tx| Box::pin(async move { step(tx, &model, &name, &host, what).await })),
                    )
                    .await
            })
        });
        for job in jobs.collect::<Vec<_>>() {
            match job.await.unwrap() {
                Err(e) if !e.to_string().contains("on purpose") => panic!("{e}"),
                _ => {}
            }
        }
    }
    assert!(store.revision() > 100, "much was written");
}

async fn dependents_and_referrers_are_found(db: &Db) {
    let store = db.open().await;
    let ada = key(USERS, "", "ada");
    let owner = put(&store, record(ada.clone())).await.unwrap();
    for name in ["b", "a"] {
        let owned = Put { owners: vec![owner.uid.clone()], references: vec![ada.clone()], ..record(workspace(name)) };
        put(&store, owned).await.unwrap();
    }
    let ask = |uid: String, ada: Key| {
        store.write::<_, StoreError>(Box::new(move |tx| {
            Box::pin(async move {
                let mut fresh = record(workspace("c"));
                fresh.owners = vec![uid.clone()];
                tx.put(fresh).await?;
                let dependents = tx.dependents(&uid).await?.into_iter().map(|d| d.key.name).collect::<Vec<_>>();
                let referrers = tx.referrers(&ada).await?.into_iter().map(|k| k.name).collect::<Vec<_>>();
                let names = tx.list(WORKSPACES, Some("team")).await?.len();
                Ok((dependents.concat(), referrers.concat(), names, tx.count(WORKSPACES, "team").await?))
            })
        }))
    };
    assert_eq!(ask(owner.uid.clone(), ada.clone()).await.unwrap(), ("abc".into(), "ab".into(), 3, 3));
    put(&store, record(workspace("a"))).await.unwrap();
    assert_eq!(ask(owner.uid, ada).await.unwrap(), ("bc".into(), "b".into(), 3, 3));
}

async fn deleting_a_record_takes_all_that_hangs_on_it(db: &Db) {
    let store = db.open().await;
    let ada = key(USERS, "", "ada");
    let full = Put { owners: vec!["someone".into()], references: vec![ada.clone()], ..claiming("dev", "a.example.com") };
    let uid = full.uid.clone();
    store
        .write::<_, StoreError>(Box::new(move |tx| {
            Box::pin(async move {
                let stored = tx.put(full).await?;
                tx.put_secret(&stored.uid, "token", Some(b"hunter2")).await
            })
        }))
        .await
        .unwrap();
    assert_eq!(store.secret_value(&uid, "token").await.unwrap().as_deref(), Some(&b"hunter2"[..]));
    delete(&store, workspace("dev")).await.unwrap();
    assert_eq!(store.secret_value(&uid, "token").await.unwrap(), None);
    assert_eq!(holder(&store, "a.example.com").await, None);
    let left = store.write::<_, StoreError>(Box::new(move |tx| {
        Box::pin(async move { Ok((tx.dependents("someone").await?.len(), tx.referrers(&ada).await?.len())) })
    }));
    assert_eq!(left.await.unwrap(), (0, 0));
    put(&store, Put { uid: "another".into(), ..claiming("dev", "a.example.com") }).await.unwrap();
}

async fn secrets_open_only_with_their_key(db: &Db) {
    let store = db.open().await;
    let set = |key: &'static str, value: Option<&'static [u8]>| {
        store.write::<_, StoreError>(Box::new(move |tx| {
            Box::pin(async move {
                let stored = tx.put(record(workspace("dev"))).await?;
                tx.put_secret(&stored.uid, key, value).await?;
                tx.secret_keys(&stored.uid).await
            })
        }))
    };
    let uid = record(workspace("dev")).uid;
    assert_eq!(set("b", Some(b"one")).await.unwrap(), ["b"]);
    assert_eq!(set("a", Some(b"two")).await.unwrap(), ["a", "b"]);
    assert_eq!(set("b", Some(b"three")).await.unwrap(), ["a", "b"]);
    assert_eq!(store.secret_value(&uid, "b").await.unwrap().as_deref(), Some(&b"three"[..]));
    assert_eq!(set("a", None).await.unwrap(), ["b"]);
    assert_eq!(store.secret_value(&uid, "a").await.unwrap(), None);
    store.close().await;
    let wrong = StoreConfig { secret_keys: SecretKey([8; 32]).into(), ..db.config() };
    assert!(matches!(Store::open(&wrong).await.err(), Some(StoreError::KeyMissing { .. })));
    let store = db.open().await;
    assert_eq!(store.secret_value(&uid, "b").await.unwrap().as_deref(), Some(&b"three"[..]));
}

async fn tokens_are_replaced_by_name(db: &Db) {
    let store = db.open().await;
    store.set_token("admin", [1; 32]).await.unwrap();
    assert_eq!(store.token_holder([1; 32]).await.unwrap().as_deref(), Some("admin"));
    store.set_token("admin", [2; 32]).await.unwrap();
    assert_eq!(store.token_holder([1; 32]).await.unwrap(), None);
    assert_eq!(store.token_holder([2; 32]).await.unwrap().as_deref(), Some("admin"));
    assert!(store.set_token("other", [2; 32]).await.is_err(), "a token stands under one name");
    create(&store, "still-works").await;
}

async fn a_lease_has_one_holder_at_a_time(db: &Db) {
    let store = db.open().await;
    let (long, short) = (Duration::from_secs(60), Duration::from_millis(50));
    assert!(store.lease("leader", "a", short).await.unwrap());
    assert!(store.lease("leader", "a", long).await.unwrap(), "renewed");
    assert!(!store.lease("leader", "b", long).await.unwrap());
    store.release("leader", "b").await.unwrap();
    assert!(!store.lease("leader", "b", long).await.unwrap(), "only its holder gives it back");
    store.release("leader", "a").await.unwrap();
    assert!(store.lease("leader", "b", short).await.unwrap());
    tokio::time::sleep(Duration::from_millis(120)).await;
    assert!(store.lease("leader", "a", long).await.unwrap(), "an expired one is free");
}
