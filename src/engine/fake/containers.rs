//! The life of the fake's containers.

use super::answers::{Outcome, Refusal};
use super::events::has_label;
use super::networks::text_map;
use super::shell;
use super::world::{FakeContainer, FakeImage, LOG_CHUNKS, Life, LogChunk, World};
use crate::engine::IN_MEMORY;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};

impl World {
    pub(super) fn container(&mut self, asked: &str) -> Outcome<&mut FakeContainer> {
        let id = self.find(asked).ok_or_else(|| Refusal::no_container(asked))?.to_owned();
        self.containers.get_mut(&id).ok_or_else(|| Refusal::no_container(asked))
    }

    pub(super) fn create(&mut self, name: Option<&str>, mut body: Value) -> Outcome<String> {
        self.has_cores(&body["HostConfig"])?;
        let image = body["Image"].as_str().unwrap_or_default().to_owned();
        let missing = || Refusal(404, format!("No such image: {}", super::images::tagged(&image)));
        let FakeImage { id: image, files, .. } = self.image(&image).ok_or_else(missing)?.clone();
        let id = self.new_id();
        let name = name.filter(|n| !n.is_empty()).map_or_else(|| format!("random_{}", &id[..12]), str::to_owned);
        if let Some(owner) = self.names.get(&name) {
            return Err(Refusal(
                409,
                format!(
                    "Conflict. The container name \"/{name}\" is already in use by container \"{owner}\". You have to \
                     remove (or rename) that container to be able to reuse that name."
                ),
            ));
        }
        let mut host = body["HostConfig"].take();
        self.limit_swap(&mut host);
        let mounts = mounts(&host);
        for volume in mounts.keys() {
            self.ensure_volume(volume, BTreeMap::new());
        }
        let networks = match host["NetworkMode"].as_str() {
            None | Some("none" | "default") => BTreeMap::new(),
            Some(mode) if mode.starts_with("container:") => BTreeMap::new(),
            Some(mode) => BTreeMap::from([(mode.to_owned(), (String::new(), None))]),
        };
        let container = FakeContainer {
            id: id.clone(),
            name: name.clone(),
            image,
            labels: text_map(&body["Labels"]),
            config: body,
            host,
            life: Life::Created,
            run: 0,
            exit_code: 0,
            oom_killed: false,
            error: String::new(),
            created: self.now(),
            started: None,
            finished: None,
            networks,
            mounts,
            files,
            log: VecDeque::new(),
            log_dropped: 0,
            changed: None,
            load: 0.0,
        };
        self.names.insert(name, id.clone());
        self.containers.insert(id.clone(), container);
        self.tell_of_container("create", &id, &[]);
        Ok(id)
    }

    /// Starts a container; gives its id and run, or `None` when it runs already.
    pub(super) fn start(&mut self, asked: &str) -> Outcome<Option<(String, u64)>> {
        let container = self.container(asked)?;
        match container.life {
            Life::Running => return Ok(None),
            Life::Paused => return Err(Refusal(409, "cannot start a paused container, try unpause instead".into())),
            Life::Dead => return Err(Refusal(409, "container is marked for removal and cannot be started".into())),
            Life::Created | Life::Exited => {}
        }
        let id = container.id.clone();
        if let Err(refusal) = self.prepare(&id) {
            self.leave_all(&id);
            let container = self.container(&id)?;
            container.error.clone_from(&refusal.1);
            container.exit_code = if refusal.0 == 400 { 127 } else { 128 };
            return Err(refusal);
        }
        let now = self.now();
        let container = self.container(&id)?;
        container.life = Life::Running;
        container.run += 1;
        container.started = Some(now);
        container.exit_code = 0;
        container.error.clear();
        let run = container.run;
        self.tell_of_no_network("connect", &id);
        self.tell_of_container("start", &id, &[]);
        Ok(Some((id, run)))
    }

