//! `library index`: the index of a folder, for whoever keeps a library.

use crate::cli::args::IndexArgs;
use crate::cli::failure::Failure;
use crate::cli::manifest::position::Source;
use crate::cli::manifest::{self, Document};
use crate::cli::ui;
use crate::library::{FILE, Index, Item, KINDS, digest};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Runs `library index`.
///
/// # Errors
/// When a file holds anything but one record of a library.
pub fn run(args: &IndexArgs) -> Result<(), Failure> {
    let mut files = Vec::new();
    walk(&args.folder, 0, &mut files)?;
    let items = files.iter().map(|file| item(&args.folder, file)).collect::<Result<Vec<_>, _>>()?;
    if items.is_empty() {
        return Err(Failure::new(format!("no *.yaml in {}", args.folder.display())));
    }
    let text = Index { items }.write().map_err(|e| Failure::new(e.to_string()))?;
    Index::read(&text).map_err(|e| Failure::new(format!("{}: the index {e}", args.folder.display())))?;
    ui::say(&text)
}

/// All `*.yaml` but the index itself, sorted.
fn walk(folder: &Path, level: usize, into: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let fail = |e: std::io::Error| Failure::new(format!("{}: {e}", folder.display()));
    let mut entries = std::fs::read_dir(folder).map_err(fail)?.collect::<Result<Vec<_>, _>>().map_err(fail)?;
    entries.sort_by_key(std::fs::DirEntry::path);
    for entry in entries {
        let (path, kind) = (entry.path(), entry.file_type().map_err(fail)?);
        if kind.is_dir() && level < 4 {
            walk(&path, level + 1, into)?;
        } else if kind.is_file() && path.extension().is_some_and(|e| e == "yaml") && !path.ends_with(FILE) {
            into.push(path);
        }
    }
    Ok(())
}

fn item(folder: &Path, path: &Path) -> Result<Item, Failure> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|e| Failure::new(format!("{name}: {e}")))?;
    let (documents, complaints) = manifest::parse(&Arc::new(Source { name: name.clone(), text: text.clone() }));
    if !complaints.is_empty() {
        return Err(complaints.into());
    }
    let [document]: [Document; 1] = documents
        .try_into()
        .ok()
        .filter(|[one]: &[Document; 1]| KINDS.contains(&one.def.kind.as_str()))
        .ok_or_else(|| Failure::new(format!("{name}: must hold one {} and nothing else", KINDS.join(" or one "))))?;
    let description = document.value.pointer("/spec/description").and_then(|d| d.as_str()).unwrap_or_default().trim().to_owned();
    let file = path.strip_prefix(folder).unwrap_or(path).display().to_string();
    Ok(Item { kind: document.def.kind.clone(), name: document.name, description, file, sha256: digest(&text) })
}
