//! What the audit log says of the panel's forms.

use crate::access::Visitor;
use crate::api::{Ledger, Noted};
use crate::audit::Entry;
use crate::store::{Session, StoreError};
use axum::http::StatusCode;

/// What a way to sign in begins with that is a provider.
pub const PROVIDER: &str = "provider ";

/// Whether something changes although it is asked for with GET: a provider sends people back by their browsers.
pub fn is_return(path: &str) -> bool {
    matches!(path.split('/').skip(1).collect::<Vec<_>>()[..], ["sign-in", _, "callback"])
}

/// The row of a form that came to an address of the panel. Addresses themselves are not told: some work as a password does.
pub async fn entry(ledger: &Ledger, path: &str, session: Option<&Session>, by: &Visitor) -> Result<Entry, StoreError> {
    let words: Vec<&str> = path.split('/').skip(1).collect();
    let user = session.map_or("", |session| session.user.as_str());
    let (verb, kind, name) = match words[..] {
        ["login"] => ("sign-in", "Session", ""),
        ["logout"] => ("sign-out", "Session", session.map_or("", |session| session.id.as_str())),
        ["setup"] => ("set-up", "User", ""),
        ["password", _] => ("set-password", "User", ""),
        ["invitation", _] => ("accept", "User", ""),
        ["register"] => ("register", "User", ""),
        ["confirm", _] => ("confirm", "User", ""),
        ["forgot"] => ("forgot-password", "User", ""),
        ["sign-in", _] => ("set-out", "Session", ""),
        ["sign-in", _, "callback"] => ("sign-in", "Session", ""),
        ["sign-in", _, "connect"] => ("connect", "User", user),
        // The write has a row of its own, which names the workspace.
        ["start"] => ("start", "Workspace", ""),
        ["device"] => ("ask", "DeviceCode", ""),
        ["device", "approve"] => ("answer", "DeviceCode", ""),
        ["account", "disconnect"] => ("disconnect", "User", user),
        ["account", "password"] => ("change-password", "User", user),
        ["account", "sessions", id, "end"] => ("end-session", "Session", id),
        _ => ("post", "", ""),
    };
    let begun = ledger.begin(user, "").await?;
    let (how, proof) = session.map_or(("anonymous", ""), |session| ("session", session.id.as_str()));
    let address = if by.address.is_unspecified() { String::new() } else { by.address.to_canonical().to_string() };
    Ok(Entry { how: how.into(), proof: proof.into(), address, verb: verb.into(), kind: kind.into(), name: name.into(), ..begun })
}

/// The row of a key that a terminal is given, by who has allowed it.
pub async fn device_key(ledger: &Ledger, user: &str, by: &Visitor) -> Result<Entry, StoreError> {
    let known = entry(ledger, "", None, by).await?;
    let role = ledger.standing(user, "").await?;
    Ok(Entry { actor: user.into(), role, how: "device".into(), verb: "create".into(), kind: "APIKey".into(), ..known })
}

/// Says who has signed in, and by what.
pub async fn signed_in(
    ledger: &Ledger,
    noted: &Noted,
    how: &str,
    user: &str,
    session: Option<&Session>,
) -> Result<(), StoreError> {
    let role = ledger.standing(user, "").await?;
    noted.about(|entry| {
        (entry.actor, entry.role, entry.how) = (user.into(), role, how.into());
        entry.proof = session.map(|session| session.id.clone()).unwrap_or_default();
        entry.name = user.into();
    });
    Ok(())
}

/// Says why not, and whom it was about. Some answers are pages that tell it, with a code that does not.
pub fn refused(noted: &Noted, status: StatusCode, why: &str, whose: Option<&str>) {
    noted.about(|entry| {
        (entry.code, entry.reason) = (status.as_u16().into(), why.into());
        if let Some(whose) = whose {
            entry.name = whose.into();
        }
    });
}
