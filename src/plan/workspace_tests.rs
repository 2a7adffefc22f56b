use super::*;
use proptest::prelude::*;

fn wanted_one() -> Wanted {
    let env = Environment {
        image: Image::AsItIs("bb:1".into()),
        command: None,
        env: BTreeMap::new(),
        ports: vec![],
        folders: vec![Folder { name: "home".into(), path: "/home/dev".into(), mode: FolderMode::Persistent }],
        workdir: None,
        user: None,
        repositories: vec![],
        sidecars: [("db".to_string(), serde_json::from_value(serde_json::json!({"image": "pg:1"})).unwrap())].into(),
        limits: HardLimits { cpu: 1.0, memory_mb: 64, pids: 64 },
        min_ram_mb: 64,
        min_disk_gb: 1.0,
    };
    wanted("ds-p-w-12345678", "p", &env, &BTreeMap::new(), WantedNetwork::Own("ds-p-w-12345678".into()))
}

/// What an engine would make of the steps; `clock` gives each start a later time.
fn apply(wanted: &Wanted, seen: &Seen, steps: &[Step], clock: &mut u32) -> Seen {
    let mut after = seen.clone();
    for step in steps {
        *clock += 1;
        match step {
            Step::CreateNetwork => after.network = Some(true),
            Step::CreateVolume(name) => {
                after.volumes.insert(name.clone(), true);
            }
            Step::Create(name) => {
                assert!(!after.containers.contains_key(name), "created twice: {name}");
                let all = wanted.sidecars.iter().chain([&wanted.main]);
                let digest = all.into_iter().find(|c| &c.name == name).unwrap().digest.clone();
                let made = SeenContainer {
                    id: format!("{clock}"),
                    ours: true,
                    digest,
                    state: State::Stopped,
                    attached: true,
                    others: Vec::new(),
                    limited: true,
                    started_at: String::new(),
                };
                after.containers.insert(name.clone(), made);
                if name == &wanted.main.name {
                    let others = after.containers.iter_mut().filter(|(n, _)| *n != name);
                    others.for_each(|(_, c)| c.attached = false);
                }
            }
            Step::Connect(name) => after.containers.get_mut(name).unwrap().attached = true,
            Step::Disconnect(name, other) => after.containers.get_mut(name).unwrap().others.retain(|n| n != other),
            Step::Update(name) => {
                let c = after.containers.get_mut(name).unwrap();
                assert!(!c.limited && matches!(c.state, State::Running | State::Stopped), "{c:?}");
                c.limited = true;
            }
            Step::Start(name) => {
                let c = after.containers.get_mut(name).unwrap();
                assert_eq!(c.state, State::Stopped, "started while {:?}", c.state);
                c.state = State::Running;
                c.started_at = format!("{clock:08}");
            }
            Step::Unpause(name) => after.containers.get_mut(name).unwrap().state = State::Running,
            Step::Stop(name) => after.containers.get_mut(name).unwrap().state = State::Stopped,
            Step::Remove(name) => {
                let gone = after.containers.remove(name).unwrap();
                assert!(gone.ours, "removed something foreign");
            }
        }
    }
    after
}

fn any_container(digests: Vec<String>) -> impl Strategy<Value = Option<SeenContainer>> {
    let state = prop::sample::select(vec![State::Running, State::Paused, State::Stopped, State::Stuck]);
    let some = (state, prop::sample::select(digests), any::<bool>(), any::<bool>(), any::<bool>(), 0u32..50).prop_map(
        |(state, digest, attached, more, limited, at)| {
            let others = if more { vec!["other".into()] } else { vec![] };
            let started_at = format!("{at:08}");
            SeenContainer { id: "x".into(), ours: true, digest, state, attached, others, limited, started_at }
        },
    );
    prop::option::of(some)
}

