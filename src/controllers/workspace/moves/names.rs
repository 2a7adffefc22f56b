//! The names that an archive of an image gives to what is in it. An engine takes them all, whatever it was asked for: one whose
//! host is somebody else's could put an image of its own in place of what others are made of.
//!
//! Only what engines write is let through, and nothing that two readers could understand in two ways.

use super::digest::{BLOCK, fill, name, records};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use std::collections::BTreeSet;
use std::fmt;

/// Where names are: as Docker has them, as it had them before 1.10, and as the Open Container Initiative has them.
const SPEAKS: [&str; 3] = ["manifest.json", "repositories", "index.json"];
/// The longest that these, and what is said about one entry, may be.
const LONGEST: u64 = 1 << 20;
/// What names an image in the last of these.
const ANNOTATIONS: [&str; 2] = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];

/// Reads an archive as it passes, in pieces of any length.
pub struct NameGuard {
    image: String,
    at: At,
    /// What of a block has come.
    block: Vec<u8>,
    /// What was said about the next entry, where something was.
    extra: Option<Vec<(String, Vec<u8>)>>,
    seen: BTreeSet<String>,
}

enum At {
    Header,
    /// Content that does not matter, with what fills it up to whole blocks.
    Past(u64),
    /// Content that is read: of which kind, what has come, what is still to come, and what fills it up.
    Kept(Kept, Vec<u8>, u64, u64),
    End,
}

#[derive(Clone)]
enum Kept {
    Extra,
    File(String),
}

impl NameGuard {
    /// Of an archive in which there is to be this image alone, `repository:tag`.
    pub fn new(image: &str) -> Self {
        Self { image: image.to_owned(), at: At::Header, block: Vec::new(), extra: None, seen: BTreeSet::new() }
    }

    /// The next piece.
    ///
    /// # Errors
    /// What is wrong: the piece must not go on.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        while !bytes.is_empty() {
            let used = self.take(bytes)?;
            bytes = &bytes[used..];
        }
        Ok(())
    }

    fn take(&mut self, bytes: &[u8]) -> Result<usize, String> {
        match &mut self.at {
            At::Header => {
                let n = bytes.len().min(BLOCK - self.block.len());
                self.block.extend_from_slice(&bytes[..n]);
                if self.block.len() == BLOCK {
                    let block = std::mem::take(&mut self.block);
                    self.at = self.begin(&block)?;
                }
                Ok(n)
            }
            At::Past(left) => {
                let n = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= n as u64;
                if *left == 0 {
                    self.at = At::Header;
                }
                Ok(n)
            }
            At::Kept(kind, data, left, fill) => {
                let n = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                data.extend_from_slice(&bytes[..n]);
                *left -= n as u64;
                if *left == 0 {
                    let (kind, data, fill) = (kind.clone(), std::mem::take(data), *fill);
                    self.at = past(fill);
                    self.read(kind, &data)?;
                }
                Ok(n)
            }
            At::End => Ok(bytes.len()),
        }
    }

    fn begin(&mut self, block: &[u8]) -> Result<At, String> {
        if block.iter().all(|b| *b == 0) {
            return Ok(At::End);
        }
        let size = size(&block[124..136]).ok_or("a length in it is not as engines write it")?;
        let extra = self.extra.take();
        match block[156] {
            b'x' if extra.is_none() && (1..=LONGEST).contains(&size) => {
                Ok(At::Kept(Kept::Extra, Vec::new(), size, fill(size) as u64))
            }
            kind @ (b'0' | b'1' | b'2' | b'5') => {
                let extra = extra.unwrap_or_default();
                let told =
                    |wanted: &str| extra.iter().filter(|(key, _)| key == wanted).map(|(_, v)| v.clone()).collect::<Vec<_>>();
                let (lengths, paths) = (told("size"), told("path"));
                let size = match lengths.last() {
                    Some(text) => std::str::from_utf8(text).ok().and_then(|t| t.parse().ok()).ok_or("a length in it is none")?,
                    None => size,
                };
                let plain = lengths.is_empty() && paths.is_empty();
                for path in [name(block)].into_iter().chain(paths) {
                    let Some(file) = speaks(&path)? else { continue };
                    if !plain || kind != b'0' || path != file.as_bytes() || !self.seen.insert(file.clone()) {
                        return Err(format!("there is something in the place of its {file}"));
                    }
                    if !(1..=LONGEST).contains(&size) {
                        return Err(format!("its {file} is too long, or empty"));
                    }
                    return Ok(At::Kept(Kept::File(file), Vec::new(), size, fill(size) as u64));
                }
                Ok(if kind == b'0' { past(size.saturating_add(fill(size) as u64)) } else { At::Header })
            }
            _ => Err("there is something in it that engines do not write".into()),
        }
    }

    fn read(&mut self, kind: Kept, data: &[u8]) -> Result<(), String> {
        let Kept::File(file) = kind else {
            let said = records(data);
            // Where a sparse file's name is, some look.
            if said.iter().any(|(key, _)| key.starts_with("GNU.")) {
                return Err("there is something in it that engines do not write".into());
            }
            self.extra = Some(said);
            return Ok(());
        };
        let json: Json = serde_json::from_slice(data).map_err(|e| format!("its {file} cannot be read: {e}"))?;
        let tag = self.image.rsplit_once(':').map(|(_, tag)| tag);
        let mut found = Vec::new();
        names(&file, &json, &mut found);
        let whole = |name: &str| name == self.image || name.strip_prefix("docker.io/") == Some(self.image.as_str());
        let fits = |name: &str| whole(name) || file == "index.json" && Some(name) == tag;
        match found.into_iter().find(|name| !fits(name)) {
            Some(other) => Err(format!("it names an image {other:?} beside {:?}", self.image)),
            None => Ok(()),
        }
    }
}

