//! Reads the extra instructions people write, in the words of a Dockerfile.
//!
//! What is read is what Docker would read, or nothing: an instruction or a form of one that is not known here is refused at
//! its line, never passed on.

use super::dockerfile::Instruction;
use super::options::{self, fill, in_shell, variable};
use super::word::Word;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// An instruction as somebody wrote it, before options have values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Extra {
    /// `RUN` with a script.
    Script(String),
    /// `RUN` with a JSON array.
    Program(Vec<String>),
    /// `ENV`.
    Env(Vec<(String, Word)>),
    /// `WORKDIR`.
    Workdir(String),
    /// `USER`.
    User(String),
}

/// Why a text is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Line, from 1.
    pub line: usize,
    /// What is wrong and what is allowed.
    pub message: String,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.message)
    }
}

impl Extra {
    /// The instruction with options' values.
    pub fn filled(&self, given: &BTreeMap<String, String>) -> Instruction {
        match self {
            Self::Script(script) => with_options(script, given),
            Self::Program(argv) => Instruction::Run(argv.iter().map(|a| fill(a, given)).collect()),
            Self::Env(all) => Instruction::Env(all.iter().map(|(name, value)| (name.clone(), value.filled(given))).collect()),
            Self::Workdir(path) => Instruction::Workdir(path.clone()),
            Self::User(name) => Instruction::User(name.clone()),
        }
    }

    /// Keys of the options it names.
    pub fn options(&self) -> BTreeSet<&str> {
        match self {
            Self::Script(script) => options::keys(script).collect(),
            Self::Program(argv) => argv.iter().flat_map(|a| options::keys(a)).collect(),
            Self::Env(all) => all.iter().flat_map(|(_, value)| value.options()).collect(),
            Self::Workdir(_) | Self::User(_) => BTreeSet::new(),
        }
    }
}

/// A script that is given options as arguments, which it makes variables first.
fn with_options(script: &str, given: &BTreeMap<String, String>) -> Instruction {
    let keys: BTreeSet<&str> = options::keys(script).collect();
    let take: String = keys.iter().map(|key| format!("export {}=\"$1\"; shift; ", variable(key))).collect();
    let values = keys.iter().map(|key| given.get(*key).cloned().unwrap_or_default());
    Instruction::script(take + &in_shell(script), values)
}

/// Reads instructions.
///
/// # Errors
/// At the first line that is not understood.
pub fn read(text: &str) -> Result<Vec<Extra>, Unreadable> {
    logical_lines(text)?
        .into_iter()
        .map(|(line, text)| instruction(&text).map_err(|message| Unreadable { line, message }))
        .collect()
}

/// Lines with what continues them, without comments, each with the number of its first.
fn logical_lines(text: &str) -> Result<Vec<(usize, String)>, Unreadable> {
    let (mut all, mut open): (Vec<(usize, String)>, bool) = (Vec::new(), false);
    for (line, raw) in (1..).zip(text.lines()) {
        let refuse = |message: &str| Err(Unreadable { line, message: message.into() });
        if raw.chars().any(|c| c.is_control() && c != '\t') {
            return refuse("must hold no control characters");
        }
        let trimmed = raw.trim();
        if let Some(comment) = trimmed.strip_prefix('#') {
            let word = comment.trim_start().to_ascii_lowercase();
            if all.is_empty() && ["escape", "syntax", "check"].iter().any(|d| word.strip_prefix(d).is_some_and(is_value)) {
                return refuse("directives to the builder ('# syntax=…', '# escape=…') are not read; leave it out");
            }
            continue;
        }
        if trimmed.is_empty() {
            continue;
        }
        let (body, more) = match trimmed.strip_suffix('\\') {
            Some(body) => (body, true),
            None => (trimmed, false),
        };
        match all.last_mut().filter(|_| open) {
            // What stands before the first word of a continued line belongs to the instruction.
            Some((_, so_far)) => so_far.push_str(&raw[..raw.len() - raw.trim_start().len()]),
            None => all.push((line, String::new())),
        }
        if let Some((_, so_far)) = all.last_mut() {
            so_far.push_str(body);
        }
        open = more;
    }
    Ok(all)
}

fn is_value(rest: &str) -> bool {
    rest.trim_start().starts_with('=')
}

