//! Most that somebody may hold.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Most that a project, a person, or all members of a group together may hold. What is left out is not limited.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Quota {
    /// Workspaces, stopped ones included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspaces: Option<u32>,
    /// Workspaces that should run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<u32>,
    /// Cores that those which should run may use at most, companion containers included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0))]
    pub cpu: Option<f64>,
    /// Memory in mebibytes that is reserved for those which should run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ram_mb: Option<u32>,
    /// Disk in gibibytes that is reserved for all of them: files of stopped ones stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0))]
    pub disk_gb: Option<f64>,
}

impl Quota {
    /// This one where it says something, and the other one where it does not.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        Self {
            workspaces: self.workspaces.or(other.workspaces),
            running: self.running.or(other.running),
            cpu: self.cpu.or(other.cpu),
            ram_mb: self.ram_mb.or(other.ram_mb),
            disk_gb: self.disk_gb.or(other.disk_gb),
        }
    }
}
