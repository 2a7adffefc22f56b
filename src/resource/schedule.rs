//! Times of day at which workspaces start and stop.

use super::errors::FieldErrors;
use k8s_openapi::jiff::civil::Time;
use k8s_openapi::jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

fn utc() -> String {
    "UTC".into()
}

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "they say it themselves")]
pub enum Day {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

/// When workspaces start and stop, on which days.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Schedule {
    /// Name of the time zone, as IANA has it: `Europe/Berlin`.
    #[serde(default = "utc")]
    pub time_zone: String,
    /// Days on which it holds; every day where left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub days: Vec<Day>,
    /// Time of day at which they start: `08:30`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
    /// Time of day at which they stop: `19:00`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<String>,
}

/// Reads a time of day.
pub fn time_of_day(text: &str) -> Option<Time> {
    let (hour, minute) = text.split_once(':')?;
    let digits = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
    if !digits(hour) || !digits(minute) {
        return None;
    }
    Time::new(hour.parse().ok()?, minute.parse().ok()?, 0, 0).ok()
}

impl Schedule {
    pub(super) fn check(&self, path: &str, errors: &mut FieldErrors) {
        if TimeZone::get(&self.time_zone).is_err() {
            let allowed = "must be the name of a time zone such as 'Europe/Berlin' or 'UTC'";
            errors.invalid(format!("{path}.timeZone"), self.time_zone.as_str(), allowed);
        }
        for (name, time) in [("start", &self.start), ("stop", &self.stop)] {
            if let Some(time) = time.as_deref().filter(|time| time_of_day(time).is_none()) {
                errors.invalid(format!("{path}.{name}"), time, "must be a time of day such as '08:30', from '00:00' to '23:59'");
            }
        }
        if self.start.is_none() && self.stop.is_none() {
            errors.required(format!("{path}.stop"), "a time to stop or to start at");
        }
        if self.start.is_some() && self.start == self.stop {
            errors.invalid(format!("{path}.stop"), self.stop.as_deref().unwrap_or_default(), "must not be when they start");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_time_or_no_place_is_refused_at_its_field() {
        let schedule = |time_zone: &str, start: Option<&str>, stop: Option<&str>| Schedule {
            time_zone: time_zone.into(),
            days: Vec::new(),
            start: start.map(str::to_owned),
            stop: stop.map(str::to_owned),
        };
        for (schedule, paths) in [
            (schedule("Europe/Berlin", Some("08:30"), Some("19:00")), &[][..]),
            (schedule("UTC", None, Some("00:00")), &[]),
            (schedule("Mars/Olympus", Some("8:30"), Some("24:00")), &["s.timeZone", "s.start", "s.stop"]),
            (schedule("UTC", Some("+8:30"), Some("12:60")), &["s.start", "s.stop"]),
            (schedule("UTC", None, None), &["s.stop"]),
            (schedule("UTC", Some("08:00"), Some("08:00")), &["s.stop"]),
            (schedule("../../etc/passwd", None, Some("08:00")), &["s.timeZone"]),
        ] {
            let mut errors = FieldErrors::default();
            schedule.check("s", &mut errors);
            assert_eq!(errors.0.iter().map(|e| e.path.as_str()).collect::<Vec<_>>(), paths, "{schedule:?}");
        }
    }
}
