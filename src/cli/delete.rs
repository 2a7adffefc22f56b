//! `delete`: records go, and what they own with them.

use super::args::{DeleteArgs, DryRun};
use super::connect::Context;
use super::events;
use super::failure::{Failure, TIMED_OUT};
use super::target::{Target, check_name, targets, title};
use super::ui;
use super::wait::{Until, Watched};
use crate::resource::{KindDef, labels};
use serde_json::{Value, json};

/// Our name among the managers of a record's fields.
const MANAGER: &str = "devsanctum";

/// A record to delete.
struct Doomed {
    def: &'static KindDef,
    namespace: Option<String>,
    name: String,
}

/// Runs `delete`.
///
/// # Errors
/// When a record does not exist, the API refuses, or a record stays longer than `--timeout`.
pub async fn run(context: &Context, args: DeleteArgs) -> Result<(), Failure> {
    run_and(context, args, async || Ok(())).await
}

/// As [`run`], with more to do once the deletion is taken and before anything is waited for.
///
/// # Errors
/// As those of [`run`], and what `taken` says.
pub async fn run_and(
    context: &Context,
    args: DeleteArgs,
    taken: impl AsyncFnOnce() -> Result<(), Failure>,
) -> Result<(), Failure> {
    let (mut missing, mut waiting) = (Vec::new(), Vec::new());
    let real = args.dry_run == DryRun::None;
    let how = match args.dry_run {
        DryRun::None => "",
        DryRun::Client => " (client dry run)",
        DryRun::Server => " (server dry run)",
    };
    for doomed in doomed(context, &args).await? {
        let namespace = doomed.namespace.as_deref();
        let Some(object) = context.get(doomed.def, namespace, &doomed.name).await? else {
            missing.push(format!("{} does not exist", title(doomed.def, &doomed.name)));
            continue;
        };
        let uid = object["metadata"]["uid"].as_str();
        if args.dry_run == DryRun::Client || context.delete(doomed.def, namespace, &doomed.name, uid, !real).await? {
            ui::say(&format!("{} deleted{how}", title(doomed.def, &doomed.name)))?;
        }
        if args.force_abandon && real {
            abandon(context, &doomed).await?;
        }
        waiting.push((doomed, object));
    }
    if !waiting.is_empty() && real {
        taken().await?;
    }
    if waiting.is_empty() && missing.is_empty() {
        ui::note("no record matches, so nothing is deleted");
    }
    for (doomed, object) in waiting.iter().filter(|_| (args.wait || args.force_abandon) && real) {
        let last = gone(context, doomed, object, &args).await?;
        if args.force_abandon {
            left_behind(context, doomed, &last).await?;
        }
    }
    if missing.is_empty() || args.ignore_not_found { Ok(()) } else { Err(Failure::new(missing.join("\n"))) }
}

async fn doomed(context: &Context, args: &DeleteArgs) -> Result<Vec<Doomed>, Failure> {
    if args.files.is_empty() {
        let mut doomed = Vec::new();
        for target in targets(&args.what)? {
            doomed.extend(of_target(context, args, target).await?);
        }
        return Ok(doomed);
    }
    let documents = super::apply::read(&args.files, args.recursive, None)?;
    let records = super::apply::prepare(context, &documents, None)?;
    // The other way round: what names something goes before what it names.
    let doomed = records.into_iter().rev().map(|r| {
        check_name(&r.document.name)?;
        Ok(Doomed { def: r.document.def, namespace: r.namespace, name: r.document.name.clone() })
    });
    doomed.collect()
}

