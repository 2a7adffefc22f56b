//! What decisions are made from: people, groups, projects, and whose each workspace is.
//!
//! Kept in memory by [`super::Directory`]; of each record only what a decision needs.

use crate::resource::common::Visibility;
use crate::resource::{DockerServer, Group, MemberRole, Project, ProjectRole, User, UserRole};
use crate::store::{Key, KindId};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

/// Kinds that decisions are made from, where the store keeps them.
pub const KINDS: [KindId; 6] = [
    "users.devsanctum.io",
    "groups.devsanctum.io",
    "projects.devsanctum.io",
    "workspaces.devsanctum.io",
    "dockerservers.devsanctum.io",
    "routes.devsanctum.io",
];

/// What somebody may do in a project. Higher ones include lower ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Nothing: it does not exist for them.
    None,
    /// What everybody may who is signed in, in a public project: see it, and what is public of it.
    Visitor,
    /// See the project and its workspaces.
    Read,
    /// Also make workspaces, and manage their own.
    Deploy,
    /// Also change the project, its groups' roles, and others' workspaces.
    Manage,
    /// Everything, its end too.
    Owner,
}

impl Role {
    /// As records and messages write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "no role",
            Self::Visitor => "a visitor's rights, for it is public",
            Self::Read => "READ",
            Self::Deploy => "DEPLOY",
            Self::Manage => "MANAGE",
            Self::Owner => "OWNER",
        }
    }
}

impl From<ProjectRole> for Role {
    fn from(role: ProjectRole) -> Self {
        match role {
            ProjectRole::Read => Self::Read,
            ProjectRole::Deploy => Self::Deploy,
            ProjectRole::Manage => Self::Manage,
        }
    }
}

/// A person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Person {
    /// May do everything.
    pub admin: bool,
    /// May do anything at all.
    pub active: bool,
}

/// Of a group's name: a thousand are compared with a thousand others in a few microseconds. Each keeps its own for as long as these
/// records are held, whether or not there is such a group.
type Number = u32;

#[derive(Debug, Default)]
struct ProjectFacts {
    owner: String,
    public: bool,
    groups: BTreeMap<String, Role>,
    /// The same, in the order of their numbers, as the groups of people are.
    by_number: Vec<(Number, Role)>,
    /// Times that one of its workspaces became public or private.
    turns: u64,
}

#[derive(Debug)]
struct WorkspaceFacts {
    uid: String,
    owner: String,
    public: bool,
}

/// Where a host leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostFacts {
    /// Project of the workspace.
    pub project: String,
    /// Name of the workspace, which need not be there.
    pub workspace: String,
    /// The workspace's port.
    pub port: u16,
    /// Anybody may pass.
    pub public: bool,
}

/// All of it.
#[derive(Debug, Default)]
pub struct Records {
    people: HashMap<String, Person>,
    groups: HashMap<String, BTreeMap<String, MemberRole>>,
    /// The groups of each person, the other way round.
    member_of: HashMap<String, Groups>,
    numbers: HashMap<String, Number>,
    projects: BTreeMap<String, ProjectFacts>,
    /// By project, then name.
    workspaces: HashMap<String, HashMap<String, WorkspaceFacts>>,
    /// Projects and names of workspaces, by their uids.
    by_uid: HashMap<String, (String, String)>,
    /// Where hosts lead.
    hosts: HashMap<String, HostFacts>,
    /// The hosts of routes, by project and name.
    routes: HashMap<(String, String), String>,
    /// Groups that servers are open to; of none, to all.
    servers: BTreeMap<String, Vec<String>>,
}

/// What is needed of a record that changes often: its status is passed over.
#[derive(Deserialize)]
struct Part<S> {
    metadata: PartOfMetadata,
    spec: S,
}

#[derive(Deserialize)]
struct PartOfMetadata {
    #[serde(default)]
    uid: String,
}

#[derive(Deserialize)]
struct PartOfWorkspace {
    owner: String,
    #[serde(default)]
    visibility: Visibility,
}

#[derive(Deserialize)]
struct PartOfRoute {
    host: String,
    workspace: String,
    port: u16,
    #[serde(default)]
    visibility: Visibility,
}

fn read<K: DeserializeOwned>(body: &[u8]) -> Option<K> {
    serde_json::from_slice(body).inspect_err(|cause| tracing::error!(%cause, "a stored record cannot be read")).ok()
}

/// The groups of a person, by name and by number, both in order.
#[derive(Debug, Default)]
struct Groups {
    names: BTreeSet<String>,
    numbers: Vec<Number>,
}

impl Groups {
    fn insert(&mut self, name: &str, number: Number) {
        self.names.insert(name.to_owned());
        if let Err(at) = self.numbers.binary_search(&number) {
            self.numbers.insert(at, number);
        }
    }