    /// All that can go wrong before the main process runs.
    fn prepare(&mut self, id: &str) -> Outcome<()> {
        let container = self.container(id)?;
        let mode = container.host["NetworkMode"].as_str().unwrap_or_default().to_owned();
        let networks = container.networks.clone();
        let command = container.command();
        if let Some(other) = mode.strip_prefix("container:")
            && self.container(other)?.life != Life::Running
        {
            return Err(Refusal(409, format!("cannot join network of a non running container: {other}")));
        }
        for (name, (held, _)) in networks {
            let known = if held.is_empty() { self.network_named(&name) } else { self.networks.get(&held) };
            let missing = || Refusal(404, format!("network {} not found", if held.is_empty() { &name } else { &held }));
            let network = known.map(|n| n.id.clone()).ok_or_else(missing)?;
            self.join(id, &network)?;
        }
        if let Err(shell::Missing(program)) = shell::program(&command, true) {
            let words = format!(
                "failed to create shim: OCI runtime create failed: container_linux.go:380: starting container process \
                 caused: exec: \"{program}\": executable file not found in $PATH: unknown"
            );
            return Err(Refusal(400, words));
        }
        if self.left.contains(id) {
            return Err(Refusal(500, format!("task {id}: already exists: unknown")));
        }
        Ok(())
    }

    /// A run has ended.
    pub(super) fn finish(&mut self, id: &str, code: i64) {
        let now = self.now();
        let Some(container) = self.containers.get_mut(id) else { return };
        if !matches!(container.life, Life::Running | Life::Paused) {
            return;
        }
        container.life = Life::Exited;
        container.exit_code = code;
        container.oom_killed = false;
        container.finished = Some(now);
        container.files.retain(|path, _| !path.starts_with(IN_MEMORY));
        container.tick();
        self.tell_of_container("die", id, &[("exitCode", code.to_string())]);
        self.tell_of_no_network("disconnect", id);
        self.leave_all(id);
    }

    /// Sends a signal. `KILL` always ends a container; others end those programs that listen.
    pub(super) fn kill(&mut self, asked: &str, signal: &str) -> Outcome<()> {
        let found = self.container(asked);
        let container =
            found.map_err(|Refusal(status, words)| Refusal(status, format!("Cannot kill container: {asked}: {words}")))?;
        let (id, life, listens) = (container.id.clone(), container.life, container.listens());
        if !matches!(life, Life::Running | Life::Paused) {
            return Err(Refusal(409, format!("Cannot kill container: {asked}: Container {id} is not running")));
        }
        let number = match signal.trim_start_matches("SIG") {
            "KILL" => "9",
            "TERM" => "15",
            other => other,
        };
        self.tell_of_container("kill", &id, &[("signal", number.to_owned())]);
        if number == "9" {
            self.finish(&id, 137);
        } else if listens {
            self.finish(&id, 0);
        }
        Ok(())
    }

    pub(super) fn set_paused(&mut self, asked: &str, pause: bool) -> Outcome<()> {
        let container = self.container(asked)?;
        let (id, life) = (container.id.clone(), container.life);
        match (pause, life) {
            (true, Life::Running) => container.life = Life::Paused,
            (false, Life::Paused) => container.life = Life::Running,
            (true, Life::Paused) => return Err(Refusal(409, format!("Container {id} is already paused"))),
            (true, _) => return Err(Refusal(409, format!("Container {id} is not running"))),
            (false, _) => return Err(Refusal(500, format!("Container {id} is not paused"))),
        }
        self.tell_of_container(if pause { "pause" } else { "unpause" }, &id, &[]);
        Ok(())
    }

    /// Docker drops a limit that its kernel does not know.
    fn limit_swap(&self, host: &mut Value) {
        if self.swapless && host["MemorySwap"].is_i64() {
            host["MemorySwap"] = json!(-1);
        }
    }

    fn has_cores(&self, resources: &Value) -> Outcome<()> {
        let n = self.cores;
        if resources["NanoCpus"].as_u64().is_none_or(|asked| asked <= u64::from(n) * 1_000_000_000) {
            return Ok(());
        }
        Err(Refusal(400, format!("Range of CPUs is from 0.01 to {n}.00, as there are only {n} CPUs available")))
    }

