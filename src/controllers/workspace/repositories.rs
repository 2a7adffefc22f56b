//! Repositories of a workspace: cloned inside its container, beside the passes, and never over what is there.
//!
//! Credentials lie in the container's memory alone, as files of their own that git is told to ask: no argument, variable,
//! label or layer holds them. They go with each run of the container, so they are put there with each.

mod git;

use super::Site;
use crate::controllers::context::Context;
use crate::controllers::retry;
use crate::controllers::status::Pass;
use crate::engine::{ContainerId, Engine, EngineError, ExecChunk, ExecOutput, ExecRequest};
use crate::plan::digest;
use crate::plan::environment::{Environment, lies_in};
use crate::plan::workspace::Wanted;
use crate::resource::conditions::condition;
use crate::resource::{RepositoryStatus, Workspace, WorkspaceStatus};
use futures::StreamExt;
use git::Access;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{Resource, ResourceExt};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

/// Longest time all repositories of a workspace may take.
const LONGEST: Duration = Duration::from_secs(3600);
/// What is under way tells its end by itself; this is in case it does not.
const AGAIN: Duration = Duration::from_secs(15);
/// Of what a command says, so much is kept, from its end.
const KEPT: usize = 16 << 10;
/// Of git's words, so many lines are told, of so many characters at most.
const LAST_LINES: usize = 6;
const LONGEST_LINE: usize = 160;
const KIND: &str = "RepositoriesReady";

/// Repositories under way, there, or failed, by workspace; `None` where this process has only looked at the workspace.
#[derive(Default)]
pub struct Clones(Mutex<BTreeMap<String, Option<Try>>>);

/// What came of a try for what has this digest.
#[derive(Clone)]
struct Try {
    digest: String,
    failures: u32,
    state: State,
}

#[derive(Clone)]
enum State {
    /// With the words of an earlier try.
    Running(Option<String>),
    Failed(String, Instant),
    Done(Vec<RepositoryStatus>),
}

impl Clones {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Option<Try>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
    fn get(&self, uid: &str, digest: &str) -> Option<Try> {
        self.lock().get(uid)?.as_ref().filter(|t| t.digest == digest).cloned()
    }
    fn set(&self, uid: &str, new: Try) {
        self.lock().insert(uid.to_owned(), Some(new));
    }
    /// Notes what came of a try, unless another has begun.
    fn end(&self, uid: &str, ended: Try) {
        if let Some(held) = self.lock().get_mut(uid).and_then(Option::as_mut).filter(|t| t.digest == ended.digest) {
            *held = ended;
        }
    }
    /// Whether this process has not looked at the workspace before.
    pub fn is_new(&self, uid: &str) -> bool {
        let mut all = self.lock();
        let is_new = !all.contains_key(uid);
        all.entry(uid.to_owned()).or_default();
        is_new
    }
    /// Forgets a workspace that is gone.
    pub fn forget(&self, uid: &str) {
        self.lock().remove(uid);
    }
}

/// Whether what is cloned stays when the container is made anew: one from before its project had repositories lacks the volume.
pub fn is_kept(env: &Environment, wanted: &Wanted, volumes: &BTreeSet<String>) -> bool {
    let Some(workdir) = &env.workdir else { return false };
    wanted.main.mounts.iter().any(|(volume, path)| lies_in(workdir, path) && volumes.contains(volume))
}

