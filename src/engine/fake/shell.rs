//! The tiny shell that stands for whatever runs in a container.
//!
//! `echo`, `cat`, `sleep`, `true`, `false`, `exit`, `id -u`, `pwd`, `stty size`, redirection to a file or to standard error, and
//! `sh -c` over `;`; a `while` and an `exec` run on for ever. `/proc/meminfo` and `df` tell what the fake was told to
//! have, and the scripts that look after repositories find any branch of any. Any other program does nothing and ends well as a command, and runs on for ever as a container's main process.

use std::collections::VecDeque;
use std::time::Duration;

/// Nobody waits for a sleep this long: no timer is set for it.
const FOR_EVER: u64 = 3600;

/// What a program does next.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    Out(Vec<u8>),
    Err(Vec<u8>),
    /// Writes a file.
    Write(String, Vec<u8>),
    /// Prints a file.
    Cat(String),
    /// Prints what comes in, to its end.
    CatInput,
    /// Prints the number of the user it runs as.
    User,
    /// Prints the folder it begins in.
    Folder,
    /// Prints the terminal's rows and columns.
    Size,
    Meminfo,
    Disk,
    /// Prints which of these `address port` pairs answer.
    Reach(Vec<(String, String)>),
    /// Fills what is mounted at `/to/…` from what is mounted at `/from/…`.
    CopyFolders,
    /// Clones a repository at a branch, unless it is there.
    Clone {
        head: String,
        branch: String,
    },
    Sleep(Duration),
    RunOn,
    Exit(i64),
}

/// A program that is not there.
#[derive(Debug, PartialEq)]
pub(super) struct Missing(pub(super) String);

/// The steps of a command; `main` for a container's main process.
pub(super) fn program(argv: &[String], main: bool) -> Result<VecDeque<Step>, Missing> {
    let words: Vec<&str> = argv.iter().map(String::as_str).collect();
    let steps = match words.as_slice() {
        ["sh" | "/bin/sh", "-c", _, "reach", targets @ ..] => reach(targets),
        ["sh" | "/bin/sh", "-c", _, "prepare", ..] => Vec::new(),
        ["sh" | "/bin/sh", "-c", _, "copy"] => vec![Step::CopyFolders],
        ["sh" | "/bin/sh", "-c", _, "clone", folder, name, _, branch, ..] => {
            vec![Step::Clone { head: format!("{folder}/{name}/.git/HEAD"), branch: (*branch).to_owned() }]
        }
        ["sh" | "/bin/sh", "-c", script, ..] => script.split([';', '\n']).flat_map(|c| command(&split(c))).collect(),
        [] => vec![Step::RunOn],
        [name, ..] if name.contains("no-such-program") => return Err(Missing((*name).to_owned())),
        [name, ..] if main && !is_known(name) => vec![Step::RunOn],
        all => command(&all.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>()),
    };
    Ok(steps.into())
}

/// As the first process of a container these ignore `TERM`: they have no handler for it.
pub(super) fn is_known(name: &str) -> bool {
    let name = name.strip_prefix("/bin/").unwrap_or(name);
    ["sh", "echo", "cat", "sleep", "true", "false", "stty", "df"].contains(&name)
}

fn reach(targets: &[&str]) -> Vec<Step> {
    let pairs = targets.chunks_exact(2).map(|p| (p[0].to_owned(), p[1].to_owned()));
    vec![Step::Reach(pairs.collect())]
}

/// Words of a command line; quotes hold a word together and nothing is expanded.
fn split(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None::<char>);
    for c in line.chars() {
        match quote {
            Some(q) if c == q => quote = None,
            Some(_) => word.get_or_insert_default().push(c),
            None if c == '\'' || c == '"' => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            None if c.is_whitespace() => words.extend(word.take()),
            None => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

fn command(words: &[String]) -> Vec<Step> {
    let to_error = words.iter().any(|w| w == ">&2");
    let file = words.iter().position(|w| w == ">").and_then(|at| words.get(at + 1)).cloned();
    let end = words.iter().position(|w| w.starts_with('>')).unwrap_or(words.len());
    let words: Vec<&str> = words[..end].iter().map(String::as_str).collect();
    match words.as_slice() {
        ["echo", rest @ ..] => {
            let line = format!("{}\n", rest.join(" ")).into_bytes();
            vec![match file {
                Some(path) => Step::Write(path, line),
                None if to_error => Step::Err(line),
                None => Step::Out(line),
            }]
        }
        ["cat"] => vec![Step::CatInput],
        ["cat", "/proc/meminfo"] => vec![Step::Meminfo],
        ["cat", path] => vec![Step::Cat((*path).to_owned())],
        ["df", ..] => vec![Step::Disk],
        ["id", "-u"] => vec![Step::User],
        ["pwd"] => vec![Step::Folder],
        ["stty", "size"] => vec![Step::Size],
        ["sleep", time] => vec![sleep(time)],
        // A loop, and whatever a script hands over to: as `sleep infinity`.
        ["while", ..] | ["exec", _, ..] => vec![Step::RunOn],
        ["false"] => vec![Step::Exit(1)],
        ["exit"] => vec![Step::Exit(0)],
        ["exit", code] => vec![Step::Exit(code.parse().unwrap_or(2))],
        _ => Vec::new(),
    }
}

fn sleep(time: &str) -> Step {
    match time.parse::<f64>().ok().and_then(|s| Duration::try_from_secs_f64(s).ok()) {
        Some(time) if time.as_secs() < FOR_EVER => Step::Sleep(time),
        _ => Step::RunOn,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(argv: &[&str], main: bool) -> Vec<Step> {
        program(&argv.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>(), main).unwrap().into()
    }

    #[test]
    fn a_script_becomes_steps() {
        let found = steps(&["sh", "-c", "echo 'a  b'; echo c >&2; echo d > /data/x; exit 3"], false);
        let expected = [
            Step::Out(b"a  b\n".to_vec()),
            Step::Err(b"c\n".to_vec()),
            Step::Write("/data/x".into(), b"d\n".to_vec()),
            Step::Exit(3),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn an_unknown_program_runs_on_only_as_the_main_one() {
        assert_eq!(steps(&["/init"], true), [Step::RunOn]);
        assert_eq!(steps(&["git", "clone"], false), []);
        assert_eq!(steps(&["sh", "-c", "while :; do nc -l -p 1 </dev/null; done"], true), [Step::RunOn]);
        assert_eq!(steps(&["sleep", "infinity"], true), [Step::RunOn]);
        assert!(program(&["/no-such-program".into()], true).is_err());
    }
}