proptest! {
    #[test]
    fn from_any_state_of_ours_it_settles_and_then_rests(
        running: bool, recreate: bool, made: bool, network in prop::option::of(Just(true)), volume: bool,
        main in any_container(vec!["old".into(), wanted_one().main.digest]),
        side in any_container(vec!["edited".into(), wanted_one().sidecars[0].digest.clone()]),
    ) {
        let wanted = Wanted { running, recreate, made, ..wanted_one() };
        let mut seen = Seen { network, ..Seen::default() };
        if volume {
            seen.volumes.insert(wanted.volumes[0].name.clone(), true);
        }
        seen.containers.extend(main.map(|c| (wanted.main.name.clone(), c)));
        seen.containers.extend(side.map(|c| (wanted.sidecars[0].name.clone(), c)));
        let mut clock = 100;
        let mut rounds = 0;
        loop {
            let steps = plan(&wanted, &seen).unwrap();
            if steps.is_empty() {
                break;
            }
            rounds += 1;
            prop_assert!(rounds <= 4, "does not settle: {steps:?}");
            seen = apply(&wanted, &seen, &steps, &mut clock);
        }
        let states: Vec<State> = seen.containers.values().map(|c| c.state).collect();
        if running {
            prop_assert_eq!(states, vec![State::Running, State::Running]);
            prop_assert!(seen.containers.values().all(|c| c.attached && c.limited));
        } else {
            prop_assert!(states.iter().all(|s| matches!(s, State::Stopped | State::Stuck)));
            prop_assert!(!made || seen.containers.contains_key(&wanted.main.name));
        }
    }

    #[test]
    fn something_foreign_stops_everything(which in 0usize..3) {
        let wanted = wanted_one();
        let mut seen = Seen::default();
        match which {
            0 => seen.network = Some(false),
            1 => { seen.volumes.insert(wanted.volumes[0].name.clone(), false); }
            _ => {
                let c = SeenContainer { id: "x".into(), ours: false, digest: String::new(), state: State::Running, attached: true, others: vec![], limited: true, started_at: String::new() };
                seen.containers.insert(wanted.main.name.clone(), c);
            }
        }
        prop_assert_eq!(plan(&wanted, &seen).unwrap_err().reason, "NameTaken");
    }
}

#[test]
fn a_fresh_workspace_is_made_in_order() {
    let mut wanted = wanted_one();
    wanted.sidecars.clear();
    let name = wanted.main.name.clone();
    let steps = plan(&wanted, &Seen::default()).unwrap();
    let volume = wanted.volumes[0].name.clone();
    assert_eq!(steps, [Step::CreateNetwork, Step::CreateVolume(volume), Step::Create(name.clone()), Step::Start(name)]);
}

#[test]
fn a_container_that_its_engine_cannot_start_any_more_is_made_again() {
    let mut wanted = wanted_one();
    wanted.sidecars.clear();
    let main = SeenContainer {
        id: "x".into(),
        ours: true,
        digest: wanted.main.digest.clone(),
        state: State::Stuck,
        attached: true,
        others: vec![],
        limited: true,
        started_at: "1".into(),
    };
    let mut seen = Seen { network: Some(true), ..Seen::default() };
    seen.volumes.insert(wanted.volumes[0].name.clone(), true);
    seen.containers.insert(wanted.main.name.clone(), main);
    let name = wanted.main.name.clone();
    assert_eq!(plan(&wanted, &seen).unwrap(), [Step::Remove(name.clone()), Step::Create(name.clone()), Step::Start(name)]);
    wanted.running = false;
    assert_eq!(plan(&wanted, &seen).unwrap(), []);
}

#[test]
fn an_outdated_container_stays_until_recreation_is_asked_for() {
    let mut wanted = wanted_one();
    wanted.sidecars.clear();
    let main = SeenContainer {
        id: "x".into(),
        ours: true,
        digest: "old".into(),
        state: State::Running,
        attached: true,
        others: vec!["somebody-s".into()],
        limited: true,
        started_at: "1".into(),
    };
    let mut seen = Seen { network: Some(true), ..Seen::default() };
    seen.volumes.insert(wanted.volumes[0].name.clone(), true);
    seen.containers.insert(wanted.main.name.clone(), main);
    let name = wanted.main.name.clone();
    assert_eq!(plan(&wanted, &seen).unwrap(), [Step::Disconnect(name, "somebody-s".into())]);
    wanted.recreate = true;
    assert_eq!(
        plan(&wanted, &seen).unwrap()[..2],
        [Step::Stop(wanted.main.name.clone()), Step::Remove(wanted.main.name.clone())]
    );
}

#[test]
fn one_that_may_use_something_else_is_limited_before_it_is_started() {
    let mut wanted = wanted_one();
    wanted.sidecars.clear();
    let name = wanted.main.name.clone();
    let with = |state| {
        let mut seen = Seen { network: Some(true), ..Seen::default() };
        seen.volumes.insert(wanted.volumes[0].name.clone(), true);
        let (digest, started_at) = (wanted.main.digest.clone(), "1".into());
        let (id, others) = ("x".into(), Vec::new());
        let main = SeenContainer { id, ours: true, digest, state, attached: true, others, limited: false, started_at };
        seen.containers.insert(name.clone(), main);
        seen
    };
    let steps = |state| plan(&wanted, &with(state)).unwrap();
    assert_eq!(steps(State::Stopped), [Step::Update(name.clone()), Step::Start(name.clone())]);
    assert_eq!(steps(State::Running), [Step::Update(name.clone())]);
    assert_eq!(steps(State::Paused), [Step::Unpause(name.clone())]);
    assert_eq!(steps(State::Busy), []);
}
