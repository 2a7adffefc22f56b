//! How an image is made.

use super::dockerfile::Instruction;
use super::options::{self, in_shell, quoted, variable};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// Installs packages by whatever manager the base has.
const INSTALL: &str = r#"set -e
if command -v apk >/dev/null; then
  exec apk add --no-cache -- "$@"
elif command -v apt-get >/dev/null; then
  apt-get update
  DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends -- "$@"
  rm -rf /var/lib/apt/lists/*
elif command -v dnf >/dev/null; then
  dnf install -y -- "$@"
  dnf clean all
else
  echo "the base image has no package manager that is known here (apk, apt-get, dnf)" >&2
  exit 1
fi"#;
/// Services are nobody's to start where the first process does not look for them.
const SUPERVISED: &str = r#"[ -x /init ] || {
  echo "the base image has no /init (s6) that would keep services running: use the base alpine or debian" >&2
  exit 1
}"#;
/// Where s6-overlay, and the bases made here, look for services.
const SERVICES: &str = "/etc/services.d";
/// What services write is kept below this, apart for each.
pub const SERVICE_LOGS: &str = "/var/log/services";
/// Bytes of a log's file, and how many older ones are kept.
const LOG_SIZE: u32 = 1_000_000;
const LOGS_KEPT: u32 = 3;

/// A file of the build context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its path there.
    pub path: String,
    /// What it holds.
    pub content: String,
    /// It is a program.
    pub executable: bool,
}

/// How an image is made. The same recipe is the same Dockerfile, to the byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// Image to begin with.
    pub base: String,
    /// Packages of its package manager.
    pub packages: BTreeSet<String>,
    /// What is done then, in this order.
    pub instructions: Vec<Instruction>,
    /// Run scripts of the processes that are kept running, by name.
    pub services: BTreeMap<String, String>,
}

impl Recipe {
    /// Whether the image is the base as it is.
    pub fn is_plain(&self) -> bool {
        self.packages.is_empty() && self.instructions.is_empty() && self.services.is_empty()
    }

    /// The run script of a service, with its options.
    pub fn service_script(run: &str, given: &BTreeMap<String, String>) -> String {
        let mut script = String::from("#!/bin/sh\nexec 2>&1\n");
        for key in options::keys(run).collect::<BTreeSet<_>>() {
            let value = given.get(key).map_or("", String::as_str);
            // A `String` takes every write.
            let _ = writeln!(script, "export {}={}", variable(key), quoted(value));
        }
        script + &in_shell(run)
    }

    /// The instructions, with all that is the platform's own.
    pub fn lines(&self) -> Vec<Instruction> {
        let mut all = vec![Instruction::From(self.base.clone())];
        if !self.packages.is_empty() {
            all.push(Instruction::script(INSTALL, self.packages.iter().cloned()));
        }
        if !self.services.is_empty() {
            all.push(Instruction::script(SUPERVISED, []));
            all.push(Instruction::Copy { from: "services.d", to: SERVICES });
        }
        all.extend(self.instructions.iter().cloned());
        all
    }

    /// The Dockerfile.
    pub fn dockerfile(&self) -> String {
        self.lines().iter().map(|line| format!("{line}\n")).collect()
    }

    /// All files of the build context.
    pub fn files(&self) -> Vec<File> {
        let dockerfile = File { path: "Dockerfile".into(), content: self.dockerfile(), executable: false };
        let program = |path, content| File { path, content, executable: true };
        let scripts = self.services.iter().flat_map(|(name, script)| {
            [
                program(format!("services.d/{name}/run"), script.clone()),
                program(format!("services.d/{name}/log/run"), log_script(name)),
            ]
        });
        std::iter::once(dockerfile).chain(scripts).collect()
    }

    /// Digest of all files, 32 hexadecimal digits.
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for file in self.files() {
            for part in [file.path.as_bytes(), file.content.as_bytes()] {
                hash.update((part.len() as u64).to_be_bytes());
                hash.update(part);
            }
        }
        hash.finalize().iter().take(16).map(|b| format!("{b:02x}")).collect()
    }

    /// Name of the image. What it was made from is in it, so a name stands for one content.
    pub fn tag(&self) -> String {
        format!("devsanctum/env:{}", self.digest())
    }
}

/// Keeps what a service writes, and hands it on to the container's own log.
fn log_script(name: &str) -> String {
    let folder = format!("{SERVICE_LOGS}/{name}");
    format!("#!/bin/sh\nmkdir -p {folder}\nexec s6-log -b -- 1 n{LOGS_KEPT} s{LOG_SIZE} {folder}\n")
}

#[cfg(test)]
#[path = "recipe_tests.rs"]
mod tests;