    fn remove(&mut self, name: &str, number: Number) {
        self.names.remove(name);
        self.numbers.retain(|own| *own != number);
    }
}

/// What is in both, each in order: each is gone through once, for there may be a thousand.
fn common<'a, T>(own: &'a [Number], given: &'a [(Number, T)]) -> impl Iterator<Item = &'a T> {
    let mut own = own.iter().peekable();
    given.iter().filter_map(move |(group, what)| {
        while own.next_if(|mine| *mine < group).is_some() {}
        own.next_if_eq(&group).map(|_| what)
    })
}

impl Records {
    fn number(&mut self, group: &str) -> Number {
        let next = Number::try_from(self.numbers.len()).unwrap_or(Number::MAX);
        *self.numbers.entry(group.to_owned()).or_insert(next)
    }

    /// Takes a record as it is now. One that cannot be read is none: nobody gets a right from it.
    pub fn put(&mut self, key: &Key, body: &[u8]) {
        let turns = self.projects.get(&key.name).map_or(0, |facts| facts.turns);
        let was = self.workspaces.get(&key.namespace).and_then(|all| all.get(&key.name)).map(|facts| facts.public);
        self.remove(key);
        let name = key.name.clone();
        match key.kind {
            "users.devsanctum.io" => {
                let Some(user) = read::<User>(body) else { return };
                let active = user.spec.active && user.metadata.deletion_timestamp.is_none();
                self.people.insert(name, Person { admin: user.spec.role == UserRole::Admin, active });
            }
            "groups.devsanctum.io" => {
                let Some(group) = read::<Group>(body) else { return };
                let number = self.number(&name);
                for member in &group.spec.members {
                    self.member_of.entry(member.user.clone()).or_default().insert(&name, number);
                }
                self.groups.insert(name, group.spec.members.into_iter().map(|m| (m.user, m.role)).collect());
            }
            "projects.devsanctum.io" => {
                let Some(project) = read::<Project>(body) else { return };
                let mut groups = BTreeMap::new();
                for given in project.spec.groups {
                    let role = groups.entry(given.group).or_insert(Role::None);
                    *role = (*role).max(given.role.into());
                }
                let mut by_number: Vec<_> = groups.iter().map(|(group, role)| (self.number(group), *role)).collect();
                by_number.sort_unstable();
                let public = project.spec.visibility == Visibility::Public;
                self.projects.insert(name, ProjectFacts { owner: project.spec.owner, public, groups, by_number, turns });
            }
            "workspaces.devsanctum.io" => {
                let Some(workspace) = read::<Part<PartOfWorkspace>>(body) else { return };
                let public = workspace.spec.visibility == Visibility::Public;
                if let (true, Some(project)) = (was.is_some_and(|was| was != public), self.projects.get_mut(&key.namespace)) {
                    project.turns += 1;
                }
                let uid = workspace.metadata.uid;
                self.by_uid.insert(uid.clone(), (key.namespace.clone(), name.clone()));
                let facts = WorkspaceFacts { uid, owner: workspace.spec.owner, public };
                self.workspaces.entry(key.namespace.clone()).or_default().insert(name, facts);
            }
            "routes.devsanctum.io" => {
                let Some(route) = read::<Part<PartOfRoute>>(body) else { return };
                let PartOfRoute { host, workspace, port, visibility } = route.spec;
                self.routes.insert((key.namespace.clone(), name), host.clone());
                let public = visibility == Visibility::Public;
                self.hosts.insert(host, HostFacts { project: key.namespace.clone(), workspace, port, public });
            }
            "dockerservers.devsanctum.io" => {
                let Some(server) = read::<DockerServer>(body) else { return };
                self.servers.insert(name, server.spec.groups);
            }
            _ => {}
        }
    }

    /// Forgets a record.
    pub fn remove(&mut self, key: &Key) {
        match key.kind {
            "users.devsanctum.io" => drop(self.people.remove(&key.name)),
            "groups.devsanctum.io" => {
                let number = self.number(&key.name);
                for user in self.groups.remove(&key.name).unwrap_or_default().into_keys() {
                    if let Some(groups) = self.member_of.get_mut(&user) {
                        groups.remove(&key.name, number);
                        if groups.names.is_empty() {
                            self.member_of.remove(&user);
                        }
                    }
                }
            }
            "projects.devsanctum.io" => drop(self.projects.remove(&key.name)),
            "workspaces.devsanctum.io" => {
                let held = self.workspaces.get_mut(&key.namespace).and_then(|all| all.remove(&key.name));
                held.map(|facts| self.by_uid.remove(&facts.uid));
            }
            "routes.devsanctum.io" => {
                let host = self.routes.remove(&(key.namespace.clone(), key.name.clone()));
                host.map(|host| self.hosts.remove(&host));
            }
            "dockerservers.devsanctum.io" => drop(self.servers.remove(&key.name)),
            _ => {}
        }
    }

