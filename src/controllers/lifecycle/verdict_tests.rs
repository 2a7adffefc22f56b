use super::*;
use crate::controllers::activity::Seen;
use crate::proxy::Traffic;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn record(status: serde_json::Value) -> Workspace {
    serde_json::from_value(json!({
        "apiVersion": "devsanctum.io/v1", "kind": "Workspace",
        "metadata": {"name": "dev", "namespace": "team", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"owner": "ada"}, "status": status,
    }))
    .unwrap()
}

#[test]
fn a_project_has_the_last_word_and_what_nobody_can_read_is_never() {
    let project = |lifecycle| -> Project {
        let spec = json!({"owner": "ada", "template": "t", "lifecycle": lifecycle});
        serde_json::from_value(json!({"apiVersion": "devsanctum.io/v1", "kind": "Project", "metadata": {}, "spec": spec}))
            .unwrap()
    };
    let settings: Settings = serde_json::from_value(json!({
        "apiVersion": "devsanctum.io/v1", "kind": "Settings", "metadata": {},
        "spec": {"lifecycle": {"stopAfter": "1h", "destroyAfter": "never"}},
    }))
    .unwrap();
    let hours = |stop: Option<u64>, destroy: Option<u64>| Terms {
        stop_after: stop.map(|h| Duration::from_secs(h * 3600)),
        destroy_after: destroy.map(|h| Duration::from_secs(h * 3600)),
    };
    assert_eq!(laid_down(None, None).terms, hours(Some(2), Some(168)));
    let terms = |lifecycle| laid_down(Some(&project(lifecycle)), Some(&settings)).terms;
    assert_eq!(terms(json!({})), hours(Some(1), None));
    assert_eq!(terms(json!({"destroyAfter": "2d"})), hours(Some(1), Some(48)));
    assert_eq!(terms(json!({"stopAfter": "soon"})), hours(None, None));
}

#[test]
fn one_that_is_up_is_timed_and_stays_so_until_it_is_stopped() {
    let up = |status| life(&record(status), None).up;
    assert!(up(json!({"phase": "RUNNING"})));
    assert!(!up(json!({"phase": "STARTING"})));
    assert!(up(json!({"phase": "STARTING", "stopAt": "2026-01-01T02:00:00Z"})), "it goes down again and again");
}

#[test]
fn a_record_is_written_when_it_is_wrong_by_more_than_its_terms_tell_apart() {
    let of = |seconds: u64| Terms { stop_after: Some(Duration::from_secs(seconds)), destroy_after: None };
    let says = json!({"lastActivityAt": "2026-01-01T01:00:00Z", "stopAt": "2026-01-01T03:00:00Z", "requests": 7});
    let of_times = |times| Verdict { times, scheduled: Scheduled::default(), due: Due::Nothing };
    let times = |last, stop| of_times(Times { last_activity: Some(at(last)), stop_at: Some(at(stop)), ..Times::default() });
    let little = times("2026-01-01T01:00:50Z", "2026-01-01T03:00:50Z");
    assert_eq!(told(&record(says.clone()), &little, Some(9), of(7200)), None);
    assert!(told(&record(says.clone()), &little, Some(9), of(20)).is_some());
    let much = times("2026-01-01T01:01:00.5Z", "2026-01-01T03:01:00.5Z");
    let written = told(&record(says.clone()), &much, Some(9), of(7200)).unwrap();
    assert_eq!(written["stopAt"], "2026-01-01T03:01:01Z", "no second too early");
    assert_eq!((&written["requests"], &written["destroyAt"]), (&json!(9), &serde_json::Value::Null));
    assert_eq!(told(&record(says), &much, None, of(7200)).unwrap()["requests"], 7);
    assert_eq!(told(&record(json!({})), &of_times(Times::default()), Some(3), Terms::default()), None, "nothing is laid down");
}

