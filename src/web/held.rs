//! How many upgraded connections are held at once, by what lets them through: each is looked at again and again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// By one share link, whoever has it.
const OF_A_LINK: usize = 64;
/// Of one user, on all workspaces.
const OF_A_USER: usize = 256;

/// By what somebody is let through.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Holder {
    /// A user who is signed in.
    User(String),
    /// A share link, by the digest of what its browsers show.
    Link([u8; 32]),
}

impl Holder {
    fn most(&self) -> usize {
        match self {
            Self::User(_) => OF_A_USER,
            Self::Link(_) => OF_A_LINK,
        }
    }

    /// What somebody is told who finds no place.
    pub(super) fn no_place(&self) -> String {
        let by = match self {
            Self::User(_) => "of yours",
            Self::Link(_) => "by this link",
        };
        format!("{} connections {by} are open, and no more may be at once. Close some pages, and try again.", self.most())
    }
}

/// All that are held.
#[derive(Clone, Default)]
pub(super) struct HeldConnections(Arc<Mutex<BTreeMap<Holder, usize>>>);

/// One that is held, until it is dropped.
pub(super) struct Place {
    all: HeldConnections,
    holder: Holder,
}

impl HeldConnections {
    /// A place for one more; `None` where there are as many as may be.
    pub(super) fn place(&self, holder: &Holder) -> Option<Place> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let held = all.entry(holder.clone()).or_default();
        // One that is full is there, so that none is left behind here.
        (*held < holder.most()).then(|| {
            *held += 1;
            Place { all: self.clone(), holder: holder.clone() }
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = self.all.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = all.get_mut(&self.holder) {
            *held -= 1;
            if *held == 0 {
                all.remove(&self.holder);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_user_and_each_link_has_places_of_its_own() {
        let all = HeldConnections::default();
        let holders = [Holder::User("ada".into()), Holder::User("bob".into()), Holder::Link([1; 32]), Holder::Link([2; 32])];
        for (holder, most) in holders.iter().zip([256, 256, 64, 64]) {
            let mut places: Vec<Place> = (0..most).map(|_| all.place(holder).expect("a place")).collect();
            assert!(all.place(holder).is_none(), "{holder:?}");
            assert!(holder.no_place().starts_with(&format!("{most} connections ")), "{}", holder.no_place());
            places.pop();
            places.push(all.place(holder).expect("one has become free"));
        }
        assert!(all.0.lock().unwrap().is_empty());
    }
}