    /// Somebody, if they are known.
    pub fn person(&self, name: &str) -> Option<Person> {
        self.people.get(name).copied()
    }

    /// The groups somebody belongs to, in order.
    pub fn groups_of(&self, person: &str) -> impl Iterator<Item = &str> {
        self.member_of.get(person).into_iter().flat_map(|groups| &groups.names).map(String::as_str)
    }

    /// What somebody is in a group.
    pub fn membership(&self, person: &str, group: &str) -> Option<MemberRole> {
        self.groups.get(group)?.get(person).copied()
    }

    /// Whether two people belong to a group together.
    pub fn share_a_group(&self, one: &str, other: &str) -> bool {
        let (Some(one), Some(other)) = (self.member_of.get(one), self.member_of.get(other)) else { return false };
        let (mut one, mut other) = (one.numbers.iter().peekable(), other.numbers.iter().peekable());
        while let (Some(mine), Some(theirs)) = (one.peek(), other.peek()) {
            match mine.cmp(theirs) {
                Ordering::Less => drop(one.next()),
                Ordering::Greater => drop(other.next()),
                Ordering::Equal => return true,
            }
        }
        false
    }

    /// What somebody is, and in a project, in a few words: for who reads later what they did.
    pub fn standing(&self, person: &str, project: &str) -> String {
        match (self.person(person), self.role(person, project)) {
            (None, _) => String::new(),
            (Some(Person { admin: true, .. }), _) => "ADMIN".into(),
            (Some(_), Role::None) => "USER".into(),
            (Some(_), Role::Visitor) => "USER, VISITOR".into(),
            (Some(_), role) => format!("USER, {}", role.name()),
        }
    }

    /// Whether there is such a project.
    pub fn has_project(&self, name: &str) -> bool {
        self.projects.contains_key(name)
    }

    /// The highest of somebody's roles in a project.
    pub fn role(&self, person: &str, project: &str) -> Role {
        let Some(facts) = self.projects.get(project) else { return Role::None };
        if facts.owner == person {
            return Role::Owner;
        }
        let least = if facts.public { Role::Visitor } else { Role::None };
        let Some(own) = self.member_of.get(person) else { return least };
        common(&own.numbers, &facts.by_number).copied().max().unwrap_or(least)
    }

    /// The groups that give somebody their role in a project.
    pub fn by_groups(&self, person: &str, project: &str) -> Vec<&str> {
        let role = self.role(person, project);
        let all = self.projects.get(project).into_iter().flat_map(|facts| &facts.groups);
        all.filter(|(group, given)| **given == role && self.membership(person, group).is_some())
            .map(|(group, _)| group.as_str())
            .collect()
    }

    /// A digest of all that decides what somebody may see and do, but for which workspaces there are.
    pub fn entitlement(&self, person: &str) -> u64 {
        let mut hasher = DefaultHasher::new();
        let known = self.person(person);
        known.map(|p| (p.admin, p.active)).hash(&mut hasher);
        for group in self.groups_of(person) {
            let members = self.groups.get(group).into_iter().flatten();
            group.hash(&mut hasher);
            members.for_each(|(user, role)| (user, *role == MemberRole::Manager).hash(&mut hasher));
        }
        for (project, facts) in &self.projects {
            match self.role(person, project) {
                Role::None => {}
                Role::Visitor => (project, 1, facts.turns).hash(&mut hasher),
                role => (project, role as u8 + 1).hash(&mut hasher),
            }
        }
        self.servers.keys().filter(|server| self.is_open(server, person)).for_each(|server| server.hash(&mut hasher));
        hasher.finish()
    }

    /// Where the workspace of this uid is: its project and its name.
    pub fn workspace(&self, uid: &str) -> Option<(&str, &str)> {
        self.by_uid.get(uid).map(|(project, name)| (project.as_str(), name.as_str()))
    }

    /// Whether a host leads to the workspace of this uid.
    pub fn leads_to(&self, host: &str, uid: &str) -> bool {
        self.host(host).is_some_and(|to| self.workspace(uid) == Some((&to.project, &to.workspace)))
    }

    /// Where a host leads; `None` for one that no route has.
    pub fn host(&self, host: &str) -> Option<&HostFacts> {
        self.hosts.get(host)
    }

    /// Whether a host leads to a workspace, and is not open to anybody.
    pub fn is_private_host(&self, host: &str, uid: &str) -> bool {
        self.leads_to(host, uid) && self.host(host).is_some_and(|facts| !facts.public)
    }

