//! Images on servers: one is pulled or built beside the passes, so that it never holds one up; once for all who wait.

use super::Site;
use crate::controllers::caches::InOrder;
use crate::controllers::context::Context;
use crate::controllers::retry::{self, PassError};
use crate::controllers::server::shared_network;
use crate::controllers::status::Pass;
use crate::engine::{Engine, EngineError, ImageBuild, Labels};
use crate::image::Recipe;
use crate::plan::image::Image;
use crate::plan::workspace::WantedContainer;
use crate::resource::{WorkspacePhase, WorkspaceStatus, labels};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// What is under way is asked after this often.
const AGAIN: Duration = Duration::from_secs(2);
/// A presence seen this recently is believed without asking again.
const BELIEVED: Duration = Duration::from_secs(30);
/// Of a build that failed, the builder's last words are told: so many lines, of so many characters at most.
const LAST_LINES: usize = 6;
const LONGEST_LINE: usize = 160;

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
pub struct Supply(Mutex<BTreeMap<Key, State>>);

impl Supply {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, State>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
    for image in images.values() {
        let have = have_one(ctx, &site.server, &site.engine, image).await;
        if have.is_err() && pass.status.container_id.is_none() {
            pass.status.phase = WorkspacePhase::Pending;
        }
        have?;
        pass.holds("ImageReady", "Present");
    }
    if let Some(main) = made.iter().find(|c| c.role == "main") {
        pass.status.image = Some(main.image.reference());
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

/// `Step 3/7`, of what a builder says of a step.
fn at(step: Option<&str>) -> String {
    let number = step.and_then(|line| line.split(" : ").next()).unwrap_or_default();
    if number.is_empty() { String::new() } else { format!(" ({})", number.to_lowercase()) }
}

async fn fetch(ctx: Context, key: Key, engine: Arc<dyn Engine>, image: Image, failures: u32) {
    let brought = async {
        match &image {
            Image::AsItIs(name) => engine.pull(name).await.map_err(|e| words(&e)),
            Image::Built(recipe) => build(&ctx, &key, engine.as_ref(), recipe).await,
        }
    };
    let Some(result) = ctx.frame.stop.run_until_cancelled(brought).await else { return };
    ctx.supply.set(
        &key,
        match result {
            Ok(()) => State::Present(Instant::now()),
            Err(words) => State::Failed { words, failures: failures + 1, at: Instant::now() },
        },
    );
    let placed = |w: &crate::resource::Workspace| w.status.as_ref().is_some_and(|s| s.docker_server.as_ref() == Some(&key.0));
    ctx.caches.workspaces.in_order(placed).iter().for_each(|w| ctx.triggers.workspaces.fire(w));
    ctx.triggers.servers.fire_named(None, &key.0);
}

/// Builds on the network that workspaces are on: what is run meanwhile reaches no more than they do.
async fn build(ctx: &Context, key: &Key, engine: &dyn Engine, recipe: &Recipe) -> Result<(), String> {
    let wanted = ImageBuild {
        tag: key.1.clone(),
        files: recipe.files(),
        labels: Labels::from([(labels::BUILT_BY.to_owned(), ctx.instance.clone())]),
        network: Some(shared_network(&ctx.instance)),
    };
    let last = Mutex::new(VecDeque::new());
    let said = |line: &str| {
        if line.starts_with("Step ") {
            ctx.supply.at_step(key, line);
        }
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        last.truncate(LAST_LINES - 1);
        last.push_front(short(line));
    };
    let done = engine.build(&wanted, &said).await;
    let last = last.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.map_err(|e| format!("{}\n{}", end_of(&words(&e)), last.into_iter().rev().collect::<Vec<_>>().join("\n")))
}

fn words(error: &EngineError) -> String {
    match error {
        EngineError::ImageMissing(words) | EngineError::NotFound(words) | EngineError::Failed(words) => words.clone(),
        other => other.to_string(),
    }
}

/// The last line of what a builder says in the end: it repeats the whole script of a step that failed.
fn end_of(words: &str) -> String {
    match words.trim_end().rsplit_once('\n') {
        Some((_, last)) => short(&format!("…{last}")),
        None => short(words),
    }
}

/// The end of a long line: a compiler's flags come before what it says.
fn short(line: &str) -> String {
    match line.char_indices().rev().nth(LONGEST_LINE) {
        Some((at, c)) => format!("…{}", &line[at + c.len_utf8()..]),
        None => line.to_owned(),
    }
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
    fn of_a_script_that_failed_its_end_is_told() {
        assert_eq!(end_of("The command '/bin/sh -c a\nb' returned a non-zero code: 1"), "…b' returned a non-zero code: 1");
        assert_eq!(end_of("no such image"), "no such image");
    }

    #[test]
    fn of_a_full_disk_it_is_told_that_room_must_be_made() {
        assert!(to_do("local", "dd: error writing '/big': No space left on device").starts_with("Free disk space on local"));
        assert!(to_do("local", "no such thing").contains("correct its template"));
    }

    #[test]
    fn a_long_line_is_told_from_its_end() {
        let long = format!("a{}", "ü".repeat(LONGEST_LINE));
        assert_eq!(short(&long), format!("…{}", "ü".repeat(LONGEST_LINE)));
        assert_eq!(short("a"), "a");
    }
}
