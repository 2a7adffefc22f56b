//! A folder of a test's own, and an end for whatever was started in it.

use super::bare;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Stdio};

/// Goes on when its standard input closes: that is, when the test process ends, however it ends. Arguments: the folder;
/// a pid file in it and the signal to ask that process with, where one has to put its things in order first.
const SCRIPT: &str = r#"
read -r _
dir=$1
# Processes whose command line names the folder. Only first lines are read, and the one of this script names nothing.
named() {
  for file in /proc/[0-9]*/cmdline; do
    line=
    read -r line <"$file"
    pid=${file#/proc/}
    case $line in *"$dir"*) echo "${pid%/cmdline}" ;; esac
  done
}
if [ -n "$2" ] && read -r pid _ <"$dir/$2" && kill -"$3" "$pid"; then
  i=0
  while [ $i -lt 150 ] && kill -0 "$pid"; do sleep 0.1; i=$((i + 1)); done
fi
i=0
while pids=$(named) && [ -n "$pids" ] && [ $i -lt 50 ]; do
  # With what they started: a container's program does not name the folder.
  for pid in $pids; do kill -KILL $(pgrep -P "$pid") "$pid"; done
  sleep 0.1
  i=$((i + 1))
done
grep -o " $dir[^ ]*" /proc/mounts | sort -r | while read -r mount; do umount -l "$mount"; done
rm -rf "$dir"
"#;

/// A folder. With the value, or with this process at the latest, it goes, and so does every process that names it.
pub struct Watchdog {
    dir: PathBuf,
    script: Option<(Child, ChildStdin)>,
}

impl Watchdog {
    pub fn new(prefix: &str) -> Self {
        Self::asking(prefix, "", "")
    }

    /// As [`Watchdog::new`]; the process in this pid file is asked with this signal first, and waited for.
    pub fn asking(prefix: &str, pid_file: &str, signal: &str) -> Self {
        let dir = tempfile::Builder::new().prefix(prefix).tempdir().unwrap().keep();
        let mut command = bare("setsid");
        command.args(["sh", "-c", SCRIPT, "watchdog"]).arg(&dir).args([pid_file, signal]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let stdin = child.stdin.take().unwrap();
        Self { dir, script: Some((child, stdin)) }
    }

    pub fn path(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        if let Some((mut child, stdin)) = self.script.take() {
            drop(stdin);
            let _ = child.wait();
        }
    }
}

/// What a test process leaves that does not end in order: its folder's processes must go without it.
#[test]
fn what_a_killed_test_process_has_started_ends_with_it() {
    const INNER: &str = "DEVSANCTUM_TEST_LEAVE_BEHIND";
    if let Some(told) = std::env::var_os(INNER) {
        let watchdog = Watchdog::new("ds-watchdog-");
        let sleeper = watchdog.path().join("sleeper");
        std::os::unix::fs::symlink("/bin/sleep", &sleeper).unwrap();
        let child = bare("setsid").arg(&sleeper).arg("1000").spawn().unwrap();
        std::fs::write(told, format!("{} {}", child.id(), watchdog.path().display())).unwrap();
        std::process::abort();
    }
    let dir = tempfile::tempdir().unwrap();
    let told = dir.path().join("told");
    let mut again = bare(std::env::current_exe().unwrap());
    again.args(["--exact", "support::watchdog::what_a_killed_test_process_has_started_ends_with_it"]).env(INNER, &told);
    assert!(!again.output().unwrap().status.success());
    let told = std::fs::read_to_string(told).unwrap();
    let (pid, folder) = told.split_once(' ').unwrap();
    let alive = || std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|c| !c.is_empty());
    let begun = std::time::Instant::now();
    while alive() || Path::new(folder).exists() {
        assert!(begun.elapsed() < std::time::Duration::from_secs(20), "process {pid} or {folder} is still there");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}
