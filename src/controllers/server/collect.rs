//! Removal of images that were built here and that no workspace uses any more.

use crate::controllers::caches::InOrder;
use crate::controllers::context::Context;
use crate::engine::{BuiltImage, Engine, EngineError};
use crate::resource::{DockerServerStatus, MOVED_IMAGES, Workspace};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How often a server's images are looked at, at most.
const BETWEEN: Duration = Duration::from_secs(3600);
/// A disk that is fuller than this, in hundredths, keeps none that nothing uses.
const FULL: f64 = 85.0;
/// A build that went wrong is tried again, and goes on from the last step that went well, which has no name: so long that is
/// kept, full or not. What a build under way is at is younger, or a container uses it.
const UNNAMED: Duration = Duration::from_secs(3600);
/// A name as images that are built here have it.
const BUILT: &str = "devsanctum/env:";

/// Since when images are unused, as far as this process has seen.
#[derive(Default)]
pub struct Collector(Mutex<HashMap<String, Looked>>);

#[derive(Default)]
struct Looked {
    at: Option<Instant>,
    unused: BTreeMap<String, Instant>,
}

impl Collector {
    /// Removes what is old enough, or all that is unused where the disk is nearly full. Docker itself keeps what a container is
    /// made of.
    pub async fn collect(&self, ctx: &Context, server: &str, engine: &dyn Engine, status: &DockerServerStatus) {
        let keep = humantime::parse_duration(&ctx.settings().images.keep).unwrap_or(Duration::MAX);
        if !self.due(server, BETWEEN.min(keep)) {
            return;
        }
        let settings = ctx.settings();
        let full = is_full(status);
        let found = match engine.built_images().await {
            Ok(found) => found,
            Err(e) => return tracing::debug!(server, error = %e, "images cannot be listed"),
        };
        let (used, wanted) = (used(ctx, server), of_templates(ctx));
        self.forget_others(server, &found);
        for image in found {
            if image.names.is_empty() {
                if self.unused(server, &image.id, false).is_some_and(|since| since.elapsed() >= UNNAMED.min(keep)) {
                    remove_one(server, engine, &image.id).await;
                }
                continue;
            }
            let Some(name) = image.names.iter().find(|n| is_ours(n)) else { continue };
            // A template's own image is what its next workspace begins with.
            let needed = used.contains(name) || wanted.contains(name) && !full;
            if let Some(since) = self.unused(server, name, needed)
                && (full || since.elapsed() >= keep)
            {
                remove(ctx, server, engine, &image, settings.images.repository.as_deref()).await;
            }
        }
    }

    /// The server is gone.
    pub fn forget(&self, server: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(server);
    }

    fn due(&self, server: &str, between: Duration) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let looked = all.entry(server.to_owned()).or_default();
        let due = looked.at.is_none_or(|at| at.elapsed() >= between);
        if due {
            looked.at = Some(Instant::now());
        }
        due
    }

    /// What is gone need not be known any more.
    fn forget_others(&self, server: &str, found: &[BuiltImage]) {
        let there: BTreeSet<&String> = found.iter().flat_map(|i| i.names.iter().chain([&i.id])).collect();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(server.to_owned()).or_default().unused.retain(|image, _| there.contains(image));
    }

    /// Since when an image is unused, if it is.
    fn unused(&self, server: &str, image: &str, needed: bool) -> Option<Instant> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let unused = &mut all.entry(server.to_owned()).or_default().unused;
        if needed {
            unused.remove(image);
            return None;
        }
        Some(*unused.entry(image.to_owned()).or_insert_with(Instant::now))
    }
}

fn is_full(status: &DockerServerStatus) -> bool {
    let shares = status.disk_used_gb.zip(status.disk_total_gb).filter(|(_, total)| *total > 0.0);
    shares.is_some_and(|(used, total)| used / total * 100.0 > FULL)
}

/// What workspaces of a server run, wait for, or would be made from now.
fn used(ctx: &Context, server: &str) -> BTreeSet<String> {
    let members = ctx.members(server);
    let current = members.iter().filter_map(|w| ctx.caches.environments.of(&ctx.caches, w)?.ok());
    let current: BTreeSet<String> = current.map(|(_, env)| env.image.reference()).collect();
    let carried = ctx.holders(server).iter().filter_map(|w| carried(w)).collect::<Vec<_>>();
    members.iter().filter_map(|w| w.status.as_ref()?.image.clone()).chain(current).chain(carried).collect()
}

/// The image that a workspace's file system is being carried as. The one that it once came as is kept by its container, as long as
/// that is made of it.
fn carried(w: &Workspace) -> Option<String> {
    w.moving().map(|it| it.image())
}

fn is_ours(name: &str) -> bool {
    name.starts_with(BUILT) || name.starts_with(MOVED_IMAGES)
}

fn of_templates(ctx: &Context) -> BTreeSet<String> {
    let all = ctx.caches.templates.in_order(|_| true);
    all.iter().filter_map(|t| Some(t.status.as_ref()?.resolved.as_ref()?.image.clone())).collect()
}

/// Takes its names of ours off it; the last one takes the image along.
async fn remove(ctx: &Context, server: &str, engine: &dyn Engine, image: &BuiltImage, repository: Option<&str>) {
    let shared = |name: &String| repository.is_some_and(|r| name.strip_prefix(r).is_some_and(|rest| rest.starts_with(':')));
    for name in image.names.iter().filter(|n| is_ours(n) || shared(n)) {
        remove_one(server, engine, name).await;
        ctx.supply.forget(server, name);
    }
}

/// By a name of it, or by its id.
async fn remove_one(server: &str, engine: &dyn Engine, image: &str) {
    match engine.remove_image(image).await {
        Ok(()) => tracing::info!(server, image, "removed an image that no workspace uses"),
        Err(EngineError::Conflict(words)) => tracing::debug!(server, image, words, "an image is in use after all"),
        Err(e) => tracing::warn!(server, image, error = %e, "cannot remove an image that no workspace uses"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[tokio::test(start_paused = true)]
    async fn of_a_server_that_is_gone_nothing_is_kept() {
        let all = Collector::default();
        assert!(all.due("a", BETWEEN) && !all.due("a", BETWEEN));
        all.forget("a");
        assert!(all.0.lock().unwrap().is_empty() && all.due("a", BETWEEN));
    }

    #[test]
    fn an_image_that_a_workspace_came_as_is_not_wanted_for_that() {
        let of = |status| {
            let record = json!({"apiVersion": "devsanctum.io/v1", "kind": "Workspace", "metadata": {"name": "w"},
                "spec": {"owner": "ada"}, "status": status});
            carried(&serde_json::from_value(record).unwrap())
        };
        assert_eq!(of(json!({"dockerServer": "b", "movedImage": "devsanctum/moved:old"})), None);
        let moving = json!({"id": "x", "from": "a", "to": "b", "step": "COPYING", "startedAt": "now"});
        assert_eq!(of(json!({"dockerServer": "a", "move": moving})), Some("devsanctum/moved:x".into()));
    }
}
