//! Whose a Docker object is: the labels it is created with, and the proof before it is changed or removed.

use super::Labels;
use crate::resource::labels;

/// What a Docker object is, and of which record. Every field is a label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ownership {
    /// The installation (see [`labels::INSTANCE`]).
    pub instance: String,
    /// `metadata.uid` of the record.
    pub uid: String,
    /// Kind of the record.
    pub kind: String,
    /// Namespace of the record; `None` for cluster kinds.
    pub namespace: Option<String>,
    /// Name of the record.
    pub name: String,
    /// What the object is to its record (see [`labels::ROLE`]).
    pub role: String,
}

impl Ownership {
    /// The labels to create the object with.
    pub fn labels(&self) -> Labels {
        let mut all = Labels::from([
            (labels::INSTANCE.to_owned(), self.instance.clone()),
            (labels::UID.to_owned(), self.uid.clone()),
            (labels::KIND.to_owned(), self.kind.clone()),
            (labels::NAME.to_owned(), self.name.clone()),
            (labels::ROLE.to_owned(), self.role.clone()),
        ]);
        if let Some(namespace) = &self.namespace {
            all.insert(labels::NAMESPACE.to_owned(), namespace.clone());
        }
        all
    }

    /// [`Ownership::labels`] with the digest of the settings the object is made from.
    pub fn labels_with_digest(&self, digest: &str) -> Labels {
        let mut all = self.labels();
        all.insert(labels::DIGEST.to_owned(), digest.to_owned());
        all
    }

    /// Whether an object that carries these labels is this one. Every label must match; one that looks alike but
    /// lacks a label, or has another installation's, is foreign. The digest says what it was made from, not whose it
    /// is, and does not count.
    pub fn proves(&self, found: &Labels) -> bool {
        Self::read(found).as_ref() == Some(self)
    }

    /// Whether these labels say, every one of them, that the object belongs to the record of this kind and uid.
    pub fn of_record(found: &Labels, kind: &str, uid: &str) -> bool {
        Self::read(found).is_some_and(|o| o.kind == kind && o.uid == uid)
    }

    /// Reads the labels of an object; `None` when one is missing or empty.
    pub fn read(found: &Labels) -> Option<Self> {
        let text = |key: &str| found.get(key).filter(|v| !v.is_empty()).cloned();
        Some(Self {
            instance: text(labels::INSTANCE)?,
            uid: text(labels::UID)?,
            kind: text(labels::KIND)?,
            namespace: text(labels::NAMESPACE),
            name: text(labels::NAME)?,
            role: text(labels::ROLE)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn main_container() -> Ownership {
        Ownership {
            instance: "i-1".into(),
            uid: "u-1".into(),
            kind: "Workspace".into(),
            namespace: Some("shop".into()),
            name: "dev".into(),
            role: "main".into(),
        }
    }

    #[test]
    fn its_own_labels_prove_it_whatever_else_is_there() {
        let mut found = main_container().labels_with_digest("d1");
        found.insert("maintainer".into(), "someone".into());
        assert!(main_container().proves(&found));
        assert_eq!(found[labels::DIGEST], "d1");
    }

    #[test]
    fn a_cluster_kind_s_object_does_not_pass_for_a_project_s() {
        let probe = Ownership { namespace: None, ..main_container() };
        assert!(probe.proves(&probe.labels()));
        assert!(!probe.proves(&main_container().labels()));
        assert!(!main_container().proves(&probe.labels()));
    }

    #[test]
    fn a_record_s_uid_alone_does_not_make_an_object_its_own() {
        let own = main_container();
        assert!(Ownership::of_record(&own.labels(), "Workspace", "u-1"));
        assert!(!Ownership::of_record(&own.labels(), "DockerServer", "u-1"));
        let mut found = own.labels();
        found.remove(labels::ROLE);
        assert!(!Ownership::of_record(&found, "Workspace", "u-1"));
    }

    #[test]
    fn an_empty_label_proves_nothing() {
        let nobody = Ownership { uid: String::new(), ..main_container() };
        assert!(!nobody.proves(&nobody.labels()));
    }

    proptest! {
        #[test]
        fn one_missing_or_other_label_is_enough_to_be_foreign(at in 0usize..6, other in prop::option::of("[a-z]{0,8}")) {
            let own = main_container();
            let mut found = own.labels();
            let key = found.keys().nth(at).unwrap().clone();
            match other {
                Some(value) => found.insert(key, format!("not-{value}")),
                None => found.remove(&key),
            };
            prop_assert!(!own.proves(&found));
        }
    }
}
