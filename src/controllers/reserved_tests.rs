use super::*;
use crate::plan::schedule::{Candidate, Need, place as choose};
use proptest::prelude::*;

fn on(server: &str, ram_mb: u32, disk_gb: f64) -> Placed {
    Placed { server: server.into(), amount: Amount::new(ram_mb, disk_gb) }
}

fn sum(reserved: &Reserved, server: &str) -> Amount {
    Sums(&reserved.lock()).on(server).reserved
}

#[test]
fn a_reservation_counts_once_wherever_it_was_told() {
    let reserved = Reserved::default();
    let made = reserved.reserve("u", |sums| {
        assert_eq!(sums.on("a").reserved, Amount::default());
        Ok::<_, ()>(on("a", 512, 1.5))
    });
    assert_eq!(made, Ok(on("a", 512, 1.5)));
    let record = serde_json::json!({"apiVersion": "devsanctum.io/v1", "kind": "Workspace",
        "metadata": {"name": "w", "uid": "u"}, "spec": {"owner": "ada"}});
    let mut record: Workspace = serde_json::from_value(record).unwrap();
    // The copy is older than the reservation.
    reserved.seen(&record);
    assert_eq!(sum(&reserved, "a"), Amount::new(512, 1.5));
    let mut status = crate::resource::WorkspaceStatus { docker_server: Some("a".into()), ..Default::default() };
    (status.reserved_ram_mb, status.reserved_disk_gb) = (Some(512), Some(1.5));
    record.status = Some(status);
    reserved.seen(&record);
    assert_eq!(sum(&reserved, "a"), Amount::new(512, 1.5));
    reserved.gone("u");
    reserved.gone("u");
    assert_eq!(sum(&reserved, "a"), Amount::default());
}

#[test]
fn what_is_taken_over_counts_once_and_what_is_looked_past_stays() {
    let reserved = Reserved::default();
    reserved.reserve("warm", |_| Ok::<_, ()>(on("a", 512, 1.0))).unwrap();
    let taken = reserved.take_over("u", "warm", |sums| {
        assert_eq!(sums.on("a").reserved, Amount::default());
        Err::<Placed, _>("no")
    });
    assert_eq!((taken, sum(&reserved, "a")), (Err("no"), Amount::new(512, 1.0)));
    reserved.take_over("u", "warm", |_| Ok::<_, ()>(on("a", 768, 2.0))).unwrap();
    assert_eq!(sum(&reserved, "a"), Amount::new(768, 2.0));
    reserved.gone("warm");
    assert_eq!(reserved.without(&["u".into(), "nobody".into()], |sums| sums.on("a").reserved), Amount::default());
    assert_eq!(sum(&reserved, "a"), Amount::new(768, 2.0));
}

#[test]
fn one_that_moves_holds_room_on_both_servers_until_it_has_moved() {
    let reserved = Reserved::default();
    let at = |server: &str, moving: bool| -> Workspace {
        let mut status = serde_json::json!({"dockerServer": server, "reservedRamMb": 512, "reservedDiskGb": 1.5});
        if moving {
            status["move"] = serde_json::json!({"id": "x", "from": "a", "to": "b", "step": "COPYING", "startedAt": "now"});
        }
        let record = serde_json::json!({"apiVersion": "devsanctum.io/v1", "kind": "Workspace",
            "metadata": {"name": "w", "uid": "u"}, "spec": {"owner": "ada"}, "status": status});
        serde_json::from_value(record).unwrap()
    };
    let both = |reserved: &Reserved| [sum(reserved, "a"), sum(reserved, "b")];
    let (own, none) = (Amount::new(512, 1.5), Amount::default());
    reserved.seen(&at("a", false));
    assert_eq!(both(&reserved), [own, none]);
    reserved.reserve(&elsewhere("u"), |_| Ok::<_, ()>(on("b", 512, 1.5))).unwrap();
    assert_eq!(both(&reserved), [own, own]);
    let leaving = |reserved: &Reserved| ["a", "b"].map(|server| Sums(&reserved.lock()).leaving(server));
    for (server, left) in [("a", [1, 0]), ("b", [0, 1])] {
        reserved.seen(&at(server, true));
        assert_eq!(both(&reserved), [own, own], "handed over or not, both hold it");
        assert_eq!(leaving(&reserved), left);
    }
    reserved.seen(&at("b", false));
    assert_eq!(both(&reserved), [none, own]);
    reserved.seen(&at("b", true));
    reserved.gone("u");
    assert_eq!(both(&reserved), [none, none]);
}