    /// The uid of a workspace; `None` for one that is not there.
    pub fn workspace_uid(&self, project: &str, name: &str) -> Option<&str> {
        Some(self.workspaces.get(project)?.get(name)?.uid.as_str())
    }

    /// Who is active and may do everything.
    pub fn administrators(&self) -> Vec<String> {
        let all = self.people.iter().filter(|(_, person)| person.admin && person.active);
        all.map(|(name, _)| name.clone()).collect()
    }

    /// Whose a workspace is; `None` for one that is not there.
    pub fn workspace_owner(&self, project: &str, name: &str) -> Option<&str> {
        Some(self.workspaces.get(project)?.get(name)?.owner.as_str())
    }

    /// Whether a workspace is there and public.
    pub fn is_public(&self, project: &str, workspace: &str) -> bool {
        self.workspaces.get(project).and_then(|all| all.get(workspace)).is_some_and(|facts| facts.public)
    }

    /// Whether a server is there and open to somebody.
    pub fn is_open(&self, server: &str, person: &str) -> bool {
        let Some(groups) = self.servers.get(server) else { return false };
        groups.is_empty() || groups.iter().any(|group| self.membership(person, group).is_some())
    }

    /// Whether a server is there and open to a group that a project is shared with: its workspaces are placed there.
    pub fn is_open_to_project(&self, server: &str, project: &str) -> bool {
        let (Some(groups), Some(facts)) = (self.servers.get(server), self.projects.get(project)) else { return false };
        groups.iter().any(|group| facts.groups.contains_key(group))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn put(records: &mut Records, kind: KindId, name: &str, spec: Value) {
        let kinds = if kind.starts_with("groups") { "Group" } else { "Project" };
        let body = json!({"apiVersion": "devsanctum.io/v1", "kind": kinds, "metadata": {"name": name}, "spec": spec});
        records.put(&Key { kind, namespace: String::new(), name: name.into() }, body.to_string().as_bytes());
    }

    /// Groups and projects come, change and go in any order; whoever is asked about is what a look at every group says.
    #[test]
    fn a_role_is_what_a_look_at_every_group_says() {
        let mut random = fastrand::Rng::with_seed(7);
        let (mut records, roles) = (Records::default(), ["READ", "DEPLOY", "MANAGE"]);
        let (mut found, mut together) = (HashMap::new(), 0);
        for step in 0..2_000 {
            let group = format!("g{}", random.u32(0..40));
            let project = format!("p{}", random.u32(0..4));
            match random.u32(0..4) {
                0 => records.remove(&Key { kind: "groups.devsanctum.io", namespace: String::new(), name: group }),
                1 => {
                    let given: Vec<Value> = (0..random.usize(0..6))
                        .map(|_| json!({"group": format!("g{}", random.u32(0..50)), "role": roles[random.usize(0..3)]}))
                        .collect();
                    let visibility = if random.bool() { "PUBLIC" } else { "PRIVATE" };
                    let spec = json!({"owner": "u0", "template": "t", "visibility": visibility, "groups": given});
                    put(&mut records, "projects.devsanctum.io", &project, spec);
                }
                _ => {
                    let members: BTreeSet<u32> = (0..random.usize(0..4)).map(|_| random.u32(0..12)).collect();
                    let members: Vec<Value> = members.iter().map(|n| json!({"user": format!("u{n}")})).collect();
                    put(&mut records, "groups.devsanctum.io", &group, json!({"members": members}));
                }
            }
            let (one, other) = (format!("u{}", random.u32(0..12)), format!("u{}", random.u32(0..12)));
            let mine = |who: &str| {
                records.groups.iter().filter(|(_, m)| m.contains_key(who)).map(|(g, _)| g.clone()).collect::<BTreeSet<_>>()
            };
            let wanted = match records.projects.get(&project) {
                None => Role::None,
                Some(facts) if facts.owner == one => Role::Owner,
                Some(facts) => {
                    let least = if facts.public { Role::Visitor } else { Role::None };
                    mine(&one).iter().filter_map(|group| facts.groups.get(group).copied()).max().unwrap_or(least)
                }
            };
            assert_eq!(records.role(&one, &project), wanted, "step {step}: {one} in {project}");
            assert_eq!(records.groups_of(&one).map(str::to_owned).collect::<BTreeSet<_>>(), mine(&one));
            let shared = !mine(&one).is_disjoint(&mine(&other));
            assert_eq!(records.share_a_group(&one, &other), shared, "step {step}: {one} and {other}");
            *found.entry(wanted.name()).or_insert(0) += 1;
            together += usize::from(shared);
        }
        assert!(found.len() == 6 && found.values().all(|n| *n > 20) && together > 100, "{found:?} {together}");
    }
}
