//! `server remove`: a host that workspaces are on is kept, and one that is gone is let go.

use super::rack::server;
use super::records;
use super::world::{on, until};
use crate::support::dockerd::{Dockerd, Options};
use std::time::Duration;

#[test]
fn a_server_with_workspaces_is_kept_and_one_that_is_gone_is_let_go() {
    let daemon = Dockerd::start(&Options::default());
    on(&daemon, async |world| {
        world.with_workspaces(1).await;
        let (code, said) = server(&world, &["remove", "local"]);
        assert!(code == Some(1) && said.contains("team/w0") && said.contains("server drain local --stop"), "{said}");
        assert!(world.servers().get("local").await.unwrap().metadata.deletion_timestamp.is_none());
        world.delete("w0").await;
        world.gone("w0").await;
        let (code, said) = server(&world, &["remove", "local"]);
        assert!(code == Some(0) && said.contains("deleted"), "{said}");
        assert_eq!(world.objects(&["network", "ls"], "{{.Name}}"), Vec::<String>::new(), "nothing stays behind");

        world.create(records::server("local", &daemon.socket())).await;
        until("the server to be online", Duration::from_secs(60), async || {
            let status = world.servers().get("local").await.unwrap().status.unwrap_or_default();
            if format!("{:?}", status.phase) == "Online" { Ok(()) } else { Err(format!("{:?}", status.conditions)) }
        })
        .await;
        daemon.kill();
        let (code, said) = server(&world, &["remove", "local", "--timeout", "5s"]);
        assert!(code == Some(4) && said.contains("--force"), "{said}");
        let (code, said) = server(&world, &["remove", "local", "--force"]);
        assert!(code == Some(0) && said.contains("left behind"), "{said}");
        assert!(world.servers().get_opt("local").await.unwrap().is_none());
    });
}
