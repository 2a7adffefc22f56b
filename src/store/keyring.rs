//! The installation's keys: where they come from, and which is which.

use super::seal::{Sealed, Wrapping};
use super::{SecretKey, StoreError};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use std::collections::BTreeSet;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

const HOW: &str = "a key is 32 random bytes in Base64; `openssl rand -base64 32` makes one";

/// Where the keys come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// The program itself: tests, and what is thrown away.
    Given,
    /// An environment variable of this name.
    Environment(&'static str),
    /// A file that somebody else writes, named by an environment variable.
    Mounted(PathBuf),
    /// A file that is written here.
    File(PathBuf),
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given => f.write_str("what this program was given"),
            Self::Environment(name) => f.write_str(name),
            Self::Mounted(path) | Self::File(path) => path.display().fmt(f),
        }
    }
}

/// The installation's keys, the newest first: that one wraps, all of them unwrap. Never printed but by their ids.
#[derive(Clone)]
pub struct SecretKeys {
    keys: Vec<SecretKey>,
    source: KeySource,
}

impl fmt::Debug for SecretKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKeys({} from {})", ids(&self.keys), self.source)
    }
}

impl From<SecretKey> for SecretKeys {
    fn from(key: SecretKey) -> Self {
        Self::given(vec![key])
    }
}

impl SecretKeys {
    /// Keys that are there already, the newest first.
    pub fn given(keys: Vec<SecretKey>) -> Self {
        Self { keys, source: KeySource::Given }
    }

    /// Reads keys as they are written down: Base64, one in a line, the newest first. Spaces and commas part them, too;
    /// empty lines and those that begin with `#` are nothing.
    ///
    /// # Errors
    /// When there is none, or one of them is no key or a weak one. What was given is not repeated.
    pub fn parse(text: &str, source: KeySource) -> Result<Self, StoreError> {
        let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
        let words = lines.flat_map(|line| line.split([' ', '\t', ','])).filter(|word| !word.is_empty());
        let mut keys: Vec<SecretKey> = Vec::new();
        for (at, word) in words.enumerate() {
            let key = read(word).map_err(|what| StoreError::Keys(format!("{source}: key {} {what}: {HOW}", at + 1)))?;
            if keys.iter().all(|known| known.id() != key.id()) {
                keys.push(key);
            }
        }
        if keys.is_empty() {
            return Err(StoreError::Keys(format!("{source} holds no key: {HOW}")));
        }
        Ok(Self { keys, source })
    }

    /// The keys in a file of ours; none where there is no such file: a store that is new makes one then.
    ///
    /// # Errors
    /// As [`SecretKeys::parse`]; when the file cannot be read.
    pub fn in_file(path: &Path) -> Result<Self, StoreError> {
        let source = KeySource::File(path.to_owned());
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, source),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Self { keys: Vec::new(), source }),
            Err(e) => Err(unreadable(&source, &e)),
        }
    }

    /// The keys in a file that somebody else writes.
    ///
    /// # Errors
    /// As [`SecretKeys::parse`]; when the file cannot be read.
    pub fn mounted(path: &Path) -> Result<Self, StoreError> {
        let source = KeySource::Mounted(path.to_owned());
        let text = std::fs::read_to_string(path).map_err(|e| unreadable(&source, &e))?;
        Self::parse(&text, source)
    }

    /// Their ids, the newest first.
    pub fn ids(&self) -> Vec<String> {
        self.keys.iter().map(SecretKey::id).collect()
    }

    /// Where they come from.
    pub fn source(&self) -> &KeySource {
        &self.source
    }
}

fn unreadable(source: &KeySource, e: &io::Error) -> StoreError {
    StoreError::Keys(format!("{source}: {e}: it must be readable by this user"))
}

fn ids(keys: &[SecretKey]) -> String {
    if keys.is_empty() { "no key".into() } else { keys.iter().map(SecretKey::id).collect::<Vec<_>>().join(", ") }
}

/// Reads one key, in either alphabet of Base64, with or without padding.
fn read(word: &str) -> Result<SecretKey, String> {
    let plain = word.trim_end_matches('=');
    let bytes = URL_SAFE_NO_PAD.decode(plain).or_else(|_| STANDARD_NO_PAD.decode(plain));
    let bytes = bytes.map_err(|_| "is not Base64".to_owned())?;
    let length = bytes.len();
    let key = SecretKey(bytes.try_into().map_err(|_| format!("has {length} bytes, not 32"))?);
    key.weakness().map_or(Ok(key), |weakness| Err(weakness.to_owned()))
}

/// The keys of a store that is open.
pub(super) struct Keyring {
    source: KeySource,
    keys: RwLock<Vec<Arc<Wrapping>>>,
}

