//! Networks, volumes, images.

use super::lab::Lab;
use devsanctum::engine::*;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

fn on(network: &str, spec: ContainerSpec) -> ContainerSpec {
    ContainerSpec { attach: Attach::Network(network.into()), ..spec }
}

fn within(address: IpAddr, subnets: &[String]) -> bool {
    subnets.iter().any(|s| s.parse::<ipnet::IpNet>().unwrap().contains(&address))
}

pub async fn a_network_is_made_once(lab: &Lab) {
    let spec = NetworkSpec { inter_container: true, ..lab.network_spec("n") };
    let id = lab.engine.create_network(&spec).await.unwrap();
    let again = lab.engine.create_network(&spec).await.unwrap_err();
    assert!(matches!(&again, EngineError::Conflict(t) if t.contains(&spec.name)), "{again:?}");
    let found = lab.engine.network(&spec.name).await.unwrap().unwrap();
    assert_eq!((&found.id, &found.name, &found.labels), (&id, &spec.name, &spec.labels));
    assert_eq!(found.options["com.docker.network.bridge.enable_icc"], "true");
    assert!(within(found.gateway.unwrap(), &found.subnets));
    assert_eq!(lab.engine.networks(None).await.unwrap(), std::slice::from_ref(&found));
    assert_eq!(lab.engine.networks(Some("n")).await.unwrap(), [found]);
    assert_eq!(lab.engine.networks(Some("other")).await.unwrap(), []);
    lab.engine.remove_network(&id).await.unwrap();
    lab.engine.remove_network(&id).await.unwrap();
    assert_eq!(lab.engine.network(&spec.name).await, Ok(None));
}

pub async fn a_network_s_name_is_matched_whole(lab: &Lab) {
    let spec = lab.network_spec("long");
    let id = lab.engine.create_network(&spec).await.unwrap();
    assert_eq!(lab.engine.network(&lab.name("lon")).await, Ok(None));
    assert_eq!(lab.engine.network(&id[..12]).await, Ok(None));
}

pub async fn a_network_in_use_stays(lab: &Lab) {
    let spec = lab.network_spec("n");
    let id = lab.engine.create_network(&spec).await.unwrap();
    lab.run(&on(&spec.name, lab.spec("a"))).await;
    let error = lab.engine.remove_network(&id).await.unwrap_err();
    assert!(matches!(&error, EngineError::Failed(t) if t.contains("active endpoints")), "{error:?}");
}

pub async fn a_chosen_subnet_is_kept_and_an_overlap_refused(lab: &Lab) {
    // None that an installation would try.
    let subnet = Some("10.200.64.0/20".to_owned());
    let spec = NetworkSpec { subnet, ..lab.network_spec("n") };
    lab.engine.create_network(&spec).await.unwrap();
    let found = lab.engine.network(&spec.name).await.unwrap().unwrap();
    assert_eq!(found.subnets, ["10.200.64.0/20"]);
    assert_eq!(found.gateway, Some("10.200.64.1".parse().unwrap()), "an engine that was told the subnet does not say it");
    let error = lab.engine.create_network(&NetworkSpec { name: lab.name("m"), ..spec }).await.unwrap_err();
    assert!(matches!(&error, EngineError::Failed(t) if t.contains("overlaps")), "{error:?}");
    let wrong = NetworkSpec { subnet: Some("10.0.0.0".into()), ..lab.network_spec("w") };
    assert!(matches!(lab.engine.create_network(&wrong).await, Err(EngineError::Invalid(_))));
}

pub async fn an_address_comes_with_the_start_and_goes_with_the_end(lab: &Lab) {
    let spec = lab.network_spec("n");
    lab.engine.create_network(&spec).await.unwrap();
    let id = lab.engine.create(&on(&spec.name, lab.spec("a"))).await.unwrap();
    assert_eq!(lab.inspect(&id).await.networks.get(&spec.name), Some(&None));
    lab.engine.start(&id).await.unwrap();
    let found = lab.inspect(&id).await;
    let address = found.networks[&spec.name].unwrap();
    assert!(within(address, &lab.engine.network(&spec.name).await.unwrap().unwrap().subnets));
    assert_eq!(lab.engine.containers(None).await.unwrap()[0].networks, found.networks);
    lab.engine.stop(&id, Duration::ZERO).await.unwrap();
    assert_eq!(lab.inspect(&id).await.networks.get(&spec.name), Some(&None));
}

