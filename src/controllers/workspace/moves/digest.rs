//! A digest over what an archive says, which is the same however an engine has packed it.
//!
//! Two engines of different versions write the same files in headers of different kinds, and a file system may list a folder in
//! another order. So each entry has a digest of its own, and their sum counts. Times count by the second, as archives of engines
//! have them.

use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

pub(super) const BLOCK: usize = 512;
/// Names, attributes and the like; no engine writes more.
const LONGEST_EXTRA: u64 = 4 << 20;

/// A digest, as it stands in records.
pub(super) fn written(sha256: impl AsRef<[u8]>) -> String {
    format!("sha256:{}", sha256.as_ref().iter().map(|b| format!("{b:02x}")).collect::<String>())
}

/// Takes an archive in pieces of any length. Of what is in it nothing is kept.
#[derive(Default)]
pub struct ArchiveDigest {
    at: At,
    /// What of a block has come.
    block: Vec<u8>,
    /// What came before the entry it is about, as PAX (POSIX.1-2001) has it.
    extra: BTreeMap<String, Vec<u8>>,
    sum: [u64; 4],
    entries: u64,
    /// Nothing more is read once this is set.
    wrong: Option<&'static str>,
}

#[derive(Default)]
enum At {
    #[default]
    Header,
    /// Content of an entry, and what fills it up to whole blocks.
    Content {
        entry: Sha256,
        left: u64,
        fill: usize,
    },
    /// What is said about the next entry.
    Extra {
        kind: u8,
        data: Vec<u8>,
        left: u64,
        fill: usize,
    },
    End,
}

impl ArchiveDigest {
    /// The next piece.
    pub fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.wrong.is_none() {
            let used = self.take(bytes);
            bytes = &bytes[used..];
        }
    }

    /// The digest of all that came.
    ///
    /// # Errors
    /// Where that was not a whole archive.
    pub fn finish(&self) -> Result<String, String> {
        match (self.wrong, &self.at) {
            (Some(why), _) => Err(format!("what came is not an archive: {why}")),
            (None, At::End) => {
                let mut all = Sha256::new();
                self.sum.iter().for_each(|lane| all.update(lane.to_be_bytes()));
                all.update(self.entries.to_be_bytes());
                Ok(written(all.finalize()))
            }
            (None, _) => Err("the archive was cut off".into()),
        }
    }

    /// Uses up the beginning of what came; says how much.
    fn take(&mut self, bytes: &[u8]) -> usize {
        match std::mem::take(&mut self.at) {
            At::Header => {
                let n = bytes.len().min(BLOCK - self.block.len());
                self.block.extend_from_slice(&bytes[..n]);
                if self.block.len() == BLOCK {
                    let block = std::mem::take(&mut self.block);
                    self.at = self.begin(&block);
                }
                n
            }
            At::Content { mut entry, left, fill } if left > 0 => {
                let n = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                entry.update(&bytes[..n]);
                self.at = At::Content { entry, left: left - n as u64, fill };
                self.close();
                n
            }
            At::Content { entry, left, fill } => {
                let n = bytes.len().min(fill);
                self.at = At::Content { entry, left, fill: fill - n };
                self.close();
                n
            }
            At::Extra { kind, mut data, left, fill } if left > 0 => {
                let n = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                data.extend_from_slice(&bytes[..n]);
                self.at = At::Extra { kind, data, left: left - n as u64, fill };
                self.close();
                n
            }
            At::Extra { kind, data, left, fill } => {
                let n = bytes.len().min(fill);
                self.at = At::Extra { kind, data, left, fill: fill - n };
                self.close();
                n
            }
            At::End => {
                self.at = At::End;
                bytes.len()
            }
        }
    }

    /// Goes on to the next header where an entry has wholly come.
    fn close(&mut self) {
        match std::mem::take(&mut self.at) {
            At::Content { entry, left: 0, fill: 0 } => {
                for (lane, part) in self.sum.iter_mut().zip(entry.finalize().chunks_exact(8)) {
                    *lane = lane.wrapping_add(part.iter().fold(0, |n, b| n << 8 | u64::from(*b)));
                }
                self.entries += 1;
            }
            At::Extra { kind, data, left: 0, fill: 0 } => self.note(kind, &data),
            other => self.at = other,
        }
    }

    fn begin(&mut self, block: &[u8]) -> At {
        if block.iter().all(|b| *b == 0) {
            return At::End;
        }
        let kind = block[156];
        let Some(size) = number(&block[124..136]) else {
            self.wrong = Some("a length in it cannot be read");
            return At::Header;
        };
        if matches!(kind, b'x' | b'g' | b'L' | b'K') {
            if size > LONGEST_EXTRA {
                self.wrong = Some("a name in it is too long");
            }
            let extra = At::Extra { kind, data: Vec::new(), left: size, fill: fill(size) };
            return self.closed(extra);
        }
        let extra = std::mem::take(&mut self.extra);
        let told = |key: &str| extra.get(key).and_then(|v| std::str::from_utf8(v).ok());
        let regular = matches!(kind, b'0' | 0 | b'7');
        let size = told("size").and_then(|s| s.parse().ok()).unwrap_or(size);
        let left = if regular { size } else { 0 };
        let mut entry = Sha256::new();
        let mut field = |bytes: &[u8]| {
            entry.update((bytes.len() as u64).to_be_bytes());
            entry.update(bytes);
        };
        field(&[if regular { b'0' } else { kind }]);
        field(extra.get("path").map_or(&name(block)[..], Vec::as_slice));
        field(extra.get("linkpath").map_or(text(&block[157..257]), Vec::as_slice));
        for (key, at) in [("mode", 100..108), ("uid", 108..116), ("gid", 116..124), ("mtime", 136..148)] {
            let told = told(key).and_then(|v| v.split('.').next()?.parse::<i64>().ok());
            let value = told.or_else(|| number(&block[at]).map(|n| n as i64)).unwrap_or(0);
            // Docker 20.10 writes the kind of file into its mode; later ones do not.
            field(&if key == "mode" { value & 0o7777 } else { value }.to_be_bytes());
        }
        if matches!(kind, b'3' | b'4') {
            field(&[number(&block[329..337]).unwrap_or(0), number(&block[337..345]).unwrap_or(0)].map(u64::to_be_bytes).concat());
        }
        for (key, value) in extra.iter().filter(|(key, _)| key.starts_with("SCHILY.xattr.")) {
            field(key.as_bytes());
            field(value);
        }
        field(&left.to_be_bytes());
        self.closed(At::Content { entry, left, fill: fill(left) })
    }

    /// One without content has come with its header.
    fn closed(&mut self, at: At) -> At {
        self.at = at;
        self.close();
        std::mem::take(&mut self.at)
    }

    /// What is said of the next entry: by PAX, or as GNU tar gives long names.
    fn note(&mut self, kind: u8, data: &[u8]) {
        match kind {
            b'x' => self.extra.extend(records(data)),
            b'L' => drop(self.extra.insert("path".into(), text(data).to_vec())),
            b'K' => drop(self.extra.insert("linkpath".into(), text(data).to_vec())),
            _ => {}
        }
        if self.extra.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum::<u64>() > LONGEST_EXTRA {
            self.wrong = Some("too much is said of a file in it");
        }
    }
}