    /// Changes what a container may use, running or not. What is not said, or 0, stays as it is.
    pub(super) fn update(&mut self, asked: &str, body: &Value) -> Outcome<()> {
        self.has_cores(body)?;
        let container = self.container(asked)?;
        let (id, host) = (container.id.clone(), &mut container.host);
        let refused = |words: &str| Err(Refusal(409, format!("Cannot update container {id}: {words}")));
        if container.life == Life::Dead {
            return refused("Container is marked for removal and cannot be \"update\".");
        }
        let said = |key: &str| body[key].as_i64().filter(|n| *n != 0);
        if said("MemorySwap").is_none() && said("Memory").is_some_and(|m| m > host["MemorySwap"].as_i64().unwrap_or_default()) {
            return refused(
                "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
            );
        }
        for key in ["Memory", "MemorySwap", "NanoCpus", "PidsLimit"] {
            if let Some(n) = said(key) {
                host[key] = n.into();
            }
        }
        if body["RestartPolicy"]["Name"].as_str().is_some_and(|name| !name.is_empty()) {
            host["RestartPolicy"] = body["RestartPolicy"].clone();
        }
        let mut host = host.take();
        self.limit_swap(&mut host);
        self.container(&id)?.host = host;
        self.tell_of_container("update", &id, &[]);
        Ok(())
    }

    pub(super) fn rename(&mut self, asked: &str, to: &str) -> Outcome<()> {
        let container = self.container(asked)?;
        let (id, name) = (container.id.clone(), container.name.clone());
        if name == to {
            return Err(Refusal(400, "Renaming a container with the same name as its current name".into()));
        }
        if let Some(owner) = self.names.get(to) {
            let words = format!(
                "Error when allocating new name: Conflict. The container name \"/{to}\" is already in use by container \"{owner}\"."
            );
            return Err(Refusal(409, words));
        }
        self.names.remove(&name);
        self.names.insert(to.to_owned(), id.clone());
        self.container(&id)?.name = to.to_owned();
        self.tell_of_container("rename", &id, &[("oldName", format!("/{name}"))]);
        Ok(())
    }

    pub(super) fn remove(&mut self, asked: &str, force: bool) -> Outcome<()> {
        let container = self.container(asked)?;
        let (id, name) = (container.id.clone(), container.name.clone());
        if matches!(container.life, Life::Running | Life::Paused) {
            if !force {
                let words = format!(
                    "You cannot remove a running container {id}. Stop the container before attempting removal or force remove"
                );
                return Err(Refusal(409, words));
            }
            self.kill(&id, "KILL")?;
        }
        self.tell_of_container("destroy", &id, &[]);
        self.containers.remove(&id);
        self.names.remove(&name);
        self.execs.retain(|_, exec| exec.container != id);
        Ok(())
    }

    /// Containers that pass Docker's filters, newest first.
    pub(super) fn container_list(&self, all: bool, filters: &BTreeMap<String, Vec<String>>) -> Value {
        let passes = |c: &&FakeContainer| {
            let runs = matches!(c.life, Life::Running | Life::Paused);
            (all || runs)
                && filters.iter().all(|(key, values)| match key.as_str() {
                    "label" => values.iter().all(|v| has_label(&c.labels, v)),
                    "name" => values.iter().any(|v| c.name.contains(v.trim_matches(['^', '/', '$']))),
                    "id" => values.iter().any(|v| c.id.starts_with(v.as_str())),
                    _ => true,
                })
        };
        let mut found: Vec<_> = self.containers.values().filter(passes).collect();
        found.sort_by_key(|c| std::cmp::Reverse(c.created));
        found.into_iter().map(FakeContainer::summary).collect()
    }

    /// Writes to a container's log.
    pub(super) fn log(&mut self, id: &str, stderr: bool, text: Vec<u8>) {
        let at = self.now();
        if let Some(container) = self.containers.get_mut(id) {
            container.log.push_back(LogChunk { at, stderr, text });
            if container.log.len() > LOG_CHUNKS {
                container.log.pop_front();
                container.log_dropped += 1;
            }
            container.tick();
        }
    }

