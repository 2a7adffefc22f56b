//! What can be made to go wrong, and on which call.

use std::collections::BTreeMap;
use std::time::Duration;

/// Something that goes wrong with one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// An error is answered and nothing happens.
    Status(u16, String),
    /// It happens, and yet an error is answered.
    StatusAfter(u16, String),
    /// It happens, and the connection breaks before the answer.
    LostAnswer,
    /// The connection breaks before anything happens.
    LostRequest,
    /// It happens, and no answer ever comes.
    Hang,
    /// Nothing happens, and no answer ever comes.
    Silence,
    /// It happens, and is answered with this status and JSON in place of its own.
    Answer(u16, Vec<u8>),
}

/// A call as a listener is told of it.
#[derive(Debug)]
pub struct Call<'a> {
    /// Counts the engine's calls: the same when it arrives and when it is done.
    pub number: u64,
    /// The port's name of it.
    pub name: &'a str,
    /// What is asked for, without a version; with the query.
    pub path: &'a str,
    /// `None` when it has arrived; when it is done and its answer has not left yet, the status and, of lists and looks at
    /// one object, the body.
    pub done: Option<(u16, &'a [u8])>,
}

/// Faults to come, latency, and how often each call was made. Calls have the names of the port's methods.
#[derive(Debug, Default)]
pub(super) struct Faults {
    /// Per call: after how many calls of it the fault comes.
    pub(super) planned: Vec<(String, u32, Fault)>,
    pub(super) latency: Duration,
    pub(super) silent: bool,
    pub(super) refusing: bool,
    pub(super) calls: BTreeMap<String, u64>,
    pub(super) count: u64,
}

impl Faults {
    /// Counts a call and gives the fault that was planned for it.
    pub(super) fn count(&mut self, call: &str) -> Option<Fault> {
        *self.calls.entry(call.to_owned()).or_default() += 1;
        self.count += 1;
        let mut due = None;
        for (at, (of, after, _)) in self.planned.iter_mut().enumerate() {
            if of != call {
                continue;
            }
            if *after == 0 && due.is_none() {
                due = Some(at);
            } else {
                *after = after.saturating_sub(1);
            }
        }
        due.map(|at| self.planned.remove(at).2)
    }
}

/// The port's name of a request.
pub(super) fn call_name(method: &http::Method, path: &str) -> String {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let get = *method == http::Method::GET;
    let name = match (parts.as_slice(), method.as_str()) {
        (["containers", "json"], _) => "containers",
        (["containers", "create"], _) => "create",
        (["containers", _, "json"], _) => "inspect",
        (["containers", _, "exec"], _) => "exec",
        (["containers", _, "archive"], "PUT") => "extract",
        (["containers", _, "archive"], _) => "archive",
        (["containers", _], "DELETE") => "remove",
        (["containers", _, action], _) => action,
        (["networks", "create"], _) => "create_network",
        (["networks", _, action], _) => action,
        (["networks"], _) => "networks",
        (["networks", _], "DELETE") => "remove_network",
        (["networks", _], _) => "network",
        (["volumes", "create"], _) => "create_volume",
        (["volumes"], _) => "volumes",
        (["volumes", _], "DELETE") => "remove_volume",
        (["volumes", _], _) => "volume",
        (["images", "create"], _) => "pull",
        (["images", "load"], _) => "load",
        (["images", .., "get"], _) if get => "save",
        (["images", ..], _) if get => "image",
        (["exec", _, "start"], _) => "exec_start",
        (["exec", _, "resize"], _) => "exec_resize",
        (["exec", ..], _) => "exec_inspect",
        (["_ping"], _) => "ping",
        ([first, ..], _) => first,
        _ => "unknown",
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_comes_once_and_only_after_its_calls() {
        let fault = Fault::LostAnswer;
        let mut faults = Faults { planned: vec![("create".into(), 1, fault.clone())], ..Default::default() };
        assert_eq!(faults.count("start"), None);
        assert_eq!(faults.count("create"), None);
        assert_eq!(faults.count("create"), Some(fault));
        assert_eq!(faults.count("create"), None);
        assert_eq!(faults.calls["create"], 3);
    }
}
