//! `cp`: files into a workspace and out of it, by way of its `tar`.

use super::args::CpArgs;
use super::connect::Context;
use super::failure::Failure;
use super::{exec, logs};
use crate::resource::Workspace;
use kube::Api;
use kube::api::{AttachParams, AttachedProcess};
use std::fs;
use std::io::{Read, Write};
use std::path::{Component, Path, PathBuf};
use tokio::io::AsyncWriteExt;
use tokio_util::io::SyncIoBridge;

/// Data under way.
const BUFFER: usize = 256 << 10;

/// A side of the copy.
#[derive(Debug, PartialEq, Eq)]
enum Side<'a> {
    Here(&'a Path),
    There { workspace: &'a str, path: &'a str },
}

/// Runs `cp`.
///
/// # Errors
/// When not exactly one side is a workspace, what is to be copied is not there, or a file cannot be written.
pub async fn run(context: &Context, args: CpArgs) -> Result<(), Failure> {
    let api: Api<Workspace> = Api::namespaced(context.client.clone(), &context.namespace);
    let of = |workspace| -> Result<Inside, Failure> {
        Ok(Inside { api: api.clone(), name: logs::workspace(workspace)?.to_owned(), container: args.container.clone() })
    };
    match (side(&args.from)?, side(&args.to)?) {
        (Side::Here(from), Side::There { workspace, path }) => of(workspace)?.put(from, path).await,
        (Side::There { workspace, path }, Side::Here(to)) => of(workspace)?.fetch(path, to).await,
        _ => Err(Failure::usage("one side must be in a workspace, as WORKSPACE:PATH, and the other one here")
            .hint("a file here whose name holds a colon is written ./NAME")),
    }
}

/// What holds a colon before any slash is in a workspace.
fn side(word: &str) -> Result<Side<'_>, Failure> {
    match word.split_once(':') {
        Some((workspace, path)) if !workspace.is_empty() && !workspace.starts_with(['.', '/']) => {
            if path.is_empty() {
                return Err(Failure::usage(format!("{word:?} names no file: must be WORKSPACE:PATH")));
            }
            Ok(Side::There { workspace, path })
        }
        _ => Ok(Side::Here(Path::new(word))),
    }
}

/// Splits a path in a workspace into its folder and its last name.
fn split(path: &str) -> Option<(&str, &str)> {
    let path = if path.len() > 1 { path.trim_end_matches('/') } else { path };
    let (folder, name) = path.rsplit_once('/').map_or((".", path), |(f, n)| (if f.is_empty() { "/" } else { f }, n));
    (!matches!(name, "" | "." | "..")).then_some((folder, name))
}

/// A container of a workspace.
struct Inside {
    api: Api<Workspace>,
    name: String,
    container: Option<String>,
}

impl Inside {
    async fn start(&self, command: &[&str], stdin: bool) -> Result<AttachedProcess, Failure> {
        let size = Some(BUFFER);
        let params = AttachParams {
            container: self.container.clone(),
            stdin,
            stdout: true,
            stderr: true,
            tty: false,
            max_stdin_buf_size: size,
            max_stdout_buf_size: size,
            max_stderr_buf_size: size,
        };
        Ok(self.api.exec(&self.name, command.iter().copied(), &params).await?)
    }

    async fn is_folder(&self, path: &str) -> Result<bool, Failure> {
        let mut process = self.start(&["test", "-d", path], false).await?;
        let (_, status) = exec::ended(&mut process, async {}).await;
        Ok(status.is_some_and(|s| s.is_success()))
    }

