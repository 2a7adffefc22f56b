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
use crate::plan::environment::Library;
use crate::plan::footprint::{Footprint, footprint};
use crate::resource::{FeatureSpec, GROUP, GroupSpec, ProjectSpec, Quota, SETTINGS_NAME, TemplateSpec, WorkspaceStatus};
use crate::store::{Key, Stored, Tx};
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
    /// Where it is written.
    path: &'static str,
    quota: Quota,
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
        let sized = limit.quota.cpu.is_some() || limit.quota.ram_mb.is_some() || limit.quota.disk_gb.is_some();
        let mut used = Usage::default();
        for stored in counted(tx, subject, &limit.counted).await? {
            let body = parse(&stored.body).map_err(fail::damaged)?;
            let size = if sized { shelf.size_of(tx, &stored.key.namespace, Some(&body)).await? } else { Footprint::default() };
            used.add(Usage::of(true, runs(&body), size));
        }
        let size = if sized { shelf.size_of(tx, &subject.key.namespace, None).await? } else { Footprint::default() };
        refuse_above(subject, &limit, used, Usage::of(limit.holds, limit.runs, size))?;
    }
    Ok(())
}

fn runs(workspace: &Value) -> bool {
    workspace["spec"]["running"].as_bool().unwrap_or(true)
}

fn owner(workspace: &Value) -> &str {
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
        all.push(Limit { of, path: "spec.quota", quota, counted: Counted::Project(name), holds: made, runs: starts });
    }
    if (holds || runs) && !owner(new).is_empty() {
        let name = owner(new).to_owned();
        let (own, path) = of_a_person(tx, &name).await?;
        let of = format!("user {name:?}");
        all.push(Limit { of, path, quota: own, counted: Counted::People(vec![name.clone()]), holds, runs });
        all.extend(of_groups(tx, &name, holds, runs).await?);
    }
    all.retain(|limit| limit.quota != Quota::default());
    Ok(all)
}

async fn of_a_person(tx: &mut Tx, name: &str) -> Result<(Quota, &'static str), ApiError> {
    let own = quota_in(&body(tx, "User", name).await?, "quota");
    let settings = quota_in(&body(tx, "Settings", SETTINGS_NAME).await?, "userQuota");
    let path = if own == Quota::default() { "the settings' spec.userQuota" } else { "spec.quota" };
    Ok((own.or(&settings), path))
}

async fn of_groups(tx: &mut Tx, person: &str, holds: bool, runs: bool) -> Result<Vec<Limit>, ApiError> {
    let mut all = Vec::new();
    for key in referrers(tx, "User", person, "Group").await? {
        let Some(group) = spec::<GroupSpec>(tx, "Group", &key.name).await? else { continue };
        if let Some(quota) = group.quota {
            let counted = Counted::People(group.members.into_iter().map(|m| m.user).collect());
            all.push(Limit { of: format!("group {:?}", key.name), path: "spec.quota", quota, counted, holds, runs });
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
                for key in referrers(tx, "User", person, "Workspace").await? {
                    all.extend(tx.get(&key).await?);
                }
            }
        }
    }
    all.retain(|stored| stored.key != *subject.key);
    Ok(all)
}

async fn referrers(tx: &mut Tx, kind: &str, name: &str, of: &str) -> Result<Vec<Key>, ApiError> {
    let (Some(named), Some(naming)) = (by_kind(kind), by_kind(of)) else { return Ok(Vec::new()) };
    let mut all = tx.referrers(&named.key("", name)).await?;
    all.retain(|key| key.kind == naming.id);
    Ok(all)
}

async fn body(tx: &mut Tx, kind: &str, name: &str) -> Result<Value, ApiError> {
    let Some(served) = by_kind(kind) else { return Ok(Value::Null) };
    let stored = tx.get(&served.key("", name)).await?;
    stored.map_or(Ok(Value::Null), |stored| parse(&stored.body).map_err(fail::damaged))
}

async fn spec<T: for<'a> Deserialize<'a>>(tx: &mut Tx, kind: &str, name: &str) -> Result<Option<T>, ApiError> {
    Ok(T::deserialize(&body(tx, kind, name).await?["spec"]).ok())
}

fn quota_in(record: &Value, field: &str) -> Quota {
    Quota::deserialize(&record["spec"][field]).unwrap_or_default()
}

/// Templates and features, as this transaction sees them, and what the workspaces of each project take.
#[derive(Default)]
struct Shelf {
    templates: HashMap<String, TemplateSpec>,
    features: HashMap<String, FeatureSpec>,
    sizes: HashMap<String, Option<Footprint>>,
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
    /// What a workspace of a project takes. Where its environment cannot be put together it will not run; then counts what it
    /// took before.
    async fn size_of(&mut self, tx: &mut Tx, project: &str, workspace: Option<&Value>) -> Result<Footprint, ApiError> {
        if !self.sizes.contains_key(project) {
            let size = match spec::<ProjectSpec>(tx, "Project", project).await? {
                Some(spec) => {
                    self.take_down(tx, &spec).await?;
                    footprint(&spec, self).ok()
                }
                None => None,
            };
            self.sizes.insert(project.to_owned(), size);
        }
        let known = self.sizes.get(project).copied().flatten();
        Ok(known.unwrap_or_else(|| before(workspace)))
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

fn before(workspace: Option<&Value>) -> Footprint {
    let status = workspace.and_then(|w| WorkspaceStatus::deserialize(&w["status"]).ok()).unwrap_or_default();
    let (ram_mb, disk_gb) = (status.reserved_ram_mb.unwrap_or(0), status.reserved_disk_gb.unwrap_or(0.0));
    Footprint { cpu: 0.0, ram_mb, disk_gb }
}

fn refuse_above(subject: &Subject<'_>, limit: &Limit, used: Usage, asked: Usage) -> Result<(), ApiError> {
    let (quota, of) = (&limit.quota, f64::from);
    let all = [
        ("workspaces", quota.workspaces.map(of), of(used.workspaces), of(asked.workspaces), "delete one"),
        ("running", quota.running.map(of), of(used.running), of(asked.running), "stop one"),
        ("cpu", quota.cpu, used.cpu, asked.cpu, "stop one"),
        ("ramMb", quota.ram_mb.map(of), used.ram_mb as f64, asked.ram_mb as f64, "stop one"),
        ("diskGb", quota.disk_gb, used.disk_gb, asked.disk_gb, "delete one"),
    ];
    // Sums of tenths are not exact.
    let is_above = |most: f64, used: f64, asked: f64| asked > 0.0 && used + asked > most + 1e-6;
    for (field, most, used, asked, way_out) in all {
        let Some(most) = most.filter(|most| is_above(*most, used, asked)) else { continue };
        let why = format!(
            "exceeded quota of {} ({}): requested: {field}={}, used: {field}={}, limited: {field}={}: {way_out}, or have the quota raised",
            limit.of,
            limit.path,
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
