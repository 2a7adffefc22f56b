//! YAML and JSON text to values, with the place of every field, in one pass and within limits.
//!
//! A manifest is code someone else may have written: it must not be able to take the machine down
//! (nested aliases, endless depth) nor mean something other than what a reader sees (duplicate keys,
//! tags, merge keys, ambiguous numbers).

use super::position::{Children, Complaint, Mark, Node, Source, may_be_secret};
use super::scalar;
use granit_parser::{Event, Parser, ScalarStyle, Span, options};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Most bytes of one document, as written and as expanded.
pub const MAX_BYTES: usize = 1 << 20;
/// Most levels of maps and lists in a document.
pub const MAX_DEPTH: usize = 64;
/// Most documents in one run.
pub const MAX_DOCUMENTS: usize = 1_000;
/// Most values in one document, aliases expanded.
pub const MAX_VALUES: usize = 100_000;

/// One document as it was read, before its content is judged.
#[derive(Debug)]
pub struct Raw {
    /// Its content.
    pub value: Value,
    /// Where everything in it stands.
    pub node: Node,
}

/// A value with its places and what it costs to repeat it.
#[derive(Clone)]
struct Built {
    value: Value,
    node: Node,
    values: usize,
    bytes: usize,
    height: usize,
}

impl Built {
    fn scalar(value: Value, at: Mark, bytes: usize) -> Self {
        Self { value, node: Node::leaf(at), values: 1, bytes, height: 0 }
    }
}

/// Why reading stopped: a complaint that leaves nothing more to read in this file.
type Stop = Complaint;

struct Reader<'s> {
    parser: Parser<'s, granit_parser::StrInput<'s>>,
    source: &'s Arc<Source>,
    anchors: BTreeMap<usize, Built>,
    complaints: Vec<Complaint>,
    document_start: usize,
    /// What is read may be a Secret.
    secret: bool,
    values: usize,
    bytes: usize,
}

/// Reads all documents of a text. Complaints that do not make the rest unreadable are collected.
pub fn read(source: &Arc<Source>) -> (Vec<Raw>, Vec<Complaint>) {
    let text = bare(source);
    let options = options! { emit_comments: false };
    let mut reader = Reader {
        parser: Parser::new_from_str_with_options(text, options),
        source,
        anchors: BTreeMap::new(),
        complaints: Vec::new(),
        document_start: 0,
        secret: true,
        values: 0,
        bytes: 0,
    };
    let mut documents = Vec::new();
    if let Err(stop) = reader.stream(&mut documents) {
        reader.complaints.push(stop);
    }
    (documents, reader.complaints)
}

fn bare(source: &Source) -> &str {
    source.text.strip_prefix('\u{feff}').unwrap_or(&source.text)
}

fn mark(span: &Span) -> Mark {
    place(span.start)
}

fn place(marker: granit_parser::Marker) -> Mark {
    Mark { line: marker.line().max(1), column: marker.col() + 1 }
}

