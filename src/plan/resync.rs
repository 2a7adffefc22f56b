//! What a full list of an engine's objects calls for: which workspaces to look at, and which objects belong to
//! nobody any more.

use std::collections::{BTreeMap, BTreeSet};

/// An object of ours on an engine.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owned {
    /// What it is.
    pub kind: ObjectKind,
    /// Container or network id, or volume name: what a deletion needs.
    pub id: String,
    /// Its name.
    pub name: String,
    /// `metadata.uid` of the record it says it belongs to.
    pub uid: String,
    /// Its role label.
    pub role: String,
}

/// What an object is. The order is the order of removal: users of a thing before the thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ObjectKind {
    /// A container.
    Container,
    /// A network.
    Network,
    /// A volume.
    Volume,
}

/// A removal that was not asked for one by one, and may therefore be a mistake.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Strays {
    /// Objects to remove, in order.
    pub remove: Vec<Owned>,
    /// Containers that their record does not want (any more): a companion taken out, or a main container beside the record's own.
    pub extra: Vec<Owned>,
    /// Set when they are not to be believed: nothing is removed then.
    pub fuse: Option<Fuse>,
}

/// Why nothing is removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fuse {
    /// In PascalCase.
    pub reason: &'static str,
    /// For a person.
    pub words: String,
}

/// How far the records are believed about what is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust<'a> {
    /// As long as not too much goes at once.
    Usual,
    /// Not at all: they were restored from the backup of this time, and what came after it they do not know.
    Restored(&'a str),
    /// Wholly: somebody has looked.
    Allowed,
}

/// Objects whose record is gone, or is placed on another server. `known` are the uids that may have objects here;
/// `names` limits, per uid, which container names it may have (absent: any). Shared folders stay. More than
/// max(3, 10 %) at once blows the fuse; what a record itself no longer wants is no surprise and does not count. Of records
/// restored from a backup nothing is believed, not even what they want of their own companions. `mains` are the ids of the
/// containers that records know as theirs: that of a record is not extra whatever it is called, nor is any main container of a
/// record that knows none.
pub fn strays(
    objects: &[Owned],
    known: &BTreeSet<String>,
    names: &BTreeMap<String, BTreeSet<String>>,
    mains: &BTreeMap<String, String>,
    trust: Trust<'_>,
) -> Strays {
    let its_own = |o: &Owned| o.role == "main" && mains.get(&o.uid).is_none_or(|id| *id == o.id);
    let misnamed = |o: &Owned| names.get(&o.uid).is_some_and(|n| !n.contains(&o.name));
    let unwanted = |o: &Owned| o.kind == ObjectKind::Container && misnamed(o) && !its_own(o);
    let extra: Vec<Owned> = objects.iter().filter(|o| known.contains(&o.uid) && unwanted(o)).cloned().collect();
    let gone = |o: &Owned| !o.role.starts_with("shared.") && !known.contains(&o.uid);
    let mut remove: Vec<Owned> = objects.iter().filter(|o| gone(o)).cloned().collect();
    remove.sort();
    let most = (objects.len() / 10).max(3);
    match trust {
        Trust::Restored(at) if !(remove.is_empty() && extra.is_empty()) => {
            let held: Vec<Owned> = remove.into_iter().chain(extra).collect();
            let fuse = Some(Fuse { reason: "StraysHeld", words: held_words(&held, objects.len(), at) });
            Strays { fuse, ..Strays::default() }
        }
        Trust::Usual if remove.len() > most => {
            let words = format!(
                "{} of {} Docker objects belong to no record, which is more than a pass may remove ({most}); nothing was removed. \
                 If the records are right, allow it once with the annotation devsanctum.io/remove-strays=true. First: {}",
                remove.len(),
                objects.len(),
                first(&remove)
            );
            Strays { remove: Vec::new(), extra, fuse: Some(Fuse { reason: "TooManyStrays", words }) }
        }
        _ => Strays { remove, extra, fuse: None },
    }
}