pub async fn a_container_whose_network_was_made_anew_can_be_attached(lab: &Lab) {
    let spec = lab.network_spec("n");
    let first = lab.engine.create_network(&spec).await.unwrap();
    let id = lab.run(&on(&spec.name, lab.spec("a"))).await;
    lab.engine.stop(&id, Duration::ZERO).await.unwrap();
    lab.engine.remove_network(&first).await.unwrap();
    let missing = lab.engine.start(&id).await.unwrap_err();
    assert!(matches!(&missing, EngineError::NotFound(t) if t.contains("network")), "{missing:?}");
    assert!(matches!(lab.engine.connect(&spec.name, &id).await, Err(EngineError::NotFound(_))));
    lab.engine.create_network(&spec).await.unwrap();
    lab.engine.start(&id).await.unwrap_err();
    lab.engine.connect(&spec.name, &id).await.unwrap();
    lab.engine.start(&id).await.unwrap();
    assert!(lab.inspect(&id).await.networks[&spec.name].is_some());
}

pub async fn attaching_twice_is_fine(lab: &Lab) {
    let (one, two) = (lab.network_spec("n"), lab.network_spec("m"));
    lab.engine.create_network(&one).await.unwrap();
    lab.engine.create_network(&two).await.unwrap();
    let id = lab.run(&on(&one.name, lab.spec("a"))).await;
    for network in [&one.name, &two.name, &two.name] {
        lab.engine.connect(network, &id).await.unwrap();
    }
    assert_eq!(lab.inspect(&id).await.networks.len(), 2);
    lab.disconnect(&one.name, &lab.name("a"));
    assert_eq!(lab.inspect(&id).await.networks.len(), 1);
    for _ in 0..2 {
        lab.engine.disconnect(&two.name, &id).await.unwrap();
        assert!(lab.inspect(&id).await.networks.is_empty());
    }
    lab.engine.disconnect(&lab.name("none"), &id).await.unwrap();
    lab.engine.connect(&one.name, &id).await.unwrap();
    assert!(lab.inspect(&id).await.networks[&one.name].is_some());
}

pub async fn a_sidecar_has_no_network_of_its_own(lab: &Lab) {
    let main = lab.run(&lab.spec("a")).await;
    let sidecar = ContainerSpec { attach: Attach::Container(main.clone()), hostname: Some("x".into()), ..lab.spec("b") };
    let id = lab.run(&sidecar).await;
    let found = lab.inspect(&id).await;
    assert_eq!(found.network_of.as_deref(), Some(main.as_str()));
    assert!(found.networks.values().all(Option::is_none), "{found:?}");
}

pub async fn a_sidecar_does_not_start_without_its_container(lab: &Lab) {
    let main = lab.engine.create(&lab.spec("a")).await.unwrap();
    let sidecar = ContainerSpec { attach: Attach::Container(main.clone()), ..lab.spec("b") };
    let id = lab.engine.create(&sidecar).await.unwrap();
    let error = lab.engine.start(&id).await.unwrap_err();
    assert!(matches!(&error, EngineError::Conflict(t) if t.contains("non running container")), "{error:?}");
    lab.engine.remove(&main).await.unwrap();
    let error = lab.engine.start(&id).await.unwrap_err();
    assert!(matches!(&error, EngineError::NotFound(t) if t.contains(main.as_str())), "{error:?}");
}

pub async fn a_volume_is_made_once_and_stays_while_in_use(lab: &Lab) {
    let spec = VolumeSpec { name: lab.name("v"), labels: lab.labels("v") };
    lab.engine.create_volume(&spec).await.unwrap();
    lab.engine.create_volume(&spec).await.unwrap();
    let found = lab.engine.volume(&spec.name).await.unwrap().unwrap();
    assert_eq!((&found.name, &found.labels), (&spec.name, &spec.labels));
    assert_eq!(lab.engine.volumes(None).await.unwrap(), std::slice::from_ref(&found));
    assert_eq!(lab.engine.volumes(Some("v")).await.unwrap(), [found]);
    let mounts = BTreeMap::from([(spec.name.clone(), "/data".to_owned())]);
    let id = lab.engine.create(&ContainerSpec { mounts: mounts.clone(), ..lab.spec("a") }).await.unwrap();
    assert_eq!(lab.inspect(&id).await.mounts, mounts);
    let error = lab.engine.remove_volume(&spec.name).await.unwrap_err();
    assert!(matches!(&error, EngineError::Conflict(t) if t.contains("in use")), "{error:?}");
    lab.engine.remove(&id).await.unwrap();
    lab.engine.remove_volume(&spec.name).await.unwrap();
    lab.engine.remove_volume(&spec.name).await.unwrap();
    assert_eq!(lab.engine.volume(&spec.name).await, Ok(None));
}

