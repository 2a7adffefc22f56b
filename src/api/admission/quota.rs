//! Quotas of a workspace's project, of its owner, and of the owner's groups: counted in the transaction that would use them up.
//!
//! # Guarantees
//! - However many ask at once, no quota is exceeded by a create, a start or a change of owner.
//! - What is lowered, or what grows because a template does, takes nothing from anybody: it holds for the next one to ask.

use super::super::fail;
use super::super::record::parse;
use super::super::served::by_kind;
use super::super::status::ApiError;
use super::Subject;
use crate::plan::environment::{Library, Unresolvable};
use crate::plan::footprint::{Footprint, footprint};
use crate::resource::{FeatureSpec, GROUP, GroupSpec, ProjectSpec, Quota, SETTINGS_NAME, TemplateSpec, WorkspaceStatus};
use crate::store::{Stored, Tx};
use serde::Deserialize;
use serde_json::Value;
use std::collections::HashMap;

/// What is counted, in the units of the records.
#[derive(Clone, Copy, Default)]
struct Usage {
    workspaces: u32,
    running: u32,
    cpu: f64,
    ram_mb: u64,
    disk_gb: f64,
}

impl Usage {
    fn of(holds: bool, runs: bool, it: Footprint) -> Self {
        let (held, run) = (f64::from(u8::from(holds)), f64::from(u8::from(runs)));
        Self {
            workspaces: holds.into(),
            running: runs.into(),
            cpu: run * it.cpu,
            ram_mb: if runs { it.ram_mb.into() } else { 0 },
            disk_gb: held * it.disk_gb,
        }
    }
    fn add(&mut self, other: Self) {
        self.workspaces += other.workspaces;
        self.running += other.running;
        self.cpu += other.cpu;
        self.ram_mb += other.ram_mb;
        self.disk_gb += other.disk_gb;
    }
}

/// A quota, whose it is, and whose workspaces count.
struct Limit {
    /// `project "team"`.
    of: String,
    quota: Quota,
    /// What of it is written in the record itself; the rest is the settings'.
    own: Quota,
    counted: Counted,
    /// The write makes one more of these.
    holds: bool,
    /// It makes one more of these run.
    runs: bool,
}

enum Counted {
    Project(String),
    People(Vec<String>),
}

impl Limit {
    /// The write takes some of what is limited.
    fn is_asked(&self) -> bool {
        let q = &self.quota;
        let (held, run) =
            (q.workspaces.is_some() || q.disk_gb.is_some(), q.running.is_some() || q.cpu.is_some() || q.ram_mb.is_some());
        self.holds && held || self.runs && run
    }

    /// It limits how many there are, and nothing that a workspace itself tells.
    fn is_of_numbers(&self) -> bool {
        self.quota == Quota { workspaces: self.quota.workspaces, ..Quota::default() }
    }

    /// It limits what an environment says.
    fn is_sized(&self) -> bool {
        self.quota.cpu.is_some() || self.quota.ram_mb.is_some() || self.quota.disk_gb.is_some()
    }
}

/// Judges a write of a workspace.
///
/// # Errors
/// 403 with what was asked for, what is used and what is allowed.
pub async fn check(tx: &mut Tx, subject: &Subject<'_>) -> Result<(), ApiError> {
    let def = subject.request.served.def;
    if def.group != GROUP || def.kind != "Workspace" {
        return Ok(());
    }
    let mut shelf = Shelf::default();
    for limit in limits(tx, subject).await? {
        let used = used(tx, subject, &limit, &mut shelf).await?;
        let size = match limit.is_sized() {
            true => shelf.size_of(tx, &subject.key.namespace).await?.map_err(|why| untold(subject, &limit, &why))?,
            false => Footprint::default(),
        };
        refuse_above(subject, &limit, used, Usage::of(limit.holds, limit.runs, size))?;
    }
    Ok(())
}

/// What the other workspaces use.
async fn used(tx: &mut Tx, subject: &Subject<'_>, limit: &Limit, shelf: &mut Shelf) -> Result<Usage, ApiError> {
    let mut used = Usage::default();
    if let (Counted::Project(name), true) = (&limit.counted, limit.is_of_numbers()) {
        let all = tx.count(subject.key.kind, name).await? - u64::from(subject.old.is_some());
        used.workspaces = u32::try_from(all).unwrap_or(u32::MAX);
        return Ok(used);
    }
    for stored in counted(tx, subject, &limit.counted).await? {
        let body = parse(&stored.body).map_err(fail::damaged)?;
        let size = match limit.is_sized() {
            // One that cannot be put together does not run; then counts what it took before.
            true => shelf.size_of(tx, &stored.key.namespace).await?.unwrap_or_else(|_| before(&body)),
            false => Footprint::default(),
        };
        used.add(Usage::of(true, runs(&body), size));
    }
    Ok(used)
}

