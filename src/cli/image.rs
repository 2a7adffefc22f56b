//! `image`: base images made here, for machines that reach no registry.

use super::args::{BaseCommand, BuildBaseArgs, ImageArgs, ImageCommand};
use super::failure::Failure;
use std::fs::{DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What `images/base` holds.
const FILES: [(&str, u32, &str); 5] = [
    ("build.sh", 0o755, include_str!("../../images/base/build.sh")),
    ("root/init", 0o755, include_str!("../../images/base/root/init")),
    ("tiny/etc/group", 0o644, include_str!("../../images/base/tiny/etc/group")),
    ("tiny/etc/nsswitch.conf", 0o644, include_str!("../../images/base/tiny/etc/nsswitch.conf")),
    ("tiny/etc/passwd", 0o644, include_str!("../../images/base/tiny/etc/passwd")),
];

/// Runs `image`.
///
/// # Errors
/// When the image cannot be made; the script says why.
pub fn run(args: &ImageArgs) -> Result<(), Failure> {
    let ImageCommand::Base(base) = &args.command;
    let workshop = Workshop::new().map_err(|e| Failure::new(format!("cannot unpack what bases are made with: {e}")))?;
    let mut script = Command::new("bash");
    script.arg(workshop.0.join("build.sh"));
    match &base.command {
        BaseCommand::Build(build) => told(&mut script, build)?,
        BaseCommand::Packages(packages) => {
            script.arg("packages").arg(std::path::absolute(&packages.folder)?);
        }
    }
    let done = script.status().map_err(|e| Failure::new(format!("bash cannot be run: {e}")))?;
    match done.code() {
        Some(0) => Ok(()),
        code => {
            Err(Failure { code: code.and_then(|c| u8::try_from(c).ok()).unwrap_or(1), ..Failure::new("the base was not made") })
        }
    }
}

fn told(script: &mut Command, build: &BuildBaseArgs) -> Result<(), Failure> {
    script.arg(build.flavour.name());
    if let Some(tag) = &build.tag {
        crate::resource::names::image_reference(tag).map_err(|allowed| Failure::usage(format!("--tag {tag:?} {allowed}")))?;
        script.arg(tag);
    }
    if let Some(folder) = &build.packages {
        script.env("DEVSANCTUM_PACKAGES", std::path::absolute(folder)?);
    }
    if let Some(host) = &build.docker_host {
        script.env("DOCKER_HOST", host);
    }
    Ok(())
}

/// A folder of our own with the script in it; it goes with the value.
struct Workshop(PathBuf);

impl Workshop {
    fn new() -> std::io::Result<Self> {
        let made = Self(std::env::temp_dir().join(format!("devsanctum-base-{}", uuid::Uuid::new_v4())));
        DirBuilder::new().mode(0o700).create(&made.0)?;
        for (path, mode, text) in FILES {
            let path = made.0.join(path);
            std::fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
            OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?.write_all(text.as_bytes())?;
        }
        Ok(made)
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