/// The record named, or with `--all` or `-l` those there are.
async fn of_target(context: &Context, args: &DeleteArgs, Target { def, name }: Target) -> Result<Vec<Doomed>, Failure> {
    let many = args.all || args.selector.is_some();
    let doomed = |namespace: Option<String>, name| Doomed { def, namespace: namespace.filter(|_| def.namespaced), name };
    match name {
        Some(_) if many || args.all_namespaces => {
            Err(Failure::usage("name the records to delete, or choose them with --all or -l, not both"))
        }
        Some(name) => Ok(vec![doomed(Some(context.namespace.clone()), name)]),
        None if !many => {
            Err(Failure::usage("name the records to delete, as KIND/NAME or KIND NAME").hint("or choose them with -l or --all"))
        }
        None => {
            let query = args.selector.iter().map(|l| ("labelSelector", l.clone())).collect();
            let (found, _) = context.list(def, context.scope(args.all_namespaces), &query).await?;
            let text = |o: &Value, field: &str| o["metadata"][field].as_str().map(str::to_owned);
            Ok(found.iter().filter_map(|o| Some(doomed(text(o, "namespace"), text(o, "name")?))).collect())
        }
    }
}

/// Lets the record go although its server holds things of it. Set after the deletion, so that the mark
/// can never stay on a record that lives.
async fn abandon(context: &Context, doomed: &Doomed) -> Result<(), Failure> {
    let patch = json!({"metadata": {"annotations": {labels::ABANDON: "true"}}});
    match context.merge(doomed.def, doomed.namespace.as_deref(), &doomed.name, &patch, MANAGER).await? {
        Ok(_) => Ok(()),
        // Nothing held it: it is gone already.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Waits until the record is gone and gives its last state.
async fn gone(context: &Context, doomed: &Doomed, object: &Value, args: &DeleteArgs) -> Result<Value, Failure> {
    let uid = object["metadata"]["uid"].clone();
    let mut last = object.clone();
    let mut said = String::new();
    let mut look = |now: Option<&Value>| {
        // A new record of the same name is another record.
        let Some(now) = now.filter(|n| n["metadata"]["uid"] == uid) else { return true };
        last = now.clone();
        let message = now.pointer("/status/message").and_then(Value::as_str).unwrap_or_default();
        if !message.is_empty() && message != said {
            said = message.to_owned();
            ui::progress(&format!("waiting for {}: {message}", title(doomed.def, &doomed.name)));
        }
        false
    };
    let watched = Watched { def: doomed.def, namespace: doomed.namespace.as_deref(), name: &doomed.name };
    match tokio::time::timeout(args.timeout, watched.wait(context, &Until::Gone, &mut look)).await {
        Ok(result) => result.map(|()| last),
        Err(_) => Err(late(doomed, &last)),
    }
}

fn late(doomed: &Doomed, last: &Value) -> Failure {
    let title = title(doomed.def, &doomed.name);
    let held = last.pointer("/metadata/finalizers").map(Value::to_string).unwrap_or_default();
    let why = last.pointer("/status/message").and_then(Value::as_str).map(|m| format!(": {m}")).unwrap_or_default();
    let failure = Failure::new(format!("{title} is being deleted but is still there, held by {held}{why}"))
        .hint("wait longer with --timeout; if its server never comes back, --force-abandon lets it go");
    Failure { code: TIMED_OUT, ..failure }
}

/// Says what stays on the server, from the record's last message and the events of its end.
async fn left_behind(context: &Context, doomed: &Doomed, last: &Value) -> Result<(), Failure> {
    let mut lines = Vec::new();
    lines.extend(last.pointer("/status/message").and_then(Value::as_str).map(str::to_owned));
    let happened = events::about(context, last).await?;
    let abandoned = happened.iter().filter(|e| e["reason"] == "LeftBehind");
    lines.extend(abandoned.filter_map(|e| e["message"].as_str().or(e["note"].as_str()).map(str::to_owned)));
    lines.dedup();
    let server = last.pointer("/status/dockerServer").and_then(Value::as_str).unwrap_or("its server");
    ui::note(&format!("{} was let go; left behind on {server}:", title(doomed.def, &doomed.name)));
    if lines.is_empty() {
        lines.push(format!(
            "whatever carries the label {}={}",
            labels::UID,
            last.pointer("/status/tookOver/uid").or(last.pointer("/metadata/uid")).and_then(Value::as_str).unwrap_or_default()
        ));
    }
    ui::say(&lines.iter().map(|line| format!("  {}", ui::clean(line))).collect::<Vec<_>>().join("\n"))
}