/// What plays the life of one workspace that is up, second by second: the clocks, the proxy's count, and what a process knows.
struct Player {
    chance: fastrand::Rng,
    base: (Timestamp, Instant),
    /// Seconds that have passed, by how many the clock on the wall is ahead, and when it was set last.
    now: u64,
    ahead: i64,
    set: u64,
    record: Workspace,
    rules: LaidDown,
    requests: u64,
    /// Those that were counted at the last look.
    counted: u64,
    /// When it was truly worked in, and when a look has found that.
    worked: u64,
    found: u64,
    idleness: Idleness,
    seen: Seen,
    last: Option<Instant>,
    looked: u64,
}

impl Player {
    fn new(seed: u64, base: (Timestamp, Instant)) -> Self {
        let mut chance = fastrand::Rng::with_seed(seed);
        let stop_after = Some(Duration::from_secs(*chance.choice(&[5, 60, 300, 7200, 28_800]).unwrap()));
        let mut record = record(json!({"phase": "RUNNING"}));
        record.metadata.uid = Some("w".into());
        record.metadata.generation = Some(1);
        let rules = LaidDown { terms: Terms { stop_after, destroy_after: None }, table: None };
        Self {
            chance,
            base,
            record,
            rules,
            now: 0,
            ahead: 0,
            set: 0,
            requests: 0,
            counted: 0,
            worked: 0,
            found: 0,
            last: None,
            looked: 0,
            idleness: Idleness::default(),
            seen: Seen::default(),
        }
    }

    fn clocks(&self) -> (Timestamp, Instant) {
        let passed = SignedDuration::from_secs(i64::try_from(self.now).unwrap() + self.ahead);
        (self.base.0 + passed, self.base.1 + Duration::from_secs(self.now))
    }

    /// Whether something was found.
    fn look(&mut self) -> bool {
        let traffic = Traffic { requests: [("r".to_owned(), self.requests)].into(), ..Traffic::default() };
        let before = status(&self.record).requests.unwrap_or(0);
        (self.looked, self.counted) = (self.now, self.requests);
        let found = self.seen.count(&traffic, before, self.clocks().1);
        if found {
            (self.last, self.found) = (Some(self.clocks().1), self.now);
        }
        found
    }

    /// When to pass again; nothing once it is stopped.
    fn pass(&mut self) -> Option<u64> {
        let clocks = self.clocks();
        let mut verdict = judge(&mut self.idleness, &self.record, self.last, &self.rules, clocks);
        if matches!(verdict.due, Due::Stop) {
            self.look();
            verdict = judge(&mut self.idleness, &self.record, self.last, &self.rules, clocks);
            if matches!(verdict.due, Due::Stop) {
                return None;
            }
        }
        let counted = self.seen_requests();
        if let Some(changes) = told(&self.record, &verdict, counted, self.rules.terms) {
            let mut status = serde_json::to_value(&self.record.status).unwrap();
            json_patch::merge(&mut status, &changes);
            self.record.status = serde_json::from_value(status).unwrap();
        }
        let wait = wait(&self.record, &verdict, self.rules.terms, clocks.0);
        Some(self.now + wait.as_secs() + u64::from(wait.subsec_nanos() > 0))
    }

    fn seen_requests(&self) -> Option<u64> {
        (self.looked > 0).then_some(self.counted)
    }

    /// Something happens, or nothing for a while.
    fn happen(&mut self) -> bool {
        match self.chance.u8(0..20) {
            0..4 => {
                self.requests += 1;
                self.worked = self.now;
            }
            // For up to a month, either way.
            4 => (self.ahead, self.set) = (self.ahead + self.chance.i64(-2_600_000..2_600_000), self.now),
            // Not before a record that tells the time of before was mended.
            5 if self.now > self.set + 70 => {
                (self.idleness, self.seen, self.last, self.looked) = Default::default();
                return true;
            }
            _ => {}
        }
        false
    }