/// Whether a workspace should run.
pub(super) fn runs(workspace: &Value) -> bool {
    workspace["spec"]["running"].as_bool().unwrap_or(true)
}

/// Whose a workspace is.
pub(super) fn owner(workspace: &Value) -> &str {
    workspace["spec"]["owner"].as_str().unwrap_or_default()
}

/// The quotas that the write may exceed.
async fn limits(tx: &mut Tx, subject: &Subject<'_>) -> Result<Vec<Limit>, ApiError> {
    let (old, new) = (subject.old, subject.new);
    let (made, starts) = (old.is_none(), runs(new) && !old.is_some_and(runs));
    let moved = old.is_none_or(|old| owner(old) != owner(new));
    let (holds, runs) = (moved, runs(new) && (starts || moved));
    let mut all = Vec::new();
    if made || starts {
        let name = subject.key.namespace.clone();
        let quota = spec::<ProjectSpec>(tx, "Project", &name).await?.map(|p| p.quota).unwrap_or_default();
        let of = format!("project {name:?}");
        let own = quota.clone();
        all.push(Limit { of, quota, own, counted: Counted::Project(name), holds: made, runs: starts });
    }
    if (holds || runs) && !owner(new).is_empty() {
        let name = owner(new).to_owned();
        let own = quota_in(&body(tx, "User", &name).await?, "quota")?;
        let quota = own.or(&quota_in(&body(tx, "Settings", SETTINGS_NAME).await?, "userQuota")?);
        let of = format!("user {name:?}");
        all.push(Limit { of, quota, own, counted: Counted::People(vec![name.clone()]), holds, runs });
        all.extend(of_groups(tx, &name, holds, runs).await?);
    }
    all.retain(Limit::is_asked);
    Ok(all)
}

async fn of_groups(tx: &mut Tx, person: &str, holds: bool, runs: bool) -> Result<Vec<Limit>, ApiError> {
    let mut all = Vec::new();
    for stored in naming(tx, person, "Group").await? {
        let group = parse(&stored.body).map_err(fail::damaged)?;
        let group = GroupSpec::deserialize(&group["spec"]).map_err(fail::damaged)?;
        if let Some(quota) = group.quota {
            let counted = Counted::People(group.members.into_iter().map(|m| m.user).collect());
            all.push(Limit { of: format!("group {:?}", stored.key.name), own: quota.clone(), quota, counted, holds, runs });
        }
    }
    Ok(all)
}

/// The other workspaces that a quota counts.
async fn counted(tx: &mut Tx, subject: &Subject<'_>, whose: &Counted) -> Result<Vec<Stored>, ApiError> {
    let mut all = Vec::new();
    match whose {
        Counted::Project(name) => all = tx.list(subject.key.kind, Some(name)).await?,
        Counted::People(people) => {
            for person in people {
                all.extend(naming(tx, person, "Workspace").await?);
            }
        }
    }
    all.retain(|stored| stored.key != *subject.key);
    Ok(all)
}

/// Records of a kind that name a person.
async fn naming(tx: &mut Tx, person: &str, kind: &str) -> Result<Vec<Stored>, ApiError> {
    let (Some(users), Some(naming)) = (by_kind("User"), by_kind(kind)) else { return Ok(Vec::new()) };
    Ok(tx.referring(naming.id, &users.key("", person)).await?)
}

async fn body(tx: &mut Tx, kind: &str, name: &str) -> Result<Value, ApiError> {
    let Some(served) = by_kind(kind) else { return Ok(Value::Null) };
    let stored = tx.get(&served.key("", name)).await?;
    stored.map_or(Ok(Value::Null), |stored| parse(&stored.body).map_err(fail::damaged))
}

async fn spec<T: for<'a> Deserialize<'a>>(tx: &mut Tx, kind: &str, name: &str) -> Result<Option<T>, ApiError> {
    match body(tx, kind, name).await? {
        Value::Null => Ok(None),
        body => T::deserialize(&body["spec"]).map(Some).map_err(fail::damaged),
    }
}

fn quota_in(record: &Value, field: &str) -> Result<Quota, ApiError> {
    Ok(Option::<Quota>::deserialize(&record["spec"][field]).map_err(fail::damaged)?.unwrap_or_default())
}

