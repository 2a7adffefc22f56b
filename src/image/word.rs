//! The value of an `ENV` instruction.

use std::collections::BTreeMap;
use std::fmt;

/// A piece of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// As it is.
    Text(String),
    /// A variable the image has by then, such as `$PATH`.
    Variable(String),
    /// `{{option.KEY}}`.
    Option(String),
}

/// A value that may name variables and options. Printed in quotes, it is one word whatever it holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Word(Vec<Part>);

impl Word {
    /// Text as it is: nothing in it is looked at.
    pub fn text(text: impl Into<String>) -> Self {
        Self(vec![Part::Text(text.into())])
    }

    /// Adds a character as it is.
    pub(super) fn push(&mut self, c: char) {
        match self.0.last_mut() {
            Some(Part::Text(text)) => text.push(c),
            _ => self.0.push(Part::Text(c.into())),
        }
    }

    pub(super) fn push_variable(&mut self, name: &str) {
        self.0.push(Part::Variable(name.to_owned()));
    }

    pub(super) fn push_option(&mut self, key: &str) {
        self.0.push(Part::Option(key.to_owned()));
    }

    /// Keys of the options it names.
    pub fn options(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| if let Part::Option(key) = part { Some(key.as_str()) } else { None })
    }

    /// With options' values in the place of their names; one without a value is nothing.
    pub(super) fn filled(&self, options: &BTreeMap<String, String>) -> Self {
        let fill = |part: &Part| match part {
            Part::Option(key) => Part::Text(options.get(key).cloned().unwrap_or_default()),
            other => other.clone(),
        };
        Self(self.0.iter().map(fill).collect())
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for part in &self.0 {
            match part {
                Part::Text(text) => {
                    for c in text.chars() {
                        match c {
                            '"' | '\\' | '$' => write!(f, "\\{c}")?,
                            // No Dockerfile can hold these in a value; a line break would end the instruction.
                            '\n' | '\r' | '\0' => f.write_str(" ")?,
                            c => write!(f, "{c}")?,
                        }
                    }
                }
                Part::Variable(name) => write!(f, "${{{name}}}")?,
                Part::Option(_) => {}
            }
        }
        f.write_str("\"")
    }
}
