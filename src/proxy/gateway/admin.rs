//! Telling a gateway where names lead, and asking what stands open: HAProxy's own commands, over a connection of ours.

use super::haproxy::{self, Session, map_file};
use super::{ADMIN, Fence, Identity, MAP_LINE, Way, domain};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// Longest time a command may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// HAProxy takes no longer command than its buffers, 16 KiB.
const LINES: usize = 12 * 1024 / MAP_LINE;
/// Sessions that are ended by one line.
const AT_ONCE: usize = 100;
/// No answer is longer.
const LONGEST: u64 = 64 << 20;

/// A gateway, as the control plane speaks with it.
#[derive(Clone)]
pub struct Admin {
    way: Way,
    fence: Fence,
}

impl Admin {
    /// The gateway of a server, by its record's name and uid, where it listens, the control plane's own identity, and whether this
    /// process may act: what changes something is asked of that right before it goes out.
    pub fn new(server: &str, uid: &str, gateway: &str, identity: Arc<Identity>, fence: Fence) -> Self {
        let name = format!("{ADMIN}.{}", domain(uid));
        Self { way: Way { server: server.to_owned(), gateway: gateway.to_owned(), name, identity }, fence }
    }

    /// Where names lead now.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn map(&self) -> io::Result<BTreeMap<String, String>> {
        Ok(haproxy::map(&self.ask(&format!("show map {}\n", map_file())).await?))
    }

    /// Has names lead where these say, and no others anywhere: all at once.
    ///
    /// # Errors
    /// When it does not answer, or does not take it; it is as it was then.
    pub async fn lead(&self, wanted: &BTreeMap<String, String>) -> io::Result<()> {
        let file = map_file();
        let said = self.ask(&format!("prepare map {file}\n")).await?;
        let version = said.trim().rsplit(' ').next().and_then(|n| n.parse::<u64>().ok());
        let version = version.ok_or_else(|| io::Error::other(format!("it begins no new map: {}", said.trim())))?;
        let lines: Vec<String> = wanted.iter().map(|(name, to)| format!("{name} {to}\n")).collect();
        for some in lines.chunks(LINES) {
            self.done(&format!("add map @{version} {file} <<\n{}\n", some.concat())).await?;
        }
        self.done(&format!("commit map @{version} {file}\n")).await
    }

    /// What it carries now.
    ///
    /// # Errors
    /// When it does not answer, or tells something else.
    pub async fn sessions(&self) -> io::Result<Vec<Session>> {
        haproxy::sessions(&self.ask("show sess all\n").await?).map_err(io::Error::other)
    }

    /// Ends these. One that has ended by itself is no error.
    ///
    /// # Errors
    /// When it does not answer, or this process may not act.
    pub async fn end(&self, sessions: &[Session]) -> io::Result<()> {
        for some in sessions.chunks(AT_ONCE) {
            let all: Vec<String> = some.iter().map(|s| format!("shutdown session {}", s.handle)).collect();
            self.ask(&format!("{}\n", all.join(";"))).await?;
        }
        Ok(())
    }

    /// A command that says nothing where it is done.
    async fn done(&self, command: &str) -> io::Result<()> {
        let said = self.ask(command).await?;
        if said.trim().is_empty() { Ok(()) } else { Err(io::Error::other(format!("its gateway says: {}", said.trim()))) }
    }

    async fn ask(&self, command: &str) -> io::Result<String> {
        let asked = async {
            let mut stream = self.way.connect().await?;
            // The handshake may have taken seconds, in which the lead went to another.
            if !command.starts_with("show ") && !(self.fence)() {
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, "this process may not act now"));
            }
            stream.write_all(command.as_bytes()).await?;
            stream.flush().await?;
            let mut said = Vec::new();
            match (&mut stream).take(LONGEST).read_to_end(&mut said).await {
                Ok(_) => {}
                // It hangs up without a word when it has said all; all that it says ends with a line's end.
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof && said.ends_with(b"\n") => {}
                Err(e) => return Err(e),
            }
            if said.is_empty() {
                return Err(io::Error::new(io::ErrorKind::ConnectionReset, "its gateway hangs up"));
            }
            Ok(String::from_utf8_lossy(&said).into_owned())
        };
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "its gateway does not answer");
        timeout(PATIENCE, asked).await.map_err(late)?
    }
}
