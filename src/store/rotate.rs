//! Rotating the installation's key while all goes on.
//!
//! A rotation is a row of small steps, each of which is done as a whole or not at all; after each of them every value can
//! be read. Where it stands is seen from the key file and the database alone, so that one that was cut off is gone on with
//! by asking for it again.

use super::database::Dialect;
use super::envelope::Held;
use super::keyring::KeySource;
use super::seal::Wrapping;
use super::{Store, StoreError};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::oneshot;

/// How to rotate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rotate {
    /// Leave keys in the file that are no longer in use.
    pub keep_old: bool,
    /// There is no other replica on this database, so a key may be made that no other has.
    pub only_replica: bool,
}

/// What a step has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A new key lies in the file.
    Made(String),
    /// One was cut off, or a key was put first by hand: this is the key to go on to.
    Found(String),
    /// New data keys are wrapped with it.
    Chosen(String),
    /// So many data keys were wrapped anew.
    Wrapped(u64),
    /// Keys that nothing is wrapped with were forgotten by the database ...
    Forgotten,
    /// ... and these taken out of the file. It is done.
    Done(Vec<String>),
}

/// A key, and what it is needed for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyUse {
    /// Its id.
    pub id: String,
    /// It wraps new data keys.
    pub current: bool,
    /// It is known here.
    pub given: bool,
    /// How many data keys are wrapped with it.
    pub data_keys: i64,
}

/// How far the last rotation of this process is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// It goes on.
    pub running: bool,
    /// What it was to do, in data keys.
    pub total: i64,
    /// What it has done of that.
    pub wrapped: i64,
    /// Keys it took out of the file.
    pub removed: Vec<String>,
    /// Why it ended before its end.
    pub error: Option<String>,
}

/// What there is to say of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyReport {
    /// Where they come from.
    pub source: String,
    /// All that are given or in use.
    pub keys: Vec<KeyUse>,
    /// The last rotation of this process.
    pub rotation: Progress,
}

/// A rotation, to be done step by step.
pub struct Rotation {
    store: Store,
    how: Rotate,
    next: Next,
    shut: Vec<String>,
}

enum Next {
    Choose(Arc<Wrapping>),
    Wrap(Arc<Wrapping>, String),
    Forget,
    Clear,
    End,
}

/// The last rotation of this process.
#[derive(Default)]
pub(super) struct Rotating(Mutex<Progress>);

