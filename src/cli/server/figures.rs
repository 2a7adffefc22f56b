//! `server figures`: what a host had in use in the last day.

use crate::cli::args::OneServer;
use crate::cli::connect::Context;
use crate::cli::failure::Failure;
use crate::cli::ui::{self, clean, columns};
use serde_json::Value;

/// Runs `server figures`.
///
/// # Errors
/// When the API does not tell, or nothing was measured yet.
pub async fn run(context: &Context, args: &OneServer) -> Result<(), Failure> {
    super::read(context, &args.name).await?;
    let told: Value = context.ask("/devsanctum/status").await?;
    let Some(all) = told.get("figures") else {
        return Err(Failure::new("figures are for administrators"));
    };
    let none = || {
        let hint = format!(
            "`devsanctum server test {}` measures it; of several replicas only the one that leads knows (`devsanctum status`)",
            args.name
        );
        Failure::new(format!("server {:?} was not measured since the control plane was started", args.name)).hint(hint)
    };
    let kept = all[&args.name].as_array().filter(|kept| !kept.is_empty()).ok_or_else(none)?;
    ui::say(&text(kept))
}

fn text(kept: &[Value]) -> String {
    let mut rows = vec![["AT", "CPU", "MEMORY", "", "DISK", "", "WORKSPACES"].map(str::to_owned).to_vec()];
    for one in kept {
        let amount = |used: &str, total: &str| {
            let (used, total) = (one[used].as_f64().unwrap_or(0.0), one[total].as_f64().unwrap_or(0.0));
            let gib = f64::from(1u32 << 30);
            [format!("{:.1} of {:.1} GiB", used / gib, total / gib), bar(used, total)]
        };
        let [memory, memory_bar] = amount("ramUsed", "ramTotal");
        let [disk, disk_bar] = amount("diskUsed", "diskTotal");
        let cpu = one["cpuUsed"].as_f64().map_or_else(|| "-".into(), |used| format!("{used:.1} of {}", one["cpuTotal"]));
        let at = one["at"].as_str().and_then(|at| at.split('.').next()).unwrap_or_default();
        let at = format!("{}Z", at.trim_end_matches('Z'));
        rows.push(vec![clean(&at), cpu, memory, memory_bar, disk, disk_bar, one["workspaces"].to_string()]);
    }
    columns(&rows).join("\n")
}

/// How full, in tenths.
fn bar(used: f64, total: f64) -> String {
    let tenths = if total > 0.0 { (used / total * 10.0).round().clamp(0.0, 10.0) as usize } else { 0 };
    format!("[{}{}]", "#".repeat(tenths), ".".repeat(10 - tenths))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_moment_is_a_line() {
        let gib = 1u64 << 30;
        let one = json!({"at": "2026-01-01T12:00:00.123Z", "cpuUsed": 0.51, "cpuTotal": 8, "ramUsed": gib, "ramTotal": 4 * gib, "diskUsed": 9 * gib, "diskTotal": 10 * gib,
            "workspaces": 3});
        let said = text(&[one]);
        let line = said.lines().nth(1).unwrap();
        assert_eq!(
            line.split_whitespace().collect::<Vec<_>>().join(" "),
            "2026-01-01T12:00:00Z 0.5 of 8 1.0 of 4.0 GiB [###.......] 9.0 of 10.0 GiB [#########.] 3"
        );
        assert_eq!(bar(1.0, 0.0), "[..........]");
    }
}
