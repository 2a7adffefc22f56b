//! One part of a workspace goes from engine to engine, beside the passes: through this process, and not to its disk.

use super::digest::{ArchiveDigest, written};
use super::names::NameGuard;
use crate::controllers::context::Context;
use crate::controllers::retry;
use crate::controllers::workspace::Site;
use crate::controllers::workspace::observe::Owner;
use crate::engine::{Attach, ByteStream, ContainerId, ContainerSpec, Engine, EngineError, Labels, Volume, VolumeSpec};
use crate::resource::{CarriedPart, MoveStatus, labels};
use bytes::Bytes;
use futures::StreamExt;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;
use tokio::time::Instant;

const ROLE: &str = "carry";
/// Where a volume is mounted in the container that it is reached through, which never runs.
const FOLDER: &str = "/carry";
const MOUNTED: &str = "/carry/volume";

/// So many parts go from or to a server at a time; more would only keep more workspaces down for longer.
const AT_ONCE: usize = 2;

/// Parts under way, by the record's uid.
#[derive(Default)]
pub struct Moves {
    all: Mutex<BTreeMap<String, Work>>,
    turns: Turns,
}

/// Whose turn it is on each server.
#[derive(Default)]
struct Turns(Mutex<BTreeMap<String, Arc<Semaphore>>>);

impl Turns {
    /// Waits until it is one's turn on all of them; in the order of their names, so that no two wait for each other.
    async fn on(&self, mut servers: [&str; 2]) -> Vec<OwnedSemaphorePermit> {
        servers.sort_unstable();
        let mut held = Vec::new();
        for server in servers {
            let new = || Arc::new(Semaphore::new(AT_ONCE));
            let turn = Arc::clone(unpoisoned(&self.0).entry(server.to_owned()).or_insert_with(new));
            // It is never closed.
            held.extend(turn.acquire_owned().await.ok());
        }
        held
    }
}

fn unpoisoned<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What went wrong, and on which server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The server.
    pub server: String,
    /// Its engine's words, or ours.
    pub words: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.server, self.words)
    }
}

impl Failure {
    /// Whether there is no room left there.
    pub fn is_full(&self) -> bool {
        self.words.contains("no space left on device")
    }
}

/// A part under way, or what came of it.
struct Work {
    /// The move, and the part's name.
    of: (String, String),
    tally: Tally,
    state: State,
    task: Option<AbortHandle>,
    failures: u32,
}

enum State {
    Running,
    Failed(Failure, Instant),
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
    /// Others are on their way from or to one of its servers.
    Waits,
    /// So many bytes have come.
    Running(u64),
    /// Why it failed, and when it is tried again.
    Failed(Failure, Duration),
    /// It is there, and the same.
    Done(CarriedPart),
}

impl Moves {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Work>> {
        unpoisoned(&self.all)
    }

