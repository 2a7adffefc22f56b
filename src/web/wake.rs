//! A visit to a workspace that does not run: who may starts it, sees how far it is, and lands where they wanted to go.
//!
//! # Guarantees
//! - However many come at once, it is started once, and the audit log has one row of it, by who came first.
//! - It is started for who may start it, as them; for any visitor where its record says so, and then only for who opens a page: what a
//!   page that was left open asks for by itself wakes nothing.
//! - Nothing is started at a public host by what its visitor shows there: that is read by its container. They go to the panel.

use super::Web;
use super::elsewhere::{Place, place};
use super::gate::{Asked, canonical, is_framed, text};
use super::pages::{self, Rest};
use super::panel::Panel;
use crate::access::{Action, Decision, Identity};
use crate::api::{Starts, Stopped, Visit, client_at, client_of_visit};
use crate::resource::GROUP;
use crate::store::StoreError;
use axum::http::{Uri, header};
use axum::response::Response;
use kube::Client;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

/// Where the button of a private workspace's page leads.
pub(super) const START: &str = "/.devsanctum/start";
/// How long a page is held that waits, at the longest.
const HELD: Duration = Duration::from_secs(5);
/// What is asked by programs is held longer: they see nothing meanwhile.
const HELD_FOR_PROGRAMS: Duration = Duration::from_secs(20);
/// Who changes the record, in its managed fields.
const MANAGER: &str = "devsanctum-panel";
const LOOK: Duration = Duration::from_millis(100);
/// Held at once.
const MOST: usize = 1000;
/// A start that was refused is not tried again for a visitor for this long: to refuse it is work, and anybody may visit.
const REFUSED_FOR: Duration = Duration::from_secs(10);

/// Workspaces being started by this process, and who waits.
#[derive(Clone)]
pub struct Waking {
    starts: Starts,
    /// Workspaces that could not be started for a visitor, when, and why.
    refused: Arc<Mutex<BTreeMap<String, (Instant, String)>>>,
    /// What was found at hosts a moment ago, for all who wait there.
    seen: Arc<Mutex<BTreeMap<String, Seen>>>,
    places: Arc<Semaphore>,
}

impl Default for Waking {
    fn default() -> Self {
        Self::new(Starts::default())
    }
}

/// What was found at a host, and when.
type Seen = (Instant, Option<Place>);

impl Waking {
    /// With those that are being started by whatever door.
    pub fn new(starts: Starts) -> Self {
        Self { starts, refused: Arc::default(), seen: Arc::default(), places: Arc::new(Semaphore::new(MOST)) }
    }

    /// Why the workspace was not started a moment ago.
    fn refused(&self, uid: &str) -> Option<String> {
        let mut all = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, (at, _)| at.elapsed() < REFUSED_FOR);
        all.get(uid).map(|(_, why)| why.clone())
    }

    fn refuse(&self, uid: &str, why: &str) {
        let mut all = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(uid.to_owned(), (Instant::now(), why.to_owned()));
    }

    /// The workspace at a host, as it was within [`LOOK`].
    async fn place(&self, web: &Web, host: &str) -> Result<Option<Place>, StoreError> {
        let seen = || self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let known = seen().get(host).filter(|(at, _)| at.elapsed() < LOOK).map(|(_, place)| place.clone());
        if let Some(known) = known {
            return Ok(known);
        }
        let found = place(web, host).await?;
        let mut all = seen();
        all.retain(|_, (at, _)| at.elapsed() < LOOK);
        all.insert(host.to_owned(), (Instant::now(), found.clone()));
        Ok(found)
    }
}

/// Whether somebody opens a page, as far as browsers say, and does not have it fetched in case.
pub(super) fn opens_a_page(asked: &Asked<'_>) -> bool {
    let mode = text(asked.headers, "sec-fetch-mode");
    let ahead = asked.headers.contains_key("sec-purpose") || asked.headers.contains_key("purpose");
    let shown = matches!(mode, "" | "navigate") && !ahead && !is_framed(asked.headers);
    asked.method == "GET" && shown && text(asked.headers, "accept").contains("text/html")
}

