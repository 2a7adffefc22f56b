//! A machine of a test's own, as far as namespaces go: nothing runs on it, and no folder that `make up` uses is there yet.

use super::bare;
use super::watchdog::Watchdog;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

/// Its first process. Lies in the folder that holds what the machine has in some of its own.
const INIT: &str = r#"
set -e
dir=${0%/*}
for folder in /run /var/lib/docker /var/lib/devsanctum; do
  mkdir -p "$folder" "$dir$folder"
  mount --bind "$dir$folder" "$folder"
done
# What is set up on it is set up on it alone.
cp -a /etc "$dir/etc"
rm -rf "$dir/etc/docker" "$dir/etc/systemd/system/docker.service.d"
mount --bind "$dir/etc" /etc
ip link set lo up
echo ready
exec sleep infinity >/dev/null
"#;

/// With the value, everything that runs on the machine goes.
pub struct Machine {
    home: Watchdog,
    init: String,
}

impl Machine {
    /// Starts one: loopback is up, and there is no other network.
    pub fn start() -> Self {
        let home = Watchdog::new("ds-machine-");
        let script = home.path().join("init");
        std::fs::write(&script, INIT).unwrap();
        let mut command = bare("unshare");
        command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh"]).arg(&script);
        let mut outer = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut said = String::new();
        BufReader::new(outer.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "ready\n");
        let children = format!("/proc/{0}/task/{0}/children", outer.id());
        let init = std::fs::read_to_string(children).unwrap().trim().to_owned();
        std::thread::spawn(move || outer.wait());
        Self { home, init }
    }

    /// A command on it, at the top of this repository.
    pub fn command(&self, program: &str) -> Command {
        let mut command = bare("nsenter");
        let here = concat!("--wd=", env!("CARGO_MANIFEST_DIR"));
        command.args(["--target", &self.init, "--net", "--mount", "--pid", here, "--", program]).stdin(Stdio::null());
        command
    }

    /// What a command prints that must succeed.
    #[track_caller]
    pub fn ok(&self, words: &[&str]) -> String {
        let done = self.command(words[0]).args(&words[1..]).output().unwrap();
        assert!(done.status.success(), "{words:?}: {done:#?}");
        String::from_utf8(done.stdout).unwrap()
    }

    /// Its first process, as it is seen from outside.
    pub fn init(&self) -> &str {
        &self.init
    }

    /// Where one of its folders lies on the machine that carries it.
    pub fn folder(&self, path: &str) -> std::path::PathBuf {
        self.home.path().join(Path::new(path).strip_prefix("/").unwrap())
    }
}