    /// How far a part of a move is.
    pub fn progress(&self, uid: &str, of: &MoveStatus, part: &Part) -> Progress {
        let all = self.lock();
        let Some(work) = all.get(uid).filter(|w| w.of == key(of, part)) else { return Progress::Due };
        match &work.state {
            State::Running if !work.tally.begun.load(Ordering::Relaxed) => Progress::Waits,
            State::Running => Progress::Running(work.tally.bytes.load(Ordering::Relaxed)),
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
        let failures = ctx.moves.lock().get(uid).filter(|w| w.of == of).map_or(0, |w| w.failures);
        let work = Work { of: of.clone(), tally: job.tally.clone(), state: State::Running, task: None, failures };
        drop(ctx.moves.lock().insert(uid.to_owned(), work));
        let (all, record, stop) = (ctx.clone(), uid.to_owned(), ctx.frame.stop.clone());
        let ended = of.clone();
        let task = tokio::spawn(async move {
            let carried = async {
                let _turns = all.moves.turns.on([&job.from.server, &job.to.server]).await;
                job.tally.begun.store(true, Ordering::Relaxed);
                job.done().await
            };
            let Some(result) = stop.run_until_cancelled(carried).await else { return };
            all.moves.end(&record, &ended, result);
            all.triggers.workspaces.fire_named(namespace.as_deref(), &name);
        });
        if let Some(work) = ctx.moves.lock().get_mut(uid).filter(|w| w.of == of) {
            work.task = Some(task.abort_handle());
        }
    }

    fn end(&self, uid: &str, of: &(String, String), result: Result<CarriedPart, Failure>) {
        let mut all = self.lock();
        let Some(work) = all.get_mut(uid).filter(|w| w.of == *of) else { return };
        work.state = match result {
            Ok(carried) => State::Done(carried),
            Err(why) => {
                work.failures += 1;
                State::Failed(why, Instant::now())
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
    /// What is wrong here.
    fn fails(&self, words: impl Into<String>) -> Failure {
        Failure { server: self.server.clone(), words: words.into() }
    }

    /// An engine's words, with whose they are.
    fn says(&self, e: &EngineError) -> Failure {
        self.fails(e.to_string())
    }

    async fn layers(&self, image: &str) -> Result<Option<String>, Failure> {
        layers(self.engine.as_ref(), image).await.map_err(|e| self.says(&e))
    }

    async fn create_volume(&self, volume: &Volume, id: &str) -> Result<(), Failure> {
        let failed = |e| self.says(&e);
        match self.engine.volume(&volume.name).await.map_err(failed)? {
            // What an earlier try left may be half of it.
            Some(found) if is_of(&found, id) => self.engine.remove_volume(&volume.name).await.map_err(failed)?,
            Some(_) => {
                let name = &volume.name;
                return Err(self.fails(format!(
                    "a volume named {name:?} is there that this move has not made; it is left alone. Remove it to go on"
                )));
            }
            None => {}
        }
        let mut all: Labels = volume.labels.clone();
        all.insert(labels::MOVE.to_owned(), id.to_owned());
        self.engine.create_volume(&VolumeSpec { name: volume.name.clone(), labels: all }).await.map_err(failed)
    }

    /// Takes away what has come of a volume: it would be in the way of all others there until it is tried again.
    async fn remove_half(&self, volume: &Volume, id: &str) -> Result<(), EngineError> {
        match self.engine.volume(&volume.name).await? {
            Some(found) if is_of(&found, id) => self.engine.remove_volume(&volume.name).await,
            _ => Ok(()),
        }
    }

    /// A container that a volume is reached through. It is never started, so nothing runs beside the copy.
    async fn helper(&self, helper: &Helper, volume: &str) -> Result<ContainerId, Failure> {
        self.engine.create(&helper.spec(volume)).await.map_err(|e| self.says(&e))
    }
}

/// Whether a volume came with this move.
pub fn is_of(volume: &Volume, id: &str) -> bool {
    volume.labels.get(labels::MOVE).is_some_and(|of| of == id)
}

/// A digest over the layers of an image, if it is there.
///
/// # Errors
/// The engine's, and where it does not tell them.
pub async fn layers(engine: &dyn Engine, image: &str) -> Result<Option<String>, EngineError> {
    match engine.layers(image).await? {
        Some(none) if none.is_empty() => Err(EngineError::Failed(format!("it does not tell the layers of image {image}"))),
        Some(all) => Ok(Some(written(Sha256::digest(all.join("\n"))))),
        None => Ok(None),
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
    /// Its turn has come.
    begun: Arc<AtomicBool>,
    bytes: Arc<AtomicU64>,
    /// Why what was passing was broken off.
    broken: Arc<Mutex<Option<Failure>>>,
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
    /// Bytes that were free where it goes, if that is known.
    room: Option<u64>,
    tally: Tally,
}

impl Job {
    /// A job that has not begun.
    pub fn new((from, to): (&Site, &Site), of: &MoveStatus, part: Part, helper: Helper, room: Option<u64>) -> Self {
        let (id, image, instance) = (of.id.clone(), of.image(), helper.owner.instance.clone());
        Self { from: from.into(), to: to.into(), part, id, image, instance, helper, room, tally: Tally::default() }
    }

    async fn done(&self) -> Result<CarriedPart, Failure> {
        let digest = match &self.part {
            Part::FileSystem(container) => self.file_system(container).await?,
            Part::Volume(volume) => match self.volume(volume).await {
                Ok(digest) => digest,
                Err(why) => {
                    self.give_up(volume).await;
                    return Err(why);
                }
            },
        };
        let bytes = self.tally.bytes.load(Ordering::Relaxed);
        Ok(CarriedPart { name: self.part.name().to_owned(), bytes, digest })
    }

    /// What passes: counted, looked at, and broken off where it may not arrive.
    fn passing(&self, archive: ByteStream, mut seen: impl FnMut(&Bytes) -> Result<(), Failure> + Send + 'static) -> ByteStream {
        let (tally, room, from, to) = (self.tally.clone(), self.room, self.from.server.clone(), self.to.server.clone());
        let full = move |room: u64| Failure {
            server: to.clone(),
            words: format!(
                "no space left on device: more comes than the {} MiB that were free when it was last measured",
                room >> 20
            ),
        };
        let pass = move |chunk: Result<Bytes, EngineError>| {
            let looked = match &chunk {
                Ok(bytes) => {
                    let length = bytes.len() as u64;
                    let all = tally.bytes.fetch_add(length, Ordering::Relaxed) + length;
                    seen(bytes).and_then(|()| room.filter(|room| all > *room).map_or(Ok(()), |room| Err(full(room))))
                }
                Err(e) => Err(Failure { server: from.clone(), words: e.to_string() }),
            };
            looked.map_or_else(
                |why| {
                    let e = EngineError::Failed(why.words.clone());
                    *unpoisoned(&tally.broken) = Some(why);
                    Err(e)
                },
                |()| chunk,
            )
        };
        archive.map(pass).boxed()
    }

    /// Why sending failed: what was sent may have been broken off before the engine had anything to say.
    fn sending(&self, e: &EngineError) -> Failure {
        unpoisoned(&self.tally.broken).take().unwrap_or_else(|| self.to.says(e))
    }

    /// Digests of its layers tell an image by all that is in it, and engines refuse layers that are not what their digests say.
    async fn file_system(&self, container: &ContainerId) -> Result<String, Failure> {
        let (from, to) = (&self.from.engine, &self.to.engine);
        let sent = match self.from.layers(&self.image).await? {
            Some(sent) => sent,
            None => {
                // A container of it by somebody's hand must not look like one of ours.
                let own = [(labels::INSTANCE, ""), (labels::UID, ""), (labels::BUILT_BY, self.instance.as_str())];
                let own = own.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
                from.commit(container, &self.image, &own).await.map_err(|e| self.from.says(&e))?;
                let made = self.from.layers(&self.image).await?;
                made.ok_or_else(|| self.from.fails(format!("the image {} that was made is not there", self.image)))?
            }
        };
        if self.to.layers(&self.image).await?.as_ref() != Some(&sent) {
            let saved = from.save(&self.image).await.map_err(|e| self.from.says(&e))?;
            let (mut guard, from) = (NameGuard::new(&self.image), self.from.server.clone());
            let named = move |bytes: &Bytes| {
                let wrong =
                    |why| Failure { server: from.clone(), words: format!("what it gives as an image is not taken: {why}") };
                guard.push(bytes).map_err(wrong)
            };
            to.load(self.passing(saved, named)).await.map_err(|e| self.sending(&e))?;
        }
        match self.to.layers(&self.image).await? {
            Some(found) if found == sent => Ok(sent),
            found => {
                let found = found.unwrap_or_else(|| "none".into());
                Err(self.to.fails(format!("what arrived is another image ({found}) than was sent ({sent})")))
            }
        }
    }

    /// Sent, and read back from where it is now.
    async fn volume(&self, volume: &Volume) -> Result<String, Failure> {
        // One that an earlier try left has its half of the volume in use.
        self.without_helpers().await?;
        self.to.create_volume(volume, &self.id).await?;
        let (here, there) =
            tokio::try_join!(self.from.helper(&self.helper, &volume.name), self.to.helper(&self.helper, &volume.name))?;
        let (from, to) = (&self.from.engine, &self.to.engine);
        let sent = Arc::new(Mutex::new(ArchiveDigest::default()));
        let archive = from.archive(&here, MOUNTED).await.map_err(|e| self.from.says(&e))?;
        let digest = Arc::clone(&sent);
        let counted = self.passing(archive, move |bytes| {
            unpoisoned(&digest).push(bytes);
            Ok(())
        });
        to.extract(&there, FOLDER, counted).await.map_err(|e| self.sending(&e))?;
        let sent = unpoisoned(&sent).finish().map_err(|e| self.from.fails(e))?;
        let mut arrived = ArchiveDigest::default();
        let mut archive = to.archive(&there, MOUNTED).await.map_err(|e| self.to.says(&e))?;
        while let Some(chunk) = archive.next().await {
            arrived.push(&chunk.map_err(|e| self.to.says(&e))?);
        }
        let arrived = arrived.finish().map_err(|e| self.to.fails(e))?;
        self.without_helpers().await?;
        if sent != arrived {
            return Err(self.to.fails(format!("what arrived ({arrived}) is not what was sent ({sent})")));
        }
        Ok(sent)
    }

    /// Leaves nothing behind of a volume that could not be carried, as far as that can be done now.
    async fn give_up(&self, volume: &Volume) {
        for end in [&self.from, &self.to] {
            if let Err(e) = remove_helper(end.engine.as_ref(), &self.helper).await {
                tracing::debug!(server = end.server, error = %e, "a container that a volume was carried through stays for now");
            }
        }
        if let Err(e) = self.to.remove_half(volume, &self.id).await {
            tracing::debug!(server = self.to.server, volume = volume.name, error = %e, "half a volume stays for now");
        }
    }

    async fn without_helpers(&self) -> Result<(), Failure> {
        for end in [&self.from, &self.to] {
            remove_helper(end.engine.as_ref(), &self.helper).await.map_err(|e| end.says(&e))?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "carry_tests.rs"]
mod tests;
