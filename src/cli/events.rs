//! `events`: what happened, newest last.

use super::args::EventsArgs;
use super::connect::Context;
use super::failure::Failure;
use super::rest::Query;
use super::target::record;
use super::ui::{self, age_of, clean, columns};
use crate::resource::{KindDef, kinds};
use futures::StreamExt;
use kube::core::WatchEvent;
use serde_json::Value;

/// Runs `events`.
///
/// # Errors
/// When the API refuses.
pub async fn run(context: &Context, args: EventsArgs) -> Result<(), Failure> {
    let def = definition()?;
    let query = match &args.about {
        Some(about) => {
            let (kind, name) = record(&about.split_whitespace().map(str::to_owned).collect::<Vec<_>>())?;
            vec![("fieldSelector", format!("involvedObject.kind={},involvedObject.name={name}", kind.kind))]
        }
        None => Vec::new(),
    };
    // Events of cluster records live in another project than the one at work: look everywhere.
    let everywhere = args.all_namespaces || (args.about.is_some() && !context.namespace_given);
    let (mut found, version) = context.list(def, context.scope(everywhere), &query).await?;
    found.retain(|e| wanted(e, &args.types));
    sort(&mut found);
    if found.is_empty() && !args.watch {
        ui::note("No events found");
        return Ok(());
    }
    ui::say(&lines(&found, args.all_namespaces).join("\n"))?;
    if args.watch { follow(context, &args, &query, everywhere, version).await } else { Ok(()) }
}

/// Goes on with what happens, without end.
async fn follow(
    context: &Context,
    args: &EventsArgs,
    query: &Query<'_>,
    everywhere: bool,
    mut version: String,
) -> Result<(), Failure> {
    let def = definition()?;
    loop {
        let mut stream = context.watch(def, context.scope(everywhere), query, &version, false).await?;
        while let Some(change) = stream.next().await {
            match change? {
                WatchEvent::Added(e) | WatchEvent::Modified(e) => {
                    version = e["metadata"]["resourceVersion"].as_str().unwrap_or(&version).to_owned();
                    if wanted(&e, &args.types) {
                        ui::say(&columns(&[row(&e, args.all_namespaces)]).join("\n"))?;
                    }
                }
                WatchEvent::Error(status) if status.code == 410 => {
                    version = context.list(def, context.scope(everywhere), query).await?.1;
                    break;
                }
                WatchEvent::Error(status) => return Err(Failure::from_status(&status)),
                WatchEvent::Deleted(_) | WatchEvent::Bookmark(_) => {}
            }
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}

fn definition() -> Result<&'static KindDef, Failure> {
    let core = kinds().iter().find(|k| k.kind == "Event" && k.group.is_empty());
    core.ok_or_else(|| Failure::new("this build has no Event kind"))
}

fn wanted(event: &Value, types: &[String]) -> bool {
    types.is_empty() || types.iter().any(|t| event["type"].as_str().is_some_and(|e| e.eq_ignore_ascii_case(t)))
}

/// What happened to one record, oldest first.
///
/// # Errors
/// When the API refuses.
pub async fn about(context: &Context, object: &Value) -> Result<Vec<Value>, Failure> {
    let Some(uid) = object["metadata"]["uid"].as_str() else { return Ok(Vec::new()) };
    let query = vec![("fieldSelector", format!("involvedObject.uid={uid}"))];
    let (mut found, _) = context.list(definition()?, None, &query).await?;
    sort(&mut found);
    Ok(found)
}

/// When an event was last seen: its two API groups write it in different fields.
fn seen(event: &Value) -> &str {
    let fields = ["lastTimestamp", "deprecatedLastTimestamp", "eventTime", "firstTimestamp"];
    let series = event.pointer("/series/lastObservedTime").and_then(Value::as_str);
    let found = series.or_else(|| fields.iter().find_map(|f| event[*f].as_str()));
    found.or_else(|| event.pointer("/metadata/creationTimestamp").and_then(Value::as_str)).unwrap_or_default()
}

fn sort(events: &mut [Value]) {
    // As times, not texts: fractions of a second are written or left out.
    events.sort_by_key(|e| seen(e).parse::<jiff::Timestamp>().unwrap_or(jiff::Timestamp::MIN));
}

fn row(event: &Value, namespace: bool) -> Vec<String> {
    let at = |path: &str| event.pointer(path).and_then(Value::as_str);
    let either = |a: &str, b: &str| clean(at(a).or_else(|| at(b)).unwrap_or_default());
    let object = either("/involvedObject/kind", "/regarding/kind").to_lowercase()
        + "/"
        + &either("/involvedObject/name", "/regarding/name");
    let count = event["count"]
        .as_i64()
        .or_else(|| event["deprecatedCount"].as_i64())
        .or_else(|| event.pointer("/series/count")?.as_i64());
    let times = count.filter(|c| *c > 1).map(|c| format!(" (x{c})")).unwrap_or_default();
    let mut row = vec![
        age_of(seen(event)) + &times,
        either("/type", "/type"),
        either("/reason", "/reason"),
        object,
        either("/message", "/note"),
    ];
    if namespace {
        row.insert(0, either("/metadata/namespace", "/metadata/namespace"));
    }
    row
}

/// Events as aligned lines with a header.
pub fn lines(events: &[Value], namespace: bool) -> Vec<String> {
    let mut rows = vec![["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"].map(String::from).to_vec()];
    if namespace {
        rows[0].insert(0, "NAMESPACE".into());
    }
    rows.extend(events.iter().map(|e| row(e, namespace)));
    columns(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn both_spellings_of_an_event_print_alike() {
        let old = json!({"type": "Warning", "reason": "R", "message": "m", "count": 3, "involvedObject": {"kind": "Workspace", "name": "web"}, "lastTimestamp": "2020-01-01T00:00:00Z"});
        let new = json!({"type": "Warning", "reason": "R", "note": "m", "series": {"count": 3, "lastObservedTime": "2020-01-01T00:00:00.000000Z"}, "regarding": {"kind": "Workspace", "name": "web"}});
        assert_eq!(row(&old, false), row(&new, false));
        assert_eq!(row(&old, false)[3], "workspace/web");
    }

    #[test]
    fn events_are_sorted_by_time_not_by_text() {
        let at = |t: &str| json!({"lastTimestamp": t});
        let mut events = [at("2026-01-01T00:00:01Z"), at("2026-01-01T00:00:00.5Z"), at("2026-01-01T00:00:00Z")];
        sort(&mut events);
        assert_eq!(events.map(|e| e["lastTimestamp"].as_str().unwrap().len()), [20, 22, 20]);
    }
}
