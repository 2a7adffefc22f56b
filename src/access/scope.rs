//! What an API key may be used for: less than its holder may do, never more.

use super::Action;
use crate::resource::GROUP;
use serde::{Deserialize, Serialize};

/// Nothing said means no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Scope {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub verbs: Vec<String>,
    /// Plurals of kinds, such as `workspaces`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<String>,
    /// Projects, and what lies in them; then nothing that lies in none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub projects: Vec<String>,
}

impl Scope {
    /// Whether it allows everything.
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it allows this.
    pub fn allows(&self, action: &Action<'_>) -> bool {
        let holds = |all: &[String], one: &str| all.is_empty() || all.iter().any(|x| x == one);
        if !holds(&self.verbs, action.verb) || !holds(&self.kinds, action.resource) {
            return false;
        }
        let of_projects = matches!((action.group, action.resource), (GROUP, "projects") | ("", "namespaces"));
        match if of_projects { action.name } else { action.namespace } {
            Some(project) => holds(&self.projects, project),
            // A list is of what may be seen, which is judged record by record.
            None => self.projects.is_empty() || (action.name.is_none() && matches!(action.verb, "list" | "watch")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_only_takes_away() {
        let action = |verb, resource, namespace, name| Action { verb, group: GROUP, resource, subresource: "", namespace, name };
        let scope = |verbs: &[&str], kinds: &[&str], projects: &[&str]| {
            let own = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
            Scope { verbs: own(verbs), kinds: own(kinds), projects: own(projects) }
        };
        let delete = action("delete", "workspaces", Some("team"), Some("w"));
        assert!(Scope::default().allows(&delete));
        assert!(!scope(&["get", "list"], &[], &[]).allows(&delete));
        assert!(!scope(&[], &["routes"], &[]).allows(&delete));
        assert!(scope(&[], &[], &["team"]).allows(&delete));
        assert!(!scope(&[], &[], &["other"]).allows(&delete));
        let team = scope(&[], &[], &["team"]);
        assert!(team.allows(&action("list", "workspaces", None, None)));
        assert!(!team.allows(&action("get", "users", None, Some("ada"))));
        assert!(team.allows(&action("get", "projects", None, Some("team"))));
        assert!(!team.allows(&action("delete", "projects", None, Some("other"))));
    }
}
