//! Bytes as choices: what a fuzzer learns to vary are then values, not their spelling.

use serde_json::{Map, Value, json};

pub struct Input<'a>(&'a [u8]);

/// Keys that pointers must escape, that look like an index, or that records have.
const KEYS: [&str; 9] = ["a", "b", "c", "", "~", "/", "0", "~1", "é"];
const TEXTS: [&str; 8] = ["", "x", "y", "`", "0", "null", "a/b", "é"];

impl<'a> Input<'a> {
    pub fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    /// The next byte; zero where there are no more.
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        usize::from(self.byte()) % n.max(1)
    }

    pub fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    pub fn pick<'t, T>(&mut self, from: &'t [T]) -> &'t T {
        &from[self.below(from.len())]
    }

    /// Text of up to `most` bytes as they come.
    pub fn text(&mut self, most: usize) -> String {
        let length = self.below(most + 1).min(self.0.len());
        let (text, rest) = self.0.split_at(length);
        self.0 = rest;
        String::from_utf8_lossy(text).into_owned()
    }

    /// All that is left, as text.
    pub fn rest(&mut self) -> String {
        String::from_utf8_lossy(std::mem::take(&mut self.0)).into_owned()
    }

    pub fn key(&mut self) -> &'static str {
        KEYS[self.below(KEYS.len())]
    }

    pub fn scalar(&mut self) -> Value {
        match self.below(6) {
            0 => Value::Null,
            1 => Value::Bool(self.flag()),
            2 => json!(self.byte()),
            _ => json!(*self.pick(&TEXTS)),
        }
    }

    /// Any value, nested `depth` deep at most.
    pub fn value(&mut self, depth: usize) -> Value {
        match self.below(if depth == 0 { 1 } else { 4 }) {
            0 => self.scalar(),
            1 => (0..self.below(4)).map(|_| self.value(depth - 1)).collect(),
            _ => self.object(depth).into(),
        }
    }

    /// An object, nested `depth` deep at most.
    pub fn object(&mut self, depth: usize) -> Map<String, Value> {
        (0..self.below(4)).map(|_| (self.key().to_owned(), self.value(depth.saturating_sub(1)))).collect()
    }
}
