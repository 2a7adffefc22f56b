//! Callers who have logged in: how many connections each user has, and all together.

use super::Limits;
use crate::api::{Full, Place, Places};

/// The connections of all who have logged in.
pub struct Present {
    places: Places<String>,
    limits: Limits,
}

impl Present {
    /// Nobody yet.
    pub fn new(limits: &Limits) -> Self {
        Self { places: Places::new(limits.of_all), limits: limits.clone() }
    }

    /// A place for one more connection of this user.
    ///
    /// # Errors
    /// In words for them, where there is none.
    pub fn place(&self, user: &str) -> Result<Place<String>, String> {
        let most = self.limits.of_user;
        self.places.take(&user.to_owned(), most).map_err(|full| match full {
            Full::OfOne => format!("{most} connections of yours are open, and no more may be at once: close some, and try again"),
            Full::OfAll => "as many people are connected as may be at once: try again later".into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_user_has_so_many_and_all_together_have_so_many() {
        let present = Present::new(&Limits { of_user: 2, of_all: 3, ..Limits::default() });
        let [one, _two] = ["ada"; 2].map(|user| present.place(user).unwrap_or_else(|words| panic!("{words}")));
        let words = present.place("ada").err().expect("no more of hers");
        assert!(words.starts_with("2 connections of yours are open"), "{words}");
        let other = present.place("bob").unwrap_or_else(|words| panic!("{words}"));
        let words = present.place("eve").err().expect("no more of all");
        assert!(words.starts_with("as many people are connected as may be"), "{words}");
        drop((one, other));
        assert!(present.place("ada").is_ok() && present.place("eve").is_ok());
    }
}