/// Makes sure that the repositories are there in a workspace that runs, or says why they are not: it works without them.
/// Gives when to look again.
pub fn have(
    ctx: &Context,
    record: &Workspace,
    env: &Environment,
    site: &Site,
    kept: bool,
    pass: &mut Pass<WorkspaceStatus>,
) -> Option<Duration> {
    let (uid, id) = (record.uid()?, ContainerId::parse(pass.status.container_id.as_deref()?)?);
    if env.repositories.is_empty() {
        if pass.status.repositories_digest.take().is_some() {
            pass.status.repositories.clear();
            pass.notice(condition(KIND, true, "None", ""));
        }
        return None;
    }
    if !kept {
        let message = "its container was made before there was a volume for repositories: what is cloned into it would be lost when it \
                       is made anew. `devsanctum workspace update` does that now; its folders stay, the rest of its files is lost";
        pass.notice(condition(KIND, false, "UpdateNeeded", message));
        return None;
    }
    let access = match git::access(ctx, record, env) {
        Ok(access) => access,
        Err(words) => {
            pass.notice(condition(KIND, false, "CredentialsMissing", words));
            return None;
        }
    };
    let (workdir, started) = (env.workdir.clone()?, pass.status.started_at.as_deref());
    let versions: Vec<_> = access.iter().map(|a| &a.version).collect();
    let wanted = digest(&format!("{id:?}{started:?}{workdir:?}{:?}{:?}{versions:?}", env.repositories, record.spec.branch));
    if pass.status.repositories_digest.as_ref() == Some(&wanted) {
        return None;
    }
    let last = ctx.clones.get(&uid, &wanted);
    let (failures, words) = match last.as_ref().map(|t| &t.state) {
        Some(State::Done(all)) => {
            note(all, &record.spec.branch, pass);
            pass.status.repositories_digest = Some(wanted);
            return None;
        }
        Some(State::Running(words)) => {
            pass.notice(under_way(words.as_deref()));
            return Some(AGAIN);
        }
        Some(State::Failed(words, at)) => {
            let failures = last.as_ref().map_or(0, |t| t.failures);
            if let Some(left) = retry::beside(failures).checked_sub(at.elapsed()) {
                pass.notice(under_way(Some(words)));
                return Some(left.max(Duration::from_secs(1)));
            }
            (failures, Some(words.clone()))
        }
        None => (0, None),
    };
    pass.notice(under_way(words.as_deref()));
    let begun = Try { digest: wanted, failures, state: State::Running(words) };
    ctx.clones.set(&uid, begun.clone());
    let job = Job {
        engine: site.engine.clone(),
        id,
        workdir,
        user: env.user.clone(),
        branch: record.spec.branch.clone(),
        owner: record.spec.owner.clone(),
        access,
    };
    tokio::spawn(work(ctx.clone(), record.meta().namespace.clone(), record.name_any(), uid, begun, job));
    Some(AGAIN)
}

/// What failed before is said until it works: each try would otherwise be two changes of the record.
fn under_way(failed: Option<&str>) -> Condition {
    match failed {
        None => condition(KIND, false, "Cloning", "its repositories are being cloned"),
        Some(words) => {
            let message = format!("{words}\nTrying again by itself{}; it runs without meanwhile", or_at_once(words));
            condition(KIND, false, "CloneFailed", message)
        }
    }
}

/// What a person can do where a host lets nobody in.
fn or_at_once(words: &str) -> &'static str {
    const LOGIN: [&str; 3] = ["could not read Username", "Authentication failed", "Permission denied"];
    if LOGIN.iter().any(|l| words.contains(l)) {
        return ", or at once when its Secret is corrected, or one is named under 'credentials' of the project's repository";
    }
    ""
}

fn note(all: &[RepositoryStatus], asked: &str, pass: &mut Pass<WorkspaceStatus>) {
    let other = |r: &&RepositoryStatus| r.branch.as_deref().is_some_and(|b| b != asked);
    let told: Vec<String> = all
        .iter()
        .filter(other)
        .map(|r| format!("{} is at {}, not at {asked}", r.name, r.branch.as_deref().unwrap_or_default()))
        .collect();
    let reason = if told.is_empty() { "Cloned" } else { "OtherBranch" };
    pass.notice(condition(KIND, true, reason, told.join("; ")));
    pass.did(format!("has its repositories: {}", all.iter().map(|r| r.name.as_str()).collect::<Vec<_>>().join(", ")));
    pass.status.repositories = all.to_vec();
}

/// All that a try needs.
struct Job {
    engine: Arc<dyn Engine>,
    id: ContainerId,
    workdir: String,
    user: Option<String>,
    branch: String,
    owner: String,
    access: Vec<Access>,
}

