use super::*;
use proptest::prelude::*;

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn terms() -> Terms {
    Terms { stop_after: Some(Duration::from_secs(7200)), destroy_after: Some(Duration::from_secs(7 * 86_400)) }
}

fn life() -> Life {
    let created = at(0);
    Life { created, up: true, timed: true, last_activity: Some(at(0)), announced: None, pinned: false, kept: false }
}

#[test]
fn what_is_idle_stops_and_what_is_old_goes() {
    let young = times(&life(), &terms(), at(60));
    assert_eq!((young.stop_at, young.destroy_at, young.announced), (Some(at(2 * HOUR)), Some(at(7 * DAY)), None));
    let stopped = times(&Life { up: false, ..life() }, &terms(), at(60));
    assert_eq!((stopped.stop_at, stopped.destroy_at), (None, Some(at(7 * DAY))));
    let pinned = times(&Life { pinned: true, ..life() }, &terms(), at(60));
    assert_eq!((pinned.stop_at, pinned.destroy_at), (None, None));
    let kept = times(&Life { kept: true, ..life() }, &terms(), at(60));
    assert_eq!((kept.stop_at, kept.destroy_at), (Some(at(2 * HOUR)), None));
    let never = times(&life(), &Terms::default(), at(60));
    assert_eq!((never.stop_at, never.destroy_at, never.last_activity), (None, None, Some(at(0))));
}

#[test]
fn what_comes_up_is_not_idle_yet() {
    let begun = times(&Life { timed: false, ..life() }, &terms(), at(5 * HOUR));
    assert_eq!((begun.last_activity, begun.stop_at), (Some(at(5 * HOUR)), Some(at(7 * HOUR))));
    let pinned = times(&Life { timed: false, pinned: true, ..life() }, &terms(), at(5 * HOUR));
    assert_eq!(pinned.last_activity, Some(at(0)), "nothing was seen in it");
}

#[test]
fn nothing_is_destroyed_without_notice() {
    let announced = times(&life(), &terms(), at(6 * DAY));
    assert_eq!((announced.announced, announced.destroy_at), (Some(at(6 * DAY)), Some(at(7 * DAY))));
    // Unpinned long after, or nobody was there to announce it.
    let old = times(&life(), &terms(), at(30 * DAY));
    assert_eq!((old.announced, old.destroy_at), (Some(at(30 * DAY)), Some(at(31 * DAY))));
    let told = Life { announced: old.announced, ..life() };
    assert_eq!(times(&told, &terms(), at(30 * DAY + HOUR)).destroy_at, old.destroy_at);
    // What is put off is announced anew.
    let longer = Terms { destroy_after: Some(Duration::from_secs(90 * 86_400)), ..terms() };
    assert_eq!(times(&told, &longer, at(30 * DAY + HOUR)).announced, None);
    // Told by a clock that was ahead.
    let ahead = Life { announced: Some(at(100 * DAY)), ..life() };
    assert_eq!(times(&ahead, &terms(), at(30 * DAY)).destroy_at, Some(at(31 * DAY)));
}

#[test]
fn short_terms_are_looked_at_closely() {
    assert_eq!(resolution(Duration::from_secs(2)), FINEST);
    assert_eq!(resolution(Duration::from_secs(60)), Duration::from_secs(15));
    assert_eq!(resolution(Duration::from_secs(7200)), COARSEST);
    assert_eq!(notice(Duration::from_secs(60)), Duration::from_secs(30));
    assert_eq!(notice(Duration::from_secs(365 * 86_400)), NOTICE);
}

/// One step of a workspace's life.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Nothing for this many seconds.
    Wait(i64),
    Work,
    Pin(bool),
    Keep(bool),
    Start(bool),
    Terms(u64, u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1..3 * DAY).prop_map(Step::Wait),
        3 => (1..600_i64).prop_map(Step::Wait),
        3 => Just(Step::Work),
        1 => any::<bool>().prop_map(Step::Pin),
        1 => any::<bool>().prop_map(Step::Keep),
        1 => any::<bool>().prop_map(Step::Start),
        1 => (1..9000_u64, 1..900_000_u64).prop_map(|(stop, destroy)| Step::Terms(stop, destroy)),
    ]
}

/// Plays a life, with a pass after each step and whenever one is due; gives when it was stopped and destroyed.
fn play(steps: &[Step]) -> Result<(), TestCaseError> {
    let (mut now, mut life, mut terms) = (0, life(), terms());
    // What the record says, and since when it may be counted: the last work, start, unpinning, or change of terms.
    let mut quiet_since = 0;
    for step in steps {
        let until = match *step {
            Step::Wait(seconds) => now + seconds,
            _ => now,
        };
        match *step {
            Step::Wait(_) => {}
            Step::Work => (life.last_activity, quiet_since) = (Some(at(now)), now),
            Step::Pin(is) => {
                quiet_since = if life.pinned && !is { now } else { quiet_since };
                life.pinned = is;
            }
            Step::Keep(is) => life.kept = is,
            Step::Start(is) => {
                quiet_since = if is && !life.up { now } else { quiet_since };
                life.up = is;
            }
            Step::Terms(stop, destroy) => {
                terms = Terms { stop_after: Some(Duration::from_secs(stop)), destroy_after: Some(Duration::from_secs(destroy)) };
            }
        }
        loop {
            let found = times(&life, &terms, at(now));
            (life.last_activity, life.timed, life.announced) = (found.last_activity, found.stop_at.is_some(), found.announced);
            let (stop, destroy) = (terms.stop_after.unwrap(), terms.destroy_after.unwrap());
            if found.destroy_at.is_some_and(|due| due <= at(now)) {
                prop_assert!(!life.pinned && !life.kept);
                prop_assert!(now >= i64::try_from(destroy.as_secs()).unwrap(), "too young");
                let told = at(now).duration_since(found.announced.unwrap());
                prop_assert!(told >= SignedDuration::try_from(notice(destroy)).unwrap(), "told for {told:?}");
                return Ok(());
            }
            if found.stop_at.is_some_and(|due| due <= at(now)) {
                prop_assert!(life.up && !life.pinned);
                prop_assert!(now - quiet_since >= i64::try_from(stop.as_secs()).unwrap(), "worked in at {quiet_since}, {now}");
                life.up = false;
                continue;
            }
            // The next pass: what is due first, the notice included.
            let of_age = later(life.created, destroy);
            let notice_at = SignedDuration::try_from(notice(destroy)).ok().and_then(|by| of_age.checked_sub(by).ok());
            let due = [found.stop_at, found.destroy_at, notice_at.filter(|_| found.announced.is_none())];
            let next = due.into_iter().flatten().filter(|due| *due > at(now)).min();
            match next.map(|next| next.duration_since(at(now))) {
                Some(wait) if now + wait.as_secs() + i64::from(wait.subsec_nanos() > 0) <= until => {
                    now += wait.as_secs() + i64::from(wait.subsec_nanos() > 0);
                }
                _ => break,
            }
        }
        now = until;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn whatever_is_changed_nothing_comes_early(steps in proptest::collection::vec(step(), 1..40)) {
        play(&steps)?;
    }
}
