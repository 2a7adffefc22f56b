//! Two kubectls, the oldest that must work and a new one, speaking to an API served here.

use super::bare;
use super::cli::{Ran, Served};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::Duration;
use tempfile::TempDir;
use tokio::process::Command;

/// Finds kubectl 1.20: `DEVSANCTUM_KUBECTL_120`, `kubectl-1.20` in PATH, or Debian's package, unpacked once.
fn old() -> PathBuf {
    static OLD: OnceLock<PathBuf> = OnceLock::new();
    OLD.get_or_init(|| {
        if let Some(named) = std::env::var_os("DEVSANCTUM_KUBECTL_120") {
            return named.into();
        }
        in_path("kubectl-1.20").unwrap_or_else(unpacked)
    })
    .clone()
}

fn in_path(name: &str) -> Option<PathBuf> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).map(|dir| dir.join(name)).find(|p| p.is_file())
}

/// Debian's package conflicts with newer ones, so it is unpacked, not installed.
fn unpacked() -> PathBuf {
    let kept = std::env::temp_dir().join("devsanctum-kubectl-1.20");
    let program = kept.join("usr/bin/kubectl");
    if program.is_file() {
        return program;
    }
    let work = tempfile::tempdir_in(std::env::temp_dir()).unwrap();
    let script = "apt-get -qq -o APT::Sandbox::User=root download kubernetes-client && dpkg -x kubernetes-client_*.deb new";
    let run = std::process::Command::new("sh").args(["-ec", script]).current_dir(work.path()).output().unwrap();
    let words = String::from_utf8_lossy(&run.stderr).into_owned();
    assert!(
        run.status.success(),
        "no kubectl 1.20: run scripts/test-tools.sh, or set DEVSANCTUM_KUBECTL_120 to the program ({words})"
    );
    // Another test process may have been quicker: then its copy is as good.
    let _ = std::fs::rename(work.path().join("new"), &kept);
    program
}

pub fn new() -> PathBuf {
    in_path("kubectl").expect("no kubectl in PATH: run scripts/test-tools.sh, which puts one into target/tools/bin")
}

/// One kubectl, with folders of its own and the kubeconfig of a served API.
pub struct Kubectl {
    /// It is the old one.
    pub old: bool,
    program: PathBuf,
    kubeconfig: String,
    dir: TempDir,
}

/// The old kubectl and the new one.
pub fn both(served: &Served) -> [Kubectl; 2] {
    [(true, old()), (false, new())].map(|(old, program)| Kubectl {
        old,
        program,
        kubeconfig: served.kubeconfig(),
        dir: tempfile::tempdir().unwrap(),
    })
}

impl Kubectl {
    pub fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    pub fn file(&self, name: &str, text: &str) -> String {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    /// Starts `kubectl WORDS…`; awaiting the answer waits for its end.
    pub fn spawn(&self, words: &[&str], env: &[(&str, &str)]) -> impl Future<Output = Ran> + use<> {
        let mut command = Command::from(bare(&self.program));
        command.env("HOME", self.dir.path()).env("KUBECONFIG", &self.kubeconfig).envs(env.iter().copied());
        command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let child = command.spawn().unwrap();
        let what = format!("kubectl {words:?}");
        async move {
            let out = tokio::time::timeout(Duration::from_secs(60), child.wait_with_output()).await;
            let out = out.unwrap_or_else(|_| panic!("{what} takes too long")).unwrap();
            let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
            Ran { code: out.status.code().unwrap_or(-1), out: text(out.stdout), err: text(out.stderr) }
        }
    }

    /// Runs a command, which must end with `code` and say every one of `parts`.
    #[track_caller]
    pub fn says(&self, words: &str, code: i32, parts: &[&str]) -> impl Future<Output = Ran> + use<> {
        let place = std::panic::Location::caller();
        let running = self.spawn(&words.split_whitespace().collect::<Vec<_>>(), &[]);
        let (words, parts): (_, Vec<String>) = (words.to_owned(), parts.iter().map(|p| (*p).to_owned()).collect());
        let old = self.old;
        async move {
            let ran = running.await;
            let missing: Vec<_> = parts.iter().filter(|p| !ran.out.contains(*p) && !ran.err.contains(*p)).collect();
            assert!(
                ran.code == code && missing.is_empty(),
                "{place}: {}kubectl {words}: code {code} and {missing:?} expected, got {}\n{}{}",
                if old { "old " } else { "" },
                ran.code,
                ran.out,
                ran.err
            );
            ran
        }
    }
}
