//! Containers that are nobody's business here: they look like ours, in their names or their labels, and are not. Each
//! installation has [`COUNT`] of them, spread over its engines.

use devsanctum::engine::Labels;
use devsanctum::engine::fake::FakeEngine;
use devsanctum::engine::ownership::Ownership;
use devsanctum::resource::labels::{INSTANCE, KIND, NAME, ROLE, UID};
use std::collections::BTreeMap;

pub const COUNT: usize = 20;

/// Names close to ours; `#` stands for the beginning of the installation's identity.
const NAMES: [&str; 7] =
    ["stranger", "ds-team-w0", "ds-team-w0-00000000", "ds-team-w0-00000000.side", "ds-#", "ds-#-probe", "ds-#-neighbour"];
/// What a stranger may have had done to it: nothing by us, and it ends with its daemon.
const OWN_DOING: [&str; 3] = ["create", "start", "die"];

/// Puts them there.
pub fn settle(engines: &BTreeMap<String, FakeEngine>, instance: &str) {
    let all: Vec<&FakeEngine> = engines.values().collect();
    for nth in 0..COUNT {
        assert!(all[nth % all.len()].add_foreign(&name(nth, instance), &marks(nth, instance)), "stranger {nth}");
    }
}

/// None is named exactly as one of ours is.
fn name(nth: usize, instance: &str) -> String {
    format!("{}-{nth}", NAMES[nth % NAMES.len()].replace('#', &instance[..8]))
}

/// Their labels: another installation's, ours by half, or ours misspelt.
fn marks(nth: usize, instance: &str) -> Labels {
    let ours = Ownership {
        instance: instance.to_owned(),
        uid: "00000000-0000-4000-8000-000000000000".into(),
        kind: "Workspace".into(),
        namespace: Some("team".into()),
        name: "w0".into(),
        role: "main".into(),
    };
    let other = Ownership { instance: "11111111-1111-4111-8111-111111111111".into(), ..ours.clone() };
    let with = |key: &str, value: String| {
        let mut marks = ours.labels();
        marks.insert(key.to_owned(), value);
        marks
    };
    let without = |key: &str| {
        let mut marks = ours.labels();
        marks.remove(key);
        marks
    };
    let renamed = |to: &dyn Fn(&str) -> String| ours.labels().into_iter().map(|(key, value)| (to(&key), value)).collect();
    match nth {
        0..=3 => other.labels(),
        4 => Ownership { kind: "DockerServer".into(), namespace: None, role: "probe".into(), ..other }.labels(),
        5 => with(INSTANCE, instance.to_uppercase()),
        6 => with(INSTANCE, instance[..8].to_owned()),
        7 => with(INSTANCE, format!("{instance} ")),
        8 => with(INSTANCE, String::new()),
        9 => with(UID, String::new()),
        10 => with(ROLE, String::new()),
        11 => without(INSTANCE),
        12 => without(UID),
        13 => without(KIND),
        14 => without(NAME),
        15 => without(ROLE),
        16 => Labels::from([(INSTANCE.to_owned(), instance.to_owned())]),
        17 => renamed(&|key| format!("x{key}")),
        18 => renamed(&|key| key.replace('/', ".")),
        _ => Labels::new(),
    }
}

/// What was done to them, and should not have been.
pub fn touched(engines: &BTreeMap<String, FakeEngine>, instance: &str) -> Vec<String> {
    let names: Vec<String> = (0..COUNT).map(|nth| name(nth, instance)).collect();
    let done = engines.values().flat_map(FakeEngine::tally).filter(|((_, name, _), _)| names.contains(name));
    let wrong = done.filter(|((_, _, action), count)| !OWN_DOING.contains(&action.as_str()) || (action != "die" && *count > 1));
    wrong.map(|((_, name, action), count)| format!("a stranger's container, {name}, had {count} × {action}")).collect()
}

/// Whether a container is this installation's.
pub fn is_ours(marks: &Labels, instance: &str) -> bool {
    Ownership::read(marks).is_some_and(|o| o.instance == instance)
}
