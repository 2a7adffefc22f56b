//! A Debian mirror of a few packages, and an image with this machine's apt-get and dpkg.

use super::dockerd::Dockerd;
use super::image::{image_with, program};
use super::{bare, serve};
use axum::Router;
use http::{StatusCode, Uri};
use sha2::{Digest, Sha256};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// What apt and dpkg keep, empty, and where packages come from.
const SET_UP: &str = r#"set -e
mkdir -p /etc/apt/apt.conf.d /etc/apt/preferences.d /etc/dpkg/dpkg.cfg.d /var/lib/dpkg/info /var/lib/dpkg/updates
mkdir -p /var/lib/apt/lists/partial /var/cache/apt/archives/partial /var/log/apt
: >/var/lib/dpkg/status
echo 'APT::Sandbox::User "root";' >/etc/apt/apt.conf.d/user
echo "deb [trusted=yes] http://$1 ./" >/etc/apt/sources.list"#;

/// A flat repository, served as a mirror serves it.
pub struct Mirror {
    pub address: SocketAddr,
    folder: TempDir,
    /// It listens for as long as this is held.
    _open: tokio::sync::oneshot::Sender<()>,
}

impl Mirror {
    /// One without any package yet.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("Packages"), "").unwrap();
        let root = folder.path().to_owned();
        let answer = move |uri: Uri| {
            let file = Path::new(uri.path()).file_name().map(|name| root.join(name));
            async move { file.and_then(|f| std::fs::read(f).ok()).ok_or(StatusCode::NOT_FOUND) }
        };
        let (address, open) = serve::everywhere(Router::new().fallback(answer));
        Self { address, folder, _open: open }
    }

    /// Adds a package of this name, with a program that says it.
    pub fn add(&self, name: &str) {
        let work = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = work.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        };
        let control = format!("Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: test\nDescription: test\n");
        write("DEBIAN/control", &control);
        write(&format!("usr/bin/{name}"), &format!("#!/bin/sh\necho this is {name}\n"));
        let file = self.folder.path().join(format!("{name}.deb"));
        let built = bare("dpkg-deb").args(["-Zgzip", "--build"]).arg(work.path()).arg(&file).output().unwrap();
        assert!(built.status.success(), "{built:?}");
        let bytes = std::fs::read(&file).unwrap();
        let sum: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
        let entry = format!("{control}Filename: ./{name}.deb\nSize: {}\nSHA256: {sum}\n\n", bytes.len());
        let list = self.folder.path().join("Packages");
        std::fs::write(&list, std::fs::read_to_string(&list).unwrap() + &entry).unwrap();
    }
}

/// Puts an image on the engine whose packages come from a mirror at this address, and gives its name.
pub fn image_with_apt(daemon: &Dockerd, mirror: &str) -> String {
    let mut files: Vec<PathBuf> =
        ["apt-get", "dpkg", "dpkg-deb", "dpkg-split", "dpkg-query", "tar", "ldconfig"].map(program).to_vec();
    let methods = Path::new("/usr/lib/apt/methods");
    files.extend(["copy", "file", "http", "store"].map(|m| methods.join(m)));
    let tables = Path::new("/usr/share/dpkg");
    files.extend(["abitable", "cputable", "ostable", "tupletable"].map(|t| tables.join(t)));
    let base = image_with(daemon, "ds-test/apt:1", &files);
    let context = tempfile::tempdir().unwrap();
    let run = serde_json::json!(["sh", "-c", SET_UP, "sh", mirror]);
    std::fs::write(context.path().join("Dockerfile"), format!("FROM {base}\nRUN {run}\n")).unwrap();
    let name = format!("ds-test/apt:{}", mirror.replace([':', '.'], "-"));
    daemon.docker(&["build", "--network=none", "-t", &name, &context.path().display().to_string()]);
    name
}
