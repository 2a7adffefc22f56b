//! The folder that holds all state of an installation. Nothing in it is readable by others.

use crate::store::{SecretKeys, StoreError, lock_file};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The file of the keys that seal secrets.
pub const KEY_FILE: &str = "secret.key";
/// Characters of a token at the least.
const SHORTEST: usize = 32;

/// What no two processes have at once.
#[derive(Debug)]
pub struct Owned {
    _folder: File,
    _database: Option<File>,
}

/// Takes a file; none when another process has it.
fn try_lock(path: &Path) -> io::Result<Option<File>> {
    let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).mode(0o600).open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(e)) => Err(e),
    }
}

/// The state folder.
#[derive(Clone, Debug)]
pub struct StateDir(PathBuf);

impl StateDir {
    /// Opens the folder, making it where it is missing and closing it to others where it is open.
    ///
    /// # Errors
    /// When it cannot be made or closed.
    pub fn open(path: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))?;
        Ok(Self(std::fs::canonicalize(path)?))
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Takes the folder for this process alone; the lock goes with the process, however that ends.
    ///
    /// # Errors
    /// When another process has it.
    pub fn lock(&self) -> io::Result<File> {
        self.taken("lock")
    }

    /// Takes the folder, and a database that is a file, wherever it lies: another control plane may have been given the same one beside
    /// a folder of its own.
    ///
    /// # Errors
    /// When another process has either.
    pub fn own(&self, database: &str) -> Result<Owned, String> {
        let folder = self.lock().map_err(|e| e.to_string())?;
        let Some(path) = lock_file(database).map_err(|e| e.to_string())? else {
            return Ok(Owned { _folder: folder, _database: None });
        };
        if let Some(parent) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(|e| format!("{}: {e}", parent.display()))?;
        }
        let taken = try_lock(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let why = || {
            format!(
                "another control plane, or a restore, works on the database {}; end that first, or name another with --database",
                path.with_extension("").display()
            )
        };
        Ok(Owned { _folder: folder, _database: Some(taken.ok_or_else(why)?) })
    }

    /// Takes it for this process to keep a control plane running on it: also while there is none, for one has ended.
    ///
    /// # Errors
    /// When another process does.
    pub fn watch(&self) -> io::Result<File> {
        self.taken("watchdog")
    }

    fn taken(&self, name: &str) -> io::Result<File> {
        try_lock(&self.file(name))?.ok_or_else(|| {
            io::Error::other(format!(
                "another control plane runs on {}; stop it (devsanctum down), or give this one a folder of its own (--state-dir)",
                self.0.display()
            ))
        })
    }

    /// The keys that seal secrets, where the environment does not say which: those in the file, none before the first start.
    ///
    /// # Errors
    /// When it cannot be read, or holds what is no key or a weak one.
    pub fn secret_keys(&self) -> Result<SecretKeys, StoreError> {
        SecretKeys::in_file(&self.file(KEY_FILE))
    }

    /// A random text of 256 bits kept in a file, made where it is missing.
    ///
    /// # Errors
    /// When it cannot be read or made, or is so short that it may be guessed.
    pub fn token(&self, name: &str) -> io::Result<String> {
        let path = self.file(name);
        match File::open(&path) {
            Ok(mut file) => {
                let mut text = String::new();
                file.read_to_string(&mut text)?;
                match text.trim() {
                    token if token.len() >= SHORTEST => Ok(token.to_owned()),
                    token => Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        format!(
                            "holds {} characters, and what has fewer than {SHORTEST} may be guessed: remove the file, and another is made",
                            token.len()
                        ),
                    )),
                }
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let mut bytes = [0u8; 32];
                getrandom::fill(&mut bytes).map_err(io::Error::other)?;
                let text = URL_SAFE_NO_PAD.encode(bytes);
                self.write(name, format!("{text}\n").as_bytes())?;
                Ok(text)
            }
            Err(e) => Err(e),
        }
    }

    /// Writes a file as a whole: it is never seen half-written, and never by others.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let temporary = self.file(&format!(".{name}.new"));
        let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(temporary, self.file(name))?;
        // A key that was made, used and lost with the power would be another one at the next start.
        std::fs::File::open(self.path())?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_made_once_and_is_ours_alone() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(&dir.path().join("s")).unwrap();
        let first = state.token("admin.token").unwrap();
        assert_eq!(first.len(), 43);
        assert_eq!(state.token("admin.token").unwrap(), first);
        for short in ["", "\n", "changeme\n"] {
            std::fs::write(state.file("short.token"), short).unwrap();
            assert!(state.token("short.token").unwrap_err().to_string().contains("fewer than 32"), "{short:?}");
        }
        let mode = |p: PathBuf| std::fs::metadata(p).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(state.file("admin.token")), mode(state.path().into())), (0o600, 0o700));
    }

    #[test]
    fn two_processes_cannot_have_one_folder() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let held = state.lock().unwrap();
        assert!(state.lock().unwrap_err().to_string().contains("another control plane"));
        let (elsewhere, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let url = crate::store::file_url(&elsewhere.path().join("db/devsanctum.db"));
        let others = StateDir::open(other.path()).unwrap();
        let owned = others.own(&url).unwrap();
        let third = StateDir::open(&elsewhere.path().join("third")).unwrap();
        let why = third.own(&url).unwrap_err();
        assert!(why.contains("/db/devsanctum.db;") && why.contains("--database"), "{why}");
        assert!(third.own("postgres://nobody@127.0.0.1/x").is_ok(), "replicas share one");
        drop(owned);
        third.own(&url).unwrap();
        drop(held);
        state.lock().unwrap();
    }
}
