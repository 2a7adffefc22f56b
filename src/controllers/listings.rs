//! Containers as a full list has just shown them, so that after a start not every one need be asked about by itself.

use crate::engine::Container;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// A list is believed this long; an event about a container ends it at once.
const FRESH: Duration = Duration::from_secs(10);

/// Main containers by the uid of their workspace; each is given out once.
#[derive(Default)]
pub struct Listings(Mutex<HashMap<String, (Instant, Container)>>);

impl Listings {
    /// Notes what a list showed.
    pub fn put(&self, uid: &str, found: Container) {
        self.lock().insert(uid.to_owned(), (Instant::now(), found));
    }
    /// What a list showed a moment ago.
    pub fn take(&self, uid: &str) -> Option<Container> {
        self.lock().remove(uid).filter(|(at, _)| at.elapsed() < FRESH).map(|(_, found)| found)
    }
    /// Something has happened since.
    pub fn forget(&self, uid: &str) {
        self.lock().remove(uid);
    }
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, (Instant, Container)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
