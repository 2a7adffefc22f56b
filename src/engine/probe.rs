//! What is asked of the probe container: free memory and disk, and what can be reached from inside.
//!
//! Docker's API tells neither. The commands need a POSIX shell and `cat`, `df`, `nc`, `timeout` as busybox has them.
//! Scripts are fixed; whatever varies is passed as a positional parameter, never pasted into a script.

use super::EngineError;
use std::net::SocketAddr;

/// Most bytes of output worth reading.
pub const OUTPUT_LIMIT: usize = 256 * 1024;
/// Targets asked for in one command; each takes up to a second, all at the same time.
pub const MAX_TARGETS: usize = 64;

/// Memory of a host in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// All there is.
    pub total: u64,
    /// What new programs can get without swapping; caches count as free.
    pub available: u64,
}

/// A file system in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Its size.
    pub total: u64,
    /// What is in use.
    pub used: u64,
    /// What may still be written; less than the rest where root keeps a reserve.
    pub available: u64,
}

fn argv(words: &[&str]) -> Vec<String> {
    words.iter().map(|w| (*w).to_owned()).collect()
}

/// What a host's processors have done since it was started, in ticks of its clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticks {
    busy: u64,
    all: u64,
}

impl Ticks {
    /// The part of all processors that was busy between two looks, from 0 to 1; `None` where the host was started anew between them,
    /// or none has passed.
    pub fn busy_since(self, before: Self) -> Option<f64> {
        let (busy, all) = (self.busy.checked_sub(before.busy)?, self.all.checked_sub(before.all)?);
        (all > 0).then(|| busy as f64 / all as f64)
    }
}

/// Prints the host's memory and ticks: neither `/proc/meminfo` nor the first line of `/proc/stat` is per container. The others of that
/// file may be long.
pub fn memory_command() -> Vec<String> {
    argv(&["sh", "-c", "cat /proc/meminfo; read -r ticks < /proc/stat; echo \"$ticks\""])
}

/// Reads of what [`memory_command`] printed what the processors did; `None` where that does not tell.
pub fn parse_ticks(text: &str) -> Option<Ticks> {
    let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
    // What guests have is in the first two already.
    let all: Vec<u64> = line.split_whitespace().take(8).map_while(|n| n.parse().ok()).collect();
    let [user, nice, system, idle, waits, rest @ ..] = all.as_slice() else { return None };
    let busy = [*user, *nice, *system].iter().chain(rest).sum::<u64>();
    Some(Ticks { busy, all: busy + idle + waits })
}

/// Reads what [`memory_command`] printed.
pub fn parse_memory(text: &str) -> Result<Memory, EngineError> {
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        let kibibytes = line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?;
        kibibytes.checked_mul(1024)
    };
    match (field("MemTotal"), field("MemAvailable")) {
        (Some(total), Some(available)) if available <= total => Ok(Memory { total, available }),
        _ => Err(unreadable("/proc/meminfo", text)),
    }
}

/// Prints the file system under the container's root, which lies in Docker's data folder.
pub fn disk_command() -> Vec<String> {
    argv(&["df", "-kP", "/"])
}

/// Reads what [`disk_command`] printed, by busybox or coreutils.
pub fn parse_disk(text: &str) -> Result<Disk, EngineError> {
    parse_df_line(text).ok_or_else(|| unreadable("df", text))
}

/// The last line: file system, size, used, available (KiB), percentage, mount point. The file system's name may hold
/// blanks, so fields are counted from the right; the mount point is `/`.
fn parse_df_line(text: &str) -> Option<Disk> {
    let mut fields = text.trim_end().lines().next_back()?.split_whitespace().rev();
    fields.next().filter(|mounted_on| *mounted_on == "/")?;
    fields.next().filter(|capacity| capacity.ends_with('%') || *capacity == "-")?;
    let mut bytes = || fields.next()?.parse::<u64>().ok()?.checked_mul(1024);
    let (available, used, total) = (bytes()?, bytes()?, bytes()?);
    (used <= total).then_some(Disk { total, used, available })
}

fn unreadable(what: &str, text: &str) -> EngineError {
    let shown: String = text.chars().take(200).collect();
    EngineError::Failed(format!("the probe's {what} cannot be read: {shown:?}"))
}

/// Tries every `address port` pair at once, each for a second.
///
/// busybox has two `nc`: one knows `-z`, the other runs a program once connected (`-e`, here one that says nothing).
/// A tool that fails would look like a closed port, so the script first finds a port of its own open, and says
/// `broken` when it does not.
const REACH: &str = r#"
try() {
  nc -z -w 1 "$1" "$2" </dev/null >/dev/null 2>&1 || nc -w 1 "$1" "$2" -e true </dev/null >/dev/null 2>&1
}
nc -l -p 40999 -e true </dev/null >/dev/null 2>&1 &
listener=$!
works=no
for i in 1 2 3 4 5 6 7 8 9 10; do
  if try 127.0.0.1 40999; then works=yes; break; fi
  sleep 0.1 2>/dev/null || sleep 1