    /// Plays until it is stopped; how much longer than its terms it was not worked in, in seconds.
    fn play(&mut self) -> i64 {
        let resolution = resolution(self.rules.terms.stop_after.unwrap()).as_secs().max(1);
        let (mut next, mut happens, mut restarted) = (0, 0, 0);
        loop {
            let look = self.looked.max(restarted) + resolution;
            self.now = [next, happens, look].into_iter().min().unwrap().max(self.now);
            if self.now >= happens {
                if self.happen() {
                    (next, restarted) = (self.now, self.now);
                }
                let longest = self.rules.terms.stop_after.unwrap().as_secs() * 2;
                happens = self.now + self.chance.u64(1..longest);
            }
            if self.now >= look && (self.look() || self.now < self.set + resolution + 1) {
                next = self.now;
            }
            if self.now >= next {
                match self.pass() {
                    Some(again) => next = again.max(self.now + 1),
                    None => break,
                }
            }
        }
        let idle = i64::try_from(self.now - self.worked).unwrap();
        let stop_after = i64::try_from(self.rules.terms.stop_after.unwrap().as_secs()).unwrap();
        assert!(
            idle >= stop_after,
            "stopped {} s early of {stop_after}; a clock was set at {}, now is {}",
            stop_after - idle,
            self.set,
            self.now
        );
        // What a look has found later than it happened puts it off by as much.
        idle - stop_after - i64::try_from(self.found.saturating_sub(self.worked)).unwrap()
    }
}

#[test]
fn of_a_hundred_thousand_timers_none_is_early_and_none_is_late() {
    let base = (Timestamp::from_second(1_800_000_000).unwrap(), Instant::now());
    for seed in 0..100_000 {
        let late = Player::new(seed, base).play();
        assert!(late <= 5, "seed {seed}: {late} s late");
    }
}

#[test]
fn a_schedule_is_carried_out_once_and_stops_nobody_who_works() {
    let table =
        json!({"schedule": {"days": ["MON"], "start": "08:00", "stop": "19:00"}, "stopAfter": "never", "destroyAfter": "never"});
    let settings: Settings = serde_json::from_value(
        json!({"apiVersion": "devsanctum.io/v1", "kind": "Settings", "metadata": {}, "spec": {"lifecycle": table}}),
    )
    .unwrap();
    let rules = laid_down(None, Some(&settings));
    let play = |spec: serde_json::Value, done: Option<&str>, worked: Option<&str>, now: &str| {
        let mut it = record(json!({"phase": "RUNNING", "scheduledAt": done}));
        it.spec = serde_json::from_value(spec).unwrap();
        scheduled(&it, &rules, worked.map(at), at(now))
    };
    let (runs, stopped) = (json!({"owner": "a"}), json!({"owner": "a", "running": false}));
    let (before, morning, evening, later) =
        ("2026-11-30T05:00:00Z", "2026-11-30T08:00:00Z", "2026-11-30T19:00:00Z", "2026-11-30T19:00:05Z");
    // One that was given just now changes nothing.
    let new = play(runs.clone(), None, None, later);
    assert_eq!((new.done, new.turn, new.stop_at), (Some(at(later)), None, Some(at("2026-12-07T19:00:00Z"))));
    let turn = play(stopped.clone(), Some(before), None, "2026-11-30T08:00:01Z");
    assert_eq!(turn.turn, Some((Turn::Start, at(morning))));
    let turn = play(runs.clone(), Some(morning), None, later);
    assert_eq!(turn.turn, Some((Turn::Stop, at(evening))));
    // Somebody works: a quarter of an hour after they have.
    let turn = play(runs.clone(), Some(morning), Some("2026-11-30T18:59:00Z"), later);
    assert_eq!((turn.turn, turn.again), (None, Some(at("2026-11-30T19:14:00Z"))));
    let turn = play(runs.clone(), Some(morning), Some("2026-11-30T18:59:00Z"), "2026-11-30T19:14:00Z");
    assert_eq!(turn.turn, Some((Turn::Stop, at(evening))));
    // Done, by whomever; then it is theirs.
    assert_eq!(play(stopped.clone(), Some(morning), None, later).done, Some(at(evening)));
    let done = play(runs.clone(), Some(evening), None, "2026-11-30T21:00:00Z");
    assert_eq!((done.turn, done.done), (None, Some(at(evening))));
    assert_eq!(play(json!({"owner": "a", "pinned": true}), Some(morning), None, later).turn, None);
    // Of what was missed the last counts: nothing is started in the evening for the morning's sake.
    assert_eq!(play(stopped, Some(before), None, later).turn, None);
    assert_eq!(play(runs, Some(before), None, later).turn, Some((Turn::Stop, at(evening))));
}
