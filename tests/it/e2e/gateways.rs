//! Workspaces on another machine, reached through the gateway there: the control plane and its Traefik have a network of their own,
//! from which no route leads to the containers.

use super::gate::{host_of, panel, person, set_up};
use super::lifecycle::{lay_down, runs, stopped, talks, up};
use super::records;
use super::remote::secret;
use super::revoked::{PATIENCE, Socket, echo};
use super::revoked_open::Secure;
use super::world::{THERE, World, apart, until};
use crate::engine_tls::{authority, client, server_pem};
use crate::support::browser::Browser;
use crate::support::dockerd::{Dockerd, Options, TINY};
use crate::support::image::{image_with, program};
use crate::support::traefik::request;
use devsanctum::proxy::gateway::Authority;
use futures::future::join_all;
use hyper_rustls::{FixedServerNameResolver, HttpsConnectorBuilder};
use hyper_util::rt::TokioIo;
use reqwest::{Certificate, Client, Identity};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tower::Service;

const ENGINE: u16 = 2376;
const GATEWAY: u16 = 9443;
pub const HAPROXY: &str = "ds-test/haproxy:1";

/// Runs a test whose engine is on another machine, and has HAProxy's image.
fn far(test: impl AsyncFnOnce(World<'_>)) {
    let ca = authority("engine authority");
    let pem = server_pem(&ca, THERE, false);
    let daemon = Dockerd::start(&Options { tls: Some((pem.path().to_owned(), ENGINE)), ..Options::default() });
    image_with(&daemon, HAPROXY, &[program("haproxy")]);
    apart(&daemon, async |world| {
        world.create(secret(&ca.pem(), &client(&ca, false))).await;
        test(world).await;
    });
}

/// A server, templates and a project; no workspace yet.
async fn ground(world: &World<'_>, gateway: &str) {
    let mut settings = records::settings(TINY);
    settings["spec"]["images"]["gateway"] = json!(gateway);
    world.create(settings).await;
    let spec = json!({"host": THERE, "port": ENGINE, "tls": {"enabled": true, "secret": {"namespace": "devsanctum-system", "name": "rack"}}});
    world
        .create(json!({"apiVersion": "devsanctum.io/v1", "kind": "DockerServer", "metadata": {"name": "rack"}, "spec": spec}))
        .await;
    world.create(records::user()).await;
    let mut both = echo();
    both["spec"]["ports"].as_array_mut().unwrap().push(json!({"name": "tls", "port": 8443, "protocol": "HTTPS"}));
    both["metadata"]["name"] = json!("both");
    for template in [records::template("hello"), echo(), both] {
        world.create(template).await;
    }
}

async fn team(world: &World<'_>, template: &str, owner: &str) {
    let mut project = records::project("team", template);
    project["spec"]["owner"] = json!(owner);
    world.create(project).await;
}

/// Waits until the server says so of its gateway; gives the words.
async fn gateway_is(world: &World<'_>, status: &str, reason: &str) -> String {
    let mut words = String::new();
    until(&format!("the gateway to be {status} {reason}"), PATIENCE * 2, async || {
        let conditions = world.servers().get("rack").await.unwrap().status.unwrap_or_default().conditions;
        let found = conditions.iter().find(|c| c.type_ == "GatewayReady");
        let told = found.map(|c| (c.status.clone(), c.reason.clone(), c.message.clone()));
        match told {
            Some((s, r, m)) if s == status && r == reason => {
                words = m;
                Ok(())
            }
            other => Err(format!("{other:?}; its log ends:\n{}", world.log_tail())),
        }
    })
    .await;
    words
}

async fn pages(world: &World<'_>, name: &str, wanted: &str) {
    until(&format!("the page of {name}"), PATIENCE * 2, async || match world.page(name).await {
        (200, body) if body.starts_with(wanted) => Ok(()),
        other => Err(format!("{other:?} {:?}", world.workspace(name).await.status.map(|s| s.conditions))),
    })
    .await;
}

async fn answers(world: &World<'_>, host: &str, wanted: u16) {
    until(&format!("an answer {wanted}"), PATIENCE, async || match request(world.web, host, "/", &[]).await.0 {
        code if code == wanted => Ok(()),
        code => Err(code.to_string()),
    })
    .await;
}

async fn opened(world: &World<'_>, browser: &Browser, host: &str) -> Socket {
    let (code, _, mut socket) = Socket::open(world, browser, host).await;
    assert!(code == 101 && socket.echoes("hello").await, "{code}");
    socket
}

fn name_of_gateway(world: &World<'_>) -> String {
    format!("{}-gateway", world.bridge())
}

/// What Traefik is told of the transport to a workspace's service: the name it says, what it shows, and whom it trusts; PEM.
async fn transport_pems(world: &World<'_>, name: &str) -> [String; 3] {
    let token = std::fs::read_to_string(world.state_dir().join("feed.token")).unwrap();
    let asked = Client::new().get(format!("http://{}/traefik/config", world.traefik().feed)).bearer_auth(token.trim());
    let config: Value = serde_json::from_slice(&asked.send().await.unwrap().bytes().await.unwrap()).unwrap();
    let uid = world.workspace(name).await.metadata.uid.unwrap();
    let all = config["http"]["serversTransports"].as_object().expect("transports");
    let of = all.values().find(|t| t["serverName"].as_str().is_some_and(|name| name.contains(&uid))).expect("its transport");
    let text = |path: &str| of.pointer(path).and_then(Value::as_str).unwrap().to_owned();
    [text("/serverName"), text("/certificates/0/certFile") + &text("/certificates/0/keyFile"), text("/rootCAs/0")]
}

/// The same, as a client takes it.
async fn transport(world: &World<'_>, name: &str) -> (String, Identity, Certificate) {
    let [name, shown, trusted] = transport_pems(world, name).await;
    (name, Identity::from_pem(shown.as_bytes()).unwrap(), Certificate::from_pem(trusted.as_bytes()).unwrap())
}

/// All that a gateway says to somebody who says this name in the handshake, shows this, and then says these words.
async fn says(name: &str, shown: &str, trusted: &str, words: &str) -> String {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trusted.as_bytes()).unwrap()).unwrap();
    let (certificate, key) = (CertificateDer::from_pem_slice(shown.as_bytes()), PrivateKeyDer::from_pem_slice(shown.as_bytes()));
    let builder = ClientConfig::builder().with_root_certificates(roots);
    let config = builder.with_client_auth_cert(vec![certificate.unwrap()], key.unwrap()).unwrap();
    let resolver = FixedServerNameResolver::new(ServerName::try_from(name.to_owned()).unwrap());
    let builder = HttpsConnectorBuilder::new().with_tls_config(config).https_only().with_server_name_resolver(resolver);
    let to = format!("https://{THERE}:{GATEWAY}/").parse().unwrap();
    let mut stream = TokioIo::new(builder.enable_http1().build().call(to).await.expect("a handshake"));
    let mut said = Vec::new();
    let _ = stream.write_all(words.as_bytes()).await;
    // However it ends.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut said)).await.expect("an end");
    String::from_utf8_lossy(&said).into_owned()
}

