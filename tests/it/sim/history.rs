//! How the records of a kind were, change by change.

use serde_json::{Value, json};
use std::collections::BTreeMap;

/// States that are kept.
const KEPT: usize = 8;

/// The last states of a kind that were told, oldest first.
#[derive(Default)]
pub struct History(Vec<State>);

#[derive(Clone, Default)]
struct State {
    revision: String,
    by_uid: BTreeMap<String, Value>,
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

impl History {
    /// All records as they are.
    pub fn listed(&mut self, list: &Value) {
        let all = list["items"].as_array().into_iter().flatten();
        let by_uid = all.map(|r| (text(&r["metadata"]["uid"]), r.clone())).collect();
        self.0.push(State { revision: text(&list["metadata"]["resourceVersion"]), by_uid });
    }

    /// A change, as a watch tells it.
    pub fn changed(&mut self, event: &Value) {
        let mut state = self.0.last().cloned().unwrap_or_default();
        let (record, uid) = (&event["object"], text(&event["object"]["metadata"]["uid"]));
        state.revision = text(&record["metadata"]["resourceVersion"]);
        match event["type"] == "DELETED" {
            true => drop(state.by_uid.remove(&uid)),
            false => drop(state.by_uid.insert(uid, record.clone())),
        }
        self.0.push(state);
        if self.0.len() > KEPT {
            self.0.remove(0);
        }
    }

    /// The list as it was so many changes ago; `None` if there were not so many.
    pub fn list(&self, list: &Value, back: usize) -> Option<Value> {
        let state = self.0.iter().rev().nth(back)?;
        let mut old = list.clone();
        old["items"] = state.by_uid.values().cloned().collect();
        old["metadata"] = json!({"resourceVersion": state.revision});
        Some(old)
    }
}
