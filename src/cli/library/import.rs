//! `library import`: apply records of a library, and all that they need.

use super::shelf::Shelf;
use crate::cli::args::{ApplyArgs, Globals, ImportArgs};
use crate::cli::failure::Failure;
use crate::cli::manifest::Document;
use crate::cli::{apply, ui};
use crate::library::needs;
use std::collections::BTreeMap;

/// A record's name among those of a library; each is there once.
type Name = String;

/// Runs `library import`.
///
/// # Errors
/// When a record cannot be had, or the API refuses one.
pub async fn run(globals: &Globals, args: ImportArgs) -> Result<(), Failure> {
    let shelf = Shelf::open(&args.from).await?;
    let documents = all(&shelf, &args.names).await?;
    apply::these(globals, &ApplyArgs::of_read(args.dry_run, args.force_conflicts), &documents).await
}

/// Records with all that they need, in the order of application.
///
/// # Errors
/// When one cannot be had.
pub async fn all(shelf: &Shelf, names: &[Name]) -> Result<Vec<Document>, Failure> {
    let mut found = gather(shelf, names).await?;
    let mut documents = Vec::new();
    for name in names {
        take(name, &mut found, &mut documents);
    }
    documents.sort_by_key(Document::order);
    Ok(documents)
}

/// All records named, and all that they need, as far as the library has it.
async fn gather(shelf: &Shelf, names: &[Name]) -> Result<BTreeMap<Name, Document>, Failure> {
    let mut found = BTreeMap::new();
    let mut wanted: Vec<&crate::library::Item> = names.iter().map(|n| shelf.item(n)).collect::<Result<_, _>>()?;
    while let Some(item) = wanted.pop() {
        if found.contains_key(&item.name) {
            continue;
        }
        let document = shelf.document(item).await?;
        for (kind, name) in needs(&document.value) {
            match shelf.index.find(&name).filter(|i| i.kind == kind) {
                Some(item) => wanted.push(item),
                None => ui::note(&format!(
                    "{} {:?} needs the {kind} {name:?}, which this library has not: it must be on the server already",
                    item.kind, item.name
                )),
            }
        }
        found.insert(item.name.clone(), document);
    }
    Ok(found)
}

/// Takes a record out, after those it needs. One that is taken already is not looked at again, so circles end; the API refuses
/// them.
fn take(name: &str, found: &mut BTreeMap<Name, Document>, into: &mut Vec<Document>) {
    let Some(document) = found.remove(name) else { return };
    for (_, needed) in needs(&document.value) {
        take(&needed, found, into);
    }
    into.push(document);
}
