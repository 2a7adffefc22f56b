//! Commands that tests and benches run.

use std::ffi::OsStr;
use std::process::Command;

/// A command without this process's environment, but for where programs are: a proxy, a database or an engine that
/// somebody has exported is not what is tested.
pub fn bare(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
}