impl<'s> Reader<'s> {
    fn stream(&mut self, documents: &mut Vec<Raw>) -> Result<(), Stop> {
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(()),
                Event::DocumentStart(..) => {
                    if documents.len() == MAX_DOCUMENTS {
                        return Err(self.stop(&span, format!("more than {MAX_DOCUMENTS} documents; split the file")));
                    }
                    self.begin(&span);
                    let (event, span) = self.next()?;
                    if matches!(event, Event::DocumentEnd) {
                        continue;
                    }
                    let built = self.value(event, span, 0)?;
                    if !built.value.is_null() {
                        documents.push(Raw { value: built.value, node: built.node });
                    }
                }
                _ => {}
            }
        }
    }

    fn begin(&mut self, span: &Span) {
        self.anchors.clear();
        self.document_start = span.start.byte_offset().unwrap_or_default();
        self.secret = bare(self.source).get(self.document_start..).is_none_or(may_be_secret);
        (self.values, self.bytes) = (0, 0);
    }

    fn next(&mut self) -> Result<(Event<'s>, Span), Stop> {
        let end = || Complaint::file(self.source.name.clone(), "ends in the middle of a document");
        let (event, span) = match self.parser.next() {
            None => return Err(end()),
            Some(Ok(next)) => next,
            Some(Err(e)) => {
                return Err(Complaint::at(self.source, place(*e.marker()), format!("not valid YAML: {}", e.info())));
            }
        };
        let read = span.end.byte_offset().unwrap_or_default().saturating_sub(self.document_start);
        if read > MAX_BYTES && !matches!(event, Event::StreamEnd | Event::DocumentStart(..)) {
            return Err(self.stop(&span, format!("the document is larger than {MAX_BYTES} bytes")));
        }
        Ok((event, span))
    }

    fn stop(&self, span: &Span, message: String) -> Stop {
        Complaint::at(self.source, mark(span), message)
    }

    fn complain(&mut self, at: Mark, message: impl Into<String>) {
        self.complaints.push(Complaint::at(self.source, at, message));
    }

    /// A scalar's text, as it may be repeated in a complaint.
    fn shown<'t>(&self, text: &'t str) -> &'t str {
        if self.secret { "(not shown)" } else { text }
    }

    fn spend(&mut self, span: &Span, values: usize, bytes: usize) -> Result<(), Stop> {
        self.values += values;
        self.bytes += bytes;
        if self.values > MAX_VALUES {
            return Err(self.stop(span, format!("more than {MAX_VALUES} values once aliases are expanded")));
        }
        if self.bytes > MAX_BYTES {
            return Err(self.stop(span, format!("larger than {MAX_BYTES} bytes once aliases are expanded")));
        }
        Ok(())
    }

    fn value(&mut self, event: Event<'s>, span: Span, depth: usize) -> Result<Built, Stop> {
        if let Some(tag) = event.tag() {
            let at = span.tag_start().map_or(mark(&span), place);
            let tag = span.tag_span().and_then(|s| s.slice(&self.source.text).map(str::to_owned)).unwrap_or(tag.suffix().into());
            let message = format!("tags are not allowed (found {}); quote a text, leave other values plain", self.shown(&tag));
            self.complain(at, message);
        }
        let (anchor, built) = match event {
            Event::Alias(id) => return self.alias(id, &span, depth),
            Event::Scalar(text, style, anchor, _) => (anchor, self.scalar(&text, style, &span)?),
            Event::SequenceStart(_, anchor, _) => (anchor, self.list(&span, self.deeper(&span, depth)?)?),
            Event::MappingStart(_, anchor, _) => (anchor, self.map(&span, self.deeper(&span, depth)?)?),
            other => return Err(self.stop(&span, format!("a value was expected here, not {other:?}"))),
        };
        if anchor != 0 {
            self.anchors.insert(anchor, built.clone());
        }
        Ok(built)
    }

    fn deeper(&self, span: &Span, depth: usize) -> Result<usize, Stop> {
        if depth >= MAX_DEPTH {
            return Err(self.stop(span, format!("nested more than {MAX_DEPTH} levels deep")));
        }
        Ok(depth + 1)
    }

    fn alias(&mut self, id: usize, span: &Span, depth: usize) -> Result<Built, Stop> {
        let Some(built) = self.anchors.get(&id).cloned() else {
            return Err(self.stop(span, "the alias stands inside the value it refers to".into()));
        };
        self.spend(span, built.values, built.bytes)?;
        if depth + built.height > MAX_DEPTH {
            return Err(self.stop(span, format!("nested more than {MAX_DEPTH} levels deep once aliases are expanded")));
        }
        Ok(built)
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, span: &Span) -> Result<Built, Stop> {
        self.spend(span, 1, text.len())?;
        let value = match style {
            ScalarStyle::Plain => scalar::plain(text).unwrap_or_else(|message| {
                self.complain(mark(span), message.replace(text, self.shown(text)));
                Value::Null
            }),
            _ => Value::String(text.to_owned()),
        };
        Ok(Built::scalar(value, mark(span), text.len()))
    }

    fn list(&mut self, span: &Span, depth: usize) -> Result<Built, Stop> {
        self.spend(span, 1, 0)?;
        let mut whole = Built::scalar(Value::Null, mark(span), 0);
        let (mut entries, mut nodes) = (Vec::new(), Vec::new());
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::SequenceEnd) {
                break;
            }
            let entry = self.value(event, span, depth)?;
            whole.add(&entry, 0);
            entries.push(entry.value);
            nodes.push(entry.node);
        }
        whole.value = Value::Array(entries);
        whole.node.children = Children::List(nodes);
        Ok(whole)
    }

    fn map(&mut self, span: &Span, depth: usize) -> Result<Built, Stop> {
        self.spend(span, 1, 0)?;
        let mut whole = Built::scalar(Value::Null, mark(span), 0);
        let (mut fields, mut nodes) = (Map::new(), BTreeMap::<String, Node>::new());
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                break;
            }
            let at = mark(&span);
            let key = self.key(event, span)?;
            let (event, span) = self.next()?;
            let mut entry = self.value(event, span, depth)?;
            entry.node.key = Some(at);
            whole.add(&entry, key.len());
            if let Some(first) = nodes.get(&key).and_then(|n| n.key) {
                let message =
                    format!("the key \"{}\" stands here and on line {}; keep one of them", self.shown(&key), first.line);
                self.complain(at, message);
                continue;
            }
            fields.insert(key.clone(), entry.value);
            nodes.insert(key, entry.node);
        }
        whole.value = Value::Object(fields);
        whole.node.children = Children::Map(nodes);
        Ok(whole)
    }

    /// A key must be text as it stands: `1:`, `true:` and `? [a]` are keys of other types in YAML.
    fn key(&mut self, event: Event<'s>, span: Span) -> Result<String, Stop> {
        let Event::Scalar(text, style, anchor, tag) = event else {
            return Err(self.stop(&span, "a key must be text, not a map, list or alias".into()));
        };
        if tag.is_some() || anchor != 0 {
            self.complain(mark(&span), "tags and anchors are not allowed on keys");
        }
        self.spend(&span, 0, text.len())?;
        if style == ScalarStyle::Plain {
            if text == "<<" {
                self.complain(mark(&span), "merge keys are not supported; write the fields out");
            } else if !matches!(scalar::plain(&text), Ok(Value::String(_))) {
                self.complain(mark(&span), format!("a key must be text; write \"{}\" in quotes", self.shown(&text)));
            }
        }
        Ok(text.into_owned())
    }
}

impl Built {
    fn add(&mut self, entry: &Built, key_bytes: usize) {
        self.values += entry.values;
        self.bytes += entry.bytes + key_bytes;
        self.height = self.height.max(entry.height + 1);
    }
}
