//! Images on servers: one is pulled or built beside the passes, so that it never holds one up; once for all who wait.

mod bring;
mod log;

pub use log::BuildLogs;

use super::Site;
use crate::controllers::caches::InOrder;
use crate::controllers::context::Context;
use crate::controllers::retry::{self, PassError};
use crate::controllers::status::Pass;
use crate::engine::Engine;
use crate::plan::image::Image;
use crate::plan::workspace::WantedContainer;
use crate::resource::{Workspace, WorkspacePhase, WorkspaceStatus};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// What is under way is asked after this often.
const AGAIN: Duration = Duration::from_secs(2);
/// Whether anybody still waits for a build is asked this often.
const ABANDONED: Duration = Duration::from_secs(5);
/// A presence seen this recently is believed without asking again.
const BELIEVED: Duration = Duration::from_secs(30);
#[derive(Clone)]
enum State {
    Running {
        /// The words of an earlier try that failed.
        failed: Option<String>,
        /// What a builder says of the step it is at.
        step: Option<String>,
    },
    Failed {
        words: String,
        failures: u32,
        at: Instant,
    },
    Present(Instant),
}

/// Who pulls or builds an image.
enum Begun {
    ByUs,
    ByOthers,
    /// It is there by now.
    Done,
}

/// A server and an image's name.
type Key = (String, String);

/// Images under way, failed or there lately, by server and name.
#[derive(Default)]
pub struct Supply {
    images: Mutex<BTreeMap<Key, State>>,
    /// Images that are shared and being built, or pushed, for all servers.
    turns: Mutex<BTreeSet<String>>,
}

/// The turn to build an image that is shared; others wait until it is dropped.
struct Turn {
    supply: Arc<Supply>,
    tag: String,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.supply.turns().remove(&self.tag);
    }
}

