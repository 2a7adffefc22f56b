//! `get`: list records.

use super::args::GetArgs;
use super::connect::Context;
use super::failure::Failure;
use super::output::jsonpath::Template;
use super::output::table::{Show, Table};
use super::output::{Format, name, tidy, yaml};
use super::rest::Query;
use super::target::{Target, targets};
use super::ui::{self, columns};
use futures::StreamExt;
use kube::core::WatchEvent;
use serde_json::Value;

/// Runs `get`.
///
/// # Errors
/// When a record named does not exist, or the API refuses.
pub async fn run(context: &Context, args: GetArgs) -> Result<(), Failure> {
    let targets = targets(&args.what)?;
    let format = Format::parse(&args.output)?;
    let sort = args.sort_by.as_deref().map(Template::parse).transpose().map_err(Failure::usage)?;
    if args.watch && targets.len() != 1 {
        return Err(Failure::usage("--watch takes one kind, or one record"));
    }
    match &format {
        Format::Table { wide } => tables(context, &args, &targets, *wide, sort.as_ref()).await,
        _ => objects(context, &args, &targets, &format, sort.as_ref()).await,
    }
}

fn selectors(args: &GetArgs, target: &Target) -> Query<'static> {
    let mut fields: Vec<String> = args.field_selector.iter().cloned().collect();
    fields.extend(target.name.iter().filter(|_| args.watch).map(|n| format!("metadata.name={n}")));
    let mut query = Vec::new();
    query.extend(args.selector.iter().map(|l| ("labelSelector", l.clone())));
    query.extend((!fields.is_empty()).then(|| ("fieldSelector", fields.join(","))));
    query
}

async fn tables(
    context: &Context,
    args: &GetArgs,
    targets: &[Target],
    wide: bool,
    sort: Option<&Template>,
) -> Result<(), Failure> {
    let many = targets.iter().any(|t| !std::ptr::eq(t.def, targets[0].def));
    let (mut printed, mut missing) = (false, Vec::new());
    for group in grouped(targets) {
        let mut whole = Table::default();
        for target in group {
            let name = target.name.as_deref().filter(|_| !args.watch);
            match context.table(target.def, context.scope(args.all_namespaces), name, &selectors(args, target)).await {
                Ok(part) => whole.append(part),
                Err(failure) if name.is_some() && failure.message.contains("NotFound") => {
                    missing.extend((!args.ignore_not_found).then_some(failure));
                }
                Err(failure) => return Err(failure),
            }
        }
        sorted(&mut whole.rows, sort, |row| &row.object);
        let show = Show {
            wide,
            namespace: args.all_namespaces && group[0].def.namespaced,
            labels: args.show_labels,
            kind: many,
            headers: !args.no_headers,
        };
        if !whole.rows.is_empty() {
            let gap = if printed { "\n" } else { "" };
            ui::say(&format!("{gap}{}", whole.lines(show, context.ui).join("\n")))?;
            printed = true;
        }
        if args.watch {
            return follow_table(context, args, &group[0], whole, show).await;
        }
    }
    absent(missing)?;
    if !printed && !args.ignore_not_found {
        ui::note(&nothing(context, args, targets));
    }
    Ok(())
}

fn nothing(context: &Context, args: &GetArgs, targets: &[Target]) -> String {
    match targets.iter().any(|t| t.def.namespaced) && !args.all_namespaces {
        true => format!("No resources found in {} namespace. (-A looks in all projects)", context.namespace),
        false => "No resources found".into(),
    }
}

/// Names that do not exist are reported after what does.
fn absent(missing: Vec<Failure>) -> Result<(), Failure> {
    let mut missing = missing.into_iter();
    let Some(mut first) = missing.next() else { return Ok(()) };
    missing.for_each(|f| first.message = format!("{}\n{}", first.message, f.message));
    Err(first)
}

/// Neighbours of the same kind, which share a table.
fn grouped(targets: &[Target]) -> Vec<&[Target]> {
    targets.chunk_by(|a, b| std::ptr::eq(a.def, b.def)).collect()
}

fn sorted<T>(items: &mut [T], by: Option<&Template>, object: impl Fn(&T) -> &Value) {
    let Some(by) = by else { return };
    items.sort_by(|a, b| {
        let (a, b) = (by.find(object(a)).into_iter().next(), by.find(object(b)).into_iter().next());
        compare(a, b)
    });
}

/// Numbers by size, everything else by its text; what is not there comes first.
fn compare(a: Option<&Value>, b: Option<&Value>) -> std::cmp::Ordering {
    match (a.and_then(Value::as_f64), b.and_then(Value::as_f64)) {
        (Some(a), Some(b)) => a.total_cmp(&b),
        _ => a.map(super::output::jsonpath::shown).cmp(&b.map(super::output::jsonpath::shown)),
    }
}

