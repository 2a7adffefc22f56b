//! The part of JSONPath that printer columns use.

use serde_json::Value;

/// A path such as `.status.conditions[?(@.type=='Ready')].status`.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonPath {}

impl JsonPath {
    /// Reads a path.
    ///
    /// # Errors
    /// Says where it is wrong and what is allowed.
    pub fn parse(_text: &str) -> Result<Self, String> {
        Ok(Self {})
    }
    /// All values at the path, in order.
    pub fn find<'v>(&self, _value: &'v Value) -> Vec<&'v Value> {
        Vec::new()
    }
}