/// What comes of a connection from a process's network, on which nothing is said: it ends, or it waits.
fn silent(pid: &str, to: &str) -> Result<usize, ErrorKind> {
    let namespace = std::fs::File::open(format!("/proc/{pid}/ns/net")).unwrap();
    let to = to.parse().unwrap();
    let come = std::thread::spawn(move || {
        rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(rustix::thread::LinkNameSpaceType::Network)).unwrap();
        // It may be hung up on before it has seen that it is connected.
        let connected = TcpStream::connect_timeout(&to, Duration::from_secs(5));
        let said = connected.and_then(|mut stream| {
            stream.set_read_timeout(Some(Duration::from_secs(2)))?;
            stream.read(&mut [0])
        });
        said.map_err(|e| e.kind())
    });
    come.join().unwrap()
}

/// What the gateway lets somebody have who says this name and shows this; they trust whom Traefik trusts.
async fn let_in(name: &str, shown: Option<Identity>, trusted: &Certificate) -> Result<String, String> {
    let builder = Client::builder().no_proxy().tls_certs_only([trusted.clone()]).timeout(Duration::from_secs(5));
    let builder = builder.resolve(name, format!("{THERE}:{GATEWAY}").parse().unwrap());
    let client = shown.into_iter().fold(builder, |builder, shown| builder.identity(shown)).build().unwrap();
    let answer = client.get(format!("https://{name}:{GATEWAY}/")).send().await.map_err(|e| format!("{e:?}"))?;
    answer.text().await.map_err(|e| format!("{e:?}"))
}

