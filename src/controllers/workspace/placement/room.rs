//! Warm environments give way: what nobody has yet must not keep a workspace waiting.

use super::{candidates, choose, need};
use crate::controllers::caches::InOrder;
use crate::controllers::context::Context;
use crate::controllers::retry::PassError;
use crate::controllers::status::Pass;
use crate::controllers::workspace::warm;
use crate::plan::schedule::{Candidate, Need};
use crate::resource::labels::is_suspended;
use crate::resource::{Workspace, WorkspaceStatus};
use kube::ResourceExt;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A workspace without a server that one of these could take.
pub fn waiting(ctx: &Context, candidates: &[Candidate]) -> Option<String> {
    let waits = |w: &Workspace| {
        w.server().is_none() && w.spec.running && w.spec.from.is_none() && w.warm_of().is_none() && stays(w) && !is_suspended(w)
    };
    let fits = |w: &Arc<Workspace>| {
        let found = ctx.caches.environments.of(&ctx.caches, w).and_then(Result::ok);
        found.is_some_and(|(project, env)| choose(&need(&project, &env, w.spec.docker_server.clone()), candidates).is_ok())
    };
    let first = ctx.caches.workspaces.in_order(waits).into_iter().find(fits)?;
    Some(format!("{}/{}", first.namespace().unwrap_or_default(), first.name_any()))
}

fn stays(w: &Workspace) -> bool {
    w.metadata.deletion_timestamp.is_none()
}

/// Removes as many warm environments of one server as are in the way of what is needed, the last ones first. Gives `why` it
/// could not be had, with what is being done about it.
pub async fn make(ctx: &Context, need: &Need, why: PassError, pass: &mut Pass<WorkspaceStatus>) -> Result<PassError, PassError> {
    let all = ctx.caches.workspaces.in_order(|w| w.warm_of().is_some() && w.claimed_by().is_none() && w.server().is_some());
    let servers: BTreeSet<&str> = all.iter().filter_map(|w| w.server()).collect();
    for server in servers {
        if need.server.as_deref().is_some_and(|asked| asked != server) {
            continue;
        }
        let need = Need { server: Some(server.to_owned()), ..need.clone() };
        let mut there: Vec<&Arc<Workspace>> = all.iter().rev().filter(|w| w.server() == Some(server)).collect();
        // Those that go already come first: they may be enough.
        there.sort_by_key(|w| stays(w));
        let going = there.iter().filter(|w| !stays(w)).count();
        let uids: Vec<String> = there.iter().filter_map(|w| w.uid()).collect();
        let enough = |n: &usize| ctx.caches.reserved.without(&uids[..*n], |sums| choose(&need, &candidates(ctx, &sums)).is_ok());
        let Some(n) = (going..=there.len()).find(enough) else { continue };
        let gone = &there[..n];
        for warm in gone.iter().filter(|w| stays(w)) {
            warm::remove(ctx, warm).await?;
            pass.did(format!("removed warm environment {} to make room", warm.name_any()));
        }
        let names: Vec<String> = gone.iter().map(|w| w.name_any()).collect();
        let message = format!("{}; warm environments are being removed to make room: {}", why.message, names.join(", "));
        return Ok(PassError { message, ..why });
    }
    Ok(why)
}