done
kill $listener 2>/dev/null
[ $works = yes ] || { echo broken; exit 1; }
while [ $# -ge 2 ]; do
  (if try "$1" "$2"; then echo "open $1 $2"; fi) &
  shift 2
done
wait
echo done
"#;

/// Prints which of the targets accept a TCP connection within a second; nothing is sent to them. At most
/// [`MAX_TARGETS`] at once.
pub fn reach_command(targets: &[SocketAddr]) -> Result<Vec<String>, EngineError> {
    if targets.len() > MAX_TARGETS {
        return Err(EngineError::Invalid(format!("{} targets at once; at most {MAX_TARGETS}", targets.len())));
    }
    let mut words = argv(&["sh", "-c", REACH, "reach"]);
    words.extend(targets.iter().flat_map(|t| [t.ip().to_string(), t.port().to_string()]));
    Ok(words)
}

/// Reads what [`reach_command`] printed: the targets that answered. Output that is cut off, or of a probe that could
/// not even reach itself, is an error and never "nothing answered".
pub fn parse_reach(text: &str) -> Result<Vec<SocketAddr>, EngineError> {
    let mut lines: Vec<&str> = text.lines().collect();
    if lines.pop() != Some("done") {
        return Err(unreadable("check of what it can reach", text));
    }
    let open = |line: &&str| -> Option<SocketAddr> {
        let (address, port) = line.strip_prefix("open ")?.split_once(' ')?;
        Some(SocketAddr::new(address.parse().ok()?, port.parse().ok()?))
    };
    let mut found = lines.iter().map(open).collect::<Option<Vec<_>>>();
    found.iter_mut().for_each(|all| all.sort_unstable());
    found.ok_or_else(|| unreadable("check of what it can reach", text))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUSYBOX_DF: &str = "Filesystem           1024-blocks    Used Available Capacity Mounted on\n\
        overlay              264212084  21939944  73345944  23% /\n";
    const COREUTILS_DF: &str = "Filesystem     1024-blocks     Used Available Capacity Mounted on\n\
        /dev/vda         264212084 21939944  73345944      24% /\n";

    #[test]
    fn df_of_busybox_and_of_coreutils_reads_alike() {
        let disk = Disk { total: 264_212_084 << 10, used: 21_939_944 << 10, available: 73_345_944 << 10 };
        assert_eq!(parse_disk(BUSYBOX_DF), Ok(disk));
        assert_eq!(parse_disk(COREUTILS_DF), Ok(disk));
        assert_eq!(
            parse_disk("Filesystem 1024-blocks Used Available Capacity Mounted on\nmy disk 10 4 6 40% /\n").unwrap().used,
            4096
        );
    }

    #[test]
    fn what_df_did_not_print_is_an_error() {
        for text in ["", "Filesystem", "overlay 1 2 3 4% /data", "overlay 1 99 0 4% /", "overlay 99999999999999999999 1 1 1% /"] {
            assert!(parse_disk(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn memory_is_read_in_bytes() {
        let text = "MemTotal:       24684084 kB\nMemFree:        18449372 kB\nMemAvailable:   24086596 kB\nBuffers: 1 kB\n";
        assert_eq!(parse_memory(text), Ok(Memory { total: 24_684_084 << 10, available: 24_086_596 << 10 }));
        for text in ["", "MemTotal: 10 kB\n", "MemTotal: 10 kB\nMemAvailable: 11 kB\n", "MemTotal: x kB\nMemAvailable: 1 kB\n"] {
            assert!(parse_memory(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn what_processors_did_is_told_between_two_looks() {
        let first = parse_ticks("MemTotal: 1 kB\ncpu  100 0 100 700 100 0 0 0 50 0\n").unwrap();
        let then = parse_ticks("cpu  150 0 120 720 100 5 5 0 90 0\n").unwrap();
        assert_eq!(then.busy_since(first), Some(0.8));
        assert_eq!((first.busy_since(then), first.busy_since(first)), (None, None), "started anew, or at once");
        assert_eq!([parse_ticks(""), parse_ticks("$ticks"), parse_ticks("cpu  1 2")], [None; 3]);
    }

    #[test]
    fn targets_are_arguments_and_never_part_of_the_script() {
        let words = reach_command(&["127.0.0.1:80".parse().unwrap(), "[::1]:443".parse().unwrap()]).unwrap();
        assert_eq!(words[..2], ["sh", "-c"]);
        assert_eq!(words[3..], ["reach", "127.0.0.1", "80", "::1", "443"]);
        assert!(!words[2].contains("127.0.0.1 80"));
    }

    #[test]
    fn a_check_that_did_not_end_is_not_taken_for_silence() {
        assert_eq!(parse_reach("done\n"), Ok(vec![]));
        assert_eq!(parse_reach("open 10.0.0.1 80\ndone\n"), Ok(vec!["10.0.0.1:80".parse().unwrap()]));
        for text in ["", "broken\n", "open 10.0.0.1 80\n", "open x 80\ndone\n", "sh: nc: not found\ndone\n"] {
            assert!(parse_reach(text).is_err(), "{text:?}");
        }
    }

    #[tokio::test]
    async fn the_real_script_tells_open_from_closed() {
        let open = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let targets = [open.local_addr().unwrap(), closed.local_addr().unwrap()];
        drop(closed);
        let dir = tempfile::tempdir().unwrap();
        let Ok(busybox) = std::fs::canonicalize("/bin/busybox") else { return };
        for applet in ["sh", "nc", "sleep", "true"] {
            std::os::unix::fs::symlink(&busybox, dir.path().join(applet)).unwrap();
        }
        let words = reach_command(&targets).unwrap();
        let mut run = tokio::process::Command::new(dir.path().join("sh"));
        let output = run.args(&words[1..]).env("PATH", dir.path()).output().await.unwrap();
        assert_eq!(parse_reach(&String::from_utf8_lossy(&output.stdout)), Ok(vec![targets[0]]));
    }
}
