//! Images on servers: a pull runs beside the passes, so that it never holds one up.

use super::Site;
use crate::controllers::caches::InOrder;
use crate::controllers::context::Context;
use crate::controllers::retry::PassError;
use crate::controllers::status::Pass;
use crate::engine::{Engine, EngineError};
use crate::plan::workspace::WantedContainer;
use crate::resource::{WorkspacePhase, WorkspaceStatus};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// First wait after a failed pull; doubles with each failure.
const FIRST_RETRY: Duration = Duration::from_secs(5);
/// Longest wait after failed pulls.
const LONGEST_RETRY: Duration = Duration::from_secs(300);
/// A pull that is under way is asked after this often.
const AGAIN: Duration = Duration::from_secs(2);
/// A presence seen this recently is believed without asking again.
const BELIEVED: Duration = Duration::from_secs(30);

#[derive(Clone)]
enum Pull {
    /// Under way; if an earlier one failed, with these words.
    Running(Option<String>),
    Failed {
        words: String,
        failures: u32,
        at: Instant,
    },
    Present(Instant),
}

/// Pulls under way, failed or done lately, by server and image.
#[derive(Default)]
pub struct Pulls(Mutex<BTreeMap<(String, String), Pull>>);

impl Pulls {
    fn get(&self, key: &(String, String)) -> Option<Pull> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }
    fn set(&self, key: &(String, String), pull: Pull) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone(), pull);
    }
    /// The engine says the image is gone after all.
    pub fn forget(&self, server: &str, image: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&(server.to_owned(), image.to_owned()));
    }
}

/// Makes sure that the images of containers to be made are on the server, pulling what is not.
pub async fn have(
    ctx: &Context,
    site: &Site,
    made: &[&WantedContainer],
    pass: &mut Pass<WorkspaceStatus>,
) -> Result<(), PassError> {
    let images: BTreeSet<&str> = made.iter().map(|c| c.image.as_str()).collect();
    for image in images {
        let have = have_one(ctx, &site.server, &site.engine, image).await;
        if have.is_err() && pass.status.container_id.is_none() {
            pass.status.phase = WorkspacePhase::Pending;
        }
        have?;
        pass.holds("ImageReady", "Present");
    }
    if let Some(main) = made.iter().find(|c| c.role == "main") {
        pass.status.image = Some(main.image.clone());
    }
    Ok(())
}

/// Makes sure that an image is on the server; while it is being pulled, and when it cannot be, that is the error.
pub async fn have_one(ctx: &Context, server: &str, engine: &Arc<dyn Engine>, image: &str) -> Result<(), PassError> {
    let key = (server.to_owned(), image.to_owned());
    let known = ctx.pulls.get(&key);
    match &known {
        Some(Pull::Present(at)) if at.elapsed() < BELIEVED => return Ok(()),
        Some(Pull::Running(failed)) => return Err(pulling(server, image, failed.as_deref(), AGAIN)),
        _ => {}
    }
    if engine.image(image).await.map_err(|e| PassError::engine("ImageReady", &e))?.is_some() {
        ctx.pulls.set(&key, Pull::Present(Instant::now()));
        return Ok(());
    }
    let (failures, words) = match known {
        Some(Pull::Failed { words, failures, at }) => {
            let wait = FIRST_RETRY.saturating_mul(1 << failures.min(10)).min(LONGEST_RETRY);
            if let Some(left) = wait.checked_sub(at.elapsed()) {
                return Err(pulling(server, image, Some(&words), left.max(Duration::from_secs(1))));
            }
            (failures, Some(words))
        }
        _ => (0, None),
    };
    let says = pulling(server, image, words.as_deref(), AGAIN);
    ctx.pulls.set(&key, Pull::Running(words));
    tokio::spawn(pull(ctx.clone(), key, engine.clone(), failures));
    Err(says)
}

/// What is said of an image that is not there yet. What failed before is said until it works: each try would otherwise be two
/// changes of the record, for as long as the image is missing.
fn pulling(server: &str, image: &str, failed: Option<&str>, again: Duration) -> PassError {
    let Some(words) = failed else {
        return PassError::waiting("ImageReady", "Pulling", format!("pulling {image} to {server}"), again);
    };
    let message = format!(
        "{image} is not on {server} and cannot be pulled: {words}. Trying again by itself; or change the template's base"
    );
    PassError::waiting("ImageReady", "ImagePullFailed", message, again)
}

async fn pull(ctx: Context, key: (String, String), engine: Arc<dyn Engine>, failures: u32) {
    let Some(result) = ctx.frame.stop.run_until_cancelled(engine.pull(&key.1)).await else { return };
    ctx.pulls.set(
        &key,
        match result {
            Ok(()) => Pull::Present(Instant::now()),
            Err(EngineError::ImageMissing(words)) | Err(EngineError::NotFound(words)) => failed(words, failures),
            Err(e) => failed(e.to_string(), failures),
        },
    );
    let placed = |w: &crate::resource::Workspace| w.status.as_ref().is_some_and(|s| s.docker_server.as_ref() == Some(&key.0));
    ctx.caches.workspaces.in_order(placed).iter().for_each(|w| ctx.triggers.workspaces.fire(w));
    ctx.triggers.servers.fire_named(None, &key.0);
}

fn failed(words: String, failures: u32) -> Pull {
    Pull::Failed { words, failures: failures + 1, at: Instant::now() }
}
