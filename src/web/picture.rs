//! The picture of whoever is signed in: fetched from where their record says, and shown from here.
//!
//! A browser that fetched it itself would tell its reader's address to whoever has chosen the picture's, and a page would have to
//! allow other hosts.

use super::panel::Panel;
use crate::access::Identity;
use crate::api::client;
use crate::fetch::Fetcher;
use crate::resource::User;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use kube::Api;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Where it is.
pub const PATH: &str = "/account/picture";
/// Fetched at once, for all people together.
static AT_ONCE: Semaphore = Semaphore::const_new(8);
/// Most bytes of a picture.
const MOST_BYTES: usize = 256 * 1024;
/// Longest that fetching one takes.
const LONGEST: Duration = Duration::from_secs(5);
/// Nothing in it may do anything, should a browser take it for something else.
const POLICY: &str = "default-src 'none'; sandbox; frame-ancestors 'none'";

/// What a picture is, by how it begins. A vector picture can hold programs, and is none here.
fn kind(bytes: &[u8]) -> Option<&'static str> {
    let webp = bytes.get(..4) == Some(b"RIFF") && bytes.get(8..12) == Some(b"WEBP");
    match bytes {
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some("image/png"),
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some("image/gif"),
        _ if webp => Some("image/webp"),
        _ => None,
    }
}

/// Where somebody's picture is, if their record says so.
pub(super) async fn address_of(panel: &Panel, user: &str) -> Option<String> {
    let own = Api::<User>::all(client(panel.api.clone(), Identity::person(user)));
    own.get_opt(user).await.ok().flatten()?.spec.avatar_url
}

/// Whoever asks is shown their own picture alone. Whatever goes wrong, there is none: why is nothing that an address may tell.
pub async fn show(State(panel): State<Panel>, headers: HeaderMap) -> Response {
    let none = || StatusCode::NOT_FOUND.into_response();
    let Some(session) = panel.session(&headers).await else { return none() };
    let Some(address) = address_of(&panel, &session.user).await else { return none() };
    // Each is somebody else's server, asked by us.
    let Ok(_turn) = AT_ONCE.try_acquire() else { return none() };
    let fetched = Fetcher::new(false).within(MOST_BYTES, LONGEST).bytes(&address).await;
    let picture = match fetched {
        Ok(bytes) => kind(&bytes).map(|kind| (kind, bytes)),
        Err(error) => {
            tracing::info!(user = session.user, %error, "a picture could not be fetched");
            None
        }
    };
    let Some((kind, bytes)) = picture else { return none() };
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "private, max-age=3600"),
    ];
    (headers, bytes).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_one_by_what_it_holds() {
        let png = b"\x89PNG\r\n\x1a\n\0\0";
        for (bytes, what) in [
            (&png[..], Some("image/png")),
            (b"\xff\xd8\xff\xe0", Some("image/jpeg")),
            (b"GIF89a..", Some("image/gif")),
            (b"RIFF\0\0\0\0WEBPVP8 ", Some("image/webp")),
            (b"RIFF\0\0\0\0WAVE", None),
            (b"<svg xmlns='http://www.w3.org/2000/svg'><script>", None),
            (b"<!doctype html>", None),
            (b"", None),
        ] {
            assert_eq!(kind(bytes), what, "{bytes:?}");
        }
    }
}
