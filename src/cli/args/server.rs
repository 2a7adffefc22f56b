//! What may be typed about Docker hosts.

use clap::{Args, Subcommand};
use std::path::PathBuf;
use std::time::Duration;

/// `server`.
#[derive(Args, Debug)]
pub struct ServerArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: ServerCommand,
}

/// What to do with Docker hosts.
#[derive(Debug, Subcommand)]
pub enum ServerCommand {
    /// Make the certificates by which an engine is reached over TLS, and what sets it up on its host
    Certs(CertsArgs),
    /// Register a host, and wait until its engine answers
    Add(AddServerArgs),
    /// Say how a host is, condition by condition; fails when it cannot be worked with
    Test(TestServerArgs),
    /// Place nothing more on a host; with --stop, stop what runs there; with --move, move what is there to other hosts
    Drain(DrainArgs),
    /// Place workspaces on a host again
    Undrain(OneServer),
    /// Print what a host had in use in the last day, each quarter of an hour
    Figures(OneServer),
    /// Print what closes a host's own services, cloud metadata and other engines to workspaces: for `sh`, as root, on that host
    Harden(HardenArgs),
    /// Print the one line that sets a new host up, to be pasted there as root
    JoinCommand(JoinArgs),
    /// Take a host off: its record, and the certificates that `server add` has kept
    Remove(RemoveServerArgs),
}

/// `server harden`.
#[derive(Args, Debug)]
pub struct HardenArgs {
    /// Print the firewall rules; nothing is changed on any host
    #[arg(long, required = true)]
    pub print: bool,
    /// The server they are for: other servers' engines are closed to its workspaces as well
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// More addresses and networks that workspaces are not to reach, such as the control plane's own
    #[arg(long, value_delimiter = ',', value_name = "ADDRESSES")]
    pub also: Vec<String>,
}

/// `server join-command`.
#[derive(Args, Debug)]
pub struct JoinArgs {
    /// Folder that `server certs` has made
    #[arg(value_name = "DIR")]
    pub certs: PathBuf,
}

/// `server remove`.
#[derive(Args, Debug)]
pub struct RemoveServerArgs {
    /// Server
    #[arg(value_name = "NAME")]
    pub name: String,
    /// It will never come back: let go of what is there, and print what stays behind
    #[arg(long)]
    pub force: bool,
    /// Longest wait until it is gone
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = humantime::parse_duration)]
    pub timeout: Duration,
}

/// `server certs`.
#[derive(Args, Debug)]
pub struct CertsArgs {
    /// Names and addresses that the engine is reached by, such as rack-1.example.com,10.0.0.7
    #[arg(long, required = true, value_delimiter = ',', value_name = "HOSTS")]
    pub host: Vec<String>,
    /// Folder for what is made; it must be new or empty, or hold the authority of an earlier time
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Port that the engine is to listen on
    #[arg(long, default_value_t = 2376)]
    pub port: u16,
    /// How long the certificates last, in days
    #[arg(long, default_value_t = 365, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub days: u32,
}

/// `server add`.
#[derive(Args, Debug)]
pub struct AddServerArgs {
    /// Name of the new server
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Name or address of the host, a socket such as unix:///var/run/docker.sock, or one through SSH: ssh://root@rack-1.example.com
    #[arg(long, value_name = "HOST")]
    pub host: String,
    /// Port of its engine
    #[arg(long, default_value_t = 2376)]
    pub port: u16,
    /// Folder that `server certs` has made; its ca.pem, cert.pem and key.pem are taken
    #[arg(long, value_name = "DIR")]
    pub certs: Option<PathBuf>,
    /// Private key to get to ssh://… with, without a passphrase
    #[arg(long, value_name = "FILE", requires = "known_hosts")]
    pub ssh_key: Option<PathBuf>,
    /// What the host of ssh://… is known by, as `ssh-keyscan` prints it
    #[arg(long, value_name = "FILE", requires = "ssh_key")]
    pub known_hosts: Option<PathBuf>,
    /// Groups whose projects may use it [default: every project]
    #[arg(long, value_delimiter = ',', value_name = "GROUPS")]
    pub groups: Vec<String>,
    /// Longest wait
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = humantime::parse_duration)]
    pub timeout: Duration,
}

/// A server.
#[derive(Args, Debug)]
pub struct OneServer {
    /// Server
    #[arg(value_name = "NAME")]
    pub name: String,
}

/// `server test`.
#[derive(Args, Debug)]
pub struct TestServerArgs {
    /// Server
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Have it looked at anew, and wait for that at most this long
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = humantime::parse_duration)]
    pub timeout: Duration,
}

/// `server drain`.
#[derive(Args, Debug)]
pub struct DrainArgs {
    /// Server
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Stop the workspaces on it; their files stay there
    #[arg(long)]
    pub stop: bool,
    /// Move them to other servers with all their files, two at a time, and wait until none is left
    #[arg(long = "move", conflicts_with = "stop")]
    pub move_away: bool,
    /// With --move, longest wait; what is under way goes on
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = humantime::parse_duration, requires = "move_away")]
    pub timeout: Duration,
}
