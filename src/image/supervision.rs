//! Processes that are kept running inside: by s6, in folders that s6-overlay and the bases made here look at.

use super::dockerfile::Instruction;
use super::options::{self, in_shell, quoted, variable};
use super::recipe::File;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// What services write is kept below this, apart for each.
pub const SERVICE_LOGS: &str = "/var/log/services";
/// Where services are looked for.
const SERVICES: &str = "/etc/services.d";
/// The first process, for images that have none that keeps services running.
const INIT: &str = include_str!("../../images/base/root/init");
const INIT_FOLDER: &str = "/usr/lib/devsanctum";
/// Installs s6 where nothing of the kind is there, and puts our first process in its place.
const SUPERVISE: &str = r#"set -e
[ ! -x /init ] || exit 0
if command -v s6-svscan >/dev/null; then
  :
elif command -v apk >/dev/null; then
  apk add --no-cache execline s6
elif command -v apt-get >/dev/null; then
  apt-get update
  DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends execline s6
  rm -rf /var/lib/apt/lists/*
else
  echo "the base image has no /init (s6) that would keep services running, and no package manager that has one (apk, apt-get)" >&2
  exit 1
fi
cp /usr/lib/devsanctum/init /init"#;
/// Bytes of a log's file, and how many older ones are kept.
const LOG_SIZE: u32 = 1_000_000;
const LOGS_KEPT: u32 = 3;

/// A process that is kept running.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Supervised {
    /// What `/bin/sh` runs.
    pub script: String,
    /// User of the image it is run as; the first process's own where missing.
    pub user: Option<String>,
}

impl Supervised {
    /// The script of a service, with its options.
    pub fn new(run: &str, given: &BTreeMap<String, String>, user: Option<String>) -> Self {
        let mut script = String::new();
        for key in options::keys(run).collect::<BTreeSet<_>>() {
            let value = given.get(key).map_or("", String::as_str);
            // A `String` takes every write.
            let _ = writeln!(script, "export {}={}", variable(key), quoted(value));
        }
        Self { script: script + &in_shell(run), user }
    }

    /// Begins where the container does, as its user.
    fn run_script(&self) -> String {
        let begin = "#!/bin/sh\nexec 2>&1\nscript=$PWD/script\ncd \"${DEVSANCTUM_WORKDIR:-/}\" || exit 1\n";
        let run = self.user.as_ref().map_or_else(
            || "exec /bin/sh \"$script\"\n".to_owned(),
            |user| {
                format!(
                    r#"wanted={}
account=$wanted:$wanted USER=$wanted HOME=/
while IFS=: read -r name _ uid _ _ home _; do
  if [ "$name" = "$wanted" ] || [ "$uid" = "$wanted" ]; then account=$name USER=$name HOME=$home; fi
done </etc/passwd
export USER HOME
exec s6-setuidgid "$account" /bin/sh "$script"
"#,
                    quoted(user)
                )
            },
        );
        format!("{begin}{run}")
    }
}

/// What makes an image keep services running.
pub(super) fn instructions(services: &BTreeMap<String, Supervised>) -> Vec<Instruction> {
    let mut all = vec![
        Instruction::Copy { from: "init", to: INIT_FOLDER },
        Instruction::script(SUPERVISE, []),
        Instruction::Entrypoint("/init"),
    ];
    if !services.is_empty() {
        all.push(Instruction::Copy { from: "services.d", to: SERVICES });
    }
    all
}

/// The files that [`instructions`] copy.
pub(super) fn files(services: &BTreeMap<String, Supervised>) -> Vec<File> {
    let program = |path, content| File { path, content, executable: true };
    let mut all = vec![program("init/init".to_owned(), INIT.to_owned())];
    for (name, service) in services {
        all.push(program(format!("services.d/{name}/run"), service.run_script()));
        all.push(File { path: format!("services.d/{name}/script"), content: service.script.clone(), executable: false });
        all.push(program(format!("services.d/{name}/log/run"), log_script(name)));
    }
    all
}

/// Keeps what a service writes, and hands it on to the container's own log.
fn log_script(name: &str) -> String {
    let folder = format!("{SERVICE_LOGS}/{name}");
    format!("#!/bin/sh\nmkdir -p {folder}\nexec s6-log -b -- 1 n{LOGS_KEPT} s{LOG_SIZE} {folder}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_gets_its_options_as_variables() {
        let given = BTreeMap::from([("PORT".to_owned(), "80'; touch /x; '".to_owned())]);
        let made = Supervised::new("exec server --port {{option.PORT}} {{option.NONE}}\n", &given, None);
        assert_eq!(
            made.script,
            "export OPTION_NONE=''\nexport OPTION_PORT='80'\\''; touch /x; '\\'''\n\
             exec server --port \"${OPTION_PORT}\" \"${OPTION_NONE}\"\n"
        );
    }

    /// What a service says that is run by a real shell, where `s6-setuidgid` is a program of the test's.
    fn said(user: Option<&str>) -> String {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        };
        let service = Supervised { script: "echo \"$HOME $USER $PWD\"".into(), user: user.map(str::to_owned) };
        write("run", &service.run_script());
        write("script", &service.script);
        write("s6-setuidgid", "#!/bin/sh\necho \"as $1\"\nshift\nexec \"$@\"\n");
        let path = format!("{}:/usr/bin:/bin", dir.path().display());
        let mut command = std::process::Command::new("/bin/sh");
        command.arg("run").current_dir(dir.path()).env_clear().env("PATH", path).env("HOME", "/x").env("USER", "x");
        String::from_utf8(command.env("DEVSANCTUM_WORKDIR", "/usr").output().unwrap().stdout).unwrap()
    }

    #[test]
    fn a_service_begins_where_the_container_does_as_its_user() {
        assert_eq!(said(None), "/x x /usr\n");
        assert_eq!(said(Some("root")), "as root\n/root root /usr\n");
        assert_eq!(said(Some("0")), "as root\n/root root /usr\n");
        assert_eq!(said(Some("54321")), "as 54321:54321\n/ 54321 /usr\n");
    }
}
