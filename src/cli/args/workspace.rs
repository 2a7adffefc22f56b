//! What may be typed about one workspace and what is inside it.

use clap::{Args, Subcommand};
use std::net::IpAddr;

/// `logs`.
#[derive(Args, Debug)]
pub struct LogsArgs {
    /// Workspace
    #[arg(value_name = "WORKSPACE")]
    pub workspace: String,
    /// Go on and print what is written
    #[arg(long, short = 'f')]
    pub follow: bool,
    /// Lines from the end to begin with
    #[arg(long, value_name = "LINES")]
    pub tail: Option<i64>,
    /// Sidecar, in place of the workspace itself
    #[arg(long, short = 'c', value_name = "SIDECAR")]
    pub container: Option<String>,
    /// Service kept running inside, in place of all that the workspace writes
    #[arg(long, short = 's', value_name = "SERVICE", conflicts_with_all = ["container", "since", "timestamps"])]
    pub service: Option<String>,
    /// What was said while its image was built, in place of what the workspace writes
    #[arg(long, conflicts_with_all = ["container", "service", "since", "timestamps"])]
    pub build: bool,
    /// Only what was written in this last while
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub since: Option<std::time::Duration>,
    /// Put the time before every line
    #[arg(long)]
    pub timestamps: bool,
}

/// `workspace`.
#[derive(Args, Debug)]
pub struct WorkspaceArgs {
    /// What to do with it.
    #[command(subcommand)]
    pub command: WorkspaceCommand,
}

/// What to do with a workspace.
#[derive(Debug, Subcommand)]
pub enum WorkspaceCommand {
    /// Start it
    Start(OneWorkspace),
    /// Stop it; its files are kept
    Stop(OneWorkspace),
    /// Make its container anew from its template and features as they are now; its folders stay, the rest of its files is lost
    Update(OneWorkspace),
    /// Say what it waits for
    WhyPending(WhyPendingArgs),
    /// Move it to another server, with its own files and its folders: it is stopped for as long as that takes
    Move(MoveArgs),
}

/// `workspace why-pending`.
#[derive(Args, Debug)]
pub struct WhyPendingArgs {
    /// Workspace
    #[arg(value_name = "WORKSPACE")]
    pub workspace: String,
}

/// `workspace move`.
#[derive(Args, Debug)]
pub struct MoveArgs {
    /// Workspace
    #[arg(value_name = "WORKSPACE")]
    pub workspace: String,
    /// Server it is to be on; the one that it was on, while it moves, to go back
    #[arg(long, value_name = "SERVER")]
    pub to: String,
    /// Wait until it is there
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    pub wait: bool,
    /// Longest wait; it goes on moving after it
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = humantime::parse_duration)]
    pub timeout: std::time::Duration,
}

/// A workspace, and whether to wait for it.
#[derive(Args, Debug)]
pub struct OneWorkspace {
    /// Workspace
    #[arg(value_name = "WORKSPACE")]
    pub workspace: String,
    /// Wait until it is so
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    pub wait: bool,
    /// Longest wait
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = humantime::parse_duration)]
    pub timeout: std::time::Duration,
}

/// `fork`.
#[derive(Args, Debug)]
pub struct ForkArgs {
    /// What is copied, and whether to wait for the new one.
    #[command(flatten)]
    pub one: OneWorkspace,
    /// Name of the new workspace
    #[arg(value_name = "NAME")]
    pub name: String,
}

/// `exec`.
#[derive(Args, Debug)]
pub struct ExecArgs {
    /// Workspace
    #[arg(value_name = "WORKSPACE")]
    pub workspace: String,
    /// Pass standard input on
    #[arg(long, short = 'i')]
    pub stdin: bool,
    /// Give the command a terminal
    #[arg(long, short = 't')]
    pub tty: bool,
    /// Sidecar, in place of the workspace itself
    #[arg(long, short = 'c', value_name = "SIDECAR")]
    pub container: Option<String>,
    /// Command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// `cp`.
#[derive(Args, Debug)]
pub struct CpArgs {
    /// File or folder here, or WORKSPACE:PATH
    #[arg(value_name = "FROM")]
    pub from: String,
    /// Where to: a folder that is there gets it under its own name
    #[arg(value_name = "TO")]
    pub to: String,
    /// Sidecar, in place of the workspace itself
    #[arg(long, short = 'c', value_name = "SIDECAR")]
    pub container: Option<String>,
}

/// `port-forward`.
#[derive(Args, Debug)]
pub struct PortForwardArgs {
    /// Workspace
    #[arg(value_name = "WORKSPACE")]
    pub workspace: String,
    /// PORT, or LOCAL:PORT; a local port of 0 or none (:PORT) takes a free one
    #[arg(required = true, value_name = "[LOCAL:]PORT")]
    pub ports: Vec<String>,
    /// Address to listen on here
    #[arg(long, default_value = "127.0.0.1", value_name = "ADDRESS")]
    pub address: IpAddr,
}

/// `ssh`.
#[derive(Args, Debug)]
pub struct SshArgs {
    /// Workspace
    #[arg(value_name = "WORKSPACE")]
    pub workspace: String,
    /// Command, as ssh takes it; a shell where none is given
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// `branches`.
#[derive(Args, Debug)]
pub struct BranchesArgs {
    /// Project
    #[arg(value_name = "PROJECT")]
    pub project: String,
    /// One of its repositories; all where left out
    #[arg(value_name = "REPOSITORY")]
    pub repository: Option<String>,
}

/// `terminal`.
#[derive(Args, Debug)]
pub struct TerminalArgs {
    /// Workspace
    #[arg(value_name = "WORKSPACE")]
    pub workspace: String,
}
