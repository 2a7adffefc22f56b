//! The keys that seal secrets: from the environment, or from the state folder.

use super::StateDir;
use super::state_dir::KEY_FILE;
use crate::store::{KeySource, SecretKeys};
use std::ffi::OsString;
use std::path::Path;

/// Holds the keys themselves.
const KEYS: &str = "DEVSANCTUM_SECRET_KEYS";
/// Names a file that holds them.
const KEYS_FILE: &str = "DEVSANCTUM_SECRET_KEYS_FILE";

/// Reads the keys. The environment comes before the file.
///
/// # Errors
/// When they cannot be read, or one of them is no key or a weak one.
pub fn read(state: &StateDir, env: impl Fn(&str) -> Option<OsString>) -> Result<SecretKeys, String> {
    let keys = match (env(KEYS), env(KEYS_FILE)) {
        (Some(_), Some(_)) => return Err(format!("{KEYS} and {KEYS_FILE} are both set: unset one of them")),
        (None, None) => return state.secret_keys().map_err(|e| e.to_string()),
        // What is no text is not repeated.
        (Some(text), None) => match text.to_str() {
            Some(text) => SecretKeys::parse(text, KeySource::Environment(KEYS)),
            None => return Err(format!("{KEYS} is no text: keys are written in Base64")),
        },
        (None, Some(path)) => SecretKeys::mounted(Path::new(&path)),
    };
    let keys = keys.map_err(|e| e.to_string())?;
    let file = state.file(KEY_FILE);
    if file.exists() {
        tracing::warn!(from = %keys.source(), file = %file.display(), "the environment says which keys seal secrets: the file is not read");
    }
    Ok(keys)
}

/// As [`read`], of this process.
///
/// # Errors
/// As [`read`].
pub fn of_process(state: &StateDir) -> Result<SecretKeys, String> {
    read(state, |name| std::env::var_os(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_comes_before_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let good = "q83vASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4k=";
        let random = "X6kc1sYw0Zr2m3vQpT8eLbN4hJf7uGdA9yVxOiKzS5E=";
        let with = |keys: Option<&str>, file: Option<&Path>| {
            let (keys, file) = (keys.map(OsString::from), file.map(|f| f.as_os_str().to_owned()));
            read(&state, move |name| if name == KEYS { keys.clone() } else { file.clone() })
        };
        assert_eq!(with(None, None).unwrap().ids(), Vec::<String>::new(), "none yet");
        std::fs::write(state.file(KEY_FILE), random).unwrap();
        let in_file = with(None, None).unwrap();
        assert_eq!(in_file.source(), &KeySource::File(state.file(KEY_FILE)));
        let mounted = state.file("mounted");
        std::fs::write(&mounted, "Zk2Qw8Rt5Yu1Io4Pa7Sd0Fg3Hj6Kl9Zx2Cv5Bn8Mq1E").unwrap();
        let mounted_keys = with(None, Some(&mounted)).unwrap();
        assert!(mounted_keys.ids() != in_file.ids() && mounted_keys.source() == &KeySource::Mounted(mounted.clone()));
        assert_eq!(with(Some(random), None).unwrap().source(), &KeySource::Environment(KEYS));
        assert!(with(Some(random), Some(&mounted)).unwrap_err().contains("both set"));
        assert!(with(Some(""), None).unwrap_err().contains("holds no key"), "never the file in its place");
        let words = with(Some(good), None).unwrap_err();
        assert!(words.contains("a pattern") && !words.contains(good), "{words}");
        assert!(with(None, Some(&state.file("nowhere"))).unwrap_err().contains("nowhere"));
    }
}
