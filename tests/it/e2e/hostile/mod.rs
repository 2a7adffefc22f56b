//! Values that somebody gives to get more than they are meant for: each is refused by the name of its field, or it is what it
//! is and nothing else, in Dockerfiles, arguments, environments, labels, mounts and Traefik's rules.

mod refused;
mod routed;
mod taken;

use super::world::{World, in_world};
use crate::support::dockerd::TINY;
use devsanctum::resource::labels;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Read;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

/// Texts of one line, for where any text may stand. Whatever looks at one as more than text makes `/pwned`, or fails.
const TEXTS: &[&str] = &[
    "",
    " ",
    "a  b ",
    "\t",
    "'",
    "\"",
    "`",
    "it's \"so\"",
    "`touch /pwned`",
    "$(touch /pwned)",
    "'; touch /pwned; '",
    "\"; touch /pwned; \"",
    "a; touch /pwned",
    "a && touch /pwned",
    "a | touch /pwned",
    "${IFS}",
    "$PATH",
    "$$",
    "${",
    "\\",
    "a\\",
    "\\n",
    "\\\"",
    "%s%n",
    "*",
    "~",
    "#",
    "!!",
    "-n",
    "--",
    "--upload-pack=touch /pwned",
    "-oProxyCommand=touch /pwned",
    "{{option.O1}}",
    "{{option.",
    "}}",
    "{{ .Env }}",
    "<<EOF",
    "<<'EOF' cat",
    "FROM scratch",
    "USER root",
    "A=B C=D",
    "[\"a\"]",
    "\\u0000",
    "Host(`a`) || PathPrefix(`/`)",
    "\u{2028}FROM scratch",
    "\u{85}RUN touch /pwned",
    "\u{b}\u{c}",
    "\u{202e}gnp.exe",
    "\u{feff}x",
    "\u{1b}[2J\u{7}",
    "аpple.com",
    "é\u{301}",
    "\u{10ffff}",
];
/// Where lines may end as well.
const LINES: &[&str] =
    &["\n", "a\nUSER root\n", "a\r\nb", "\r", "\n\n#!/bin/sh\ntouch /pwned\n", "EOF\ntouch /pwned\n", "A=1\nB=2"];

fn texts() -> Vec<String> {
    TEXTS.iter().map(|t| (*t).to_owned()).chain(["x".repeat(8_000)]).collect()
}

fn lines() -> Vec<String> {
    texts().into_iter().chain(LINES.iter().map(|t| (*t).to_owned())).collect()
}

/// Texts by name: the letter, and a number.
fn numbered(letter: &str, all: &[String]) -> BTreeMap<String, String> {
    all.iter().enumerate().map(|(i, text)| (format!("{letter}{i}"), text.clone())).collect()
}

/// What the engine tells of a container or an image.
fn inspect(world: &World<'_>, name: &str) -> Value {
    let told: Value = serde_json::from_str(&world.docker(&["inspect", name])).unwrap();
    told[0].clone()
}

/// The files of a folder of a container, by their names.
fn files(world: &World<'_>, container: &str, folder: &str) -> BTreeMap<String, String> {
    let packed = world.daemon.try_docker(&["cp", &format!("{container}:{folder}"), "-"]);
    assert!(packed.status.success(), "{packed:?}");
    let mut all = BTreeMap::new();
    for entry in tar::Archive::new(&packed.stdout[..]).entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut text = Vec::new();
        entry.read_to_end(&mut text).unwrap();
        if entry.header().entry_type().is_file() {
            all.insert(name, String::from_utf8(text).unwrap());
        }
    }
    all
}

fn strings(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().map(|v| v.as_str().unwrap().to_owned()).collect()
}

/// Labels of a container must be those of its image and the platform's own.
fn labelled(world: &World<'_>, container: &Value, role: &str, owner: (&str, &str, &str), user: Option<&str>) {
    let image = inspect(world, container["Config"]["Image"].as_str().unwrap());
    let mut wanted = image["Config"]["Labels"].as_object().cloned().unwrap_or_default();
    let known = [labels::BUILT_BY, "io.devsanctum.base-inputs"];
    assert!(wanted.keys().all(|k| known.contains(&k.as_str())), "{wanted:?}");
    let (namespace, name, uid) = owner;
    let ours = [
        (labels::INSTANCE, world.instance.as_str()),
        (labels::UID, uid),
        (labels::KIND, "Workspace"),
        (labels::NAMESPACE, namespace),
        (labels::NAME, name),
        (labels::ROLE, role),
    ];
    wanted.extend(ours.iter().copied().chain(user.map(|u| (labels::USER, u))).map(|(k, v)| (k.to_owned(), json!(v))));
    let mut found = container["Config"]["Labels"].as_object().unwrap().clone();
    let digest = found.remove(labels::DIGEST).unwrap();
    assert!(digest.as_str().unwrap().bytes().all(|b| b.is_ascii_hexdigit()), "{digest}");
    assert_eq!(found, wanted);
}

/// A container's environment must be its image's, with this over it.
fn has_environment(world: &World<'_>, container: &Value, over: &BTreeMap<String, String>) {
    let image = inspect(world, container["Config"]["Image"].as_str().unwrap());
    let pair = |line: String| line.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned())).unwrap();
    let mut wanted: BTreeMap<String, String> = strings(&image["Config"]["Env"]).into_iter().map(pair).collect();
    wanted.extend(over.clone());
    let found = strings(&container["Config"]["Env"]);
    assert_eq!(found.len(), wanted.len());
    assert_eq!(found.into_iter().map(pair).collect::<BTreeMap<_, _>>(), wanted);
}

#[test]
fn a_hostile_value_is_refused_by_name_or_taken_for_what_it_is() {
    in_world(async |world| {
        world.ground().await;
        let refused = refused::all(&world).await + refused::when_put_together(&world).await;
        let taken = taken::as_they_are(&world).await;
        let routed = routed::to_where_they_belong(&world).await;
        println!("proof: hostile values {refused} refused, {taken} taken for what they are, {routed} in names and addresses");
        assert!(refused > 60 && taken > 60);
    });
}
