//! Events are told for an hour, then forgotten, as in Kubernetes.

use super::record::parse;
use super::status::ApiError;
use super::write::transact;
use super::{ApiState, fail};
use crate::store::{Key, ListQuery, Stored, Tx, Wants};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use std::convert::Infallible;
use std::time::Duration;

/// How long an event is kept after it was last seen.
const KEEP: SignedDuration = SignedDuration::from_hours(1);
/// How often old ones are looked for.
const EVERY: Duration = Duration::from_secs(300);
/// Events read at once, and removed in one transaction.
const BATCH: u32 = 200;

/// Removes old events, for as long as it is polled. Writes nothing when there are none.
pub async fn keep_pruning(state: ApiState) -> Infallible {
    loop {
        tokio::time::sleep(EVERY).await;
        match prune(&state, state.clock().now() - KEEP).await {
            Ok(0) => {}
            Ok(count) => tracing::debug!(count, "removed old events"),
            Err(e) => tracing::warn!(error = %e, "old events could not be removed; tried again later"),
        }
    }
}

/// Removes events last seen before `limit`; tells how many.
///
/// # Errors
/// When the store fails.
pub async fn prune(state: &ApiState, limit: Timestamp) -> Result<usize, ApiError> {
    let mut query = ListQuery { kind: "events", limit: Some(BATCH), ..ListQuery::default() };
    let mut removed = 0;
    loop {
        let page = state.store().list(&query).await?;
        let Some(last) = page.items.last().map(|s| s.key.clone()) else { return Ok(removed) };
        let now = state.clock().now();
        let old: Vec<Key> = page.items.iter().filter(|s| seen(s, now) < limit).map(|s| s.key.clone()).collect();
        if !old.is_empty() {
            removed += transact(state.store(), false, Wants { keys: old.clone(), claims: Vec::new() }, move |tx| {
                Box::pin(async move { remove(tx, old, now, limit).await })
            })
            .await?;
        }
        if page.remaining == 0 {
            return Ok(removed);
        }
        query.after = Some((last.namespace, last.name));
    }
}

/// Looks once more: an event may have been seen again in between.
async fn remove(tx: &mut Tx, keys: Vec<Key>, now: Timestamp, limit: Timestamp) -> Result<usize, ApiError> {
    let mut removed = 0;
    for key in keys {
        let Some(stored) = tx.get(&key).await? else { continue };
        if seen(&stored, now) < limit {
            tx.delete(&key, parse(&stored.body).map_err(fail::damaged)?).await?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// When an event was last seen. Times from its writer count where they can be read, and only from when the record was
/// made until a little ahead of our clock: no event may stay for ever.
fn seen(event: &Stored, now: Timestamp) -> Timestamp {
    let event: Value = serde_json::from_slice(&event.body).unwrap_or_default();
    let time = |place: &str| event.pointer(place).and_then(Value::as_str).and_then(|text| text.parse::<Timestamp>().ok());
    let made = time("/metadata/creationTimestamp").unwrap_or(Timestamp::UNIX_EPOCH);
    let told = ["/eventTime", "/lastTimestamp", "/series/lastObservedTime"].into_iter().filter_map(time);
    told.filter(|at| *at <= now + KEEP).fold(made, Timestamp::max)
}

#[cfg(test)]
mod tests {
    use super::super::{ApiConfig, NoObserver, bootstrap, client, router, streams::NoStreams};
    use super::*;
    use crate::access::Identity;
    use crate::clock::SystemClock;
    use crate::store::{SecretKey, Store, StoreConfig};
    use k8s_openapi::api::core::v1::Event;
    use kube::api::{Api, PostParams};
    use std::sync::Arc;

    #[tokio::test]
    async fn old_events_go_and_nothing_is_written_when_there_are_none() {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", dir.path().join("a.db").display());
        let store = Store::open(&StoreConfig { url, secret_keys: SecretKey([1; 32]).into(), keep_changes: 100 }).await.unwrap();
        bootstrap(&store, &SystemClock).await.unwrap();
        let (health, observer) = (Arc::new(NoObserver), Arc::new(NoObserver));
        let config = ApiConfig {
            store,
            streams: Arc::new(NoStreams),
            health,
            observer,
            clock: SystemClock::shared(),
            shutdown: Default::default(),
        };
        let state = ApiState::new(config);
        let events: Api<Event> = Api::namespaced(client(router(state.clone()), Identity::system("test")), "default");
        for i in 0..BATCH + 1 {
            let mut event = Event::default();
            event.metadata.name = Some(format!("e{i}"));
            event.involved_object.namespace = Some("default".into());
            event.reason = Some("Test".into());
            events.create(&PostParams::default(), &event).await.unwrap();
        }
        let before = state.store().revision();
        assert_eq!(prune(&state, Timestamp::now() - KEEP).await.unwrap(), 0);
        assert_eq!(state.store().revision(), before);
        let later = Timestamp::now() + SignedDuration::from_secs(2);
        assert_eq!(prune(&state, later).await.unwrap(), BATCH as usize + 1);
        assert_eq!(events.list(&Default::default()).await.unwrap().items.len(), 0);
    }

    #[test]
    fn no_time_an_event_tells_keeps_it_for_ever() {
        let now: Timestamp = "2026-01-01T12:00:00Z".parse().unwrap();
        let seen = |times: Value| {
            let mut body = serde_json::json!({"metadata": {"creationTimestamp": "2026-01-01T10:00:00Z"}});
            body.as_object_mut().unwrap().extend(times.as_object().unwrap().clone());
            let key = Key { kind: "events", namespace: String::new(), name: String::new() };
            super::seen(&Stored { key, uid: String::new(), revision: 1, body: body.to_string().into() }, now).to_string()
        };
        let made = "2026-01-01T10:00:00Z";
        assert_eq!(seen(serde_json::json!({"lastTimestamp": "2026-01-01T11:00:00Z"})), "2026-01-01T11:00:00Z");
        assert_eq!(seen(serde_json::json!({"eventTime": "2025-01-01T11:00:00Z"})), made, "before the record was made");
        assert_eq!(seen(serde_json::json!({"lastTimestamp": "soon", "series": "x"})), made);
        assert_eq!(seen(serde_json::json!({"series": {"lastObservedTime": "2099-01-01T00:00:00Z"}})), made);
        let ahead = serde_json::json!({"lastTimestamp": "2026-01-01T12:00:05Z", "eventTime": 1});
        assert_eq!(seen(ahead), "2026-01-01T12:00:05Z", "clocks differ");
    }
}
