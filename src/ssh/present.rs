//! Callers who have logged in: how many connections each user has, and all together.

use super::Limits;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The connections of all who have logged in.
pub struct Present {
    by: Mutex<BTreeMap<String, usize>>,
    of_user: usize,
    of_all: usize,
}

/// One connection's, until it is dropped.
pub struct Place {
    present: Arc<Present>,
    user: String,
}

impl Present {
    /// Nobody yet.
    pub fn new(limits: &Limits) -> Self {
        Self { by: Mutex::default(), of_user: limits.of_user, of_all: limits.of_all }
    }

    /// A place for one more connection of this user.
    ///
    /// # Errors
    /// In words for them, where there is none.
    pub fn place(self: &Arc<Self>, user: &str) -> Result<Place, String> {
        let mut by = self.by.lock().unwrap_or_else(PoisonError::into_inner);
        if by.get(user).is_some_and(|open| *open >= self.of_user) {
            let most = self.of_user;
            return Err(format!("{most} connections of yours are open, and no more may be at once: close some, and try again"));
        }
        if by.values().sum::<usize>() >= self.of_all {
            return Err("as many people are connected as may be at once: try again later".into());
        }
        *by.entry(user.to_owned()).or_default() += 1;
        Ok(Place { present: self.clone(), user: user.to_owned() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut by = self.present.by.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = by.get_mut(&self.user) {
            *open -= 1;
            if *open == 0 {
                by.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_user_has_so_many_and_all_together_have_so_many() {
        let present = Arc::new(Present::new(&Limits { of_user: 2, of_all: 3, ..Limits::default() }));
        let [one, _two] = ["ada"; 2].map(|user| present.place(user).unwrap_or_else(|words| panic!("{words}")));
        let words = present.place("ada").err().expect("no more of hers");
        assert!(words.starts_with("2 connections of yours are open"), "{words}");
        let other = present.place("bob").unwrap_or_else(|words| panic!("{words}"));
        let words = present.place("eve").err().expect("no more of all");
        assert!(words.starts_with("as many people are connected as may be"), "{words}");
        drop((one, other));
        assert!(present.place("ada").is_ok() && present.place("eve").is_ok());
        assert_eq!(present.by.lock().unwrap().len(), 1, "nothing is kept of who is gone");
    }
}