/// Templates and features, as this transaction sees them, and what the workspaces of each project take.
#[derive(Default)]
struct Shelf {
    templates: HashMap<String, TemplateSpec>,
    features: HashMap<String, FeatureSpec>,
    sizes: HashMap<String, Result<Footprint, Unresolvable>>,
}

impl Library for Shelf {
    fn template(&self, name: &str) -> Option<TemplateSpec> {
        self.templates.get(name).cloned()
    }
    fn feature(&self, name: &str) -> Option<FeatureSpec> {
        self.features.get(name).cloned()
    }
}

impl Shelf {
    /// What a workspace of a project takes, or why that cannot be told.
    async fn size_of(&mut self, tx: &mut Tx, project: &str) -> Result<Result<Footprint, Unresolvable>, ApiError> {
        if let Some(known) = self.sizes.get(project) {
            return Ok(known.clone());
        }
        let size = match spec::<ProjectSpec>(tx, "Project", project).await? {
            Some(spec) => {
                self.take_down(tx, &spec).await?;
                footprint(&spec, self)
            }
            None => Err(Unresolvable { reason: "NoProject", message: format!("there is no project {project:?}") }),
        };
        self.sizes.insert(project.to_owned(), size.clone());
        Ok(size)
    }

    /// Reads what a project's environment is put together from.
    async fn take_down(&mut self, tx: &mut Tx, project: &ProjectSpec) -> Result<(), ApiError> {
        let mut features: Vec<String> = project.features.iter().map(|f| f.name.clone()).collect();
        let mut next = Some(project.template.clone());
        while let Some(name) = next.take().filter(|name| !self.templates.contains_key(name)) {
            let Some(template) = spec::<TemplateSpec>(tx, "Template", &name).await? else { break };
            next = template.extends.clone();
            self.templates.insert(name, template);
        }
        features.extend(self.templates.values().flat_map(|t| t.features.iter().map(|f| f.name.clone())));
        while let Some(name) = features.pop() {
            if self.features.contains_key(&name) {
                continue;
            }
            if let Some(feature) = spec::<FeatureSpec>(tx, "Feature", &name).await? {
                features.extend(feature.requires.iter().cloned());
                self.features.insert(name, feature);
            }
        }
        Ok(())
    }
}

fn before(workspace: &Value) -> Footprint {
    let status = WorkspaceStatus::deserialize(&workspace["status"]).unwrap_or_default();
    let (ram_mb, disk_gb) = (status.reserved_ram_mb.unwrap_or(0), status.reserved_disk_gb.unwrap_or(0.0));
    Footprint { cpu: 0.0, ram_mb, disk_gb }
}

/// What would not count now would not be counted either when it is mended.
fn untold(subject: &Subject, limit: &Limit, why: &Unresolvable) -> ApiError {
    let why = format!("the quota of {} is about what it takes, and that cannot be told: {}", limit.of, why.message);
    ApiError::forbidden(subject.request.served.def, &subject.key.name, why)
}

fn refuse_above(subject: &Subject<'_>, limit: &Limit, used: Usage, asked: Usage) -> Result<(), ApiError> {
    let (quota, own, of) = (&limit.quota, &limit.own, f64::from);
    let all = [
        (
            "workspaces",
            quota.workspaces.map(of),
            own.workspaces.is_some(),
            of(used.workspaces),
            of(asked.workspaces),
            "delete one",
        ),
        ("running", quota.running.map(of), own.running.is_some(), of(used.running), of(asked.running), "stop one"),
        ("cpu", quota.cpu, own.cpu.is_some(), used.cpu, asked.cpu, "stop one"),
        ("ramMb", quota.ram_mb.map(of), own.ram_mb.is_some(), used.ram_mb as f64, asked.ram_mb as f64, "stop one"),
        ("diskGb", quota.disk_gb, own.disk_gb.is_some(), used.disk_gb, asked.disk_gb, "delete one"),
    ];
    // Sums of tenths are not exact.
    let is_above = |most: f64, used: f64, asked: f64| asked > 0.0 && used + asked > most + 1e-6;
    for (field, most, is_own, used, asked, way_out) in all {
        let Some(most) = most.filter(|most| is_above(*most, used, asked)) else { continue };
        let why = format!(
            "exceeded quota of {} ({}): requested: {field}={}, used: {field}={}, limited: {field}={}: {way_out}, or have the quota raised",
            limit.of,
            if is_own { "spec.quota" } else { "the settings' spec.userQuota" },
            shown(asked),
            shown(used),
            shown(most)
        );
        return Err(ApiError::forbidden(subject.request.served.def, &subject.key.name, why));
    }
    Ok(())
}

fn shown(amount: f64) -> f64 {
    (amount * 1000.0).round() / 1000.0
}
