//! What may be typed about the library, and about environments described elsewhere.

use super::{ApplyArgs, DryRun, Files};
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// `library`.
#[derive(Args, Debug)]
pub struct LibraryArgs {
    /// What to do with it.
    #[command(subcommand)]
    pub command: LibraryCommand,
}

/// What to do with the library.
#[derive(Debug, Subcommand)]
pub enum LibraryCommand {
    /// List what it holds
    List(FromLibrary),
    /// Print a template or a feature
    Show(ShowArgs),
    /// Apply templates and features, and all that they need
    Import(ImportArgs),
    /// Print the index of a folder of templates and features, for a library of your own
    Index(IndexArgs),
}

/// Which library.
#[derive(Args, Clone, Debug)]
pub struct FromLibrary {
    /// Library at this address, in place of the one that is built in: its index.yaml, or the folder that is in
    #[arg(long, value_name = "URL")]
    pub from: Option<String>,
    /// Fetch from this machine and from private networks, too
    #[arg(long, requires = "from")]
    pub allow_private: bool,
}

/// `library show`.
#[derive(Args, Debug)]
pub struct ShowArgs {
    /// Template or feature
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Which library.
    #[command(flatten)]
    pub from: FromLibrary,
}

/// `library import`.
#[derive(Args, Debug)]
pub struct ImportArgs {
    /// Templates and features
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<String>,
    /// Which library.
    #[command(flatten)]
    pub from: FromLibrary,
    /// Change nothing: check here (client) or at the server (server)
    #[arg(long, value_enum, default_value_t, num_args = 0..=1, default_missing_value = "server", require_equals = true)]
    pub dry_run: DryRun,
    /// Take over fields that another manager set
    #[arg(long)]
    pub force_conflicts: bool,
}

/// `library index`.
#[derive(Args, Debug)]
pub struct IndexArgs {
    /// Folder; each *.yaml in it holds one template or feature
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
}

/// `devcontainer`.
#[derive(Args, Debug)]
pub struct DevcontainerArgs {
    /// What to do with it.
    #[command(subcommand)]
    pub command: DevcontainerCommand,
}

/// What to do with a devcontainer.json.
#[derive(Debug, Subcommand)]
pub enum DevcontainerCommand {
    /// Make a template of it, and say what of it is not in the template and why
    Import(DevcontainerImportArgs),
}

/// `devcontainer import`.
#[derive(Args, Debug)]
pub struct DevcontainerImportArgs {
    /// The devcontainer.json, or the repository's folder
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
    /// Name of the template
    #[arg(long, value_name = "NAME")]
    pub name: String,
    /// Print the template and apply nothing
    #[arg(long, short = 'o', value_name = "FORMAT", value_parser = ["yaml"])]
    pub output: Option<String>,
    /// Change nothing: check here (client) or at the server (server)
    #[arg(long, value_enum, default_value_t, num_args = 0..=1, default_missing_value = "server", require_equals = true)]
    pub dry_run: DryRun,
    /// Take over fields that another manager set
    #[arg(long)]
    pub force_conflicts: bool,
}

impl ApplyArgs {
    /// To apply records that were read already.
    pub fn of_read(dry_run: DryRun, force_conflicts: bool) -> Self {
        Self {
            files: Files { files: Vec::new(), recursive: false },
            dry_run,
            server_side: false,
            force_conflicts,
            atomic: false,
            prune: false,
            set: None,
            selector: None,
        }
    }
}
