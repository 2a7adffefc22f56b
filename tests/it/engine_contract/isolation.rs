//! Who reaches whom. On a real dockerd only: the in-memory engine has addresses, but no packets.

use super::lab::Lab;
use devsanctum::engine::*;
use std::time::Duration;

/// A container on a network that answers on port 8080, and its address.
async fn answering(lab: &Lab, what: &str, network: &str) -> (ContainerId, String) {
    let spec = ContainerSpec {
        attach: Attach::Network(network.into()),
        ..lab.script(what, "echo hello > /tmp/index.html; exec httpd -f -p 8080 -h /tmp")
    };
    let id = lab.run(&spec).await;
    let address = lab.inspect(&id).await.networks[network].unwrap().to_string();
    for _ in 0..100 {
        if lab.sh(&id, "wget -q -O - http://127.0.0.1:8080/").await.stdout == b"hello\n" {
            return (id, address);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{what} does not answer");
}

async fn reached(lab: &Lab, from: &ContainerId, address: &str) -> bool {
    lab.sh(from, &format!("timeout 2 wget -q -O - http://{address}:8080/")).await.stdout == b"hello\n"
}

#[tokio::test]
async fn neighbours_on_a_bridge_without_inter_container_traffic_do_not_reach_each_other() {
    let lab = Lab::real();
    let network = lab.network_spec("n");
    lab.engine.create_network(&network).await.unwrap();
    let (a, a_address) = answering(&lab, "a", &network.name).await;
    let (b, b_address) = answering(&lab, "b", &network.name).await;
    assert!(!reached(&lab, &a, &b_address).await && !reached(&lab, &b, &a_address).await);
    assert!(reached(&lab, &a, &a_address).await);
}

#[tokio::test]
async fn the_probe_finds_a_neighbour_where_traffic_is_allowed_and_none_where_it_is_not() {
    let lab = Lab::real();
    for allowed in [true, false] {
        let what = if allowed { "open" } else { "closed" };
        let network = NetworkSpec { inter_container: allowed, ..lab.network_spec(what) };
        lab.engine.create_network(&network).await.unwrap();
        let (a, _) = answering(&lab, &format!("{what}-a"), &network.name).await;
        let (_, b) = answering(&lab, &format!("{what}-b"), &network.name).await;
        let target = format!("{b}:8080").parse().unwrap();
        let words = probe::reach_command(&[target]).unwrap();
        let output = lab.engine.exec_output(&a, &words, probe::OUTPUT_LIMIT).await.unwrap();
        let open = probe::parse_reach(&String::from_utf8(output.stdout).unwrap()).unwrap();
        assert_eq!(open.contains(&target), allowed, "{what}");
    }
}

#[tokio::test]
async fn containers_on_two_networks_do_not_reach_each_other() {
    let lab = Lab::undisturbed();
    let (one, two) = (lab.network_spec("n"), lab.network_spec("m"));
    lab.engine.create_network(&one).await.unwrap();
    lab.engine.create_network(&two).await.unwrap();
    let (a, _) = answering(&lab, "a", &one.name).await;
    let (_, b_address) = answering(&lab, "b", &two.name).await;
    assert!(!reached(&lab, &a, &b_address).await);
    // The check itself works.
    assert!(reached(&lab, &a, "127.0.0.1").await);
}

#[tokio::test]
async fn a_sidecar_shares_its_container_s_localhost() {
    let lab = Lab::real();
    let network = lab.network_spec("n");
    lab.engine.create_network(&network).await.unwrap();
    let (main, _) = answering(&lab, "a", &network.name).await;
    let sidecar = lab.run(&ContainerSpec { attach: Attach::Container(main), ..lab.spec("s") }).await;
    assert!(reached(&lab, &sidecar, "127.0.0.1").await);
}

#[tokio::test]
async fn a_bridge_has_the_name_it_is_given() {
    let lab = Lab::real();
    let network = NetworkSpec { bridge: Some("dstest0".into()), ..lab.network_spec("n") };
    lab.engine.create_network(&network).await.unwrap();
    let found = lab.engine.network(&network.name).await.unwrap().unwrap();
    assert_eq!(found.options["com.docker.network.bridge.name"], "dstest0");
    let long = NetworkSpec { bridge: Some("a-name-too-long-for-it".into()), ..lab.network_spec("m") };
    assert!(matches!(lab.engine.create_network(&long).await, Err(EngineError::Invalid(_))));
}
