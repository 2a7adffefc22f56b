//! Places that are counted by who holds them: each holder has some, and all together have some.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// The holder has as many as one may have.
    OfOne,
    /// All together have as many as there are.
    OfAll,
}

/// How many open files there are for one part of this process, which has one in `part` of them.
pub fn of_files(part: u64) -> usize {
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    files.map_or(usize::MAX, |files| usize::try_from(files / part).unwrap_or(usize::MAX))
}

/// All places. Cheap to clone.
#[derive(Clone)]
pub struct Places<K: Ord> {
    held: Arc<Mutex<Held<K>>>,
    most: usize,
}

struct Held<K> {
    by: BTreeMap<K, usize>,
    all: usize,
}

impl<K: Ord> Default for Places<K> {
    fn default() -> Self {
        Self::new(usize::MAX)
    }
}

impl<K: Ord> Places<K> {
    /// So many for all together.
    pub fn new(most: usize) -> Self {
        Self { held: Arc::new(Mutex::new(Held { by: BTreeMap::new(), all: 0 })), most }
    }

    /// How many are held.
    pub fn held(&self) -> usize {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).all
    }
}

impl<K: Ord + Clone> Places<K> {
    /// One more for a holder who may have so many.
    ///
    /// # Errors
    /// Whose places are all taken.
    pub fn take(&self, holder: &K, of_one: usize) -> Result<Place<K>, Full> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.by.get(holder).is_some_and(|held| *held >= of_one) {
            return Err(Full::OfOne);
        }
        if held.all >= self.most {
            return Err(Full::OfAll);
        }
        *held.by.entry(holder.clone()).or_default() += 1;
        held.all += 1;
        Ok(Place { places: self.clone(), holder: holder.clone() })
    }
}

/// One that is held, until it is dropped.
pub struct Place<K: Ord> {
    places: Places<K>,
    holder: K,
}

impl<K: Ord> Drop for Place<K> {
    fn drop(&mut self) {
        let mut held = self.places.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.all -= 1;
        if let Some(theirs) = held.by.get_mut(&self.holder) {
            *theirs -= 1;
            if *theirs == 0 {
                held.by.remove(&self.holder);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_holder_has_some_all_together_have_some_and_what_is_dropped_is_free() {
        let all = Places::new(3);
        let two = [all.take(&"ada", 2), all.take(&"ada", 2)];
        assert!(two.iter().all(Result::is_ok) && all.take(&"ada", 2).err() == Some(Full::OfOne));
        let other = all.take(&"bob", 2).expect("others have their own");
        assert_eq!((all.take(&"eve", 2).err(), all.held()), (Some(Full::OfAll), 3));
        drop(other);
        assert!(all.take(&"eve", 2).is_ok());
        drop(two);
        assert!(all.held() == 0 && all.held.lock().unwrap().by.is_empty(), "nobody is left behind");
    }
}
