//! One part of a workspace goes from engine to engine, beside the passes: through this process, and not to its disk.

use super::digest::ArchiveDigest;
use crate::controllers::context::Context;
use crate::controllers::retry;
use crate::controllers::workspace::Site;
use crate::controllers::workspace::observe::Owner;
use crate::engine::{Attach, ByteStream, ContainerId, ContainerSpec, Engine, EngineError, Labels, Volume, VolumeSpec};
use crate::resource::{CarriedPart, MoveStatus, labels};
use futures::StreamExt;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task::AbortHandle;
use tokio::time::Instant;

const ROLE: &str = "carry";
/// Where a volume is mounted in the container that it is reached through, which never runs.
const FOLDER: &str = "/carry";
const MOUNTED: &str = "/carry/volume";

/// Parts under way, by the record's uid.
#[derive(Default)]
pub struct Moves(Mutex<BTreeMap<String, Work>>);

/// A part under way, or what came of it.
struct Work {
    /// The move, and the part's name.
    of: (String, String),
    bytes: Arc<AtomicU64>,
    state: State,
    task: Option<AbortHandle>,
    failures: u32,
}

enum State {
    Running,
    Failed(String, Instant),
    Done(CarriedPart),
}

impl Drop for Work {
    fn drop(&mut self) {
        self.task.iter().for_each(AbortHandle::abort);
    }
}

/// How far a part is.
pub enum Progress {
    /// It is to be begun.
    Due,
    /// So many bytes have come.
    Running(u64),
    /// Why it failed, and when it is tried again.
    Failed(String, Duration),
    /// It is there, and the same.
    Done(CarriedPart),
}

impl Moves {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Work>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How far a part of a move is.
    pub fn progress(&self, uid: &str, of: &MoveStatus, part: &Part) -> Progress {
        let all = self.lock();
        let Some(work) = all.get(uid).filter(|w| w.of == key(of, part)) else { return Progress::Due };
        match &work.state {
            State::Running => Progress::Running(work.bytes.load(Ordering::Relaxed)),
            State::Done(carried) => Progress::Done(carried.clone()),
            State::Failed(words, at) => match retry::beside(work.failures).checked_sub(at.elapsed()) {
                Some(left) if !left.is_zero() => Progress::Failed(words.clone(), left),
                _ => Progress::Due,
            },
        }
    }

    /// Breaks off what is under way, and forgets what came of it.
    pub fn forget(&self, uid: &str) {
        drop(self.lock().remove(uid));
    }

    /// Begins a part; its end wakes the workspace.
    pub fn begin(ctx: &Context, uid: &str, (namespace, name): (Option<String>, String), of: &MoveStatus, job: Job) {
        let of = key(of, &job.part);
        let bytes = Arc::clone(&job.tally.bytes);
        let failures = ctx.moves.lock().get(uid).filter(|w| w.of == of).map_or(0, |w| w.failures);
        let work = Work { of: of.clone(), bytes, state: State::Running, task: None, failures };
        drop(ctx.moves.lock().insert(uid.to_owned(), work));
        let (all, record, stop) = (ctx.clone(), uid.to_owned(), ctx.frame.stop.clone());
        let ended = of.clone();
        let task = tokio::spawn(async move {
            let Some(result) = stop.run_until_cancelled(job.done()).await else { return };
            all.moves.end(&record, &ended, result);
            all.triggers.workspaces.fire_named(namespace.as_deref(), &name);
        });
        if let Some(work) = ctx.moves.lock().get_mut(uid).filter(|w| w.of == of) {
            work.task = Some(task.abort_handle());
        }
    }

    fn end(&self, uid: &str, of: &(String, String), result: Result<CarriedPart, String>) {
        let mut all = self.lock();
        let Some(work) = all.get_mut(uid).filter(|w| w.of == *of) else { return };
        work.state = match result {
            Ok(carried) => State::Done(carried),
            Err(words) => {
                work.failures += 1;
                State::Failed(words, Instant::now())
            }
        };
    }
}

fn key(of: &MoveStatus, part: &Part) -> (String, String) {
    (of.id.clone(), part.name().to_owned())
}

