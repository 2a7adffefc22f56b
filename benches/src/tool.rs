//! Figures and how they are shown.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// One line of the table.
pub fn row(what: &str, measured: &str, beside: &str, ratio: &str, goal: &str) {
    println!("| {what} | {measured} | {beside} | {ratio} | {goal} |");
}

/// Something worth knowing that is no figure of the table.
pub fn note(text: &str) {
    eprintln!("  {text}");
}

/// The value in the middle; of an even number, the mean of the two there.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    let upper = sorted.get(half).copied().unwrap_or(f64::NAN);
    if sorted.len().is_multiple_of(2) && half > 0 { (sorted[half - 1] + upper) / 2.0 } else { upper }
}

/// The value that this share of all values does not exceed.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    sorted.get(((last as f64) * share).round() as usize).copied().unwrap_or(f64::NAN)
}

/// `median (least–most)` with one digit.
pub fn spread(values: &[f64], unit: &str) -> String {
    let (least, most) = (quantile(values, 0.0), quantile(values, 1.0));
    format!("{:.1} {unit} ({least:.1}–{most:.1}, n={})", median(values), values.len())
}

/// Milliseconds.
pub fn ms(d: Duration) -> f64 {
    d.as_secs_f64() * 1000.0
}

/// CPU seconds a process has used so far, without its children.
pub fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks = |i: usize| fields.get(i).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
    // Ticks are hundredths of a second on every Linux this runs on.
    (ticks(11) + ticks(12)) / 100.0
}

/// Resident and most ever resident memory of a process in megabytes.
pub fn memory_mb(pid: u32) -> (f64, f64) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let read = |key: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix(key)).unwrap_or("0");
        line.trim().trim_end_matches(" kB").parse::<f64>().unwrap_or(0.0) / 1024.0
    };
    (read("VmRSS:"), read("VmHWM:"))
}

/// Processes whose parent is `pid`.
pub fn children(pid: u32) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(child) = entry.file_name().to_str().and_then(|n| n.parse::<u32>().ok()) else { continue };
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let parent = stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1)).and_then(|p| p.parse::<u32>().ok());
        if parent == Some(pid) {
            found.push(child);
        }
    }
    found
}

/// A program by variable or in PATH.
pub fn find(variable: &str, name: &str) -> Option<PathBuf> {
    let named = std::env::var_os(variable).map(PathBuf::from);
    let paths = std::env::var_os("PATH").unwrap_or_default();
    named.or_else(|| std::env::split_paths(&paths).map(|d| d.join(name)).find(|p| p.is_file()))
}

/// Size and time of last change of the files in a folder, as one comparable text.
pub fn print_of(folder: &Path) -> String {
    let mut all: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .flatten()
        .filter_map(|e| {
            let meta = e.metadata().ok()?;
            Some(format!("{:?} {} {:?}", e.file_name(), meta.len(), meta.modified().ok()?))
        })
        .collect();
    all.sort();
    all.join("\n")
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