impl Keyring {
    /// Takes the keys.
    pub fn new(keys: &SecretKeys) -> Self {
        let held = keys.keys.iter().cloned().map(Wrapping::new).map(Arc::new).collect();
        Self { source: keys.source.clone(), keys: RwLock::new(held) }
    }

    /// Where they come from.
    pub fn source(&self) -> &KeySource {
        &self.source
    }

    /// All of them, the newest first.
    pub fn all(&self) -> Vec<Arc<Wrapping>> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The one that is to wrap.
    ///
    /// # Errors
    /// When there is none.
    pub fn first(&self) -> Result<Arc<Wrapping>, StoreError> {
        self.all().into_iter().next().ok_or_else(|| StoreError::Keys(format!("{} holds no key: {HOW}", self.source)))
    }

    /// The key of this id. One that is not known may have come into its file since.
    ///
    /// # Errors
    /// When it is not there.
    pub fn get(&self, id: &str) -> Result<Arc<Wrapping>, StoreError> {
        let find = || self.all().into_iter().find(|key| key.id() == id);
        if let Some(key) = find() {
            return Ok(key);
        }
        self.reload()?;
        find().ok_or_else(|| self.missing(&[id.to_owned()]))
    }

    /// Reads the file anew, where there is one. Keys that are no longer in it are known here until the end, for those who
    /// read just now.
    pub fn reload(&self) -> Result<(), StoreError> {
        let read = match &self.source {
            KeySource::Given | KeySource::Environment(_) => return Ok(()),
            KeySource::Mounted(path) => SecretKeys::mounted(path)?,
            KeySource::File(path) => SecretKeys::in_file(path)?,
        };
        let mut all: Vec<_> = read.keys.into_iter().map(Wrapping::new).map(Arc::new).collect();
        let mut held = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        let gone = held.iter().filter(|key| all.iter().all(|a| a.id() != key.id())).cloned();
        all.extend(gone.collect::<Vec<_>>());
        *held = all;
        Ok(())
    }

    /// Makes a key, which comes first from now on, in the file before anything is wrapped with it. Keys that are needed and
    /// have been lost from the file meanwhile are put back.
    pub fn make(&self, needed: &BTreeSet<String>) -> Result<Arc<Wrapping>, StoreError> {
        let KeySource::File(path) = &self.source else {
            return Err(StoreError::Keys(format!("no key can be put into {}: {HOW}", self.source)));
        };
        let mut keys = SecretKeys::in_file(path)?.keys;
        let in_file: BTreeSet<String> = keys.iter().map(SecretKey::id).collect();
        let lost = |key: &Arc<Wrapping>| needed.contains(key.id()) && !in_file.contains(key.id());
        keys.extend(self.all().iter().filter(|key| lost(key)).map(|key| key.key().clone()));
        keys.insert(0, SecretKey::random()?);
        write(path, &keys)?;
        self.reload()?;
        self.first()
    }

    /// Takes keys that nobody needs out of the file, and tells which those were.
    pub fn keep_only(&self, needed: &BTreeSet<String>) -> Result<Vec<String>, StoreError> {
        let KeySource::File(path) = &self.source else { return Ok(Vec::new()) };
        let (keep, gone): (Vec<_>, Vec<_>) =
            SecretKeys::in_file(path)?.keys.into_iter().partition(|key| needed.contains(&key.id()));
        if !gone.is_empty() && !keep.is_empty() {
            write(path, &keep)?;
            return Ok(gone.iter().map(SecretKey::id).collect());
        }
        Ok(Vec::new())
    }

    /// Opens a value that was sealed before there were data keys.
    pub fn open_old(&self, uid: &str, key: &str, sealed: &Sealed) -> Result<Vec<u8>, StoreError> {
        let opened = self.all().iter().find_map(|wrapping| wrapping.open_old(uid, key, sealed).ok());
        opened.ok_or(StoreError::Sealed)
    }

    /// Says which keys the database wants and what is there in their place.
    pub fn missing(&self, wanted: &[String]) -> StoreError {
        let (held, source) = (self.all(), &self.source);
        let there = match (source, held.is_empty()) {
            (KeySource::File(path) | KeySource::Mounted(path), true) if !path.exists() => format!("{source} is not there"),
            (_, true) => format!("{source} holds no key"),
            (_, false) => {
                let ids: Vec<_> = held.iter().map(|key| key.id()).collect();
                format!("{source} holds {}", ids.join(", "))
            }
        };
        let key = match wanted {
            [] => "a key that has no id yet (it is from before version 0006 of the schema)".to_owned(),
            [one] => format!("the key {one}"),
            more => format!("the keys {}", more.join(", ")),
        };
        let words = format!(
            "the secrets in the database want {key}, and {there}: put what is missing back, one key a line, the one that is to \
             write first; a key goes only after `devsanctum secrets rotate` has put another in its place, and a lost one is lost \
             with its secrets"
        );
        StoreError::KeyMissing { wanted: wanted.to_vec(), words }
    }
}

