//! What servers had in use, at the panel: drawn, told in words, and for administrators alone.

use super::gate::{PASSWORD, panel, person, set_up};
use super::records;
use super::ssh::ran;
use super::world::{PATIENCE, in_world, until};
use crate::support::bare;
use crate::support::browser::Browser;
use crate::support::source::root;
use serde_json::json;
use std::process::Stdio;

#[test]
fn administrators_see_what_servers_had_in_use_and_nobody_else_does() {
    in_world(async |world| {
        world.create(records::settings(crate::support::dockerd::TINY)).await;
        let mut server = records::server("local", &world.daemon.socket());
        server["spec"]["pollInterval"] = json!("5s");
        world.create(server).await;
        let (mut admin, mut ada) = (set_up(&world).await, person(&world, "ada").await);
        let (home, servers) = (format!("{}/", panel(&world)), format!("{}/servers", panel(&world)));
        // What processors did is told between two looks.
        until("figures", PATIENCE, async || {
            let page = admin.open(&servers).await.body;
            if page.matches("<svg").count() == 4 { Ok(()) } else { Err(page) }
        })
        .await;
        let page = admin.open(&servers).await;
        for words in [
            "local <span class=\"soft\">online",
            " cores<br>",
            "Memory of local since ",
            " GiB, min ",
            "<strong>Workspaces</strong> now 0<br>",
        ] {
            assert!(page.body.contains(words), "{words}: {}", page.body);
        }
        assert!(!page.body.contains("<script"), "{}", page.body);
        assert!(admin.open(&home).await.body.contains("href=\"/servers\""));

        let refused = ada.open(&servers).await;
        assert!(refused.code == 403 && !refused.body.contains("local"), "{} {}", refused.code, refused.body);
        assert!(!ada.open(&home).await.body.contains("href=\"/servers\""));
        let nobody = Browser::new(world.web).open(&servers).await;
        assert!(nobody.url.contains("/login?next=%2Fservers"), "{}", nobody.url);

        let pictures = std::env::var("DEVSANCTUM_PICTURES").unwrap_or_else(|_| root().join("target/tmp").display().to_string());
        let mut command = bare(root().join("target/tools/node/bin/node"));
        command.arg(root().join("scripts/servers.mjs")).args(["--panel", &panel(&world), "--out", &pictures]);
        command.args(["--email", "root@example.com", "--password", PASSWORD]);
        command.env("HOME", "/root").stdin(Stdio::null());
        let (code, out, words) = ran(command, b"").await;
        assert_eq!(code, 0, "{out}{words}");
    });
}
