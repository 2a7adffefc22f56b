//! What a server has of workspaces that are on another one by their records: what is nowhere else stays.

use crate::controllers::caches::InOrder;
use crate::controllers::context::Context;
use crate::controllers::copy::Copy;
use crate::engine::{ContainerSummary, Volume};
use crate::plan::resync::Owned;
use crate::resource::{DockerServer, Workspace};
use kube::ResourceExt;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Names told at the most.
const TOLD: usize = 10;

/// Workspaces that have something on a server that they are not on.
#[derive(Default)]
pub struct Copies {
    /// The uids of those that are whole where their records say, and where that is.
    pub spare: BTreeMap<String, String>,
    /// Those that are not, or of which that is not known.
    pub only: Vec<Arc<Workspace>>,
}

/// Asks the servers that they are on.
pub async fn copies(
    ctx: &Context,
    all: &[Owned],
    known: &BTreeSet<String>,
    (containers, volumes): (&[ContainerSummary], &[Volume]),
) -> Copies {
    let mut found = Copies::default();
    let uids: BTreeSet<&str> = all.iter().map(|o| o.uid.as_str()).filter(|uid| !known.contains(*uid)).collect();
    if uids.is_empty() {
        return found;
    }
    for w in ctx.caches.workspaces.in_order(|w| uids.contains(w.identity().uid.as_str())) {
        let (uid, Some(there)) = (w.identity().uid, w.server()) else { continue };
        let here = Copy::of(&uid, containers, volumes);
        let is_spare = here.is_empty()
            || match ctx.engines.get(there) {
                Some(engine) => Copy::on(engine.as_ref(), &uid).await.is_ok_and(|it| here.is_spare(&it)),
                None => false,
            };
        if is_spare {
            found.spare.insert(uid, there.to_owned());
        } else {
            found.only.push(w);
        }
    }
    found
}

/// Says what stays, and why.
pub fn tell(ctx: &Context, record: &DockerServer, only: &[Arc<Workspace>]) {
    let server = record.name_any();
    let each = |w: &Arc<Workspace>| {
        format!("{}/{} (by its record on {})", w.namespace().unwrap_or_default(), w.name_any(), w.server().unwrap_or("no server"))
    };
    let names: Vec<String> = only.iter().take(TOLD).map(each).collect();
    let words = format!(
        "what is here of {} workspaces stays, as it may be the only copy: their own servers have not all of it, or have it older, or cannot \
         be asked now: {}. Set spec.dockerServer of those that are to run here to {server:?}, once what is not wanted of them is removed \
         from the other one; or remove what is here, by hand",
        only.len(),
        names.join(", ")
    );
    tracing::warn!(server, "{words}");
    crate::controllers::events::tell(&ctx.frame, record, true, "OnlyCopyHeld", words);
}