/// What is carried in one go.
pub enum Part {
    /// The own file system of this container.
    FileSystem(ContainerId),
    /// A volume, with its labels.
    Volume(Volume),
}

impl Part {
    /// Its name in the record.
    pub fn name(&self) -> &str {
        match self {
            Self::FileSystem(_) => MoveStatus::FILE_SYSTEM,
            Self::Volume(volume) => &volume.name,
        }
    }

    /// What it is, for people.
    pub fn words(&self) -> String {
        match self {
            Self::FileSystem(_) => "its own file system".into(),
            Self::Volume(volume) => format!("volume {}", volume.name),
        }
    }
}

/// Where a part comes from, or goes to.
pub struct End {
    server: String,
    engine: Arc<dyn Engine>,
}

impl From<&Site> for End {
    fn from(site: &Site) -> Self {
        Self { server: site.server.clone(), engine: site.engine.clone() }
    }
}

impl End {
    /// An engine's words, with whose they are.
    fn says(&self, e: &EngineError) -> String {
        format!("{}: {e}", self.server)
    }

    async fn create_volume(&self, volume: &Volume, id: &str) -> Result<(), String> {
        let failed = |e| self.says(&e);
        match self.engine.volume(&volume.name).await.map_err(failed)? {
            // What an earlier try left may be half of it.
            Some(found) if found.labels.get(labels::MOVE).is_some_and(|of| of == id) => {
                self.engine.remove_volume(&volume.name).await.map_err(failed)?;
            }
            Some(_) => {
                return Err(format!(
                    "{}: a volume named {:?} is there that this move has not made; it is left alone. Remove it to go on",
                    self.server, volume.name
                ));
            }
            None => {}
        }
        let mut all: Labels = volume.labels.clone();
        all.insert(labels::MOVE.to_owned(), id.to_owned());
        self.engine.create_volume(&VolumeSpec { name: volume.name.clone(), labels: all }).await.map_err(failed)
    }

    /// A container that a volume is reached through. It is never started, so nothing runs beside the copy.
    async fn helper(&self, helper: &Helper, volume: &str) -> Result<ContainerId, String> {
        self.engine.create(&helper.spec(volume)).await.map_err(|e| self.says(&e))
    }
}

/// What a helper is called, made of, and whose.
pub struct Helper {
    /// Its name.
    pub name: String,
    /// Its image.
    pub image: String,
    /// Whose it is.
    pub owner: Owner,
}

impl Helper {
    fn spec(&self, volume: &str) -> ContainerSpec {
        ContainerSpec {
            name: self.name.clone(),
            image: self.image.clone(),
            command: Some(vec!["true".into()]),
            workdir: None,
            env: BTreeMap::new(),
            labels: self.owner.of(ROLE).labels(),
            mounts: BTreeMap::from([(volume.to_owned(), MOUNTED.to_owned())]),
            attach: Attach::None,
            hostname: None,
            memory: 64 << 20,
            nano_cpus: 1_000_000_000,
            pids: 32,
        }
    }
}

/// Takes a helper off an engine, if one is there.
///
/// # Errors
/// The engine's.
pub async fn remove_helper(engine: &dyn Engine, helper: &Helper) -> Result<(), EngineError> {
    match engine.inspect(&helper.name).await? {
        Some(found) if helper.owner.of(ROLE).proves(&found.labels) => engine.remove(&found.id).await,
        _ => Ok(()),
    }
}

/// Counts what passes.
#[derive(Clone, Default)]
struct Tally {
    bytes: Arc<AtomicU64>,
}

impl Tally {
    /// Counts, and makes the digest of an archive where there is one to make.
    fn over(&self, archive: ByteStream, digest: Option<Arc<Mutex<ArchiveDigest>>>) -> ByteStream {
        let bytes = Arc::clone(&self.bytes);
        let seen = move |chunk: &Result<bytes::Bytes, EngineError>| {
            let Ok(chunk) = chunk else { return };
            bytes.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            if let Some(digest) = &digest {
                digest.lock().unwrap_or_else(PoisonError::into_inner).push(chunk);
            }
        };
        archive.inspect(seen).boxed()
    }
}

