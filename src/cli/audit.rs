//! `audit`: who did what, whether that is still told as it was written, and cutting what is old.

use super::args::{AuditArgs, AuditCommand, AuditFormat, ListAuditArgs, PruneAuditArgs, VerifyAuditArgs};
use super::connect::Context;
use super::failure::{FAILED, Failure};
use super::rest::Query;
use super::target;
use super::ui::{self, Tone, clean, columns};
use crate::audit::{COLUMNS, line};
use serde_json::{Value, json};

const ADDRESS: &str = "/devsanctum/audit";
/// Rows asked for at once.
const PAGE: usize = 1000;

/// Runs `audit`.
///
/// # Errors
/// What the API refused; with the exit code 1 when the log is not as it was written.
pub async fn run(context: &Context, args: AuditArgs) -> Result<(), Failure> {
    match args.command {
        AuditCommand::List(args) => list(context, *args).await,
        AuditCommand::Verify(args) => verify(context, args).await,
        AuditCommand::Prune(args) => prune(context, args).await,
    }
}

fn filters(context: &Context, args: &ListAuditArgs) -> Query<'static> {
    // What is no record has a kind, too, which the table of kinds does not know.
    let kind = args.kind.as_ref().map(|word| target::kind(word).map_or_else(|_| word.clone(), |def| def.kind.clone()));
    let all = [
        ("user", args.user.clone()),
        ("verb", args.verb.clone()),
        ("kind", kind),
        ("namespace", context.namespace_given.then(|| context.namespace.clone())),
        ("name", args.name.clone()),
        ("since", args.since.map(|at| at.to_string())),
        ("until", args.until.map(|at| at.to_string())),
        ("outcome", args.outcome.clone()),
    ];
    all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

/// The rows, page by page.
async fn rows(context: &Context, args: &ListAuditArgs) -> Result<Vec<Value>, Failure> {
    let (filters, mut found, mut next) = (filters(context, args), Vec::new(), None);
    let most = if args.limit == 0 { usize::MAX } else { args.limit };
    while found.len() < most {
        let mut pairs = filters.clone();
        pairs.push(("limit", PAGE.min(most - found.len()).to_string()));
        pairs.extend(next.map(|seq: i64| ("before", seq.to_string())));
        let mut page: Value = context.ask_for(ADDRESS, &pairs).await?;
        let Value::Array(rows) = page["rows"].take() else { return Err(Failure::new("the API's answer is not a list of rows")) };
        found.extend(rows);
        next = page["next"]["before"].as_i64();
        if next.is_none() {
            break;
        }
    }
    Ok(found)
}

async fn list(context: &Context, args: ListAuditArgs) -> Result<(), Failure> {
    let rows = rows(context, &args).await?;
    match args.output {
        AuditFormat::Json => ui::say(&serde_json::to_string_pretty(&rows)?),
        AuditFormat::Csv => {
            let text = COLUMNS.join(",") + "\r\n" + &rows.iter().map(line).collect::<String>();
            ui::say(text.trim_end())
        }
        AuditFormat::Table => ui::say(&table(&rows)),
    }
}

fn table(rows: &[Value]) -> String {
    let head = ["SEQ", "TIME", "USER", "BY", "FROM", "VERB", "WHAT", "CODE", "REASON"].map(str::to_owned).to_vec();
    let mut all = vec![head];
    for row in rows {
        let who = text(row, "user");
        all.push(vec![
            row["seq"].to_string(),
            text(row, "time"),
            if who.is_empty() { "-".into() } else { who },
            text(row, "how"),
            text(row, "address"),
            text(row, "verb"),
            what(row),
            row["code"].to_string(),
            text(row, "reason"),
        ]);
    }
    columns(&all).join("\n")
}

/// `Workspace/web/exec in team`.
fn what(row: &Value) -> String {
    let parts = ["kind", "name", "subresource"].map(|field| text(row, field));
    let named: Vec<&str> = parts.iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
    let project = text(row, "namespace");
    if project.is_empty() { named.join("/") } else { format!("{} in {project}", named.join("/")) }
}

fn text(value: &Value, field: &str) -> String {
    clean(value[field].as_str().unwrap_or_default())
}

async fn verify(context: &Context, args: VerifyAuditArgs) -> Result<(), Failure> {
    let pairs: Query<'_> = args.head.map(|head| ("head", head)).into_iter().collect();
    let found: Value = context.ask_for(&format!("{ADDRESS}/verify"), &pairs).await?;
    let head = format!("head: {} (row {})", text(&found["head"], "hash"), found["head"]["seq"]);
    let pruned = match found["prunedUpTo"].as_i64() {
        Some(0) | None => String::new(),
        Some(seq) => format!(", older ones up to row {seq} were pruned"),
    };
    if found["intact"] == true {
        ui::say(&format!("{}: {} rows{pruned}", context.ui.paint(Tone::Good, "intact"), found["rows"]))?;
        return ui::say(&head);
    }
    for finding in found["findings"].as_array().into_iter().flatten() {
        ui::say(&text(finding, "message"))?;
    }
    ui::say(&format!(
        "{}: {} of {} rows are told above{pruned}",
        context.ui.paint(Tone::Bad, "not intact"),
        found["wrong"],
        found["rows"]
    ))?;
    ui::say(&head)?;
    Err(Failure::silent(FAILED))
}

async fn prune(context: &Context, args: PruneAuditArgs) -> Result<(), Failure> {
    let cut = context.post(&format!("{ADDRESS}/prune"), &json!({"before": args.before.to_string()})).await??;
    ui::say(&format!("{} rows pruned, up to row {}", cut["pruned"], cut["upTo"]["seq"]))
}
