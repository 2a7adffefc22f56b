//! `{{option.KEY}}` in texts. It is replaced once: what a value holds is never looked at again.

use std::collections::BTreeMap;

const OPEN: &str = "{{option.";
const CLOSE: &str = "}}";

/// A stretch of a text, or an option's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    Text(&'a str),
    Option(&'a str),
}

pub(super) fn pieces(text: &str) -> Vec<Piece<'_>> {
    let (mut all, mut rest) = (Vec::new(), text);
    while let Some((before, (key, after))) = rest.split_once(OPEN).and_then(|(b, a)| Some((b, a.split_once(CLOSE)?))) {
        all.extend([Piece::Text(before), Piece::Option(key)]);
        rest = after;
    }
    all.push(Piece::Text(rest));
    all
}

/// The option a text begins with, and what comes after it.
pub(super) fn leading(text: &str) -> Option<(&str, &str)> {
    text.strip_prefix(OPEN)?.split_once(CLOSE)
}

/// Keys of the options a text names.
pub fn keys(text: &str) -> impl Iterator<Item = &str> {
    pieces(text).into_iter().filter_map(|piece| if let Piece::Option(key) = piece { Some(key) } else { None })
}

/// A text with options' values in the place of their names; one without a value is nothing.
pub fn fill(text: &str, options: &BTreeMap<String, String>) -> String {
    let value = |piece| match piece {
        Piece::Text(text) => text,
        Piece::Option(key) => options.get(key).map_or("", String::as_str),
    };
    pieces(text).into_iter().map(value).collect()
}

/// The variable that holds an option in a script.
pub(super) fn variable(key: &str) -> String {
    format!("OPTION_{key}")
}

/// A shell script in which variables stand for options, quoted as the place asks: a value is never read as a part of the
/// script. In a here-document, and in quotes within `$(…)`, the place is taken for what it is not; what comes of it is a wrong
/// text at most.
pub(super) fn in_shell(script: &str) -> String {
    let (mut out, mut place) = (String::with_capacity(script.len()), Place::default());
    for piece in pieces(script) {
        if matches!(piece, Piece::Option(_)) && std::mem::take(&mut place.escaped) {
            // A backslash before it would take away the quote that is put there.
            out.pop();
        }
        match (piece, place.quote) {
            (Piece::Text(text), _) => {
                place.pass(text);
                out.push_str(text);
            }
            (Piece::Option(key), None) => out.push_str(&format!("\"${{{}}}\"", variable(key))),
            (Piece::Option(key), Some('\'')) => out.push_str(&format!("'\"${{{}}}\"'", variable(key))),
            (Piece::Option(key), Some(_)) => out.push_str(&format!("${{{}}}", variable(key))),
        }
        if let Piece::Option(_) = piece {
            place.in_word = true;
        }
    }
    out
}

/// Where in a script one is.
#[derive(Default)]
struct Place {
    /// Within quotes of this kind.
    quote: Option<char>,
    in_word: bool,
    in_comment: bool,
    escaped: bool,
}

impl Place {
    fn pass(&mut self, text: &str) {
        for c in text.chars() {
            if std::mem::take(&mut self.escaped) {
                self.in_word = true;
                continue;
            }
            if self.in_comment {
                self.in_comment = c != '\n';
                continue;
            }
            match (self.quote, c) {
                (None | Some('"'), '\\') => self.escaped = true,
                (None, '#') if !self.in_word => self.in_comment = true,
                (None, '\'' | '"') => self.quote = Some(c),
                (Some(open), c) if c == open => self.quote = None,
                _ => {}
            }
            self.in_word = self.quote.is_some() || !(c.is_whitespace() || ";|&()".contains(c));
        }
    }
}

/// A text as one word of a shell script.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn values_are_not_looked_at_again() {
        let options = given(&[("A", "{{option.B}}"), ("B", "b")]);
        assert_eq!(fill("x{{option.A}}y{{option.B}}{{option.C}}z {{option.", &options), "x{{option.B}}ybz {{option.");
        assert_eq!(keys("{{option.A}} {{option.B}} {{option.").collect::<Vec<_>>(), ["A", "B"]);
    }

    /// What a script says when `X` has this value, by a real shell.
    fn said(script: &str, value: &str) -> String {
        let done = std::process::Command::new("/bin/sh")
            .args(["-c", &in_shell(script)])
            .env("OPTION_X", value)
            .output()
            .expect("a shell");
        String::from_utf8(done.stdout).expect("text")
    }

    #[test]
    fn a_value_is_one_word_of_a_script_wherever_it_stands() {
        let hostile =
            ["a  b", "'; echo out; '", "\"; echo out; \"", "$(echo out)", "`echo out`", "\\", "*", "-n", "${HOME}", "#", ""];
        for value in hostile {
            for script in [
                "printf '<%s>' {{option.X}}",
                "printf '<%s>' '{{option.X}}'",
                "printf '<%s>' \"{{option.X}}\"",
                "# it's one; \"\nprintf '<%s>' {{option.X}}",
                "printf '<%s>' \\\n{{option.X}}",
                "printf '<%s>' \\{{option.X}}",
                "echo \"a\\\"\" >/dev/null; printf '<%s>' '{{option.X}}'",
            ] {
                assert_eq!(said(script, value), format!("<{value}>"), "{script}");
            }
            assert_eq!(said("printf '<%s>' --x={{option.X}}#", value), format!("<--x={value}#>"));
        }
    }

    #[test]
    fn a_quoted_text_is_one_word() {
        for text in ["it's", "", "a b", "$x", "'"] {
            let done = std::process::Command::new("/bin/sh").args(["-c", &format!("printf %s {}", quoted(text))]).output();
            assert_eq!(done.expect("a shell").stdout, text.as_bytes());
        }
    }
}