    async fn put(&self, from: &Path, path: &str) -> Result<(), Failure> {
        let about = fs::symlink_metadata(from).map_err(|e| Failure::new(format!("{}: {e}", from.display())))?;
        let own = from.canonicalize().ok().and_then(|p| Some(p.file_name()?.to_owned()));
        let name = from.file_name().map(ToOwned::to_owned).or(own);
        let (folder, name) = match (self.is_folder(path).await?, name) {
            (true, Some(name)) => (path.to_owned(), PathBuf::from(name)),
            _ => split(path).map(|(f, n)| (f.to_owned(), PathBuf::from(n))).ok_or_else(|| no_name(path))?,
        };
        // As files the user makes: neither the owners of this machine's nor anything else's.
        let mut process = self.start(&["tar", "-xof", "-", "-C", &folder], true).await?;
        let Some(mut input) = process.stdin() else { return Err(Failure::new("the API opened no input")) };
        let from = from.to_owned();
        let (theirs, mut ours) = tokio::io::duplex(BUFFER);
        let written = tokio::task::spawn_blocking(move || pack(SyncIoBridge::new(theirs), &from, &name, about.is_dir()));
        let sending = async move {
            let _ = tokio::io::copy(&mut ours, &mut input).await;
            let _ = input.shutdown().await;
            std::future::pending::<()>().await
        };
        // Once tar has ended nobody reads any more, and what still writes is told so.
        let told = tokio::select! { told = finish(process) => told, () = sending => Ok(()) };
        // What tar says of a copy that broke off says more than the broken pipe.
        told?;
        written.await.map_err(|e| Failure::new(e.to_string()))?.map_err(|e| Failure::new(format!("the copy broke off: {e}")))
    }

    async fn fetch(&self, path: &str, to: &Path) -> Result<(), Failure> {
        let (folder, name) = split(path).ok_or_else(|| no_name(path))?;
        let mut process = self.start(&["tar", "-cf", "-", "-C", folder, "--", name], false).await?;
        let Some(output) = process.stdout() else { return Err(Failure::new("the API opened no output")) };
        let (name, to) = (name.to_owned(), to.to_owned());
        let read = tokio::task::spawn_blocking(move || unpack(SyncIoBridge::new(output), &name, &to));
        let (read, told) = tokio::join!(read, finish(process));
        told?;
        read.map_err(|e| Failure::new(e.to_string()))?
    }
}

fn no_name(path: &str) -> Failure {
    Failure::usage(format!("{path:?} names no file of its own: write out its name"))
}

/// Waits for the end of `tar`, and says what it said where it failed.
async fn finish(mut process: AttachedProcess) -> Result<(), Failure> {
    let errors = process.stderr();
    let (words, status) = exec::ended(&mut process, exec::text(errors)).await;
    exec::finish(status).map_err(|failure| match words.unwrap_or_default().trim() {
        "" => failure,
        words => Failure::new(words.to_owned()).hint("the workspace's own tar copies: it must be in the image"),
    })
}

/// Writes a file or folder as a tar archive, under this name.
fn pack(to: impl Write, from: &Path, name: &Path, is_folder: bool) -> std::io::Result<()> {
    let mut archive = tar::Builder::new(std::io::BufWriter::with_capacity(BUFFER, to));
    archive.follow_symlinks(false);
    // Holes are sent as zeros: a file system that counts no blocks has no holes, and not every tar knows GNU's form of them.
    archive.sparse(false);
    if is_folder {
        archive.append_dir_all(name, from)?;
    } else {
        archive.append_path_with_name(from, name)?;
    }
    archive.into_inner()?.flush()
}

/// Reads an archive whose one root is `name` to where it is wanted. Nothing is written anywhere else, whatever it says.
fn unpack(from: impl Read, name: &str, to: &Path) -> Result<(), Failure> {
    let failed = |e: std::io::Error| Failure::new(format!("{}: {e}", to.display()));
    let from = std::io::BufReader::with_capacity(BUFFER, from);
    if to.is_dir() {
        return extract(from, name, to).map_err(failed);
    }
    // Under another name: first beside it, so that what is there is replaced whole or not at all.
    let parent = to.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let beside = parent.join(format!(".{}.{}", to.file_name().unwrap_or_default().display(), uuid::Uuid::new_v4()));
    fs::create_dir(&beside).map_err(failed)?;
    let done = extract(from, name, &beside).and_then(|()| fs::rename(beside.join(name), to));
    let _ = fs::remove_dir_all(&beside);
    done.map_err(failed)
}