#[test]
fn a_workspace_on_another_machine_is_reached_through_its_gateway_and_by_nobody_else() {
    far(async |world| {
        ground(&world, HAPROXY).await;
        team(&world, "hello", "ada").await;
        for name in ["w0", "w1"] {
            world.create(records::workspace(name)).await;
        }
        gateway_is(&world, "True", "Serving").await;
        pages(&world, "w0", "w0 ").await;
        pages(&world, "w1", "w1 ").await;
        until("the workspace to run", PATIENCE, async || {
            let status = world.workspace("w0").await.status.unwrap_or_default();
            let routed = status.conditions.iter().any(|c| c.type_ == "Routed" && c.status == "True");
            if routed { Ok(()) } else { Err(format!("{:?}", status.conditions)) }
        })
        .await;

        // It has less than any other container, and no port of any container is published.
        let of = |what: &str| world.docker(&["inspect", "-f", what, &name_of_gateway(&world)]);
        assert_eq!(of("{{.HostConfig.NetworkMode}} {{.Config.User}} {{.HostConfig.ReadonlyRootfs}}"), "host 65534:65534 true");
        assert_eq!(of("{{.HostConfig.CapAdd}} {{.HostConfig.Privileged}} {{.Mounts}}"), "[] false []");
        assert!(!of("{{json .Config}}").contains("PRIVATE KEY"), "its key is in its memory alone");
        for id in world.docker(&["ps", "-aq"]).lines() {
            assert_eq!(world.docker(&["inspect", "-f", "{{.HostConfig.PortBindings}}", id]), "map[]");
        }
        let inside = |script: &str| world.docker(&["exec", &name_of_gateway(&world), "sh", "-c", script]);
        assert_eq!(
            inside("ls -l /run/devsanctum | grep -c '^.rw-------\\|^srw-------'"),
            "5",
            "{}",
            inside("ls -l /run/devsanctum")
        );

        // Whom it lets in, and to what.
        let (name, shown, trusted) = transport(&world, "w0").await;
        let (_, domain) = name.split_once('.').unwrap();
        assert!(let_in(&name, Some(shown.clone()), &trusted).await.unwrap().starts_with("w0 "));
        let (pem, key) = Authority::make().unwrap();
        let stranger = Authority::read(&pem, &key).unwrap().client("devsanctum-proxy").unwrap();
        let stranger = Identity::from_pem(format!("{}{}", stranger.certificate, stranger.key).as_bytes()).unwrap();
        let own = Identity::from_pem(inside("cat /run/devsanctum/server.pem").as_bytes()).unwrap();
        for (who, shown) in [("nobody", None), ("a stranger", Some(stranger)), ("a gateway", Some(own))] {
            let refused = let_in(&name, shown, &trusted).await;
            assert!(refused.as_ref().is_err_and(|e| e.contains("Alert") || e.contains("alert")), "{who}: {refused:?}");
        }
        let [_, pem, authority] = transport_pems(&world, "w0").await;
        assert!(says(&name, &pem, &authority, "GET / HTTP/1.0\r\n\r\n").await.starts_with("HTTP/1."), "it can be spoken with");
        assert_eq!(says(&format!("admin.{domain}"), &pem, &authority, "show info\n").await, "", "but not told what to do");
        for other in ["admin", "p8080-nobody", "p22-host"] {
            let refused = let_in(&format!("{other}.{domain}"), Some(shown.clone()), &trusted).await;
            assert!(refused.is_err(), "{other}: {refused:?}");
        }
        // A neighbour is hung up on before it says anything; nor does it reach the other itself.
        let container = world.container("w1").await;
        let gateway = world.docker(&["inspect", "-f", "{{range .NetworkSettings.Networks}}{{.Gateway}}{{end}}", &container]);
        let address = world.workspace("w0").await.status.unwrap().address.unwrap();
        let pid = world.docker(&["inspect", "-f", "{{.State.Pid}}", &container]);
        for host in [gateway.as_str(), THERE] {
            let come = silent(&pid, &format!("{host}:{GATEWAY}"));
            assert!(matches!(come, Ok(0) | Err(ErrorKind::ConnectionReset)), "{host}: {come:?}");
        }
        let other = silent(&world.daemon.pid().to_string(), &format!("{THERE}:{GATEWAY}"));
        assert_eq!(other, Err(ErrorKind::WouldBlock), "others are waited for");
        let script = format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 3 {address} 8080 2>/dev/null");
        assert_eq!(world.docker_says(&["exec", &container, "sh", "-c", &script]), "");

        // One that is stopped leads nowhere, and to nobody else while others get addresses; what is deleted is forgotten.
        for name in ["w0", "w1"] {
            world.merge(name, json!({"spec": {"running": false}})).await;
        }
        until("w0's name to lead nowhere", PATIENCE, async || match let_in(&name, Some(shown.clone()), &trusted).await {
            Err(_) => Ok(()),
            Ok(body) => Err(body),
        })
        .await;
        let host = host_of(&world, "w0").await;
        for (name, of) in [("w1", "w1 "), ("w0", "w0 ")] {
            world.merge(name, json!({"spec": {"running": true}})).await;
            until(&format!("{name} again"), PATIENCE, async || {
                let (code, body) = request(world.web, &host, "/", &[]).await;
                assert!(code != 200 || body.starts_with("w0 "), "somebody else's: {body}");
                if let Ok(body) = let_in(&transport_name(name, domain, &world).await, Some(shown.clone()), &trusted).await {
                    assert!(body.starts_with(of), "somebody else's: {body}");
                }
                match world.page(name).await {
                    (200, body) if body.starts_with(of) => Ok(()),
                    other => Err(format!("{other:?}")),
                }
            })
            .await;
        }
        world.delete("w0").await;
        world.gone("w0").await;
        assert!(let_in(&name, Some(shown.clone()), &trusted).await.is_err());
        pages(&world, "w1", "w1 ").await;

        // Another authority: who was let in by the one before is not.
        let name = transport_name("w1", domain, &world).await;
        assert!(let_in(&name, Some(shown.clone()), &trusted).await.unwrap().starts_with("w1 "));
        let secrets: kube::Api<devsanctum::resource::Secret> = kube::Api::namespaced(world.client.clone(), "devsanctum-system");
        secrets.delete("gateways", &Default::default()).await.unwrap();
        until("another authority", PATIENCE, async || match let_in(&name, Some(shown.clone()), &trusted).await {
            Err(_) => Ok(()),
            Ok(body) => Err(body),
        })
        .await;
        pages(&world, "w1", "w1 ").await;
        let (_, shown, trusted) = transport(&world, "w1").await;
        assert!(let_in(&name, Some(shown), &trusted).await.unwrap().starts_with("w1 "));
    });
}