fn instruction(text: &str) -> Result<Extra, String> {
    let (keyword, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let rest = rest.trim();
    if rest.is_empty() {
        return Err(format!("{keyword} needs something to work on"));
    }
    match keyword.to_ascii_uppercase().as_str() {
        "RUN" => run(rest),
        "ENV" => env(rest).map(Extra::Env),
        "WORKDIR" => plain("WORKDIR", rest, b"._-/").map(Extra::Workdir),
        "USER" => plain("USER", rest, b"._-:").map(Extra::User),
        other => Err(format!("{other} is not read here: {}", instead_of(other))),
    }
}

/// What to do in the place of an instruction that is not read.
fn instead_of(keyword: &str) -> &'static str {
    match keyword {
        "FROM" => "the image is given in 'base'",
        "COPY" | "ADD" => "there are no files beside it; fetch them in a RUN",
        "CMD" | "ENTRYPOINT" => "give 'startCommand', or 'services' that are kept running",
        "EXPOSE" => "give 'ports'",
        "VOLUME" => "give 'folders'",
        "ARG" => "give an option, or ENV",
        "LABEL" => "labels are the platform's",
        _ => "RUN, ENV, WORKDIR and USER are (here-documents are not: a line that ends with '\\' goes on in the next)",
    }
}

fn run(rest: &str) -> Result<Extra, String> {
    if rest.starts_with("--") {
        return Err("flags of RUN are not read: not every server's builder has them".into());
    }
    if rest.starts_with('[')
        && let Ok(argv) = serde_json::from_str::<Vec<String>>(rest)
    {
        return match argv.first() {
            None => Err("RUN needs a program".into()),
            Some(_) if argv.iter().any(|a| a.contains('\0')) => Err("no argument of RUN can hold a NUL byte".into()),
            Some(_) => Ok(Extra::Program(argv)),
        };
    }
    Ok(Extra::Script(rest.to_owned()))
}

/// A value of letters, digits and these, printed as it is. A builder takes what begins with '--' for a flag.
fn plain(keyword: &str, value: &str, also: &[u8]) -> Result<String, String> {
    let fine = |b: u8| b.is_ascii_alphanumeric() || also.contains(&b);
    if value.bytes().all(fine) && value.len() <= 255 && !value.starts_with('-') {
        return Ok(value.to_owned());
    }
    let also: Vec<String> = also.iter().map(|b| format!("'{}'", char::from(*b))).collect();
    Err(format!("{keyword} must be letters, digits or one of {}, 255 at most, and not begin with '-'", also.join(" ")))
}

/// `NAME=value NAME='va lue' …`, as Docker reads it.
fn env(text: &str) -> Result<Vec<(String, Word)>, String> {
    let (mut all, mut rest) = (Vec::new(), text);
    while !rest.is_empty() {
        let Some((name, value)) = rest.split_once('=').filter(|(name, _)| is_name(name)) else {
            return Err("ENV must be NAME=value, with names of letters, digits and '_' and no space around '='".into());
        };
        let (word, left) = word(value)?;
        all.push((name.to_owned(), word));
        rest = left.trim_start();
    }
    Ok(all)
}

fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_') && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// A value up to the first space that is in no quotes, and what comes after it.
fn word(text: &str) -> Result<(Word, &str), String> {
    let (mut word, mut quote, mut rest) = (Word::default(), None, text);
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        rest = match (quote, c) {
            (None, c) if c.is_whitespace() => return Ok((word, rest)),
            (None, '\'' | '"') => {
                quote = Some(c);
                after
            }
            (Some(open), c) if c == open => {
                quote = None;
                after
            }
            (None | Some('"'), '$') => variable_into(&mut word, after)?,
            (None, '\\') => escaped_into(&mut word, after, |_| true),
            (Some('"'), '\\') => escaped_into(&mut word, after, |c| "\"\\$".contains(c)),
            _ => match options::leading(rest) {
                Some((key, after)) => {
                    word.push_option(key);
                    after
                }
                None => {
                    word.push(c);
                    after
                }
            },
        };
    }
    if quote.is_some() { Err("a quote is not closed".into()) } else { Ok((word, rest)) }
}

/// What follows a backslash. Where it takes nothing's meaning away it is one.
fn escaped_into<'t>(word: &mut Word, after: &'t str, special: impl Fn(char) -> bool) -> &'t str {
    match after.chars().next().filter(|c| special(*c)) {
        Some(c) => {
            word.push(c);
            &after[c.len_utf8()..]
        }
        None => {
            word.push('\\');
            after
        }
    }
}

/// What follows a dollar: `NAME` or `{NAME}`.
fn variable_into<'t>(word: &mut Word, after: &'t str) -> Result<&'t str, String> {
    if let Some(braced) = after.strip_prefix('{') {
        let Some((name, left)) = braced.split_once('}').filter(|(name, _)| is_name(name)) else {
            return Err("only ${NAME} is read, without ':-' and the like".into());
        };
        word.push_variable(name);
        return Ok(left);
    }
    let end = after.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count();
    let (name, left) = after.split_at(end);
    if !is_name(name) {
        return Err("a '$' that names no variable must be written as '\\$'".into());
    }
    word.push_variable(name);
    Ok(left)
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
