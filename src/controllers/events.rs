//! `Event` records: what happened to a record, for `describe` and `events`. Losing one harms nothing.

use super::context::Context;
use super::skeleton::Frame;
use super::status::Record;
use crate::resource::Workspace;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};

/// Tells what was done to a record, or what is in its way.
pub fn tell<K: Record>(frame: &Frame, record: &K, warning: bool, reason: &str, note: String) {
    let type_ = if warning { EventType::Warning } else { EventType::Normal };
    let event =
        Event { type_, reason: reason.to_owned(), note: Some(shorten(note)), action: "Reconcile".into(), secondary: None };
    let reference = record.object_ref(&());
    let recorder = recorder(frame);
    tokio::spawn(async move {
        if let Err(e) = recorder.publish(&event, &reference).await {
            tracing::debug!(error = %e, "an event was not recorded");
        }
    });
}

/// Objects that stay on a server nobody can reach.
pub fn left_behind(ctx: &Context, record: &Workspace, what: &str) {
    tracing::warn!(record = ?record.metadata.name, what, "left behind");
    tell(&ctx.frame, record, true, "LeftBehind", format!("left behind: {what}"));
}

fn recorder(frame: &Frame) -> Recorder {
    Recorder::new(frame.client.clone(), Reporter { controller: "devsanctum".into(), instance: None })
}

/// The API allows 1,024 bytes.
fn shorten(note: String) -> String {
    match note.char_indices().nth(900) {
        Some((end, _)) => format!("{}…", &note[..end]),
        None => note,
    }
}
