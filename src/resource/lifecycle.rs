//! When workspaces stop and go by themselves, as settings and projects say it.

use super::errors::FieldErrors;
use super::schedule::Schedule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What is written where nothing is to happen by itself.
pub const NEVER: &str = "never";
/// Longer is a slip of the pen, and further than dates go.
const LONGEST: Duration = Duration::from_secs(10 * 366 * 24 * 3600);
const SHORTEST: Duration = Duration::from_secs(1);
const SCHEDULE: &str = "spec.lifecycle.schedule";

fn two_hours() -> String {
    "2h".into()
}
pub(super) fn seven_days() -> String {
    "7d".into()
}

/// When workspaces stop and go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Lifecycle {
    /// Without work for this long, a workspace stops; or `never`.
    #[serde(default = "two_hours")]
    pub stop_after: String,
    /// This long after its creation, a workspace is destroyed; or `never`.
    #[serde(default = "seven_days")]
    pub destroy_after: String,
    /// Times of day at which workspaces start and stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self { stop_after: two_hours(), destroy_after: seven_days(), schedule: None }
    }
}

/// When the workspaces of one project stop and go, where that is not as the settings say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProjectLifecycle {
    /// Without work for this long, a workspace stops; or `never`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_after: Option<String>,
    /// This long after its creation, a workspace is destroyed; or `never`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destroy_after: Option<String>,
    /// Times of day at which workspaces start and stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
}

/// How long to wait; `None` for ever. What cannot be read, which validation does not let in, is for ever, too: nothing is
/// stopped or destroyed by mistake.
pub fn after(value: &str) -> Option<Duration> {
    humantime::parse_duration(value).ok().filter(|d| (SHORTEST..=LONGEST).contains(d))
}

/// Checks what [`after`] reads.
pub(super) fn check_after(path: &str, value: &str, errors: &mut FieldErrors) {
    if value != NEVER && after(value).is_none() {
        errors.invalid(path, value, "must be a duration of 1 s to 10 years such as '90s', '2h' or '7d', or 'never'");
    }
}

impl Lifecycle {
    pub(super) fn check(&self, errors: &mut FieldErrors) {
        check_after("spec.lifecycle.stopAfter", &self.stop_after, errors);
        check_after("spec.lifecycle.destroyAfter", &self.destroy_after, errors);
        self.schedule.iter().for_each(|schedule| schedule.check(SCHEDULE, errors));
    }
}

impl ProjectLifecycle {
    pub(super) fn check(&self, errors: &mut FieldErrors) {
        for (name, value) in [("stopAfter", &self.stop_after), ("destroyAfter", &self.destroy_after)] {
            value.iter().for_each(|value| check_after(&format!("spec.lifecycle.{name}"), value, errors));
        }
        self.schedule.iter().for_each(|schedule| schedule.check(SCHEDULE, errors));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_refused_and_never_taken_for_soon() {
        for (value, seconds) in [("90s", Some(90)), ("2h", Some(7200)), ("7d", Some(604_800)), ("never", None)] {
            let mut errors = FieldErrors::default();
            check_after("spec.lifecycle.stopAfter", value, &mut errors);
            assert!(errors.0.is_empty(), "{value}");
            assert_eq!(after(value).map(|d| d.as_secs()), seconds, "{value}");
        }
        for value in ["", "0s", "500ms", "2", "-2h", "1000years", "Never", "soon"] {
            let mut errors = FieldErrors::default();
            check_after("spec.lifecycle.stopAfter", value, &mut errors);
            assert_eq!(errors.0.len(), 1, "{value}");
            assert_eq!(after(value), None, "{value}");
        }
    }
}
