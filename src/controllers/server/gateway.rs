//! The gateway of a server on another machine: a small container beside the probe, by which its workspaces' routes go.
//!
//! It is in its host's network: the bridge that keeps workspaces from each other would keep them from it as well. So it has less than
//! any other container of ours: no capability, no file system to write to, nobody's user.

use super::prepare::{Prepared, is_ours, taken};
use crate::controllers::context::Context;
use crate::controllers::events;
use crate::controllers::gateways::{Keys, Trouble};
use crate::controllers::retry::PassError;
use crate::controllers::status::{Pass, still_so};
use crate::controllers::workspace::have_one;
use crate::engine::ownership::Ownership;
use crate::engine::{
    Attach, ByteStream, Container, ContainerId, ContainerSpec, ContainerState, Engine, EngineError, ExecRequest, LogRequest,
};
use crate::plan::digest;
use crate::plan::image::{Image, gateway_image};
use crate::proxy::gateway::{Listening, config, domain};
use crate::resource::conditions::{condition, find};
use crate::resource::{DockerServer, DockerServerSpec, DockerServerStatus, labels};
use futures::StreamExt;
use kube::ResourceExt;
use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, sleep, timeout};

const READY: &str = "GatewayReady";
const RUN: &str = include_str!("gateway.sh");
/// Takes the certificate and its key from its input, up to a line that says `end`.
const FILL: &str = "cd /run/devsanctum && umask 077 && \
                    while IFS= read -r line && [ \"$line\" != end ]; do printf '%s\\n' \"$line\"; done >server.new && mv server.new server.pem";
const IS_FILLED: &str = "[ -e /run/devsanctum/server.pem ]";
const MEMORY: u64 = 512 << 20;
/// Cores that it can use.
const CORES: u32 = 2;
/// A gateway that was just started is given this long to answer.
const STARTS_IN: Duration = Duration::from_secs(3);
/// Seconds.
const YEAR: i64 = 365 * 24 * 3600;
/// How long it may take to take its certificate.
const FILLED_IN: Duration = Duration::from_secs(20);
/// How much of its log is read, and for how long.
const LAST_LINES: u32 = 5;
const LAST_BYTES: usize = 64 * 1024;
const LAST_WORDS_IN: Duration = Duration::from_secs(5);
/// The record changed under a pass: it is looked at again as it is now.
const AGAIN: Duration = Duration::from_secs(1);

/// Looks after the gateway. Workspaces run without it, with no routes: what is wrong is said in a condition, and is no failure of
/// the pass. Gives when to look again, where that is soon.
pub async fn have(
    ctx: &Context,
    record: &DockerServer,
    engine: &Arc<dyn Engine>,
    prepared: &Prepared,
    pass: &mut Pass<DockerServerStatus>,
) -> Option<Duration> {
    let (server, name) = (record.name_any(), format!("{}-gateway", prepared.network.name));
    if record.spec.is_local() {
        let said = find(&pass.status.conditions, READY).is_some_and(|c| c.reason != "NotNeeded");
        if said && remove(ctx, record, engine.as_ref(), &name).await.is_ok() {
            ctx.gateways.forget(&server);
            pass.notice(condition(READY, true, "NotNeeded", ""));
        }
        return None;
    }
    let made = Make { ctx, record, engine, name, prepared, cores: pass.status.cpu_cores.unwrap_or(1) }.made().await;
    let (told, again) = match made {
        Ok(done) => {
            done.into_iter().for_each(|done| pass.did(done));
            ctx.gateways.works(&server);
            (condition(READY, true, "Serving", ""), None)
        }
        Err(Stopped::Trouble(trouble)) => {
            let told = condition(READY, false, trouble.reason, trouble.words.clone());
            (told, Some(ctx.gateways.fails(&server, trouble)))
        }
        Err(Stopped::Overtaken) => {
            // Nothing new is known of it.
            find(&pass.status.conditions, READY).cloned().into_iter().for_each(|said| pass.notice(said));
            return Some(AGAIN);
        }
    };
    pass.notice(told);
    again
}

/// Why a pass has no gateway that works.
enum Stopped {
    Trouble(Trouble),
    /// The record is another one by now, or this process may not act any more.
    Overtaken,
}

impl From<Trouble> for Stopped {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(trouble)
    }
}

/// Takes it off a server that is on this machine now.
async fn remove(ctx: &Context, record: &DockerServer, engine: &dyn Engine, name: &str) -> Result<(), EngineError> {
    match engine.inspect(name).await? {
        Some(c) if is_ours(ctx, &c.labels, record) => engine.remove(&c.id).await,
        _ => Ok(()),
    }
}

