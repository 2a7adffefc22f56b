//! The project's own source, for tests about how it is built.

use std::path::{Path, PathBuf};

/// A source file.
pub struct Source {
    /// From the repository's root.
    pub path: String,
    pub text: String,
}

/// The repository's root.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All files below `folder` that end in `.ext`, sorted by path.
pub fn files(folder: &str, ext: &str) -> Vec<Source> {
    let mut found = Vec::new();
    walk(&root().join(folder), ext, &mut found);
    found.sort();
    let read = |path: PathBuf| Source {
        text: std::fs::read_to_string(&path).unwrap(),
        path: path.strip_prefix(root()).unwrap().display().to_string(),
    };
    found.into_iter().map(read).collect()
}

fn walk(folder: &Path, ext: &str, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        match path.is_dir() {
            true if path.file_name().is_some_and(|n| n != "target") => walk(&path, ext, found),
            false if path.extension().is_some_and(|e| e == ext) => found.push(path),
            _ => {}
        }
    }
}

impl Source {
    /// `api` for `src/api/list.rs` and for `src/api.rs`.
    pub fn module(&self) -> &str {
        let inner = self.path.trim_start_matches("src/");
        inner.split('/').next().unwrap().trim_end_matches(".rs")
    }

    /// How many names its module path has: 1 for `src/api/mod.rs`, 2 for `src/api/list.rs`.
    pub fn depth(&self) -> usize {
        let parts = self.path.trim_start_matches("src/").split('/').count();
        parts - usize::from(self.path.ends_with("/mod.rs"))
    }

    /// A file that holds nothing but tests.
    pub fn is_tests(&self) -> bool {
        self.path.ends_with("tests.rs")
    }

    /// Lines of code with their numbers, comments left out, and whether they are in a `#[cfg(test)]` module.
    pub fn code(&self) -> impl Iterator<Item = (usize, &str, bool)> {
        let mut tests = self.is_tests();
        let mut marked = false;
        self.text.lines().enumerate().filter_map(move |(i, line)| {
            let trimmed = line.trim_start();
            tests |= marked && trimmed.starts_with("mod ") && trimmed.ends_with('{');
            marked = trimmed.starts_with("#[cfg(test)]");
            (!trimmed.starts_with("//")).then_some((i + 1, line, tests))
        })
    }
}