impl Rotating {
    fn change<T>(&self, with: impl FnOnce(&mut Progress) -> T) -> T {
        with(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Store {
    async fn held(&self) -> Result<Held, StoreError> {
        let (pool, snapshot) = (self.inner.pool.clone(), self.inner.database.snapshot());
        let work = async move {
            let mut tx = pool.begin_with(snapshot).await?;
            let held = Held::read(&mut tx, true).await;
            tx.rollback().await?;
            held
        };
        self.aside(work).await?
    }

    /// Which keys there are and which are in use. Never the keys themselves.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn key_report(&self) -> Result<KeyReport, StoreError> {
        let (held, ring) = (self.held().await?, &self.inner.ring);
        let given: Vec<String> = ring.all().iter().map(|key| key.id().to_owned()).collect();
        let mut ids: Vec<String> = held.noted().map(str::to_owned).collect();
        ids.extend(given.iter().filter(|id| held.noted().all(|noted| noted != id.as_str())).cloned());
        let usage = |id: String| KeyUse {
            current: held.current() == Some(&id),
            given: given.contains(&id),
            data_keys: held.used.iter().find(|(used, _)| *used == id).map_or(0, |(_, count)| *count),
            id,
        };
        let rotation = self.inner.rotating.change(|progress| progress.clone());
        Ok(KeyReport { source: ring.source().to_string(), keys: ids.into_iter().map(usage).collect(), rotation })
    }

    /// Begins a rotation: makes a key, or finds the one to go on to.
    ///
    /// # Errors
    /// [`StoreError::Keys`] when there is nothing to do, or a new key is somebody else's to make.
    pub async fn rotation(&self, how: Rotate) -> Result<(Rotation, Step), StoreError> {
        let ring = &self.inner.ring;
        ring.reload()?;
        let held = self.held().await?;
        held.verify(ring)?;
        let first = ring.first()?;
        let elsewhere = held.used.iter().any(|(id, _)| id != first.id());
        let (target, step) = if elsewhere || held.current() != Some(first.id()) {
            (first.clone(), Step::Found(first.id().to_owned()))
        } else {
            self.may_make(how)?;
            let mut needed = held.wanted();
            needed.extend(held.old_key(ring));
            let made = ring.make(&needed)?;
            (made.clone(), Step::Made(made.id().to_owned()))
        };
        Ok((Rotation { store: self.clone(), how, next: Next::Choose(target), shut: Vec::new() }, step))
    }

    /// A key that is made here is known here alone.
    fn may_make(&self, how: Rotate) -> Result<(), StoreError> {
        let source = self.inner.ring.source();
        let words = match source {
            KeySource::File(_) if self.inner.database.dialect == Dialect::Sqlite || how.only_replica => return Ok(()),
            KeySource::File(path) => format!(
                "{} is this replica's, and a key made here would be missing to the others: put a new key into every replica's file \
                 (first the last line, then the first) and start each again, then rotate; or, with one replica, --only-replica",
                path.display()
            ),
            _ => format!(
                "everything is wrapped with the first key of {source} already: to rotate, give all replicas a new key after the \
                 ones they have, then before them, and rotate then"
            ),
        };
        Err(StoreError::Keys(words))
    }

    /// Rotates in the background, and answers once that has begun. [`Store::key_report`] tells how far it is.
    ///
    /// # Errors
    /// As [`Store::rotation`], and when one goes on already.
    pub async fn rotate(&self, how: Rotate) -> Result<Step, StoreError> {
        let rotating = &self.inner.rotating;
        let free = rotating.change(|it| !std::mem::replace(&mut it.running, true));
        if !free {
            return Err(StoreError::Keys("a rotation goes on already: `devsanctum secrets status` tells how far it is".into()));
        }
        let (told, answer) = oneshot::channel();
        let store = self.clone();
        self.inner.tasks.spawn(async move {
            let outcome = store.rotate_to_the_end(how, told).await;
            store.inner.rotating.change(|it| {
                it.running = false;
                match outcome {
                    Ok(removed) => it.removed = removed,
                    Err(e) => it.error = Some(e.to_string()),
                }
            });
        });
        answer.await.map_err(|_| StoreError::Keys("the rotation has ended unexpectedly; see the log".into()))?
    }

    async fn rotate_to_the_end(
        &self,
        how: Rotate,
        told: oneshot::Sender<Result<Step, StoreError>>,
    ) -> Result<Vec<String>, StoreError> {
        let begun = async {
            let (rotation, step) = self.rotation(how).await?;
            let used = self.held().await?.used;
            let total = used.iter().filter(|(id, _)| !rotation.is_to(id)).map(|(_, count)| count).sum();
            Ok::<_, StoreError>((rotation, step, total))
        };
        let (rotation, step, total) = match begun.await {
            Ok(begun) => begun,
            // It is the caller's to hear, and not how the last rotation ended.
            Err(e) => {
                self.inner.rotating.change(|it| it.running = false);
                let _ = told.send(Err(e));
                return Ok(Vec::new());
            }
        };
        self.inner.rotating.change(|it| *it = Progress { running: true, total, ..Progress::default() });
        tracing::info!(?step, total, "rotating the key that secrets are sealed with");
        // Whoever asked may have gone.
        let _ = told.send(Ok(step));
        match rotation.run().await {
            Ok(removed) => {
                tracing::info!(?removed, "the key that secrets are sealed with is rotated");
                Ok(removed)
            }
            Err(e) => {
                tracing::error!("rotating the key stopped: {e}");
                Err(e)
            }
        }
    }
}

impl Rotation {
    fn is_to(&self, id: &str) -> bool {
        matches!(&self.next, Next::Choose(to) | Next::Wrap(to, _) if to.id() == id)
    }

    /// Does all steps that are left, unless the store is closed before.
    async fn run(mut self) -> Result<Vec<String>, StoreError> {
        let store = self.store.clone();
        loop {
            if store.inner.closed.is_cancelled() {
                return Err(StoreError::Keys("the control plane stopped; rotate again to go on".into()));
            }
            match self.step().await? {
                Step::Wrapped(count) => store.inner.rotating.change(|it| it.wrapped += i64::try_from(count).unwrap_or(0)),
                Step::Done(removed) => return Ok(removed),
                _ => {}
            }
        }
    }

    /// Does the next step. It is on the disk when this answers.
    ///
    /// # Errors
    /// When it could not be done: what was done before stays. [`StoreError::Keys`] in the end, when a data key is left that
    /// cannot be unwrapped.
    pub async fn step(&mut self) -> Result<Step, StoreError> {
        let store = self.store.clone();
        let (step, next) = match std::mem::replace(&mut self.next, Next::End) {
            Next::Choose(to) => {
                let key = to.clone();
                store.write::<_, StoreError>(Box::new(move |tx| Box::pin(async move { tx.choose_key(&key).await }))).await?;
                (Step::Chosen(to.id().to_owned()), Next::Wrap(to, String::new()))
            }
            Next::Wrap(to, after) => {
                let key = to.clone();
                let batch = store
                    .write::<_, StoreError>(Box::new(move |tx| Box::pin(async move { tx.wrap_batch(&key, &after).await })))
                    .await?;
                self.shut.extend(batch.shut);
                (Step::Wrapped(batch.wrapped), batch.last.map_or(Next::Forget, |last| Next::Wrap(to, last)))
            }
            Next::Forget => {
                store.write::<_, StoreError>(Box::new(|tx| Box::pin(async move { tx.forget_keys().await }))).await?;
                (Step::Forgotten, Next::Clear)
            }
            Next::Clear => (Step::Done(self.clear().await?), Next::End),
            Next::End => (Step::Done(Vec::new()), Next::End),
        };
        self.next = next;
        Ok(step)
    }

    /// Takes keys out of the file that nothing is sealed with any more.
    async fn clear(&self) -> Result<Vec<String>, StoreError> {
        if !self.shut.is_empty() {
            return Err(StoreError::Keys(format!(
                "data keys of {} records cannot be unwrapped and stay as they are, such as {}: delete those records, or restore \
                 a backup; their key stays in use",
                self.shut.len(),
                self.shut[0]
            )));
        }
        let (store, ring) = (&self.store, &self.store.inner.ring);
        // Another replica has a file of its own, and may not have read the new key yet.
        let ours = store.inner.database.dialect == Dialect::Sqlite || self.how.only_replica;
        if self.how.keep_old || !ours {
            return Ok(Vec::new());
        }
        let held = store.held().await?;
        let mut needed = held.wanted();
        needed.extend(held.old_key(ring).filter(|_| held.old));
        ring.keep_only(&needed)
    }
}
