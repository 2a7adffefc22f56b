//! What is on an engine of a workspace and nobody can make anew: its own container, and its volumes.

use crate::engine::ownership::Ownership;
use crate::engine::{ContainerSummary, Engine, EngineError, Labels, Volume};
use crate::resource::labels;
use std::collections::BTreeMap;

/// What there is of one workspace on one engine.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Copy {
    container: Option<String>,
    volumes: BTreeMap<String, Volume>,
}

impl Copy {
    /// What bears all labels of the workspace of this uid.
    pub fn of<'a>(
        uid: &str,
        containers: impl IntoIterator<Item = &'a ContainerSummary>,
        volumes: impl IntoIterator<Item = &'a Volume>,
    ) -> Self {
        let own = |labels: &Labels| Ownership::of_record(labels, "Workspace", uid);
        let is_main = |c: &&ContainerSummary| own(&c.labels) && c.labels.get(labels::ROLE).is_some_and(|role| role == "main");
        Self {
            container: containers.into_iter().find(is_main).map(|c| c.name.clone()),
            volumes: volumes.into_iter().filter(|v| own(&v.labels)).map(|v| (v.name.clone(), v.clone())).collect(),
        }
    }

    /// Looks on an engine.
    ///
    /// # Errors
    /// The engine's: nothing is known then.
    pub async fn on(engine: &dyn Engine, uid: &str) -> Result<Self, EngineError> {
        let (containers, volumes) = (engine.containers(Some(uid)).await?, engine.volumes(Some(uid)).await?);
        Ok(Self::of(uid, &containers, &volumes))
    }

    /// Whether there is nothing of it.
    pub fn is_empty(&self) -> bool {
        self.container.is_none() && self.volumes.is_empty()
    }

    /// The names of what is here and not `there`. A container counts where there is nothing at all: beside its volumes it is made anew
    /// as anybody's that was removed.
    pub fn missing<'s>(&'s self, there: &Self) -> Vec<&'s str> {
        let volumes = self.volumes.keys().filter(|name| !there.volumes.contains_key(*name));
        self.container.iter().filter(|_| there.is_empty()).chain(volumes).map(String::as_str).collect()
    }

    /// Whether its container is there.
    pub fn has_container(&self) -> bool {
        self.container.is_some()
    }

    /// Whether all of it is `there` as well, and later: each of its volumes came there by a later move than here, or here by one that
    /// was given up. What was made in place, and no move brought, is as old as nothing else; and of a container alone nothing tells
    /// which is the later one.
    pub fn is_spare(&self, there: &Self, given_up: &[String]) -> bool {
        let is_later = |(name, here): (&String, &Volume)| {
            there.volumes.get(name).is_some_and(|there| match (move_of(here), move_of(there)) {
                (Some(here), _) if given_up.iter().any(|id| id == here) => true,
                (None, Some(there)) => is_timed(there),
                (Some(here), Some(there)) => is_timed(here) && is_timed(there) && here < there,
                (_, None) => false,
            })
        };
        !self.volumes.is_empty() && self.missing(there).is_empty() && self.volumes.iter().all(is_later)
    }
}

fn move_of(volume: &Volume) -> Option<&str> {
    volume.labels.get(labels::MOVE).map(String::as_str)
}

/// Whether it begins with when the move began.
fn is_timed(id: &str) -> bool {
    id.split_once('-').is_some_and(|(time, _)| time.len() == labels::MOVE_TIME)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(role: &str, of_move: Option<&str>) -> Labels {
        let (instance, uid, kind, name) = ("i".into(), "u".into(), "Workspace".into(), "w".into());
        let own = Ownership { instance, uid, kind, namespace: Some("team".into()), name, role: role.into() }.labels();
        own.into_iter().chain(of_move.map(|of| (labels::MOVE.to_owned(), of.to_owned()))).collect()
    }

    /// As it came by the move of this day.
    fn volume(name: &str, day: Option<i64>) -> Volume {
        let id = day.map(|day| format!("{:011x}-abcd1234", day * 86_400_000));
        Volume { name: name.into(), labels: labels("folder.data", id.as_deref()) }
    }

    fn copy(container: bool, volumes: &[Volume]) -> Copy {
        Copy { container: container.then(|| "c".into()), ..Copy::of("u", [], volumes) }
    }

    #[test]
    fn what_is_in_one_place_alone_is_no_spare() {
        let here = copy(true, &[volume("v", Some(1))]);
        assert_eq!(here.missing(&Copy::default()), ["c", "v"]);
        assert!(!here.is_spare(&Copy::default(), &[]) && !here.is_spare(&copy(true, &[]), &[]), "without its volume");
        assert!(here.is_spare(&copy(false, &[volume("v", Some(2))]), &[]), "a container beside its volumes is made anew");
        let two = copy(true, &[volume("v", Some(1)), volume("w", Some(1))]);
        assert!(!two.is_spare(&copy(true, &[volume("v", Some(2))]), &[]), "a part is nowhere else");
        assert!(!copy(true, &[]).is_spare(&copy(true, &[]), &[]), "nobody knows which is the later one");
    }

    #[test]
    fn of_two_whole_copies_the_one_goes_that_was_left() {
        let at = |day| copy(true, &[volume("v", day)]);
        assert!(at(None).is_spare(&at(Some(1)), &[]), "what it was before it moved");
        assert!(at(Some(1)).is_spare(&at(Some(2)), &[]), "what it was before it moved on");
        assert!(!at(Some(2)).is_spare(&at(Some(1)), &[]), "it moved here, and its old server was away since");
        assert!(!at(Some(1)).is_spare(&at(None), &[]), "made there in place, and perhaps empty");
        assert!(!at(None).is_spare(&at(None), &[]) && !at(Some(1)).is_spare(&at(Some(1)), &[]));
        // Without its container: somebody may have removed that by hand.
        assert!(!copy(false, &[volume("v", Some(2))]).is_spare(&at(Some(1)), &[]));
    }

    #[test]
    fn what_a_move_left_that_was_given_up_is_a_spare_and_what_cannot_be_dated_is_none() {
        let (part, home) = (copy(false, &[volume("v", Some(2))]), copy(true, &[volume("v", None)]));
        let id = part.volumes["v"].labels[labels::MOVE].clone();
        assert!(!part.is_spare(&home, &[]) && part.is_spare(&home, &["other".into(), id.clone()]));
        assert!(!part.is_spare(&Copy::default(), &[id]), "not while there is nothing where it is");
        let old = |of: &str| copy(true, &[Volume { name: "v".into(), labels: labels("folder.data", Some(of)) }]);
        assert!(!home.is_spare(&old("zzzzzzzz"), &[]) && !old("aaaaaaaa").is_spare(&old("zzzzzzzz"), &[]), "of an older version");
    }

    #[test]
    fn what_lacks_a_label_is_somebody_elses() {
        let mut foreign = volume("v", None);
        foreign.labels.remove(labels::INSTANCE);
        assert!(Copy::of("u", [], [&foreign]).is_empty() && Copy::of("other", [], [&volume("v", None)]).is_empty());
    }
}
