//! Reading and writing records.

use super::harness::*;
use super::on_both;
use devsanctum::store::{ChangeType, ListQuery, WatchItem};
use serde_json::json;

on_both! {
    a_record_is_read_as_it_was_written
    a_list_is_ordered_and_paged
    a_watch_tells_what_happens
}

async fn a_record_is_read_as_it_was_written(db: &Db) {
    let store = db.open().await;
    let key = workspace("dev");
    assert!(store.get(&key).await.unwrap().is_none());
    let written = create(&store, "dev").await;
    let read = store.get(&key).await.unwrap().unwrap();
    assert_eq!((&read.body, &read.uid, read.revision), (&written.body, &written.uid, written.revision));
    assert_eq!(json_of(&read)["metadata"]["resourceVersion"], json!(read.revision.to_string()));
    assert_eq!(store.revision(), read.revision);

    let again = create(&store, "dev").await;
    assert_eq!(again.revision, written.revision + 1);
    assert_eq!(store.get(&key).await.unwrap().unwrap().revision, again.revision);

    let gone = delete(&store, key.clone()).await.unwrap();
    assert_eq!(gone.revision, again.revision + 1);
    assert!(store.get(&key).await.unwrap().is_none());
    assert!(delete(&store, key).await.is_err());
}

async fn a_list_is_ordered_and_paged(db: &Db) {
    let store = db.open().await;
    for (namespace, name) in [("b", "a"), ("a", "b"), ("a", "a"), ("a-b", "x"), ("B", "z")] {
        put(&store, record(key(WORKSPACES, namespace, name))).await.unwrap();
    }
    put(&store, record(key(USERS, "", "ada"))).await.unwrap();
    let names = |page: devsanctum::store::Page| {
        let all = page.items.into_iter().map(|i| format!("{}/{}", i.key.namespace, i.key.name)).collect::<Vec<_>>();
        (all.join(" "), page.remaining)
    };
    let page = store.list(&all(WORKSPACES)).await.unwrap();
    assert_eq!(page.revision, store.revision());
    assert_eq!(names(page), ("B/z a/a a/b a-b/x b/a".into(), 0));
    let query = ListQuery { limit: Some(2), ..all(WORKSPACES) };
    assert_eq!(names(store.list(&query).await.unwrap()), ("B/z a/a".into(), 3));
    let query = ListQuery { after: Some(("a".into(), "a".into())), ..query };
    assert_eq!(names(store.list(&query).await.unwrap()), ("a/b a-b/x".into(), 1));
    let query = ListQuery { after: Some(("a-b".into(), "x".into())), ..query };
    assert_eq!(names(store.list(&query).await.unwrap()), ("b/a".into(), 0));
    let query = ListQuery { namespace: Some("a".into()), limit: Some(1), ..all(WORKSPACES) };
    assert_eq!(names(store.list(&query).await.unwrap()), ("a/a".into(), 1));
    let query = ListQuery { after: Some(("a".into(), "a".into())), ..query };
    assert_eq!(names(store.list(&query).await.unwrap()), ("a/b".into(), 0));
}

async fn a_watch_tells_what_happens(db: &Db) {
    let store = db.open().await;
    let mut watch = store.watch(WORKSPACES, Some("team".into()), store.revision()).await.unwrap();
    let mut told = record(workspace("dev"));
    create(&store, "dev").await;
    put(&store, record(key(WORKSPACES, "other", "dev"))).await.unwrap();
    told.tell_previous = true;
    put(&store, told).await.unwrap();
    delete(&store, workspace("dev")).await.unwrap();
    let mut kinds = vec![];
    while kinds.len() < 3 {
        if let WatchItem::Change(change) = next(&mut watch).await.unwrap() {
            assert_eq!(json_of(&change.record)["metadata"]["resourceVersion"], json!(change.record.revision.to_string()));
            kinds.push((change.kind, change.previous.is_some()));
        }
    }
    assert_eq!(kinds, [(ChangeType::Added, false), (ChangeType::Modified, true), (ChangeType::Deleted, false)]);
}
