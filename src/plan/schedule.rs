//! Which server a workspace goes to: the seeds' rule, as one pure function.

use crate::resource::ServerPhase;
use std::fmt::Write;

/// What a workspace needs.
#[derive(Clone, Debug, PartialEq)]
pub struct Need {
    /// Memory in mebibytes.
    pub ram_mb: u64,
    /// Disk in gibibytes.
    pub disk_gb: f64,
    /// Groups with access to the project.
    pub groups: Vec<String>,
    /// The server asked for, if one was.
    pub server: Option<String>,
}

/// A server as far as it is known.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// Its name.
    pub name: String,
    /// Groups whose projects may use it; empty: every project.
    pub groups: Vec<String>,
    /// Whether it answers.
    pub phase: ServerPhase,
    /// Takes new workspaces and is not being deleted.
    pub schedulable: bool,
    /// Memory in mebibytes, if known.
    pub ram_total_mb: Option<u64>,
    /// Memory in use, measured.
    pub ram_used_mb: Option<u64>,
    /// Memory reserved by workspaces placed there.
    pub ram_reserved_mb: u64,
    /// Of that, what those hold whose use is not in what was measured.
    pub ram_unmeasured_mb: u64,
    /// Disk in gibibytes, if known.
    pub disk_total_gb: Option<f64>,
    /// Disk in use, measured.
    pub disk_used_gb: Option<f64>,
    /// Disk reserved by workspaces placed there.
    pub disk_reserved_gb: f64,
    /// Of that, what those hold whose use is not in what was measured.
    pub disk_unmeasured_gb: f64,
}

impl Candidate {
    /// Free memory: the total less the larger of what is reserved, and what was measured with what is reserved on top of it.
    /// What workspaces use would count twice if all that is reserved came on top; what else uses the server would not count
    /// if nothing did.
    pub fn ram_free_mb(&self) -> Option<u64> {
        let to_be_used = self.ram_used_mb.unwrap_or(0).saturating_add(self.ram_unmeasured_mb);
        Some(self.ram_total_mb?.saturating_sub(to_be_used.max(self.ram_reserved_mb)))
    }
    /// Free disk, as [`Self::ram_free_mb`]. Unknown where never measured.
    pub fn disk_free_gb(&self) -> Option<f64> {
        let to_be_used = self.disk_used_gb.unwrap_or(0.0) + self.disk_unmeasured_gb;
        Some((self.disk_total_gb? - to_be_used.max(self.disk_reserved_gb)).max(0.0))
    }

    /// Why it cannot take the workspace; `None` when it can.
    fn refusal(&self, need: &Need) -> Option<String> {
        if need.server.as_ref().is_some_and(|s| *s != self.name) {
            return Some("another server was asked for".into());
        }
        if !self.groups.is_empty() && !self.groups.iter().any(|g| need.groups.contains(g)) {
            return Some(format!("open to groups {} only, none of which has access to the project", self.groups.join(", ")));
        }
        if self.phase != ServerPhase::Online {
            return Some(if self.phase == ServerPhase::Offline { "offline" } else { "unreachable" }.into());
        }
        if !self.schedulable {
            return Some("takes no new workspaces".into());
        }
        let Some(ram) = self.ram_free_mb() else { return Some("its memory is not known yet".into()) };
        let disk = self.disk_free_gb();
        if ram < need.ram_mb || disk.is_some_and(|d| d < need.disk_gb) {
            let disk = disk.map_or("unknown".into(), |d| format!("{d:.1} GiB"));
            return Some(format!("free: {ram} MiB RAM, {disk} disk"));
        }
        None
    }
}

/// Chooses the server with the most free memory among those that can take the workspace; by name where equal.
///
/// # Errors
/// Says what is needed and, server by server, why it cannot be had.
pub fn place<'a>(need: &Need, servers: &'a [Candidate]) -> Result<&'a Candidate, String> {
    let able = servers.iter().filter(|s| s.refusal(need).is_none());
    let best = able.max_by(|a, b| a.ram_free_mb().cmp(&b.ram_free_mb()).then_with(|| b.name.cmp(&a.name)));
    best.ok_or_else(|| explain(need, servers))
}