pub async fn files_in_a_volume_survive_the_container(lab: &Lab) {
    let volume = VolumeSpec { name: lab.name("v"), labels: lab.labels("v") };
    lab.engine.create_volume(&volume).await.unwrap();
    let spec = ContainerSpec { mounts: BTreeMap::from([(volume.name.clone(), "/data".into())]), ..lab.spec("a") };
    let id = lab.run(&spec).await;
    assert_eq!(lab.sh(&id, "echo kept > /data/x").await.code, 0);
    lab.engine.remove(&id).await.unwrap();
    let id = lab.run(&spec).await;
    assert_eq!(lab.sh(&id, "cat /data/x").await.stdout, b"kept\n");
}

pub async fn foreign_networks_and_volumes_are_not_listed(lab: &Lab) {
    let mut network = lab.network_spec("n");
    network.labels.insert("devsanctum.io/instance".into(), format!("{}x", lab.instance));
    lab.engine.create_network(&network).await.unwrap();
    lab.engine.create_volume(&VolumeSpec { name: lab.name("v"), labels: network.labels.clone() }).await.unwrap();
    assert_eq!(lab.engine.networks(None).await, Ok(vec![]));
    assert_eq!(lab.engine.volumes(None).await, Ok(vec![]));
    assert!(lab.engine.network(&network.name).await.unwrap().is_some());
}

pub async fn an_image_is_known_or_not(lab: &Lab) {
    let id = lab.engine.image(crate::support::dockerd::TINY).await.unwrap().unwrap();
    assert!(id.starts_with("sha256:"), "{id}");
    assert_eq!(lab.engine.image(&id).await, Ok(Some(id)));
    assert_eq!(lab.engine.image("ds-test/not-here:1").await, Ok(None));
    assert!(matches!(lab.engine.image("../containers").await, Err(EngineError::Invalid(_))));
}

pub async fn two_that_run_have_two_addresses(lab: &Lab) {
    let spec = lab.network_spec("n");
    lab.engine.create_network(&spec).await.unwrap();
    let address = async |id: &ContainerId| lab.inspect(id).await.networks[&spec.name].unwrap();
    let (a, b) = (lab.run(&on(&spec.name, lab.spec("a"))).await, lab.run(&on(&spec.name, lab.spec("b"))).await);
    let was = address(&a).await;
    assert_ne!(was, address(&b).await);
    lab.engine.stop(&a, Duration::ZERO).await.unwrap();
    // An address that is free may be another's at once.
    let c = lab.run(&on(&spec.name, lab.spec("c"))).await;
    lab.engine.start(&a).await.unwrap();
    let all = std::collections::BTreeSet::from([address(&a).await, address(&b).await, address(&c).await]);
    assert_eq!(all.len(), 3);
}

pub async fn a_subnet_that_is_full_fails_the_start(lab: &Lab) {
    let spec = NetworkSpec { subnet: Some("10.213.80.0/30".into()), ..lab.network_spec("n") };
    lab.engine.create_network(&spec).await.unwrap();
    let first = lab.run(&on(&spec.name, lab.spec("a"))).await;
    let second = lab.engine.create(&on(&spec.name, lab.spec("b"))).await.unwrap();
    let error = lab.engine.start(&second).await.unwrap_err();
    assert!(matches!(&error, EngineError::Failed(t) if t.contains("no available IPv4 addresses")), "{error:?}");
    assert_eq!(lab.inspect(&second).await.state, ContainerState::Created);
    lab.engine.stop(&first, Duration::ZERO).await.unwrap();
    lab.engine.start(&second).await.unwrap();
}