    /// Writes a file, into a volume where one is mounted there.
    pub(super) fn write_file(&mut self, id: &str, path: &str, bytes: Vec<u8>) {
        let Some(container) = self.containers.get_mut(id) else { return };
        match container.mount_of(path) {
            Some((volume, inside)) => self.volumes.entry(volume).or_default().files.insert(inside, bytes),
            None => container.files.insert(path.to_owned(), bytes),
        };
    }

    /// Reads a file that was written.
    pub(super) fn read_file(&self, id: &str, path: &str) -> Option<Vec<u8>> {
        let container = self.containers.get(id)?;
        match container.mount_of(path) {
            Some((volume, inside)) => self.volumes.get(&volume)?.files.get(&inside).cloned(),
            None => container.files.get(path).cloned(),
        }
    }
}

impl FakeContainer {
    /// What it runs.
    pub(super) fn command(&self) -> Vec<String> {
        let words = self.config["Cmd"].as_array().into_iter().flatten();
        words.filter_map(|w| w.as_str().map(str::to_owned)).collect()
    }

    /// Whether it ends by itself when asked to.
    pub(super) fn listens(&self) -> bool {
        let command = self.command();
        let known = command.first().is_some_and(|program| shell::is_known(program));
        !known || command.get(2).is_some_and(|script| script.starts_with("trap "))
    }

    fn tick(&self) {
        if let Some(changed) = &self.changed {
            changed.send_modify(|n| *n += 1);
        }
    }

    fn mount_of(&self, path: &str) -> Option<(String, String)> {
        let inside = |(volume, at): (&String, &String)| {
            let rest = path.strip_prefix(at.as_str())?;
            rest.starts_with('/').then(|| (volume.clone(), rest.to_owned()))
        };
        self.mounts.iter().find_map(inside)
    }

    fn status(&self) -> &'static str {
        match self.life {
            Life::Created => "created",
            Life::Running => "running",
            Life::Paused => "paused",
            Life::Exited => "exited",
            Life::Dead => "dead",
        }
    }

    fn networks_json(&self) -> Value {
        let endpoint = |(name, (id, address)): (&String, &(String, Option<std::net::Ipv4Addr>))| {
            let address = address.map(|a| a.to_string()).unwrap_or_default();
            (name.clone(), json!({ "NetworkID": id, "IPAddress": address }))
        };
        Value::Object(self.networks.iter().map(endpoint).collect())
    }

    fn mounts_json(&self) -> Value {
        let one = |(name, at): (&String, &String)| json!({ "Type": "volume", "Name": name, "Destination": at, "Driver": "local", "RW": true });
        self.mounts.iter().map(one).collect()
    }

    fn summary(&self) -> Value {
        json!({
            "Id": self.id,
            "Names": [format!("/{}", self.name)],
            "Image": self.config["Image"],
            "Created": self.created.as_second(),
            "Labels": self.labels,
            "State": self.status(),
            "Status": self.status(),
            "Ports": [],
            "NetworkSettings": { "Networks": self.networks_json() },
            "Mounts": self.mounts_json(),
        })
    }

    pub(super) fn inspected(&self) -> Value {
        let time = |t: Option<jiff::Timestamp>| t.map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), |t| t.to_string());
        json!({
            "Id": self.id,
            "Name": format!("/{}", self.name),
            "Created": self.created.to_string(),
            "RestartCount": 0,
            "State": {
                "Status": self.status(),
                "Running": matches!(self.life, Life::Running | Life::Paused),
                "Paused": self.life == Life::Paused,
                "Dead": self.life == Life::Dead,
                "OOMKilled": self.oom_killed,
                "ExitCode": self.exit_code,
                "Error": self.error,
                "StartedAt": time(self.started),
                "FinishedAt": time(self.finished),
            },
            "Config": self.config,
            "HostConfig": self.host,
            "Mounts": self.mounts_json(),
            "NetworkSettings": { "Networks": self.networks_json() },
        })
    }
}

fn mounts(host: &Value) -> BTreeMap<String, String> {
    let all = host["Mounts"].as_array().into_iter().flatten();
    let named = |m: &Value| Some((m["Source"].as_str()?.to_owned(), m["Target"].as_str()?.to_owned()));
    all.filter(|m| m["Type"] == "volume").filter_map(named).collect()
}