pub(super) fn fill(size: u64) -> usize {
    ((BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64) as usize
}

/// A text field, to its first zero.
fn text(field: &[u8]) -> &[u8] {
    &field[..field.iter().position(|b| *b == 0).unwrap_or(field.len())]
}

pub(super) fn name(block: &[u8]) -> Vec<u8> {
    let (name, prefix) = (text(&block[..100]), text(&block[345..500]));
    // Only POSIX archives have a prefix; in GNU's something else is there.
    if &block[257..263] == b"ustar\0" && !prefix.is_empty() { [prefix, b"/", name].concat() } else { name.to_vec() }
}

/// An octal number, or a binary one where its first bit is set.
fn number(field: &[u8]) -> Option<u64> {
    if field[0] & 0x80 != 0 {
        return Some(field[1..].iter().fold(u64::from(field[0] & 0x7f), |n, b| n << 8 | u64::from(*b)));
    }
    let digits = std::str::from_utf8(text(field)).ok()?.trim();
    if digits.is_empty() { Some(0) } else { u64::from_str_radix(digits, 8).ok() }
}

/// `LENGTH KEY=VALUE\n`, one after the other.
pub(super) fn records(mut data: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    while let Some(space) = data.iter().position(|b| *b == b' ') {
        let length = std::str::from_utf8(&data[..space]).ok().and_then(|n| n.parse::<usize>().ok());
        let Some(record) = length.filter(|n| *n > space + 1 && *n <= data.len()).map(|n| &data[space + 1..n - 1]) else { break };
        if let Some(equals) = record.iter().position(|b| *b == b'=') {
            found.push((String::from_utf8_lossy(&record[..equals]).into_owned(), record[equals + 1..].to_vec()));
        }
        data = &data[space + 2 + record.len()..];
    }
    found
}

#[cfg(test)]
#[path = "digest_tests.rs"]
mod tests;
