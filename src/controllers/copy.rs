//! What is on an engine of a workspace and nobody can make anew: its own container, and its volumes.

use crate::engine::ownership::Ownership;
use crate::engine::{ContainerSummary, Engine, EngineError, Labels, Volume};
use crate::resource::labels;
use std::cmp::Ordering;
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

    /// Whether all of it is `there` as well, and nothing speaks for what is here. A volume that was made there after the one here was
    /// made empty, unless it came by a move; and what came here after what is there, and has a container, has been worked in since.
    pub fn is_spare(&self, there: &Self) -> bool {
        let speaks = |(name, here): (&String, &Volume)| {
            there.volumes.get(name).is_some_and(|there| match there.created.cmp(&here.created) {
                Ordering::Greater => !there.labels.contains_key(labels::MOVE),
                Ordering::Less => self.container.is_some(),
                Ordering::Equal => false,
            })
        };
        // Of a container alone nothing tells which is the newer one.
        let alone = self.container.is_some() && self.volumes.is_empty();
        !alone && self.missing(there).is_empty() && !self.volumes.iter().any(speaks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(role: &str, of_move: Option<&str>) -> Labels {
        let (instance, uid, kind, name) = ("i".into(), "u".into(), "Workspace".into(), "w".into());
        let own = Ownership { instance, uid, kind, namespace: Some("team".into()), name, role: role.into() }.labels();
        own.into_iter().chain(of_move.map(|of| (labels::MOVE.to_owned(), of.to_owned()))).collect()
    }

    fn volume(name: &str, day: i64, of_move: Option<&str>) -> Volume {
        let created = jiff::Timestamp::from_second(day * 86_400).ok();
        Volume { name: name.into(), labels: labels("folder.data", of_move), created }
    }

    fn copy(container: bool, volumes: &[Volume]) -> Copy {
        Copy { container: container.then(|| "c".into()), ..Copy::of("u", [], volumes) }
    }

    #[test]
    fn what_is_in_one_place_alone_is_no_spare() {
        let here = copy(true, &[volume("v", 1, Some("m"))]);
        assert_eq!(here.missing(&Copy::default()), ["c", "v"]);
        assert!(!here.is_spare(&Copy::default()) && !here.is_spare(&copy(true, &[])), "without its volume");
        assert!(here.is_spare(&copy(false, &[volume("v", 1, None)])), "a container beside its volumes is made anew");
        assert!(!copy(true, &[]).is_spare(&copy(true, &[])), "nobody knows which is the newer one");
        assert!(Copy::default().is_spare(&Copy::default()));
    }

    #[test]
    fn of_two_whole_copies_the_one_goes_that_was_left() {
        let [part, whole] = [false, true].map(|container| copy(container, &[volume("v", 2, Some("m"))]));
        let there = |day, of_move| copy(true, &[volume("v", day, of_move)]);
        assert!(part.is_spare(&there(1, None)), "what had come of a move that was given up");
        assert!(!whole.is_spare(&there(1, None)), "it moved here, and its old server was away since");
        assert!(whole.is_spare(&there(3, Some("n"))), "what it was before it moved on");
        assert!(!whole.is_spare(&there(3, None)) && !part.is_spare(&there(3, None)), "made in its place, empty");
        assert!(whole.is_spare(&there(2, None)));
    }

    #[test]
    fn what_lacks_a_label_is_somebody_elses() {
        let mut foreign = volume("v", 1, None);
        foreign.labels.remove(labels::INSTANCE);
        assert!(Copy::of("u", [], [&foreign]).is_empty() && Copy::of("other", [], [&volume("v", 1, None)]).is_empty());
    }
}
