//! Docker's classic builder, as far as a controller sees it.

use super::control::FakeEngine;
use super::images::tagged;
use super::shell::{Step, program};
use super::world::digest;
use axum::body::Bytes;
use axum::extract::{Extension, Query};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::io::Read;

/// Lines of what is done, and the words of an error in the stream, with status 200.
pub(super) async fn build(
    Extension(fake): Extension<FakeEngine>,
    Query(params): Query<HashMap<String, String>>,
    body: Bytes,
) -> Response {
    let mut told = Vec::new();
    let built = dockerfile(&body).and_then(|text| run(&fake, &text, &mut told).map(|()| labels(text.lines())));
    match built {
        Ok(labels) => {
            let name = params.get("t").cloned().unwrap_or_default();
            let id = fake.world().learn_labelled(&name, labels);
            told.push(json!({ "aux": { "ID": id } }));
            told.push(json!({ "stream": format!("Successfully tagged {}\n", tagged(&name)) }));
        }
        Err(words) => told.push(json!({ "errorDetail": { "message": words }, "error": words })),
    }
    told.iter().map(|line| format!("{line}\r\n")).collect::<String>().into_response()
}

/// The Dockerfile of a build context.
fn dockerfile(context: &[u8]) -> Result<String, String> {
    let missing = || "unexpected error reading Dockerfile: the build context has none".to_owned();
    let mut archive = tar::Archive::new(context);
    for entry in archive.entries().map_err(|_| missing())? {
        let mut entry = entry.map_err(|e| e.to_string())?;
        if entry.path().is_ok_and(|p| p.as_os_str() == "Dockerfile") {
            let mut text = String::new();
            return entry.read_to_string(&mut text).map(|_| text).map_err(|e| e.to_string());
        }
    }
    Err(missing())
}

/// What its `LABEL` instructions set, as this program prints them.
fn labels<'a>(lines: impl Iterator<Item = &'a str>) -> BTreeMap<String, String> {
    let all = lines.filter_map(|line| line.strip_prefix("LABEL ")).flat_map(|rest| rest.split("\" \""));
    let pairs = all.filter_map(|pair| pair.trim_matches('"').split_once("\"=\""));
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn run(fake: &FakeEngine, text: &str, told: &mut Vec<Value>) -> Result<(), String> {
    let lines: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
    let step_id = |done: usize| format!("sha256:{}", digest(&format!("step/{}", lines[..done].join("\n"))));
    for (i, line) in lines.iter().enumerate() {
        fake.world().images.remove(&step_id(i));
        told.push(json!({ "stream": format!("Step {}/{} : {line}", i + 1, lines.len()) }));
        told.push(json!({ "stream": "\n" }));
        match line.split_once(' ') {
            Some(("FROM", image)) => begin(fake, image)?,
            Some(("RUN", argv)) => step(argv, told).inspect_err(|_| {
                // The first step is the image that it begins with.
                if i > 1 {
                    fake.world().leave_unnamed(&step_id(i), labels(lines[..i].iter().copied()));
                }
            })?,
            Some(_) => {}
            None => return Err(format!("dockerfile parse error line {}: {line} requires arguments", i + 1)),
        }
    }
    Ok(())
}

/// What is not there is pulled.
fn begin(fake: &FakeEngine, image: &str) -> Result<(), String> {
    let mut world = fake.world();
    if world.image(image).is_some() {
        return Ok(());
    }
    if !world.registry.contains_key(&tagged(image)) {
        return Err(format!("manifest for {} not found: manifest unknown: manifest unknown", tagged(image)));
    }
    world.learn_image(image);
    Ok(())
}

fn step(argv: &str, told: &mut Vec<Value>) -> Result<(), String> {
    let argv: Vec<String> = serde_json::from_str(argv).map_err(|e| format!("RUN cannot be read: {e}"))?;
    let steps = program(&argv, false).map_err(|missing| format!("exec: {:?}: executable file not found in $PATH", missing.0))?;
    for step in steps {
        match step {
            Step::Out(text) | Step::Err(text) => told.push(json!({ "stream": String::from_utf8_lossy(&text) })),
            Step::Exit(code) if code != 0 => {
                return Err(format!("The command '{}' returned a non-zero code: {code}", argv.join(" ")));
            }
            Step::Exit(_) => return Ok(()),
            _ => {}
        }
    }
    Ok(())
}