async fn transport_name(name: &str, domain: &str, world: &World<'_>) -> String {
    format!("p8080-{}.{domain}", world.workspace(name).await.metadata.uid.unwrap())
}

#[test]
fn what_stands_open_through_a_gateway_is_cut_and_the_gateway_comes_back() {
    far(async |world| {
        ground(&world, HAPROXY).await;
        let _root = set_up(&world).await;
        let mut eve = person(&world, "eve").await;
        team(&world, "echo", "eve").await;
        let mut workspace = records::workspace("w0");
        workspace["spec"]["owner"] = json!("eve");
        world.create(workspace).await;
        let host = host_of(&world, "w0").await;
        answers(&world, &host, 200).await;

        // What was opened while it was public ends at the gateway; what is public again is left alone.
        let anybody = Browser::new(world.web);
        let mut socket = opened(&world, &anybody, &host).await;
        let begun = Instant::now();
        world.merge("w0", json!({"spec": {"visibility": "PRIVATE"}})).await;
        socket.end().await;
        eprintln!("opened while it was public, through a gateway: cut {:?} after it turned private", begun.elapsed());
        answers(&world, &host, 401).await;
        assert_eq!(Socket::open(&world, &anybody, &host).await.0, 401);

        // One with a right to it goes through the control plane and the gateway, and is cut when the right ends.
        let page = eve.open(&format!("http://{host}:{}/", world.web.port())).await;
        assert_eq!((page.code, page.body.as_str()), (200, "yes"));
        let mut socket = opened(&world, &eve, &host).await;
        let begun = Instant::now();
        assert_eq!(eve.submit(&format!("{}/logout", panel(&world)), &[]).await.code, 302);
        socket.end().await;
        eprintln!("signed out, through a gateway: cut {:?} after", begun.elapsed());

        // Somebody removes the gateway, or kills what is in it.
        world.merge("w0", json!({"spec": {"visibility": "PUBLIC"}})).await;
        answers(&world, &host, 200).await;
        let id = || world.docker_says(&["inspect", "-f", "{{.Id}}", &name_of_gateway(&world)]);
        for how in [&["rm", "-f"][..], &["kill"]] {
            let before = id();
            world.docker(&[how, &[name_of_gateway(&world).as_str()]].concat());
            until("another gateway", PATIENCE, async || match id() {
                other if other != before && !other.is_empty() => Ok(()),
                _ => Err(world.log_tail()),
            })
            .await;
            answers(&world, &host, 200).await;
            let _ = opened(&world, &anybody, &host).await;
        }

        // A control plane that is started anew finds what it had, and what stands open goes on meanwhile, in whatever order it comes to
        // look at who is there.
        let mut sockets = Vec::new();
        for name in ["w1", "w2", "w3", "w4", "w5", "w6"] {
            let mut workspace = records::workspace(name);
            workspace["spec"]["owner"] = json!("eve");
            world.create(workspace).await;
            let host = host_of(&world, name).await;
            answers(&world, &host, 200).await;
            sockets.push(opened(&world, &anybody, &host).await);
        }
        sockets.push(opened(&world, &anybody, &host).await);
        let open = join_all(sockets.iter_mut().map(|socket| socket.echoes("there"))).await;
        assert!(open.iter().all(|open| *open), "{open:?}: {}", world.log_tail());
        let mut world = world;
        let before = world.docker_says(&["inspect", "-f", "{{.Id}}", &name_of_gateway(&world)]);
        world.kill();
        world.restart().await;
        answers(&world, &host, 200).await;
        // The gateway was told by then.
        tokio::time::sleep(Duration::from_secs(3)).await;
        let open = join_all(sockets.iter_mut().map(|socket| socket.echoes("still there"))).await;
        assert!(open.iter().all(|open| *open), "{open:?}: {}", world.log_tail());
        assert_eq!(world.docker_says(&["inspect", "-f", "{{.Id}}", &name_of_gateway(&world)]), before);
        let route = world.routes().list(&Default::default()).await.unwrap().items.remove(0).metadata.name.unwrap();
        let events = world.events(&route).await;
        assert!(events.iter().all(|(reason, _)| reason != "ConnectionsGoOn"), "{events:?}");
    });
}

