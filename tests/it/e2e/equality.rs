//! Whether the world equals the records: exactly what they ask for, and nothing else of ours.

use super::records::IDLE;
use super::world::{PATIENCE, World, until};
use crate::support::traefik::request;
use devsanctum::plan::workspace::base_name;
use devsanctum::resource::{Project, Workspace, labels};
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use serde_json::Value;
use std::time::Duration;

impl World<'_> {
    /// Remembers a container or volume as somebody else's: it must stay as it is now.
    pub fn protect(&mut self, kind: &str, name: &str) {
        let now = self.look(kind, name);
        self.foreign.insert(format!("{kind} {name}"), now);
    }

    fn look(&self, kind: &str, name: &str) -> String {
        let format =
            if kind == "volume" { "{{.CreatedAt}} {{.Labels}}" } else { "{{.Id}} {{.State.Status}} {{.State.StartedAt}}" };
        String::from_utf8(self.daemon.try_docker(&[kind, "inspect", "--format", format, name]).stdout).unwrap()
    }

    /// Names of Docker objects of this installation: `ps -a`, `network ls` or `volume ls`.
    pub fn objects(&self, listing: &[&str], format: &str) -> Vec<String> {
        let filter = format!("label={}={}", labels::INSTANCE, self.instance);
        let args: Vec<&str> = listing.iter().copied().chain(["--filter", &filter, "--format", format]).collect();
        let mut all: Vec<String> = self.docker(&args).lines().map(str::to_owned).collect();
        all.retain(|line| !self.foreign.keys().any(|f| f.split(' ').nth(1) == line.split(' ').next()));
        all.sort();
        all
    }

    /// Waits until the world equals the records.
    pub async fn at_rest(&self) {
        self.at_rest_within(PATIENCE).await;
    }

    pub async fn at_rest_within(&self, patience: Duration) {
        until("the world to equal the records", patience, async || self.equals_records().await).await;
    }

    /// Says in what the world differs from the records.
    pub async fn equals_records(&self) -> Result<(), String> {
        let all = Api::<Workspace>::all(self.client.clone()).list(&ListParams::default()).await.map_err(|e| e.to_string())?.items;
        let all: Vec<Workspace> =
            all.into_iter().filter(|w| w.namespace().as_deref() == Some("team") || w.warm_of().is_some()).collect();
        let mut wanted = vec![format!("{}-probe running", self.bridge())];
        let mut volumes = Vec::new();
        let project = Api::<Project>::all(self.client.clone()).get_opt("team").await.map_err(|e| e.to_string())?;
        let repositories = project.is_some_and(|p| !p.spec.repositories.is_empty());
        for w in &all {
            let state = if w.spec.running { "running" } else { "exited" };
            let phase = w.status.as_ref().map(|s| format!("{:?}", s.phase)).unwrap_or_default();
            if phase.to_lowercase() != state.replace("exited", "stopped") {
                return Err(format!("{} is {phase}: {:?}", w.name_any(), w.status.as_ref().and_then(|s| s.message.clone())));
            }
            let base = base_name(&w.identity());
            wanted.push(format!("{base} {state}"));
            wanted.extend((0..self.sidecars).map(|_| format!("{base}.side {state}")));
            volumes.push(format!("{base}.data"));
            // Repositories lie on a volume of their own.
            volumes.extend(repositories.then(|| format!("{base}.workspace")));
        }
        same("containers", wanted, self.containers())?;
        same(
            "volumes",
            volumes,
            self.objects(&["volume", "ls"], "{{.Name}}").into_iter().filter(|v| !v.contains(".shared.")).collect(),
        )?;
        same("networks", vec![self.bridge()], self.objects(&["network", "ls"], "{{.Name}}"))?;
        self.routes_equal(&all).await?;
        self.foreign.keys().try_for_each(|thing| self.still(thing)).unwrap_or_else(|e| panic!("{e}"));
        Ok(())
    }

    /// Containers of this installation and their states. Not as `docker ps` has them: where dockerd could not write a change
    /// down, on a full disk, its list goes on showing what was before.
    fn containers(&self) -> Vec<String> {
        let names = self.objects(&["ps", "-a"], "{{.Names}}");
        let args = ["inspect", "--type=container", "--format={{.Name}} {{.State.Status}}"];
        // One that is gone meanwhile is left out.
        let all: Vec<&str> = args.into_iter().chain(names.iter().map(String::as_str)).collect();
        let found = if names.is_empty() { Vec::new() } else { self.daemon.try_docker(&all).stdout };
        String::from_utf8_lossy(&found).lines().map(|line| line.trim_start_matches('/').to_owned()).collect()
    }

    /// Says whether somebody else's object is as it was.
    pub fn still(&self, thing: &str) -> Result<(), String> {
        let (kind, name) = thing.split_once(' ').unwrap_or_default();
        let (now, before) = (self.look(kind, name), &self.foreign[thing]);
        if now == *before { Ok(()) } else { Err(format!("the foreign {thing} was touched: it was {before}, and is {now}")) }
    }

    async fn routes_equal(&self, all: &[Workspace]) -> Result<(), String> {
        let routes = self.routes().list(&ListParams::default()).await.map_err(|e| e.to_string())?.items;
        // What nobody has yet is not routed.
        let all: Vec<&Workspace> = all.iter().filter(|w| w.warm_of().is_none()).collect();
        let names = routes.iter().map(|r| r.spec.workspace.clone()).collect();
        same("routes", all.iter().map(|w| w.name_any()).collect(), names)?;
        let url = format!("http://{}/api/http/routers?per_page=1000", self.traefik().api);
        let direct = reqwest::Client::builder().no_proxy().build().map_err(|e| e.to_string())?;
        let routers = direct.get(&url).send().await.map_err(|e| e.to_string())?;
        let routers: Value = routers.json().await.map_err(|e| e.to_string())?;
        let served =
            routers.as_array().into_iter().flatten().filter(|r| r["rule"].as_str().is_some_and(|r| r.contains(".localhost")));
        let rules = served.map(|r| r["rule"].as_str().unwrap_or_default().to_owned()).collect();
        let running: Vec<&Workspace> = all.into_iter().filter(|w| w.spec.running).collect();
        let panel = Some("devsanctum.localhost".to_owned());
        let wanted = running.iter().map(|w| host(w)).chain([panel]).flatten().map(|h| format!("Host(`{h}`)"));
        same("live routes", wanted.collect(), rules)?;
        for w in running {
            let (code, body) = request(self.web, &host(w).unwrap_or_default(), "/", &[]).await;
            if code != 200 || !body.starts_with(&w.identity().name) {
                return Err(format!("{} answers {code} {body:?}", w.name_any()));
            }
        }
        Ok(())
    }

    /// A container that must never be touched: somebody else's.
    pub fn add_foreign(&mut self, name: &str, labels: &[(&str, &str)]) {
        let pairs: Vec<String> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let mark = format!("ds-e2e={}", self.instance);
        let mut args = vec!["run", "-d", "--network=none", "--name", name, "--label", &mark];
        pairs.iter().for_each(|pair| args.extend(["--label", pair.as_str()]));
        args.extend(IDLE);
        self.docker(&args);
        self.protect("container", name);
    }
}

/// The host of a workspace's first service.
pub fn host(w: &Workspace) -> Option<String> {
    let url = w.status.as_ref()?.services.first()?.url.clone()?;
    let host = url.strip_prefix("http://")?;
    Some(host.split(':').next()?.to_owned())
}

fn same(what: &str, mut wanted: Vec<String>, mut found: Vec<String>) -> Result<(), String> {
    wanted.sort();
    found.sort();
    if wanted == found { Ok(()) } else { Err(format!("{what}: records want {wanted:?}, there are {found:?}")) }
}