struct Make<'a> {
    ctx: &'a Context,
    record: &'a DockerServer,
    engine: &'a Arc<dyn Engine>,
    name: String,
    prepared: &'a Prepared,
    cores: u32,
}

impl Make<'_> {
    /// Makes it where it is not as it should be, and has it lead where it should. Gives what was done.
    async fn made(&self) -> Result<Option<&'static str>, Stopped> {
        let server = self.record.name_any();
        let trouble = |reason, words| Trouble::new(reason, words, "");
        let keys = self.ctx.gateways.keys(self.ctx).await.map_err(|e| trouble("KeysMissing", e))?;
        let image = gateway_image(&self.ctx.settings().images);
        have_one(self.ctx, &server, self.engine, &Image::AsItIs(image.clone())).await.map_err(|e| {
            let what = if e.reason == "Pulling" { "Pulling" } else { "ImageMissing" };
            let words = format!(
                "the gateway's image, without which nothing here is routed, is not to be had: {}. Load {image} there, or name another \
                 HAProxy in spec.images.gateway of Settings",
                e.message
            );
            trouble(what, words)
        })?;
        let spec = self.spec(&image, &keys);
        let digest = spec.labels.get(labels::DIGEST).cloned().unwrap_or_default();
        if let Some(held) = self.ctx.gateways.held(&server, &digest) {
            return Err(held.into());
        }
        let engine_says = |e: &EngineError| {
            let e = PassError::engine(READY, e);
            Trouble::new(e.reason, e.message, &digest)
        };
        let (id, anew) = self.running(&spec, &keys).await.map_err(|e| match e {
            Failure::Taken(words) => trouble("NameTaken", words).into(),
            Failure::Keys(words) => trouble("KeysMissing", words).into(),
            Failure::Ended(trouble) => trouble.into(),
            Failure::Overtaken => Stopped::Overtaken,
            Failure::Engine(e) => Stopped::Trouble(engine_says(&e)),
        })?;
        self.ctx.gateways.keep(self.ctx, self.record, &self.address(), keys, anew);
        let begun = Instant::now();
        loop {
            let Err(why) = self.ctx.gateways.look(self.ctx, &server).await else {
                return Ok(anew.then_some("started the gateway"));
            };
            let found = self.engine.inspect(id.as_str()).await.map_err(|e| engine_says(&e))?;
            if found.is_none_or(|c| c.state != ContainerState::Running) {
                let said = self.last_words(&id).await;
                return Err(ended(self.record.spec.gateway_port, &said, &digest).into());
            }
            if !anew || begun.elapsed() > STARTS_IN {
                return Err(trouble("Unreachable", self.unreachable(&why)).into());
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    fn unreachable(&self, why: &str) -> String {
        format!(
            "the gateway runs, and does not answer at {}: {why}. Let the control plane and its proxy through to that port, or say in \
             spec.upstreamAddress where they reach the server",
            self.address()
        )
    }

    /// Host and port at which it is reached.
    fn address(&self) -> String {
        address(&self.record.spec)
    }

    fn spec(&self, image: &str, keys: &Keys) -> ContainerSpec {
        let listening = Listening {
            port: self.record.spec.gateway_port,
            ipv6: self.address().starts_with('['),
            shut_out: self.prepared.network.subnets.clone(),
            // On few cores a second thread takes from the workspaces, and waits for the first, more than it gives.
            threads: if self.cores > CORES { CORES } else { 1 },
        };
        let (config, authority) = (config(&listening), keys.authority.pem().to_owned());
        // Its certificate is for longer than a year.
        let year = self.ctx.frame.clock.now().as_second() / YEAR;
        let digest = digest(&format!("{image} {config} {authority} {RUN} {year} {MEMORY} {CORES}"));
        let owner = Ownership { role: labels::GATEWAY.into(), ..self.prepared.owner.clone() };
        ContainerSpec {
            name: self.name.clone(),
            image: image.to_owned(),
            command: Some(["sh", "-c", RUN].map(String::from).to_vec()),
            workdir: None,
            env: BTreeMap::from([("DS_CONFIG".into(), config), ("DS_AUTHORITY".into(), authority)]),
            labels: owner.labels_with_digest(&digest),
            mounts: BTreeMap::new(),
            attach: Attach::Host,
            hostname: None,
            memory: MEMORY,
            nano_cpus: u64::from(self.cores.clamp(1, CORES)) * 1_000_000_000,
            pids: 32,
        }
    }

    /// The container as it should be, running, with a certificate; whether it was started, or filled, just now.
    async fn running(&self, spec: &ContainerSpec, keys: &Keys) -> Result<(ContainerId, bool), Failure> {
        let found = self.engine.inspect(&self.name).await?;
        if let Some(c) = &found {
            if !is_ours(self.ctx, &c.labels, self.record) {
                return Err(Failure::Taken(taken("container", &self.name).message));
            }
            if usable(c, spec) {
                let filled = self.engine.exec_output(&c.id, &["sh", "-c", IS_FILLED].map(String::from), 100).await?.code == 0;
                if !filled {
                    self.fill(&c.id, keys).await?;
                }
                return Ok((c.id.clone(), !filled));
            }
            self.rests(c, spec).await?;
        }
        still_so(&self.ctx.frame.client, self.record).await.map_err(|_| Failure::Overtaken)?;
        if let Some(broken) = found {
            self.engine.remove(&broken.id).await?;
        }
        let id = self.engine.create(spec).await?;
        self.engine.start(&id).await?;
        self.fill(&id, keys).await?;
        Ok((id, true))
    }

    /// One that worked and has ended is told of, with its last words; where that is not the first time, no other is made for a while.
    async fn rests(&self, c: &Container, spec: &ContainerSpec) -> Result<(), Failure> {
        let (server, digest) = (self.record.name_any(), spec.labels.get(labels::DIGEST).map_or("", String::as_str));
        if c.state != ContainerState::Exited || !is_as(c, spec) || !self.ctx.gateways.worked(&server, digest) {
            return Ok(());
        }
        let words = died(c, &self.last_words(&c.id).await);
        tracing::warn!(server, words, "a gateway has ended");
        events::tell(&self.ctx.frame, self.record, true, "GatewayEnded", words.clone());
        self.ctx.gateways.ended(&server, Trouble::new("Ended", words, digest)).map_or(Ok(()), |rests| Err(Failure::Ended(rests)))
    }

    /// Its certificate and the key go into its memory, and are nowhere else.
    async fn fill(&self, id: &ContainerId, keys: &Keys) -> Result<(), Failure> {
        let domain = domain(&self.record.uid().unwrap_or_default());
        let pem = keys.authority.server(&domain).map_err(|e| Failure::Keys(e.to_string()))?;
        // The engine asks it of what it makes, not of commands.
        if !(self.ctx.frame.fence)() {
            return Err(Failure::Overtaken);
        }
        Ok(within(FILLED_IN, "the gateway does not take its certificate", take(self.engine.as_ref(), id, &pem)).await?)
    }

    /// The end of its log.
    async fn last_words(&self, id: &ContainerId) -> String {
        let request = LogRequest { tail: Some(LAST_LINES), ..LogRequest::default() };
        let Ok(log) = self.engine.logs(id, &request).await else { return String::new() };
        let said = some_of(log).await;
        let lines: Vec<String> = String::from_utf8_lossy(&said)
            .lines()
            .filter(|line| line.contains("[ALERT]") || !line.starts_with('['))
            .map(|line| line.chars().filter(|c| !c.is_control()).take(300).collect())
            .collect();
        lines.join(" | ")
    }
}

/// Host and port at which a server's gateway is reached, as they stand in a URL.
fn address(spec: &DockerServerSpec) -> String {
    let own = || spec.at().map(|(host, _)| host.to_owned()).unwrap_or_default();
    let (host, port) = (spec.upstream_address.map_or_else(own, |address| address.to_string()), spec.gateway_port);
    if host.parse::<Ipv6Addr>().is_ok() { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Gives it its certificate.
async fn take(engine: &dyn Engine, id: &ContainerId, pem: &str) -> Result<(), EngineError> {
    let argv = ["sh", "-c", FILL].map(String::from).to_vec();
    let mut session = engine.exec(id, &ExecRequest { argv, stdin: true, ..ExecRequest::default() }).await?;
    let lost = |e: std::io::Error| EngineError::Unreachable(e.to_string().into());
    session.input.write_all(format!("{pem}end\n").as_bytes()).await.map_err(lost)?;
    while let Some(chunk) = session.output.next().await {
        chunk?;
    }
    match session.control.exit_code().await? {
        0 => Ok(()),
        code => Err(EngineError::Failed(format!("the gateway does not take its certificate (exit code {code})"))),
    }
}

/// As it comes, or that it did not come in time.
async fn within<T>(time: Duration, what: &str, done: impl Future<Output = Result<T, EngineError>>) -> Result<T, EngineError> {
    let late = |_| Err(EngineError::Unreachable(format!("{what} within {} s", time.as_secs()).into()));
    timeout(time, done).await.unwrap_or_else(late)
}

/// What comes of a log in time, up to so much.
async fn some_of(mut log: ByteStream) -> Vec<u8> {
    let mut said = Vec::new();
    let all = async {
        while let Some(Ok(bytes)) = log.next().await {
            said.extend_from_slice(&bytes);
            if said.len() >= LAST_BYTES {
                break;
            }
        }
    };
    // What came until then is told.
    let _ = timeout(LAST_WORDS_IN, all).await;
    said.truncate(LAST_BYTES);
    said
}

/// One that is of another image, configuration or authority is made anew, and so is one that is older than a year.
fn usable(c: &Container, spec: &ContainerSpec) -> bool {
    c.state == ContainerState::Running && is_as(c, spec)
}

fn is_as(c: &Container, spec: &ContainerSpec) -> bool {
    spec.labels.iter().all(|(key, value)| c.labels.get(key) == Some(value))
}

fn died(c: &Container, said: &str) -> String {
    let how = match c.oom_killed {
        true => format!("it was killed for want of memory, of which it has {} MiB", MEMORY >> 20),
        false => format!("exit code {}", c.exit_code),
    };
    let said = if said.is_empty() { "it said nothing" } else { said };
    format!("the gateway worked, and ended ({how}): {said}. What stood open through it has ended; it is made anew")
}

fn ended(port: u16, said: &str, digest: &str) -> Trouble {
    if said.contains("cannot bind") || said.contains("Address already in use") || said.contains("Address in use") {
        let words = format!(
            "port {port} of the host is somebody else's, or may not be listened on: end what listens there (`ss -ltnp` on the host), or \
             choose another spec.gatewayPort ({said})"
        );
        return Trouble::new("PortTaken", words, digest);
    }
    let said = if said.is_empty() { "it said nothing" } else { said };
    let words = format!("the gateway does not go on: {said}. Is spec.images.gateway of Settings an HAProxy?");
    Trouble::new("Ended", words, digest)
}

enum Failure {
    Taken(String),
    Keys(String),
    /// It had worked, and rests.
    Ended(Trouble),
    /// As [`Stopped::Overtaken`].
    Overtaken,
    Engine(EngineError),
}

impl From<EngineError> for Failure {
    fn from(e: EngineError) -> Self {
        Self::Engine(e)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::IN_MEMORY;
    use bytes::Bytes;

    #[test]
    fn all_that_it_reads_is_in_memory() {
        let told = config(&Listening { port: 1, ..Listening::default() });
        let paths = told.split([' ', '(', ')', '@', '\n']).filter(|word| word.starts_with('/'));
        assert!(paths.clone().count() >= 4 && paths.into_iter().all(|path| path.starts_with(IN_MEMORY)), "{told}");
        assert!(RUN.contains(&format!("cd {IN_MEMORY} ")) && FILL.contains(&format!("cd {IN_MEMORY} ")));
    }

    #[test]
    fn a_gateway_is_at_its_host_however_the_engine_there_is_reached() {
        for (spec, at) in [
            (serde_json::json!({"host": "rack.example"}), "rack.example:9443"),
            (serde_json::json!({"host": "fd00::7"}), "[fd00::7]:9443"),
            (serde_json::json!({"host": "ssh://root@rack.example"}), "rack.example:9443"),
            (serde_json::json!({"host": "ssh://root@10.0.0.7:2222/run/docker.sock", "gatewayPort": 9000}), "10.0.0.7:9000"),
            (serde_json::json!({"host": "ssh://root@rack.example", "upstreamAddress": "fd00::7"}), "[fd00::7]:9443"),
        ] {
            assert_eq!(address(&serde_json::from_value(spec).unwrap()), at);
        }
    }

    #[test]
    fn a_port_that_is_taken_is_told_from_another_end() {
        let said = "[ALERT] (1) : Starting frontend gateway: cannot bind socket (Address already in use) [0.0.0.0:9443]";
        let told = ended(9443, said, "");
        assert!(told.reason == "PortTaken" && told.words.contains("spec.gatewayPort"), "{}", told.words);
        assert_eq!(ended(9443, "exec: haproxy: not found", "").reason, "Ended");
    }

    #[tokio::test(start_paused = true)]
    async fn an_engine_that_says_nothing_or_without_end_holds_no_pass_up() {
        let never = within(FILLED_IN, "it does not take it", std::future::pending::<Result<(), EngineError>>()).await;
        assert!(matches!(&never, Err(EngineError::Unreachable(told)) if told.to_string().contains("20 s")), "{never:?}");
        let words = || Ok(Bytes::from_static(b"[ALERT] no\n"));
        let silent = futures::stream::iter([words()]).chain(futures::stream::pending());
        assert_eq!(some_of(silent.boxed()).await, b"[ALERT] no\n");
        assert_eq!(some_of(futures::stream::repeat_with(words).boxed()).await.len(), LAST_BYTES);
    }
}
