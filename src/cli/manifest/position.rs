//! Where each field of a document stands in its file, and how a complaint about it is shown.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

/// A place in a text; both counts start at 1, columns count characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
}

/// A text and what to call it in messages.
#[derive(Debug)]
pub struct Source {
    /// File name as the user gave it, or `<stdin>`.
    pub name: String,
    /// Its whole text.
    pub text: String,
}

impl Source {
    /// The text from the beginning of the document that a line is in.
    fn document(&self, line: usize) -> &str {
        let (mut begin, mut offset) = (0, 0);
        for (number, text) in self.text.split_inclusive('\n').enumerate().take(line) {
            if number > 0 && is_marker(text) {
                begin = offset;
            }
            offset += text.len();
        }
        &self.text[begin..]
    }
}

/// True when the first document of a text may be a Secret: none of its text is shown then. A document that cannot be
/// read has no kind yet, so the word alone decides, and rather once too often.
pub fn may_be_secret(text: &str) -> bool {
    let document = text.split_inclusive('\n').enumerate().take_while(|(i, line)| *i == 0 || !is_marker(line));
    document.into_iter().any(|(_, line)| {
        let kind = line.find("kind").map(|at| line[at..].to_lowercase());
        line.contains("Secret") || kind.is_some_and(|rest| rest.contains("secret"))
    })
}

/// A line that begins a document.
fn is_marker(line: &str) -> bool {
    line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace))
}

/// The places of a value and of everything in it; the same shape as the value.
#[derive(Clone, Debug)]
pub struct Node {
    /// Where the value starts.
    pub at: Mark,
    /// Where its key starts, for a value in a map.
    pub key: Option<Mark>,
    /// What is in it.
    pub children: Children,
}

/// What a value contains.
#[derive(Clone, Debug)]
pub enum Children {
    /// A scalar contains nothing.
    None,
    /// Fields by key.
    Map(BTreeMap<String, Node>),
    /// Entries in order.
    List(Vec<Node>),
}

impl Node {
    /// A node for a scalar.
    pub fn leaf(at: Mark) -> Self {
        Self { at, key: None, children: Children::None }
    }

    /// The place to show for a value: the value itself when it is a scalar, its key otherwise.
    pub fn shown(&self) -> Mark {
        match (&self.children, self.key) {
            (Children::None, _) | (_, None) => self.at,
            (_, Some(key)) => key,
        }
    }

    /// Finds the place of a field path as the server writes it (`spec.ports[0].port`, `spec.env[KEY]`,
    /// `metadata.labels.a.b/c`). A field that is not there gets the place of the deepest one around it.
    pub fn find(&self, path: &str) -> Mark {
        let (mut node, mut rest) = (self, path.trim_start_matches('.'));
        while !rest.is_empty() {
            let Some((child, after)) = node.step(rest) else { break };
            (node, rest) = (child, after);
        }
        node.shown()
    }

    fn step<'p>(&self, path: &'p str) -> Option<(&Node, &'p str)> {
        if let Some(inner) = path.strip_prefix('[') {
            let (key, after) = inner.split_once(']')?;
            return Some((self.child(key.trim_matches(['"', '\'']))?, after.trim_start_matches('.')));
        }
        // A key may itself contain dots: the longest one that fits is meant.
        let ends = path.char_indices().filter(|(_, c)| matches!(c, '.' | '[')).map(|(i, _)| i);
        let mut ends: Vec<usize> = ends.chain([path.len()]).collect();
        ends.reverse();
        ends.into_iter().find_map(|end| Some((self.child(&path[..end])?, path[end..].trim_start_matches('.'))))
    }

    /// The node of a key or, in a list, of an index.
    pub fn child(&self, key: &str) -> Option<&Node> {
        match &self.children {
            Children::None => None,
            Children::Map(fields) => fields.get(key),
            Children::List(entries) => entries.get(key.parse::<usize>().ok()?),
        }
    }
}

/// Something wrong with a manifest, and where.
#[derive(Clone, Debug)]
pub struct Complaint {
    /// The text it is about.
    pub source: Arc<Source>,
    /// The place, when there is one.
    pub at: Option<Mark>,
    /// What is wrong.
    pub message: String,
}

impl Complaint {
    /// A complaint about a place.
    pub fn at(source: &Arc<Source>, at: Mark, message: impl Into<String>) -> Self {
        Self { source: source.clone(), at: Some(at), message: message.into() }
    }

    /// A complaint about a whole file, by its name.
    pub fn file(name: impl Into<String>, message: impl Into<String>) -> Self {
        let source = Arc::new(Source { name: name.into(), text: String::new() });
        Self { source, at: None, message: message.into() }
    }

    /// `file:line:column: message`.
    pub fn headline(&self) -> String {
        match self.at {
            Some(at) => format!("{}:{}:{}: {}", self.source.name, at.line, at.column, self.message),
            None => format!("{}: {}", self.source.name, self.message),
        }
    }

    /// The headline, then the line of the file it speaks of with a caret below the column; never a line of a Secret.
    pub fn render(&self) -> String {
        let mut text = self.headline();
        let line = self.at.and_then(|at| Some((at, self.source.text.lines().nth(at.line - 1)?)));
        let line = line.filter(|(at, line)| !line.trim().is_empty() && !may_be_secret(self.source.document(at.line)));
        if let Some((at, line)) = line {
            let start = window_start(at.column);
            let shown: String = line.chars().skip(start).take(WINDOW).map(printable).collect();
            let caret = at.column.saturating_sub(1) - start;
            // Writing to a String cannot fail.
            let _ = write!(text, "\n{:>5} | {shown}\n      | {:caret$}^", at.line, "");
        }
        text
    }
}

/// Most characters of a source line shown.
const WINDOW: usize = 120;

/// First character to show so that the column is in sight.
fn window_start(column: usize) -> usize {
    if column <= WINDOW { 0 } else { column - WINDOW / 2 }
}

/// A file must not be able to send control sequences to the terminal.
fn printable(c: char) -> char {
    if c.is_control() { ' ' } else { c }
}
