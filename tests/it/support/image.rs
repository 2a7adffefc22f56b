//! Images made of this machine's own programs.

use super::bare;
use super::dockerd::{Dockerd, TINY};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Puts the busybox image with these programs of this machine in it on the engine, and gives its name.
pub fn image_with(daemon: &Dockerd, tag: &'static str, programs: &[PathBuf]) -> &'static str {
    static LOCK: Mutex<()> = Mutex::new(());
    let _one_at_a_time = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
    if daemon.try_docker(&["image", "inspect", tag]).status.success() {
        return tag;
    }
    let context = tempfile::tempdir().unwrap();
    let mut files: Vec<PathBuf> = programs.iter().flat_map(|p| libraries(p)).collect();
    files.extend(programs.iter().cloned());
    files.sort();
    files.dedup();
    let tar = context.path().join("files.tar");
    let packed = bare("tar").arg("-chPf").arg(&tar).args(&files).status().unwrap();
    assert!(packed.success());
    std::fs::write(context.path().join("Dockerfile"), format!("FROM {TINY}\nADD files.tar /\n")).unwrap();
    daemon.tiny_image();
    daemon.docker(&["build", "--network=none", "-t", tag, &context.path().display().to_string()]);
    tag
}

/// Where a program of this machine is.
pub fn program(name: &str) -> PathBuf {
    let found = bare("sh").args(["-c", "command -v \"$1\"", "sh", name]).output().unwrap();
    assert!(found.status.success(), "this machine has no {name}: scripts/test-tools.sh installs it");
    PathBuf::from(String::from_utf8(found.stdout).unwrap().trim())
}

/// The libraries that a program is linked with.
fn libraries(program: &Path) -> Vec<PathBuf> {
    let told = bare("ldd").arg(program).output().unwrap().stdout;
    let text = String::from_utf8(told).unwrap();
    text.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect()
}
