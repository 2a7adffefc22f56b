//! What is hidden and what is not there take the same time to be told apart from nothing: asked by turns, compared by their medians.

use super::Town;
use super::panel::Browser;
use serde_json::json;
use std::time::{Duration, Instant};

const PAIRS: usize = 500;
/// Generous: what is to be found is a look-up, a hash or a wait that only one of the two has.
const MOST: f64 = 1.5;

fn median(mut all: Vec<Duration>) -> f64 {
    all.sort_unstable();
    all[all.len() / 2].as_secs_f64() * 1e6
}

/// Says both medians, and how they stand to each other.
fn compare(what: &str, hidden: Vec<Duration>, missing: Vec<Duration>) {
    let (hidden, missing) = (median(hidden), median(missing));
    println!("times: {what}: hidden {hidden:.1} µs, missing {missing:.1} µs: x {:.3}", hidden / missing);
    assert!((1.0 / MOST..MOST).contains(&(hidden / missing)), "{what}: {hidden:.1} µs, {missing:.1} µs");
}

#[tokio::test]
async fn what_is_hidden_takes_no_longer_than_what_is_not_there() {
    let kinds = [
        ("a workspace", "namespaces/team/workspaces/of-owner", "namespaces/teax/workspaces/of-owner"),
        ("a private one in a public project", "namespaces/open/workspaces/hidden", "namespaces/open/workspaces/hiddex"),
        ("a project", "projects/team", "projects/teax"),
        ("a secret", "namespaces/team/secrets/git", "namespaces/teax/secrets/git"),
        ("a route", "namespaces/team/routes/web", "namespaces/teax/routes/web"),
        ("a group", "groups/devs", "groups/devx"),
        ("a user", "users/owner", "users/ownex"),
        ("a server", "dockerservers/for-others", "dockerservers/for-otherx"),
    ];
    let mut town = Town::new().await;
    for (number, (what, hidden, missing)) in kinds.into_iter().enumerate() {
        // More than two thousand requests at once nobody has.
        if number % 2 == 1 {
            town = Town::new().await;
        }
        let (mut of_hidden, mut of_missing) = (Vec::new(), Vec::new());
        for turn in 0..PAIRS * 2 {
            // By turns which is first: whoever is second may find things warm.
            let first = (turn / 2 + turn) % 2 == 0;
            let (path, took) = if first { (hidden, &mut of_hidden) } else { (missing, &mut of_missing) };
            let begun = Instant::now();
            let (code, _) = town.get("stranger", path).await;
            took.push(begun.elapsed());
            assert_eq!(code, 404, "{path}");
        }
        compare(what, of_hidden, of_missing);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_does_the_way_from_a_hidden_workspace_over_the_panel() {
    let town = Town::new().await;
    let link = json!({"user": "stranger"}).to_string();
    let (_, link) = town.raw(Some("admin"), "POST", "/devsanctum/links", "application/json", link).await;
    let link: serde_json::Value = serde_json::from_str(&link).unwrap();
    let mut stranger = Browser::new(&town);
    assert_eq!(stranger.form(link["path"].as_str().unwrap(), &[("password", "correct horse battery")]).await, 200);
    let (_, workspace) = town.get("admin", "namespaces/team/workspaces/of-owner").await;
    let uid = workspace["metadata"]["uid"].as_str().unwrap().to_owned();
    let hidden = format!("/open?workspace={uid}&host=team.example.com&to=/&nonce=x");
    let missing = format!("/open?workspace={}&host=teax.example.com&to=/&nonce=x", "0".repeat(uid.len()));
    let by_host = ["team", "teax"].map(|name| format!("/open?workspace=&host={name}.example.com&to=/&nonce=x"));
    for (what, hidden, missing) in [("by its uid", &hidden, &missing), ("by its host", &by_host[0], &by_host[1])] {
        let (mut of_hidden, mut of_missing) = (Vec::new(), Vec::new());
        for turn in 0..PAIRS * 2 {
            let first = (turn / 2 + turn) % 2 == 0;
            let (path, took) = if first { (hidden, &mut of_hidden) } else { (missing, &mut of_missing) };
            let begun = Instant::now();
            let (code, ..) = stranger.get(path).await;
            took.push(begun.elapsed());
            assert_eq!(code, 404, "{path}");
        }
        compare(what, of_hidden, of_missing);
    }
}
