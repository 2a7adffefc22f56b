//! How an image comes to a server: it is pulled, or built; and a built one goes on to a registry, for other servers.

use super::{Key, Turn};
use crate::controllers::context::Context;
use crate::controllers::events;
use crate::controllers::registries;
use crate::controllers::server::shared_network;
use crate::engine::{Engine, EngineError, ImageBuild, Labels};
use crate::image::Recipe;
use crate::plan::image::Image;
use crate::resource::labels;
use kube::runtime::reflector::ObjectRef;
use std::sync::Arc;
use std::time::Duration;

/// Of a build that failed, the builder's last words are told: so many lines, of so many characters at most.
const LAST_LINES: usize = 6;
const LONGEST_LINE: usize = 160;
/// Whether another server has built it is asked this often.
const BETWEEN: Duration = Duration::from_secs(1);

/// Brings it, or says in words why not.
pub async fn bring(ctx: &Context, key: &Key, engine: &Arc<dyn Engine>, image: &Image) -> Result<(), String> {
    match image {
        Image::AsItIs(name) => {
            let login = registries::login(ctx, name).await?;
            engine.pull(name, login.as_ref()).await.map_err(|e| words(&e))
        }
        Image::Built(recipe) => match registries::shared(ctx, &key.1) {
            Some(shared) => share(ctx, key, engine, recipe, shared).await,
            None => build(ctx, key, engine.as_ref(), recipe).await,
        },
    }
}

/// Takes it from the registry, or builds it and pushes it there. While one server does, others wait for it.
async fn share(ctx: &Context, key: &Key, engine: &Arc<dyn Engine>, recipe: &Recipe, shared: String) -> Result<(), String> {
    let turn = loop {
        match take(ctx, key, engine.as_ref(), &shared).await {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            // A registry that is down is in nobody's way.
            Err(words) => tracing::warn!(server = key.0, image = shared, words, "cannot pull a built image: building it"),
        }
        if let Some(turn) = ctx.supply.turn(&key.1) {
            break turn;
        }
        ctx.supply.at_step(key, "another server builds it, and it comes from the registry then");
        while ctx.supply.turns().contains(&key.1) {
            tokio::time::sleep(BETWEEN).await;
        }
    };
    build(ctx, key, engine.as_ref(), recipe).await?;
    tokio::spawn(push(ctx.clone(), key.clone(), engine.clone(), shared, turn));
    Ok(())
}

/// Takes an image from the registry; `false` where it has none of the name.
async fn take(ctx: &Context, key: &Key, engine: &dyn Engine, shared: &str) -> Result<bool, String> {
    let login = registries::login(ctx, shared).await?;
    match engine.pull(shared, login.as_ref()).await {
        Ok(()) => engine.tag(shared, &key.1).await.map(|()| true).map_err(|e| words(&e)),
        Err(EngineError::NotFound(_) | EngineError::ImageMissing(_)) => Ok(false),
        Err(other) => Err(words(&other)),
    }
}

async fn push(ctx: Context, key: Key, engine: Arc<dyn Engine>, shared: String, turn: Turn) {
    let pushed = async {
        let login = registries::login(&ctx, &shared).await?;
        engine.tag(&key.1, &shared).await.map_err(|e| words(&e))?;
        engine.push(&shared, login.as_ref()).await.map_err(|e| words(&e))
    };
    if let Some(Err(why)) = ctx.frame.stop.run_until_cancelled(pushed).await {
        tracing::warn!(server = key.0, image = shared, why, "cannot push a built image");
        if let Some(record) = ctx.caches.servers.get(&ObjectRef::new(&key.0)) {
            let note = format!("{shared} cannot be pushed, so other servers build it themselves: {why}");
            events::tell(&ctx.frame, record.as_ref(), true, "PushFailed", note);
        }
    }
    drop(turn);
}

/// Builds on the network that workspaces are on: what is run meanwhile reaches no more than they do.
async fn build(ctx: &Context, key: &Key, engine: &dyn Engine, recipe: &Recipe) -> Result<(), String> {
    let wanted = ImageBuild {
        tag: key.1.clone(),
        files: recipe.files(),
        labels: Labels::from([(labels::BUILT_BY.to_owned(), ctx.instance.clone())]),
        network: Some(shared_network(&ctx.instance)),
        login: registries::login(ctx, &recipe.base).await?,
    };
    let log = ctx.builds.begin(&key.0, &key.1);
    let said = |line: &str| {
        if line.starts_with("Step ") {
            ctx.supply.at_step(key, line);
        }
        log.say(line);
    };
    let done = engine.build(&wanted, &said).await;
    if let Err(e) = &done {
        log.say(&words(e));
    }
    log.end();
    done.map_err(|e| {
        // The last of these lines is the error itself, which comes first here.
        let last: Vec<String> = log.last(LAST_LINES + 1).iter().map(|line| short(line)).collect();
        format!("{}\n{}", end_of(&words(&e)), last[..last.len().saturating_sub(1)].join("\n"))
    })
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
    fn of_a_script_that_failed_its_end_is_told() {
        assert_eq!(end_of("The command '/bin/sh -c a\nb' returned a non-zero code: 1"), "…b' returned a non-zero code: 1");
        assert_eq!(end_of("no such image"), "no such image");
    }

    #[test]
    fn a_long_line_is_told_from_its_end() {
        let long = format!("a{}", "ü".repeat(LONGEST_LINE));
        assert_eq!(short(&long), format!("…{}", "ü".repeat(LONGEST_LINE)));
        assert_eq!(short("a"), "a");
    }
}