#[test]
fn a_service_that_speaks_tls_answers_through_its_gateway_and_work_over_what_stands_open_is_seen() {
    far(async |world| {
        ground(&world, HAPROXY).await;
        team(&world, "both", "ada").await;
        world.create(records::workspace("w0")).await;
        let _secure = secured(&world, "w0").await;
        let host = host_of(&world, "w0").await;
        answers(&world, &host, 200).await;
        let secure = host.replacen('.', "-tls.", 1);
        answers(&world, &secure, 200).await;
        let _ = opened(&world, &Browser::new(world.web), &secure).await;

        // Its own work keeps a workspace; that of others, and an open connection without any, keeps none.
        world.create(records::workspace("idle")).await;
        let _secure_too = secured(&world, "idle").await;
        let idle = host_of(&world, "idle").await;
        answers(&world, &idle, 200).await;
        let _held = opened(&world, &Browser::new(world.web), &idle).await;
        up(&world, &["w0", "idle"]).await;
        let idling = async {
            lay_down(&world, "8s", "never").await;
            stopped(&world, "idle").await;
            assert!(runs(&world, "w0").await);
        };
        tokio::select! {
            () = talks(&world, &host, 1000) => panic!("it was cut"),
            () = idling => {}
        }

        // While the gateway cannot be asked, nobody knows whether somebody works there: nothing stops.
        firewall(&world, "-I", "DROP");
        until("it to be said", PATIENCE * 2, async || {
            let events = world.events("w0").await;
            let said = events.iter().any(|(reason, note)| reason == "ActivityUnknown" && note.contains("the gateway of rack"));
            if said { Ok(()) } else { Err(format!("{events:?}")) }
        })
        .await;
        assert!(runs(&world, "w0").await);
        firewall(&world, "-D", "DROP");
        stopped(&world, "w0").await;
    });
}

