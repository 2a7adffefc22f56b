//! `workspace move`: from one server to another.

use super::args::MoveArgs;
use super::connect::Context;
use super::failure::{Failure, TIMED_OUT};
use super::workspace::{LOOK_EVERY, Named, arrived};
use super::{logs, target, ui};
use crate::resource::conditions::find;
use crate::resource::{MoveStep, Workspace};
use serde_json::json;
use tokio::time::Instant;

/// Why it does not move, and will not without another change of a record.
const FOR_GOOD: [&str; 3] = ["SharedFolders", "OtherVolumes", "AskedForHere"];

/// Runs `workspace move`.
///
/// # Errors
/// When there is no such workspace or server, it cannot move, or it is not there in time.
pub async fn run(context: &Context, args: &MoveArgs) -> Result<(), Failure> {
    let it = Named { context, def: target::kind("workspace")?, name: logs::workspace(&args.workspace)? };
    let before = it.read().await?;
    let is_there = before.server() == Some(&args.to) && before.moving().is_none();
    if is_there && before.spec.docker_server.as_ref().is_none_or(|s| *s == args.to) {
        return ui::say(&format!("workspace/{} is on {} already\n", it.name, args.to));
    }
    let changed = it.change(&json!({"spec": {"dockerServer": args.to}})).await?;
    if before.server().is_none() || !args.wait {
        return ui::say(&format!("workspace/{} moves to {}\n", it.name, args.to));
    }
    wait(&it, args, &before, &changed).await?;
    ui::say(&format!("workspace/{} moved to {}\n", it.name, args.to))
}

/// Waits until it is there, telling how far it is.
async fn wait(it: &Named<'_>, args: &MoveArgs, before: &Workspace, changed: &Workspace) -> Result<(), Failure> {
    let (begun, mut told) = (Instant::now(), String::new());
    loop {
        let now = it.read().await?;
        if now.server() == Some(&args.to) && now.moving().is_none() && arrived(&now, changed.metadata.generation, None) {
            return Ok(());
        }
        if let Some(other) = overruled(&now, &args.to, changed.metadata.generation) {
            return Err(Failure::new(format!(
                "somebody else has asked for another server for workspace {:?} meanwhile: {other}",
                it.name
            )));
        }
        let said = words(&now);
        if let Some(why) = refused(&now, changed.metadata.generation)
            && (gives_back(it, before, &now).await || begun.elapsed() > args.timeout)
        {
            return Err(Failure::new(format!("workspace {:?} stays where it is: {why}", it.name)));
        }
        if begun.elapsed() > args.timeout {
            let timeout = humantime::format_duration(args.timeout);
            let words = format!("workspace {:?} is not on {} after {timeout}, and goes on moving: {said}", it.name, args.to);
            return Err(Failure { code: TIMED_OUT, ..Failure::new(words) });
        }
        if said != told && !said.is_empty() {
            ui::progress(&said);
            told = said;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Asks for what was asked for before, so that it does not move one day that nobody thinks of it. A record that somebody has changed
/// since it was read is looked at once more first.
async fn gives_back(it: &Named<'_>, before: &Workspace, now: &Workspace) -> bool {
    let read = &now.metadata.resource_version;
    let back = json!({"metadata": {"resourceVersion": read}, "spec": {"dockerServer": before.spec.docker_server}});
    it.change(&back).await.is_ok()
}

/// Which other server was asked for since that generation, in words.
fn overruled(now: &Workspace, to: &str, generation: Option<i64>) -> Option<String> {
    let asked = now.spec.docker_server.as_deref();
    (now.metadata.generation > generation && asked != Some(to)).then(|| asked.unwrap_or("any").to_owned())
}

/// How far it is, or what it waits for.
pub fn words(now: &Workspace) -> String {
    let Some(status) = &now.status else { return String::new() };
    let moved = find(&status.conditions, "Moved").filter(|c| c.status != "True").map(|c| c.message.clone());
    match now.moving().map(|it| it.step) {
        Some(MoveStep::Stopping) => "stopping it where it is".into(),
        Some(MoveStep::Starting) => {
            let waits = status.message.clone().filter(|m| !m.is_empty());
            waits.map_or_else(|| "starting it there".into(), |m| format!("starting it there: {m}"))
        }
        _ => moved.or_else(|| status.message.clone()).unwrap_or_default(),
    }
}

/// Why it does not move as that generation of its record asks, and will not.
pub fn refused(now: &Workspace, generation: Option<i64>) -> Option<String> {
    let status = now.status.as_ref().filter(|s| s.observed_generation >= generation)?;
    let said = find(&status.conditions, "Moved").filter(|c| c.status != "True" && FOR_GOOD.contains(&c.reason.as_str()))?;
    Some(said.message.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn workspace(status: Value) -> Workspace {
        let record = json!({"apiVersion": "devsanctum.io/v1", "kind": "Workspace", "metadata": {"name": "web", "generation": 2},
            "spec": {"owner": "ada", "dockerServer": "b"}, "status": status});
        serde_json::from_value(record).expect("a workspace")
    }

    fn said(reason: &str, generation: i64) -> Value {
        let moved = json!({"type": "Moved", "status": "False", "reason": reason, "message": "words",
            "lastTransitionTime": "2026-01-01T00:00:00Z"});
        json!({"dockerServer": "a", "observedGeneration": generation, "conditions": [moved], "message": "not ready"})
    }

    #[test]
    fn only_what_no_waiting_helps_is_a_refusal() {
        assert_eq!(refused(&workspace(said("SharedFolders", 2)), Some(2)), Some("words".into()));
        assert_eq!(refused(&workspace(said("SharedFolders", 1)), Some(2)), None, "that was said of what was asked before");
        assert_eq!(refused(&workspace(said("OtherVolumes", 2)), Some(2)), Some("words".into()));
        assert_eq!(refused(&workspace(said("NoEligibleServer", 2)), Some(2)), None);
    }

    #[test]
    fn one_that_somebody_else_sends_elsewhere_is_not_waited_for() {
        let now = workspace(said("Carrying", 2));
        assert_eq!(overruled(&now, "b", Some(1)), None, "another change");
        assert_eq!(overruled(&now, "c", Some(2)), None, "as it was asked");
        assert_eq!(overruled(&now, "c", Some(1)), Some("b".into()));
    }

    #[test]
    fn each_step_has_its_words() {
        let at = |step: &str| {
            let mut status = said("Carrying", 2);
            status["move"] = json!({"id": "x", "from": "a", "to": "b", "step": step, "startedAt": "2026-01-01T00:00:00Z"});
            words(&workspace(status))
        };
        assert_eq!(at("STOPPING"), "stopping it where it is");
        assert_eq!(at("COPYING"), "words");
        assert_eq!(at("STARTING"), "starting it there: not ready");
        assert_eq!(at("REMOVING"), "words");
    }
}