impl Supply {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, State>> {
        self.images.lock().unwrap_or_else(PoisonError::into_inner)
    }
    fn turns(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// The turn to build an image, unless somebody else has it.
    fn turn(self: &Arc<Self>, tag: &str) -> Option<Turn> {
        self.turns().insert(tag.to_owned()).then(|| Turn { supply: self.clone(), tag: tag.to_owned() })
    }
    fn get(&self, key: &Key) -> Option<State> {
        self.lock().get(key).cloned()
    }
    fn set(&self, key: &Key, state: State) {
        self.lock().insert(key.clone(), state);
    }
    /// Takes it on, unless somebody else did while the engine was asked.
    fn begin(&self, key: &Key, failed: Option<String>) -> Begun {
        let mut all = self.lock();
        match all.get(key) {
            Some(State::Running { .. }) => Begun::ByOthers,
            Some(State::Present(at)) if at.elapsed() < BELIEVED => Begun::Done,
            _ => {
                all.insert(key.clone(), State::Running { failed, step: None });
                Begun::ByUs
            }
        }
    }
    fn at_step(&self, key: &Key, line: &str) {
        if let Some(State::Running { step, .. }) = self.lock().get_mut(key) {
            *step = Some(line.to_owned());
        }
    }
    /// The engine says the image is gone after all.
    pub fn forget(&self, server: &str, image: &str) {
        self.lock().remove(&(server.to_owned(), image.to_owned()));
    }
}

/// Makes sure that the images of containers to be made are on the server, pulling or building what is not.
pub async fn have(
    ctx: &Context,
    site: &Site,
    made: &[&WantedContainer],
    pass: &mut Pass<WorkspaceStatus>,
) -> Result<(), PassError> {
    let images: BTreeMap<String, &Image> = made.iter().map(|c| (c.image.reference(), &c.image)).collect();
    if let Some(main) = made.iter().find(|c| c.role == "main") {
        pass.status.image = Some(main.image.reference());
    }
    for image in images.values() {
        let have = have_one(ctx, &site.server, &site.engine, image).await;
        if have.is_err() && pass.status.container_id.is_none() {
            pass.status.phase = WorkspacePhase::Pending;
        }
        have?;
        pass.holds("ImageReady", "Present");
    }
    Ok(())
}

/// Makes sure that an image is on the server; while it is on its way, and when it cannot be had, that is the error.
pub async fn have_one(ctx: &Context, server: &str, engine: &Arc<dyn Engine>, image: &Image) -> Result<(), PassError> {
    let key = (server.to_owned(), image.reference());
    let known = ctx.supply.get(&key);
    match &known {
        Some(State::Present(at)) if at.elapsed() < BELIEVED => return Ok(()),
        Some(State::Running { failed, step }) => return Err(under_way(server, image, failed.as_deref(), step.as_deref(), AGAIN)),
        _ => {}
    }
    if engine.image(&key.1).await.map_err(|e| PassError::engine("ImageReady", &e))?.is_some() {
        ctx.supply.set(&key, State::Present(Instant::now()));
        return Ok(());
    }
    let (failures, words) = match known {
        Some(State::Failed { words, failures, at }) => {
            if let Some(left) = retry::beside(failures).checked_sub(at.elapsed()) {
                return Err(under_way(server, image, Some(&words), None, left.max(Duration::from_secs(1))));
            }
            (failures, Some(words))
        }
        _ => (0, None),
    };
    let says = under_way(server, image, words.as_deref(), None, AGAIN);
    match ctx.supply.begin(&key, words) {
        Begun::ByUs => {}
        Begun::ByOthers => return Err(says),
        Begun::Done => return Ok(()),
    }
    tokio::spawn(fetch(ctx.clone(), key, engine.clone(), image.clone(), failures));
    Err(says)
}

/// Ends once no workspace waits for an image that is built for workspaces.
async fn abandoned(ctx: &Context, key: &Key, image: &Image) {
    let waits = |w: &Workspace| w.server() == Some(&key.0) && w.spec.running && w.metadata.deletion_timestamp.is_none();
    let wants = |w: &Workspace| {
        let found = ctx.caches.environments.of(&ctx.caches, w);
        // What cannot be worked out now may be again in a moment.
        found.is_none_or(|found| found.is_ok_and(|(_, env)| env.image == *image))
    };
    loop {
        tokio::time::sleep(ABANDONED).await;
        let wanted = matches!(image, Image::AsItIs(_)) || ctx.caches.workspaces.in_order(waits).iter().any(|w| wants(w));
        if !wanted {
            tracing::info!(server = key.0, image = key.1, "no workspace waits for it any more: its build is broken off");
            return;
        }
    }
}

/// What is said of an image that is not there yet. What failed before is said until it works: each try would otherwise be two
/// changes of the record, for as long as it fails.
fn under_way(server: &str, image: &Image, failed: Option<&str>, step: Option<&str>, again: Duration) -> PassError {
    let (reason, message) = match (image, failed) {
        (Image::AsItIs(name), None) => ("Pulling", format!("pulling {name} to {server}")),
        (Image::AsItIs(name), Some(words)) => (
            "ImagePullFailed",
            format!(
                "{name} is not on {server} and cannot be pulled: {words}. Trying again by itself; or change the template's base"
            ),
        ),
        (Image::Built(_), None) => ("Building", format!("building its image on {server}{}", at(step))),
        (Image::Built(_), Some(words)) => {
            ("ImageBuildFailed", format!("its image cannot be built on {server}: {words}\n{}", to_do(server, words)))
        }
    };
    PassError::waiting("ImageReady", reason, message, again)
}

/// What a person can do about a build that failed.
fn to_do(server: &str, words: &str) -> String {
    if words.to_ascii_lowercase().contains("no space left on device") {
        return format!("Free disk space on {server}: it is tried again by itself");
    }
    "Trying again by itself; or correct its template or features".into()
}

/// `Step 3/7`, of what a builder says of a step; anything else as it is.
fn at(step: Option<&str>) -> String {
    match step {
        Some(line) if line.starts_with("Step ") => format!(" ({})", line.split(" : ").next().unwrap_or_default().to_lowercase()),
        Some(line) => format!(": {line}"),
        None => String::new(),
    }
}

async fn fetch(ctx: Context, key: Key, engine: Arc<dyn Engine>, image: Image, failures: u32) {
    let brought = async {
        tokio::select! {
            brought = bring::bring(&ctx, &key, &engine, &image) => Some(brought),
            // Whoever leaves a builder ends its work.
            () = abandoned(&ctx, &key, &image) => None,
        }
    };
    let Some(brought) = ctx.frame.stop.run_until_cancelled(brought).await else { return };
    let Some(result) = brought else { return ctx.supply.forget(&key.0, &key.1) };
    ctx.supply.set(
        &key,
        match result {
            Ok(()) => State::Present(Instant::now()),
            Err(words) => State::Failed { words, failures: failures + 1, at: Instant::now() },
        },
    );
    let placed = |w: &Workspace| w.status.as_ref().is_some_and(|s| s.docker_server.as_ref() == Some(&key.0));
    ctx.caches.workspaces.in_order(placed).iter().for_each(|w| ctx.triggers.workspaces.fire(w));
    ctx.triggers.servers.fire_named(None, &key.0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_step_its_number_is_told() {
        assert_eq!(at(Some("Step 3/7 : RUN [\"x\"]")), " (step 3/7)");
        assert_eq!(at(None), "");
    }

    #[test]
    fn of_a_full_disk_it_is_told_that_room_must_be_made() {
        assert!(to_do("local", "dd: error writing '/big': No space left on device").starts_with("Free disk space on local"));
        assert!(to_do("local", "no such thing").contains("correct its template"));
    }
}