#[test]
fn what_is_wrong_with_a_gateway_is_said_and_mends_itself() {
    far(async |world| {
        // Somebody else's, on the host.
        let namespace = std::fs::File::open(format!("/proc/{}/ns/net", world.daemon.pid())).unwrap();
        let taken = std::thread::spawn(move || {
            rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(rustix::thread::LinkNameSpaceType::Network))
                .unwrap();
            std::net::TcpListener::bind(("0.0.0.0", GATEWAY)).unwrap()
        });
        let taken = taken.join().unwrap();
        ground(&world, "ds-test/nothing:1").await;
        team(&world, "hello", "ada").await;
        world.create(records::workspace("w0")).await;
        let words = gateway_is(&world, "False", "ImageMissing").await;
        assert!(words.contains("ds-test/nothing:1") && words.contains("spec.images.gateway"), "{words}");
        until("the workspace to say so", PATIENCE, async || {
            let status = world.workspace("w0").await.status.unwrap_or_default();
            let found = status.conditions.iter().find(|c| c.reason == "NoGateway").map(|c| c.message.clone());
            found.filter(|m| m.contains("GatewayReady")).map(drop).ok_or_else(|| format!("{:?}", status.conditions))
        })
        .await;
        set_image(&world, HAPROXY).await;
        let words = gateway_is(&world, "False", "PortTaken").await;
        assert!(words.contains(&GATEWAY.to_string()) && words.contains("spec.gatewayPort"), "{words}");
        drop(taken);
        gateway_is(&world, "True", "Serving").await;
        pages(&world, "w0", "w0 ").await;

        // What lies between lets nobody through; that is found at the next look, for which somebody asks here.
        firewall(&world, "-I", "REJECT --reject-with tcp-reset");
        world.merge("w0", json!({"spec": {"running": false}})).await;
        world.docker(&["kill", &name_of_gateway(&world)]);
        let words = gateway_is(&world, "False", "Unreachable").await;
        assert!(words.contains(&format!("{THERE}:{GATEWAY}")) && words.contains("spec.upstreamAddress"), "{words}");
        firewall(&world, "-D", "REJECT --reject-with tcp-reset");
        world.merge("w0", json!({"spec": {"running": true}})).await;
        gateway_is(&world, "True", "Serving").await;
        pages(&world, "w0", "w0 ").await;

        // One that ends again and again, each time after it has answered, is told of, and rests; the first time was above.
        world.docker(&["kill", &name_of_gateway(&world)]);
        let words = gateway_is(&world, "False", "Ended").await;
        assert!(words.contains("exit code 137"), "{words}");
        gateway_is(&world, "True", "Serving").await;
        pages(&world, "w0", "w0 ").await;
        let events = world.events("rack").await;
        assert!(events.iter().any(|(reason, _)| reason == "GatewayEnded"), "{events:?}");
    });
}

/// Puts a rule of what comes to the gateway from the control plane's machine, or takes it away.
fn firewall(world: &World<'_>, how: &str, to: &str) {
    let there = world.daemon.pid().to_string();
    let rule = ["-i", "wire", "-p", "tcp", "--dport", &GATEWAY.to_string(), "-j"];
    let mut command = crate::support::bare("nsenter");
    command.args(["-t", &there, "-n", "iptables", how, "INPUT"]).args(rule).args(to.split(' '));
    assert!(command.status().unwrap().success());
}

/// A service that speaks TLS, in a workspace's container.
async fn secured(world: &World<'_>, name: &str) -> Secure {
    let mut pid = String::new();
    until("its container to run", PATIENCE, async || {
        let container = world.container(name).await;
        pid = world.docker_says(&["inspect", "-f", "{{.State.Pid}}", &container]).trim().to_owned();
        if pid.is_empty() || pid == "0" { Err("not yet".into()) } else { Ok(()) }
    })
    .await;
    Secure::serve(&pid)
}

async fn set_image(world: &World<'_>, gateway: &str) {
    let body = json!({"spec": {"images": {"gateway": gateway}}}).to_string().into_bytes();
    let request =
        http::Request::patch("/apis/devsanctum.io/v1/settings/default").header("content-type", "application/merge-patch+json");
    world.client.request::<Value>(request.body(body).unwrap()).await.unwrap();
}
