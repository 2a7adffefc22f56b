//! Files, folders and standard input to texts.

use super::position::{Complaint, Source};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Most bytes of one file.
pub const MAX_FILE: u64 = 16 << 20;
/// Most files of one run.
const MAX_FILES: usize = 10_000;
/// Most folders inside one another.
const MAX_LEVELS: usize = 32;

/// Reads everything named by `-f`: files as they are, folders with all `*.yaml`, `*.yml` and `*.json` in
/// them in sorted order (and in their folders, where that is asked for), `-` for standard input.
pub fn sources(names: &[String], recursive: bool) -> (Vec<Arc<Source>>, Vec<Complaint>) {
    let (mut found, mut complaints) = (Vec::new(), Vec::new());
    for name in names {
        if name == "-" {
            keep(text("<stdin>", &mut std::io::stdin().lock()), &mut found, &mut complaints);
            continue;
        }
        if name.contains("://") {
            complaints.push(Complaint::file(
                name,
                "addresses are not fetched; download the file and give its path, or pipe it to -f -",
            ));
            continue;
        }
        let mut paths = Vec::new();
        if let Err(complaint) = expand(Path::new(name), 0, recursive, &mut paths) {
            complaints.push(complaint);
        }
        for path in paths {
            keep(file(&path), &mut found, &mut complaints);
        }
    }
    (found, complaints)
}

fn keep(read: Result<Source, Complaint>, found: &mut Vec<Arc<Source>>, complaints: &mut Vec<Complaint>) {
    match read {
        Ok(source) => found.push(Arc::new(source)),
        Err(complaint) => complaints.push(complaint),
    }
}

fn expand(path: &Path, level: usize, recursive: bool, into: &mut Vec<PathBuf>) -> Result<(), Complaint> {
    let fail = |e: std::io::Error| Complaint::file(path.display().to_string(), format!("cannot be read: {e}"));
    if into.len() >= MAX_FILES || level > MAX_LEVELS {
        let message = format!("too much in one folder (at most {MAX_FILES} files, {MAX_LEVELS} levels)");
        return Err(Complaint::file(path.display().to_string(), message));
    }
    if !std::fs::metadata(path).map_err(fail)?.is_dir() {
        into.push(path.to_owned());
        return Ok(());
    }
    let entries: Result<Vec<_>, _> = std::fs::read_dir(path).map_err(fail)?.map(|e| e.map(|e| e.path())).collect();
    let mut entries = entries.map_err(fail)?;
    entries.sort();
    for entry in entries {
        // A link inside a folder could lead out of it, or round in circles.
        let kind = std::fs::symlink_metadata(&entry).map_err(fail)?.file_type();
        let wanted = entry.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json");
        if kind.is_dir() && recursive {
            expand(&entry, level + 1, recursive, into)?;
        } else if wanted && kind.is_file() {
            into.push(entry);
        }
    }
    Ok(())
}

fn file(path: &Path) -> Result<Source, Complaint> {
    let name = path.display().to_string();
    let mut file = std::fs::File::open(path).map_err(|e| Complaint::file(&name, format!("cannot be read: {e}")))?;
    text(&name, &mut file)
}

/// Reads a text whole, within the size limit, as UTF-8.
fn text(name: &str, from: &mut impl Read) -> Result<Source, Complaint> {
    let mut bytes = Vec::new();
    let read = from.take(MAX_FILE + 1).read_to_end(&mut bytes);
    read.map_err(|e| Complaint::file(name, format!("cannot be read: {e}")))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(Complaint::file(name, format!("is larger than {MAX_FILE} bytes; split it")));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Source { name: name.to_owned(), text }),
        Err(e) => {
            let offset = e.utf8_error().valid_up_to();
            Err(Complaint::file(name, format!("is not UTF-8 text: byte {offset} starts no character")))
        }
    }
}