async fn work(ctx: Context, namespace: Option<String>, name: String, uid: String, begun: Try, job: Job) {
    let late = |_| Err(format!("they did not come within {} minutes", LONGEST.as_secs() / 60));
    let tried = async { tokio::time::timeout(LONGEST, job.done(&ctx)).await.unwrap_or_else(late) };
    let Some(result) = ctx.frame.stop.run_until_cancelled(tried).await else { return };
    let (failures, state) = match result {
        Ok(all) => (0, State::Done(all)),
        Err(words) => (begun.failures + 1, State::Failed(words, Instant::now())),
    };
    ctx.clones.end(&uid, Try { failures, state, ..begun });
    ctx.triggers.workspaces.fire_named(namespace.as_deref(), &name);
}

impl Job {
    async fn done(&self, ctx: &Context) -> Result<Vec<RepositoryStatus>, String> {
        let mut files = Vec::new();
        for access in &self.access {
            files.extend(access.files(ctx).await?);
        }
        // What runs in containers is not fenced by the pool, and another process may have written newer credentials.
        if !(ctx.frame.fence)() {
            return Err("this process may not act now".into());
        }
        let prepared =
            self.run(git::prepare(&self.workdir, self.user.as_deref(), &files), Some("0"), &git::payload(&files)).await?;
        if prepared.code != 0 {
            return Err(format!("cannot prepare {}: {}", self.workdir, last_lines(&prepared)));
        }
        let author = git::author(ctx, &self.owner).await;
        let (mut all, mut failed) = (Vec::new(), Vec::new());
        for access in &self.access {
            let name = access.repository.name.clone();
            let cloned = self.run(git::clone(&self.workdir, &self.branch, access, &author), self.user.as_deref(), &[]).await?;
            match branch(&cloned) {
                Some(branch) => all.push(RepositoryStatus { name, branch }),
                None => failed.push(format!("{name}: {}", git::without(&files, last_lines(&cloned)))),
            }
        }
        if failed.is_empty() { Ok(all) } else { Err(failed.join("\n")) }
    }

    async fn run(&self, argv: Vec<String>, user: Option<&str>, input: &[u8]) -> Result<ExecOutput, String> {
        let request = ExecRequest { argv, stdin: !input.is_empty(), user: user.map(str::to_owned), ..ExecRequest::default() };
        collect(self.engine.as_ref(), &self.id, &request, input).await.map_err(|e| e.to_string())
    }
}

async fn collect(engine: &dyn Engine, id: &ContainerId, request: &ExecRequest, input: &[u8]) -> Result<ExecOutput, EngineError> {
    let mut session = engine.exec(id, request).await?;
    if !input.is_empty() {
        let sent = session.input.write_all(input).await;
        sent.map_err(|e| EngineError::Unreachable(e.to_string().into()))?;
    }
    let mut said = ExecOutput::default();
    while let Some(chunk) = session.output.next().await {
        let (into, bytes) = match chunk? {
            ExecChunk::Stdout(bytes) => (&mut said.stdout, bytes),
            ExecChunk::Stderr(bytes) => (&mut said.stderr, bytes),
        };
        into.extend_from_slice(&bytes);
        into.drain(..into.len().saturating_sub(KEPT));
    }
    said.code = session.control.exit_code().await?;
    Ok(said)
}

/// Where a repository is at, if it is there: its last line is `cloned BRANCH`, or `there BRANCH` where it was already.
fn branch(said: &ExecOutput) -> Option<Option<String>> {
    let text = String::from_utf8_lossy(&said.stdout);
    let (what, branch) = text.trim_end().split_once(' ').unwrap_or((text.trim_end(), ""));
    let is_there = said.code == 0 && (what == "cloned" || what == "there");
    is_there.then(|| Some(branch.to_owned()).filter(|b| !b.is_empty()))
}

/// The end of what a command said to standard error.
fn last_lines(said: &ExecOutput) -> String {
    let text = String::from_utf8_lossy(&said.stderr);
    let lines: Vec<String> = text
        .lines()
        .map(str::trim_end)
        .filter(|line| !line.is_empty())
        .map(|line| line.chars().filter(|c| !c.is_control()).take(LONGEST_LINE).collect())
        .collect();
    if lines.is_empty() {
        return format!("it ended with code {} and said nothing", said.code);
    }
    lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
}
