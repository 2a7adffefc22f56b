//! How an image is made.

use super::dockerfile::Instruction;
use super::supervision::{self, Supervised};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};

/// Installs packages by whatever manager the base has. `apk:`, `apt:` and `dnf:` before a name mean that one alone.
const INSTALL: &str = r#"set -e
if command -v apk >/dev/null; then
  manager=apk
elif command -v apt-get >/dev/null; then
  manager=apt
elif command -v dnf >/dev/null; then
  manager=dnf
else
  echo "the base image has no package manager that is known here (apk, apt-get, dnf)" >&2
  exit 1
fi
for package in "$@"; do
  shift
  case $package in
    "$manager":*) set -- "$@" "${package#*:}" ;;
    apk:* | apt:* | dnf:*) ;;
    *) set -- "$@" "$package" ;;
  esac
done
[ $# -gt 0 ] || exit 0
case $manager in
  apk) exec apk add --no-cache -- "$@" ;;
  apt)
    apt-get update
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends -- "$@"
    rm -rf /var/lib/apt/lists/*
    ;;
  dnf)
    dnf install -y -- "$@"
    dnf clean all
    ;;
esac"#;
/// Package managers that a package may be meant for alone.
pub const MANAGERS: [&str; 3] = ["apk", "apt", "dnf"];
/// Makes a bare distribution a place to work in: what repositories, terminals and services need, and a user `dev`.
const EQUIP: &str = r#"set -e
if command -v apk >/dev/null; then
  apk add --no-cache bash ca-certificates curl execline git less openssh-client openssh-sftp-server procps s6
  adduser -D -u 1000 -s /bin/bash dev
else
  apt-get update
  DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
    ca-certificates curl execline git less openssh-client openssh-sftp-server procps s6
  rm -rf /var/lib/apt/lists/*
  useradd -m -u 1000 -s /bin/bash dev
fi"#;

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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recipe {
    /// Image to begin with.
    pub base: String,
    /// The base is a bare distribution, which is to be made a place to work in.
    pub bare: bool,
    /// Its first process keeps services running, even where there are none yet.
    pub supervised: bool,
    /// Packages of its package manager.
    pub packages: BTreeSet<String>,
    /// What is done then, in this order.
    pub instructions: Vec<Instruction>,
    /// The processes that are kept running, by name.
    pub services: BTreeMap<String, Supervised>,
}

impl Recipe {
    /// Whether the image is the base as it is.
    pub fn is_plain(&self) -> bool {
        !self.bare && !self.supervised && self.packages.is_empty() && self.instructions.is_empty() && self.services.is_empty()
    }

    fn is_supervised(&self) -> bool {
        self.supervised || !self.services.is_empty()
    }

    /// The instructions, with all that is the platform's own. What many have in common comes first, so that it is built once.
    pub fn lines(&self) -> Vec<Instruction> {
        let mut all = vec![Instruction::From(self.base.clone())];
        if self.bare {
            all.push(Instruction::script(EQUIP, []));
        }
        if !self.packages.is_empty() {
            all.push(Instruction::script(INSTALL, self.packages.iter().cloned()));
        }
        if self.is_supervised() {
            all.extend(supervision::instructions(&self.services));
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
        let supervision = if self.is_supervised() { supervision::files(&self.services) } else { Vec::new() };
        std::iter::once(dockerfile).chain(supervision).collect()
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

#[cfg(test)]
#[path = "recipe_tests.rs"]
mod tests;
