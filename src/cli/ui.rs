//! Writing for a person or a pipe.

use super::args::When;
use super::failure::Failure;
use std::io::{IsTerminal, Write};

/// How to write.
#[derive(Clone, Copy, Debug)]
pub struct Ui {
    /// Colour standard output.
    pub color: bool,
}

/// What a piece of text says, for its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// As wanted.
    Good,
    /// On its way, or to look at.
    Fair,
    /// Not as wanted.
    Bad,
    /// Of less weight.
    Dim,
    /// A heading.
    Strong,
}

impl Ui {
    /// Colour as asked for; on a terminal alone when left open, and never where `NO_COLOR` is set.
    pub fn new(color: When) -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        let color = match color {
            When::Always => true,
            When::Never => false,
            When::Auto => std::io::stdout().is_terminal() && !plain,
        };
        Self { color }
    }

    /// Colours a piece of text.
    pub fn paint(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            _ if !self.color || text.is_empty() => return text.to_owned(),
            Tone::Good => "32",
            Tone::Fair => "33",
            Tone::Bad => "31",
            Tone::Dim => "2",
            Tone::Strong => "1",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}

/// Writes a text to standard output, ending the line.
///
/// # Errors
/// When standard output is closed; see [`Failure`] for a reader that has left.
pub fn say(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        out.write_all(b"\n")?;
    }
    Ok(out.flush()?)
}

/// Writes a note to standard error: for the person, not for the pipe.
pub fn note(text: &str) {
    // Nothing is left to tell when even standard error is closed.
    let _ = writeln!(std::io::stderr(), "{}", clean_lines(text));
}

/// Writes a note to standard error when a person is looking on.
pub fn progress(text: &str) {
    if std::io::stderr().is_terminal() {
        note(text);
    }
}

/// A text of one line without control characters: what comes from records must not steer the terminal.
pub fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The same for a text of several lines.
pub fn clean_lines(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { ' ' } else { c }).collect()
}

/// Columns padded to their widest cell and set three spaces apart, as kubectl does.
pub fn columns(rows: &[Vec<String>]) -> Vec<String> {
    let mut widths: Vec<usize> = Vec::new();
    for row in rows {
        widths.resize(widths.len().max(row.len()), 0);
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |row: &Vec<String>| {
        let last = row.len().saturating_sub(1);
        let pad = |(i, cell): (usize, &String)| if i == last { cell.clone() } else { format!("{cell:<w$}   ", w = widths[i]) };
        row.iter().enumerate().map(pad).collect::<String>().trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// How long something is ago, as kubectl prints ages: `5s`, `3m20s`, `2h5m`, `3d4h`.
pub fn age(seconds: i64) -> String {
    let s = seconds.max(0);
    let (m, h, d) = (s / 60, s / 3600, s / 86_400);
    let two = |big: i64, unit: char, small: i64, rest: char| {
        if small == 0 { format!("{big}{unit}") } else { format!("{big}{unit}{small}{rest}") }
    };
    match s {
        0..120 => format!("{s}s"),
        120..600 => two(m, 'm', s % 60, 's'),
        600..10_800 => format!("{m}m"),
        10_800..28_800 => two(h, 'h', m % 60, 'm'),
        28_800..172_800 => format!("{h}h"),
        172_800..691_200 => two(d, 'd', h % 24, 'h'),
        _ => format!("{d}d"),
    }
}

/// The age of an RFC 3339 time, or the text itself where it is none.
pub fn age_of(time: &str) -> String {
    match time.parse::<jiff::Timestamp>() {
        Ok(then) => age(jiff::Timestamp::now().as_second() - then.as_second()),
        Err(_) if time.is_empty() => "<unknown>".into(),
        Err(_) => clean(time),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_and_end_without_spaces() {
        let rows = [vec!["NAME".into(), "AGE".into()], vec!["a-long-name".into(), String::new()], vec!["b".into(), "3s".into()]];
        assert_eq!(columns(&rows), ["NAME          AGE", "a-long-name", "b             3s"]);
    }

    #[test]
    fn ages_read_as_kubectl_writes_them() {
        let cases = [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (200, "3m20s"),
            (3600, "60m"),
            (10_860, "3h1m"),
            (90_000, "25h"),
            (190_000, "2d4h"),
        ];
        for (seconds, text) in cases {
            assert_eq!(age(seconds), text);
        }
    }

    #[test]
    fn records_cannot_steer_the_terminal() {
        assert_eq!(clean("a\u{1b}[2Jb\nc"), "a [2Jb c");
    }

    #[test]
    fn nothing_is_coloured_unless_asked() {
        assert_eq!(Ui { color: false }.paint(Tone::Bad, "x"), "x");
        assert_eq!(Ui { color: true }.paint(Tone::Bad, "x"), "\u{1b}[31mx\u{1b}[0m");
    }
}