/// Carries one part.
pub struct Job {
    from: End,
    to: End,
    part: Part,
    /// The move's id, and the image its file system is carried as.
    id: String,
    image: String,
    instance: String,
    helper: Helper,
    tally: Tally,
}

impl Job {
    /// A job that has not begun.
    pub fn new((from, to): (&Site, &Site), of: &MoveStatus, part: Part, helper: Helper) -> Self {
        let (id, image, instance) = (of.id.clone(), of.image(), helper.owner.instance.clone());
        Self { from: from.into(), to: to.into(), part, id, image, instance, helper, tally: Tally::default() }
    }

    async fn done(&self) -> Result<CarriedPart, String> {
        let digest = match &self.part {
            Part::FileSystem(container) => self.file_system(container).await?,
            Part::Volume(volume) => self.volume(volume).await?,
        };
        let bytes = self.tally.bytes.load(Ordering::Relaxed);
        Ok(CarriedPart { name: self.part.name().to_owned(), bytes, digest })
    }

    /// An image's id is a digest over all that is in it, and engines refuse layers that are not what their digests say.
    async fn file_system(&self, container: &ContainerId) -> Result<String, String> {
        let (from, to) = (&self.from.engine, &self.to.engine);
        let id = match from.image(&self.image).await.map_err(|e| self.from.says(&e))? {
            Some(id) => id,
            None => {
                // A container of it by somebody's hand must not look like one of ours.
                let own = [(labels::INSTANCE, ""), (labels::UID, ""), (labels::BUILT_BY, self.instance.as_str())];
                let own = own.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
                from.commit(container, &self.image, &own).await.map_err(|e| self.from.says(&e))?;
                let made = from.image(&self.image).await.map_err(|e| self.from.says(&e))?;
                made.ok_or_else(|| format!("{}: the image {} that was made is not there", self.from.server, self.image))?
            }
        };
        let there = async || to.image(&self.image).await.map_err(|e| self.to.says(&e));
        if there().await?.as_ref() != Some(&id) {
            let saved = from.save(&self.image).await.map_err(|e| self.from.says(&e))?;
            to.load(self.tally.over(saved, None)).await.map_err(|e| self.to.says(&e))?;
        }
        match there().await? {
            Some(found) if found == id => Ok(id),
            found => Err(format!(
                "{}: what arrived is another image ({}) than was sent ({id})",
                self.to.server,
                found.unwrap_or_else(|| "none".into())
            )),
        }
    }

    /// Sent, and read back from where it is now.
    async fn volume(&self, volume: &Volume) -> Result<String, String> {
        // One that an earlier try left has its half of the volume in use.
        self.without_helpers().await?;
        self.to.create_volume(volume, &self.id).await?;
        let (here, there) =
            tokio::try_join!(self.from.helper(&self.helper, &volume.name), self.to.helper(&self.helper, &volume.name))?;
        let (from, to) = (&self.from.engine, &self.to.engine);
        let sent = Arc::new(Mutex::new(ArchiveDigest::default()));
        let archive = from.archive(&here, MOUNTED).await.map_err(|e| self.from.says(&e))?;
        let counted = self.tally.over(archive, Some(Arc::clone(&sent)));
        to.extract(&there, FOLDER, counted).await.map_err(|e| self.to.says(&e))?;
        let sent =
            sent.lock().unwrap_or_else(PoisonError::into_inner).finish().map_err(|e| format!("{}: {e}", self.from.server))?;
        let mut arrived = ArchiveDigest::default();
        let mut archive = to.archive(&there, MOUNTED).await.map_err(|e| self.to.says(&e))?;
        while let Some(chunk) = archive.next().await {
            arrived.push(&chunk.map_err(|e| self.to.says(&e))?);
        }
        let arrived = arrived.finish().map_err(|e| format!("{}: {e}", self.to.server))?;
        self.without_helpers().await?;
        if sent != arrived {
            return Err(format!("{}: what arrived ({arrived}) is not what was sent ({sent})", self.to.server));
        }
        Ok(sent)
    }

    async fn without_helpers(&self) -> Result<(), String> {
        for end in [&self.from, &self.to] {
            remove_helper(end.engine.as_ref(), &self.helper).await.map_err(|e| end.says(&e))?;
        }
        Ok(())
    }
}