pub async fn a_network_that_only_stopped_containers_are_on_can_be_removed(lab: &Lab) {
    let spec = lab.network_spec("n");
    let network = lab.engine.create_network(&spec).await.unwrap();
    let made = lab.engine.create(&on(&spec.name, lab.spec("a"))).await.unwrap();
    let ended = lab.run(&on(&spec.name, lab.spec("b"))).await;
    lab.engine.stop(&ended, Duration::ZERO).await.unwrap();
    lab.engine.remove_network(&network).await.unwrap();
    assert_eq!(lab.engine.networks(None).await, Ok(vec![]));
    for id in [&made, &ended] {
        assert!(matches!(lab.engine.start(id).await, Err(EngineError::NotFound(t)) if t.contains("network")));
        assert_eq!(lab.inspect(id).await.networks.get(&spec.name), Some(&None), "it stays named");
    }
}

pub async fn a_container_that_is_stopped_can_be_attached(lab: &Lab) {
    let (one, two) = (lab.network_spec("n"), lab.network_spec("m"));
    lab.engine.create_network(&one).await.unwrap();
    lab.engine.create_network(&two).await.unwrap();
    let id = lab.run(&on(&one.name, lab.spec("a"))).await;
    lab.engine.stop(&id, Duration::ZERO).await.unwrap();
    lab.engine.connect(&two.name, &id).await.unwrap();
    assert_eq!(lab.inspect(&id).await.networks.get(&two.name), Some(&None));
    lab.engine.start(&id).await.unwrap();
    let found = lab.inspect(&id).await.networks;
    assert!(found[&one.name].is_some() && found[&two.name].is_some(), "{found:?}");
}

/// Docker gives a volume that is there, whatever labels it has.
pub async fn a_volume_that_is_somebody_else_s_is_a_conflict(lab: &Lab) {
    let ours = VolumeSpec { name: lab.name("v"), labels: lab.labels("v") };
    let theirs = VolumeSpec { labels: Labels::from([("whose".to_owned(), "theirs".to_owned())]), ..ours.clone() };
    lab.engine.create_volume(&theirs).await.unwrap();
    let error = lab.engine.create_volume(&ours).await.unwrap_err();
    assert!(matches!(&error, EngineError::Conflict(t) if t.contains(&ours.name)), "{error:?}");
    assert_eq!(lab.engine.volume(&ours.name).await.unwrap().unwrap().labels, theirs.labels);
    assert_eq!(lab.engine.volumes(None).await, Ok(vec![]));
}

pub async fn a_volume_nobody_made_is_made_without_labels(lab: &Lab) {
    let name = lab.name("v");
    let mounts = BTreeMap::from([(name.clone(), "/data".to_owned())]);
    lab.engine.create(&ContainerSpec { mounts, ..lab.spec("a") }).await.unwrap();
    let made = lab.engine.volume(&name).await.unwrap().unwrap();
    assert_eq!(made.labels, Labels::new());
    assert_eq!(lab.engine.volumes(None).await, Ok(vec![]));
}

pub async fn a_volume_made_anew_is_empty(lab: &Lab) {
    let volume = VolumeSpec { name: lab.name("v"), labels: lab.labels("v") };
    let spec = ContainerSpec { mounts: BTreeMap::from([(volume.name.clone(), "/data".into())]), ..lab.spec("a") };
    for _ in 0..2 {
        lab.engine.create_volume(&volume).await.unwrap();
        let id = lab.run(&spec).await;
        assert_ne!(lab.sh(&id, "cat /data/x").await.code, 0);
        lab.sh(&id, "echo kept > /data/x").await;
        lab.engine.remove(&id).await.unwrap();
        lab.engine.remove_volume(&volume.name).await.unwrap();
    }
}

/// Whoever attaches one must look for the network first.
pub async fn a_container_that_is_stopped_is_put_on_a_network_that_is_not_there(lab: &Lab) {
    let (id, gone) = (lab.engine.create(&lab.spec("a")).await.unwrap(), lab.name("gone"));
    let whom = serde_json::json!({"Container": id.as_str()});
    assert_eq!(lab.ask("POST", &format!("/networks/{gone}/connect"), Some(&whom)).await.0, 200);
    assert_eq!(lab.inspect(&id).await.networks.get(&gone), Some(&None));
    assert!(matches!(lab.engine.connect(&gone, &id).await, Err(EngineError::NotFound(t)) if t.contains(&gone)));
    lab.engine.disconnect(&gone, &id).await.unwrap();
    assert_eq!(lab.inspect(&id).await.networks.get(&gone), None);
}
