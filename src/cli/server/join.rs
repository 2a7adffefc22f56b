//! `server join-command`: the one line that sets a new host up.
//!
//! It holds the whole of `set-up.sh`, certificates and the engine's own key with it. So nothing of ours needs to be reached from the
//! host, and no address has to hand out keys to whoever comes with a token. What it holds is of use on that one host alone: the
//! key by which the engine is *used* is not in it.

use super::certs::SET_UP;
use crate::cli::args::JoinArgs;
use crate::cli::failure::Failure;
use crate::cli::ui;

/// Runs `server join-command`.
///
/// # Errors
/// When there is no `set-up.sh` in the folder.
pub fn run(args: &JoinArgs) -> Result<(), Failure> {
    let path = args.certs.join(SET_UP);
    let missing = |e| Failure::new(format!("{}: {e}", path.display())).hint("`devsanctum server certs` makes it");
    let script = std::fs::read_to_string(&path).map_err(missing)?;
    ui::note(
        "paste this on the new host, as root. Shells that ignore lines which begin with a blank keep it out of their history",
    );
    ui::say(&line(&script))
}

/// One line of shell that runs a script. `printf %b` is POSIX, and there is nothing to unpack.
fn line(script: &str) -> String {
    let mut escaped = String::with_capacity(script.len() + script.len() / 16);
    for c in script.chars() {
        match c {
            '\\' => escaped.push_str("\\\\"),
            '\n' => escaped.push_str("\\n"),
            '\'' => escaped.push_str("\\0047"),
            c => escaped.push(c),
        }
    }
    format!(" printf %b '{escaped}' | sh")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_one_line_and_says_the_script_to_the_byte() {
        let script = "#!/bin/sh\nset -eu\necho 'a \\n b' \"$HOME\" `date` %s \\0047 !x\n\tend\n";
        let line = line(script);
        assert!(!line.contains('\n') && line.starts_with(' '));
        let shown = line.strip_suffix("| sh").unwrap();
        let said = std::process::Command::new("sh").args(["-c", shown]).output().unwrap();
        assert_eq!(String::from_utf8(said.stdout).unwrap(), script);
    }
}
