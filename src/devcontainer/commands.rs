//! Commands of a devcontainer's life, as one service that waits for a repository.

use super::{Draft, Fields};
use serde_json::Value;

/// Keeps a workspace running that has nothing else to do.
pub(super) const STAY: &str = "# Nothing is to be done; a workspace runs as long as a service does.\nexec sleep infinity\n";

/// Once for each container, in this order.
const ONCE: [&str; 3] = ["onCreateCommand", "updateContentCommand", "postCreateCommand"];
/// At each start.
const EACH: &str = "postStartCommand";

const WAIT: &str = r#"# Waits for a repository, does what its devcontainer.json asks for, and stays.
found() {
  for git in ./*/.git; do
    [ ! -e "$git" ] || return 0
  done
  return 1
}
until found; do
  sleep 2
done
cd "${git%/.git}" || exit 1
containerWorkspaceFolder=$PWD
containerWorkspaceFolderBasename=${PWD##*/}
export containerWorkspaceFolder containerWorkspaceFolderBasename
# A failure is in the log; all is tried again after a while.
failed() {
  echo "$1 failed" >&2
  sleep 30
  exit 1
}
"#;

const MARK: &str =
    "# Not on a volume: in a container that is made anew nothing of it is there.\nmarker=/var/tmp/devcontainer-done\n";

/// The service's script; none where there is nothing to do.
pub(super) fn script(fields: &Fields, draft: &mut Draft) -> Option<String> {
    let mut once = String::new();
    for field in ONCE {
        once.push_str(&steps(field, fields, draft));
    }
    let each = steps(EACH, fields, draft);
    if once.is_empty() && each.is_empty() {
        return None;
    }
    let mut script = WAIT.to_owned();
    if !once.is_empty() {
        script.push_str(&format!("{MARK}if [ ! -e \"$marker\" ]; then\n{once}: >\"$marker\"\nfi\n"));
    }
    script.push_str(&each);
    script.push_str("exec sleep infinity\n");
    Some(script)
}

/// What one field asks for.
fn steps(field: &str, fields: &Fields, draft: &mut Draft) -> String {
    let commands = match fields.get(field) {
        None | Some(Value::Null) => return String::new(),
        Some(Value::Object(all)) => all.iter().map(|(name, value)| (format!("{field}.{name}"), value)).collect(),
        Some(one) => vec![(field.to_owned(), one)],
    };
    let mut made = Vec::new();
    for (at, value) in commands {
        match command(value) {
            Ok(Some(command)) => made.push(command),
            Ok(None) => {}
            Err(why) => draft.note(at, format!("is not mapped: {why}")),
        }
    }
    match made.as_slice() {
        [] => String::new(),
        [one] => format!("{one} || failed {field}\n"),
        // Those of an object run beside one another.
        several => {
            let begun: String = several.iter().map(|c| format!("{c} &\nall=\"$all $!\"\n")).collect();
            format!("all=\n{begun}for one in $all; do wait \"$one\" || failed {field}; done\n")
        }
    }
}

/// A command as the shell runs it.
fn command(value: &Value) -> Result<Option<String>, String> {
    match value {
        Value::String(text) if text.trim().is_empty() => Ok(None),
        Value::String(text) => Ok(Some(format!("/bin/sh -c {}", quoted(&known(text)?)))),
        Value::Array(words) if words.is_empty() => Ok(None),
        Value::Array(words) => {
            let words = words.iter().map(|w| w.as_str().ok_or_else(|| "its words must be texts".to_owned()).and_then(word));
            Ok(Some(words.collect::<Result<Vec<_>, _>>()?.join(" ")))
        }
        _ => Err("must be a text or a list of texts".into()),
    }
}

const FOLDER: &str = "${containerWorkspaceFolder}";

/// A word of a command that no shell reads.
fn word(text: &str) -> Result<String, String> {
    let parts = known(text)?;
    Ok(parts.split(FOLDER).map(quoted).collect::<Vec<_>>().join("\"$containerWorkspaceFolder\""))
}

/// A command whose variables have values here: those of the container are the shell's own.
fn known(text: &str) -> Result<String, String> {
    if text.contains('\0') {
        return Err("it holds a NUL byte".into());
    }
    for (at, _) in text.match_indices("${") {
        let name: String = text[at + 2..].chars().take_while(|c| !matches!(c, '}' | ' ' | '\n')).collect();
        let local = ["localEnv:", "env:", "localWorkspaceFolder", "devcontainerId"];
        if local.iter().any(|l| name.starts_with(l)) {
            return Err(format!("${{{name}}} has no value here"));
        }
    }
    Ok(text.replace("${containerEnv:", "${"))
}

/// A text as one word. `{{option.` would be read as an option of ours, so it is taken apart.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''").replace("{{option.", "{{''option."))
}
