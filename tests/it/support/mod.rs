//! What tests start and clean up.

pub mod acme;
pub mod api;
pub mod apt;
pub mod browser;
pub mod cli;
mod command;
pub mod cutter;
pub mod docker_registry;
pub mod dockerd;
pub mod files;
pub mod git;
pub mod git_ssh;
pub mod image;
pub mod kubectl;
pub mod machine;
pub mod outside;
pub mod ports;
pub mod postgres;
pub mod serve;
pub mod source;
pub mod ssh;
pub mod ssh_host;
pub mod traefik;
pub mod watchdog;

pub use command::{bare, signal};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// What makes TLS, for clients in this process, as the program has it.
pub fn crypto() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// The program that is tested.
pub fn devsanctum() -> std::process::Command {
    bare(env!("CARGO_BIN_EXE_devsanctum"))
}

/// A client for the control plane of this kubeconfig: on this machine, so reached directly, whatever proxy is exported.
pub async fn client(kubeconfig: &str) -> Result<kube::Client, String> {
    let config = kube::config::Kubeconfig::from_yaml(kubeconfig).map_err(|e| e.to_string())?;
    let config = kube::Config::from_custom_kubeconfig(config, &Default::default()).await;
    let mut config = config.map_err(|e| e.to_string())?;
    config.proxy_url = None;
    kube::Client::try_from(config).map_err(|e| e.to_string())
}

/// Files and folders below this one, itself included, that others could read.
pub fn open_to_others(path: &Path) -> Vec<String> {
    let meta = path.symlink_metadata().unwrap();
    if meta.is_symlink() {
        return Vec::new();
    }
    let open = meta.permissions().mode() & 0o077 != 0;
    let below = if meta.is_dir() { std::fs::read_dir(path).unwrap().flatten().collect() } else { Vec::new() };
    let below = below.iter().flat_map(|entry| open_to_others(&entry.path()));
    open.then(|| path.display().to_string()).into_iter().chain(below).collect()
}
