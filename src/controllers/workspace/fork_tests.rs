//! The script that copies, with this machine's tools.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A copy of `from` in `to`, by a `cp` that is this.
struct Room(tempfile::TempDir);

impl Room {
    fn new() -> Self {
        let room = Self(tempfile::tempdir().unwrap());
        for folder in ["from/0/deep", "to/0/old", "bin"] {
            std::fs::create_dir_all(room.at(folder)).unwrap();
        }
        std::fs::write(room.at("from/0/deep/file"), "words").unwrap();
        std::os::unix::fs::symlink("deep/file", room.at("from/0/.link")).unwrap();
        room
    }
    fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }
    fn root(&self) -> &Path {
        self.0.path()
    }
    /// Exit code, and what was said.
    fn copy(&self, cp: &str) -> (Option<i32>, String) {
        std::fs::write(self.at("bin/cp"), format!("#!/bin/sh\n{cp}\n")).unwrap();
        std::fs::set_permissions(self.at("bin/cp"), PermissionsExt::from_mode(0o755)).unwrap();
        let path = std::env::var("PATH").unwrap();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", super::SCRIPT, "copy"]).arg(self.root()).env("ROOT", self.root());
        let done =
            command.env("REAL", path.clone()).env("PATH", format!("{}:{path}", self.at("bin").display())).output().unwrap();
        (done.status.code(), String::from_utf8(done.stderr).unwrap())
    }
    fn is_copied(&self) -> bool {
        self.at("copied").exists()
    }
}

/// What the C library's tools and busybox's are called, to be run in place of the one above.
const TOOLS: [&str; 2] = ["PATH=$REAL exec cp", "PATH=$REAL exec busybox cp"];

#[test]
fn files_that_vanish_while_they_are_copied_are_left_out() {
    for tool in TOOLS {
        let room = Room::new();
        // As if it had been listed, and was gone when it was opened.
        let vanish = format!(r#"{tool} "$1" "$ROOT/from/0/./gone" "$2" "$ROOT/from/0/./deep/gone too" "$3""#);
        assert_eq!(room.copy(&vanish), (Some(0), String::new()), "{tool}");
        assert_eq!(std::fs::read_to_string(room.at("to/0/.link")).unwrap(), "words");
        assert!(room.is_copied() && !room.at("to/0/old").exists());
        // It is done once, whoever starts it again.
        assert_eq!(room.copy("exit 9"), (Some(0), String::new()));
    }
}

#[test]
fn all_else_that_goes_wrong_is_a_failure() {
    for tool in TOOLS {
        let vanish = r#""$ROOT/from/0/./gone""#;
        let room = Room::new();
        let (code, words) = room.copy(&format!(r#"{tool} "$1" {vanish} "$2" "$ROOT/elsewhere" "$3""#));
        assert!(
            code == Some(1) && words.contains("elsewhere") && !words.contains("gone") && !room.is_copied(),
            "{code:?} {words}"
        );
        // The target is gone, not a file of the other's.
        let (code, words) = room.copy(&format!(r#"{tool} "$1" "$2" "$ROOT/none/none/""#));
        assert!(code == Some(1) && !words.is_empty() && !room.is_copied(), "{code:?} {words}");
    }
    let room = Room::new();
    assert_eq!(room.copy("echo \"cp: '/from/0/./gone': No such file or directory\"; kill -9 $$").0, Some(137));
    assert_eq!(room.copy("exit 1").0, Some(1));
    assert!(!room.is_copied());
}
