//! How many upgraded connections are held at once, by what lets them through: each is looked at again and again.

use crate::api::{Place, Places, of_files};

/// By one share link, whoever has it.
const OF_A_LINK: usize = 64;
/// Of one user, on all workspaces.
const OF_A_USER: usize = 256;
/// Of all together, one of so many files that this process may have open: each is two, and the rest of it needs some as well.
const OF_FILES: u64 = 4;

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
        format!(
            "{} connections {by} are open, or as many of all people as this machine takes, and no more may be at once. Close some pages, \
             and try again.",
            self.most()
        )
    }
}

/// All that are held.
#[derive(Clone)]
pub(super) struct HeldConnections(Places<Holder>);

impl Default for HeldConnections {
    fn default() -> Self {
        Self(Places::new(of_files(OF_FILES)))
    }
}

impl HeldConnections {
    /// A place for one more; `None` where there are as many as may be.
    pub(super) fn place(&self, holder: &Holder) -> Option<Place<Holder>> {
        self.0.take(holder, holder.most()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_user_and_each_link_has_places_of_its_own() {
        let all = HeldConnections(Places::default());
        let holders = [Holder::User("ada".into()), Holder::User("bob".into()), Holder::Link([1; 32]), Holder::Link([2; 32])];
        for (holder, most) in holders.iter().zip([256, 256, 64, 64]) {
            let mut places: Vec<_> = (0..most).map(|_| all.place(holder).expect("a place")).collect();
            assert!(all.place(holder).is_none(), "{holder:?}");
            assert!(holder.no_place().starts_with(&format!("{most} connections ")), "{}", holder.no_place());
            places.pop();
            places.push(all.place(holder).expect("one has become free"));
        }
        assert_eq!(all.0.held(), 0);
        let few = HeldConnections(Places::new(2));
        let places: Vec<_> = holders[..2].iter().map(|holder| few.place(holder).expect("a place")).collect();
        assert!(few.place(&holders[2]).is_none(), "of all together");
        drop(places);
        assert!(few.place(&holders[2]).is_some());
    }
}
