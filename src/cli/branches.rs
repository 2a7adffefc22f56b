//! `branches`: what branches the repositories of a project have.

use super::args::BranchesArgs;
use super::connect::Context;
use super::failure::Failure;
use super::ui::{self, clean, columns};
use super::{exec, target};
use crate::resource::{Project, Workspace, WorkspacePhase};
use kube::api::{Api, ListParams};
use kube::{Resource, ResourceExt};

/// Runs `branches`: asked by the git of a running workspace, which has the credentials.
///
/// # Errors
/// When there is no such project or repository, none of its workspaces has the repository, or in git's words.
pub async fn run(context: &Context, args: BranchesArgs) -> Result<(), Failure> {
    target::check_name(&args.project)?;
    let projects: Api<Project> = Api::all(context.client.clone());
    let project = projects.get(&args.project).await?;
    let wanted = |name: &str| args.repository.as_deref().is_none_or(|one| one == name);
    let names: Vec<&str> = project.spec.repositories.iter().map(|r| r.name.as_str()).filter(|name| wanted(name)).collect();
    if names.is_empty() {
        let all: Vec<&str> = project.spec.repositories.iter().map(|r| r.name.as_str()).collect();
        let all = if all.is_empty() { "none".into() } else { all.join(", ") };
        return Err(Failure::new(format!("project {:?} has no such repository; it has: {all}", args.project)));
    }
    let workspaces: Api<Workspace> = Api::namespaced(context.client.clone(), &args.project);
    let running = workspaces.list(&ListParams::default()).await?.items;
    let mut rows = vec![["REPOSITORY", "BRANCH", "COMMIT"].map(str::to_owned).to_vec()];
    for name in names {
        let asked = running.iter().find(|w| has(w, name)).map(ResourceExt::name_any).ok_or_else(|| {
            Failure::new(format!("no running workspace of project {:?} has cloned {name:?}", args.project))
                .hint(format!("git asks from inside one: start a {} of the project", Workspace::kind(&()).to_lowercase()))
        })?;
        let listed = exec::said(&workspaces, &asked, &["git", "-C", name, "ls-remote", "--heads", "origin"]).await?;
        rows.extend(listed.lines().filter_map(|line| row(name, line)));
    }
    ui::say(&columns(&rows).join("\n"))
}

fn has(workspace: &Workspace, repository: &str) -> bool {
    let status = workspace.status.as_ref();
    status.is_some_and(|s| s.phase == WorkspacePhase::Running && s.repositories.iter().any(|r| r.name == repository))
}

/// A line of git's: the commit, and the branch in full.
fn row(repository: &str, line: &str) -> Option<Vec<String>> {
    let (commit, branch) = line.split_once('\t')?;
    let branch = branch.strip_prefix("refs/heads/")?;
    Some(vec![repository.to_owned(), clean(branch), clean(commit).chars().take(12).collect()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_gits_is_a_branch() {
        let row = |line| row("web", line).map(|cells| cells.join(" "));
        assert_eq!(row("0123456789abcdef\trefs/heads/feature/x").as_deref(), Some("web feature/x 0123456789ab"));
        assert_eq!(row("0123\trefs/heads/a\u{1b}[2J").as_deref(), Some("web a [2J 0123"), "it must not steer the terminal");
        assert_eq!(row("warning: something"), None);
    }
}
