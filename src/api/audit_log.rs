//! `/devsanctum/audit`: the audit log, which is its administrators' to read, to verify and to cut.

use super::ApiState;
use super::audited::Noted;
use super::door::{self, refusal};
use super::request::{Params, decode_json};
use super::status::ApiError;
use super::view::json_response;
use crate::access::{Action, Decision, Identity};
use crate::audit::{COLUMNS, Finding, Row, hex, line, unhex};
use crate::resource::GROUP;
use crate::store::AuditQuery;
use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, Uri, header};
use k8s_openapi::jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

/// Rows in one answer, where nothing is said, and at most.
const USUAL: u64 = 100;
const MOST: u64 = 1000;
/// What can be asked for, and the row's field.
const FILTERS: [(&str, &str); 5] =
    [("user", "actor"), ("verb", "verb"), ("kind", "kind"), ("namespace", "namespace"), ("name", "name")];
const OTHERS: [&str; 7] = ["since", "until", "outcome", "before", "after", "limit", "format"];

async fn may(state: &ApiState, who: &Identity, verb: &str) -> Result<(), ApiError> {
    let action = Action { verb, group: GROUP, resource: "auditlogs", subresource: "", namespace: None, name: None };
    match state.directory().judge(who, &action, false).await? {
        (Decision::Allow(_), _) => Ok(()),
        (_, why) => Err(ApiError::forbidden_request(refusal(who, &action, &why))),
    }
}

fn moment(field: &str, text: &str) -> Result<i64, ApiError> {
    let read: Result<Timestamp, _> = text.parse();
    let wrong = |_| ApiError::bad_request(format!("{field}={text:?} is no moment: must be such as 2026-01-31T12:00:00Z"));
    read.map(Timestamp::as_millisecond).map_err(wrong)
}

/// `allowed`, `refused`, or a code.
fn outcome(text: &str) -> Result<(i64, i64), ApiError> {
    match (text, text.parse()) {
        ("allowed", _) => Ok((0, 399)),
        ("refused", _) => Ok((400, 999)),
        (_, Ok(code @ 100..=599)) => Ok((code, code)),
        _ => Err(ApiError::bad_request(format!(
            "outcome={text:?} is not known: must be 'allowed', 'refused' or a code such as 403"
        ))),
    }
}

fn query(uri: &Uri) -> Result<AuditQuery, ApiError> {
    let params = Params::parse(uri)?;
    let known = |name: &str| OTHERS.contains(&name) || FILTERS.iter().any(|(filter, _)| *filter == name);
    // A filter that is not understood would show what was not asked for.
    if let Some(other) = params.names().find(|name| !known(name)) {
        let all: Vec<&str> = FILTERS.iter().map(|(filter, _)| *filter).chain(OTHERS).collect();
        return Err(ApiError::bad_request(format!("{other:?} is not known here: must be one of {}", all.join(", "))));
    }
    let number = |name: &str| Ok::<_, ApiError>(params.number(name)?.map(|n| i64::try_from(n).unwrap_or(i64::MAX)));
    let when = |name: &str| params.get(name).map(|text| moment(name, text)).transpose();
    let limit = params.number("limit")?.unwrap_or(USUAL);
    if !(1..=MOST).contains(&limit) {
        return Err(ApiError::bad_request(format!("limit={limit}: must be 1 to {MOST}; go on with before=SEQ or after=SEQ")));
    }
    let asked = FILTERS.iter().filter_map(|(filter, field)| Some((*field, params.get(filter)?.to_owned())));
    Ok(AuditQuery {
        fields: asked.collect(),
        since: when("since")?,
        until: when("until")?,
        codes: params.get("outcome").map(outcome).transpose()?,
        before: number("before")?,
        after: number("after")?,
        limit: limit as u32,
    })
}