fn extract(from: impl Read, name: &str, into: &Path) -> std::io::Result<()> {
    let mut archive = tar::Archive::new(from);
    archive.set_preserve_mtime(true);
    archive.set_unpack_xattrs(false);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let root = path.components().find(|c| *c != Component::CurDir);
        // What lies outside is refused there as well: a name that climbs, and one below a link that leads out.
        if root != Some(Component::Normal(name.as_ref())) || !entry.unpack_in(into)? {
            return Err(std::io::Error::other(format!("the workspace sent {path:?}, which is not part of {name:?}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_are_told_apart_by_the_colon() {
        assert_eq!(side("web:/a:b").unwrap(), Side::There { workspace: "web", path: "/a:b" });
        assert_eq!(side("./web:a").unwrap(), Side::Here(Path::new("./web:a")));
        assert_eq!(side("/tmp/a:b").unwrap(), Side::Here(Path::new("/tmp/a:b")));
        assert!(side("web:").is_err());
    }

    #[test]
    fn a_path_is_split_at_its_last_name() {
        assert_eq!(split("/a/b"), Some(("/a", "b")));
        assert_eq!(split("/a/b/"), Some(("/a", "b")));
        assert_eq!(split("/a"), Some(("/", "a")));
        assert_eq!(split("a"), Some((".", "a")));
        for none in ["/", "..", "/a/..", "."] {
            assert_eq!(split(none), None, "{none}");
        }
    }

    #[test]
    fn a_file_with_holes_is_sent_with_its_zeros() {
        let folder = tempfile::tempdir().unwrap();
        let holes = folder.path().join("holes");
        std::fs::File::create(&holes).unwrap().set_len(1 << 20).unwrap();
        let mut sent = Vec::new();
        pack(&mut sent, &holes, Path::new("holes"), false).unwrap();
        let mut archive = tar::Archive::new(sent.as_slice());
        let entry = archive.entries().unwrap().next().unwrap().unwrap();
        assert_eq!((entry.header().entry_type(), entry.size()), (tar::EntryType::Regular, 1 << 20));
        assert!(sent.len() > 1 << 20, "{}", sent.len());
    }

    fn archive(build: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        build(&mut builder);
        builder.into_inner().expect("an archive")
    }

    fn file(builder: &mut tar::Builder<Vec<u8>>, path: &str) {
        let mut header = tar::Header::new_gnu();
        // The library itself writes no such names.
        header.as_gnu_mut().expect("a header").name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_size(3);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append(&header, &b"bad"[..]).expect("an entry");
    }

    fn link(builder: &mut tar::Builder<Vec<u8>>, path: &str, to: &str) {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        builder.append_link(&mut header, path, to).expect("a link");
    }

    #[test]
    fn what_a_hostile_workspace_sends_stays_where_it_was_asked_for() {
        let ground = tempfile::tempdir().expect("a folder");
        let (outside, to) = (ground.path().join("outside"), ground.path().join("to"));
        for folder in [&outside, &to] {
            fs::create_dir(folder).expect("a folder");
        }
        let climbing = archive(|b| file(b, "x/../../outside/evil"));
        let absolute = archive(|b| file(b, "/tmp/evil"));
        let other = archive(|b| file(b, "y"));
        let linked = archive(|b| {
            link(b, "x", outside.to_str().expect("text"));
            file(b, "x/evil");
        });
        for (what, sent) in [("climbing", climbing), ("absolute", absolute), ("other", other), ("linked", linked)] {
            assert!(unpack(&sent[..], "x", &to).is_err(), "{what}");
            assert!(unpack(&sent[..], "x", &to.join("new")).is_err(), "{what}, under another name");
        }
        assert_eq!(fs::read_dir(&outside).expect("a folder").count(), 0);
        assert!(!ground.path().join("evil").exists() && !to.join("y").exists() && !to.join("new").exists());
        let left: Vec<_> = fs::read_dir(&to).expect("a folder").flatten().map(|e| e.file_name()).collect();
        assert!(left.iter().all(|name| name == "x"), "{left:?}");
    }

    #[test]
    fn what_was_packed_is_there_under_its_new_name() {
        let ground = tempfile::tempdir().expect("a folder");
        let from = ground.path().join("from");
        fs::create_dir_all(from.join("deep")).expect("a folder");
        fs::write(from.join("deep/a"), "text").expect("a file");
        std::os::unix::fs::symlink("deep/a", from.join("link")).expect("a link");
        let mut sent = Vec::new();
        pack(&mut sent, &from, Path::new("x"), true).expect("an archive");
        let to = ground.path().join("to");
        unpack(&sent[..], "x", &to).expect("unpacked");
        assert_eq!(fs::read_to_string(to.join("deep/a")).expect("a file"), "text");
        assert_eq!(fs::read_link(to.join("link")).expect("a link"), Path::new("deep/a"));
        fs::create_dir(ground.path().join("into")).expect("a folder");
        unpack(&sent[..], "x", &ground.path().join("into")).expect("unpacked");
        assert!(ground.path().join("into/x/deep/a").exists());
    }
}