fn explain(need: &Need, servers: &[Candidate]) -> String {
    let mut text = format!("no server can take it: it needs {} MiB RAM and {:.1} GiB disk", need.ram_mb, need.disk_gb);
    if servers.is_empty() {
        text.push_str("; no DockerServer is registered: apply one");
    }
    let mut sorted: Vec<_> = servers.iter().collect();
    sorted.sort_by(|a, b| a.name.cmp(&b.name));
    for s in sorted {
        // Writing to a String cannot fail.
        let _ = write!(text, "; {}: {}", s.name, s.refusal(need).unwrap_or_default());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn server(name: &str, total: u64, used: u64, reserved: u64) -> Candidate {
        Candidate {
            name: name.into(),
            groups: vec![],
            phase: ServerPhase::Online,
            schedulable: true,
            ram_total_mb: Some(total),
            ram_used_mb: Some(used),
            ram_reserved_mb: reserved,
            ram_unmeasured_mb: 0,
            disk_total_gb: Some(100.0),
            disk_used_gb: Some(1.0),
            disk_reserved_gb: 0.0,
            disk_unmeasured_gb: 0.0,
        }
    }

    fn need(ram_mb: u64) -> Need {
        Need { ram_mb, disk_gb: 1.0, groups: vec!["devs".into()], server: None }
    }

    #[test]
    fn the_most_free_memory_wins_counting_reservations() {
        let all = [server("a", 8000, 1000, 6000), server("b", 4000, 500, 0)];
        assert_eq!(place(&need(256), &all).unwrap().name, "b");
    }

    #[test]
    fn a_refusal_lists_need_against_each_servers_free_capacity() {
        let mut closed = server("c", 9000, 0, 0);
        closed.groups = vec!["ops".into()];
        let mut gone = server("d", 9000, 0, 0);
        gone.phase = ServerPhase::Unreachable;
        let all = [server("a", 1000, 900, 0), closed, gone];
        assert_eq!(
            place(&need(256), &all).unwrap_err(),
            "no server can take it: it needs 256 MiB RAM and 1.0 GiB disk; a: free: 100 MiB RAM, 99.0 GiB disk; \
             c: open to groups ops only, none of which has access to the project; d: unreachable"
        );
        assert!(place(&need(1), &[]).unwrap_err().contains("no DockerServer is registered"));
    }

    #[test]
    fn what_others_use_counts_beside_what_was_just_reserved_and_what_workspaces_use_counts_once() {
        let s = |used, reserved, unmeasured| Candidate { ram_unmeasured_mb: unmeasured, ..server("a", 16_000, used, reserved) };
        // Others use 10,000, and one of 5,000 was placed a moment ago.
        assert_eq!(s(10_000, 5_000, 5_000).ram_free_mb(), Some(1_000));
        // It runs and uses what it may.
        assert_eq!(s(15_000, 5_000, 0).ram_free_mb(), Some(1_000));
        assert_eq!(s(100, 15_000, 0).ram_free_mb(), Some(1_000));
        assert_eq!(s(10_000, 9_000, 9_000).ram_free_mb(), Some(0));
        let disk = Candidate { disk_used_gb: Some(60.0), disk_reserved_gb: 30.0, disk_unmeasured_gb: 30.0, ..s(0, 0, 0) };
        assert_eq!(disk.disk_free_gb(), Some(10.0));
    }

    #[test]
    fn an_explicit_choice_must_pass_the_same_rules() {
        let all = [server("a", 1000, 0, 900), server("b", 4000, 0, 0)];
        let n = Need { server: Some("a".into()), ..need(256) };
        assert!(place(&n, &all).unwrap_err().contains("a: free: 100 MiB"));
    }

    proptest! {
        #[test]
        fn the_choice_fits_and_does_not_depend_on_order(
            list in prop::collection::vec((1u64..9000, 0u64..9000, 0u64..9000), 0..8), want in 1u64..5000
        ) {
            let mut all: Vec<_> = list.iter().enumerate().map(|(i, (t, u, r))| server(&format!("s{i}"), *t, *u, *r)).collect();
            let first = place(&need(want), &all).map(|s| s.name.clone());
            if let Ok(name) = &first {
                let s = all.iter().find(|s| &s.name == name).unwrap();
                prop_assert!(s.ram_free_mb().unwrap() >= want);
            }
            all.reverse();
            prop_assert_eq!(first.ok(), place(&need(want), &all).ok().map(|s| s.name.clone()));
        }
    }
}
