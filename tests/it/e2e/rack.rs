//! What tests of a server that is added by hand do: the server is `rack`, and its workspace `w0`.

use super::records;
use super::world::{World, until};
use crate::support::devsanctum;
use serde_json::{Value, json};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

/// What `server` says, and how it ends.
pub fn server(world: &World<'_>, args: &[&str]) -> (Option<i32>, String) {
    let done = devsanctum().arg("--state-dir").arg(world.state_dir()).arg("server").args(args).output().unwrap();
    (done.status.code(), String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr))
}

/// Waits until its condition `Reachable` begins like this: `True Answers`.
pub async fn reachable(world: &World<'_>, wanted: &str) {
    until(&format!("the server to be {wanted}"), SOON, async || {
        let status = world.servers().get("rack").await.unwrap().status.unwrap_or_default();
        let found = status.conditions.iter().find(|c| c.type_ == "Reachable");
        let now = found.map(|c| format!("{} {}: {}", c.status, c.reason, c.message)).unwrap_or_default();
        if now.starts_with(wanted) { Ok(()) } else { Err(now) }
    })
    .await;
}

/// Merges into a record, by its path after the API's version.
pub async fn merge(world: &World<'_>, path: &str, body: Value) {
    let request =
        http::Request::patch(format!("/apis/devsanctum.io/v1/{path}")).header("content-type", "application/merge-patch+json");
    world.client.request::<Value>(request.body(body.to_string().into_bytes()).unwrap()).await.unwrap();
}

/// Makes a workspace that nothing is routed to.
pub async fn with_workspace(world: &World<'_>) {
    world.create(records::user()).await;
    let mut template = records::template("plain");
    template["spec"]["ports"] = json!([]);
    world.create(template).await;
    world.create(records::project("team", "plain")).await;
    world.create(records::workspace("w0")).await;
    runs(world).await;
}

/// Waits until the workspace runs.
pub async fn runs(world: &World<'_>) {
    until("the workspace to run", SOON, async || {
        let status = world.workspace("w0").await.status.unwrap_or_default();
        if format!("{:?}", status.phase) == "Running" { Ok(()) } else { Err(format!("{:?}", status.conditions)) }
    })
    .await;
}

/// A command in the workspace says what it should.
pub fn says_its_name(world: &World<'_>) {
    let mut exec = devsanctum();
    exec.arg("--state-dir").arg(world.state_dir()).args(["exec", "-n", "team", "w0", "--", "hostname"]);
    let said = exec.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&said.stdout), "w0\n", "{}", String::from_utf8_lossy(&said.stderr));
}