/// Whether a user may start a workspace.
pub(super) async fn may_start(panel: &Panel, user: &str, place: &Place) -> Result<bool, StoreError> {
    let (namespace, name) = (Some(place.project.as_str()), Some(place.workspace.as_str()));
    let action = Action { verb: "patch", group: GROUP, resource: "workspaces", subresource: "", namespace, name };
    Ok(matches!(panel.web.directory.judge(&Identity::person(user), &action, false).await?, (Decision::Allow(_), _)))
}

/// Has it run, as `who`, for a visitor at this address; whoever comes while another starts it has nothing to do.
///
/// # Errors
/// Why it is not started, in words for who asked.
pub(super) async fn start(panel: &Panel, who: Identity, from: IpAddr, place: &Place) -> Result<(), String> {
    begun(panel, client_at(panel.api.clone(), who, Some(from)), from, place).await
}

async fn begun(panel: &Panel, own: Client, from: IpAddr, place: &Place) -> Result<(), String> {
    let stopped = Stopped { project: place.project.clone(), name: place.workspace.clone(), uid: place.uid.clone() };
    match panel.waking.starts.start(own, stopped, MANAGER).await {
        Ok(true) => {
            tracing::info!(project = place.project, workspace = place.workspace, %from, "woken by a visit");
            Ok(())
        }
        Ok(false) => Ok(()),
        Err(kube::Error::Api(status)) => Err(status.message.clone()),
        Err(error) => {
            tracing::warn!(%error, "a workspace could not be started for a visitor");
            Err("It cannot be started now. Try again.".into())
        }
    }
}

/// As [`start`], by the platform, for any visitor: a user, where it is known who that is.
///
/// # Errors
/// As those of [`start`]; once it was refused, the same for a while.
pub(super) async fn start_for_anybody(panel: &Panel, user: Option<&str>, from: IpAddr, place: &Place) -> Result<(), String> {
    if let Some(why) = panel.waking.refused(&place.uid) {
        return Err(why);
    }
    let own = client_of_visit(panel.api.clone(), Visit(user.map(str::to_owned)), from);
    begun(panel, own, from, place).await.inspect_err(|why| panel.waking.refuse(&place.uid, why))
}

/// Whether a page asks anew that was shown at this host: it may be held. Who has just come is to see something.
fn looks_again(asked: &Asked<'_>) -> bool {
    match text(asked.headers, "sec-fetch-site") {
        "" => {
            let from = asked.headers.get(header::REFERER).and_then(|from| from.to_str().ok()?.parse::<Uri>().ok());
            from.and_then(|from| from.host().map(canonical)).as_deref() == Some(asked.host)
        }
        site => site == "same-origin",
    }
}

/// Waits a while for a workspace that is coming up; gives how it is then, or leads to it where it answers.
pub(super) async fn waited(panel: &Panel, asked: &Asked<'_>, now: Place) -> Result<Result<Place, Response>, StoreError> {
    let upgrade = asked.headers.contains_key(header::UPGRADE);
    let page = opens_a_page(asked);
    if now.rest != Rest::Starting || !(upgrade || (page && looks_again(asked))) {
        return Ok(Ok(now));
    }
    let Ok(_place) = panel.waking.places.try_acquire() else { return Ok(Ok(now)) };
    let until = Instant::now() + if page { HELD } else { HELD_FOR_PROGRAMS };
    let mut then = now.clone();
    while Instant::now() < until && then.rest == Rest::Starting && (upgrade || then.message == now.message) {
        sleep(LOOK).await;
        match panel.waking.place(&panel.web, asked.host).await? {
            Some(found) if found.uid == now.uid && found.public == now.public => then = found,
            _ => return Ok(Ok(now)),
        }
    }
    if then.rest == Rest::Silent && page {
        let to = asked.uri.path_and_query().map_or("/", |to| to.as_str());
        return Ok(Err(pages::redirect(&format!("{}{}", panel.web.panel.of_host(asked.host), pages::own_path(to)))));
    }
    Ok(Ok(then))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_start_that_was_refused_is_not_tried_again_for_a_while() {
        let waking = Waking::default();
        assert_eq!(waking.refused("u"), None);
        waking.refuse("u", "exceeded quota");
        assert_eq!((waking.refused("u").as_deref(), waking.refused("other")), (Some("exceeded quota"), None));
        tokio::time::advance(REFUSED_FOR).await;
        assert_eq!(waking.refused("u"), None);
    }
}
