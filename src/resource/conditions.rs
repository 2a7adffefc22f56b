//! Conditions: the answer to "why is this not running?".

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// The summary condition, computed from the others by [`summarise`].
pub const READY: &str = "Ready";

/// A condition that holds or does not. `reason` is PascalCase, `message` tells a person what to do.
pub fn condition(kind: &str, holds: bool, reason: &str, message: impl Into<String>) -> Condition {
    Condition {
        type_: kind.into(),
        status: if holds { "True" } else { "False" }.into(),
        reason: reason.into(),
        message: message.into(),
        observed_generation: None,
        last_transition_time: Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH),
    }
}

/// A condition of which nobody can say now whether it holds.
pub fn unknown(kind: &str, reason: &str, message: impl Into<String>) -> Condition {
    Condition { status: "Unknown".into(), ..condition(kind, false, reason, message) }
}

/// Finds a condition by type.
pub fn find<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|c| c.type_ == kind)
}

/// True when the condition is present and holds.
pub fn holds(conditions: &[Condition], kind: &str) -> bool {
    find(conditions, kind).is_some_and(|c| c.status == "True")
}

/// Computes `Ready` from the other conditions: the first that does not hold gives reason and message.
pub fn summarise(conditions: &[Condition]) -> Condition {
    match conditions.iter().find(|c| c.type_ != READY && c.status != "True") {
        Some(blocking) => condition(READY, false, &blocking.reason, blocking.message.clone()),
        None => condition(READY, true, "Ready", ""),
    }
}

/// Merges `new` over `old`: entries of other types stay, and a time moves only when the status does.
pub fn merge(
    old: &[Condition],
    new: Vec<Condition>,
    generation: Option<i64>,
    now: k8s_openapi::jiff::Timestamp,
) -> Vec<Condition> {
    let mut merged: Vec<Condition> = old.iter().filter(|o| find(&new, &o.type_).is_none()).cloned().collect();
    for mut c in new {
        let same = find(old, &c.type_).filter(|o| o.status == c.status);
        c.last_transition_time = same.map_or(Time(now), |o| o.last_transition_time.clone());
        c.observed_generation = generation;
        merged.push(c);
    }
    merged.sort_by(|a, b| a.type_.cmp(&b.type_));
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_moves_only_with_the_status() {
        let (t1, t2) = ("2026-01-01T00:00:00Z".parse().unwrap(), "2026-01-02T00:00:00Z".parse().unwrap());
        let first = merge(&[], vec![condition("A", true, "Ok", "")], Some(1), t1);
        let same = merge(&first, vec![condition("A", true, "Other", "x")], Some(2), t2);
        assert_eq!(same[0].last_transition_time, Time(t1));
        let moved = merge(&same, vec![condition("A", false, "No", "")], Some(2), t2);
        assert_eq!(moved[0].last_transition_time, Time(t2));
    }

    #[test]
    fn ready_names_the_first_thing_in_the_way() {
        let all = [condition("A", true, "Ok", ""), condition("B", false, "ImageMissing", "pull it")];
        assert_eq!(summarise(&all).reason, "ImageMissing");
        assert_eq!(summarise(&all[..1]).status, "True");
    }
}