/// Whether rows are wanted for a spreadsheet.
fn wants_csv(uri: &Uri, headers: &HeaderMap) -> Result<bool, ApiError> {
    let accepts = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).is_some_and(|v| v.contains("text/csv"));
    match Params::parse(uri)?.get("format") {
        None => Ok(accepts),
        Some("csv") => Ok(true),
        Some("json") => Ok(false),
        Some(other) => Err(ApiError::bad_request(format!("format={other:?} is not known: must be 'json' or 'csv'"))),
    }
}

/// Lists rows: the newest first, or from `after` on the oldest first.
pub async fn list(
    State(state): State<ApiState>,
    Extension(who): Extension<Identity>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, ApiError> {
    may(&state, &who, "list").await?;
    let (asked, csv) = (query(&uri)?, wants_csv(&uri, &headers)?);
    let (limit, onward) = (asked.limit as usize, if asked.after.is_some() { "after" } else { "before" });
    let rows = state.store().audit_rows(asked).await?;
    let shown: Vec<Value> = rows.iter().map(Row::json).collect();
    if csv {
        let text = COLUMNS.join(",") + "\r\n" + &shown.iter().map(line).collect::<String>();
        let kind = [(header::CONTENT_TYPE, "text/csv; charset=utf-8")];
        return Ok((kind, text).into_response());
    }
    let next = rows.last().filter(|_| rows.len() == limit).map(|row| json!({onward: row.seq}));
    Ok(json_response(StatusCode::OK, json!({"rows": shown, "next": next}).to_string(), &[]))
}

/// Reads the whole log and says whether it is as it was written.
pub async fn verify(State(state): State<ApiState>, Extension(who): Extension<Identity>, uri: Uri) -> Result<Response, ApiError> {
    may(&state, &who, "get").await?;
    let params = Params::parse(&uri)?;
    let wrong = |text: &str| ApiError::bad_request(format!("head={text:?} is no hash: must be 64 hexadecimal digits"));
    let wanted = params.get("head").map(|text| unhex(text).ok_or_else(|| wrong(text))).transpose()?;
    let found = state.store().verify_audit(wanted).await?;
    let told = |finding: &Finding| json!({"seq": finding.seq(), "message": finding.to_string()});
    let answer = json!({
        "intact": found.wrong == 0, "rows": found.rows, "wrong": found.wrong,
        "findings": found.findings.iter().map(told).collect::<Vec<_>>(),
        "prunedUpTo": found.anchor.seq, "head": {"seq": found.head.seq, "hash": hex(&found.head.hash)},
    });
    Ok(json_response(StatusCode::OK, answer.to_string(), &[]))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cut {
    before: String,
}

/// Cuts the oldest rows.
pub async fn prune(
    State(state): State<ApiState>,
    Extension(who): Extension<Identity>,
    noted: Option<Extension<Noted>>,
    body: Body,
) -> Result<Response, ApiError> {
    if let Some(Extension(noted)) = &noted {
        noted.about(|entry| (entry.verb, entry.kind) = (crate::audit::PRUNE.into(), "AuditLog".into()));
    }
    let body = door::read(&state, &who, body).await?;
    may(&state, &who, "deletecollection").await?;
    let cut = decode_json(&body)?;
    let cut: Cut = serde_json::from_value(cut).map_err(|e| ApiError::bad_request(format!("the body: {e}")))?;
    let before = moment("before", &cut.before)?;
    let told = noted.as_ref().map(|noted| noted.entry());
    // The program itself does not do this; if it did, it would be told all the same.
    let mut entry = match told {
        Some(entry) => entry,
        None => state.ledger().begin(&who.name, "").await?,
    };
    (entry.verb, entry.name, entry.code) = (crate::audit::PRUNE.into(), format!("before {}", cut.before), 200);
    let (gone, anchor) = state.store().prune_audit(before, entry).await?;
    noted.inspect(|noted| noted.set_written(true));
    let answer = json!({"pruned": gone, "upTo": {"seq": anchor.seq, "hash": hex(&anchor.hash)}});
    Ok(json_response(StatusCode::OK, answer.to_string(), &[]))
}
