//! An API over a store of its own, spoken to inside the process.

use super::postgres;
use axum::Router;
use axum::body::{Body, to_bytes};
use devsanctum::access::Identity;
use devsanctum::api::streams::{NoStreams, WorkspaceStreams};
use devsanctum::api::{ApiConfig, ApiState, NoObserver, bootstrap, client, router};
use devsanctum::clock::SystemClock;
use devsanctum::store::{SecretKey, Store, StoreConfig};
use http::{Method, Request};
use serde_json::{Value, json};
use sqlx::Connection;
use std::sync::Arc;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// Our own kinds' group.
pub const GROUP: &str = "/apis/devsanctum.io/v1";

/// An API whose store goes with it.
pub struct Api {
    pub store: Store,
    pub shutdown: CancellationToken,
    /// Without an identity: callers need a token.
    pub open: Router,
    /// As the administrator.
    pub router: Router,
    pub dir: TempDir,
    database: Option<postgres::Database>,
}

impl Api {
    pub async fn new() -> Self {
        Self::with_streams(Arc::new(NoStreams), 100_000).await
    }

    /// With its database in memory where there is such a folder: for tests that write much, and prove nothing of disks.
    pub async fn quick() -> Self {
        let memory = std::path::Path::new("/dev/shm");
        let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let url = format!("sqlite://{}", dir.path().join("api.db").display());
        Self::at(url, dir, None, Arc::new(NoStreams), 100_000).await
    }

    pub async fn with_streams(streams: Arc<dyn WorkspaceStreams>, keep_changes: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", dir.path().join("api.db").display());
        Self::at(url, dir, None, streams, keep_changes).await
    }

    /// An API on a PostgreSQL database of its own.
    pub async fn on_postgres() -> Self {
        let database = postgres::database().await;
        Self::at(database.url.clone(), tempfile::tempdir().unwrap(), Some(database), Arc::new(NoStreams), 100_000).await
    }

    async fn at(
        url: String,
        dir: TempDir,
        database: Option<postgres::Database>,
        streams: Arc<dyn WorkspaceStreams>,
        keep_changes: u32,
    ) -> Self {
        let store = Store::open(&StoreConfig { url, secret_keys: SecretKey([7; 32]).into(), keep_changes }).await.unwrap();
        Self::over(store, dir, database, streams).await
    }

    /// An API over a store that is there.
    pub async fn on(store: Store) -> Self {
        Self::over(store, tempfile::tempdir().unwrap(), None, Arc::new(NoStreams)).await
    }

    async fn over(store: Store, dir: TempDir, database: Option<postgres::Database>, streams: Arc<dyn WorkspaceStreams>) -> Self {
        bootstrap(&store, &SystemClock).await.unwrap();
        let shutdown = CancellationToken::new();
        let state = ApiState::new(ApiConfig {
            store: store.clone(),
            streams,
            health: Arc::new(NoObserver),
            observer: Arc::new(NoObserver),
            clock: SystemClock::shared(),
            shutdown: shutdown.clone(),
        });
        let open = router(state);
        let identity = Identity::administrator("admin");
        let router = open.clone().layer(axum::Extension(identity));
        Self { store, shutdown, open, router, dir, database }
    }

    /// True when the database holds this text somewhere, in whatever form it keeps bytes.
    pub async fn database_holds(&self, text: &str) -> bool {
        let Some(database) = &self.database else {
            let holds = |file: std::fs::DirEntry| {
                std::fs::read(file.path()).is_ok_and(|bytes| bytes.windows(text.len()).any(|w| w == text.as_bytes()))
            };
            return std::fs::read_dir(self.dir.path()).unwrap().any(|file| holds(file.unwrap()));
        };
        let mut conn = sqlx::PgConnection::connect(&database.url).await.unwrap();
        let tables =
            "SELECT table_name::text FROM information_schema.tables WHERE table_schema = 'public' AND table_type = 'BASE TABLE'";
        let tables: Vec<String> = sqlx::query_scalar(tables).fetch_all(&mut conn).await.unwrap();
        let hex: String = text.bytes().map(|b| format!("{b:02x}")).collect();
        let mut rows = 0;
        for table in tables {
            let sql = format!("SELECT count(*) FROM \"{table}\" t WHERE strpos(t::text, $1) > 0 OR strpos(t::text, $2) > 0");
            // A row as text doubles the quotes within a field.
            let query = sqlx::query_scalar::<_, i64>(sqlx::AssertSqlSafe(sql)).bind(text.replace('"', "\"\"")).bind(&hex);
            rows += query.fetch_one(&mut conn).await.unwrap();
        }
        rows > 0
    }

    /// Runs SQL beside the store.
    pub async fn sql(&self, sql: &str) {
        sqlx::any::install_default_drivers();
        let file = format!("sqlite://{}", self.dir.path().join("api.db").display());
        let url = self.database.as_ref().map_or(file, |database| database.url.clone());
        let mut conn = sqlx::AnyConnection::connect(&url).await.unwrap();
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(&mut conn).await.unwrap();
        conn.close().await.unwrap();
    }

    pub fn client(&self) -> kube::Client {
        client(self.open.clone(), Identity::system("test"))
    }

    /// Sends a request; answers with code and JSON.
    pub async fn call(&self, method: &str, path: &str, media: &str, body: impl Into<Body>) -> (u16, Value) {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let request = Request::builder().method(method).uri(path).header("content-type", media).body(body.into()).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let code = response.status().as_u16();
        let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (code, serde_json::from_slice(&bytes).unwrap_or_else(|_| json!(String::from_utf8_lossy(&bytes))))
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        self.call("GET", path, "", Body::empty()).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.call("POST", path, "application/json", body.to_string()).await
    }

    pub async fn put(&self, path: &str, body: &Value) -> (u16, Value) {
        self.call("PUT", path, "application/json", body.to_string()).await
    }

    pub async fn merge(&self, path: &str, body: &Value) -> (u16, Value) {
        self.call("PATCH", path, "application/merge-patch+json", body.to_string()).await
    }

    pub async fn delete(&self, path: &str) -> (u16, Value) {
        self.call("DELETE", path, "", Body::empty()).await
    }

    /// Creates a record that must be taken.
    pub async fn create(&self, path: &str, body: &Value) -> Value {
        let (code, answer) = self.post(path, body).await;
        assert_eq!(code, 201, "{answer}");
        answer
    }

    /// A user `ada`, a template `base` and a project `team`.
    pub async fn project(&self) {
        self.create(&format!("{GROUP}/users"), &user("ada")).await;
        self.create(&format!("{GROUP}/templates"), &template("base")).await;
        self.create(&format!("{GROUP}/projects"), &project("team")).await;
    }
}

pub fn record(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "devsanctum.io/v1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

pub fn user(name: &str) -> Value {
    record("User", name, json!({"email": format!("{name}@example.com")}))
}

pub fn template(name: &str) -> Value {
    record("Template", name, json!({"base": "node:20"}))
}

pub fn project(name: &str) -> Value {
    record("Project", name, json!({"owner": "ada", "template": "base"}))
}

pub fn workspace(name: &str) -> Value {
    record("Workspace", name, json!({"owner": "ada"}))
}

pub fn route(name: &str, workspace: &str) -> Value {
    record("Route", name, json!({"host": format!("{name}.example.com"), "workspace": workspace, "port": 3000}))
}

/// `…/namespaces/team/workspaces`.
pub fn workspaces() -> String {
    format!("{GROUP}/namespaces/team/workspaces")
}

/// `…/namespaces/team/routes`.
pub fn routes() -> String {
    format!("{GROUP}/namespaces/team/routes")
}
