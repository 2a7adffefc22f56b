//! The library that comes with the program.

use super::index::Index;
use std::sync::LazyLock;

macro_rules! files {
    ($($file:literal)*) => {
        [$(($file, include_str!(concat!("../../manifests/library/", $file)))),*]
    };
}

/// Each file's path and text. A test holds it equal to the folder.
const FILES: &[(&str, &str)] = &files![
    "features/adminer.yaml"
    "features/code-server.yaml"
    "features/docker-cli.yaml"
    "features/jupyter.yaml"
    "features/mailpit.yaml"
    "features/mariadb.yaml"
    "features/postgresql.yaml"
    "features/redis.yaml"
    "features/shell-tools.yaml"
    "templates/go.yaml"
    "templates/java.yaml"
    "templates/node.yaml"
    "templates/php.yaml"
    "templates/plain.yaml"
    "templates/python.yaml"
    "templates/rust.yaml"
];
const INDEX: &str = include_str!("../../manifests/library/index.yaml");

/// What it holds.
pub fn built_in() -> &'static Index {
    static READ: LazyLock<Index> = LazyLock::new(|| Index::read(INDEX).expect("a test reads the index that is built in"));
    &READ
}

/// The text of a file that its index names.
pub fn text(file: &str) -> Option<&'static str> {
    FILES.iter().find(|(path, _)| *path == file).map(|(_, text)| *text)
}