/// Writes keys to their file: as a whole, on the disk when this ends, and never seen by others.
fn write(path: &Path, keys: &[SecretKey]) -> Result<(), StoreError> {
    let failed = |e: io::Error| StoreError::Keys(format!("{}: {e}: the folder must be writable by this user", path.display()));
    let name = path.file_name().unwrap_or_default();
    let folder = path.parent().filter(|f| !f.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let part = folder.join(format!(".{}.new", name.display()));
    // One that was cut off has left its own.
    let _ = std::fs::remove_file(&part);
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&part).map_err(failed)?;
    let text: String = keys.iter().map(|key| URL_SAFE_NO_PAD.encode(key.0) + "\n").collect();
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    std::fs::rename(&part, path).map_err(failed)?;
    File::open(folder).and_then(|f| f.sync_all()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn parse(text: &str) -> Result<SecretKeys, StoreError> {
        SecretKeys::parse(text, KeySource::Environment("DEVSANCTUM_SECRET_KEYS"))
    }

    #[test]
    fn keys_are_read_in_their_order_however_base64_is_written() {
        let [one, two] = [(); 2].map(|()| SecretKey::random().unwrap());
        let written = [
            format!("{}\n{}\n", URL_SAFE_NO_PAD.encode(one.0), URL_SAFE_NO_PAD.encode(two.0)),
            format!("# new\n{}=\n\n# old\n {}\r\n", STANDARD_NO_PAD.encode(one.0), STANDARD_NO_PAD.encode(two.0)),
            format!("{},{} {0}", URL_SAFE_NO_PAD.encode(one.0), URL_SAFE_NO_PAD.encode(two.0)),
        ];
        for text in written {
            let keys = parse(&text).unwrap();
            assert_eq!(keys.ids(), [one.id(), two.id()]);
            assert!(!format!("{keys:?}").contains(text[..20].trim_start_matches("# new\n")));
        }
    }

    #[test]
    fn what_is_no_key_or_a_weak_one_is_refused_and_not_repeated() {
        let short = URL_SAFE_NO_PAD.encode([9; 16]);
        let zero = URL_SAFE_NO_PAD.encode([0; 32]);
        for (text, what) in [("", "holds no key"), ("# only\n", "holds no key"), (&short, "16 bytes"), (&zero, "again and again")]
        {
            let words = parse(text).unwrap_err().to_string();
            assert!(words.contains(what) && words.contains("DEVSANCTUM_SECRET_KEYS") && words.contains("openssl"), "{words}");
            assert!(text.is_empty() || !words.contains(text.trim()), "{words}");
        }
        let good = URL_SAFE_NO_PAD.encode(SecretKey::random().unwrap().0);
        let words = parse(&format!("{good}\nhunter2-hunter2!")).unwrap_err().to_string();
        assert!(words.contains("key 2 is not Base64") && !words.contains("hunter2") && !words.contains(&good), "{words}");
    }

    #[test]
    fn a_key_is_in_its_file_before_it_is_first_and_goes_only_when_nobody_needs_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret.key");
        std::fs::write(dir.path().join(".secret.key.new"), "left by one that was cut off").unwrap();
        let ring = Keyring::new(&SecretKeys::in_file(&path).unwrap());
        assert!(ring.first().is_err() && !path.exists());
        let none = BTreeSet::new();
        let old = ring.make(&none).unwrap();
        std::fs::remove_file(&path).unwrap();
        let new = ring.make(&[old.id().to_owned()].into()).unwrap();
        assert_eq!(SecretKeys::in_file(&path).unwrap().ids(), [new.id(), old.id()]);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(ring.keep_only(&BTreeSet::new()).unwrap(), Vec::<String>::new(), "never all of them");
        assert_eq!(ring.keep_only(&[new.id().to_owned()].into()).unwrap(), [old.id()]);
        assert_eq!(SecretKeys::in_file(&path).unwrap().ids(), [new.id()]);
        assert_eq!(ring.get(old.id()).unwrap().id(), old.id(), "who reads just now is not cut off");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        // Another process has put a key there.
        let other = Keyring::new(&SecretKeys::in_file(&path).unwrap());
        let newer = ring.make(&none).unwrap();
        assert_eq!(other.get(newer.id()).unwrap().id(), newer.id());
        assert!(matches!(other.get("0011223344556677"), Err(StoreError::KeyMissing { .. })));
    }
}
