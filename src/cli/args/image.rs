//! What may be typed about images.

use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

/// `image`.
#[derive(Args, Debug)]
pub struct ImageArgs {
    /// Which images.
    #[command(subcommand)]
    pub command: ImageCommand,
}

/// Which images.
#[derive(Debug, Subcommand)]
pub enum ImageCommand {
    /// Bases to build workspaces on, made of Debian's packages without a registry
    Base(BaseArgs),
}

/// `image base`.
#[derive(Args, Debug)]
pub struct BaseArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: BaseCommand,
}

/// What to do with bases.
#[derive(Debug, Subcommand)]
pub enum BaseCommand {
    /// Make one on a Docker Engine, unless it has it already
    Build(BuildBaseArgs),
    /// Put what `tiny` is made of into a folder, for a machine that reaches no mirror of Debian
    Packages(PackagesArgs),
}

/// What a base is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Flavour {
    /// Busybox, s6 and execline: about 9 MB
    Tiny,
    /// Debian with apt, git, ssh and s6: about 180 MB
    Debian,
}

impl Flavour {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tiny => "tiny",
            Self::Debian => "debian",
        }
    }
}

/// `image base build`.
#[derive(Args, Debug)]
pub struct BuildBaseArgs {
    /// What it is made of
    #[arg(value_enum)]
    pub flavour: Flavour,
    /// Name it gets [default: devsanctum/base:FLAVOUR]
    #[arg(long, value_name = "IMAGE")]
    pub tag: Option<String>,
    /// Folder of Debian packages to make `tiny` of
    #[arg(long, value_name = "DIR")]
    pub packages: Option<PathBuf>,
    /// Engine to make it on, in place of this machine's
    #[arg(long, env = "DOCKER_HOST", value_name = "HOST")]
    pub docker_host: Option<String>,
}

/// `image base packages`.
#[derive(Args, Debug)]
pub struct PackagesArgs {
    /// Folder to put them into
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
}
