//! The script that clones, with this machine's shells and git.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A git that takes folders for addresses, notes that it was called, and clones once it may.
const GIT: &str = r#"#!/bin/sh
[ "$1" = clone ] || exec "$REAL_GIT" "$@"
echo >>"$ROOM/calls"
while [ ! -e "$ROOM/may" ]; do sleep 0.05; done
GIT_ALLOW_PROTOCOL=file exec "$REAL_GIT" "$@"
"#;

/// A host's repository, and a folder to clone it into.
struct Room {
    root: tempfile::TempDir,
    shell: &'static [&'static str],
}

impl Room {
    fn new(shell: &'static [&'static str]) -> Self {
        let room = Self { root: tempfile::tempdir().unwrap(), shell };
        for folder in ["host", "bin", "workspace"] {
            std::fs::create_dir(room.at(folder)).unwrap();
        }
        std::fs::write(room.at("host/branch"), "main").unwrap();
        let who = ["-c", "user.name=ada", "-c", "user.email=ada@example.com"];
        for args in [&["init", "-q", "-b", "main"][..], &["add", "."], &["commit", "-qm", "first"]] {
            assert!(Command::new("git").current_dir(room.at("host")).args(who).args(args).status().unwrap().success());
        }
        std::fs::write(room.at("bin/git"), GIT).unwrap();
        std::fs::set_permissions(room.at("bin/git"), PermissionsExt::from_mode(0o755)).unwrap();
        room
    }
    fn at(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }
    fn begin(&self) -> Child {
        let (workdir, url) = (self.at("workspace"), self.at("host"));
        let path = std::env::var("PATH").unwrap();
        let real = path.split(':').map(|p| Path::new(p).join("git")).find(|p| p.is_file()).unwrap();
        Command::new(self.shell[0])
            .args(&self.shell[1..])
            .args(["-c", super::CLONE, "clone", workdir.to_str().unwrap(), "web", url.to_str().unwrap(), "main", "main", ""])
            .env("PATH", format!("{}:{path}", self.at("bin").display()))
            .env("REAL_GIT", real)
            .env("ROOM", self.root.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }
    fn calls(&self) -> usize {
        std::fs::read(self.at("calls")).unwrap_or_default().len()
    }
    fn until_called(&self) {
        let since = Instant::now();
        while self.calls() == 0 {
            assert!(since.elapsed() < Duration::from_secs(60), "git was never called");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    fn may(&self) {
        std::fs::write(self.at("may"), "").unwrap();
    }
    /// What lies in the folder that is cloned into.
    fn names(&self) -> Vec<String> {
        let all = std::fs::read_dir(self.at("workspace")).unwrap();
        let mut names: Vec<String> = all.map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
    fn branch(&self) -> String {
        std::fs::read_to_string(self.at("workspace/web/branch")).unwrap()
    }
}

fn said(run: Child) -> String {
    let done = run.wait_with_output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap().trim().to_owned()
}

/// The shells that images have: this machine's, and busybox's, which tests of the engine need as well.
fn in_each_shell(test: impl Fn(&Room)) {
    for shell in [&["/bin/sh"][..], &["busybox", "sh"]] {
        test(&Room::new(shell));
    }
}

#[test]
fn a_second_run_waits_for_the_first_one_and_leaves_what_it_brought() {
    in_each_shell(|room| {
        let first = room.begin();
        room.until_called();
        let others = [room.begin(), room.begin()];
        // Time enough for them to call git, if they would.
        std::thread::sleep(Duration::from_millis(700));
        room.may();
        assert_eq!(said(first), "cloned main");
        assert_eq!(others.map(said), ["there main", "there main"]);
        assert_eq!((room.calls(), room.names()), (1, vec!["web".to_owned()]));
    });
}

#[test]
fn of_runs_that_begin_at_once_one_clones() {
    // It is by chance who sees whom: two that waited for each other did so in one round of five.
    for _ in 0..5 {
        in_each_shell(|room| {
            room.may();
            let runs: Vec<Child> = (0..6).map(|_| room.begin()).collect();
            let mut all: Vec<String> = runs.into_iter().map(said).collect();
            all.sort();
            assert_eq!(all[0], "cloned main");
            assert_eq!(all[1..], ["there main"; 5]);
            assert_eq!((room.calls(), room.names()), (1, vec!["web".to_owned()]));
        });
    }
}

#[test]
fn work_that_was_begun_while_it_cloned_is_left_as_it_is() {
    in_each_shell(|room| {
        let run = room.begin();
        room.until_called();
        std::fs::create_dir(room.at("workspace/web")).unwrap();
        std::fs::write(room.at("workspace/web/branch"), "mine").unwrap();
        room.may();
        assert_eq!(said(run), "there");
        assert_eq!((room.branch(), room.names()), ("mine".to_owned(), vec!["web".to_owned()]));
    });
}

#[test]
fn it_clones_into_a_volume_s_empty_folder_and_waits_for_no_process_that_is_another() {
    in_each_shell(|room| {
        // This test's own process lives, and is no run; so does that of a run for another folder.
        let left = format!("workspace/.web.cloning.{}", std::process::id());
        std::fs::create_dir(room.at(&left)).unwrap();
        std::fs::create_dir(room.at("workspace/web")).unwrap();
        room.may();
        assert_eq!(said(room.begin()), "cloned main");
        assert_eq!((room.branch(), room.names()), ("main".to_owned(), vec!["web".to_owned()]));
        assert!(room.at("workspace/web/.git/HEAD").exists());
    });
}
