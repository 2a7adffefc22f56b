//! The moments at which a schedule starts and stops a workspace.

use crate::resource::{Day, Schedule, time_of_day};
use k8s_openapi::jiff::civil::{Time, Weekday};
use k8s_openapi::jiff::tz::TimeZone;
use k8s_openapi::jiff::{Span, Timestamp};

/// What is done at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Turn {
    /// It is to stop. Before a start of the same moment, which there can be where a clock is set back.
    Stop,
    /// It is to run.
    Start,
}

/// A schedule that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Timetable {
    zone: TimeZone,
    days: Vec<Day>,
    turns: Vec<(Time, Turn)>,
}

fn day(weekday: Weekday) -> Day {
    match weekday {
        Weekday::Monday => Day::Mon,
        Weekday::Tuesday => Day::Tue,
        Weekday::Wednesday => Day::Wed,
        Weekday::Thursday => Day::Thu,
        Weekday::Friday => Day::Fri,
        Weekday::Saturday => Day::Sat,
        Weekday::Sunday => Day::Sun,
    }
}

impl Timetable {
    /// Reads a schedule; nothing of one that cannot be read, which validation does not let in.
    pub fn read(schedule: &Schedule) -> Option<Self> {
        let time = |text: &Option<String>, turn| text.as_deref().and_then(time_of_day).map(|time| (time, turn));
        let turns = [time(&schedule.stop, Turn::Stop), time(&schedule.start, Turn::Start)];
        Some(Self {
            zone: TimeZone::get(&schedule.time_zone).ok()?,
            days: schedule.days.clone(),
            turns: turns.into_iter().flatten().collect(),
        })
    }

    /// The last moment up to now, of the week past.
    pub fn last(&self, now: Timestamp) -> Option<(Timestamp, Turn)> {
        self.around(now).into_iter().rfind(|(at, _)| *at <= now)
    }

    /// The next moment after now at which this is done, within a week.
    pub fn next(&self, now: Timestamp, turn: Turn) -> Option<Timestamp> {
        self.around(now).into_iter().find(|(at, then)| *at > now && *then == turn).map(|(at, _)| at)
    }

    /// The moments from a week before to a week after, in order. A time that a clock skips when it is set on is when it was set; one that
    /// it has twice is the first.
    fn around(&self, now: Timestamp) -> Vec<(Timestamp, Turn)> {
        let today = now.to_zoned(self.zone.clone()).date();
        let mut all = Vec::new();
        for offset in -8..=8 {
            let Ok(date) = today.checked_add(Span::new().days(offset)) else { continue };
            if !self.days.is_empty() && !self.days.contains(&day(date.weekday())) {
                continue;
            }
            let moment = |(time, turn): &(Time, Turn)| {
                date.to_datetime(*time).to_zoned(self.zone.clone()).ok().map(|zoned| (zoned.timestamp(), *turn))
            };
            all.extend(self.turns.iter().filter_map(moment));
        }
        all.sort();
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(zone: &str, days: &[Day], start: Option<&str>, stop: Option<&str>) -> Timetable {
        let (start, stop) = (start.map(str::to_owned), stop.map(str::to_owned));
        Timetable::read(&Schedule { time_zone: zone.into(), days: days.to_vec(), start, stop }).unwrap()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn on_working_days_they_start_in_the_morning_and_stop_in_the_evening() {
        let days = [Day::Mon, Day::Tue, Day::Wed, Day::Thu, Day::Fri];
        let table = table("Europe/Berlin", &days, Some("08:30"), Some("19:00"));
        // A Friday in winter, then the weekend.
        assert_eq!(table.last(at("2026-11-27T12:00:00Z")), Some((at("2026-11-27T07:30:00Z"), Turn::Start)));
        assert_eq!(table.last(at("2026-11-27T18:00:00Z")), Some((at("2026-11-27T18:00:00Z"), Turn::Stop)));
        assert_eq!(table.last(at("2026-11-29T12:00:00Z")), Some((at("2026-11-27T18:00:00Z"), Turn::Stop)));
        assert_eq!(table.next(at("2026-11-27T18:00:00Z"), Turn::Start), Some(at("2026-11-30T07:30:00Z")));
        assert_eq!(table.next(at("2026-11-27T18:00:00Z"), Turn::Stop), Some(at("2026-11-30T18:00:00Z")));
        // In summer an hour earlier by UTC.
        assert_eq!(table.next(at("2026-07-01T00:00:00Z"), Turn::Start), Some(at("2026-07-01T06:30:00Z")));
    }

    #[test]
    fn a_day_without_that_time_has_it_and_one_with_two_has_one() {
        let table = table("Europe/Berlin", &[], None, Some("02:30"));
        let days = |from: &str, days: usize| {
            let mut now = at(from);
            let step = |_| {
                now = table.next(now, Turn::Stop).unwrap();
                now
            };
            (1..days).map(step).collect::<Vec<_>>()
        };
        // Set on at two on 29 March, and back at three on 25 October.
        let spring = days("2026-03-27T12:00:00Z", 4);
        assert_eq!(spring, [at("2026-03-28T01:30:00Z"), at("2026-03-29T01:30:00Z"), at("2026-03-30T00:30:00Z")]);
        let autumn = days("2026-10-23T12:00:00Z", 4);
        assert_eq!(autumn, [at("2026-10-24T00:30:00Z"), at("2026-10-25T00:30:00Z"), at("2026-10-26T01:30:00Z")]);
    }

    #[test]
    fn one_day_of_the_week_is_found_from_any_other() {
        let table = table("UTC", &[Day::Sun], Some("00:00"), None);
        for hour in 0..24 * 7 {
            let now = at("2026-11-23T00:00:00Z") + Span::new().hours(hour);
            let (last, next) = (table.last(now).unwrap().0, table.next(now, Turn::Start).unwrap());
            assert!(last <= now && next > now && next.duration_since(last).as_hours() == 24 * 7, "{now}: {last} {next}");
        }
    }
}