/// One that reserves 512 MiB where it is placed on `server`, and 768 on the other of `a` and `b` while it moves.
fn on_its_way(server: &str, moving: bool) -> Workspace {
    let mut status = serde_json::json!({"dockerServer": server, "reservedRamMb": 512, "reservedDiskGb": 1.0});
    if moving {
        status["move"] = serde_json::json!({"id": "x", "from": "a", "to": "b", "step": "COPYING", "startedAt": "now",
            "reservedRamMb": 768, "reservedDiskGb": 2.0});
    }
    let record = serde_json::json!({"apiVersion": "devsanctum.io/v1", "kind": "Workspace",
        "metadata": {"name": "w", "uid": "u"}, "spec": {"owner": "ada"}, "status": status});
    serde_json::from_value(record).unwrap()
}

#[test]
fn what_was_reserved_on_another_server_stays_until_a_record_that_showed_it_does_not_any_more() {
    let reserved = Reserved::default();
    let both = |reserved: &Reserved| [sum(reserved, "a"), sum(reserved, "b")];
    let (own, there, none) = (Amount::new(512, 1.0), Amount::new(768, 2.0), Amount::default());
    reserved.seen(&on_its_way("a", false));
    reserved.reserve(&elsewhere("u"), |_| Ok::<_, ()>(on("b", 768, 2.0))).unwrap();
    // A copy from before that.
    reserved.seen(&on_its_way("a", false));
    assert_eq!(both(&reserved), [own, there]);
    reserved.seen(&on_its_way("a", true));
    assert_eq!(both(&reserved), [own, there], "what today's environment needs, not what the old one did");
    reserved.seen(&on_its_way("a", false));
    assert_eq!(both(&reserved), [own, none]);
    reserved.reserve(&elsewhere("u"), |_| Ok::<_, ()>(on("b", 768, 2.0))).unwrap();
    reserved.leave("u");
    assert_eq!(both(&reserved), [own, none]);
}

#[test]
fn what_is_in_no_measurement_there_is_in_none_after_it_was_handed_over() {
    let reserved = Reserved::default();
    let unmeasured = |reserved: &Reserved| ["a", "b"].map(|server| Sums(&reserved.lock()).on(server).unmeasured);
    reserved.seen(&on_its_way("a", true));
    reserved.measured("a", Amount::default(), &InUse { disk: ["u".to_owned()].into(), ..in_use(&["u"]) });
    assert_eq!(unmeasured(&reserved), [Amount::default(), Amount::new(768, 2.0)]);
    let mut handed = on_its_way("b", true);
    let status = handed.status.as_mut().unwrap();
    (status.reserved_ram_mb, status.reserved_disk_gb) = (Some(768), Some(2.0));
    let it = status.moving.as_mut().unwrap();
    (it.reserved_ram_mb, it.reserved_disk_gb) = (Some(512), Some(1.0));
    reserved.seen(&handed);
    assert_eq!(unmeasured(&reserved), [Amount::default(), Amount::new(768, 2.0)]);
    assert_eq!([sum(&reserved, "a"), sum(&reserved, "b")], [Amount::new(512, 1.0), Amount::new(768, 2.0)]);
}

#[test]
fn a_choice_that_fails_leaves_what_was_there_and_does_not_see_its_own() {
    let reserved = Reserved::default();
    reserved.reserve("u", |_| Ok::<_, ()>(on("a", 512, 1.0))).unwrap();
    let failed = reserved.reserve("u", |sums| {
        assert_eq!(sums.on("a").reserved, Amount::default());
        Err("full")
    });
    assert_eq!(failed, Err("full"));
    assert_eq!(sum(&reserved, "a"), Amount::new(512, 1.0));
}

