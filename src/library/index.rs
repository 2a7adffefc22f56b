//! A library's table of contents: `index.yaml`.

use super::KINDS;
use crate::resource::names;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;

/// Name of the file.
pub const FILE: &str = "index.yaml";
/// Most that one library holds.
const MOST_ITEMS: usize = 1000;
/// Longest description.
const LONGEST_DESCRIPTION: usize = 500;

/// What a library holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Index {
    /// One for each file.
    pub items: Vec<Item>,
}

/// A record of a library, in a file of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Item {
    /// `Template` or `Feature`.
    pub kind: String,
    /// Name of the record.
    pub name: String,
    /// What it is, in a line.
    #[serde(default)]
    pub description: String,
    /// Path of the file, from the index's own folder.
    pub file: String,
    /// SHA-256 of the file, in 64 hexadecimal digits.
    pub sha256: String,
}

/// What is wrong with an index.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unusable(String);

/// SHA-256 of a text, as an index has it.
pub fn digest(text: &str) -> String {
    Sha256::digest(text).iter().map(|b| format!("{b:02x}")).collect()
}

impl Index {
    /// Reads an index.
    ///
    /// # Errors
    /// Names what is wrong, and what is allowed.
    pub fn read(text: &str) -> Result<Self, Unusable> {
        let index: Self = serde_saphyr::from_str(text).map_err(|e| Unusable(format!("is no index of a library: {e}")))?;
        if index.items.len() > MOST_ITEMS {
            return Err(Unusable(format!("names {} files, and {MOST_ITEMS} are the most", index.items.len())));
        }
        let mut seen = BTreeSet::new();
        for (i, item) in index.items.iter().enumerate() {
            item.check().map_err(|(field, allowed)| Unusable(format!("items[{i}].{field}: {allowed}")))?;
            if !seen.insert(&item.name) {
                return Err(Unusable(format!("items[{i}].name: {:?} is there twice; a name must mean one record", item.name)));
            }
        }
        Ok(index)
    }

    /// The index as it is written.
    ///
    /// # Errors
    /// When it cannot be written as YAML; that would be a fault of ours.
    pub fn write(&self) -> Result<String, Unusable> {
        let body = serde_saphyr::to_string(self).map_err(|e| Unusable(format!("cannot be written as YAML: {e}")))?;
        Ok(format!("# Written by `devsanctum library index`.\n{body}"))
    }

    /// An item by the name of its record.
    pub fn find(&self, name: &str) -> Option<&Item> {
        self.items.iter().find(|item| item.name == name)
    }
}

impl Item {
    /// The field that is wrong, and what is allowed there.
    fn check(&self) -> Result<(), (&'static str, String)> {
        if !KINDS.contains(&self.kind.as_str()) {
            return Err(("kind", format!("{:?}: must be {}", self.kind, KINDS.join(" or "))));
        }
        names::dns_label(&self.name).map_err(|allowed| ("name", format!("{:?}: {allowed}", self.name)))?;
        if self.description.chars().count() > LONGEST_DESCRIPTION {
            return Err(("description", format!("must be {LONGEST_DESCRIPTION} characters at most")));
        }
        if !is_below(&self.file) {
            let allowed = "must be a path below the index's folder, of letters, digits, '.', '_', '-' and '/', such as \
                           'templates/node.yaml'";
            return Err(("file", format!("{:?}: {allowed}", self.file)));
        }
        match self.sha256.len() == 64 && self.sha256.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            true => Ok(()),
            false => Err(("sha256", "must be 64 hexadecimal digits in lower case, as sha256sum prints them".into())),
        }
    }
}

/// Neither an address, nor a way out of the folder.
fn is_below(path: &str) -> bool {
    let fine = |b: u8| b.is_ascii_alphanumeric() || b"._-/".contains(&b);
    path.len() <= 255 && path.bytes().all(fine) && path.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item() -> Item {
        let (kind, name, file) = ("Template".into(), "node".into(), "templates/node.yaml".into());
        Item { kind, name, description: "Node.js".into(), file, sha256: digest("x") }
    }

    fn refusal(change: impl FnOnce(&mut Index)) -> String {
        let mut index = Index { items: vec![item()] };
        change(&mut index);
        Index::read(&index.write().unwrap()).unwrap_err().to_string()
    }

    #[test]
    fn an_index_is_read_as_it_was_written() {
        let index = Index { items: vec![item(), Item { name: "b".into(), description: "it's: \"odd\" #1".into(), ..item() }] };
        assert_eq!(Index::read(&index.write().unwrap()).unwrap(), index);
        assert_eq!(index.find("b").map(|i| i.name.as_str()), Some("b"));
    }

    #[test]
    fn hostile_indexes_are_refused() {
        for file in ["../x", "/etc/passwd", "https://example.com/x", "a//b", "a/../b", "", "a?b", "a#b", "a\\b", "%2e%2e/x", "."]
        {
            assert!(refusal(|i| i.items[0].file = file.into()).starts_with("items[0].file: "), "{file}");
        }
        for kind in ["Secret", "template", "User", ""] {
            assert!(refusal(|i| i.items[0].kind = kind.into()).contains("must be Feature or Template"), "{kind}");
        }
        assert!(refusal(|i| i.items[0].name = "a/b".into()).starts_with("items[0].name: "));
        assert!(refusal(|i| i.items[0].sha256 = "0".repeat(63)).starts_with("items[0].sha256: "));
        assert!(refusal(|i| i.items[0].description = "x".repeat(501)).starts_with("items[0].description: "));
        assert!(refusal(|i| i.items.push(item())).contains("is there twice"));
        assert!(refusal(|i| i.items = vec![item(); 1001]).contains("1000 are the most"));
    }

    #[test]
    fn what_is_no_index_is_refused() {
        let bomb = (0..30).fold("a0: &a0 [x]\n".to_owned(), |text, i| format!("{text}a{}: &a{} [*a{i}, *a{i}]\n", i + 1, i + 1));
        for text in ["", "[]", "items: 1", "items: [1]", "items: []\nother: 1", "<html></html>", "items: &a [*a]", &bomb] {
            assert!(Index::read(text).is_err(), "{text}");
        }
    }
}
