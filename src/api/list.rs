//! Listing, in pages.

use super::request::{Params, Target};
use super::select::Selection;
use super::status::ApiError;
use super::view::{View, json_response};
use crate::access::Sight;
use crate::store::{ListQuery, Page, Store, Stored};
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Records read at once where only some may be selected.
const AT_ONCE: u32 = 500;

/// Where the next page starts, and the version of the first one. Pages are read as records are when they are
/// asked for; all carry the first one's version, so that a watch from there tells what changed in between.
#[derive(Debug, Serialize, Deserialize)]
struct Continue {
    rv: i64,
    ns: String,
    name: String,
}

impl Continue {
    fn read(token: &str) -> Result<Self, ApiError> {
        let bytes = URL_SAFE_NO_PAD.decode(token).ok();
        let read = bytes.and_then(|b| serde_json::from_slice::<Self>(&b).ok());
        // No record's name holds a NUL, and PostgreSQL cannot even be asked about one.
        read.filter(|c| !c.ns.contains('\0') && !c.name.contains('\0'))
            .ok_or_else(|| ApiError::bad_request("continue key is not valid: list again from the start, without it"))
    }

    fn write(&self) -> String {
        URL_SAFE_NO_PAD.encode(json!(self).to_string())
    }
}

/// Records found.
#[derive(Debug, Default)]
pub struct Found {
    /// The records.
    pub items: Vec<Stored>,
    /// Version to watch from.
    pub revision: i64,
    next: Option<Continue>,
    remaining: Option<i64>,
}

/// Answers a list request.
///
/// # Errors
/// 400 for bad parameters, 410 for a version that is gone.
pub async fn list(
    store: &Store,
    target: &Target,
    params: &Params,
    view: &View,
    sight: Option<Sight>,
) -> Result<Response, ApiError> {
    let selection = Selection::parse(target, params)?.seen(sight);
    check_version(store, params)?;
    let limit = params.number("limit")?.filter(|l| *l > 0);
    let start = params.get("continue").map(Continue::read).transpose()?;
    let found = find(store, target, &selection, limit, start).await?;
    let mut meta = json!({"resourceVersion": found.revision.to_string()});
    if let Some(next) = &found.next {
        meta["continue"] = json!(next.write());
        if let Some(remaining) = found.remaining {
            meta["remainingItemCount"] = json!(remaining);
        }
    }
    Ok(json_response(StatusCode::OK, view.list(&found.items, &meta)?, &[]))
}

/// All records selected, without paging.
///
/// # Errors
/// When the store fails.
pub async fn find_all(store: &Store, target: &Target, selection: &Selection) -> Result<Found, ApiError> {
    find(store, target, selection, None, None).await
}

/// We keep no old states, so a version asked for exactly must be the current one.
fn check_version(store: &Store, params: &Params) -> Result<(), ApiError> {
    let Some(wanted) = params.number("resourceVersion")?.filter(|v| *v > 0) else { return Ok(()) };
    let current = u64::try_from(store.revision()).unwrap_or(0);
    match params.get("resourceVersionMatch") {
        Some("Exact") if wanted < current => Err(ApiError::expired(format!(
            "the state at version {wanted} is no longer kept: list without resourceVersionMatch=Exact"
        ))),
        _ if wanted > current => {
            Err(ApiError::server_timeout(format!("Too large resource version: {wanted}, current: {current}"), 1))
        }
        _ => Ok(()),
    }
}

async fn find(
    store: &Store,
    target: &Target,
    selection: &Selection,
    limit: Option<u64>,
    start: Option<Continue>,
) -> Result<Found, ApiError> {
    if let Some(found) = find_by_name(store, target, selection).await? {
        return Ok(found);
    }
    let first = start.as_ref().map(|c| c.rv);
    let mut after = start.map(|c| (c.ns, c.name));
    let mut found = Found::default();
    loop {
        let wanted = limit.map(|l| u32::try_from(l - found.items.len() as u64).unwrap_or(u32::MAX));
        let all = selection.is_all();
        let query = ListQuery {
            kind: target.served.id,
            namespace: target.namespace.clone(),
            // Of what is read few may be selected.
            limit: wanted.map(|wanted| if all { wanted } else { wanted.max(AT_ONCE) }),
            after: after.take(),
            uncounted: !all,
        };
        let page = store.list(&query).await?;
        if found.revision == 0 {
            found.revision = first.unwrap_or(page.revision);
        }
        let next = take_page(&mut found, page, selection, limit)?;
        let full = limit.is_some_and(|l| found.items.len() as u64 >= l);
        match next {
            Some((ns, name)) if full => found.next = Some(Continue { rv: found.revision, ns, name }),
            Some(more) => {
                after = Some(more);
                continue;
            }
            None => {}
        }
        return Ok(found);
    }
}

/// Keeps what is selected of a page, and no more than the limit; answers where the next one starts.
fn take_page(
    found: &mut Found,
    page: Page,
    selection: &Selection,
    limit: Option<u64>,
) -> Result<Option<(String, String)>, ApiError> {
    let place = |s: &Stored| (s.key.namespace.clone(), s.key.name.clone());
    let last = page.items.last().map(place);
    let more = page.remaining > 0;
    // Kubernetes counts what remains only where nothing is selected.
    found.remaining = selection.is_all().then_some(page.remaining);
    if selection.is_all() {
        found.items.extend(page.items);
        return Ok(last.filter(|_| more));
    }
    let mut items = page.items.into_iter();
    while limit.is_none_or(|limit| (found.items.len() as u64) < limit) {
        let Some(item) = items.next() else { return Ok(last.filter(|_| more)) };
        if selection.matches_stored(&item)? {
            found.items.push(item);
        }
    }
    let kept = found.items.last().map(place);
    Ok(kept.filter(|_| more || items.len() > 0))
}

/// A selection of one name in one place is a read, not a list.
async fn find_by_name(store: &Store, target: &Target, selection: &Selection) -> Result<Option<Found>, ApiError> {
    let (Some(name), true) = (selection.only_name(), target.namespace.is_some() || !target.served.def.namespaced) else {
        return Ok(None);
    };
    let revision = store.revision();
    let key = target.served.key(target.namespace.as_deref().unwrap_or(""), name);
    let mut found = Found { revision, ..Found::default() };
    if let Some(stored) = store.get(&key).await?
        && selection.matches_stored(&stored)?
    {
        found.items.push(stored);
    }
    Ok(Some(found))
}