fn past(left: u64) -> At {
    if left == 0 { At::Header } else { At::Past(left) }
}

/// A length as engines write it: eleven octal digits, or a binary number of eight bytes.
fn size(field: &[u8]) -> Option<u64> {
    if field[0] == 0x80 && field[1..4] == [0; 3] {
        return Some(u64::from_be_bytes(field[4..12].try_into().ok()?)).filter(|n| *n <= i64::MAX as u64);
    }
    let digits = field[..11].iter().all(|b| (b'0'..=b'7').contains(b)) && matches!(field[11], 0 | b' ');
    std::str::from_utf8(&field[..11]).ok().filter(|_| digits).and_then(|text| u64::from_str_radix(text, 8).ok())
}

/// Which of the files that say names a path leads to, however it is written.
fn speaks(path: &[u8]) -> Result<Option<String>, String> {
    let parts = || path.split(|b| *b == b'/').filter(|p| !matches!(*p, b"" | b"."));
    if parts().any(|p| p == b"..") {
        return Err("a path in it leads out of it".into());
    }
    let last = parts().next_back().unwrap_or_default();
    Ok(SPEAKS.iter().find(|name| name.as_bytes() == last).map(|name| (*name).to_owned()))
}

/// All names that are said, in whatever place.
fn names(file: &str, json: &Json, found: &mut Vec<String>) {
    match json {
        Json::Object(all) => {
            for (key, value) in all {
                let says = match file {
                    // Go reads keys whatever their case, and takes some letters for others.
                    "manifest.json" => key.eq_ignore_ascii_case("RepoTags") || !key.is_ascii(),
                    "index.json" => ANNOTATIONS.contains(&key.as_str()),
                    _ => false,
                };
                if says {
                    texts(value, found);
                } else if file == "repositories" {
                    tags(key, value, found);
                } else {
                    names(file, value, found);
                }
            }
        }
        Json::Array(all) => all.iter().for_each(|value| names(file, value, found)),
        Json::Text(_) | Json::Other => {}
    }
}

fn tags(repository: &str, value: &Json, found: &mut Vec<String>) {
    match value {
        Json::Object(all) => found.extend(all.iter().map(|(tag, _)| format!("{repository}:{tag}"))),
        _ => found.push(repository.to_owned()),
    }
}

fn texts(value: &Json, found: &mut Vec<String>) {
    match value {
        Json::Text(text) => found.push(text.clone()),
        Json::Array(all) => all.iter().for_each(|value| texts(value, found)),
        Json::Object(all) => found.extend(all.iter().map(|(key, _)| key.clone())),
        Json::Other => {}
    }
}

/// JSON, with all that is in it: a key that is there twice is there twice.
enum Json {
    Object(Vec<(String, Json)>),
    Array(Vec<Json>),
    Text(String),
    Other,
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Whole)
    }
}

struct Whole;

impl<'de> Visitor<'de> for Whole {
    type Value = Json;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let mut all = Vec::new();
        while let Some(entry) = map.next_entry()? {
            all.push(entry);
        }
        Ok(Json::Object(all))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Json, A::Error> {
        let mut all = Vec::new();
        while let Some(value) = seq.next_element()? {
            all.push(value);
        }
        Ok(Json::Array(all))
    }
    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.to_owned()))
    }
    fn visit_bool<E>(self, _: bool) -> Result<Json, E> {
        Ok(Json::Other)
    }
    fn visit_i64<E>(self, _: i64) -> Result<Json, E> {
        Ok(Json::Other)
    }
    fn visit_u64<E>(self, _: u64) -> Result<Json, E> {
        Ok(Json::Other)
    }
    fn visit_f64<E>(self, _: f64) -> Result<Json, E> {
        Ok(Json::Other)
    }
    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Other)
    }
}

#[cfg(test)]
#[path = "names_tests.rs"]
mod tests;