async fn objects(
    context: &Context,
    args: &GetArgs,
    targets: &[Target],
    format: &Format,
    sort: Option<&Template>,
) -> Result<(), Failure> {
    let (mut found, mut missing, mut version) = (Vec::new(), Vec::new(), String::new());
    for target in targets {
        let namespace = context.scope(args.all_namespaces);
        match target.name.as_deref().filter(|_| !args.watch) {
            Some(name) => match context.get(target.def, namespace, name).await? {
                Some(object) => found.push(object),
                None if args.ignore_not_found => {}
                None => missing.push(Failure::new(format!("{} \"{name}\" does not exist", target.def.plural))),
            },
            None => {
                let (objects, at) = context.list(target.def, namespace, &selectors(args, target)).await?;
                found.extend(objects);
                version = at;
            }
        }
    }
    found.iter_mut().for_each(tidy);
    sorted(&mut found, sort, |o| o);
    if args.watch {
        for object in found {
            event(format, object)?;
        }
        return follow(context, args, &targets[0], &version, |e| event_object(format, e)).await;
    }
    let single = targets.len() == 1 && targets[0].name.is_some();
    if !(single && found.is_empty()) {
        let text = format.render(found, single)?;
        if !text.is_empty() {
            ui::say(&text)?;
        }
    }
    absent(missing)
}

fn event(format: &Format, object: Value) -> Result<(), Failure> {
    match format {
        Format::Yaml => ui::say(&format!("---\n{}", yaml(&object)?)),
        _ => ui::say(&format.render(vec![object], true)?),
    }
}

fn event_object(format: &Format, change: WatchEvent<Value>) -> Result<(), Failure> {
    match change {
        WatchEvent::Added(mut o) | WatchEvent::Modified(mut o) => {
            tidy(&mut o);
            event(format, o)
        }
        WatchEvent::Deleted(o) => {
            ui::note(&format!("{} deleted", name(&o)));
            Ok(())
        }
        WatchEvent::Bookmark(_) | WatchEvent::Error(_) => Ok(()),
    }
}

/// Goes on with rows as they change, in the columns printed first.
async fn follow_table(context: &Context, args: &GetArgs, target: &Target, first: Table, show: Show) -> Result<(), Failure> {
    let version = first.metadata.resource_version.clone();
    let mut headers = first.rows.is_empty() && show.headers;
    let mut rows = first.cells(show);
    let definitions = first.column_definitions;
    follow(context, args, target, &version, |change| {
        let (WatchEvent::Added(t) | WatchEvent::Modified(t) | WatchEvent::Deleted(t)) = change else { return Ok(()) };
        let mut table: Table = serde_json::from_value(t)?;
        if table.column_definitions.is_empty() {
            table.column_definitions.clone_from(&definitions);
        }
        let fresh = table.cells(Show { headers, ..show });
        headers = false;
        // Aligned with what stands above; only the new lines are printed.
        let from = rows.len();
        rows.extend(fresh);
        let lines = columns(&rows);
        rows.drain(1..rows.len().saturating_sub(50).max(1));
        ui::say(&lines[from..].join("\n"))
    })
    .await
}

/// Watches from a version on, without end: a stream that ends is taken up where it ended.
async fn follow(
    context: &Context,
    args: &GetArgs,
    target: &Target,
    version: &str,
    mut each: impl FnMut(WatchEvent<Value>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let table = matches!(Format::parse(&args.output)?, Format::Table { .. });
    let (namespace, query) = (context.scope(args.all_namespaces), selectors(args, target));
    let mut version = version.to_owned();
    loop {
        let mut stream = context.watch(target.def, namespace, &query, &version, table).await?;
        while let Some(change) = stream.next().await {
            let change = change?;
            if let WatchEvent::Error(status) = &change {
                if status.code != 410 {
                    return Err(Failure::from_status(status));
                }
                // Too much has happened since: go on from now, saying that something may have been missed.
                ui::note("note: the watch fell behind; changes may have been missed");
                version = context.list(target.def, namespace, &query).await?.1;
                break;
            }
            if let Some(seen) = seen(&change) {
                version = seen;
            }
            each(change)?;
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}

/// The version a change carries.
fn seen(change: &WatchEvent<Value>) -> Option<String> {
    let object = match change {
        WatchEvent::Added(o) | WatchEvent::Modified(o) | WatchEvent::Deleted(o) => o,
        WatchEvent::Bookmark(b) => return Some(b.metadata.resource_version.clone()),
        WatchEvent::Error(_) => return None,
    };
    let of = |path: &str| object.pointer(path).and_then(Value::as_str).filter(|v| !v.is_empty()).map(str::to_owned);
    of("/rows/0/object/metadata/resourceVersion").or_else(|| of("/metadata/resourceVersion"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn sorting_knows_numbers_from_texts() {
        let mut items = vec![json!({"n": 10, "s": "b"}), json!({"n": 9, "s": "a"}), json!({"s": "c"})];
        sorted(&mut items, Some(&Template::parse("{.n}").unwrap()), |o| o);
        assert_eq!(items.iter().map(|i| i["s"].as_str().unwrap()).collect::<String>(), "cab");
    }

    #[test]
    fn the_version_is_found_in_rows_and_records() {
        let row = json!({"metadata": {"resourceVersion": ""}, "rows": [{"object": {"metadata": {"resourceVersion": "7"}}}]});
        assert_eq!(seen(&WatchEvent::Added(row)).as_deref(), Some("7"));
        assert_eq!(seen(&WatchEvent::Deleted(json!({"metadata": {"resourceVersion": "8"}}))).as_deref(), Some("8"));
    }
}