/// A server of which all is known but what the ledger says.
fn server_of(held: Held, total: u64, measured: u64) -> Candidate {
    Candidate {
        name: "a".into(),
        groups: vec![],
        phase: crate::resource::ServerPhase::Online,
        schedulable: true,
        ram_total_mb: Some(total),
        ram_used_mb: held.used.map(|u| u.ram_mb).or(Some(measured)),
        ram_reserved_mb: held.reserved.ram_mb,
        ram_unmeasured_mb: held.unmeasured.ram_mb,
        disk_total_gb: None,
        disk_used_gb: None,
        disk_reserved_gb: 0.0,
        disk_unmeasured_gb: 0.0,
    }
}

/// Places as the controller does.
fn place(reserved: &Reserved, uid: &str, ram_mb: u32, total: u64) -> Result<Placed, String> {
    let need = Need { ram_mb: ram_mb.into(), disk_gb: 0.0, groups: vec![], server: None };
    reserved.reserve(uid, |sums| choose(&need, &[server_of(sums.on("a"), total, 0)]).map(|_| on("a", ram_mb, 0.0)))
}

fn in_use(ram: &[&str]) -> InUse {
    InUse { ram: ram.iter().map(|u| (*u).to_owned()).collect(), ..InUse::default() }
}

#[test]
fn workspaces_placed_at_once_do_not_share_what_others_have_left() {
    let reserved = Reserved::default();
    reserved.measured("a", Amount { ram_mb: 10_000, disk_mb: 0 }, &InUse::default());
    let placed: Vec<bool> = ["u", "v", "w"].iter().map(|uid| place(&reserved, uid, 5_000, 16_000).is_ok()).collect();
    assert_eq!(placed, [true, false, false]);
    let free = || server_of(Sums(&reserved.lock()).on("a"), 16_000, 0).ram_free_mb();
    assert_eq!(free(), Some(1_000));
    // It runs, and uses all that it may: it is not counted twice.
    reserved.measured("a", Amount { ram_mb: 15_000, disk_mb: 0 }, &in_use(&["u"]));
    assert_eq!(free(), Some(1_000));
    reserved.gone("u");
    reserved.measured("a", Amount { ram_mb: 10_000, disk_mb: 0 }, &in_use(&["u"]));
    assert_eq!((free(), place(&reserved, "v", 5_000, 16_000).is_ok()), (Some(6_000), true));
}

#[test]
fn a_takeover_uses_already_what_the_other_used() {
    let reserved = Reserved::default();
    reserved.reserve("warm", |_| Ok::<_, ()>(on("a", 512, 1.0))).unwrap();
    reserved.measured("a", Amount { ram_mb: 512, disk_mb: 0 }, &in_use(&["warm"]));
    reserved.take_over("u", "warm", |_| Ok::<_, ()>(on("a", 512, 1.0))).unwrap();
    let held = Sums(&reserved.lock()).on("a");
    assert_eq!((held.reserved, held.unmeasured), (Amount::new(512, 1.0), Amount::new(0, 1.0)));
}