fn held_words(held: &[Owned], all: usize, at: &str) -> String {
    format!(
        "{} of {all} Docker objects are unknown to the records, which were restored from the backup of {at}; nothing was removed. \
         To remove them, set the annotation devsanctum.io/remove-strays=true on this server. First: {}",
        held.len(),
        first(held)
    )
}

fn first(objects: &[Owned]) -> String {
    objects.iter().take(5).map(|o| o.name.as_str()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(kind: ObjectKind, uid: &str, name: &str, role: &str) -> Owned {
        Owned { kind, id: name.into(), name: name.into(), uid: uid.into(), role: role.into() }
    }

    #[test]
    fn only_what_belongs_to_nobody_goes_containers_first() {
        let all = [
            object(ObjectKind::Volume, "gone", "v", "folder.home"),
            object(ObjectKind::Volume, "gone", "s", "shared.cache"),
            object(ObjectKind::Container, "gone", "c", "main"),
            object(ObjectKind::Container, "here", "d", "main"),
            object(ObjectKind::Container, "here", "old", "sidecar.x"),
        ];
        let names = [("here".to_string(), BTreeSet::from(["d".to_string()]))].into();
        let found = strays(&all, &BTreeSet::from(["here".to_string()]), &names, &BTreeMap::new(), Trust::Usual);
        assert_eq!(found.remove.iter().map(|o| o.name.as_str()).collect::<Vec<_>>(), ["c", "v"]);
        assert_eq!(found.extra.iter().map(|o| o.name.as_str()).collect::<Vec<_>>(), ["old"]);
    }

    #[test]
    fn the_container_a_record_knows_is_its_own_by_any_name() {
        let renamed = object(ObjectKind::Container, "here", "renamed", "main");
        let (known, names) =
            (BTreeSet::from(["here".to_string()]), [("here".to_string(), BTreeSet::from(["c".to_string()]))].into());
        let extra = |mains: BTreeMap<String, String>| {
            strays(std::slice::from_ref(&renamed), &known, &names, &mains, Trust::Usual).extra.len()
        };
        assert_eq!(extra([("here".to_string(), "renamed".to_string())].into()), 0);
        assert_eq!(extra(BTreeMap::new()), 0, "it may be the one whose id was not written down yet");
        assert_eq!(extra([("here".to_string(), "another".to_string())].into()), 1);
    }

    #[test]
    fn too_many_at_once_blow_the_fuse() {
        let all: Vec<Owned> = (0..20).map(|i| object(ObjectKind::Container, "gone", &format!("c{i}"), "main")).collect();
        let none = BTreeMap::new();
        let found = strays(&all, &BTreeSet::new(), &BTreeMap::new(), &none, Trust::Usual);
        assert!(found.remove.is_empty() && found.fuse.unwrap().words.contains("20 of 20"));
        assert_eq!(strays(&all, &BTreeSet::new(), &BTreeMap::new(), &none, Trust::Allowed).remove.len(), 20);
    }

    #[test]
    fn after_a_restore_nothing_goes_that_the_records_do_not_know() {
        let all = [
            object(ObjectKind::Container, "newer", "c", "main"),
            object(ObjectKind::Volume, "newer", "v", "folder.home"),
            object(ObjectKind::Container, "here", "here.added", "sidecar.added"),
        ];
        let known = BTreeSet::from(["here".to_string()]);
        let names = [("here".to_string(), BTreeSet::from(["here".to_string()]))].into();
        let none = BTreeMap::new();
        let held = strays(&all, &known, &names, &none, Trust::Restored("2026-01-01"));
        assert!(held.remove.is_empty() && held.extra.is_empty());
        let fuse = held.fuse.unwrap();
        assert!(fuse.reason == "StraysHeld" && fuse.words.contains("3 of 3") && fuse.words.contains("2026-01-01"), "{fuse:?}");
        assert_eq!(strays(&all[..0], &known, &names, &none, Trust::Restored("x")), Strays::default());
        let allowed = strays(&all, &known, &names, &none, Trust::Allowed);
        assert_eq!((allowed.remove.len(), allowed.extra.len()), (2, 1));
    }
}
