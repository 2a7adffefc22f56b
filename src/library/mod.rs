//! Libraries of templates and features: the one that comes with the program, and the index by which one elsewhere is read.
//! Pure: what is elsewhere is fetched by whoever asks for it.

mod built_in;
mod index;

pub use built_in::{built_in, text};
pub use index::{FILE, Index, Item, Unusable, digest};

use serde_json::Value;

/// Kinds that a library holds.
pub const KINDS: [&str; 2] = ["Feature", "Template"];

/// What a record of a library needs beside it, by kind and name.
pub fn needs(record: &Value) -> Vec<(&'static str, String)> {
    let spec = &record["spec"];
    let features = if record["kind"] == "Feature" { names(&spec["requires"], "") } else { names(&spec["features"], "/name") };
    let parent = spec["extends"].as_str().map(|name| ("Template", name.to_owned()));
    features.into_iter().map(|name| ("Feature", name)).chain(parent).collect()
}

fn names(list: &Value, at: &str) -> Vec<String> {
    let name = |entry: &Value| entry.pointer(at).and_then(Value::as_str).map(str::to_owned);
    list.as_array().into_iter().flatten().filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn records_need_what_they_name() {
        let feature = json!({"kind": "Feature", "spec": {"requires": ["a", "b"]}});
        assert_eq!(needs(&feature), [("Feature", "a".to_owned()), ("Feature", "b".to_owned())]);
        let template = json!({"kind": "Template", "spec": {"extends": "node", "features": [{"name": "a"}, {"options": 1}]}});
        assert_eq!(needs(&template), [("Feature", "a".to_owned()), ("Template", "node".to_owned())]);
        assert!(needs(&json!({"kind": "Template", "spec": "odd"})).is_empty() && needs(&json!([])).is_empty());
    }

    #[test]
    fn the_index_names_all_that_is_built_in_and_nothing_else() {
        let index = built_in();
        for item in &index.items {
            let text = text(&item.file).unwrap_or_else(|| panic!("{} is not built in", item.file));
            assert_eq!(item.sha256, digest(text), "{}", item.file);
        }
    }
}
