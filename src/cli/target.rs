//! Which kind and which record a person means: `ws`, `workspaces/web`, `workspace.devsanctum.io`, `all`.

use super::connect::Context;
use super::failure::Failure;
use crate::resource::{KindDef, kinds};

/// A kind, and a record of it where one is named.
#[derive(Clone)]
pub struct Target {
    /// The kind.
    pub def: &'static KindDef,
    /// The record; all of the kind where left out.
    pub name: Option<String>,
}

/// Finds the kind a word means: its name, plural, singular or short name, with or without the group.
///
/// # Errors
/// Lists the kinds there are.
pub fn kind(word: &str) -> Result<&'static KindDef, Failure> {
    let lower = word.to_lowercase();
    let (bare, group) = lower.split_once('.').map_or((lower.as_str(), None), |(b, g)| (b, Some(g)));
    let means = |k: &&KindDef| {
        let named = bare == k.singular || bare == k.plural || k.short_names.iter().any(|s| s == bare);
        named && group.is_none_or(|g| g == k.group || g == format!("{}.{}", k.version, k.group))
    };
    kinds().iter().find(means).ok_or_else(|| {
        let known: Vec<String> = kinds().iter().filter(|k| !k.group.contains("k8s")).map(described).collect();
        Failure::usage(format!("there is no kind \"{word}\"")).hint(format!("the kinds are {}", known.join(", ")))
    })
}

fn described(k: &KindDef) -> String {
    match k.short_names.first() {
        Some(short) => format!("{} ({short})", k.plural),
        None => k.plural.clone(),
    }
}

/// Reads the words of `get`, `describe`, `delete`, `wait`: `KIND`, `KIND,KIND`, `all`, `KIND NAME…` or `KIND/NAME…`.
///
/// # Errors
/// When a kind does not exist or the two forms are mixed.
pub fn targets(words: &[String]) -> Result<Vec<Target>, Failure> {
    let found = parse(words)?;
    found.iter().filter_map(|t| t.name.as_deref()).try_for_each(check_name)?;
    Ok(found)
}

fn parse(words: &[String]) -> Result<Vec<Target>, Failure> {
    if words.iter().any(|w| w.contains('/')) {
        return words.iter().map(|w| one(w)).collect();
    }
    let (first, names) = words.split_first().ok_or_else(|| Failure::usage("a kind is missing"))?;
    let mut defs = Vec::new();
    for word in first.split(',') {
        let of_category: Vec<&KindDef> = kinds().iter().filter(|k| k.categories.iter().any(|c| c == word)).collect();
        if of_category.is_empty() { defs.push(kind(word)?) } else { defs.extend(of_category) }
    }
    if names.is_empty() {
        return Ok(defs.into_iter().map(|def| Target { def, name: None }).collect());
    }
    let named = |def| names.iter().map(move |n| Target { def, name: Some(n.clone()) });
    Ok(defs.into_iter().flat_map(named).collect())
}

fn one(word: &str) -> Result<Target, Failure> {
    match word.split_once('/') {
        Some((k, name)) if !name.is_empty() && !name.contains('/') => Ok(Target { def: kind(k)?, name: Some(name.into()) }),
        _ => Err(Failure::usage(format!("\"{word}\": give every record as KIND/NAME, such as ws/web"))),
    }
}

/// A name goes into the address of a request: it must not be able to leave its place there.
///
/// # Errors
/// Says what is allowed.
pub fn check_name(name: &str) -> Result<(), Failure> {
    let ok = |b: u8| b.is_ascii_alphanumeric() || b"-._:".contains(&b);
    if !name.is_empty() && name.len() <= 253 && name != "." && name != ".." && name.bytes().all(ok) {
        return Ok(());
    }
    Err(Failure::usage(format!("the name {name:?} cannot be one of a record: letters, digits, '-', '.', 253 at most")))
}

/// Reads exactly one record: `KIND/NAME` or `KIND NAME`.
///
/// # Errors
/// When it is not exactly one.
pub fn record(words: &[String]) -> Result<(&'static KindDef, String), Failure> {
    match targets(words)?.as_slice() {
        [Target { def, name: Some(name) }] => Ok((def, name.clone())),
        _ => Err(Failure::usage("name one record, as KIND/NAME")),
    }
}

/// `workspace.devsanctum.io/web`: how kubectl names a record in what it reports.
pub fn title(def: &KindDef, name: &str) -> String {
    if def.group.is_empty() { format!("{}/{name}", def.singular) } else { format!("{}.{}/{name}", def.singular, def.group) }
}

impl Context {
    /// The address of a kind's records.
    pub fn url(&self, def: &KindDef, namespace: Option<&str>) -> String {
        let root =
            if def.group.is_empty() { format!("/api/{}", def.version) } else { format!("/apis/{}/{}", def.group, def.version) };
        match namespace.filter(|_| def.namespaced) {
            Some(ns) => format!("{root}/namespaces/{ns}/{}", def.plural),
            None => format!("{root}/{}", def.plural),
        }
    }

    /// The project to look in: none for all of them.
    pub fn scope(&self, all: bool) -> Option<&str> {
        (!all).then_some(self.namespace.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn a_kind_goes_by_all_its_names() {
        for word in ["ws", "workspace", "Workspaces", "Workspace", "workspaces.devsanctum.io", "workspace.v1.devsanctum.io"] {
            assert_eq!(kind(word).unwrap().kind, "Workspace", "{word}");
        }
        assert_eq!(kind("events").unwrap().group, "", "kubectl's own events come first");
        assert_eq!(kind("events.events.k8s.io").unwrap().group, "events.k8s.io");
        assert!(kind("pods").err().unwrap().hint.unwrap().contains("workspaces (ws)"));
    }

    #[test]
    fn records_are_named_in_both_forms() {
        let read = |text| targets(&words(text)).unwrap().into_iter().map(|t| (t.def.plural.as_str(), t.name)).collect::<Vec<_>>();
        assert_eq!(read("ws"), [("workspaces", None)]);
        assert_eq!(read("ws a b"), [("workspaces", Some("a".into())), ("workspaces", Some("b".into()))]);
        assert_eq!(read("ws/a user/b"), [("workspaces", Some("a".into())), ("users", Some("b".into()))]);
        assert_eq!(read("ws,routes"), [("workspaces", None), ("routes", None)]);
        assert!(read("all").len() > 5);
        for bad in ["ws/a b", "ws/", "ws/a/b", "nope", "ws a?b", "ws .."] {
            assert!(targets(&words(bad)).is_err(), "{bad}");
        }
        assert!(record(&words("ws")).is_err());
    }
}
