//! The event stream, lossy as Docker's is.

use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use tokio::sync::broadcast;

/// Docker remembers this many events and no more.
pub(super) const RING: usize = 256;

/// One event.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) kind: String,
    pub(super) action: String,
    pub(super) id: String,
    pub(super) attributes: BTreeMap<String, String>,
    pub(super) at: jiff::Timestamp,
}

/// The last events, and who listens.
#[derive(Debug)]
pub(super) struct Ring {
    past: VecDeque<Event>,
    listeners: broadcast::Sender<Event>,
}

impl Default for Ring {
    fn default() -> Self {
        Self { past: VecDeque::new(), listeners: broadcast::channel(RING).0 }
    }
}

impl Ring {
    pub(super) fn push(&mut self, kind: &str, action: &str, id: &str, attributes: BTreeMap<String, String>, at: jiff::Timestamp) {
        let event = Event { kind: kind.into(), action: action.into(), id: id.into(), attributes, at };
        if self.past.len() == RING {
            self.past.pop_front();
        }
        self.past.push_back(event.clone());
        // Nobody listening is fine.
        let _ = self.listeners.send(event);
    }

    /// What is remembered since a time, and what is to come.
    pub(super) fn listen(&self, since: Option<jiff::Timestamp>) -> (Vec<Event>, broadcast::Receiver<Event>) {
        let past = since.map(|since| self.past.iter().filter(|e| e.at >= since).cloned().collect());
        (past.unwrap_or_default(), self.listeners.subscribe())
    }

    /// Ends every stream, as when dockerd stops.
    pub(super) fn cut(&mut self) {
        self.listeners = broadcast::channel(RING).0;
    }
}

impl Event {
    /// As Docker writes it.
    pub(super) fn line(&self) -> String {
        let event = json!({
            "status": self.action,
            "id": self.id,
            "Type": self.kind,
            "Action": self.action,
            "Actor": { "ID": self.id, "Attributes": self.attributes },
            "scope": "local",
            "time": self.at.as_second(),
            "timeNano": i64::try_from(self.at.as_nanosecond()).unwrap_or_default(),
        });
        format!("{event}\n")
    }

    /// Whether it passes Docker's filters: any value of each key.
    pub(super) fn passes(&self, filters: &BTreeMap<String, Vec<String>>) -> bool {
        filters.iter().all(|(key, values)| match key.as_str() {
            "type" => values.contains(&self.kind),
            "event" => values.contains(&self.action),
            "label" => values.iter().all(|v| has_label(&self.attributes, v)),
            "container" => self.kind == "container" && values.contains(&self.id),
            _ => true,
        })
    }
}

/// Reads a time as Docker's API takes it: seconds, and a fraction perhaps.
pub(super) fn moment(text: &str) -> Option<jiff::Timestamp> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let nanos = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    jiff::Timestamp::new(seconds.parse().ok()?, nanos).ok()
}

/// Whether labels hold `key` or `key=value`.
pub(super) fn has_label(labels: &BTreeMap<String, String>, wanted: &str) -> bool {
    match wanted.split_once('=') {
        Some((key, value)) => labels.get(key).is_some_and(|v| v == value),
        None => labels.contains_key(wanted),
    }
}

/// Reads a `filters` parameter in either of its two forms.
pub(super) fn filters(text: Option<&str>) -> BTreeMap<String, Vec<String>> {
    let parsed: BTreeMap<String, Value> = text.and_then(|t| serde_json::from_str(t).ok()).unwrap_or_default();
    let values = |value: Value| match value {
        Value::Array(all) => all.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect(),
        Value::Object(all) => all.keys().cloned().collect(),
        _ => Vec::new(),
    };
    parsed.into_iter().map(|(key, value)| (key, values(value))).collect()
}
