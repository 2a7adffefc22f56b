//! The relational views.

use super::harness::*;
use super::on_both;
use devsanctum::store::{KindId, Store};
use serde_json::{Value, json};
use sqlx::Row;

on_both! {
    the_documented_relational_model_can_be_queried
}

async fn keep(store: &Store, kind: KindId, namespace: &str, name: &str, spec: Value, status: Value) {
    let mut it = record(key(kind, namespace, name));
    it.uid = format!("uid-{name}");
    it.body["metadata"]["uid"] = it.uid.clone().into();
    it.body["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
    it.body["spec"] = spec;
    it.body["status"] = status;
    put(store, it).await.unwrap();
}

async fn fill(store: &Store) {
    let image = json!({"base": "node:20-bullseye", "ports": [{"name": "app", "port": 3000}], "env": {"A": "1"}, "startCommand": ["npm", "start"]});
    keep(store, USERS, "", "ada", json!({"email": "ada@example.com", "displayName": "Ada L."}), json!({"provider": "GITHUB"}))
        .await;
    keep(store, "groups.devsanctum.io", "", "devs", json!({"members": [{"user": "ada", "role": "MANAGER"}]}), json!({})).await;
    keep(
        store,
        "dockerservers.devsanctum.io",
        "",
        "host1",
        json!({"host": "10.0.0.1", "tls": {"enabled": true}, "groups": ["devs"]}),
        json!({"phase": "ONLINE", "ramTotalMb": 16000, "diskUsedGb": 1.5}),
    )
    .await;
    keep(store, "templates.devsanctum.io", "", "node", image, json!({})).await;
    keep(store, "templates.devsanctum.io", "", "node-child", json!({"extends": "node"}), json!({})).await;
    keep(store, "features.devsanctum.io", "", "postgres", json!({"sidecar": {"image": "postgres:16"}}), json!({})).await;
    let project = json!({
        "owner": "ada", "template": "node", "visibility": "PUBLIC", "features": [{"name": "postgres"}],
        "repositories": [{"name": "app", "url": "https://git.example.com/app"}], "groups": [{"group": "devs", "role": "DEPLOY"}],
    });
    keep(store, "projects.devsanctum.io", "", "shop", project, json!({})).await;
    let services = json!([{"name": "app", "port": 3000, "protocol": "HTTP", "url": "http://abc.example.com"}]);
    let status =
        json!({"phase": "RUNNING", "slug": "abcd1234", "dockerServer": "host1", "containerId": "c1", "services": services});
    keep(store, WORKSPACES, "shop", "dev", json!({"owner": "ada", "branch": "main", "pinned": true}), status).await;
    keep(store, WORKSPACES, "shop", "bare", json!({"owner": "nobody"}), json!({})).await;
}

async fn the_documented_relational_model_can_be_queried(db: &Db) {
    let store = db.open().await;
    fill(&store).await;
    let expected = [
        ("users", "id, email, name, provider, created_at", "uid-ada ada@example.com Ada L. GITHUB 2026-01-01T00:00:00Z"),
        ("groups", "id, name", "uid-devs devs"),
        ("group_members", "group_id, user_id, role", "uid-devs uid-ada MANAGER"),
        (
            "docker_servers",
            "id, host, port, tls_enabled, status, ram_total_mb, disk_used_gb",
            "uid-host1 10.0.0.1 2376 true ONLINE 16000 1.5",
        ),
        (
            "templates",
            "id, docker_image, default_ports, default_env, start_command",
            r#"uid-node node:20-bullseye [{"name":"app","port":3000}] {"A":"1"} ["npm","start"]"#,
        ),
        ("features", "id, docker_image, default_env", "uid-postgres postgres:16 {}"),
        ("projects", "id, name, owner_id, template_id, visibility", "uid-shop shop uid-ada uid-node PUBLIC"),
        (
            "project_repositories",
            "id, project_id, url, name, default_branch",
            "uid-shop/app uid-shop https://git.example.com/app app main",
        ),
        ("project_features", "project_id, feature_id", "uid-shop uid-postgres"),
        ("project_groups", "project_id, group_id, role", "uid-shop uid-devs DEPLOY"),
        ("docker_server_groups", "docker_server_id, group_id", "uid-host1 uid-devs"),
        (
            "workspaces",
            "id, name, project_id, user_id, docker_server_id, container_id, branch, status, visibility, route_domain, pinned, kept",
            "uid-bare bare uid-shop    main PENDING PRIVATE  false false",
        ),
        (
            "workspace_services",
            "id, workspace_id, name, port, protocol, url",
            "uid-dev/app uid-dev app 3000 HTTP http://abc.example.com",
        ),
    ];
    for (view, columns, row) in expected {
        let text = columns.split(", ").map(|c| as_text(db, c)).collect::<Vec<_>>().join(" || ' ' || ");
        let rows = db.sql(&format!("SELECT {text} FROM {view} ORDER BY 1")).await;
        assert_eq!(rows.first().unwrap_or_else(|| panic!("{view} is empty")).get::<String, _>(0), row, "{view}");
    }
    let child = db.sql("SELECT docker_image FROM templates WHERE name = 'node-child'").await;
    assert_eq!(child[0].get::<String, _>(0), "node:20-bullseye", "from the template it extends");
    let running = "SELECT w.name FROM workspaces w JOIN users u ON u.id = w.user_id JOIN docker_servers d ON d.id = w.docker_server_id \
                   WHERE u.email = 'ada@example.com' AND d.name = 'host1' AND w.status = 'RUNNING' AND w.pinned";
    assert_eq!(db.sql(running).await[0].get::<String, _>(0), "dev");
}

/// A column as text, the same on both databases.
fn as_text(db: &Db, column: &str) -> String {
    let boolean = ["tls_enabled", "pinned", "kept"].contains(&column);
    match db {
        Db::Sqlite(_) if boolean => format!("(CASE WHEN {column} THEN 'true' ELSE 'false' END)"),
        _ => format!("coalesce(CAST({column} AS TEXT), '')"),
    }
}