#[test]
fn memory_of_those_that_run_is_in_a_measurement_and_disk_of_those_that_ran() {
    let of = |uid: &str, phase: &str, more: serde_json::Value| -> Workspace {
        let mut status = serde_json::json!({"phase": phase});
        status.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(serde_json::json!({"apiVersion": "devsanctum.io/v1", "kind": "Workspace",
            "metadata": {"name": uid, "uid": uid}, "spec": {"owner": "ada"}, "status": status}))
        .unwrap()
    };
    let container = |status: &str| {
        serde_json::json!({"startedAt": "2026-01-01T00:00:00Z", "conditions": [{"type": "ContainerRunning", "status": status,
            "reason": "Running", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]})
    };
    let all = [
        of("new", "STARTING", serde_json::json!({})),
        of("slow", "STARTING", container("True")),
        of("looping", "STARTING", container("False")),
        of("runs", "RUNNING", container("True")),
        of("stopped", "STOPPED", container("True")),
    ];
    let found = InUse::of(&all);
    assert_eq!(found.ram, HashSet::from(["slow".to_owned(), "runs".to_owned()]));
    assert_eq!(found.disk, ["slow", "looping", "runs", "stopped"].map(str::to_owned).into());
}

/// What happens on a server. Numbers choose among the workspaces there.
#[derive(Clone, Debug)]
enum Happens {
    Deploy(u32),
    Start(usize),
    Stop(usize),
    Remove(usize),
    Measure,
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        (1u32..6_000).prop_map(Happens::Deploy),
        any::<usize>().prop_map(Happens::Start),
        any::<usize>().prop_map(Happens::Stop),
        any::<usize>().prop_map(Happens::Remove),
        Just(Happens::Measure),
    ]
}

proptest! {
    /// The host is played: what others use, and what workspaces use that run, is what is measured.
    #[test]
    fn never_more_is_reserved_than_what_others_leave(others in 0u64..14_000, all in prop::collection::vec(happens(), 1..60)) {
        const TOTAL: u64 = 16_000;
        let reserved = Reserved::default();
        let mut there: Vec<(String, u32, bool)> = Vec::new();
        let measure = |there: &[(String, u32, bool)]| {
            let running = there.iter().filter(|(.., runs)| *runs);
            let used = others + running.clone().map(|(_, ram, _)| u64::from(*ram)).sum::<u64>();
            let by = in_use(&running.map(|(uid, ..)| uid.as_str()).collect::<Vec<_>>());
            reserved.measured("a", Amount { ram_mb: used, disk_mb: 0 }, &by);
        };
        measure(&there);
        for (i, what) in all.into_iter().enumerate() {
            let n = there.len().max(1);
            match what {
                Happens::Deploy(ram) => if place(&reserved, &format!("u{i}"), ram, TOTAL).is_ok() {
                    there.push((format!("u{i}"), ram, false));
                },
                Happens::Start(which) => there.iter_mut().skip(which % n).take(1).for_each(|w| w.2 = true),
                Happens::Stop(which) => there.iter_mut().skip(which % n).take(1).for_each(|w| w.2 = false),
                Happens::Remove(which) => if !there.is_empty() {
                    reserved.gone(&there.remove(which % n).0);
                },
                Happens::Measure => measure(&there),
            }
            let promised: u64 = there.iter().map(|(_, ram, _)| u64::from(*ram)).sum();
            prop_assert!(others + promised <= TOTAL, "{others} and {promised}: {there:?}");
        }
        // Nor is anything kept back: once it is measured, all that is left can be had.
        measure(&there);
        let promised: u64 = there.iter().map(|(_, ram, _)| u64::from(*ram)).sum();
        let left = u32::try_from(TOTAL - others - promised).unwrap();
        prop_assert!(place(&reserved, "last", left, TOTAL).is_ok());
    }
}

#[test]
fn nothing_is_placed_where_nothing_is_done() {
    let record = serde_json::json!({"apiVersion": "devsanctum.io/v1", "kind": "DockerServer", "metadata": {"name": "a"},
        "spec": {"host": "a.example.com"}, "status": {"phase": "ONLINE", "ramTotalMb": 4096}});
    let mut server: DockerServer = serde_json::from_value(record).unwrap();
    let need = Need { ram_mb: 1, disk_gb: 0.0, groups: Vec::new(), server: None };
    let reserved = Reserved::default();
    let takes = |server: &DockerServer| choose(&need, &Sums(&reserved.lock()).candidates([server])).is_ok();
    assert!(takes(&server));
    server.annotations_mut().insert(crate::resource::labels::SUSPEND.into(), "true".into());
    assert!(!takes(&server), "it is suspended");
}
